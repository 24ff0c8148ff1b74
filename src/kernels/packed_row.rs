//! Element access to a row of a packed matrix, one value at a time: what `layout` means, for the specification
//! and for decoding rows.

use super::layout::{BLOCK, Offsets, PackedShape};
use crate::blocks::{BlockType, Codes, Form, Minima, Scales};

/// Element access to a row of a packed matrix: what the layout means, one value at a time.
pub(crate) struct PackedRow<'a> {
    bytes: &'a [u8],
    offsets: Offsets,
    shape: PackedShape,
    form: Form,
    row: usize,
}

/// What 32 quantized weights mean: `w[k] = scale[k / 16] * code[k] + min[k / 16]`.
pub(crate) struct Terms {
    pub(crate) codes: [i32; BLOCK],
    pub(crate) scales: [f32; 2],
    pub(crate) mins: [f32; 2],
}

impl<'a> PackedRow<'a> {
    /// Views row `row` of a group's bytes.
    pub(super) fn new(shape: PackedShape, bytes: &'a [u8], row: usize) -> Self {
        Self { bytes, offsets: shape.offsets(), shape, form: shape.block_type.form(), row }
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

    /// What the codes mean.
    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    /// The terms of block `b` of a quantized matrix.
    pub(crate) fn terms(&self, b: usize) -> Terms {
        let (block, supers) = (self.offsets.block_start(b), self.offsets.super_start(b));
        let shared = [0, self.offsets.dmin];
        let supers = std::array::from_fn(|i| match i < self.form.supers() {
            true => self.half(supers + shared[i], 0),
            false => 0.0,
        });
        let scales = self.pair(block + self.offsets.scales, self.form.scales == Scales::Half);
        let mins = match self.form.minima {
            Minima::None | Minima::Nibbles => [0; 2],
            kind => self.pair(block + self.offsets.mins, kind == Minima::Half),
        };
        let halves = [0, 1];
        Terms {
            codes: std::array::from_fn(|k| self.form.level(self.code(block, k))),
            scales: halves.map(|half| self.form.scale(supers, scales, half)),
            mins: halves.map(|half| self.form.min(supers, scales, mins, half)),
        }
    }

    /// The bytes of a half, of a byte for each half of the columns, or twice the one that they share.
    fn pair(&self, plane: usize, is_half: bool) -> [u8; 2] {
        if is_half {
            return self.get(plane, 0);
        }
        let byte = |index: usize| self.get::<1>(plane, index)[0];
        [byte(0), byte(usize::from(self.form.has_halves()))]
    }

    /// The code of column `k` of the block that starts at `block`.
    fn code(&self, block: usize, k: usize) -> u8 {
        let high = block + self.offsets.high;
        let (half, step, j) = (k / 16, k % 16 / 4, k % 4);
        let two = |plane: usize| self.get::<4>(plane, half)[j] >> (2 * step) & 3;
        let nibble = || self.get::<4>(block, step)[j] >> (4 * half) & 0x0F;
        let bit = || self.get::<4>(high, 0)[j] >> (k / 4) & 1;
        match self.form.codes {
            Codes::Two => two(block),
            Codes::Three => two(block) | bit() << 2,
            Codes::Four => nibble(),
            Codes::Five => nibble() | bit() << 4,
            Codes::Six => nibble() | two(high) << 4,
            Codes::Bytes | Codes::Floats(_) => {
                let offset = if self.shape.packing.offset_bytes { 0x80 } else { 0 };
                self.get::<4>(block, k / 4)[j] ^ offset
            }
        }
    }

    /// Decodes block `b` into `out`, up to [`BLOCK`] values.
    pub(super) fn decode_block(&self, b: usize, out: &mut [f32]) {
        if self.form.is_float() {
            for (k, value) in out.iter_mut().enumerate() {
                *value = self.float(b * BLOCK + k);
            }
            return;
        }
        let terms = self.terms(b);
        for (k, value) in out.iter_mut().enumerate() {
            *value = terms.scales[k / 16] * terms.codes[k] as f32 + terms.mins[k / 16];
        }
    }
}
