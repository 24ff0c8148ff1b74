//! Many prompts, one load: scripted prompts from lines of JSON to lines of JSON.
//!
//! # Design
//!
//! ```text
//! items    the lines of the input, each with its place and hash
//!   parse  from a line to an item: our own keys, and the requests of OpenAI's batch files
//!   item   a prompt or messages, with parameters of its own
//! journal  the output: what of it is done already, and one whole line at a time
//!   line   what a line says
//! energy   what the board says of the energy it takes
//! error    why a batch ends early
//! ```
//!
//! Items are answered in the order of the input, by the session that serves everything else: what a prompt shares with
//! the one before is not computed again. What an answer is depends on the item and the options, not on its place or on
//! what was answered before it: a batch that was stopped goes on to the same lines, and one whose input was changed asks
//! only what is new. Of equal lines the first, second and so on are told apart.
//!
//! An item that cannot be answered gets a line with the reason, and the batch goes on; the next run asks it again.

mod calls;
mod energy;
mod error;
mod item;
mod items;
mod journal;
mod line;
mod parse;
mod trouble;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

pub use self::energy::EnergyMeter;
pub use self::error::BatchError;
pub use self::item::Item;
use self::items::{Entry, Items};
pub use self::items::{Input, MAX_LINE_BYTES, input, survey};
pub(in crate::eval) use self::journal::Counts;
pub use self::journal::{Journal, Place};
use self::line::{Answer, Failure, Response, Timings};
pub use self::trouble::ItemError;
use crate::files::Fnv;
use crate::generate::{
    CancelHandle, Choice, Draw, FinishReason, Layout, LogitFilter, Outcome, Request, SamplerOptions, Session,
};
use crate::model::LanguageModel;

/// How long an item waits before it is asked again, where the system had no thread or no memory for it.
const WAITS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// Reasons of failures that a run tells at its end.
const TOLD_FAILURES: usize = 5;

/// What items that do not say otherwise are answered with.
#[derive(Clone, Debug, Default)]
pub struct BatchOptions {
    /// How tokens are chosen. The seed of an item is made of this seed and the item's line.
    pub sampler: SamplerOptions,
    /// At which choices are drawn; without it, and without one of the item's own, the likeliest is taken.
    pub choice_temperature: Option<f32>,
    /// Tokens of an answer at most; `None` for as many as the context holds.
    pub max_tokens: Option<usize>,
    /// The same for answers that are not held to a form, where neither the item nor `max_tokens` says it.
    pub usual_tokens: Option<usize>,
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
    /// What responses to requests call the model.
    pub model: String,
}

