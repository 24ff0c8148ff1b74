//! IQ1_S: 256 elements per block of 50 bytes, `w = d * (2 sc + 1) * (g + delta)` with elements `g` of a code book, which
//! are -1, 0 or 1, and a delta of 1/8 or -1/8. Levels are in eighths.

use super::codebook::{IQ1, eight, with_signs};
use super::form::{self, Book, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// The three elements plus an eighth, then less an eighth: the levels of both formats named IQ1.
pub(super) const BOOK: Book = Book::new([-7, 1, 9, 0, -9, -1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/// One IQ1_S block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ1S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Entries of the code book, of 8 elements each: lower eight bits.
    pub qs: [[u8; 4]; 8],
    /// Per 32 elements a word: four times three upper bits of entries, a 3-bit scale, the sign of delta.
    pub qh: [[u8; 2]; 8],
}

const _: () = assert!(size_of::<BlockIQ1S>() == 50);

impl Columnar for BlockIQ1S {
    const FORM: Form = Form::book(Codes::Three, &BOOK, Scales::SignedPair, 0.125);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let word = u16::from_le_bytes(self.qh[index]);
        let mut codes = [0; 32];
        for (i, (codes, entry)) in codes.chunks_exact_mut(8).zip(self.qs[index]).enumerate() {
            let entry = usize::from(entry) | usize::from(word >> (3 * i) & 7) << 8;
            codes.copy_from_slice(&eight(IQ1, entry));
            with_signs(codes, if word >> 15 == 1 { 0xFF } else { 0 }, 4);
        }
        Columns { codes, scales: [2 * (word >> 12 & 7) as u8 + 1; 2] }
    }
}

impl Block for BlockIQ1S {
    const TYPE: BlockType = BlockType::IQ1S;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
