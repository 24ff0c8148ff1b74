//! IQ4_XS: 256 elements per block of 136 bytes, `w = d * (sc - 32) * VALUES[q]` with the code book of IQ4_NL.

use super::form::{self, Book, Codes, Columnar, Columns, Form, Scales};
use super::iq4_nl::IQ4_NL_VALUES;
use super::pack::unpack_4bit;
use super::{Block, BlockType};

/// The code book.
pub(super) const BOOK: Book = Book::new(IQ4_NL_VALUES);

/// One IQ4_XS block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ4XS {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Upper two bits of the 6-bit scales.
    pub scales_h: [u8; 2],
    /// Lower four bits, one scale per 32 elements.
    pub scales_l: [u8; 4],
    /// Codes, per 32 elements as in Q4_0.
    pub qs: [[u8; 16]; 8],
}

const _: () = assert!(size_of::<BlockIQ4XS>() == 136);

impl Columnar for BlockIQ4XS {
    const FORM: Form = Form::book(Codes::Four, &BOOK, Scales::Signed, 1.0);

    fn supers(&self) -> [[u8; 2]; 2] {
        [self.d, [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let low = self.scales_l[index / 2] >> (4 * (index % 2)) & 0x0F;
        let high = u16::from_le_bytes(self.scales_h) >> (2 * index) & 3;
        let scale = (low | (high as u8) << 4) as i8 - 32;
        Columns { codes: unpack_4bit(&self.qs[index]), scales: [scale as u8; 2] }
    }
}

impl Block for BlockIQ4XS {
    const TYPE: BlockType = BlockType::IQ4XS;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
