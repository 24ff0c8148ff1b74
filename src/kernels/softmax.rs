//! Exponentials and their sums, for probabilities of tokens.
//!
//! The same code is compiled for every instruction set, and gives the same bits: additions have one order, and nothing is
//! fused.

use super::{Kernels, scalar};
use std::sync::OnceLock;

/// Partial results kept side by side. Part of the definition of a sum: it fixes the order of additions.
const LANES: usize = 8;
/// Logits whose weights are computed together, whole lanes.
const BLOCK: usize = 128;

/// `exp(x)` for `x <= 0`, to 3 ulp; exactly 0 below -87, where results would leave the normal range.
///
/// Multiplications and additions are not fused, so that results are the same on every processor.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding and subtracting it rounds to an integer, which the low bits of the sum hold.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first exact in few bits (Cody and Waite's reduction).
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ONE_BITS: u32 = 1.0f32.to_bits();
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(ONE_BITS));
    if x < -87.0 { 0.0 } else { p * power }
}

/// `exp((logit - max) / temperature)`: 1 for the most likely token, 0 for a masked one.
#[inline(always)]
pub(crate) fn weight(logit: f32, max: f32, temperature: f32) -> f32 {
    exp((logit - max) / temperature)
}

/// Sum of the weights of all logits, by the kernels of [`Kernels::detect`].
pub(crate) fn weight_sum(logits: &[f32], max: f32, temperature: f32) -> f64 {
    static DETECTED: OnceLock<&Kernels> = OnceLock::new();
    let kernels = DETECTED.get_or_init(|| Kernels::detect().unwrap_or(&scalar::KERNELS));
    // SAFETY: the kernels are available on this processor.
    unsafe { (kernels.weight_sum)(logits, max, temperature) }
}

/// The definition of [`weight_sum`], to be compiled for an instruction set.
#[inline(always)]
pub(crate) fn sum(logits: &[f32], max: f32, temperature: f32) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let mut weights = [0.0f32; BLOCK];
    // Weights first: both loops become vector instructions, one with both would not.
    for block in logits.chunks(BLOCK) {
        for (weight_of, logit) in weights.iter_mut().zip(block) {
            *weight_of = weight(*logit, max, temperature);
        }
        for row in weights[..block.len()].chunks(LANES) {
            lanes.iter_mut().zip(row).for_each(|(lane, weight)| *lane += f64::from(*weight));
        }
    }
    lanes.iter().sum()
}
