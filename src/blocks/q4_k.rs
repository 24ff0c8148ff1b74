//! Q4_K: 256 element(s) per block of 144 bytes, `w = d * sc * q - dmin * m`.
//!
//! Scales and their search are those of [`super::k_affine`].

use super::k_affine::{AffineSuperBlock, pack_scale_min_k4};
use super::pack::{pack_nibbles, unpack_nibbles};
use super::{Block, BlockType, Encode};
use half::f16;

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

impl BlockQ4K {
    /// The block with these units, (scale, minimum) multiples, below 64, and codes, below 16, of its elements.
    pub fn from_codes(d: f16, dmin: f16, pairs: &[(u8, u8); 8], codes: &[u8; 256]) -> Self {
        let (d, dmin) = (d.to_le_bytes(), dmin.to_le_bytes());
        Self { d, dmin, scales: pack_scale_min_k4(pairs), qs: pack_sub_block_pairs(codes) }
    }
}

impl Block for BlockQ4K {
    const TYPE: BlockType = BlockType::Q4K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let codes = unpack_sub_block_pairs(&self.qs);
        AffineSuperBlock { d: self.d, dmin: self.dmin, scales: self.scales, codes }.decode(out);
    }
}

impl Encode for BlockQ4K {
    /// NaN counts as 0, infinities as the largest f32; values beyond the format's range get the nearest value
    /// inside.
    fn encode(values: &[f32]) -> Self {
        let AffineSuperBlock { d, dmin, scales, codes } = AffineSuperBlock::encode(values, 15);
        Self { d, dmin, scales, qs: pack_sub_block_pairs(&codes) }
    }
}

/// Packs nibbles: 32 bytes hold two sub-blocks, the first in the low, the second in the high nibbles.
pub(super) fn pack_sub_block_pairs(codes: &[u8; 256]) -> [u8; 128] {
    let mut qs = [0; 128];
    for (codes, bytes) in codes.chunks_exact(64).zip(qs.chunks_exact_mut(32)) {
        pack_nibbles(codes, bytes);
    }
    qs
}

/// Inverse of [`pack_sub_block_pairs`].
pub(super) fn unpack_sub_block_pairs(qs: &[u8; 128]) -> [u8; 256] {
    let mut codes = [0; 256];
    for (codes, bytes) in codes.chunks_exact_mut(64).zip(qs.chunks_exact(32)) {
        unpack_nibbles(bytes, codes);
    }
    codes
}
