//! Q5_1: 32 element(s) per block of 24 bytes, `w = d * q + m`.

use super::{Block, BlockType};

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

impl Block for BlockQ5_1 {
    const TYPE: BlockType = BlockType::Q5_1;
    const LEN: usize = 32;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
