//! How weights are held in memory, for people.

use super::layout::{BLOCK, Planes};
use crate::blocks::{BlockType, Codes, Levels};

/// How the weights of a storage type are held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// The type in the file.
    pub block_type: BlockType,
    /// Bits of a code; of a value where there are no codes.
    pub code_bits: usize,
    /// Whether codes are places in a table.
    pub is_table: bool,
    /// Bits per weight in memory, scales included.
    pub bits_per_weight: f64,
    /// The same in the file.
    pub file_bits_per_weight: f64,
}

impl Held {
    /// How weights of this type are held, whatever the instruction set.
    pub fn of(block_type: BlockType) -> Self {
        let form = block_type.form();
        let Planes { codes, high, scales, mins, supers } = Planes::of(&form);
        let code_bits = match form.codes {
            Codes::Floats(bytes) => 8 * bytes,
            Codes::Two => 2,
            Codes::Three => 3,
            Codes::Four => 4,
            Codes::Five => 5,
            Codes::Six => 6,
            Codes::Bytes => 8,
        };
        let bits = |bytes: usize, weights: usize| 8.0 * bytes as f64 / weights as f64;
        Self {
            block_type,
            code_bits,
            is_table: matches!(form.levels, Levels::Book(_)),
            bits_per_weight: bits(codes + high + scales + mins, BLOCK) + bits(2 * supers, 8 * BLOCK),
            file_bits_per_weight: bits(block_type.block_bytes(), block_type.block_len()),
        }
    }
}

impl std::fmt::Display for Held {
    /// E.g. `IQ2_XS as 3-bit codes of a table, 3.56 bits per weight (2.31 in the file)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { block_type, code_bits, is_table, bits_per_weight, file_bits_per_weight } = self;
        let table = if *is_table { " of a table" } else { "" };
        write!(f, "{block_type} as {code_bits}-bit codes{table}, {bits_per_weight:.2} bits per weight ")?;
        write!(f, "({file_bits_per_weight:.2} in the file)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_packed_matrix() {
        let packing = crate::kernels::scalar::KERNELS.packing;
        for &block_type in BlockType::ALL {
            let (rows, cols) = (64, 2048);
            let shape = crate::kernels::PackedShape { block_type, rows, cols, packing };
            let held = Held::of(block_type);
            let bits = 8.0 * shape.bytes() as f64 / (rows * cols) as f64;
            assert_eq!(held.bits_per_weight, bits, "{block_type}");
            assert!(bits - held.file_bits_per_weight < 2.3, "{held}");
        }
        let shown = Held::of(BlockType::IQ2XS).to_string();
        assert_eq!(shown, "IQ2_XS as 3-bit codes of a table, 3.56 bits per weight (2.31 in the file)");
    }
}
