//! Q4_1: 32 element(s) per block of 20 bytes, `w = d * q + m`.

use super::pack::{pack_4bit, read_f16, unpack_4bit, write_f16};
use super::round::affine_codes;
use super::{Block, BlockType, Encode};
use half::f16;

/// One Q4_1 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Minimum, f16.
    pub m: [u8; 2],
    /// Codes: the low nibble of byte `j` is element `j`, the high nibble element `j + 16`.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_1>() == 20);

impl BlockQ4_1 {
    /// The block with this scale and minimum and these codes, below 16, of its elements.
    pub fn from_codes(d: f16, m: f16, codes: &[u8; 32]) -> Self {
        Self { d: d.to_le_bytes(), m: m.to_le_bytes(), qs: pack_4bit(codes) }
    }
}

impl Block for BlockQ4_1 {
    const TYPE: BlockType = BlockType::Q4_1;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let (d, m) = (read_f16(self.d), read_f16(self.m));
        for (value, code) in out.iter_mut().zip(unpack_4bit(&self.qs)) {
            *value = f32::from(code) * d + m;
        }
    }
}

impl Encode for BlockQ4_1 {
    /// NaN gets the lowest code. Infinities, values without any number among them, and a range beyond f16 make
    /// the scale or the minimum infinite.
    fn encode(values: &[f32]) -> Self {
        let (d, m, codes) = affine_codes(values, 15);
        Self { d: write_f16(d), m: write_f16(m), qs: pack_4bit(&codes) }
    }
}
