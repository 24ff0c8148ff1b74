//! Q5_K: 256 element(s) per block of 176 bytes, `w = d * sc * q - dmin * m`.
//!
//! Scales and their search are those of [`super::k_affine`].

use super::k_affine::{AffineSuperBlock, pack_scale_min_k4};
use super::q4_k::{pack_sub_block_pairs, unpack_sub_block_pairs};
use super::{Block, BlockType, Encode};
use half::f16;

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

impl BlockQ5K {
    /// The block with these units, (scale, minimum) multiples, below 64, and codes, below 32, of its elements.
    pub fn from_codes(d: f16, dmin: f16, pairs: &[(u8, u8); 8], codes: &[u8; 256]) -> Self {
        let qh = fifth_bits(codes);
        let (d, dmin) = (d.to_le_bytes(), dmin.to_le_bytes());
        Self { d, dmin, scales: pack_scale_min_k4(pairs), qh, qs: pack_sub_block_pairs(codes) }
    }
}

impl Block for BlockQ5K {
    const TYPE: BlockType = BlockType::Q5K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let mut codes = unpack_sub_block_pairs(&self.qs);
        for (i, code) in codes.iter_mut().enumerate() {
            *code |= (self.qh[i % 32] >> (i / 32) & 1) << 4;
        }
        AffineSuperBlock { d: self.d, dmin: self.dmin, scales: self.scales, codes }.decode(out);
    }
}

impl Encode for BlockQ5K {
    /// NaN counts as 0, infinities as the largest f32; values beyond the format's range get the nearest value
    /// inside.
    fn encode(values: &[f32]) -> Self {
        let AffineSuperBlock { d, dmin, scales, codes } = AffineSuperBlock::encode(values, 31);
        let qh = fifth_bits(&codes);
        Self { d, dmin, scales, qh, qs: pack_sub_block_pairs(&codes) }
    }
}

fn fifth_bits(codes: &[u8; 256]) -> [u8; 32] {
    let mut qh = [0; 32];
    for (i, code) in codes.iter().enumerate() {
        qh[i % 32] |= (code >> 4) << (i / 32);
    }
    qh
}
