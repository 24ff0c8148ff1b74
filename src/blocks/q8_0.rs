//! Q8_0: 32 element(s) per block of 34 bytes, `w = d * q`.
//!
//! Encoding: `d` is the largest magnitude divided by 127, the codes are `x * (1 / d)` with the unrounded
//! `d`, rounded to nearest with ties away from zero, as the formats' owner defines it.

use super::pack::{read_f16, write_f16};
use super::round::reciprocal;
use super::{Block, BlockType, Encode};

/// One Q8_0 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Codes, signed.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == 34);

impl Block for BlockQ8_0 {
    const TYPE: BlockType = BlockType::Q8_0;
    const LEN: usize = 32;

    fn decode(&self, out: &mut [f32]) {
        let d = read_f16(self.d);
        for (value, &code) in out.iter_mut().zip(&self.qs) {
            *value = f32::from(code) * d;
        }
    }
}

impl Encode for BlockQ8_0 {
    /// NaN gets code 0. An infinity, or a magnitude whose scale exceeds f16, makes the scale infinite.
    fn encode(values: &[f32]) -> Self {
        let d = values.iter().fold(0.0f32, |max, v| if v.abs() > max { v.abs() } else { max }) / 127.0;
        let inverse = reciprocal(d);
        // The cast saturates and takes NaN to 0.
        Self { d: write_f16(d), qs: std::array::from_fn(|i| (values[i] * inverse).round() as i8) }
    }
}
