//! IQ2_XXS: 256 elements per block of 66 bytes, `w = d * (2 sc + 1) / 8 * g` with elements `g` of a code book, of
//! either sign.

use super::codebook::{IQ2_XXS, eight, even_signs, with_signs};
use super::form::{self, Book, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// The magnitudes, then the same with a sign: the levels of all formats named IQ2.
pub(super) const BOOK: Book = Book::new([8, 25, 43, 0, -8, -25, -43, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/// One IQ2_XXS block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ2XXS {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Per 32 elements four entries of the code book, of 8 elements each, and a word: four times 7 bits of signs and
    /// a 4-bit scale.
    pub qs: [[[u8; 4]; 2]; 8],
}

const _: () = assert!(size_of::<BlockIQ2XXS>() == 66);

impl Columnar for BlockIQ2XXS {
    const FORM: Form = Form::book(Codes::Three, &BOOK, Scales::SignedPair, 0.125);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let [entries, word] = self.qs[index];
        let word = u32::from_le_bytes(word);
        let mut codes = [0; 32];
        for (i, (codes, entry)) in codes.chunks_exact_mut(8).zip(entries).enumerate() {
            codes.copy_from_slice(&eight(IQ2_XXS, usize::from(entry)));
            with_signs(codes, even_signs(word >> (7 * i)), 4);
        }
        Columns { codes, scales: [2 * (word >> 28) as u8 + 1; 2] }
    }
}

impl Block for BlockIQ2XXS {
    const TYPE: BlockType = BlockType::IQ2XXS;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
