//! Many prompts, one load: scripted prompts from lines of JSON to lines of JSON.
//!
//! # Design
//!
//! ```text
//! item     a line of the input: a prompt or messages, with parameters of its own
//! journal  the output: what of it is done already, and one whole line at a time
//! energy   what the board says of the energy it takes
//! error    why a batch ends early
//! ```
//!
//! Items are answered in the order of the input, by the session that serves everything else: what a prompt shares with
//! the one before is not computed again. What an answer is depends on the item, its place in the input and the options,
//! not on what was answered before it: a batch that was stopped goes on to the same lines.
//!
//! An item that cannot be answered gets a line with the reason, and the batch goes on.

mod energy;
mod error;
mod item;
mod journal;

use std::io::BufRead;
use std::ops::ControlFlow;

use serde::Serialize;
use serde_json::Value;

pub use self::energy::EnergyMeter;
pub use self::error::BatchError;
pub use self::item::{Item, MAX_LINE_BYTES};
pub use self::journal::Journal;
use crate::files::{Fnv, Lines};
use crate::generate::{
    CancelHandle, Choice, Draw, FinishReason, LogitFilter, Outcome, Request, SamplerOptions, Session,
};
use crate::model::LanguageModel;

/// What items that do not say otherwise are answered with.
#[derive(Clone, Debug, Default)]
pub struct BatchOptions {
    /// How tokens are chosen. The seed of item `i` is made of this seed and `i`.
    pub sampler: SamplerOptions,
    /// At which choices are drawn; without it, and without one of the item's own, the likeliest is taken.
    pub choice_temperature: Option<f32>,
    /// Tokens of an answer at most; `None` for as many as the context holds.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Tokens to guess ahead.
    pub lookup: usize,
    /// End answers that go in circles, but those to raw prompts.
    pub loop_guard: bool,
    /// A hash of what else answers depend on, such as the model. A batch goes on only with the same.
    pub basis: u64,
    /// The part of the items to answer: those whose index is `shard.0` modulo `shard.1`, if that is not 0.
    pub shard: (usize, usize),
    /// Items to answer at most, those of earlier runs included.
    pub limit: Option<usize>,
}

impl BatchOptions {
    /// Of what changes answers; not of which items are answered.
    fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.add(
            format!(
                "{:?} {:?} {:?} {} {}",
                self.sampler, self.max_tokens, self.stop, self.loop_guard, self.basis
            )
            .as_bytes(),
        );
        hash.add(format!("{:?}", self.choice_temperature).as_bytes());
        hash.finish()
    }
}

/// What an answer may be.
pub enum Rule {
    /// Anything.
    Free,
    /// What this lets pass.
    Filter(Box<dyn LogitFilter>),
    /// One of these.
    Choices(Vec<String>),
}

/// From an item to what the session needs.
pub trait Prepare {
    /// The tokens of the item's prompt.
    ///
    /// # Errors
    /// Why it has none, for the item's line.
    fn encode(&self, item: &Item, tokens: &mut Vec<u32>) -> Result<(), String>;

    /// The rule that the item's answer follows.
    ///
    /// # Errors
    /// Why it cannot be had, for the item's line.
    fn rule(&self, item: &Item) -> Result<Rule, String>;
}

/// How far a batch has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Items with a line in the output.
    pub done: usize,
    /// Those of them that were there before.
    pub resumed: usize,
    /// Those of them that could not be answered in this run.
    pub failed: usize,
    /// Whether the batch was cancelled.
    pub cancelled: bool,
}

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    /// Place in the input, from 0.
    index: usize,
    /// As in the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    /// FNV-1a of the item's line and the options, so that a batch goes on only with what it began with.
    input: String,
    #[serde(flatten)]
    given: Given<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Given<'a> {
    Answer(Answer<'a>),
    Failure { error: String },
}

#[derive(Serialize)]
struct Answer<'a> {
    text: &'a str,
    /// Ids of the answer, without an end token.
    tokens: &'a [u32],
    prompt_tokens: usize,
    finish_reason: &'static str,
    seed: u64,
    /// Sum of the natural log-probabilities of all tokens chosen; of a choice, with its end.
    logprob: f64,
    /// With their probabilities, if it was one of some choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<&'a [Choice]>,
    timings: TimingLine,
}

/// What differs from run to run.
#[derive(Serialize)]
struct TimingLine {
    /// Tokens of the prompt that were in the cache.
    cached_tokens: usize,
    total_ms: f64,
    first_token_ms: Option<f64>,
    prompt_tok_s: Option<f64>,
    decode_tok_s: Option<f64>,
    /// Energy of the whole machine over the item, where the board tells it.
    energy_joules: Option<f64>,
}

/// A batch under way.
pub struct Batch<'a, M> {
    /// What answers.
    pub session: &'a mut Session<M>,
    /// How items become prompts.
    pub prepare: &'a dyn Prepare,
    /// What holds for all items.
    pub options: &'a BatchOptions,
    /// Stops the batch; the item under way gets no line.
    pub cancel: &'a CancelHandle,
    /// Where to read energy, if there is such a place.
    pub energy: Option<EnergyMeter>,
}

