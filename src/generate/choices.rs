//! How likely each of some answers is.
//!
//! The probability of an answer is that of all its tokens in a row and of an end token after them (the model may
//! have several; their probabilities add up; if it has none, the end counts as certain). The tokens are those
//! that the tokenizer makes of the text, after the prompt. Over a list of answers these probabilities are
//! divided by their sum, which gives what the model would answer if it had to be one of them: unlike a mask at
//! every token, which prefers answers whose first token is likely, whatever must follow. There is no such mask for
//! choices anywhere.
//!
//! The choices form a trie of tokens; the model reads each of its nodes once.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Instant;

use serde::Serialize;

use crate::model::{LanguageModel, LogitRows, Logits};
use crate::text::{EncodeOptions, Tokenizer};

use super::generation::check_prompt;
use super::grammar::{MAX_GRAMMAR_BYTES, shorten};
use super::logits::{Peak, weight_sum};
use super::metrics::Stopwatch;
use super::sampler::Sampler;
use super::sequence::{OnToken, Sequence};
use super::task::{Limits, Read, Rewind, Room, Task};
use super::{
    CancelHandle, FinishReason, GenerateError, GrammarError, Outcome, Request, SamplerOptions, Session, tally,
};

/// Draws a choice at random, in place of taking the likeliest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// 0 to 10. At 1 choices come as often as their probabilities say, at 0 it is always the likeliest.
    pub temperature: f32,
    /// Equal seeds give equal draws.
    pub seed: u64,
}

impl Draw {
    fn options(self) -> SamplerOptions {
        let Draw { temperature, seed } = self;
        SamplerOptions { temperature, seed, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplerOptions::greedy() }
    }
}

/// A possible answer. Serialized, a probability of zero has the logarithm null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Its text.
    pub text: String,
    /// Its tokens, without an end token.
    #[serde(skip)]
    pub tokens: Vec<u32>,
    /// Natural logarithm of the probability that the model gives it and then ends; negative infinity if the model
    /// rules it out.
    pub logprob: f64,
    /// Its share of the probability of all choices; 0 for all if the model rules out all.
    pub probability: f64,
}

/// Texts to choose from.
pub const MAX_CHOICES: usize = 1024;

/// Texts tried before a choice to find its tokens within a line.
const LEADS: [&str; 4] = ["\n", ".", "a", ":"];

impl<M: LanguageModel> Session<M> {
    /// Answers with one of `choices`, of which it computes the probabilities: with the likeliest (of equals the
    /// first), unless `draw` asks for one at random. Of the request, `prompt` and `cancel` count. If it was
    /// cancelled, there is no answer and there are no probabilities.
    ///
    /// # Errors
    /// If there are no choices or too many, one is empty, there twice or not possible with this vocabulary, the
    /// prompt and the longest choice do not fit into the context, the temperature is outside its range, or the model
    /// rules out all.
    pub fn choose(
        &mut self,
        request: &Request<'_>,
        choices: &[String],
        draw: Option<Draw>,
    ) -> Result<(Outcome, Vec<Choice>), GenerateError> {
        let limits = self.limits();
        let mut choosing =
            Choosing::start(request, choices, draw, &mut self.sequence, &mut self.model, limits)?;
        self.drive(&mut choosing, &mut |_| ControlFlow::Continue(()))?;
        choosing.end(&mut self.sequence, &mut self.model)
    }
}

/// Choices whose probabilities are being computed.
pub(super) struct Choosing {
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens of the prompt that were in the cache.
    cached: usize,
    trie: Trie,
    options: SamplerOptions,
    cancel: Option<CancelHandle>,
    watch: Stopwatch,
    at: Place,
    is_interrupted: bool,
}

/// What is to be measured next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Prompt,
    /// What follows the first `measured` tokens of a path was measured.
    Path {
        index: usize,
        measured: usize,
    },
}

