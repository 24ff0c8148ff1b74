//! Q4_0: 32 element(s) per block of 18 bytes, `w = d * (q - 8)`.

use super::pack::{pack_4bit, read_f16, unpack_4bit, write_f16};
use super::round::signed_codes;
use super::{Block, BlockType, Encode};
use half::f16;

/// One Q4_0 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Codes: the low nibble of byte `j` is element `j`, the high nibble element `j + 16`.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == 18);

impl BlockQ4_0 {
    /// The block with this scale and these codes, below 16, of its elements.
    pub fn from_codes(d: f16, codes: &[u8; 32]) -> Self {
        Self { d: d.to_le_bytes(), qs: pack_4bit(codes) }
    }
}

impl Block for BlockQ4_0 {
    const TYPE: BlockType = BlockType::Q4_0;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = read_f16(self.d);
        for (value, code) in out.iter_mut().zip(unpack_4bit(&self.qs)) {
            *value = (f32::from(code) - 8.0) * d;
        }
    }
}

impl Encode for BlockQ4_0 {
    /// NaN gets the lowest code. An infinity, or a magnitude whose scale exceeds f16, makes the scale infinite.
    fn encode(values: &[f32]) -> Self {
        let (d, codes) = signed_codes(values, 8);
        Self { d: write_f16(d), qs: pack_4bit(&codes) }
    }
}
