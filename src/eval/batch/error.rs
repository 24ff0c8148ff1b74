//! Why a batch ends early.

use std::io;

use crate::files::ReadError;

/// A batch that cannot begin or go on. Lines that were written stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum BatchError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{file}: cannot be written")]
    Write { file: String, source: io::Error },
    #[error("{file}: another batch is writing it")]
    Locked { file: String },
    #[error("{file}: line {line} is not one of a batch; name another output or delete it")]
    Foreign { file: String, line: usize },
    #[error(
        "{file}: was begun with other prompts, options or another model or --shard (line {line} there, prompt {index} now); name another output or delete it"
    )]
    OtherInput { file: String, line: usize, index: usize },
    #[error("{file}: has {extra} lines more than there are prompts; it was begun with others")]
    TooManyLines { file: String, extra: usize },
}
