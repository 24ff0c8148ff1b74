//! TQ2_0: 256 elements per block of 66 bytes, `w = d * (q - 1)`.

use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// One TQ2_0 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockTQ2_0 {
    /// Codes: of four runs of 32 elements each, bits `2r` and `2r + 1` of a byte belong to run `r`.
    pub qs: [u8; 64],
    /// Scale, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockTQ2_0>() == 66);

impl Columnar for BlockTQ2_0 {
    const FORM: Form = Form::less(Codes::Two, 1, Scales::Half);

    fn columns(&self, index: usize) -> Columns {
        let bytes = &self.qs[index / 4 * 32..][..32];
        let codes = std::array::from_fn(|k| bytes[k] >> (2 * (index % 4)) & 3);
        Columns { codes, scales: self.d }
    }
}

impl Block for BlockTQ2_0 {
    const TYPE: BlockType = BlockType::TQ2_0;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
