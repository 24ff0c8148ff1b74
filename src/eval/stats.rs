//! The arithmetic of measurements.

use serde::Serialize;

/// Middle and ends of a set of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The middle one; of an even number, the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Summarizes `samples`; `None` if there are none.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[half - 1] + sorted[half]) / 2.0
        } else {
            sorted[half]
        };
        Some(Self { median, min, max })
    }
}

/// Mean of a set of values and how certain it is, one value at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Mean {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean; NaN without values.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Standard error of the mean: `sqrt((mean of squares - square of mean) / (count - 1))`. `None` for
    /// fewer than two values.
    pub fn standard_error(&self) -> Option<f64> {
        let spread = self.squares / self.count as f64 - self.mean() * self.mean();
        // Rounding can leave equal values a spread below zero.
        (self.count > 1).then(|| (spread.max(0.0) / (self.count - 1) as f64).sqrt())
    }
}

/// The value below which a share of `sorted` values lies, interpolated between neighbours; `None` if there are none.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

/// Natural logarithm of the probability of `token` under `logits`: exponentials in f32, their sum in f64.
///
/// # Panics
/// If `token` is not below the number of logits.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from((logit - most).exp())).sum();
    f64::from(logits[token as usize] - most) - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        let odd = Summary::of(&[9.0, 1.0, 4.0]).unwrap();
        assert_eq!(odd, Summary { median: 4.0, min: 1.0, max: 9.0 });
        let even = Summary::of(&[10.0, 1.0, 4.0, 3.0]).unwrap();
        assert_eq!(even, Summary { median: 3.5, min: 1.0, max: 10.0 });
        assert_eq!(Summary::of(&[7.0]).unwrap(), Summary { median: 7.0, min: 7.0, max: 7.0 });
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn quantiles_interpolate() {
        let sorted = [1.0, 2.0, 4.0];
        for (share, value) in [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (0.75, 3.0), (1.0, 4.0)] {
            assert_eq!(quantile(&sorted, share), Some(value));
        }
        assert_eq!(quantile(&[], 0.5), None);
    }

    /// Of 1, 2, 3, 6: mean 3, mean of squares 12.5, so sqrt((12.5 - 9) / 3) = 1.0801234.
    #[test]
    fn standard_error_by_hand() {
        let mut mean = Mean::default();
        for value in [1.0, 2.0, 3.0, 6.0] {
            mean.add(value);
        }
        assert_eq!(mean.mean(), 3.0);
        assert!((mean.standard_error().unwrap() - 1.080_123_449_734_643_5).abs() < 1e-12);
    }

    #[test]
    fn standard_error_needs_two_values_and_survives_equal_ones() {
        let mut mean = Mean::default();
        mean.add(0.1);
        assert_eq!(mean.standard_error(), None);
        mean.add(0.1);
        mean.add(0.1);
        assert!(mean.standard_error().unwrap() < 1e-8);
    }

    /// Logits ln 1, ln 2, ln 5 give probabilities 1/8, 2/8, 5/8, at any offset.
    #[test]
    fn log_probability_by_hand() {
        for offset in [0.0, -300.0, 300.0] {
            let logits = [1.0f32, 2.0, 5.0].map(|p| p.ln() + offset);
            for (token, p) in [(0, 0.125f64), (1, 0.25), (2, 0.625)] {
                assert!((log_probability(&logits, token) - p.ln()).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn log_probability_of_damaged_logits_is_not_finite() {
        assert!(!log_probability(&[f32::NAN, 0.0], 0).is_finite());
        assert!(!log_probability(&[f32::NAN, 0.0], 1).is_finite());
        assert!(!log_probability(&[f32::INFINITY, 0.0], 1).is_finite());
    }
}
