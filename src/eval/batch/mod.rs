//! Many prompts, one load: scripted prompts from lines of JSON to lines of JSON.
//!
//! # Design
//!
//! ```text
//! items    the lines of the input, each with its place and hash
//!   seen   how often a line was there before
//! journal  the output: what of it is done already, and one whole line at a time
//!   line   what a line says
//! energy   what the board says of the energy it takes
//! error    why a batch ends early
//! ```
//!
//! Items are answered in the order of the input, as many at once as there are slots: what a prompt shares with one
//! before is not computed again. Lines are written in the order of the input. What an answer is depends on the item
//! and the options, not on its place or on what was answered before it: a batch that was stopped goes on to the
//! same lines, and one whose input was changed asks only what is new. Of equal lines the first, second and so on
//! are told apart.
//!
//! An item that cannot be answered gets a line with the reason, and the batch goes on; the next run asks it again.

mod energy;
mod error;
mod items;
mod journal;
mod line;
mod seen;

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

pub use self::energy::EnergyMeter;
pub use self::error::BatchError;
use self::items::{Entry, Items};
pub use self::items::{Input, MAX_LINE_BYTES, input, survey};
pub(in crate::eval) use self::journal::Counts;
pub use self::journal::{Journal, Place};
use self::line::{Answer, Failure, Response, Timings};
use super::ordered::{self, Ordered};
use crate::ask::{self, Defaults, Item, ItemError, Prepare, Prepared, parse};
use crate::files::Fnv;
use crate::generate::{CancelHandle, Done, FinishReason, Job, Slots};

/// How long an item waits before it is asked again, where the system had no thread or no memory for it.
const WAITS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// Reasons of failures that a run tells at its end.
const TOLD_FAILURES: usize = 5;

/// What holds for all items.
#[derive(Clone, Debug, Default)]
pub struct BatchOptions {
    /// What items that do not say otherwise are answered with.
    pub defaults: Defaults,
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
        self.defaults.add_to(&mut hash);
        hash.add_number(self.basis);
        hash.finish()
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
pub struct Batch<'a> {
    /// What answers, as many items at once as there are slots.
    pub slots: &'a mut Slots<'static>,
    /// How items become prompts.
    pub prepare: &'a dyn Prepare,
    /// What holds for all items.
    pub options: &'a BatchOptions,
    /// Stops the batch; the items under way get no line.
    pub cancel: &'a CancelHandle,
    /// Where to read energy, if there is such a place. It is told of items that are answered alone.
    pub energy: Option<EnergyMeter>,
}

/// An item whose line is to be written.
struct Pending {
    place: Place,
    input: u64,
    step: Step,
}

enum Step {
    /// Its line is there.
    Keep,
    /// It cannot be answered, and why.
    Fail { id: Option<Value>, is_request: bool, error: String },
    /// The system had no room for it, and what it said.
    NoRoom(String),
    /// It is being answered.
    Answer(Box<Asked>),
}

/// An item that is being answered.
struct Asked {
    item: Item,
    seed: u64,
    /// Its answer has a form.
    is_formed: bool,
    /// Joules before it.
    before: Option<f64>,
}