impl Choosing {
    /// As [`Session::choose`].
    pub(super) fn start(
        request: &Request<'_>,
        choices: &[String],
        draw: Option<Draw>,
        sequence: &mut Sequence,
        cache: &mut dyn Rewind,
        limits: Limits,
    ) -> Result<Self, GenerateError> {
        let watch = Stopwatch::start(Instant::now());
        let options = draw.map_or_else(SamplerOptions::greedy, Draw::options);
        options.validate()?;
        let choices = encode_choices(&request.prompt, choices, sequence.tokenizer())?;
        let longest = choices.iter().map(|choice| choice.tokens.len()).max().unwrap_or(0);
        let prompt = request.prompt.len();
        check_prompt(&request.prompt, prompt + longest, limits)?;
        let cached = sequence.rewind(&request.prompt, cache);
        let trie = Trie::new(choices, sequence.ends());
        let cancel = request.cancel.clone();
        let at = Place::Prompt;
        Ok(Self { prompt, cached, trie, options, cancel, watch, at, is_interrupted: false })
    }

    /// The answer, and the choices with their probabilities. The cache keeps the prompt.
    ///
    /// # Errors
    /// If the model rules out all choices.
    pub(super) fn end(
        mut self,
        sequence: &mut Sequence,
        cache: &mut dyn Rewind,
    ) -> Result<(Outcome, Vec<Choice>), GenerateError> {
        self.watch.sampled(Instant::now());
        sequence.drop_draft();
        cache.truncate(self.prompt);
        let scored = !self.is_interrupted;
        let choices = if scored { self.trie.into_choices() } else { vec![] };
        let chosen = if scored { Some(pick(&choices, &self.options)?) } else { None };
        let (tokens, text) = chosen.map_or_else(Default::default, |index: usize| {
            (choices[index].tokens.clone(), choices[index].text.clone())
        });
        let finish = if scored { FinishReason::Complete } else { FinishReason::Cancelled };
        let outcome = Outcome {
            tokens,
            text,
            reasoning: None,
            tool_calls: vec![],
            logprob: chosen.map(|index| choices[index].logprob),
            finish,
            whole: scored,
            prompt_tokens: self.prompt,
            cached_tokens: self.cached,
            timings: self.watch.stop(Instant::now(), 0, 0),
        };
        tally::count(&outcome);
        Ok((outcome, choices))
    }

    /// Goes to the path `index`, of which a part may have been measured with those before.
    fn begin(&mut self, index: usize, sequence: &mut Sequence, cache: &mut dyn Rewind) {
        if let Some(path) = self.trie.paths.get(index) {
            sequence.set_draft(&path.choice.tokens);
            cache.truncate(self.prompt + path.shared);
        }
        let measured = self.trie.paths.get(index).map_or(0, |path| path.shared);
        self.at = Place::Path { index, measured };
    }
}

impl Task for Choosing {
    fn next(&mut self, sequence: &mut Sequence, cache: &mut dyn Rewind, room: Room) -> Option<Read> {
        if self.is_cancelled() {
            self.interrupt();
        }
        if self.is_interrupted {
            return None;
        }
        while let Place::Path { index, measured } = self.at {
            match self.trie.paths.get(index) {
                None => return None,
                Some(path) if measured < path.choice.tokens.len() => break,
                Some(_) => self.begin(index + 1, sequence, cache),
            }
        }
        // A model may have had to forget more than it was told to.
        let start = cache.position();
        let (begin, all) = match self.at {
            Place::Prompt => (self.prompt - 1, self.prompt),
            Place::Path { measured, .. } => (self.prompt + measured, sequence.all().len()),
        };
        let end = all.min(begin + room.rows).min(start + room.tokens);
        Some(Read { range: start..end, rows: end.saturating_sub(begin.max(start)) })
    }

