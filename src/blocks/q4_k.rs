//! Q4_K: 256 element(s) per block of 144 bytes, `w = d * sc * q - dmin * m`.

use super::{Block, BlockType};

/// Unpacks the 6-bit scale and minimum of sub-block `j` (0..8) from the 12 packed bytes.
pub fn scale_min_k4(j: usize, scales: &[u8; 12]) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        (
            (scales[j + 4] & 0x0F) | ((scales[j - 4] >> 6) << 4),
            (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4),
        )
    }
}

/// One Q4_K block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ4K {
    /// Scale of the sub-block scales, f16.
    pub d: [u8; 2],
    /// Scale of the sub-block minima, f16.
    pub dmin: [u8; 2],
    /// Eight 6-bit scales and eight 6-bit minima.
    pub scales: [u8; 12],
    /// Codes: 64 elements per 32 bytes, low nibbles first.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ4K>() == 144);

impl Block for BlockQ4K {
    const TYPE: BlockType = BlockType::Q4K;
    const LEN: usize = 256;

    fn encode(_values: &[f32]) -> Self {
        unreachable!()
    }

    fn decode(&self, _out: &mut [f32]) {
        unreachable!()
    }
}
