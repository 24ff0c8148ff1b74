//! The most likely tokens, in order, and the filters that cut them.

use std::cmp::Ordering;

use crate::model::Logits;

use super::logits::{Peak, pick, weight, weight_sum};

/// Logarithm units by which a floor is lowered, so that rounding in it never loses a token. What it lets
/// through is cut exactly afterwards.
const FLOOR_MARGIN: f64 = 0.01;

/// Bytes that a candidate takes: its id, since its logit is among those of the model.
pub(super) const CANDIDATE_BYTES: usize = size_of::<u32>();

/// More likely first, of equal logits the lower id first. Logits are not NaN.
fn order(values: &[f32]) -> impl Fn(&u32, &u32) -> Ordering {
    |a, b| values[*b as usize].partial_cmp(&values[*a as usize]).unwrap_or(Ordering::Equal).then(a.cmp(b))
}

/// The cuts by probability; 1 and 0 cut nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cuts {
    pub(super) top_p: f32,
    pub(super) min_p: f32,
}

/// Tokens that are still in question, the most likely first.
///
/// Holds ids, at most twice the wanted number, not the vocabulary. All calls for one choice take the same logits.
#[derive(Debug, Default)]
pub(super) struct Candidates(Vec<u32>);

impl Candidates {
    /// Reserves memory for [`Candidates::take_top`] with this `count`.
    pub(super) fn reserve_top(&mut self, count: usize, vocab_size: usize) {
        self.reserve(count.saturating_mul(2).min(vocab_size));
    }

    /// Reserves memory for `count` candidates.
    pub(super) fn reserve(&mut self, count: usize) {
        self.0.clear();
        self.0.reserve_exact(count);
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.0
    }

    /// Takes the `count` most likely tokens that are not masked.
    pub(super) fn take_top(&mut self, logits: Logits<'_>, count: usize) {
        let list = &mut self.0;
        list.clear();
        if count == 0 {
            return;
        }
        // Ids ascend, so a later token must be strictly more likely than the last one kept.
        let mut floor = f32::NEG_INFINITY;
        for (first, peak, block) in logits.blocks() {
            if peak <= floor {
                continue;
            }
            for (id, &logit) in (first..).zip(block) {
                if logit > floor {
                    list.push(id);
                    if list.len() == count.saturating_mul(2) {
                        floor = keep_best(list, count, logits.values);
                    }
                }
            }
        }
        if list.len() > count {
            keep_best(list, count, logits.values);
        }
        list.sort_unstable_by(order(logits.values));
    }

    /// Applies `cuts` to the tokens taken by [`Candidates::take_top`].
    pub(super) fn cut(&mut self, logits: Logits<'_>, cuts: Cuts, peak: Peak) {
        let total = self.0.iter().map(|id| weight_of(*id, logits, peak)).sum();
        self.cut_sorted(logits, cuts, peak, total);
    }

    /// Takes the tokens of all `logits` that `cuts` leave.
    ///
    /// Tokens that together hold less than the share `top_p` leaves out are all left out; each of those
    /// less likely than that share over the size of the vocabulary is one of them, so only the others are
    /// sorted.
    pub(super) fn take_cut(&mut self, logits: Logits<'_>, cuts: Cuts, peak: Peak) {
        let mut floor = f64::from(cuts.min_p);
        let mut total = 0.0;
        if cuts.top_p < 1.0 {
            total = weight_sum(logits.values, peak.logit, 1.0);
            let outside = (1.0 - f64::from(cuts.top_p)) * total;
            floor = floor.max(outside / logits.values.len() as f64);
        }
        // The logarithm of 0 is negative infinity: nothing is below it.
        let floor = (f64::from(peak.logit) + floor.ln() - FLOOR_MARGIN) as f32;
        self.0.clear();
        let blocks = logits.blocks().filter(|(_, peak, _)| *peak >= floor);
        let ids = blocks.flat_map(|(first, _, block)| (first..).zip(block));
        let ids = ids.filter(|(_, logit)| **logit >= floor && logit.is_finite());
        self.0.extend(ids.map(|(id, _)| id));
        self.0.sort_unstable_by(order(logits.values));
        self.cut_sorted(logits, cuts, peak, total);
    }

    /// `total` is the weight of all tokens that `top_p` is a share of.
    fn cut_sorted(&mut self, logits: Logits<'_>, cuts: Cuts, peak: Peak, total: f64) {
        let list = &mut self.0;
        let mut kept = list.len();
        if cuts.top_p < 1.0 {
            let wanted = f64::from(cuts.top_p) * total;
            let mut sum = 0.0;
            let reaches = |id: &u32| {
                sum += weight_of(*id, logits, peak);
                sum >= wanted
            };
            kept = list.iter().position(reaches).map_or(kept, |last| last + 1);
        }
        let least = f64::from(cuts.min_p);
        kept = kept.min(list.partition_point(|id| weight_of(*id, logits, peak) >= least));
        list.truncate(kept.max(1));
    }

    /// Draws an id at `temperature` with `unit`, uniform in `[0, 1)`.
    pub(super) fn draw(&self, logits: Logits<'_>, peak: Peak, temperature: f32, unit: f64) -> u32 {
        let logit = |id: u32| logits.values[id as usize];
        let weights = self.0.iter().map(|id| (*id, weight(logit(*id), peak.logit, temperature)));
        let total: f64 = weights.clone().map(|(_, weight)| f64::from(weight)).sum();
        pick(weights, unit * total).unwrap_or(peak.id)
    }
}

/// Probability relative to the most likely token, at temperature 1.
fn weight_of(id: u32, logits: Logits<'_>, peak: Peak) -> f64 {
    f64::from(weight(logits.values[id as usize], peak.logit, 1.0))
}

/// Keeps the best `count` in any order and returns the lowest logit kept. `count` is from 1 to the length.
fn keep_best(list: &mut Vec<u32>, count: usize, values: &[f32]) -> f32 {
    let (_, last, _) = list.select_nth_unstable_by(count - 1, order(values));
    let floor = values[*last as usize];
    list.truncate(count);
    floor
}
