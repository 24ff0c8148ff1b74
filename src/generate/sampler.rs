//! From logits to a token. See [`SamplerOptions`] for the steps.

use rand::rngs::ChaCha12Rng;
use rand::{Rng, SeedableRng};

use crate::model::{Logits, logit_blocks};

use super::candidates::{CANDIDATE_BYTES, Candidates, Cuts};
use super::logits::{self, Peak};
use super::{GenerateError, LogitFilter, OptionError, SamplerOptions};

/// Bytes per vocabulary entry that a [`Sampler`] reserves at most.
pub(super) const SAMPLER_BYTES_PER_TOKEN: usize = size_of::<f32>() + CANDIDATE_BYTES;

/// Chooses tokens.
///
/// All memory is reserved by [`Sampler::start`].
#[derive(Debug)]
pub struct Sampler {
    vocab_size: usize,
    options: SamplerOptions,
    random: ChaCha12Rng,
    /// Logits as changed by the penalty and a filter, `[vocab]`; empty while neither is in use.
    changed: Vec<f32>,
    /// Their peaks, as in [`Logits`].
    peaks: Vec<f32>,
    candidates: Candidates,
}

impl Sampler {
    /// A greedy sampler for logits of this length.
    pub fn new(vocab_size: usize) -> Sampler {
        Sampler {
            vocab_size,
            options: SamplerOptions::greedy(),
            random: random(0),
            changed: Vec::new(),
            peaks: Vec::new(),
            candidates: Candidates::default(),
        }
    }

    /// Prepares for a sequence of draws: takes the options and starts the random numbers at the seed.
    ///
    /// `filtered` says that [`Sampler::sample`] will be given a filter.
    ///
    /// # Errors
    /// If an option is outside its range.
    pub fn start(&mut self, options: &SamplerOptions, filtered: bool) -> Result<(), OptionError> {
        options.validate()?;
        self.options = options.clone();
        self.random = random(options.seed);
        if filtered || options.penalizes() {
            self.changed.clear();
            self.changed.reserve_exact(self.vocab_size);
            self.peaks.clear();
            self.peaks.reserve_exact(logit_blocks(self.vocab_size));
        }
        if options.is_greedy() {
            return Ok(());
        }
        match self.choice() {
            Choice::Top(count) => self.candidates.reserve_top(count, self.vocab_size),
            Choice::Cut => self.candidates.reserve(self.vocab_size),
            Choice::All => {}
        }
        Ok(())
    }

    /// Chooses the token that follows `history`, given its `logits`.
    ///
    /// `history` ends with the last token; the repetition penalty looks at its end only.
    ///
    /// # Errors
    /// If a logit is NaN or positive infinity, if no token is left, or if the filter fails.
    pub fn sample(
        &mut self,
        logits: Logits<'_>,
        history: &[u32],
        filter: Option<&mut (dyn LogitFilter + '_)>,
    ) -> Result<u32, GenerateError> {
        let peak = Peak::of(logits)?;
        if filter.is_none() && !self.options.penalizes() {
            return Ok(self.choose(logits, peak));
        }
        let mut changed = std::mem::take(&mut self.changed);
        let mut peaks = std::mem::take(&mut self.peaks);
        let chosen = self.change(logits.values, &mut changed, history, filter).and_then(|()| {
            let logits = Logits::scan(&changed, &mut peaks);
            Ok(self.choose(logits, Peak::of(logits)?))
        });
        (self.changed, self.peaks) = (changed, peaks);
        chosen
    }

    /// Applies the penalty and the filter.
    fn change(
        &self,
        logits: &[f32],
        changed: &mut Vec<f32>,
        history: &[u32],
        filter: Option<&mut (dyn LogitFilter + '_)>,
    ) -> Result<(), GenerateError> {
        changed.clear();
        changed.extend_from_slice(logits);
        if self.options.penalizes() {
            penalize(
                logits,
                changed,
                recent(history, self.options.repeat_last_n),
                self.options.repeat_penalty,
            );
        }
        if let Some(filter) = filter {
            filter.apply(changed).map_err(GenerateError::Filter)?;
        }
        Ok(())
    }

    fn choose(&mut self, logits: Logits<'_>, peak: Peak) -> u32 {
        if self.options.is_greedy() {
            return peak.id;
        }
        let SamplerOptions { temperature, top_p, min_p, .. } = self.options;
        let cuts = Cuts { top_p, min_p };
        let unit = self.unit();
        match self.choice() {
            Choice::All => return logits::draw(logits.values, peak, temperature, unit),
            Choice::Cut => self.candidates.take_cut(logits, cuts, peak),
            Choice::Top(count) => {
                self.candidates.take_top(logits, count);
                self.candidates.cut(logits, cuts, peak);
            }
        }
        self.candidates.draw(logits, peak, temperature, unit)
    }

    fn choice(&self) -> Choice {
        let SamplerOptions { top_k, top_p, min_p, .. } = self.options;
        if top_k > 0 && top_k < self.vocab_size {
            Choice::Top(top_k)
        } else if top_p < 1.0 || min_p > 0.0 {
            Choice::Cut
        } else {
            Choice::All
        }
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.random.next_u64() >> 11) as f64 * STEP
    }
}

/// Which tokens a draw starts from.
enum Choice {
    All,
    Cut,
    Top(usize),
}

/// The seed is the start of the key, little endian; the rest is 0.
fn random(seed: u64) -> ChaCha12Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha12Rng::from_seed(key)
}

fn recent(history: &[u32], count: usize) -> &[u32] {
    &history[history.len().saturating_sub(count)..]
}

/// Reads from `logits` and writes to `changed`, so a token that occurs often is penalized once.
fn penalize(logits: &[f32], changed: &mut [f32], recent: &[u32], penalty: f32) {
    for &id in recent {
        let index = id as usize;
        if let (Some(&logit), Some(changed)) = (logits.get(index), changed.get_mut(index)) {
            *changed = if logit > 0.0 { logit / penalty } else { logit * penalty };
        }
    }
}
