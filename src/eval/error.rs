//! Why something cannot be measured.

use crate::generate::GenerateError;
use crate::model::ModelError;
use crate::runtime::AllocError;
use crate::text::TextError;

/// Errors of an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum EvalError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Generate(GenerateError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Alloc(#[from] AllocError),
    #[error("the text has {found} tokens, {needed} are needed for chunks of {context}")]
    TextTooShort { found: usize, needed: usize, context: usize },
    #[error("chunks of {found} tokens are too short, at least {least} are needed")]
    ChunkTooShort { found: usize, least: usize },
    #[error("the clock of this system stands still: nothing can be timed")]
    FrozenClock,
    #[error("no chunks were asked for")]
    NoChunks,
    #[error("the logits at token {token} of chunk {chunk} are not finite; the file may be damaged")]
    NotFinite { chunk: usize, token: usize },
    #[error(
        "a vocabulary of {other} tokens cannot be compared with one of {base}; are these versions of one model?"
    )]
    Vocabulary { base: usize, other: usize },
    #[error("nothing to measure: there are neither prompts nor tokens to generate")]
    NoTests,
    #[error("{what} is {found}, {least} to {most} are accepted")]
    OutOfRange { what: &'static str, found: usize, least: usize, most: usize },
}

impl From<GenerateError> for EvalError {
    fn from(error: GenerateError) -> EvalError {
        match error {
            GenerateError::Model(error) => EvalError::Model(error),
            other => EvalError::Generate(other),
        }
    }
}
