//! BF16: 1 element(s) per block of 2 bytes, one bfloat16.

use super::{Block, BlockType, Encode};

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

    fn decode(&self, out: &mut [f32]) {
        out[0] = f32::from_bits(u32::from(u16::from_le_bytes(self.bits)) << 16);
    }
}

impl Encode for BlockBF16 {
    /// Rounds to nearest, ties to even. NaN stays a quiet NaN.
    fn encode(values: &[f32]) -> Self {
        Self { bits: half::bf16::from_f32(values[0]).to_le_bytes() }
    }
}
