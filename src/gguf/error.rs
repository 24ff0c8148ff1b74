//! What can be wrong with a file. Messages name the file and the place, say what was expected and found, and
//! what to do next. Names from the file are escaped and cut, since they are not to be trusted on a terminal.

use std::fmt;
use std::io;

use crate::blocks::BlockType;
use crate::files::{Kind, WriteError};
use crate::runtime::AllocError;

/// Characters of an untrusted name shown in a message.
const SHOWN_CHARS: usize = 80;

/// Where in the header a fault lies. Numbers count from 0 in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Magic, version and counts.
    Header,
    /// The name of the key with this number.
    KeyNumber(u64),
    /// The value of this key.
    Key(String),
    /// The name of the tensor with this number.
    TensorNumber(u64),
    /// The description of this tensor.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::KeyNumber(number) => write!(f, "key number {number}"),
            Self::Key(key) => write!(f, "key {}", shown(key)),
            Self::TensorNumber(number) => write!(f, "tensor number {number}"),
            Self::Tensor(name) => write!(f, "tensor {}", shown(name)),
        }
    }
}

/// A file that cannot be read or written, or whose content is not what was asked for.
///
/// Offsets are bytes from the start of the file unless stated otherwise. The cause of [`Self::Io`] and
/// [`Self::WriteTensor`] is in `source`, not in the message: print the chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message explains its fields")]
pub enum GgufError {
    #[error("{file}: no such file; check the path")]
    NotFound { file: String },
    #[error("{file}: is a folder, expected a GGUF file")]
    IsDirectory { file: String },
    #[error("{file}: is not a regular file; save it to a file first")]
    NotRegular { file: String },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{file}: cannot {action}")]
    Io { file: String, action: &'static str, source: io::Error },
    #[error(transparent)]
    Alloc(#[from] AllocError),

    #[error("{file}: ends after {found} bytes, expected {expected}; fetch it again")]
    Shorter { file: String, expected: u64, found: u64 },
    #[error("{file}: goes on after the {expected} bytes it should have; fetch it again")]
    Longer { file: String, expected: u64 },
    #[error("{file}: is read once from front to back, its tensors cannot be looked at one by one")]
    NotInPlace { file: String },
    #[error("{file}: its tensors were read already; open it again")]
    AlreadyRead { file: String },
    #[error("{file}: its tensors were not read yet")]
    NotRead { file: String },

    #[error("{file}: the file is empty; fetch it again")]
    Empty { file: String },
    #[error("{file}: is {}, not a GGUF file; {}", .found.what(), .found.advice())]
    OtherKind { file: String, found: Kind },
    #[error("{file}: not a GGUF file: starts with \"{}\", expected \"GGUF\"; check the path, or fetch the file again", .found.escape_ascii())]
    BadMagic { file: String, found: [u8; 4] },
    #[error(
        "{file}: big-endian GGUF file (version {version}); only little endian is supported, convert the model again"
    )]
    BigEndian { file: String, version: u32 },
    #[error("{file}: GGUF version {found}, expected 2 or 3; {}", if *.found < 2 { "convert the model again" } else { "this program may be too old for it" })]
    Version { file: String, found: u32 },
    #[error(
        "{file}: {place} needs {needed} bytes at offset {offset}, found {left}; the file is cut short or damaged, fetch it again"
    )]
    Truncated { file: String, place: Place, offset: u64, needed: u64, left: u64 },
    #[error(
        "{file}: {place} at offset {offset}: {what} is {found}, the limit is {limit}; the file is damaged or not meant for this program"
    )]
    LimitExceeded { file: String, place: Place, offset: u64, what: &'static str, found: u64, limit: u64 },

    #[error("{file}: {place} at offset {offset}: text is not UTF-8; the file is damaged, fetch it again")]
    NotUtf8 { file: String, place: Place, offset: u64 },
    #[error("{file}: {place} at offset {offset}: name is empty or holds control characters: {}", shown(.found))]
    BadName { file: String, place: Place, offset: u64, found: String },
    #[error(
        "{file}: {place} at offset {offset}: boolean is {found}, expected 0 or 1; the file is damaged, fetch it again"
    )]
    BadBool { file: String, place: Place, offset: u64, found: u8 },
    #[error(
        "{file}: {place} at offset {offset}: value type {found}, expected 0 to 12; the file is damaged or newer than this program"
    )]
    UnknownValueType { file: String, place: Place, offset: u64, found: u32 },
    #[error(
        "{file}: {place} at offset {offset}: array of arrays; only arrays of single values are supported"
    )]
    NestedArray { file: String, place: Place, offset: u64 },
    #[error("{file}: key {} appears twice, again at offset {offset}", shown(.key))]
    DuplicateKey { file: String, key: String, offset: u64 },
    #[error(
        "{file}: key \"general.alignment\" is {found}, expected a power of two up to {}",
        super::MAX_ALIGNMENT
    )]
    BadAlignment { file: String, found: u64 },
    #[error("{file}: one part of a model split into {parts} files, of which the others are not here")]
    Split { file: String, parts: u32 },
    #[error("{file}: part {number} of {count} of the model is missing; fetch it into the same folder")]
    MissingPart { file: String, number: u32, count: u32 },
    #[error(
        "{file}: is part {number} of {count} of a model, but its name does not end with {expected}, so the others cannot be found; give all parts the names they were published with"
    )]
    PartName { file: String, number: u32, count: u32, expected: String },
    #[error("{file}: is not part {number} of {count} of the model, as its name says; fetch it again")]
    OtherPart { file: String, number: u32, count: u32 },
    #[error("{file}: tensor {} is in {other} too; fetch both again", shown(.tensor))]
    TensorInParts { file: String, tensor: String, other: String },
    #[error(
        "{file}: the parts of the model have {found} tensors together, expected {expected}; fetch them again"
    )]
    PartTensors { file: String, expected: u64, found: u64 },

    #[error("{file}: tensor {} appears twice, again at offset {offset}", shown(.tensor))]
    DuplicateTensor { file: String, tensor: String, offset: u64 },
    #[error("{file}: tensor {} has {found} dimensions, expected 1 to {}", shown(.tensor), super::MAX_DIMS)]
    DimensionCount { file: String, tensor: String, found: u64 },
    #[error("{file}: tensor {} has shape {shape:?}; every dimension must be at least 1", shown(.tensor))]
    ZeroDimension { file: String, tensor: String, shape: Vec<u64> },
    #[error("{file}: tensor {} has shape {shape:?}, more than {} elements", shown(.tensor), super::MAX_ELEMENTS)]
    TooManyElements { file: String, tensor: String, shape: Vec<u64> },
    #[error("{file}: tensor {} has type {id}{}; supported types are {}; quantize the model to one of them, e.g. Q4_0 or Q4_K", shown(.tensor), type_name(*.id), supported_types())]
    UnsupportedType { file: String, tensor: String, id: u32 },
    #[error("{file}: tensor {} has rows of {cols} elements, expected a multiple of {} for {block_type}", shown(.tensor), .block_type.block_len())]
    RowLength { file: String, tensor: String, block_type: BlockType, cols: u64 },
    /// `offset` counts from the start of the tensor data.
    #[error("{file}: tensor {} starts at data offset {offset}, expected a multiple of {alignment}", shown(.tensor))]
    MisalignedTensor { file: String, tensor: String, offset: u64, alignment: u64 },
    /// `offset` counts from the start of the tensor data.
    #[error("{file}: tensor {} needs {bytes} bytes at data offset {offset}, the file has {available} bytes of tensor data; it is cut short or damaged, fetch it again", shown(.tensor))]
    OutsideFile { file: String, tensor: String, offset: u64, bytes: u64, available: u64 },
    /// Offsets count from the start of the tensor data.
    #[error("{file}: tensor {} starts at data offset {offset}, inside tensor {}, which ends at {end}", shown(.tensor), shown(.other))]
    Overlap { file: String, tensor: String, offset: u64, other: String, end: u64 },

    #[error("{file}: key {} is missing; the file is incomplete, convert the model again", shown(.key))]
    MissingKey { file: String, key: String },
    #[error("{file}: key {} is {found}, expected {expected}", shown(.key))]
    WrongType { file: String, key: String, expected: &'static str, found: String },

    #[error("{file}: cannot write tensor {}", shown(.tensor))]
    WriteTensor { file: String, tensor: String, source: io::Error },
    #[error("{file}: tensor {}: expected {expected} bytes of data, got {found}", shown(.tensor))]
    TensorBytes { file: String, tensor: String, expected: u64, found: u64 },
}

/// An untrusted name, quoted, escaped and cut.
pub(super) fn shown(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// Names of the container's types that have no [`BlockType`].
const OTHER_TYPES: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

fn type_name(id: u32) -> String {
    match OTHER_TYPES.iter().find(|(other, _)| *other == id) {
        Some((_, name)) => format!(" ({name}), which is not supported"),
        None => " (unknown)".to_owned(),
    }
}

fn supported_types() -> String {
    let names: Vec<_> = BlockType::ALL.iter().map(|t| t.name()).collect();
    names.join(", ")
}
