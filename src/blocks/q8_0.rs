//! Q8_0: 32 element(s) per block of 34 bytes, `w = d * q`.

use super::{Block, BlockType};

/// One Q8_0 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Codes, signed.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34);

impl Block for BlockQ8_0 {
    const TYPE: BlockType = BlockType::Q8_0;
    const LEN: usize = 32;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
