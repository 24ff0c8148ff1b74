//! MXFP4: 32 elements per block of 17 bytes, `w = 2^(e - 127) * E2M1(q)` (OCP Microscaling Formats, version 1.0).

use super::form::{self, Book, Codes, Columnar, Columns, Form, Scales};
use super::pack::unpack_4bit;
use super::{Block, BlockType};

/// Twice the values of E2M1.
pub(super) const BOOK: Book = Book::new([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]);

/// One MXFP4 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockMXFP4 {
    /// Scale, E8M0.
    pub e: u8,
    /// Codes, as in Q4_0.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockMXFP4>() == 17);

impl Columnar for BlockMXFP4 {
    const FORM: Form = Form::book(Codes::Four, &BOOK, Scales::Power, 1.0);

    fn columns(&self, _: usize) -> Columns {
        Columns { codes: unpack_4bit(&self.qs), scales: [self.e, 0] }
    }
}

impl Block for BlockMXFP4 {
    const TYPE: BlockType = BlockType::MXFP4;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
