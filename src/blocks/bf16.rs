//! BF16: 1 element(s) per block of 2 bytes, one bfloat16.

use super::{Block, BlockType};

/// One BF16 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockBF16 {
    /// The value.
    pub bits: [u8; 2],
}

const _: () = assert!(size_of::<BlockBF16>() == 2);

impl Block for BlockBF16 {
    const TYPE: BlockType = BlockType::BF16;
    const LEN: usize = 1;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
