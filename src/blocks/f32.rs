//! F32: 1 element(s) per block of 4 bytes, one little-endian IEEE single.

use super::{Block, BlockType, Encode};

/// One F32 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockF32 {
    /// The value.
    pub bits: [u8; 4],
}

const _: () = assert!(size_of::<BlockF32>() == 4);

impl Block for BlockF32 {
    const TYPE: BlockType = BlockType::F32;
    const LEN: usize = 1;

    fn decode(&self, out: &mut [f32]) {
        out[0] = f32::from_le_bytes(self.bits);
    }
}

impl Encode for BlockF32 {
    /// Copies the bits.
    fn encode(values: &[f32]) -> Self {
        Self { bits: values[0].to_le_bytes() }
    }
}
