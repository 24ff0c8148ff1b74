//! What the name of a model stands for: a file, a preset, an alias, an installed model or the built-in one.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::args::ModelArgs;
use super::{demo, presets};
use crate::gguf::MAGIC;
use crate::store::{Store, StoreError};

/// Longest word that may name a model, in bytes.
const MAX_NAME: usize = 4096;
/// How the name of a model file ends.
const EXTENSION: &str = ".gguf";

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    File,
    Preset,
    Alias,
    Installed,
    /// The built-in model.
    Demo,
}

/// What a name stands for; nothing if there is no such model.
pub(super) fn named(name: &Path) -> Option<Named> {
    if is_model_file(name) {
        return Some(Named::File);
    }
    let text = name.to_str().filter(|text| text.len() <= MAX_NAME && !text.contains(char::is_whitespace))?;
    if presets::exists(name) {
        return Some(Named::Preset);
    }
    let store = Store::of_user().ok();
    let store = store.as_ref();
    if store.is_some_and(|store| store.has_alias(text)) {
        return Some(Named::Alias);
    }
    match store.map(|store| store.find(text)) {
        Some(Ok(_) | Err(StoreError::Ambiguous { .. })) => Some(Named::Installed),
        _ => (text == demo::SHORT).then_some(Named::Demo),
    }
}

/// Whether it is a file that is a GGUF file by its name or its first bytes.
fn is_model_file(path: &Path) -> bool {
    // Neither a folder nor a pipe, which reading would drain.
    if !std::fs::metadata(path).is_ok_and(|data| data.is_file()) {
        return false;
    }
    let mut start = [0; MAGIC.len()];
    let is_magic = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    has_extension(path) || is_magic && start == MAGIC
}

/// Whether it is called as a model file is.
pub(super) fn has_extension(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|name| name.len() > EXTENSION.len() && name.to_ascii_lowercase().ends_with(EXTENSION))
}

/// `demo` is the built-in model, unless something else is called so.
pub(super) fn settle_demo(model: &mut ModelArgs) {
    let is_demo = |name: &PathBuf| name == Path::new(demo::SHORT) && named(name) == Some(Named::Demo);
    model.is_demo |= model.model.take_if(|name| is_demo(name)).is_some();
}
