//! IQ4_NL: 32 element(s) per block of 18 bytes, `w = d * VALUES[q]`.
//!
//! Encoding: [`fit_scale`] places the value of largest magnitude near either end of the code book, in both
//! orientations (the book is not symmetric). Its scale, rounded to f16, gives the nearest codes.

use super::fit::{finite, fit_scale, nearest_f16};
use super::pack::{pack_4bit, read_f16, unpack_4bit};
use super::{Block, BlockType, Encode};
use half::f16;

/// Code book.
pub const IQ4_NL_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Where the search places the value of largest magnitude, in units of the code book, with either sign.
const EXTREME_LEVELS: [u8; 16] =
    [92, 96, 100, 104, 108, 112, 116, 120, 124, 127, 130, 133, 136, 140, 145, 150];

/// The code of the book's value nearest to `x`, for each `floor(2 x)` from -256 to 255: the midpoints of
/// neighbours are multiples of one half.
const NEAREST: [u8; 512] = {
    let mut table = [0; 512];
    let mut i = 0;
    while i < 512 {
        let code = if i == 0 { 0 } else { table[i - 1] as usize };
        let past_midpoint =
            code < 15 && i as i32 - 256 >= IQ4_NL_VALUES[code] as i32 + IQ4_NL_VALUES[code + 1] as i32;
        table[i] = code as u8 + past_midpoint as u8;
        i += 1;
    }
    table
};

/// The code of the book's value nearest to `x`.
fn nearest_code(x: f64) -> u8 {
    // The cast truncates and saturates at 0.
    NEAREST[usize::from((2.0 * x + 256.0) as u16).min(511)]
}

/// One IQ4_NL block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockIQ4NL {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Codes, as in Q4_0.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockIQ4NL>() == 18);

impl BlockIQ4NL {
    /// The block with this scale and these codes, below 16, of its elements.
    pub fn from_codes(d: f16, codes: &[u8; 32]) -> Self {
        Self { d: d.to_le_bytes(), qs: pack_4bit(codes) }
    }
}

impl Block for BlockIQ4NL {
    const TYPE: BlockType = BlockType::IQ4NL;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = read_f16(self.d);
        for (value, code) in out.iter_mut().zip(unpack_4bit(&self.qs)) {
            *value = d * f32::from(IQ4_NL_VALUES[usize::from(code)]);
        }
    }
}

impl Encode for BlockIQ4NL {
    /// NaN counts as 0, infinities as the largest f32; values beyond the format's range get the end of the
    /// code book.
    fn encode(values: &[f32]) -> Self {
        let x: [f64; 32] = finite(values);
        let ends = EXTREME_LEVELS.into_iter().flat_map(|level| [-f64::from(level), f64::from(level)]);
        let scale = fit_scale(&x, ends, |x| f64::from(IQ4_NL_VALUES[usize::from(nearest_code(x))]));
        let d = nearest_f16(scale);
        let inverse = if d.to_f64() == 0.0 { 0.0 } else { 1.0 / d.to_f64() };
        Self { d: d.to_le_bytes(), qs: pack_4bit(&x.map(|x| nearest_code(x * inverse))) }
    }
}
