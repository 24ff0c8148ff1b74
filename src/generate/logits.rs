//! Arithmetic on logits: maximum, softmax sums, drawing.

use super::GenerateError;
use crate::kernels::ops::peak;
use crate::model::Logits;

/// Partial results kept side by side. Part of the definition of a sum: it fixes the order of additions.
const LANES: usize = 8;
/// Logits per step of a draw.
const BLOCK: usize = 256;

/// The most likely token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Peak {
    /// Of equal logits the lowest id.
    pub(super) id: u32,
    pub(super) logit: f32,
}

impl Peak {
    /// Finds it and makes sure that `logits` hold neither NaN nor positive infinity.
    pub(super) fn of(logits: Logits<'_>) -> Result<Peak, GenerateError> {
        let max = peak(logits.peaks);
        if max == f32::INFINITY {
            let token = position(logits.values, |logit| logit.is_nan() || *logit == f32::INFINITY);
            return Err(GenerateError::NotFinite { token });
        }
        if max == f32::NEG_INFINITY {
            return Err(GenerateError::NoTokenAllowed);
        }
        let block = logits.blocks().find(|(_, peak, _)| *peak == max);
        let id = block.map_or(0, |(first, _, values)| first + position(values, |logit| *logit == max));
        Ok(Peak { id, logit: max })
    }
}

/// Index of the first logit for which `wanted` holds.
fn position(logits: &[f32], wanted: impl Fn(&f32) -> bool) -> u32 {
    logits.iter().position(wanted).unwrap_or_default() as u32
}

/// `exp(x)` for `x <= 0`, to 3 ulp; exactly 0 below -87, where results would leave the normal range.
///
/// Multiplications and additions are not fused, so that results are the same on every processor.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
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
#[inline]
pub(super) fn weight(logit: f32, max: f32, temperature: f32) -> f32 {
    exp((logit - max) / temperature)
}

/// Sum of the weights of all logits.
pub(super) fn weight_sum(logits: &[f32], max: f32, temperature: f32) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (blocks, tail) = logits.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] += f64::from(weight(block[lane], max, temperature));
        }
    }
    for (lane, logit) in lanes.iter_mut().zip(tail) {
        *lane += f64::from(weight(*logit, max, temperature));
    }
    lanes.iter().sum()
}

/// Draws an id from the weights of all logits with `unit`, uniform in `[0, 1)`.
pub(super) fn draw(logits: &[f32], peak: Peak, temperature: f32, unit: f64) -> u32 {
    let mut left = unit * weight_sum(logits, peak.logit, temperature);
    for (number, block) in logits.chunks(BLOCK).enumerate() {
        let sum = weight_sum(block, peak.logit, temperature);
        if left >= sum {
            left -= sum;
            continue;
        }
        let first = (number * BLOCK) as u32;
        let weights = block.iter().map(|logit| weight(*logit, peak.logit, temperature));
        if let Some(id) = pick((first..).zip(weights), left) {
            return id;
        }
    }
    // Reached only when rounding left a rest beyond the last block.
    peak.id
}

/// The id at which the running sum of the weights exceeds `left`, the last one drawable if none does;
/// `None` when all weights are 0.
pub(super) fn pick(weights: impl Iterator<Item = (u32, f32)>, mut left: f64) -> Option<u32> {
    let mut last = None;
    for (id, weight) in weights {
        if weight > 0.0 {
            last = Some(id);
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
    }
    last
}
