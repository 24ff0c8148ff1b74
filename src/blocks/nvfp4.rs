//! NVFP4: 64 elements per block of 36 bytes, `w = E4M3(d) * E2M1(q)` with a scale per 16 elements.

use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::mxfp4::BOOK;
use super::pack::unpack_nibbles;
use super::{Block, BlockType};

/// One NVFP4 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockNVFP4 {
    /// Scales, E4M3 without a sign.
    pub d: [u8; 4],
    /// Codes: per 16 elements, byte `j` holds element `j` in its low and `j + 8` in its high nibble.
    pub qs: [[u8; 8]; 4],
}

const _: () = assert!(size_of::<BlockNVFP4>() == 36);

impl Columnar for BlockNVFP4 {
    const FORM: Form = Form::book(Codes::Four, &BOOK, Scales::MiniPair, 1.0);

    fn columns(&self, index: usize) -> Columns {
        let mut codes = [0; 32];
        for (codes, bytes) in codes.chunks_exact_mut(16).zip(&self.qs[2 * index..]) {
            unpack_nibbles(bytes, codes);
        }
        Columns { codes, scales: [self.d[2 * index], self.d[2 * index + 1]] }
    }
}

impl Block for BlockNVFP4 {
    const TYPE: BlockType = BlockType::NVFP4;
    const LEN: usize = 64;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
