//! Q3_K: 256 elements per block of 110 bytes, `w = d * (sc - 32) * (q - 4)`.

use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// One Q3_K block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ3K {
    /// Third bits: bit `s` of byte `j` is element `j` of run `s` of 32.
    pub hmask: [u8; 32],
    /// Low two bits: of four runs of 32 elements each, bits `2r` and `2r + 1` of a byte belong to run `r`.
    pub qs: [u8; 64],
    /// Sixteen 6-bit scales: four low bits in eight bytes, then two high bits in four.
    pub scales: [u8; 12],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ3K>() == 110);

impl BlockQ3K {
    /// The signed scale of 16 elements.
    fn scale(&self, j: usize) -> i8 {
        let low = self.scales[j % 8] >> (4 * (j / 8)) & 0x0F;
        let high = self.scales[8 + j % 4] >> (2 * (j / 4)) & 3;
        (low | high << 4) as i8 - 32
    }
}

impl Columnar for BlockQ3K {
    const FORM: Form = Form::less(Codes::Three, 4, Scales::SignedPair);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let low = &self.qs[index / 4 * 32..][..32];
        let code = |k: usize| (low[k] >> (2 * (index % 4)) & 3) | (self.hmask[k] >> index & 1) << 2;
        let scales = [0, 1].map(|half| self.scale(2 * index + half) as u8);
        Columns { codes: std::array::from_fn(code), scales }
    }
}

impl Block for BlockQ3K {
    const TYPE: BlockType = BlockType::Q3K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
