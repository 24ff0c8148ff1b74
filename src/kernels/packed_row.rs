//! Element access to a row of a packed matrix, one value at a time: what `layout` means, for the specification
//! and for decoding rows.

use super::layout::{BLOCK, Offsets, PackedShape};
use crate::blocks::{self, BlockType};

/// Element access to a row of a packed matrix: what the layout means, one value at a time.
pub(crate) struct PackedRow<'a> {
    bytes: &'a [u8],
    offsets: Offsets,
    shape: PackedShape,
    row: usize,
}

/// What 32 quantized weights mean: `w[k] = scale[k / 16] * code[k] + min`.
pub(crate) struct Terms {
    pub(crate) codes: [i32; BLOCK],
    pub(crate) scales: [f32; 2],
    pub(crate) min: f32,
}

impl<'a> PackedRow<'a> {
    /// Views row `row` of a group's bytes.
    pub(super) fn new(shape: PackedShape, bytes: &'a [u8], row: usize) -> Self {
        Self { bytes, offsets: shape.offsets(), shape, row }
    }

    fn get<const N: usize>(&self, plane: usize, index: usize) -> [u8; N] {
        let at = plane + (index * self.shape.packing.lanes + self.row) * N;
        self.bytes[at..at + N].try_into().expect("slice of N bytes")
    }

    fn half(&self, plane: usize, index: usize) -> f32 {
        half::f16::from_le_bytes(self.get(plane, index)).to_f32()
    }

    /// The weight in column `k` of a float matrix.
    pub(crate) fn float(&self, k: usize) -> f32 {
        match self.shape.block_type {
            BlockType::F32 => f32::from_le_bytes(self.get(0, k)),
            BlockType::BF16 => half::bf16::from_le_bytes(self.get(0, k)).to_f32(),
            _ => self.half(0, k),
        }
    }

    /// Whether the weights are floats.
    pub(crate) fn is_float(&self) -> bool {
        self.shape.planes().scales == 0
    }

    /// Whether the two halves of a block have scales of their own.
    pub(crate) fn halves(&self) -> bool {
        self.shape.block_type == BlockType::Q6K
    }

    /// Whether the format has a minimum.
    pub(crate) fn has_min(&self) -> bool {
        self.shape.planes().mins > 0
    }

    /// The terms of block `b` of a quantized matrix.
    pub(crate) fn terms(&self, b: usize) -> Terms {
        let (block, supers) = (self.offsets.block_start(b), self.offsets.super_start(b));
        let (scales, mins, dmin) =
            (block + self.offsets.scales, block + self.offsets.mins, supers + self.offsets.dmin);
        let (scales, min) = match self.shape.block_type {
            BlockType::Q4K | BlockType::Q5K => {
                let [scale] = self.get(scales, 0);
                let [min] = self.get(mins, 0);
                let scale = self.half(supers, 0) * f32::from(scale);
                ([scale; 2], -(self.half(dmin, 0) * f32::from(min)))
            }
            BlockType::Q6K => {
                let scale = |h: usize| self.half(supers, 0) * f32::from(self.get::<1>(scales, h)[0] as i8);
                ([scale(0), scale(1)], 0.0)
            }
            BlockType::Q4_1 | BlockType::Q5_1 => ([self.half(scales, 0); 2], self.half(mins, 0)),
            _ => ([self.half(scales, 0); 2], 0.0),
        };
        Terms { codes: std::array::from_fn(|k| self.code(block, k)), scales, min }
    }

    /// The signed code of column `k` of the block that starts at `block`.
    fn code(&self, block: usize, k: usize) -> i32 {
        let high = block + self.offsets.high;
        let (step, j) = (k % 16 / 4, k % 4);
        let nibble = || i32::from(self.get::<4>(block, step)[j] >> (k / 16 * 4) & 0x0F);
        let fifth = || i32::from(self.get::<4>(high, 0)[j] >> (k / 4) & 1) << 4;
        let top_two = || i32::from(self.get::<4>(high, k / 16)[j] >> (2 * step) & 3) << 4;
        match self.shape.block_type {
            BlockType::Q4_0 => nibble() - 8,
            BlockType::IQ4NL => i32::from(blocks::IQ4_NL_VALUES[nibble() as usize]),
            BlockType::Q4_1 | BlockType::Q4K => nibble(),
            BlockType::Q5_0 => (nibble() | fifth()) - 16,
            BlockType::Q5_1 | BlockType::Q5K => nibble() | fifth(),
            BlockType::Q6K => (nibble() | top_two()) - 32,
            _ => {
                let offset = if self.shape.packing.offset_bytes { 0x80 } else { 0 };
                i32::from((self.get::<4>(block, k / 4)[j] ^ offset) as i8)
            }
        }
    }

    /// Decodes block `b` into `out`, up to [`BLOCK`] values.
    pub(super) fn decode_block(&self, b: usize, out: &mut [f32]) {
        if self.is_float() {
            for (k, value) in out.iter_mut().enumerate() {
                *value = self.float(b * BLOCK + k);
            }
            return;
        }
        let terms = self.terms(b);
        for (k, value) in out.iter_mut().enumerate() {
            *value = terms.scales[k / 16] * terms.codes[k] as f32 + terms.min;
        }
    }
}
