//! TQ1_0: 256 elements per block of 54 bytes, `w = d * (q - 1)` with three codes.
//!
//! A byte holds five codes: `ceil(256 n / 243)`, where the digits of `n` to the base 3 are the codes, the first of
//! most weight. Multiplied by 3 it carries its first code out of eight bits.

use super::form::{self, Codes, Columnar, Columns, Form, Scales};
use super::{Block, BlockType};

/// One TQ1_0 block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockTQ1_0 {
    /// Five codes per byte: digit `n` of the first 32 bytes is a run of 32 elements, of the other 16 one of 16.
    pub qs: [u8; 48],
    /// Four codes per byte: digit `n` is a run of 4 elements.
    pub qh: [u8; 4],
    /// Scale, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockTQ1_0>() == 54);

/// Digit `n` of a byte.
fn digit(byte: u8, n: usize) -> u8 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    ((u16::from(byte.wrapping_mul(POWERS[n])) * 3) >> 8) as u8
}

impl Columnar for BlockTQ1_0 {
    const FORM: Form = Form::less(Codes::Two, 1, Scales::Half);

    fn columns(&self, index: usize) -> Columns {
        let code = |k: usize| match 32 * index + k {
            i @ ..160 => digit(self.qs[i % 32], i / 32),
            i @ 160..240 => digit(self.qs[32 + i % 16], (i - 160) / 16),
            i => digit(self.qh[i % 4], (i - 240) / 4),
        };
        Columns { codes: std::array::from_fn(code), scales: self.d }
    }
}

impl Block for BlockTQ1_0 {
    const TYPE: BlockType = BlockType::TQ1_0;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        form::decode(self, out);
    }
}
