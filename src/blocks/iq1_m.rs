//! IQ1_M: 256 elements per block of 56 bytes, as IQ1_S with a scale per 16 elements and a delta per 8.

use super::codebook::{IQ1, eight, with_signs};
use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::iq1_s::BOOK;
use super::{Block, BlockType};

/// One IQ1_M block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ1M {
    /// Entries of the code book, of 8 elements each: lower eight bits.
    pub qs: [[u8; 4]; 8],
    /// Per entry four bits: three upper bits of it, and the sign of delta.
    pub qh: [[u8; 2]; 8],
    /// Per 64 elements a word: four 3-bit scales, and four bits of the f16 scale of the scales.
    pub scales: [[u8; 2]; 4],
}

const _: () = assert!(size_of::<BlockIQ1M>() == 56);

impl Columnar for BlockIQ1M {
    const FORM: Form = Form::book(Codes::Three, &BOOK, Scales::SignedPair, 0.125);

    fn supers(&self) -> [[u8; 2]; 2] {
        let bits = |i: usize| (u16::from_le_bytes(self.scales[i]) >> 12) << (4 * i);
        [(bits(0) | bits(1) | bits(2) | bits(3)).to_le_bytes(), [0; 2]]
    }

    fn columns(&self, index: usize) -> Columns {
        let mut codes = [0; 32];
        for (i, (codes, entry)) in codes.chunks_exact_mut(8).zip(self.qs[index]).enumerate() {
            let upper = self.qh[index][i / 2] >> (4 * (i % 2));
            let entry = usize::from(entry) | usize::from(upper & 7) << 8;
            codes.copy_from_slice(&eight(IQ1, entry));
            with_signs(codes, if upper & 8 == 0 { 0 } else { 0xFF }, 4);
        }
        let word = u16::from_le_bytes(self.scales[index / 2]) >> (6 * (index % 2));
        Columns { codes, scales: [0, 3].map(|shift| 2 * (word >> shift & 7) as u8 + 1) }
    }
}

impl Block for BlockIQ1M {
    const TYPE: BlockType = BlockType::IQ1M;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
