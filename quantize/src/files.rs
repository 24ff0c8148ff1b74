//! What commands need of files beside their formats.

use std::fs;
use std::path::Path;

/// Longest text that is read.
pub(crate) const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Whether both paths lead to one file that exists.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}
