//! How tokens are chosen, as the caller says it.

use std::fmt::Display;
use std::ops::RangeInclusive;

/// An option outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} is {found}, allowed is {allowed}")]
pub struct OptionError {
    /// The option's name, as in the request.
    pub option: &'static str,
    /// What was given.
    pub found: String,
    /// What may be given.
    pub allowed: String,
}

impl OptionError {
    pub(super) fn new(option: &'static str, found: impl Display, allowed: impl Display) -> OptionError {
        OptionError { option, found: found.to_string(), allowed: allowed.to_string() }
    }
}

/// How a token is chosen from logits.
///
/// The steps, in this order:
/// 1. `repeat_penalty` changes the logits of recent tokens, a [`LogitFilter`](super::LogitFilter) any;
/// 2. temperature 0 takes the most likely token and ends here;
/// 3. `top_k` keeps the most likely tokens;
/// 4. `top_p` keeps, of those, the smallest set of the most likely that holds this share of their
///    probability (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration");
/// 5. `min_p` drops tokens less likely than this share of the most likely one (Nguyen et al. 2024, "Turning
///    Up the Heat");
/// 6. what is left is drawn from with probabilities `softmax(logits / temperature)`.
///
/// Steps 3 to 5 use probabilities at temperature 1. The most likely token always stays.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// 0 to 10; 0 is greedy.
    pub temperature: f32,
    /// Tokens kept; 0 keeps all.
    pub top_k: usize,
    /// 0 to 1; 1 keeps all.
    pub top_p: f32,
    /// 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// 0.01 to 100; 1 changes nothing. Positive logits of tokens seen recently are divided by it, negative
    /// ones multiplied (Keskar et al. 2019, "CTRL").
    pub repeat_penalty: f32,
    /// How many of the last tokens count as recent, prompt included.
    pub repeat_last_n: usize,
    /// Equal seeds give equal draws.
    pub seed: u64,
}

impl Default for SamplerOptions {
    /// Draws at temperature 0.8 among the 40 most likely, `top_p` 0.95, `min_p` 0.05, no penalty, seed 0.
    fn default() -> SamplerOptions {
        SamplerOptions {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl SamplerOptions {
    /// Always the most likely token.
    pub fn greedy() -> SamplerOptions {
        SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// The first option outside its range; NaN is outside of all.
    pub fn validate(&self) -> Result<(), OptionError> {
        in_range("temperature", self.temperature, 0.0..=10.0)?;
        in_range("top_p", self.top_p, 0.0..=1.0)?;
        in_range("min_p", self.min_p, 0.0..=1.0)?;
        in_range("repeat_penalty", self.repeat_penalty, 0.01..=100.0)
    }

    pub(super) fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    pub(super) fn penalizes(&self) -> bool {
        self.repeat_penalty != 1.0 && self.repeat_last_n > 0
    }
}

fn in_range(option: &'static str, found: f32, allowed: RangeInclusive<f32>) -> Result<(), OptionError> {
    if allowed.contains(&found) {
        return Ok(());
    }
    Err(OptionError::new(option, found, format_args!("{} to {}", allowed.start(), allowed.end())))
}
