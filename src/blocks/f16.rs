//! F16: 1 element(s) per block of 2 bytes, one IEEE half.

use super::pack::{read_f16, write_f16};
use super::{Block, BlockType, Encode};

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

    fn decode(&self, out: &mut [f32]) {
        out[0] = read_f16(self.bits);
    }
}

impl Encode for BlockF16 {
    /// Rounds to nearest, ties to even. Magnitudes of 65520 and above become infinite, NaN stays a quiet
    /// NaN.
    fn encode(values: &[f32]) -> Self {
        Self { bits: write_f16(values[0]) }
    }
}
