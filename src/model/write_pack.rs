//! Writes packs of models that are not loaded yet.

use super::error::ModelError;
use super::header::Header;
use super::packed::{place, write};
use super::tagged::Verified;
use super::weights;
use crate::gguf::GgufFile;
use crate::kernels::Kernels;
use std::path::PathBuf;

/// Writes the pack of the model in `file` beside it; path and size. An older one is replaced.
///
/// # Errors
/// If the model is not a file of its own or cannot be loaded, something else has the name of the pack, or the disk
/// refuses.
pub fn write_pack(file: &GgufFile, kernels: &'static Kernels) -> Result<(PathBuf, u64), ModelError> {
    place(file, kernels)?;
    let (_, packed) = weights::pack(file, kernels)?;
    write(file, kernels, &packed)
}

/// Writes the pack of the verified model in `file`; path and size. One that is there is replaced.
///
/// # Errors
/// As [`write_pack`]; if the model is not what was signed.
pub fn write_verified_pack(
    file: &GgufFile,
    kernels: &'static Kernels,
    verified: &Verified,
) -> Result<(PathBuf, u64), ModelError> {
    let model = Header::new(file, kernels)?.load(file, None, 1)?;
    verified.write(file, kernels, model.weights.packed_here().unwrap_or_default(), model.weights.vectors())
}
