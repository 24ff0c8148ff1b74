//! IQ3_XXS: 256 elements per block of 98 bytes, `w = d * (2 sc + 1) / 4 * g` with elements `g` of a code book, of
//! either sign.

use super::codebook::{IQ3_XXS, even_signs, four, with_signs};
use super::form::{self, Book, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// The magnitudes, then the same with a sign.
const BOOK: Book = Book::new([4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62]);

/// One IQ3_XXS block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ3XXS {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Entries of the code book, of 4 elements each.
    pub qs: [[u8; 8]; 8],
    /// Per 32 elements a word: four times 7 bits of signs, of 8 elements each, and a 4-bit scale.
    pub signs: [[u8; 4]; 8],
}

const _: () = assert!(size_of::<BlockIQ3XXS>() == 98);

impl Columnar for BlockIQ3XXS {
    const FORM: Form = Form::book(Codes::Four, &BOOK, Scales::Signed, 0.25);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let word = u32::from_le_bytes(self.signs[index]);
        let mut codes = [0; 32];
        for (i, (codes, entry)) in codes.chunks_exact_mut(4).zip(self.qs[index]).enumerate() {
            codes.copy_from_slice(&four(IQ3_XXS, usize::from(entry)));
            with_signs(codes, even_signs(word >> (7 * (i / 2))) >> (4 * (i % 2)), 8);
        }
        Columns { codes, scales: [2 * (word >> 28) as u8 + 1; 2] }
    }
}

impl Block for BlockIQ3XXS {
    const TYPE: BlockType = BlockType::IQ3XXS;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
