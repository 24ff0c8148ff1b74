//! Why a model cannot be loaded or run.

use crate::gguf::{GgufError, Purpose};
use crate::kernels::KernelError;
use crate::runtime::AllocError;

/// Errors of loading and running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ModelError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Alloc(#[from] AllocError),
    #[error("{file}: is {}, not a model that can be run; {}", .found.what(), .found.advice())]
    OtherPurpose { file: String, found: Purpose },
    #[error("{file}: architecture {found:?} is not supported; supported: {supported}")]
    UnknownArchitecture { file: String, found: String, supported: String },
    #[error("{file}: {key} is {found}, expected {expected}")]
    BadValue { file: String, key: String, expected: String, found: String },
    #[error("{file}: tensor {tensor} is missing")]
    MissingTensor { file: String, tensor: String },
    #[error("{file}: tensor {tensor} has shape {found:?}, expected {expected:?} (innermost first)")]
    TensorShape { file: String, tensor: String, expected: Vec<u64>, found: Vec<u64> },
    #[error("{file}: tensor {tensor} is {found}, expected F32, F16 or BF16")]
    TensorType { file: String, tensor: String, found: String },
    #[error("{file}: tensor {tensor} holds a value that is not finite; the file may be damaged")]
    NotFinite { file: String, tensor: String },
    #[error(
        "{file}: tensor {tensor} has no part in architecture {architecture:?}; running without it would be wrong"
    )]
    UnexpectedTensor { file: String, tensor: String, architecture: &'static str },
    #[error("{file}: tensor {tensor}: {source}")]
    Pack { file: String, tensor: String, source: KernelError },
    #[error("a context of {found} positions is outside 1..={most}")]
    ContextSize { found: usize, most: usize },
    #[error("{needed} tokens do not fit into a context of {context}")]
    ContextFull { needed: usize, context: usize },
    #[error("token {token} is outside the vocabulary of {vocab}")]
    TokenOutOfRange { token: u32, vocab: usize },
    #[error("cannot write the pack")]
    WritePack(#[source] GgufError),
    #[error("{file}: is not a pack of this program, and is not replaced; move it away")]
    ForeignPack { file: String },
    #[error("{file} is sealed; a pack would hold its weights in the open")]
    SealedPack { file: String },
    #[error("{file} is no file of its own; a pack lies beside the file of its model")]
    NoFile { file: String },
    #[error("logits of {found} tokens were asked for, possible are up to {most}")]
    LogitRows { found: usize, most: usize },
    #[error("a step of {found} tokens is above the {most} that are read together")]
    StepTokens { found: usize, most: usize },
    #[error("{found} slots are outside 1..={most}")]
    Slots { found: usize, most: usize },
    #[error("no tokens were given")]
    NoTokens,
    #[error("cancelled")]
    Cancelled,
}
