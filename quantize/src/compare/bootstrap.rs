//! Two quantized files of one model against each other.
//!
//! Both were measured on the same chunks of text. Some texts are harder than others for either, so what is resampled
//! are the chunks, with both files' figures together (the paired percentile bootstrap: Efron and Tibshirani 1993, An
//! Introduction to the Bootstrap, chapter 13). A file is called better or worse only where the 95 % interval excludes
//! equality. All resamples come from one seed.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use smolt::eval::divergence::{Divergence, Point};
use smolt::eval::stats::quantile;

/// Resamples.
pub(super) const RESAMPLES: usize = 2000;
/// Fewest chunks that are resampled: of fewer there are too few different resamples.
pub(super) const FEWEST_CHUNKS: usize = 10;
/// Divergences below are rounding: a sum of probabilities in f64.
pub(super) const KL_FLOOR: f64 = 1e-12;

/// A file beside the first one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Against {
    /// Whether the file is better: what the divergence says, or `mixed` if another measure clearly says the opposite.
    pub verdict: Verdict,
    /// Mean divergence divided by that of the first file.
    pub kl_ratio: Estimate,
    /// Logarithm of the perplexity minus that of the first file.
    pub ln_ppl_difference: Estimate,
    /// Share of positions with the base's likeliest token minus that of the first file.
    pub same_top_difference: Estimate,
}

/// An estimate with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Of all chunks.
    pub estimate: f64,
    /// 2.5 % of resampled estimates are below; null if there are fewer than 10 chunks.
    pub low: Option<f64>,
    /// 2.5 % of resampled estimates are above; null if there are fewer than 10 chunks.
    pub high: Option<f64>,
    /// What the interval says; never `mixed`.
    pub verdict: Verdict,
}

/// Which of two files is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The file is better than the first one.
    Better,
    /// The file is worse than the first one.
    Worse,
    /// They cannot be told apart on this text.
    Unclear,
    /// The measures disagree.
    Mixed,
}

/// How two means, of the file and of the first one, are compared.
struct Measure {
    compare: fn(f64, f64) -> f64,
    /// What equal files give.
    equal: f64,
    less_is_better: bool,
}

/// Compares a file with the first one; both on the same chunks.
pub(super) fn against(other: &Divergence, first: &Divergence) -> Against {
    let pairs = |value: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        other.chunk_means(value).zip(first.chunk_means(value)).collect()
    };
    let ratio = |a: f64, b: f64| a.max(KL_FLOOR) / b.max(KL_FLOOR);
    let difference = |a, b| a - b;
    let kl = Measure { compare: ratio, equal: 1.0, less_is_better: true };
    let ppl = Measure { compare: difference, equal: 0.0, less_is_better: true };
    let top = Measure { compare: difference, equal: 0.0, less_is_better: false };
    let kl_ratio = kl.estimate(&pairs(|point| point.kl));
    let ln_ppl_difference = ppl.estimate(&pairs(|point| point.nll[1]));
    let same_top_difference = top.estimate(&pairs(|point| f64::from(u8::from(point.same_top))));
    let verdict = overall([kl_ratio, ln_ppl_difference, same_top_difference].map(|one| one.verdict));
    Against { verdict, kl_ratio, ln_ppl_difference, same_top_difference }
}

/// The first verdict counts, unless the measures disagree.
fn overall(verdicts: [Verdict; 3]) -> Verdict {
    if verdicts.contains(&Verdict::Better) && verdicts.contains(&Verdict::Worse) {
        return Verdict::Mixed;
    }
    verdicts[0]
}

impl Measure {
    fn estimate(&self, pairs: &[(f64, f64)]) -> Estimate {
        let of = |drawn: &mut dyn Iterator<Item = (f64, f64)>| {
            let (a, b) = drawn.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
            (self.compare)(a / pairs.len() as f64, b / pairs.len() as f64)
        };
        let estimate = of(&mut pairs.iter().copied());
        if pairs.len() < FEWEST_CHUNKS {
            return Estimate { estimate, low: None, high: None, verdict: Verdict::Unclear };
        }
        // The same seed for each measure and file, so that all see the same resamples.
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut draw = || of(&mut (0..pairs.len()).map(|_| pairs[random.random_range(0..pairs.len())]));
        let mut samples: Vec<f64> = (0..RESAMPLES).map(|_| draw()).collect();
        samples.sort_by(f64::total_cmp);
        let (low, high) = (quantile(&samples, 0.025), quantile(&samples, 0.975));
        Estimate { estimate, low, high, verdict: self.verdict(low, high) }
    }

