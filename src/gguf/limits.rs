//! Caps on what a file may claim. Each is far above any model of the size served here, and keeps the work
//! and memory of opening a file proportional to the file.

/// Metadata keys of a file.
pub const MAX_KEYS: u64 = 4096;
/// Bytes of a key (from the format).
pub const MAX_KEY_BYTES: u64 = 65_535;
/// Bytes of one string, alone or in an array.
pub const MAX_STRING_BYTES: u64 = 1 << 24;
/// Elements of an array.
pub const MAX_ARRAY_LEN: u64 = 1 << 24;
/// Tensors of a file.
pub const MAX_TENSORS: u64 = 1 << 16;
/// Files of a model that is split.
pub const MAX_PARTS: u32 = 1024;
/// Bytes of a tensor name (from the format).
pub const MAX_TENSOR_NAME_BYTES: u64 = 64;
/// Axes of a tensor (from the format).
pub const MAX_DIMS: u32 = 4;
/// Elements of a tensor.
pub const MAX_ELEMENTS: u64 = 1 << 40;
/// Bytes to which tensor data may be aligned.
pub const MAX_ALIGNMENT: u64 = 1 << 16;
/// Bytes of the header of a file that is read once from front to back.
pub const MAX_STREAMED_HEADER_BYTES: u64 = 64 << 20;