    fn take(
        &mut self,
        sequence: &mut Sequence,
        logits: LogitRows<'_>,
        _: OnToken<'_>,
    ) -> Result<(), GenerateError> {
        if logits.is_empty() {
            return Ok(());
        }
        match self.at {
            Place::Prompt => {
                self.trie.measure(logits, 0, 0)?;
                self.watch.prompt_fed(self.prompt - self.cached, Instant::now());
                let first = self.trie.paths.first();
                sequence.set_draft(first.map_or(&[], |path| path.choice.tokens.as_slice()));
                self.at = Place::Path { index: 0, measured: 0 };
            }
            Place::Path { index, measured } => {
                self.trie.measure(logits, index, measured + 1)?;
                self.at = Place::Path { index, measured: measured + logits.rows().count() };
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let Place::Path { index, measured } = self.at else { return self.is_interrupted };
        let is_last = self.trie.paths.get(index).is_none_or(|path| {
            measured >= path.choice.tokens.len() && self.trie.paths[index + 1..].iter().all(Path::is_known)
        });
        self.is_interrupted || is_last
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled)
    }

    fn interrupt(&mut self) {
        self.is_interrupted = true;
    }
}

/// Turns the choices into tokens.
fn encode_choices(
    prompt: &[u32],
    choices: &[String],
    tokenizer: &Tokenizer,
) -> Result<Vec<Choice>, GenerateError> {
    check_choices(choices)?;
    let encoded = choices.iter().enumerate().map(|(index, text)| {
        let tokens = encode(tokenizer, prompt, text).ok_or_else(|| {
            let reason = "the vocabulary cannot write it after this prompt";
            GrammarError::Choice { number: index + 1, text: text.clone(), reason }
        })?;
        Ok(Choice { text: text.clone(), tokens, logprob: 0.0, probability: 0.0 })
    });
    encoded.collect()
}

/// Makes sure that there are choices, neither empty nor equal nor too many.
///
/// # Errors
/// The first that is wrong.
pub fn check_choices(choices: &[String]) -> Result<(), GrammarError> {
    let (found, limit) = (choices.len(), MAX_CHOICES);
    if !(1..=limit).contains(&found) {
        return Err(GrammarError::ChoiceCount { found, limit });
    }
    let bytes: usize = choices.iter().map(String::len).sum();
    if bytes > MAX_GRAMMAR_BYTES {
        let what = "list of choices";
        return Err(GrammarError::TooLong { what, found: bytes, limit: MAX_GRAMMAR_BYTES });
    }
    let mut seen = HashSet::new();
    for (index, text) in choices.iter().enumerate() {
        let reason = match (text.is_empty(), seen.insert(text)) {
            (true, _) => "it is empty",
            (_, false) => "it is there twice",
            _ => continue,
        };
        return Err(GrammarError::Choice { number: index + 1, text: shorten(text), reason });
    }
    Ok(())
}

/// Choices in the order of their tokens: those with a common start are next to each other.
struct Trie {
    paths: Vec<Path>,
    /// Any of these ends an answer.
    ends: Vec<u32>,
}

struct Path {
    /// Place among the choices as they were given.
    index: usize,
    choice: Choice,
    /// Tokens that it starts with as the path before does.
    shared: usize,
}

impl Path {
    /// Whether the path before has all of its tokens.
    fn is_known(&self) -> bool {
        self.shared == self.choice.tokens.len()
    }
}

impl Trie {
    fn new(choices: Vec<Choice>, ends: Vec<u32>) -> Trie {
        let paths = choices.into_iter().enumerate();
        let mut paths: Vec<Path> = paths.map(|(index, choice)| Path { index, choice, shared: 0 }).collect();
        paths.sort_by(|a, b| a.choice.tokens.cmp(&b.choice.tokens));
        for index in 1..paths.len() {
            let (before, tokens) = (&paths[index - 1].choice.tokens, &paths[index].choice.tokens);
            paths[index].shared = before.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        }
        Trie { paths, ends }
    }

    /// The choices as they were given, with their probabilities.
    fn into_choices(mut self) -> Vec<Choice> {
        self.paths.sort_by_key(|path| path.index);
        let mut choices: Vec<Choice> = self.paths.into_iter().map(|path| path.choice).collect();
        let total = log_sum(choices.iter().map(|choice| choice.logprob));
        if total > f64::NEG_INFINITY {
            choices.iter_mut().for_each(|choice| choice.probability = (choice.logprob - total).exp());
        }
        choices
    }

