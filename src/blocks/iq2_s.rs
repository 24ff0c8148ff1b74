//! IQ2_S: 256 elements per block of 82 bytes, as IQ2_XS with a larger code book and all signs.

use super::codebook::{IQ2_S, eight, with_signs};
use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::iq2_xxs::BOOK;
use super::{Block, BlockType};

/// One IQ2_S block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ2S {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Entries of the code book, of 8 elements each: lower eight bits.
    pub qs: [[u8; 4]; 8],
    /// Signs.
    pub signs: [[u8; 4]; 8],
    /// Upper two bits of the entries.
    pub qh: [u8; 8],
    /// A 4-bit scale per 16 elements.
    pub scales: [u8; 8],
}

const _: () = assert!(size_of::<BlockIQ2S>() == 82);

impl Columnar for BlockIQ2S {
    const FORM: Form = Form::book(Codes::Three, &BOOK, Scales::SignedPair, 0.125);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let mut codes = [0; 32];
        for (i, (codes, entry)) in codes.chunks_exact_mut(8).zip(self.qs[index]).enumerate() {
            let entry = usize::from(entry) | usize::from(self.qh[index] >> (2 * i) & 3) << 8;
            codes.copy_from_slice(&eight(IQ2_S, entry));
            with_signs(codes, self.signs[index][i], 4);
        }
        let scales = [0, 4].map(|shift| 2 * (self.scales[index] >> shift & 0x0F) + 1);
        Columns { codes, scales }
    }
}

impl Block for BlockIQ2S {
    const TYPE: BlockType = BlockType::IQ2S;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
