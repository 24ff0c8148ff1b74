//! What can be wrong with a model folder, and the exit code of each fault.

use std::io;

use safetensors::{Dtype, SafeTensorError};
use smolt::blocks::BlockType;
use smolt::files::{Kind, ReadError};
use smolt::gguf::GgufError;
use smolt::text::TextError;

/// A model that is not converted. Nothing is left under the output's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message explains its fields")]
pub enum ConvertError {
    #[error("{file}: cannot {action}")]
    Io { file: String, action: &'static str, source: io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "{folder}: {what} is missing; give the folder of a model as published, e.g. a copy of its repository"
    )]
    MissingFile { folder: String, what: &'static str },
    #[error("{file}: is {}, not {expected}; {}", .found.what(), .found.advice())]
    OtherKind { file: String, expected: &'static str, found: Kind },
    #[error("{file}: not valid JSON of its kind")]
    Json { file: String, source: serde_json::Error },
    #[error("{file}: {key}: expected {expected}, found {found}")]
    Value { file: String, key: String, expected: String, found: String },
    #[error("{file}: the model is of class {found}, which cannot be converted; known: {known}")]
    UnknownFamily { file: String, found: String, known: String },
    #[error("{file}: not a valid safetensors file")]
    Safetensors { file: String, source: SafeTensorError },
    #[error("{file}: cut short or damaged: expected {expected} bytes, found {found}; download it again")]
    FileLength { file: String, expected: u64, found: u64 },
    #[error("{file}: tensor {tensor:?} is said to be in {shard:?}, which is not a plain file name")]
    ShardName { file: String, tensor: String, shard: String },
    #[error("{file}: tensor {tensor:?} is said to be in {shard:?}, which does not have it")]
    NotInShard { file: String, tensor: String, shard: String },
    #[error("{file}: {found} weight files, at most {limit} are accepted")]
    TooManyShards { file: String, found: usize, limit: usize },
    #[error("tensor {tensor:?} is both in {first} and in {second}")]
    DuplicateTensor { tensor: String, first: String, second: String },
    #[error("{folder}: tensor {tensor:?} is missing")]
    MissingTensor { folder: String, tensor: String },
    #[error("{file}: tensor {tensor:?} does not belong to a model of class {class} with this config.json")]
    UnexpectedTensor { file: String, tensor: String, class: &'static str },
    #[error("{file}: tensor {tensor:?}: expected shape {expected:?} by config.json, found {found:?}")]
    TensorShape { file: String, tensor: String, expected: Vec<u64>, found: Vec<u64> },
    #[error("{file}: tensor {tensor:?}: expected {expected}, found {found:?}")]
    TensorType { file: String, tensor: String, expected: &'static str, found: Dtype },
    #[error("{file}: tensor {tensor:?} has {found} bytes, at most {limit} are accepted")]
    TensorTooLarge { file: String, tensor: String, found: u64, limit: u64 },
    #[error(
        "{file}: tensor {tensor:?}, row {row}, column {col}: {value} cannot be stored as {block_type}; {advice}"
    )]
    BadWeight {
        file: String,
        tensor: String,
        row: u64,
        col: u64,
        value: f32,
        block_type: BlockType,
        advice: &'static str,
    },
    #[error(
        "{file}: {key}: cannot be converted exactly: {reason}; convert the unquantized model and quantize it with `quantize`"
    )]
    Gptq { file: String, key: String, reason: String },
    #[error(
        "{file}: the pre-tokenizer is not known: {definition}\nif it splits text like a known one, pass --pre NAME, e.g. {known}"
    )]
    UnknownPre { file: String, definition: String, known: String },
    #[error("{file}: {key}: {reason}")]
    Tokenizer { file: String, key: String, reason: String },
    #[error("{file}: the converted tokenizer cannot be read")]
    Text { file: String, source: TextError },
    #[error(
        "{file}: the converted tokenizer encodes {text:?} as {found:?}, the original as {expected:?}; please report the model"
    )]
    OtherIds { file: String, text: String, expected: Vec<u32>, found: Vec<u32> },
    #[error("{path}: is a file of the model; name another output")]
    OutputIsInput { path: String },
    /// The output cannot be written.
    #[error(transparent)]
    Output(GgufError),
}

impl ConvertError {
    /// The error of a file that should be JSON.
    pub(super) fn json(file: &str, text: &[u8], source: serde_json::Error) -> Self {
        let file = file.to_owned();
        match Kind::of(text).filter(|kind| !matches!(kind, Kind::Json | Kind::Text)) {
            Some(found) => Self::OtherKind { file, expected: "JSON", found },
            None => Self::Json { file, source },
        }
    }

    /// Exit code of the command: 2 for wrong usage, 3 for an input that is missing or unreadable, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputIsInput { .. } => 2,
            Self::Io { .. }
            | Self::Read(_)
            | Self::MissingFile { .. }
            | Self::OtherKind { .. }
            | Self::Json { .. }
            | Self::Safetensors { .. }
            | Self::FileLength { .. } => 3,
            _ => 1,
        }
    }
}