impl BatchOptions {
    /// Of what changes answers; not of which items are answered.
    fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.add(
            format!(
                "{:?} {:?} {:?} {:?} {} {}",
                self.sampler, self.max_tokens, self.usual_tokens, self.stop, self.loop_guard, self.basis
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
    /// The tokens of the item's prompt, if it may fit into `context`.
    ///
    /// # Errors
    /// Why it has none, for the item's line.
    fn encode(&self, item: &Item, context: usize, tokens: &mut Vec<u32>) -> Result<(), ItemError>;

    /// The rule that the item's answer follows.
    ///
    /// # Errors
    /// Why it cannot be had, for the item's line.
    fn rule(&self, item: &Item) -> Result<Rule, ItemError>;

    /// The parts of the item's answer.
    ///
    /// # Errors
    /// Why they cannot be had, for the item's line.
    fn layout(&self, _item: &Item) -> Result<Option<Layout>, ItemError> {
        Ok(None)
    }

    /// Whether the reasoning of the item's answer is not told.
    fn hides_reasoning(&self, _item: &Item) -> bool {
        false
    }
}

/// How far a batch has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Items with a line in the output.
    pub done: usize,
    /// Those of them that were answered before.
    pub resumed: usize,
    /// Those of them that could not be answered.
    pub failed: usize,
    /// Whether the batch was cancelled.
    pub cancelled: bool,
}

/// A batch that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// Where it ended.
    pub progress: Progress,
    /// Why the first items that failed did.
    pub failures: Vec<String>,
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
    /// Answers the items of `input`, except those that `output` has answers to. `progress` is told after every item.
    ///
    /// # Errors
    /// If the input cannot be read, or the output was begun with other options or prompts or cannot be written.
    pub fn run(
        &mut self,
        input: Input<'_>,
        output: &mut Journal,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Finished, BatchError> {
        let (mut finished, run) = (Finished::default(), self.options.fingerprint());
        output.check_run(run)?;
        let mut tokens = Vec::new();
        let mut items = Items::new(input, self.options.shard);
        let name = items.name().to_owned();
        while let Some(entry) = items.next()? {
            let state = &mut finished.progress;
            if !entry.is_mine {
                output.check_other_shard(entry.input)?;
                continue;
            }
            let is_over = self.options.limit.is_some_and(|limit| state.done >= limit);
            if is_over && output.is_new() {
                break;
            }
            if is_over && !output.has(entry.input) {
                continue;
            }
            if is_over || output.answer(entry.input).is_some() {
                let failed = output.keep(entry.place, entry.input);
                state.done += 1;
                state.failed += usize::from(failed);
                state.resumed += usize::from(!failed);
                continue;
            }
            let asked = if self.cancel.is_cancelled() {
                None
            } else {
                self.item(&entry, (&name, run), output, &mut tokens)?
            };
            match asked {
                None => {
                    state.cancelled = true;
                    return Ok(finished);
                }
                Some(failure) => {
                    state.done += 1;
                    state.failed += usize::from(failure.is_some());
                    progress(*state);
                    let is_told = finished.failures.len() < TOLD_FAILURES;
                    finished.failures.extend(failure.filter(|_| is_told));
                }
            }
        }
        output.finish()?;
        Ok(finished)
    }

    /// Answers one item and writes its line. Gives nothing if it was cancelled, else why it failed, if it did.
    fn item(
        &mut self,
        entry: &Entry<'_>,
        (name, run): (&str, u64),
        output: &mut Journal,
        tokens: &mut Vec<u32>,
    ) -> Result<Option<Option<String>>, BatchError> {
        let Entry { place, input, .. } = *entry;
        let at = |error: String| format!("{name}, line {}: {error}", place.line.unwrap_or_default());
        let parsed =
            entry.text.clone().and_then(|line| parse::item(line).map_err(|error| at(error.to_string())));
        let item = match &parsed {
            Ok(item) => item,
            Err(error) => {
                let line = entry.text.as_ref().copied().unwrap_or_default();
                let failure = Failure::new(parse::find_id(line), line.contains("\"custom_id\""), error);
                output.write(place, (input, run), &failure, true)?;
                return Ok(Some(Some(error.clone())));
            }
        };
        let before = self.energy.as_ref().and_then(EnergyMeter::joules);
        let answered = self.answer_patiently(item, input, tokens);
        let after = self.energy.as_ref().and_then(EnergyMeter::joules);
        let energy = before.zip(after).map(|(before, after)| after - before).filter(|joules| *joules >= 0.0);
        match answered {
            Ok(Answered { outcome, .. }) if outcome.finish == FinishReason::Cancelled => Ok(None),
            // As a form that was being prepared.
            Err(_) if self.cancel.is_cancelled() => Ok(None),
            Ok(Answered { outcome, seed, logprob, choices, is_formed }) => {
                let answer = Answer {
                    id: item.id.as_ref(),
                    text: &outcome.text,
                    reasoning: outcome.reasoning.as_deref(),
                    tool_calls: &outcome.tool_calls,
                    tokens: &outcome.tokens,
                    prompt_tokens: outcome.prompt_tokens,
                    finish_reason: outcome.finish_name(),
                    complete: is_formed.then_some(outcome.whole),
                    seed,
                    logprob,
                    choices: choices.as_deref(),
                    response: Response::new(item, input, &self.options.model, &outcome),
                    timings: Timings::new(&outcome, energy),
                };
                output.write(place, (input, run), &answer, false)?;
                Ok(Some(None))
            }
            // It says nothing about the item, which is asked again when the batch goes on.
            Err(error) if error.is_passing => Err(BatchError::NoRoom { message: at(error.message) }),
            Err(error) => {
                let error = at(error.message);
                let failure = Failure::new(item.id.clone(), item.is_request, &error);
                output.write(place, (input, run), &failure, true)?;
                Ok(Some(Some(error)))
            }
        }
    }

    fn answer_patiently(
        &mut self,
        item: &Item,
        input: u64,
        tokens: &mut Vec<u32>,
    ) -> Result<Answered, ItemError> {
        let mut waits = WAITS.iter();
        loop {
            match self.answer(item, input, tokens) {
                Err(error) if error.is_passing && !self.cancel.is_cancelled() => match waits.next() {
                    Some(wait) => std::thread::sleep(*wait),
                    None => return Err(error),
                },
                answered => return answered,
            }
        }
    }

    fn answer(&mut self, item: &Item, input: u64, tokens: &mut Vec<u32>) -> Result<Answered, ItemError> {
        tokens.clear();
        self.prepare.encode(item, self.session.context(), tokens)?;
        let rule = self.prepare.rule(item)?;
        let layout = self.prepare.layout(item)?;
        let options = self.options;
        let mut request = Request::new(&*tokens);
        request.max_tokens = item.max_tokens.or(options.max_tokens);
        if matches!(rule, Rule::Free) {
            request.max_tokens = request.max_tokens.or(options.usual_tokens);
        }
        request.sampler = item.sampler(&options.sampler, input);
        let seed = request.sampler.seed;
        let stop: Vec<String> = item.stop.clone().unwrap_or_else(|| options.stop.clone());
        request.stop = stop.into();
        request.logprobs = Some(0);
        request.cancel = Some(self.cancel.clone());
        request.lookup = options.lookup;
        request.layout = layout.map(Cow::Owned);
        request.loop_guard = item.loop_guard.unwrap_or(options.loop_guard && !item.raw);
        if let Rule::Choices(texts) = &rule {
            let temperature = item.temperature.or(options.choice_temperature);
            let draw = temperature.map(|temperature| Draw { temperature, seed });
            let chosen = self.session.choose(&request, texts, draw);
            let (outcome, choices) = chosen.map_err(|error| ItemError::new(&error))?;
            let logprob = choices.iter().find(|choice| choice.text == outcome.text);
            let logprob = logprob.map_or(0.0, |choice| choice.logprob);
            return Ok(Answered { outcome, seed, logprob, choices: Some(choices), is_formed: true });
        }
        let is_formed = !matches!(rule, Rule::Free);
        if let Rule::Filter(filter) = rule {
            request.filter = Some(filter);
        }
        let mut logprob = 0.0;
        let outcome = self.session.generate(request, &mut |event| {
            logprob += event.logprobs.map_or(0.0, |logprobs| f64::from(logprobs.chosen));
            ControlFlow::Continue(())
        });
        let mut outcome = outcome.map_err(|error| ItemError::new(&error))?;
        if self.prepare.hides_reasoning(item) {
            outcome.reasoning = None;
        }
        Ok(Answered { outcome, seed, logprob, choices: None, is_formed })
    }
}

/// An answer with what its line tells besides.
struct Answered {
    outcome: Outcome,
    seed: u64,
    logprob: f64,
    choices: Option<Vec<Choice>>,
    /// It was to have a form.
    is_formed: bool,
}

#[cfg(test)]
mod tests;
