//! Log-probabilities of what the model said, before any filter or temperature.

use crate::model::Logits;

use super::candidates::{CANDIDATE_BYTES, Candidates};
use super::logits::{Peak, weight_sum};
use super::{GenerateError, OptionError};

/// Alternatives that may be asked for.
pub const MAX_LOGPROBS: usize = 100;

/// Bytes that [`Logprobs`] reserve at most.
pub(super) const LOGPROB_BYTES: usize = MAX_LOGPROBS * (2 * CANDIDATE_BYTES + size_of::<TokenLogprob>());

/// A token and its natural log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// At most 0.
    pub logprob: f32,
}

/// Log-probabilities at one position: the log-softmax of the model's logits.
///
/// The repetition penalty, filters and temperature have no part in them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprobs<'a> {
    /// Of the token chosen; negative infinity if the model ruled it out.
    pub chosen: f32,
    /// The most likely tokens, as many as asked for, the most likely first. Tokens that the model ruled out
    /// are not among them; the token chosen may be.
    pub top: &'a [TokenLogprob],
}

/// Computes [`TokenLogprobs`]; memory is reserved by `start`.
#[derive(Debug, Default)]
pub(super) struct Logprobs {
    /// Alternatives wanted; `None` for no log-probabilities at all.
    count: Option<usize>,
    chosen: f32,
    candidates: Candidates,
    top: Vec<TokenLogprob>,
}

impl Logprobs {
    pub(super) fn start(&mut self, count: Option<usize>, vocab_size: usize) -> Result<(), OptionError> {
        self.count = count;
        if let Some(count) = count {
            if count > MAX_LOGPROBS {
                return Err(OptionError::new("logprobs", count, format_args!("0 to {MAX_LOGPROBS}")));
            }
            self.candidates.reserve_top(count, vocab_size);
            self.top.clear();
            self.top.reserve_exact(count);
        }
        Ok(())
    }

    /// Measures `chosen` and the alternatives, if wanted.
    pub(super) fn measure(&mut self, logits: Logits<'_>, chosen: u32) -> Result<(), GenerateError> {
        let Some(count) = self.count else { return Ok(()) };
        let max = Peak::of(logits)?.logit;
        let log_sum = weight_sum(logits.values, max, 1.0).ln();
        // At most 0 also where rounding would leave a trace above it.
        let logprob = |logit: f32| ((f64::from(logit) - f64::from(max) - log_sum) as f32).min(0.0);
        self.chosen = logits.values.get(chosen as usize).map_or(f32::NEG_INFINITY, |logit| logprob(*logit));
        self.candidates.take_top(logits, count);
        self.top.clear();
        let top = self.candidates.ids().iter();
        self.top
            .extend(top.map(|id| TokenLogprob { id: *id, logprob: logprob(logits.values[*id as usize]) }));
        Ok(())
    }

    /// What was measured last.
    pub(super) fn get(&self) -> Option<TokenLogprobs<'_>> {
        self.count.map(|_| TokenLogprobs { chosen: self.chosen, top: &self.top })
    }
}

/// Measures logits that a caller has, such as predictions.
#[derive(Debug)]
pub struct Scorer {
    logprobs: Logprobs,
    peaks: Vec<f32>,
}

impl Scorer {
    /// For so many alternatives (0 to [`MAX_LOGPROBS`]) of a vocabulary.
    ///
    /// # Errors
    /// If they are more.
    pub fn new(alternatives: usize, vocab_size: usize) -> Result<Scorer, OptionError> {
        let mut logprobs = Logprobs::default();
        // The likeliest is wanted in any case.
        logprobs.start(Some(alternatives.max(1)), vocab_size)?;
        Ok(Scorer { logprobs, peaks: vec![] })
    }

    /// Measures `token`, or the likeliest, and returns it.
    ///
    /// # Errors
    /// If a logit is not finite.
    pub fn score(
        &mut self,
        values: &[f32],
        token: Option<u32>,
    ) -> Result<(u32, TokenLogprobs<'_>), GenerateError> {
        let Scorer { logprobs, peaks } = self;
        let logits = Logits::scan(values, peaks);
        let token = match token {
            Some(token) => token,
            None => {
                logprobs.candidates.take_top(logits, 1);
                *logprobs.candidates.ids().first().ok_or(GenerateError::NoTokenAllowed)?
            }
        };
        logprobs.measure(logits, token)?;
        let measured = TokenLogprobs { chosen: logprobs.chosen, top: &logprobs.top };
        Ok((token, measured))
    }
}
