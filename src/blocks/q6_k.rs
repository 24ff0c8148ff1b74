//! Q6_K: 256 element(s) per block of 210 bytes, `w = d * sc * (q - 32)`.

use super::{Block, BlockType};

/// One Q6_K block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// Low nibbles.
    pub ql: [u8; 128],
    /// Upper two bits.
    pub qh: [u8; 64],
    /// One signed scale per 16 elements.
    pub scales: [i8; 16],
    /// Scale of the sub-block scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ6K>() == 210);

impl Block for BlockQ6K {
    const TYPE: BlockType = BlockType::Q6K;
    const LEN: usize = 256;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
