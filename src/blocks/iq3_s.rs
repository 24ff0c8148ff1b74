//! IQ3_S: 256 elements per block of 110 bytes, `w = d * (2 sc + 1) * g` with elements `g` of a code book, of either
//! sign.

use super::codebook::{IQ3_S, four, with_signs};
use super::form::{self, Book, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// The magnitudes, then the same with a sign.
const BOOK: Book = Book::new([1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15]);

/// One IQ3_S block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ3S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Entries of the code book, of 4 elements each: lower eight bits.
    pub qs: [[u8; 8]; 8],
    /// Ninth bits.
    pub qh: [u8; 8],
    /// Signs.
    pub signs: [[u8; 4]; 8],
    /// A 4-bit scale per 32 elements.
    pub scales: [u8; 4],
}

const _: () = assert!(size_of::<BlockIQ3S>() == 110);

impl Columnar for BlockIQ3S {
    const FORM: Form = Form::book(Codes::Four, &BOOK, Scales::Signed, 1.0);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let mut codes = [0; 32];
        for (i, (codes, entry)) in codes.chunks_exact_mut(4).zip(self.qs[index]).enumerate() {
            let entry = usize::from(entry) | usize::from(self.qh[index] >> i & 1) << 8;
            codes.copy_from_slice(&four(IQ3_S, entry));
            with_signs(codes, self.signs[index][i / 2] >> (4 * (i % 2)), 8);
        }
        let scale = self.scales[index / 2] >> (4 * (index % 2)) & 0x0F;
        Columns { codes, scales: [2 * scale + 1; 2] }
    }
}

impl Block for BlockIQ3S {
    const TYPE: BlockType = BlockType::IQ3S;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