impl Batch<'_> {
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
        let run = self.options.fingerprint();
        output.check_run(run)?;
        let mut items = Items::new(input, self.options.shard);
        let done = self.answer_all(&mut items, (output, run), progress);
        // After an error or a cancellation some are still under way.
        self.slots.abandon();
        done
    }

    fn answer_all(
        &mut self,
        items: &mut Items<'_>,
        (output, run): (&mut Journal, u64),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Finished, BatchError> {
        let (mut finished, mut pending, mut begun) = (Finished::default(), Ordered::<Pending>::new(), 0);
        let (name, mut has_more) = (items.name().to_owned(), true);
        loop {
            // First what is done: to read the next item may take until somebody has seen the answer.
            while let Some((item, answer)) = pending.pop() {
                let is_kept = matches!(item.step, Step::Keep);
                if !self.write(item, answer, (&name, output, run), &mut finished)? {
                    finished.progress.cancelled = true;
                    return Ok(finished);
                }
                if !is_kept {
                    progress(finished.progress);
                }
            }
            while has_more && pending.has_room(self.slots) && !pending.is_ready() {
                if self.cancel.is_cancelled() {
                    finished.progress.cancelled = true;
                    return Ok(finished);
                }
                has_more = self.begin(items, output, &mut pending, &mut begun)?;
            }
            if !has_more && pending.is_empty() {
                break;
            }
            pending.step(self.slots);
        }
        output.finish()?;
        Ok(finished)
    }

    /// Begins the next item; whether there may be more. `begun` counts those that have or will have a line.
    fn begin(
        &mut self,
        items: &mut Items<'_>,
        output: &Journal,
        pending: &mut Ordered<Pending>,
        begun: &mut usize,
    ) -> Result<bool, BatchError> {
        let name = items.name().to_owned();
        let Some(Entry { place, input, is_mine, text }) = items.next()? else { return Ok(false) };
        if !is_mine {
            output.check_other_shard(input)?;
            return Ok(true);
        }
        let is_over = self.options.limit.is_some_and(|limit| *begun >= limit);
        if is_over && output.is_new() {
            return Ok(false);
        }
        if is_over && !output.has(input) {
            return Ok(true);
        }
        *begun += 1;
        if is_over || output.answer(input).is_some() {
            pending.push(Pending { place, input, step: Step::Keep });
            return Ok(true);
        }
        let parsed = text.clone().and_then(|line| parse::item(line).map_err(|error| error.to_string()));
        let item = match parsed {
            Ok(item) => item,
            Err(error) => {
                let line = text.unwrap_or_default();
                let error = at(&name, place, &error);
                let (id, is_request) = (parse::find_id(line), line.contains("\"custom_id\""));
                pending.push(Pending { place, input, step: Step::Fail { id, is_request, error } });
                return Ok(true);
            }
        };
        let before = self.energy.as_ref().and_then(EnergyMeter::joules);
        match self.prepare_patiently(&item, input) {
            Ok(Prepared { request, choices, is_formed }) => {
                let seed = request.sampler.seed;
                let job = match choices {
                    Some((texts, draw)) => Job::Choose(request, texts, draw),
                    None => Job::Generate(request, Box::new(|_| ControlFlow::Continue(()))),
                };
                let step = Step::Answer(Box::new(Asked { item, seed, is_formed, before }));
                let begun = pending.begin(Pending { place, input, step }, job, self.slots);
                debug_assert!(begun.is_ok(), "there is room for another job");
            }
            Err(error) => {
                let message = at(&name, place, &error.message);
                let step = match error.is_passing() {
                    true => Step::NoRoom(message),
                    false => Step::Fail { id: item.id, is_request: item.is_request, error: message },
                };
                pending.push(Pending { place, input, step });
            }
        }
        Ok(true)
    }

    /// Prepares an item; where the system has no room for it at the moment, it is tried again a few times.
    fn prepare_patiently(&self, item: &Item, input: u64) -> Result<Prepared, ItemError> {
        let mut waits = WAITS.iter();
        loop {
            match self.prepare(item, input) {
                Err(error) if error.is_passing() && !self.cancel.is_cancelled() => match waits.next() {
                    Some(wait) => std::thread::sleep(*wait),
                    None => return Err(error),
                },
                prepared => return prepared,
            }
        }
    }

    fn prepare(&self, item: &Item, input: u64) -> Result<Prepared, ItemError> {
        let (context, defaults) = (self.slots.context(), &self.options.defaults);
        ask::prepare(self.prepare, item, (context, input), defaults, self.cancel)
    }

    /// Writes the line of an item; false if it was cancelled and gets none.
    fn write(
        &mut self,
        pending: Pending,
        answer: Option<ordered::Answer>,
        (name, output, run): (&str, &mut Journal, u64),
        finished: &mut Finished,
    ) -> Result<bool, BatchError> {
        let Pending { place, input, step } = pending;
        let state = &mut finished.progress;
        let failed = match step {
            Step::Keep => {
                let failed = output.keep(place, input)?;
                state.done += 1;
                state.failed += usize::from(failed);
                state.resumed += usize::from(!failed);
                return Ok(true);
            }
            // It says nothing about the item, which is asked again when the batch goes on; as a form that was being
            // prepared.
            _ if self.cancel.is_cancelled() && !answer.as_ref().is_some_and(is_whole) => return Ok(false),
            Step::NoRoom(message) => return Err(BatchError::NoRoom { message }),
            Step::Fail { id, is_request, error } => Some((id, is_request, error)),
            Step::Answer(asked) => {
                let answered = match answer {
                    Some(answer) => answer.map_err(|error| ItemError::new(&error)),
                    None => Err("the model did not answer".into()),
                };
                match answered {
                    Ok(done) => {
                        self.write_answer(&asked, done, place, (output, input, run))?;
                        None
                    }
                    Err(error) if error.is_passing() => {
                        return Err(BatchError::NoRoom { message: at(name, place, &error.message) });
                    }
                    Err(error) => {
                        let Item { id, is_request, .. } = asked.item;
                        Some((id, is_request, at(name, place, &error.message)))
                    }
                }
            }
        };
        let state = &mut finished.progress;
        state.done += 1;
        if let Some((id, is_request, error)) = failed {
            state.failed += 1;
            output.write(place, (input, run), &Failure::new(id, is_request, &error))?;
            if finished.failures.len() < TOLD_FAILURES {
                finished.failures.push(error);
            }
        }
        Ok(true)
    }

    fn write_answer(
        &self,
        asked: &Asked,
        done: Done,
        place: Place,
        (output, input, run): (&mut Journal, u64, u64),
    ) -> Result<(), BatchError> {
        let Asked { item, seed, is_formed, before } = asked;
        let (mut outcome, choices) = match done {
            Done::Chosen(outcome, choices) => (outcome, Some(choices)),
            Done::Generated(outcome) => (outcome, None),
            Done::Predicted => return Ok(()),
        };
        let chosen = choices.iter().flatten().find(|choice| choice.text == outcome.text);
        let logprob = chosen.map(|choice| choice.logprob).or(outcome.logprob).unwrap_or(0.0);
        if self.prepare.hides_reasoning(item) {
            outcome.reasoning = None;
        }
        let after = self.energy.as_ref().and_then(EnergyMeter::joules);
        let energy = before.zip(after).map(|(before, after)| after - before);
        let energy = energy.filter(|joules| *joules >= 0.0 && self.slots.len() == 1);
        let answer = Answer {
            id: item.id.as_ref(),
            text: &outcome.text,
            reasoning: outcome.reasoning.as_deref(),
            tool_calls: &outcome.tool_calls,
            tokens: &outcome.tokens,
            prompt_tokens: outcome.prompt_tokens,
            finish_reason: outcome.finish_name(),
            complete: is_formed.then_some(outcome.whole),
            seed: *seed,
            logprob,
            choices: choices.as_deref(),
            response: Response::new(item, input, &self.options.model, &outcome),
            timings: Timings::new(&outcome, energy),
        };
        output.write(place, (input, run), &answer)?;
        Ok(())
    }
}

/// Whether an answer came to its end.
fn is_whole(answer: &ordered::Answer) -> bool {
    match answer {
        Ok(Done::Generated(outcome) | Done::Chosen(outcome, _)) => outcome.finish != FinishReason::Cancelled,
        _ => false,
    }
}

/// An error with the place of its item.
fn at(name: &str, place: Place, error: &str) -> String {
    format!("{name}, line {}: {error}", place.line.unwrap_or_default())
}

#[cfg(test)]
mod tests;
