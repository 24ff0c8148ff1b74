//! IQ4_NL: 32 element(s) per block of 18 bytes, `w = d * VALUES[q]`.

use super::{Block, BlockType};

/// Code book.
pub const IQ4_NL_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// One IQ4_NL block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ4NL {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Codes, as in Q4_0.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4NL>() == 18);

impl Block for BlockIQ4NL {
    const TYPE: BlockType = BlockType::IQ4NL;
    const LEN: usize = 32;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
