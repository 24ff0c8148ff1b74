//! What can be wrong with a quantization, and the exit code of each fault.

use std::io;

use smolt::blocks::BlockType;
use smolt::files::{ReadError, WriteError};
use smolt::gguf::GgufError;
use smolt::model::ModelError;
use smolt::text::TextError;

use crate::compare::CompareError;
use crate::convert::ConvertError;

/// A file that is not quantized. Nothing is left under the output's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message explains its fields")]
pub enum QuantizeError {
    /// The input cannot be read.
    #[error(transparent)]
    Input(GgufError),
    /// A published model cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(GgufError),
    #[error("{path}: is both input and output; name another output")]
    SameFile { path: String },
    #[error(
        "{file}: tensor {tensor:?} is quantized already ({block_type}); start from an F16, BF16 or F32 file, or accept the further loss with --allow-requantize"
    )]
    AlreadyQuantized { file: String, tensor: String, block_type: BlockType },
    #[error("{file}: --strict refuses {}:\n  {}\nchoose another type (for the token embedding: --embedding-type)", counted(.tensors.len()), .tensors.join("\n  "))]
    Substituted { file: String, tensors: Vec<String> },
    #[error(
        "{file}: tensor {tensor:?}, row {row}, column {col}: weight {value} is not a number of at most {limit}; the model is damaged"
    )]
    BadWeight { file: String, tensor: String, row: usize, col: usize, value: f32, limit: f32 },
    #[error("{file}: no matrix has a name that fits {pattern:?}; --dry-run lists the names")]
    UnusedRule { file: String, pattern: String },
    #[error("--method {method} needs a text: --calibration FILE")]
    NoText { method: &'static str },
    #[error("a file of {asked} bytes is asked for; the smallest with the types to choose from has {least}")]
    Budget { asked: u64, least: u64 },
    #[error("{file}: tensor {tensor:?} is missing")]
    MissingTensor { file: String, tensor: String },
    /// The model cannot be run.
    #[error("calibration runs the model, which failed")]
    Model(#[source] ModelError),
    #[error("calibration runs the model, which needs its tokenizer")]
    Tokenizer(#[source] TextError),
    #[error(transparent)]
    Compare(Box<CompareError>),
    #[error("{0}")]
    Kernels(String),
    #[error(
        "{file}: cannot read the text; --calibration must name a file of UTF-8 text of at most {limit} bytes"
    )]
    ReadText { file: String, limit: u64, source: ReadError },
    #[error("{file}: the calibration text cannot be tokenized")]
    CalibrationText { file: String, source: TextError },
    #[error(
        "the calibration text has {found} tokens, at least {needed} are needed; give more text with --calibration"
    )]
    TooLittleText { found: usize, needed: usize },
    #[error(
        "{file}: the inputs of layer {layer} are not finite on the calibration text; the model is damaged"
    )]
    BadActivation { file: String, layer: usize },
    #[error(
        "{file}: tensor {tensor:?}: the inputs' second moments are not positive definite; give more text or a larger --damping"
    )]
    Moments { file: String, tensor: String },
    #[error(transparent)]
    Beside(#[from] WriteError),
    #[error("cannot keep what the calibration has finished in a file beside the output")]
    Journal(#[source] io::Error),
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
}

/// What to do with a folder where a GGUF file is expected.
pub(crate) const FOLDER: &str =
    "name a GGUF file in it; smolt-quantize convert FOLDER OUT.gguf makes one of a published model";

impl QuantizeError {
    /// What to do next, where the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Input(GgufError::IsDirectory { .. }) => Some(FOLDER),
            Self::Compare(error) => error.hint(),
            _ => None,
        }
    }

    /// Exit code of the command: 2 for wrong usage, 3 for an input that is missing or unreadable, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::SameFile { .. } | Self::UnusedRule { .. } | Self::NoText { .. } | Self::Budget { .. } => 2,
            Self::Beside(error) | Self::Output(GgufError::Write(error)) if error.is_about_the_name() => 2,
            Self::Input(_) => 3,
            Self::Compare(error) => error.exit_code(),
            Self::Convert(error) => error.exit_code(),
            _ => 1,
        }
    }
}

fn counted(tensors: usize) -> String {
    match tensors {
        1 => "1 substituted type".to_owned(),
        _ => format!("{tensors} substituted types"),
    }
}
