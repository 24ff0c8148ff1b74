//! What commands need of files beside their formats.

/// Longest text that is read.
pub(crate) const MAX_TEXT_BYTES: u64 = 256 << 20;
