//! The GGUF container, versions 2 and 3, little endian: a zero-copy reader and a streaming writer.
//!
//! # Design
//!
//! ```text
//! source   the file's bytes: memory map, owned or static
//! stream   files read once from front to back, checked while they are read
//! sample   what of the data is part of a file's fingerprint
//! split    models in several files
//! limits   the largest count or length accepted for each field
//! parse    bytes -> checked header: key index, tensor table
//! value    metadata types and their encoding
//! tensor   name, shape and place of one tensor, with its checks
//! reader   GgufFile: typed metadata, tensor data in place
//! purpose  models, and what else comes in GGUF files
//! writer   GgufWriter: header, then streamed tensor data, atomically
//! recipe   which storage type each tensor of a model gets
//! error    one variant per way a file can lie
//! ```
//!
//! A file is untrusted. [`GgufFile::open`] checks every count, length, name, string, type, shape and offset
//! against a named cap and against the bytes that are left, so that what it returns can be walked without
//! failing. Only an index is kept in memory: strings, arrays and tensors are read in place.
//!
//! The writer passes the header it made through the same checks before it writes a byte.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

mod error;
mod limits;
mod parse;
mod purpose;
mod reader;
mod recipe;
mod sample;
mod source;
mod split;
mod stream;
mod tensor;
mod value;
mod writer;

#[cfg(test)]
mod tests;

pub use self::error::{GgufError, Place};
pub use self::limits::*;
pub use self::purpose::Purpose;
pub use self::reader::GgufFile;
pub use self::recipe::{
    Choice, FILE_TYPE_KEY, Layout, QUANTIZATION_VERSION, QUANTIZATION_VERSION_KEY, Recipe, layer,
};
pub use self::stream::Take;
pub use self::tensor::TensorInfo;
pub(crate) use self::value::checked_text;
pub use self::value::{Array, Kind, OwnedValue, Value};
pub use self::writer::GgufWriter;

/// Key of the alignment of tensor data in bytes.
pub const ALIGNMENT_KEY: &str = "general.alignment";
/// Alignment of tensor data in bytes where [`ALIGNMENT_KEY`] is absent.
pub const DEFAULT_ALIGNMENT: u32 = 32;

/// Name of the token embedding, which every model has.
pub const EMBEDDING_TENSOR: &str = "token_embd.weight";
/// Name of the output head; a model without one uses the embedding.
pub const HEAD_TENSOR: &str = "output.weight";

/// The first bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version the writer produces.
const VERSION: u32 = 3;
