//! IQ2_XS: 256 elements per block of 74 bytes, as IQ2_XXS with a larger code book and a scale per 16 elements.

use super::codebook::{IQ2_XS, eight, even_signs, with_signs};
use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::iq2_xxs::BOOK;
use super::{Block, BlockType};

/// One IQ2_XS block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ2XS {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Per 8 elements 9 bits of an entry of the code book and 7 bits of signs.
    pub qs: [[[u8; 2]; 4]; 8],
    /// A 4-bit scale per 16 elements.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIQ2XS>() == 74);

impl Columnar for BlockIQ2XS {
    const FORM: Form = Form::book(Codes::Three, &BOOK, Scales::SignedPair, 0.125);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let mut codes = [0; 32];
        for (codes, word) in codes.chunks_exact_mut(8).zip(self.qs[index]) {
            let word = u16::from_le_bytes(word);
            codes.copy_from_slice(&eight(IQ2_XS, usize::from(word & 511)));
            with_signs(codes, even_signs(u32::from(word >> 9)), 4);
        }
        let scales = [0, 4].map(|shift| 2 * (self.scales[index] >> shift & 0x0F) + 1);
        Columns { codes, scales }
    }
}

impl Block for BlockIQ2XS {
    const TYPE: BlockType = BlockType::IQ2XS;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
