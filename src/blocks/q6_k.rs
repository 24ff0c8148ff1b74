//! Q6_K: 256 element(s) per block of 210 bytes, `w = d * sc * (q - 32)`.
//!
//! # Encoding
//! 1. [`fit_scale`] finds a real-valued scale for each sub-block of 16 elements.
//! 2. `d` is the scale of largest magnitude divided by -128, rounded up to f16.
//! 3. For each sub-block the integers next to the fitted scale are tried with the codes nearest under
//!    them, and the one of least squared error is kept.
//! 4. With `sc * (q - 32)` fixed, `d` is a least-squares problem with one unknown over the whole block; its
//!    rounded solution starts another pass of step 3, kept if the error falls.

use super::fit::{f16_not_below, finite, fit_scale, nearest_f16, signed_extreme};
use super::pack::{pack_nibbles, read_f16, unpack_nibbles};
use super::{Block, BlockType, Encode};
use half::f16;

const SUB_BLOCK: usize = 16;
const REFITS: usize = 2;

/// Where the search places a sub-block's value of largest magnitude.
const EXTREME_LEVELS: [f64; 12] =
    [-33.5, -33.0, -32.5, -32.0, -31.5, -31.0, -30.5, -30.0, 30.5, 31.0, 31.5, 32.0];

/// One Q6_K block.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// Low nibbles.
    pub ql: [u8; 128],
    /// Upper two bits.
    pub qh: [u8; 64],
    /// One signed scale per 16 elements.
    pub scales: [i8; 16],
    /// Scale of the sub-block scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<BlockQ6K>() == 210);

impl BlockQ6K {
    /// The block with this unit, these multiples and codes, below 64, of its elements.
    pub fn from_codes(d: f16, scales: [i8; 16], codes: &[u8; 256]) -> Self {
        let (ql, qh) = pack_6bit(codes);
        Self { ql, qh, scales, d: d.to_le_bytes() }
    }
}

impl Block for BlockQ6K {
    const TYPE: BlockType = BlockType::Q6K;
    const LEN: usize = 256;

    fn decode(&self, out: &mut [f32]) {
        let d = read_f16(self.d);
        let codes = unpack_6bit(&self.ql, &self.qh);
        for (i, (value, code)) in out.iter_mut().zip(codes).enumerate() {
            *value = d * f32::from(self.scales[i / SUB_BLOCK]) * (f32::from(code) - 32.0);
        }
    }
}

impl Encode for BlockQ6K {
    /// NaN counts as 0, infinities as the largest f32; values beyond the format's range get the nearest value
    /// inside.
    fn encode(values: &[f32]) -> Self {
        let x: [f64; 256] = finite(values);
        let mut wanted = [0.0; 16];
        for (wanted, x) in wanted.iter_mut().zip(x.chunks_exact(SUB_BLOCK)) {
            *wanted = fit_scale(x, EXTREME_LEVELS.into_iter(), |x| f64::from(nearest_level(x)));
        }
        let mut best = Choice::around(&wanted, f16_not_below(signed_extreme(&wanted) / -128.0), &x);
        for _ in 0..REFITS {
            let next = Choice::around(&best.sub_scales(), best.refit(&x), &x);
            if next.error >= best.error {
                break;
            }
            best = next;
        }
        let levels = best.levels(&x);
        let (ql, qh) = pack_6bit(&levels.map(|level| (level + 32) as u8));
        Self { ql, qh, scales: best.scales, d: best.d.to_le_bytes() }
    }
}

/// The integer in `-32..32` nearest to `x`.
fn nearest_level(x: f64) -> i8 {
    // The cast truncates and saturates at 0.
    ((x + 32.5) as u8).min(63) as i8 - 32
}

/// One complete choice of the unit and the sub-block integers; the codes follow from it.
struct Choice {
    d: f16,
    scales: [i8; 16],
    error: f64,
}

impl Choice {
    /// The best integers next to the wanted sub-block scales.
    fn around(wanted: &[f64; 16], d: f16, x: &[f64; 256]) -> Self {
        let unit = d.to_f64();
        let mut choice = Self { d, scales: [0; 16], error: 0.0 };
        for (j, x) in x.chunks_exact(SUB_BLOCK).enumerate() {
            let centre = if unit == 0.0 { 0 } else { (wanted[j] / unit).round() as i8 };
            let mut best = (0, f64::INFINITY);
            for scale in centre.saturating_sub(1)..=centre.saturating_add(1) {
                let step = unit * f64::from(scale);
                let error = x.iter().map(|&x| (x - step * f64::from(level(x, step))).powi(2)).sum();
                if error < best.1 {
                    best = (scale, error);
                }
            }
            choice.scales[j] = best.0;
            choice.error += best.1;
        }
        choice
    }

    fn sub_scales(&self) -> [f64; 16] {
        self.scales.map(|scale| self.d.to_f64() * f64::from(scale))
    }

    /// Codes minus 32.
    fn levels(&self, x: &[f64; 256]) -> [i8; 256] {
        let steps = self.sub_scales();
        std::array::from_fn(|i| level(x[i], steps[i / SUB_BLOCK]))
    }

    /// The unit that minimises `sum((x - d * u)^2)` with `u = sc * (q - 32)` as chosen.
    fn refit(&self, x: &[f64; 256]) -> f16 {
        let (mut xu, mut uu) = (0.0, 0.0);
        for (i, (x, level)) in x.iter().zip(self.levels(x)).enumerate() {
            let u = f64::from(self.scales[i / SUB_BLOCK]) * f64::from(level);
            xu += x * u;
            uu += u * u;
        }
        nearest_f16(if uu > 0.0 { xu / uu } else { 0.0 })
    }
}

fn level(x: f64, step: f64) -> i8 {
    if step == 0.0 { 0 } else { nearest_level(x / step) }
}

/// Splits codes below 64. Each half of the block is four runs of 32 elements: the low nibbles of `ql` hold
/// runs 0 and 1, the high nibbles runs 2 and 3; bits `2k` and `2k + 1` of a byte of `qh` belong to run `k`.
fn pack_6bit(codes: &[u8; 256]) -> ([u8; 128], [u8; 64]) {
    let (mut ql, mut qh) = ([0; 128], [0; 64]);
    for (half, codes) in codes.chunks_exact(128).enumerate() {
        pack_nibbles(codes, &mut ql[64 * half..][..64]);
        for (i, code) in codes.iter().enumerate() {
            qh[32 * half + i % 32] |= (code >> 4) << (2 * (i / 32));
        }
    }
    (ql, qh)
}

/// Inverse of [`pack_6bit`].
fn unpack_6bit(ql: &[u8; 128], qh: &[u8; 64]) -> [u8; 256] {
    let mut codes = [0; 256];
    for (half, codes) in codes.chunks_exact_mut(128).enumerate() {
        unpack_nibbles(&ql[64 * half..][..64], codes);
        for (i, code) in codes.iter_mut().enumerate() {
            *code |= (qh[32 * half + i % 32] >> (2 * (i / 32)) & 3) << 4;
        }
    }
    codes
}
