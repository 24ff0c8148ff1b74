//! Q5_1: 32 element(s) per block of 24 bytes, `w = d * q + m`.

use super::pack::{pack_5bit, read_f16, unpack_5bit, write_f16};
use super::round::affine_codes;
use super::{Block, BlockType, Encode};
use half::f16;

/// One Q5_1 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Minimum, f16.
    pub m: [u8; 2],
    /// Fifth bits: bit `k` of the little-endian word is element `k`.
    pub qh: [u8; 4],
    /// Low nibbles, as in Q4_0.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_1>() == 24);

impl BlockQ5_1 {
    /// The block with this scale and minimum and these codes, below 32, of its elements.
    pub fn from_codes(d: f16, m: f16, codes: &[u8; 32]) -> Self {
        let (qh, qs) = pack_5bit(codes);
        Self { d: d.to_le_bytes(), m: m.to_le_bytes(), qh, qs }
    }
}

impl Block for BlockQ5_1 {
    const TYPE: BlockType = BlockType::Q5_1;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let (d, m) = (read_f16(self.d), read_f16(self.m));
        for (value, code) in out.iter_mut().zip(unpack_5bit(self.qh, &self.qs)) {
            *value = f32::from(code) * d + m;
        }
    }
}

impl Encode for BlockQ5_1 {
    /// NaN gets the lowest code. Infinities, values without any number among them, and a range beyond f16 make
    /// the scale or the minimum infinite.
    fn encode(values: &[f32]) -> Self {
        let (d, m, codes) = affine_codes(values, 31);
        let (qh, qs) = pack_5bit(&codes);
        Self { d: write_f16(d), m: write_f16(m), qh, qs }
    }
}
