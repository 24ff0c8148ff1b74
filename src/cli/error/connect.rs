//! What can go wrong with a server.

use std::io;

use super::exit::Exit;

/// Why a server has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ConnectError {
    #[error("there is no server at {address}")]
    Unreachable { address: String, source: io::Error },
    #[error("the connection to the server broke")]
    Broken(#[source] io::Error),
    #[error("the server said nothing for {seconds} s")]
    Silent { seconds: u64 },
    #[error("the server ended the connection in the middle of the answer")]
    Cut,
    #[error("what is at the address speaks no HTTP/1.1: {reason}")]
    NotHttp { reason: String },
    #[error("the server sent {what} of more than {limit} bytes")]
    TooLong { what: &'static str, limit: usize },
    #[error("the server does not speak OpenAI's interface: {reason}")]
    Foreign { reason: String },
    #[error("the server refused ({status}): {message}")]
    Refused { status: u16, message: String, code: Code },
    #[error("the server failed in the middle of the answer: {message}")]
    Failed { message: String },
    #[error("{what} are of smolt's servers, and this is none")]
    OnlySmolt { what: &'static str },
    #[error("the server has no model {found:?}; it has {known}")]
    NoModel { found: String, known: String },
    #[error("it was stopped")]
    Cancelled,
}

/// What a refusal is about, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The messages do not fit into the context.
    TooLong,
    /// The operator's system prompt holds.
    Locked,
    /// Anything else.
    Other,
}

impl ConnectError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Refused { code: Code::TooLong, .. } => Exit::DoesNotFit,
            Self::Refused { status: 404, .. } | Self::NoModel { .. } => Exit::Model,
            Self::Refused { status: 400..=499, .. } | Self::OnlySmolt { .. } => Exit::Usage,
            Self::Cancelled => Exit::Interrupted,
            _ => Exit::Runtime,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { .. } => "smolt serve starts one, and says its address",
            Self::Refused { status: 401, .. } => {
                "--token-file FILE, or the variable SMOLT_TOKEN_FILE, names a file with a token that the server knows"
            }
            Self::Refused { status: 403, .. } => {
                "on the server, --allow-host NAME lets it be called by another name"
            }
            Self::Refused { code: Code::TooLong, .. } => {
                "a shorter message, or on the server a larger context: -c N"
            }
            Self::Refused { code: Code::Locked, .. } => "/system none leaves yours out",
            Self::Refused { status: 429 | 503, .. } => "the server is busy; try again later",
            Self::NoModel { .. } => "leave -m out, or name one of these",
            Self::NotHttp { .. } | Self::Foreign { .. } => {
                "check the address: it is that of the server, as in http://127.0.0.1:8080, without https"
            }
            _ => return None,
        })
    }
}
