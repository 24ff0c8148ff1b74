//! What can go wrong with presets.

use std::path::PathBuf;

/// The key that says which model.
pub(in crate::cli) const MODEL: &str = "model";

/// Why a preset cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum PresetError {
    #[error("there is no preset {}", .name.display())]
    None { name: PathBuf },
    #[error("there is no folder for presets: neither XDG_CONFIG_HOME nor HOME is set")]
    NoFolder,
    #[error("{name} cannot be a preset: it is {what} already")]
    Taken { name: String, what: &'static str },
    #[error("{}: {MODEL} is missing", .file.display())]
    NoModel { file: PathBuf },
    #[error("{}, line {line}: {MODEL}: {model} is a preset; expected a file, an alias or an installed model", .file.display())]
    Nested { file: PathBuf, line: usize, model: String },
    #[error("{key}: {text:?} cannot be kept in a file")]
    Text { key: String, text: String },
    #[error("cannot {action} {}", .file.display())]
    Io { action: &'static str, file: PathBuf, source: std::io::Error },
}

impl PresetError {
    /// What to do about it, where the message does not say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::None { .. } => Some("smolt preset lists them"),
            Self::NoFolder => Some("set HOME"),
            Self::Taken { .. } => Some("choose another name"),
            Self::NoModel { .. } => {
                Some("add a line such as model = \"small\"; \"demo\" is the built-in one")
            }
            _ => None,
        }
    }
}
