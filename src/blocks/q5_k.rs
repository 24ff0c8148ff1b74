//! Q5_K: 256 element(s) per block of 176 bytes, `w = d * sc * q - dmin * m`.

use super::{Block, BlockType};

/// One Q5_K block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ5K {
    /// Scale of the sub-block scales, f16.
    pub d: [u8; 2],
    /// Scale of the sub-block minima, f16.
    pub dmin: [u8; 2],
    /// Eight 6-bit scales and eight 6-bit minima.
    pub scales: [u8; 12],
    /// Fifth bits: bit `s` of byte `j` is element `j` of sub-block `s`.
    pub qh: [u8; 32],
    /// Low nibbles, as in Q4_K.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5K>() == 176);

impl Block for BlockQ5K {
    const TYPE: BlockType = BlockType::Q5K;
    const LEN: usize = 256;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
