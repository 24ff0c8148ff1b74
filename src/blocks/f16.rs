//! F16: 1 element(s) per block of 2 bytes, one IEEE half.

use super::{Block, BlockType};

/// One F16 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockF16 {
    /// The value.
    pub bits: [u8; 2],
}

const _: () = assert!(size_of::<BlockF16>() == 2);

impl Block for BlockF16 {
    const TYPE: BlockType = BlockType::F16;
    const LEN: usize = 1;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
