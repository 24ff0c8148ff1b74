//! Q1_0: 128 elements per block of 18 bytes, `w = d` where the bit is set, else `-d`.

use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// One Q1_0 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ1_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Bit `i % 8` of byte `i / 8` is element `i`.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ1_0>() == 18);

impl Columnar for BlockQ1_0 {
    const FORM: Form = Form::less(Codes::Two, 1, Scales::Half);

    fn columns(&self, index: usize) -> Columns {
        let bytes = &self.qs[4 * index..];
        let codes = std::array::from_fn(|k| (bytes[k / 8] >> (k % 8) & 1) << 1);
        Columns { codes, scales: self.d }
    }
}

impl Block for BlockQ1_0 {
    const TYPE: BlockType = BlockType::Q1_0;
    const LEN: usize = 128;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
