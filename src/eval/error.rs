//! Why something cannot be measured.

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
    Text(#[from] TextError),
    #[error(transparent)]
    Alloc(#[from] AllocError),
    #[error(
        "the text has {found} tokens, {needed} are needed for chunks of {context}; use a longer text or a smaller -c"
    )]
    TextTooShort { found: usize, needed: usize, context: usize },
    #[error("chunks of {found} tokens are too short, at least {least} are needed; choose a larger -c")]
    ChunkTooShort { found: usize, least: usize },
    #[error("no chunks were asked for; --chunks must be at least 1")]
    NoChunks,
    #[error("the logits at token {token} of chunk {chunk} are not finite; the file may be damaged")]
    NotFinite { chunk: usize, token: usize },
    #[error(
        "a vocabulary of {other} tokens cannot be compared with one of {base}; are these versions of one model?"
    )]
    Vocabulary { base: usize, other: usize },
    #[error("nothing to measure: give prompt lengths (-p) or numbers of tokens to generate (-n) above 0")]
    NoTests,
    #[error("{what} is {found}, {least} to {most} are accepted")]
    OutOfRange { what: &'static str, found: usize, least: usize, most: usize },
}