impl<M: LanguageModel> Batch<'_, M> {
    /// Answers the items of `input`, except those that `output` has lines of. `progress` is told after every item.
    ///
    /// # Errors
    /// If the input cannot be read or is not the one that the output began with, or the output cannot be written.
    pub fn run(
        &mut self,
        input: &mut Lines<impl BufRead>,
        output: &mut Journal,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Progress, BatchError> {
        let mut state = Progress::default();
        let options = self.options.fingerprint();
        let mut tokens = Vec::new();
        let mut items = 0..;
        while let Some(line) = input.next_filled()? {
            let (index, line) = (items.next().unwrap_or_default(), line.text.trim());
            let (part, parts) = self.options.shard;
            if parts > 0 && index % parts != part {
                continue;
            }
            if self.options.limit.is_some_and(|limit| state.done >= limit) {
                break;
            }
            let mut hash = Fnv::default();
            hash.add(&options.to_le_bytes());
            hash.add(line.as_bytes());
            let input = format!("{:016x}", hash.finish());
            if output.is_done(index, &input)? {
                state.done += 1;
                state.resumed += 1;
                continue;
            }
            if self.cancel.is_cancelled()
                || !self.item(index, line, input, (output, &mut tokens), &mut state)?
            {
                state.cancelled = true;
                break;
            }
            state.done += 1;
            progress(state);
        }
        if !state.cancelled {
            output.check_all_used()?;
        }
        Ok(state)
    }

    /// Answers one item and writes its line; false if it was cancelled.
    fn item(
        &mut self,
        index: usize,
        line: &str,
        input: String,
        (output, tokens): (&mut Journal, &mut Vec<u32>),
        state: &mut Progress,
    ) -> Result<bool, BatchError> {
        let parsed = Item::parse(line);
        let id = parsed.as_ref().ok().and_then(|item| item.id.clone());
        let before = self.energy.as_ref().and_then(EnergyMeter::joules);
        let answered = parsed.and_then(|item| self.answer(&item, index, tokens));
        let after = self.energy.as_ref().and_then(EnergyMeter::joules);
        let energy = before.zip(after).map(|(before, after)| after - before).filter(|joules| *joules >= 0.0);
        let line = |given| Line { index, id: id.as_ref(), input, given };
        match answered {
            Ok(Answered { outcome, .. }) if outcome.finish == FinishReason::Cancelled => return Ok(false),
            Ok(Answered { outcome, seed, logprob, choices }) => {
                let timings = timing_line(&outcome, energy);
                let answer = Answer {
                    text: &outcome.text,
                    tokens: &outcome.tokens,
                    prompt_tokens: outcome.prompt_tokens,
                    finish_reason: outcome.finish.name(),
                    seed,
                    logprob,
                    choices: choices.as_deref(),
                    timings,
                };
                output.write(&line(Given::Answer(answer)))?;
            }
            Err(error) => {
                state.failed += 1;
                output.write(&line(Given::Failure { error }))?;
            }
        }
        Ok(true)
    }

    fn answer(&mut self, item: &Item, index: usize, tokens: &mut Vec<u32>) -> Result<Answered, String> {
        item.check()?;
        tokens.clear();
        self.prepare.encode(item, tokens)?;
        let mut rule = self.prepare.rule(item)?;
        let options = self.options;
        let mut request = Request::new(tokens);
        request.max_tokens = item.max_tokens.or(options.max_tokens);
        request.sampler = item.sampler(&options.sampler, index);
        let seed = request.sampler.seed;
        let stop: Vec<String> = item.stop.clone().map_or_else(|| options.stop.clone(), Into::into);
        request.stop = &stop;
        request.logprobs = Some(0);
        request.cancel = Some(self.cancel);
        request.lookup = options.lookup;
        request.loop_guard = item.loop_guard.unwrap_or(options.loop_guard && item.raw != Some(true));
        if let Rule::Choices(texts) = &rule {
            let temperature = item.temperature.or(options.choice_temperature);
            let draw = temperature.map(|temperature| Draw { temperature, seed });
            let chosen = self.session.choose(&request, texts, draw);
            let (outcome, choices) = chosen.map_err(|error| with_sources(&error))?;
            let logprob = choices.iter().find(|choice| choice.text == outcome.text);
            let logprob = logprob.map_or(0.0, |choice| choice.logprob);
            return Ok(Answered { outcome, seed, logprob, choices: Some(choices) });
        }
        if let Rule::Filter(filter) = &mut rule {
            request.filter = Some(&mut **filter);
        }
        let mut logprob = 0.0;
        let outcome = self.session.generate(request, &mut |event| {
            logprob += event.logprobs.map_or(0.0, |logprobs| f64::from(logprobs.chosen));
            ControlFlow::Continue(())
        });
        let outcome = outcome.map_err(|error| with_sources(&error))?;
        Ok(Answered { outcome, seed, logprob, choices: None })
    }
}

/// An answer with what its line tells besides.
struct Answered {
    outcome: Outcome,
    seed: u64,
    logprob: f64,
    choices: Option<Vec<Choice>>,
}

fn timing_line(outcome: &Outcome, energy_joules: Option<f64>) -> TimingLine {
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let timings = &outcome.timings;
    TimingLine {
        cached_tokens: outcome.cached_tokens,
        total_ms: milliseconds(timings.total),
        first_token_ms: timings.first_token.map(milliseconds),
        prompt_tok_s: timings.prompt_tokens_per_second(),
        decode_tok_s: timings.decode_tokens_per_second(),
        energy_joules,
    }
}

/// An error with what it comes from.
fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

#[cfg(test)]
mod tests;
