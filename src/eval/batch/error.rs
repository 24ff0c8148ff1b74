//! Why a batch ends early.

use std::io;

use crate::files::{ReadError, WriteError};

/// A batch that cannot begin or go on. Lines that were written stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum BatchError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{file}: cannot be written")]
    Write { file: String, source: io::Error },
    #[error("{message}; what was answered stays, and the same command goes on when there is room")]
    NoRoom { message: String },
    #[error(transparent)]
    Replace(#[from] WriteError),
    #[error("{file}: another process is writing it")]
    Locked { file: String },
    #[error("{file}: is the input too; name another output")]
    InputIsOutput { file: String },
    #[error("{file}: line {line} was not written by this command; name another output")]
    Foreign { file: String, line: usize },
    #[error(
        "{file}: was begun with another model or other options (seen at item {index}); give the same, name another output, or delete it"
    )]
    OtherRun { file: String, index: usize },
    #[error(
        "{file}: has the answer to item {index}, which is of another part of the items; name another output"
    )]
    OtherShard { file: String, index: usize },
    #[error(
        "{file}: was begun with other prompts: {lost} of its {answers} answers would be lost; name another output, or delete it"
    )]
    OtherInput { file: String, lost: usize, answers: usize },
}
