//! How weights are held in memory, as `smolt show` and `smolt plan` say it.

use serde::ser::{Serialize, Serializer};

use crate::blocks::BlockType;
use crate::gguf::TensorInfo;
use crate::kernels::Held;

/// The quantized types of a file, those that can be written first.
pub(super) fn types(tensors: &[TensorInfo]) -> Vec<Held> {
    let is_used = |block_type: &&BlockType| tensors.iter().any(|tensor| tensor.block_type == **block_type);
    let quantized = BlockType::ALL.iter().filter(|block_type| block_type.is_quantized());
    quantized.filter(is_used).copied().map(Held::of).collect()
}

/// One type in machine-readable form.
#[derive(serde::Serialize)]
struct Row {
    #[serde(rename = "type")]
    name: &'static str,
    code_bits: usize,
    table: bool,
    bits_per_weight: f64,
    file_bits_per_weight: f64,
}

/// Writes the list in machine-readable form.
pub(super) fn serialize<S: Serializer>(all: &[Held], serializer: S) -> Result<S::Ok, S::Error> {
    let row = |held: &Held| Row {
        name: held.block_type.name(),
        code_bits: held.code_bits,
        table: held.is_table,
        bits_per_weight: held.bits_per_weight,
        file_bits_per_weight: held.file_bits_per_weight,
    };
    all.iter().map(row).collect::<Vec<_>>().serialize(serializer)
}
