//! The model that is part of the program.

use super::output::note;
use crate::gguf::{GgufError, GgufFile};
use crate::store::Store;

/// Its name where a model is named.
pub(super) const SHORT: &str = "demo";
/// How messages call it.
pub(super) const NAME: &str = "the built-in demo model";

/// Says that it is used, and how to get another.
pub(super) fn say() {
    let has_models = Store::of_user().and_then(|store| store.list()).is_ok_and(|models| !models.is_empty());
    let how = if has_models {
        ", smolt use NAME makes an installed one the default"
    } else if cfg!(feature = "pull") {
        ", smolt pull bartowski/SmolLM2-135M-Instruct-GGUF fetches one that knows more"
    } else {
        ""
    };
    note(format_args!("using {NAME}; -m FILE names another{how}"));
}

static BYTES: &[u8] = include_bytes!("demo.gguf");

/// Opens it.
///
/// # Errors
/// Only if the program was built with a damaged file.
pub(super) fn open() -> Result<GgufFile, GgufError> {
    GgufFile::from_static(NAME, BYTES)
}
