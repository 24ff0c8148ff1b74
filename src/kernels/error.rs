//! Errors of packing and kernel selection.

use crate::blocks::BlockType;

/// Why weights cannot be packed or a kernel set cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum KernelError {
    #[error("{block_type} rows need a multiple of {} columns, found {cols}", block_type.block_len())]
    Columns { block_type: BlockType, cols: usize },
    #[error("weights have {found} bytes, expected up to {expected} in whole rows")]
    Length { expected: usize, found: usize },
    #[error(
        "row {row} holds a value or scale that is not finite, or not one of its type; the file may be damaged"
    )]
    NotFinite { row: usize },
    #[error("unknown instruction set {name:?}; this build knows: {known}")]
    UnknownIsa { name: String, known: String },
    #[error("this processor lacks the instruction set {name}; it has: {available}")]
    MissingIsa { name: &'static str, available: String },
}

impl KernelError {
    /// The same of rows that were counted from row `first` on.
    pub(crate) fn of_rows_from(self, first: usize) -> KernelError {
        match self {
            Self::NotFinite { row } => Self::NotFinite { row: first + row },
            other => other,
        }
    }
}
