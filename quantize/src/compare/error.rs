//! Why files cannot be compared, and the exit code of each fault.

use std::io;

use smolt::eval::EvalError;
use smolt::files::{ReadError, WriteError};
use smolt::gguf::GgufError;
use smolt::kernels::KernelError;
use smolt::model::ModelError;
use smolt::text::TextError;

use crate::QuantizeError;
use crate::error::FOLDER;

/// Errors of a comparison.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum CompareError {
    #[error(
        "{other} has {found} tokens in its vocabulary, {base} has {expected}: these are not versions of one model; name the file first that {other} was made from"
    )]
    Vocabulary { base: String, other: String, expected: usize, found: usize },
    #[error(
        "token {token} is {found:?} in {other} and {expected:?} in {base}: these are not versions of one model; name the file first that {other} was made from"
    )]
    Token { base: String, other: String, token: usize, expected: String, found: String },
    #[error(
        "{what} of {other} is {found}, of {base} {expected}: these are not versions of one model; name the file first that {other} was made from"
    )]
    Shape { base: String, other: String, what: &'static str, expected: String, found: String },
    #[error("there is nothing to compare; name a quantized file after the original")]
    NothingToCompare,
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Tokenizer(#[from] TextError),
    #[error(transparent)]
    Kernels(KernelError),
    #[error(transparent)]
    Measure(#[from] EvalError),
    #[error("{file}: cannot read the text; --text must name a file of UTF-8 text of at most {limit} bytes")]
    ReadText { file: String, limit: u64, source: ReadError },
    #[error("{file}: the text cannot be tokenized")]
    Tokenize { file: String, source: TextError },
    #[error("{file}: is read for the report; give --html another name")]
    Overwrite { file: String },
    #[error("{file}: is not a regular file; give --html another name")]
    NotRegular { file: String },
    #[error(transparent)]
    Foreign(WriteError),
    #[error("{file}: cannot {action}")]
    Write { file: String, action: &'static str, source: io::Error },
}

impl CompareError {
    /// What to do next, where the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Measure(EvalError::TextTooShort { .. }) => {
                Some("give a longer text with --text, or a smaller -c")
            }
            Self::Measure(EvalError::ChunkTooShort { .. }) => Some("choose a larger -c"),
            Self::Measure(EvalError::NoChunks) => Some("--chunks must be at least 1"),
            Self::Measure(EvalError::Alloc(_)) => Some("use a smaller -c"),
            Self::Model(error) | Self::Measure(EvalError::Model(error)) => match error {
                ModelError::ContextSize { .. } => Some("choose another context with -c"),
                ModelError::ContextFull { .. } | ModelError::Alloc(_) => Some("use a smaller -c"),
                ModelError::Gguf(GgufError::IsDirectory { .. }) => Some(FOLDER),
                _ => None,
            },
            _ => None,
        }
    }

    /// Exit code of the command: 2 for wrong usage, 3 for a model that cannot be read or run, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Model(error) | Self::Measure(EvalError::Model(error)) => model_exit_code(error),
            Self::Tokenizer(_) => 3,
            Self::Measure(EvalError::NotFinite { .. } | EvalError::Alloc(_)) => 1,
            Self::Kernels(_) | Self::Tokenize { .. } | Self::Write { .. } => 1,
            _ => 2,
        }
    }
}

impl From<CompareError> for QuantizeError {
    fn from(error: CompareError) -> Self {
        Self::Compare(Box::new(error))
    }
}

fn model_exit_code(error: &ModelError) -> u8 {
    match error {
        ModelError::Alloc(_) => 1,
        ModelError::ContextSize { .. } | ModelError::ContextFull { .. } => 2,
        _ => 3,
    }
}