    /// Adds what the logits after the first `depth` and more tokens of path `first` say of what follows there, to
    /// every path that starts with these tokens; none before `first` does.
    fn measure(&mut self, rows: LogitRows<'_>, first: usize, depth: usize) -> Result<(), GenerateError> {
        for (logits, depth) in rows.rows().zip(depth..) {
            let softmax = LogSoftmax::of(logits)?;
            let end = match self.ends.is_empty() {
                true => 0.0,
                false => log_sum(self.ends.iter().map(|id| softmax.get(*id))),
            };
            let others = self.paths[first + 1..].iter().take_while(|path| path.shared >= depth).count();
            for path in &mut self.paths[first..=first + others] {
                let next = path.choice.tokens.get(depth);
                path.choice.logprob += next.map_or(end, |id| softmax.get(*id));
            }
        }
        Ok(())
    }
}

/// The tokens of `text` after `prompt`; `None` if there are none that give it.
fn encode(tokenizer: &Tokenizer, prompt: &[u32], text: &str) -> Option<Vec<u32>> {
    let plain = |text: &str| {
        let mut tokens = vec![];
        tokenizer.encode(text, EncodeOptions::default(), &mut tokens).ok().map(|()| tokens)
    };
    // What a token says depends on no more than the one before it.
    let last = &prompt[prompt.len().saturating_sub(1)..];
    let gives_text = |tokens: &[u32]| {
        let joined = [last, tokens].concat();
        let (before, all) = (tokenizer.decode(last, true), tokenizer.decode(&joined, true));
        !tokens.is_empty() && all.strip_prefix(before.as_slice()) == Some(text.as_bytes())
    };
    let tokens = plain(text)?;
    if gives_text(&tokens) {
        return Some(tokens);
    }
    // The tokenizer puts a space before what starts a text; within one there is none.
    LEADS.iter().find_map(|lead| {
        let (before, all) = (plain(lead)?, plain(&format!("{lead}{text}"))?);
        let tokens = all.strip_prefix(before.as_slice())?.to_vec();
        gives_text(&tokens).then_some(tokens)
    })
}

/// Takes the likeliest choice, or draws one; nothing is cut off before.
fn pick(choices: &[Choice], options: &SamplerOptions) -> Result<usize, GenerateError> {
    let mut likeliest = 0;
    for (index, choice) in choices.iter().enumerate() {
        if choice.logprob > choices[likeliest].logprob {
            likeliest = index;
        }
    }
    if choices[likeliest].logprob == f64::NEG_INFINITY {
        return Err(GenerateError::NoTokenAllowed);
    }
    if options.is_greedy() {
        return Ok(likeliest);
    }
    let logits: Vec<f32> = choices.iter().map(|choice| choice.probability.ln() as f32).collect();
    let mut sampler = Sampler::new(logits.len());
    sampler.start(options, false)?;
    Ok(sampler.sample(Logits::scan(&logits, &mut vec![]), &[], None)? as usize)
}

/// Log-probabilities of one row of logits.
struct LogSoftmax<'a> {
    logits: &'a [f32],
    /// What is subtracted from a logit.
    total: f64,
}

impl<'a> LogSoftmax<'a> {
    fn of(logits: Logits<'a>) -> Result<LogSoftmax<'a>, GenerateError> {
        let max = Peak::of(logits)?.logit;
        let total = f64::from(max) + weight_sum(logits.values, max, 1.0).ln();
        Ok(LogSoftmax { logits: logits.values, total })
    }

    fn get(&self, id: u32) -> f64 {
        let logit = self.logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        (f64::from(logit) - self.total).min(0.0)
    }
}

/// The logarithm of a sum of exponentials.
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + values.map(|value| (value - max).exp()).sum::<f64>().ln()
}
