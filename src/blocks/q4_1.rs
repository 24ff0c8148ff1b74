//! Q4_1: 32 element(s) per block of 20 bytes, `w = d * q + m`.

use super::{Block, BlockType};

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

impl Block for BlockQ4_1 {
    const TYPE: BlockType = BlockType::Q4_1;
    const LEN: usize = 32;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