    fn verdict(&self, low: Option<f64>, high: Option<f64>) -> Verdict {
        let (less, more) = if self.less_is_better {
            (Verdict::Better, Verdict::Worse)
        } else {
            (Verdict::Worse, Verdict::Better)
        };
        match (low, high) {
            (_, Some(high)) if high < self.equal => less,
            (Some(low), _) if low > self.equal => more,
            _ => Verdict::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of one scored position each.
    fn chunks(points: impl Iterator<Item = (f64, f64, bool)>) -> Divergence {
        let points = points.map(|(kl, nll, same_top)| Point { kl, nll: [1.0, nll], same_top });
        Divergence { points: points.collect(), n_ctx: 3 }
    }

    #[test]
    fn a_file_with_half_the_divergence_everywhere_is_better() {
        let first = chunks((0..40).map(|i| (0.1 + 0.01 * f64::from(i), 2.0, i % 2 == 0)));
        let half = chunks((0..40).map(|i| (0.05 + 0.005 * f64::from(i), 1.5, true)));
        let better = against(&half, &first);
        assert_eq!(better.verdict, Verdict::Better);
        // However chunks are drawn, the ratio is 1/2 and the difference -1/2.
        for (estimate, value) in [(better.kl_ratio, 0.5), (better.ln_ppl_difference, -0.5)] {
            assert!((estimate.estimate - value).abs() < 1e-12, "{estimate:?}");
            assert!((estimate.low.unwrap() - value).abs() < 1e-12, "{estimate:?}");
            assert!((estimate.high.unwrap() - value).abs() < 1e-12, "{estimate:?}");
        }
        let top = better.same_top_difference;
        assert_eq!((top.estimate, top.verdict), (0.5, Verdict::Better));
        // Half of 40 drawn chunks differ: standard deviation sqrt(1/4/40) = 0.079, 1.96 times it 0.155.
        assert!(
            (top.low.unwrap() - 0.345).abs() < 0.03 && (top.high.unwrap() - 0.655).abs() < 0.03,
            "{top:?}"
        );
        let worse = against(&first, &half);
        assert_eq!((worse.verdict, worse.kl_ratio.estimate), (Verdict::Worse, 2.0));
        assert_eq!(against(&half, &first), better);
    }

    #[test]
    fn equal_files_and_single_lucky_chunks_are_unclear() {
        let first = chunks((0..20).map(|i| (0.1 * f64::from(i), 2.0, true)));
        let same = against(&first, &first);
        assert_eq!((same.verdict, same.kl_ratio.estimate), (Verdict::Unclear, 1.0));
        assert_eq!(same.ln_ppl_difference.estimate, 0.0);
        let lucky = chunks((0..20).map(|i| (if i == 19 { 0.0 } else { 0.1 * f64::from(i) }, 2.0, true)));
        let one = against(&lucky, &first);
        assert!(one.kl_ratio.estimate < 0.95 && one.verdict == Verdict::Unclear, "{one:?}");
    }

    #[test]
    fn measures_that_disagree_are_mixed() {
        let first = chunks((0..20).map(|_| (0.2, 2.0, true)));
        let other = chunks((0..20).map(|_| (0.1, 2.1, true)));
        assert_eq!(against(&other, &first).verdict, Verdict::Mixed);
    }

    #[test]
    fn an_exact_first_file_is_better_than_any_other() {
        let exact = chunks((0..20).map(|_| (0.0, 1.0, true)));
        let other = chunks((0..20).map(|_| (0.1, 1.0, true)));
        let result = against(&other, &exact);
        assert!(result.verdict == Verdict::Worse && result.kl_ratio.estimate.is_finite(), "{result:?}");
        assert_eq!(against(&exact, &exact).kl_ratio.estimate, 1.0);
    }

    #[test]
    fn few_chunks_have_no_interval() {
        let chunks = |count, kl| chunks((0..count).map(move |_| (kl, 1.0, true)));
        let few = against(&chunks(FEWEST_CHUNKS - 1, 0.1), &chunks(FEWEST_CHUNKS - 1, 0.2));
        assert_eq!((few.verdict, few.kl_ratio.estimate), (Verdict::Unclear, 0.5));
        assert_eq!((few.kl_ratio.low, few.kl_ratio.high), (None, None));
        let enough = against(&chunks(FEWEST_CHUNKS, 0.1), &chunks(FEWEST_CHUNKS, 0.2));
        assert_eq!(enough.verdict, Verdict::Better);
    }
}
