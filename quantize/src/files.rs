//! What commands need of files beside their formats.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Longest text that is read.
pub(crate) const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Whether both paths lead to one file that exists.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Reads UTF-8 text of at most [`MAX_TEXT_BYTES`].
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes = File::open(path)?.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > MAX_TEXT_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}
