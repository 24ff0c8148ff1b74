//! Arithmetic on logits: maximum, softmax sums, drawing.

use super::GenerateError;
use crate::kernels::ops::peak;
pub(super) use crate::kernels::softmax::{weight, weight_sum};
use crate::model::Logits;

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
