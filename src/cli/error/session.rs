//! What can go wrong with saved sessions.

use std::io;

use super::super::demo;
use super::exit::Exit;
use crate::generate::Difference;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SessionError {
    #[error("{file} was saved with {what}{}; it is left as it is", of(.model))]
    Other { file: String, what: Difference, model: String, begun: String },
    #[error("{file} is in use by {holder}")]
    InUse { file: String, holder: String },
    #[error("cannot lock the session {file}")]
    Lock { file: String, source: io::Error },
    #[error("cannot make the folder {folder}")]
    Folder { folder: String, source: io::Error },
    #[error("cannot keep {file} under another name")]
    Aside { file: String, source: io::Error },
    #[error("no session of {this} is kept; the last is of {model}")]
    NoneOfThisModel { this: String, model: String, begun: String },
}

fn of(model: &str) -> String {
    if model.is_empty() { String::new() } else { format!(" ({model})") }
}

impl SessionError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Other { .. } | Self::NoneOfThisModel { .. } => Exit::Usage,
            _ => Exit::Runtime,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let model = |source: &str| match source {
            "" => format!("with -m {}", demo::SHORT),
            source => format!("with -m {source}"),
        };
        match self {
            Self::Other { what: Difference::Model, begun, .. } if !begun.is_empty() => Some(format!(
                "go on {}, name another file, or read its messages with /load in a chat",
                model(begun)
            )),
            Self::Other { .. } => Some(
                "go on as it was begun, name another file, or read its messages with /load in a chat"
                    .to_owned(),
            ),
            Self::InUse { .. } => {
                Some("end it first, or name another file; /load in a chat reads it all the same".to_owned())
            }
            Self::NoneOfThisModel { begun, .. } => Some(format!("go on {}", model(begun))),
            _ => None,
        }
    }
}
