//! Q2_0: 64 elements per block of 18 bytes, `w = d * (q - 1)`.

use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// One Q2_0 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ2_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Bits `2 (i % 4)` and the next of byte `i / 4` are element `i`.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ2_0>() == 18);

impl Columnar for BlockQ2_0 {
    const FORM: Form = Form::less(Codes::Two, 1, Scales::Half);

    fn columns(&self, index: usize) -> Columns {
        let bytes = &self.qs[8 * index..];
        let codes = std::array::from_fn(|k| bytes[k / 4] >> (2 * (k % 4)) & 3);
        Columns { codes, scales: self.d }
    }
}

impl Block for BlockQ2_0 {
    const TYPE: BlockType = BlockType::Q2_0;
    const LEN: usize = 64;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
