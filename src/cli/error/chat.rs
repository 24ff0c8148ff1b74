//! What can go wrong in a chat besides the model.

use std::io;

use super::exit::Exit;
use crate::files::ReadError;

/// A command that cannot be done, or a line that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ChatError {
    #[error("there is no command /{found}")]
    UnknownCommand { found: String, nearest: Option<&'static str> },
    #[error("there is no setting {found:?}; there are: {known}")]
    UnknownSetting { found: String, known: String },
    #[error("{setting} cannot be {found:?}, expected {expected}")]
    BadSetting { setting: &'static str, found: String, expected: &'static str },
    #[error("/{command} needs {missing}")]
    Missing { command: &'static str, missing: &'static str },
    #[error("the model is on the server; /{command} needs one that is loaded here")]
    Elsewhere { command: &'static str },
    #[error("the model is on the server, and {name} is for loading one")]
    SettingElsewhere { name: &'static str },
    #[error("{option} is for loading a model, and with --connect none is loaded")]
    NotWithServer { option: String },
    #[error("{option} is for --connect")]
    OnlyWithServer { option: String },
    #[error("nothing was said yet")]
    NothingSaid,
    #[error("no function was called whose result is missing")]
    NoCall,
    #[error("the last answer ended by itself; there is nothing to go on with")]
    NotCut,
    #[error("cannot start the editor {command:?}")]
    Editor { command: String, source: io::Error },
    #[error("the editor {command:?} failed; the message is as it was")]
    EditorFailed { command: String },
    #[error("the editor's text cannot be used")]
    EditorText { source: ReadError },
    #[error("cannot write the message for the editor")]
    Draft { source: io::Error },
    #[error("expected text, a JSON string, {{\"message\": ...}} or {{\"command\": ...}}: {reason}")]
    NotAMessage { reason: String },
    #[error("a message of more than {limit} bytes")]
    MessageTooLong { limit: usize },
    #[error("cannot read from the terminal")]
    Terminal(#[source] rustyline::error::ReadlineError),
}

impl ChatError {
    /// The exit code where nobody is there to try again.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Editor { .. }
            | Self::EditorFailed { .. }
            | Self::EditorText { .. }
            | Self::Draft { .. }
            | Self::Terminal(_) => Exit::Runtime,
            _ => Exit::Usage,
        }
    }

    /// What to do next, where the message does not say it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownCommand { nearest: Some(name), .. } => {
                Some(format!("did you mean /{name}? A message that starts with / is written with //"))
            }
            Self::UnknownCommand { .. } => {
                Some("/help lists them; a message that starts with / is written with //".to_owned())
            }
            Self::Elsewhere { .. } => Some("without --connect, smolt chat loads a model".to_owned()),
            Self::SettingElsewhere { .. } | Self::NotWithServer { .. } => {
                Some("give it to smolt serve, or leave it out".to_owned())
            }
            Self::OnlyWithServer { .. } => Some("name a server with --connect URL".to_owned()),
            Self::Editor { .. } => Some("set the variable EDITOR to one".to_owned()),
            _ => None,
        }
    }
}
