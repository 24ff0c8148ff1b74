//! Q2_K: 256 elements per block of 84 bytes, `w = d * sc * q - dmin * m`.

use super::form::{self, Codes, Columnar, Columns, Form, Minima, Scales};
use super::{Block, BlockType};

/// One Q2_K block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ2K {
    /// Per 16 elements a 4-bit scale (low) and a 4-bit minimum (high).
    pub scales: [u8; 16],
    /// Codes: of four runs of 32 elements each, bits `2r` and `2r + 1` of a byte belong to run `r`.
    pub qs: [u8; 64],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ2K>() == 84);

impl Columnar for BlockQ2K {
    const FORM: Form = Form::affine(Codes::Two, Scales::NibblePair, Minima::Nibbles);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, self.dmin]
    }

    fn columns(&self, index: usize) -> Columns {
        let bytes = &self.qs[index / 4 * 32..][..32];
        let codes = std::array::from_fn(|k| bytes[k] >> (2 * (index % 4)) & 3);
        Columns { codes, scales: [self.scales[2 * index], self.scales[2 * index + 1]] }
    }
}

impl Block for BlockQ2K {
    const TYPE: BlockType = BlockType::Q2K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
