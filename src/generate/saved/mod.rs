//! A conversation with the state of the cache in a file, so that it goes on where it was without reading its
//! tokens again.
//!
//! # Design
//!
//! ```text
//! snapshot   a conversation and the state of the cache, written whole and renamed
//! journal    what was said since, added to the end of the file
//! checksum   what tells a damaged file
//! ```
//!
//! A file is a snapshot followed by steps:
//!
//! ```text
//! magic                8 bytes, "smoltses"
//! version              u32
//! bytes of the header  u32
//! tokens               u64
//! bytes of the state   u64
//! header               JSON: what the state was made with, and the conversation
//! tokens               u32 each: those in the cache
//! state                as the model writes it; nothing where there are no tokens
//! checksum             u64, of all before
//!
//! length               u32, of the step
//! step                 JSON: how the conversation differs from that before
//! checksum             u64, of length and step
//! ...
//! ```
//!
//! Numbers are little-endian. A turn costs one small write at the end of the file, synced; the state, which is large,
//! is written when the talk ends. A process that is killed loses no turn: the state of the last snapshot still stands
//! for the turns before, and what was said since is read again. Of a step that was not written whole nothing is used.
//!
//! A file that is damaged gives an error and leaves the cache empty. Lengths are checked against limits and the file's
//! own length before anything is allocated.

mod checksum;
mod journal;
mod snapshot;

pub use self::journal::Journal;
pub use self::snapshot::{open, origin, save};

#[cfg(test)]
pub(super) use self::checksum::Checksum;

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::files::WriteError;

use super::Conversation;

const MAGIC: [u8; 8] = *b"smoltses";
const VERSION: u32 = 2;
/// Without steps.
const OLD_VERSION: u32 = 1;
/// Bytes before the header.
const FIXED_BYTES: u64 = 32;
const CHECKSUM_BYTES: u64 = 8;
/// Longest header: the text of a conversation, twice, as JSON. Also that of a step, and of all steps together.
pub const MAX_HEADER_BYTES: usize = 64 << 20;

/// What a state was made with. Only with the same it means the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`crate::gguf::GgufFile::fingerprint`] of the model.
    pub model: u64,
    /// Size of the model file.
    pub model_bytes: u64,
    /// [`crate::text::Tokenizer::fingerprint`].
    pub tokenizer: u64,
    /// A hash of the chat template.
    pub template: u64,
    /// [`crate::model::Resume::state_key`].
    pub state: u64,
}

/// What a session is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What the state depends on.
    pub identity: Identity,
    /// What the model is called.
    pub model: String,
    /// How the model was asked for; empty for the built-in one.
    pub source: String,
}

/// The first part in which a session differs from what goes on with it: its state cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Another model.
    Model,
    /// Another tokenizer.
    Tokenizer,
    /// Another chat template.
    Template,
    /// Another KV type or version of this program.
    State,
    /// A larger context.
    Context,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Difference::Model => "another model",
            Difference::Tokenizer => "another tokenizer",
            Difference::Template => "another chat template",
            Difference::State => "another KV type or version of this program",
            Difference::Context => "a larger context",
        })
    }
}

impl Identity {
    /// Adds it to a hash.
    #[cfg(feature = "eval")]
    pub(crate) fn add_to(&self, hash: &mut crate::files::Fnv) {
        let Identity { model, model_bytes, tokenizer, template, state } = *self;
        [model, model_bytes, tokenizer, template, state].into_iter().for_each(|part| hash.add_number(part));
    }

    fn difference(&self, other: &Identity) -> Option<Difference> {
        let parts = [
            (Difference::Model, (self.model, self.model_bytes) == (other.model, other.model_bytes)),
            (Difference::Tokenizer, self.tokenizer == other.tokenizer),
            (Difference::Template, self.template == other.template),
            (Difference::State, self.state == other.state),
        ];
        parts.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }
}

/// A file that holds no conversation, or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SavedError {
    #[error("cannot read the session {file}")]
    Read { file: String, source: io::Error },
    #[error("{file} is not a saved session")]
    NotASession { file: String },
    #[error("{file} is a session of version {found}; this program reads version {expected}")]
    Version { file: String, expected: u32, found: u32 },
    #[error("{file}: the {what} takes {found}, allowed are {limit}; the file is damaged")]
    TooLarge { file: String, what: &'static str, found: u64, limit: u64 },
    #[error("{file} has {found} bytes, expected {expected}; the file is cut short or damaged")]
    Length { file: String, expected: u64, found: u64 },
    #[error("{file}: the {what} is wrong; the file is damaged")]
    Damaged { file: String, what: &'static str },
    #[error("cannot save the session")]
    Write(#[from] WriteError),
    #[error("cannot add to the session {file}")]
    Append { file: String, source: io::Error },
}

/// A conversation from a file.
#[derive(Debug)]
pub struct Opened {
    /// The conversation.
    pub conversation: Conversation,
    /// What it was made with.
    pub origin: Origin,
    /// Tokens now in the cache.
    pub restored: usize,
    /// Why the state is not used, if it is not.
    pub difference: Option<Difference>,
    /// Bytes of the file up to the end of the last whole step.
    pub bytes: u64,
    /// Bytes after that: of a step that was not written whole.
    pub cut: u64,
}
