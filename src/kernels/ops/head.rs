//! The output head: logits, and the largest of every block of them while the block is in the cache.

use super::linear::Target;
use super::{Executor, Input, Output, Shared};

/// Logits per peak. A multiple of every packing's lanes.
pub const LOGIT_BLOCK: usize = 64;

/// Blocks that are computed before their peaks are taken: the logits of a tile of tokens stay in the cache.
const RUN: usize = 8;
/// Partial results kept side by side.
const LANES: usize = 8;

/// The largest of some logits; positive infinity if one of them is NaN.
pub fn peak(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut is_nan = [false; LANES];
    let (blocks, tail) = logits.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            let logit = block[lane];
            lanes[lane] = if logit > lanes[lane] { logit } else { lanes[lane] };
            is_nan[lane] |= logit.is_nan();
        }
    }
    if is_nan.contains(&true) || tail.iter().any(|logit| logit.is_nan()) {
        return f32::INFINITY;
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |max, logit| max.max(*logit))
}

impl Executor {
    /// Multiplies the input by the matrix of `output` and writes the [`peak`] of every [`LOGIT_BLOCK`] values
    /// to `peaks`, `[token][block]`; the last block of a token may be shorter.
    ///
    /// # Panics
    /// If shapes do not fit each other, or exceed the executor's limits.
    pub fn head(&mut self, input: &Input<'_>, output: &mut Output<'_>, peaks: &mut [f32]) {
        let forms = self.forms(std::iter::once(&output.weights));
        let shape = output.weights.shape();
        let lanes = shape.packing.lanes;
        let blocks = shape.rows.div_ceil(LOGIT_BLOCK);
        assert!(LOGIT_BLOCK.is_multiple_of(lanes), "a block is computed by one part");
        assert_eq!(peaks.len(), input.tokens() * blocks, "peaks");
        let (target, peaks) = (Target::new(output, input), Shared::new(peaks));
        let kernels = self.kernels;
        self.run_on(input, forms, &|part, acts| {
            let mine = part.share(blocks);
            for start in mine.clone().step_by(RUN) {
                let run = start..mine.end.min(start + RUN);
                let group = |block: usize| (block * LOGIT_BLOCK / lanes).min(shape.groups());
                let groups = group(run.start)..group(run.end);
                let rows = target.rows(&groups);
                // SAFETY: shares of different parts are disjoint, and so are the rows and peaks of their blocks.
                unsafe { target.compute(kernels, groups, acts) };
                for token in 0..input.tokens() {
                    // SAFETY: as above.
                    let (logits, peaks) = unsafe {
                        let first = token * blocks;
                        let peaks = peaks.part(first + run.start..first + run.end);
                        (target.part(token, rows.clone()), peaks)
                    };
                    for (out, block) in peaks.iter_mut().zip(logits.chunks(LOGIT_BLOCK)) {
                        *out = peak(block);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_show_what_is_not_a_number() {
        for len in [1, 7, 8, 63, 64] {
            let mut logits: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(peak(&logits), max);
            for at in 0..len {
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
                    let good = std::mem::replace(&mut logits[at], bad);
                    assert_eq!(peak(&logits), f32::INFINITY, "{len} {at} {bad}");
                    logits[at] = good;
                }
            }
        }
        assert_eq!(peak(&[f32::NEG_INFINITY; 9]), f32::NEG_INFINITY);
    }
}
