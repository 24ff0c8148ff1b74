//! Q5_0: 32 element(s) per block of 22 bytes, `w = d * (q - 16)`.

use super::pack::{pack_5bit, read_f16, unpack_5bit, write_f16};
use super::round::signed_codes;
use super::{Block, BlockType, Encode};
use half::f16;

/// One Q5_0 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Fifth bits: bit `k` of the little-endian word is element `k`.
    pub qh: [u8; 4],
    /// Low nibbles, as in Q4_0.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == 22);

impl BlockQ5_0 {
    /// The block with this scale and these codes, below 32, of its elements.
    pub fn from_codes(d: f16, codes: &[u8; 32]) -> Self {
        let (qh, qs) = pack_5bit(codes);
        Self { d: d.to_le_bytes(), qh, qs }
    }
}

impl Block for BlockQ5_0 {
    const TYPE: BlockType = BlockType::Q5_0;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = read_f16(self.d);
        for (value, code) in out.iter_mut().zip(unpack_5bit(self.qh, &self.qs)) {
            *value = (f32::from(code) - 16.0) * d;
        }
    }
}

impl Encode for BlockQ5_0 {
    /// NaN gets the lowest code. An infinity, or a magnitude whose scale exceeds f16, makes the scale infinite.
    fn encode(values: &[f32]) -> Self {
        let (d, codes) = signed_codes(values, 16);
        let (qh, qs) = pack_5bit(&codes);
        Self { d: write_f16(d), qh, qs }
    }
}
