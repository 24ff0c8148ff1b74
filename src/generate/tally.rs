//! What this process has answered, in numbers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{FinishReason, Outcome};

/// Bounds of [`Tally::first_token`], in milliseconds; the last bucket has none.
pub const FIRST_TOKEN_MS: [u64; 9] = [50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000];
/// Bounds of [`Tally::rate`], in tokens per second; the last bucket has none.
pub const RATES: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/// Counts of answers. They hold nothing of what was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tally {
    /// Answers that the model, a form or a stop string ended.
    pub stop: u64,
    /// Answers cut at their limit, or at that of the context.
    pub length: u64,
    /// Answers that went in circles.
    pub loops: u64,
    /// Answers that were not wanted any more.
    pub cancelled: u64,
    /// Prompt tokens that the model read.
    pub read_tokens: u64,
    /// Prompt tokens that were in the cache already.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub tokens: u64,
    /// Answers by the time until their first token: up to each of [`FIRST_TOKEN_MS`], and above.
    pub first_token: [u64; FIRST_TOKEN_MS.len() + 1],
    /// Answers by their tokens per second after the first: up to each of [`RATES`], and above.
    pub rate: [u64; RATES.len() + 1],
}

static TALLY: Mutex<Tally> = Mutex::new(Tally::NOTHING);

/// Returns the counts of all answers of this process.
pub fn tally() -> Tally {
    *TALLY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    /// Before the first answer.
    pub const NOTHING: Tally = Tally {
        stop: 0,
        length: 0,
        loops: 0,
        cancelled: 0,
        read_tokens: 0,
        cached_tokens: 0,
        tokens: 0,
        first_token: [0; FIRST_TOKEN_MS.len() + 1],
        rate: [0; RATES.len() + 1],
    };

    /// Adds another's counts, as far as numbers go.
    pub fn add(&mut self, other: &Tally) {
        self.combine(other, u64::saturating_add);
    }

    /// Takes another's counts away, of which there are no more.
    pub fn subtract(&mut self, other: &Tally) {
        self.combine(other, u64::saturating_sub);
    }

    fn combine(&mut self, other: &Tally, with: fn(u64, u64) -> u64) {
        let own = [
            &mut self.stop,
            &mut self.length,
            &mut self.loops,
            &mut self.cancelled,
            &mut self.read_tokens,
            &mut self.cached_tokens,
            &mut self.tokens,
        ];
        let others = [
            other.stop,
            other.length,
            other.loops,
            other.cancelled,
            other.read_tokens,
            other.cached_tokens,
            other.tokens,
        ];
        let buckets = self.first_token.iter_mut().chain(&mut self.rate);
        let other_buckets = other.first_token.iter().chain(&other.rate);
        for (own, other) in own.into_iter().chain(buckets).zip(others.iter().chain(other_buckets)) {
            *own = with(*own, *other);
        }
    }

    /// Counts an answer.
    fn count(&mut self, outcome: &Outcome) {
        let number = match outcome.finish {
            FinishReason::EndToken(_) | FinishReason::Complete | FinishReason::StopString(_) => {
                &mut self.stop
            }
            FinishReason::Length | FinishReason::Context => &mut self.length,
            FinishReason::Loop => &mut self.loops,
            FinishReason::Cancelled => &mut self.cancelled,
        };
        *number += 1;
        let timings = &outcome.timings;
        self.read_tokens += timings.fed_tokens as u64;
        self.cached_tokens += outcome.cached_tokens as u64;
        self.tokens += timings.sampled_tokens as u64;
        if let Some(time) = timings.first_token {
            self.first_token[bucket(&FIRST_TOKEN_MS, |bound| time <= Duration::from_millis(bound))] += 1;
        }
        if let Some(rate) = timings.decode_tokens_per_second() {
            self.rate[bucket(&RATES, |bound| rate <= bound as f64)] += 1;
        }
    }
}

/// The first bound that holds, else the number of bounds.
fn bucket(bounds: &[u64], holds: impl Fn(u64) -> bool) -> usize {
    bounds.iter().position(|bound| holds(*bound)).unwrap_or(bounds.len())
}

/// Counts an answer of this process.
pub(super) fn count(outcome: &Outcome) {
    TALLY.lock().unwrap_or_else(PoisonError::into_inner).count(outcome);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Timings;

    fn outcome(finish: FinishReason, first: u64, tokens: usize) -> Outcome {
        Outcome {
            tokens: vec![],
            text: String::new(),
            reasoning: None,
            tool_calls: vec![],
            logprob: None,
            finish,
            whole: true,
            prompt_tokens: 12,
            cached_tokens: 5,
            timings: Timings {
                fed_tokens: 7,
                first_token: Some(Duration::from_millis(first)),
                sampled_tokens: tokens,
                decode: Duration::from_secs(1),
                ..Timings::default()
            },
        }
    }

    #[test]
    fn answers_are_counted_by_kind_and_time() {
        let mut tally = Tally::default();
        for (finish, first, tokens) in [
            (FinishReason::EndToken(1), 50, 2),
            (FinishReason::Complete, 51, 3),
            (FinishReason::StopString(0), 30_000, 6),
            (FinishReason::Length, 30_001, 1),
            (FinishReason::Context, 0, 501),
            (FinishReason::Loop, 400, 502),
            (FinishReason::Cancelled, 400, 11),
        ] {
            tally.count(&outcome(finish, first, tokens));
        }
        assert_eq!((tally.stop, tally.length, tally.loops, tally.cancelled), (3, 2, 1, 1));
        assert_eq!((tally.read_tokens, tally.cached_tokens, tally.tokens), (49, 35, 1026));
        assert_eq!(tally.first_token, [2, 1, 0, 2, 0, 0, 0, 0, 1, 1]);
        // The one of a single token has no rate.
        assert_eq!(tally.rate, [1, 1, 1, 1, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn sums_and_differences_keep_within_numbers() {
        let mut one = Tally::default();
        one.count(&outcome(FinishReason::Length, 10, 4));
        let mut sum = one;
        sum.add(&one);
        assert_eq!((sum.length, sum.tokens, sum.first_token[0], sum.rate[2]), (2, 8, 2, 2));
        sum.subtract(&one);
        assert_eq!(sum, one);
        sum.subtract(&Tally { tokens: 9, ..one });
        assert_eq!(sum, Tally::default());
        let mut most = Tally { stop: u64::MAX, ..Tally::default() };
        most.add(&Tally { stop: 1, ..Tally::default() });
        assert_eq!(most.stop, u64::MAX);
    }
}
