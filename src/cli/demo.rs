//! The model that is part of the program.

use crate::gguf::{GgufError, GgufFile};

/// Its name where a model is named.
pub(super) const SHORT: &str = "demo";
/// How messages call it.
pub(super) const NAME: &str = "the built-in demo model";

static BYTES: &[u8] = include_bytes!("demo.gguf");

/// Opens it.
///
/// # Errors
/// Only if the program was built with a damaged file.
pub(super) fn open() -> Result<GgufFile, GgufError> {
    GgufFile::from_static(NAME, BYTES)
}
