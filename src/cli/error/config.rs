//! What can go wrong with configuration files and presets as files.

use crate::files::ReadError;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ConfigError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{file}, line {line}: {problem}")]
    Syntax { file: String, line: usize, problem: String },
    #[error("{file}, line {line}: unknown key {key:?}; known are {}", .known.join(", "))]
    UnknownKey { file: String, line: usize, key: String, known: Vec<String> },
    #[error("{file}, line {line}: {key}: expected {expected}, found {found}")]
    Value { file: String, line: usize, key: String, expected: String, found: String },
}

impl ConfigError {
    /// What to do about it, where the message does not say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { .. } => {
                Some("the format is TOML, e.g. threads = 2 or system = \"Be brief.\"".to_owned())
            }
            Self::UnknownKey { .. } => {
                Some("keys are the long options with a variable; smolt config lists them".to_owned())
            }
            _ => None,
        }
    }
}
