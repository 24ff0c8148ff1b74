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
use std::time::Instant;

use serde::Serialize;

use crate::model::{LanguageModel, LogitRows, Logits, ModelError};
use crate::text::{EncodeOptions, Tokenizer};

use super::grammar::{MAX_GRAMMAR_BYTES, shorten};
use super::logits::{Peak, weight_sum};
use super::metrics::Stopwatch;
use super::sampler::Sampler;
use super::{
    CancelHandle, FinishReason, GenerateError, GrammarError, Outcome, Request, SamplerOptions, Session,
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
        let mut watch = Stopwatch::start(Instant::now());
        let options = draw.map_or_else(SamplerOptions::greedy, Draw::options);
        options.validate()?;
        let mut choices = self.encode_choices(request, choices)?;
        let cached = self.rewind(request.prompt);
        let scored = match self.score(request, cached, &mut choices, &mut watch) {
            Ok(()) => true,
            Err(GenerateError::Model(ModelError::Cancelled)) => false,
            Err(error) => {
                self.clear();
                return Err(error);
            }
        };
        let prompt = request.prompt.len();
        self.model.truncate(prompt);
        if !scored {
            choices.clear();
        }
        let chosen = if scored { Some(pick(&choices, &options)?) } else { None };
        let (tokens, text) = chosen.map_or_else(Default::default, |index: usize| {
            (choices[index].tokens.clone(), choices[index].text.clone())
        });
        let finish = if scored { FinishReason::Complete } else { FinishReason::Cancelled };
        let timings = watch.stop(Instant::now(), 0, 0);
        let outcome = Outcome {
            tokens,
            text,
            reasoning: None,
            tool_calls: vec![],
            finish,
            whole: scored,
            prompt_tokens: prompt,
            cached_tokens: cached,
            timings,
        };
        Ok((outcome, choices))
    }

    /// Checks the request and turns the choices into tokens.
    fn encode_choices(
        &self,
        request: &Request<'_>,
        choices: &[String],
    ) -> Result<Vec<Choice>, GenerateError> {
        check_choices(choices)?;
        if request.prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let mut encoded = vec![];
        for (index, text) in choices.iter().enumerate() {
            let tokens = encode(self.tokenizer(), request.prompt, text).ok_or_else(|| {
                let reason = "the vocabulary cannot write it after this prompt";
                GrammarError::Choice { number: index + 1, text: text.clone(), reason }
            })?;
            encoded.push(Choice { text: text.clone(), tokens, logprob: 0.0, probability: 0.0 });
        }
        let longest = encoded.iter().map(|choice| choice.tokens.len()).max().unwrap_or(0);
        let (tokens, context) = (request.prompt.len() + longest, self.model.context());
        if tokens > context {
            return Err(GenerateError::PromptTooLong { tokens, context });
        }
        Ok(encoded)
    }

    /// Computes the probabilities; the cache holds `cached` tokens of the prompt.
    fn score(
        &mut self,
        request: &Request<'_>,
        cached: usize,
        choices: &mut [Choice],
        watch: &mut Stopwatch,
    ) -> Result<(), GenerateError> {
        let prompt = request.prompt;
        let is_cancelled = || request.cancel.is_some_and(CancelHandle::is_cancelled);
        let mut trie = Trie::new(choices, self.sequence.ends());
        let fed = self.model.feed_rows(&prompt[cached..], 1, &is_cancelled)?;
        trie.measure(fed, 0, 0)?;
        watch.prompt_fed(prompt.len() - cached, Instant::now());
        let rows = self.model.logit_rows().max(1);
        let mut all = prompt.to_vec();
        for index in 0..trie.paths.len() {
            let shared = trie.paths[index].shared;
            all.truncate(prompt.len());
            all.extend_from_slice(&trie.paths[index].choice.tokens);
            self.model.truncate(prompt.len() + shared);
            let mut measured = shared;
            while prompt.len() + measured < all.len() {
                // A model may have had to forget more than it was told to.
                let (start, begin) = (self.model.position(), prompt.len() + measured);
                let end = all.len().min(begin + rows);
                let fed = self.model.feed_rows(&all[start..end], end - begin, &is_cancelled)?;
                trie.measure(fed, index, measured + 1)?;
                measured += end - begin;
            }
        }
        watch.sampled(Instant::now());
        let total = log_sum(choices.iter().map(|choice| choice.logprob));
        if total > f64::NEG_INFINITY {
            choices.iter_mut().for_each(|choice| choice.probability = (choice.logprob - total).exp());
        }
        Ok(())
    }
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
struct Trie<'a> {
    paths: Vec<Path<'a>>,
    /// Any of these ends an answer.
    ends: Vec<u32>,
}

struct Path<'a> {
    choice: &'a mut Choice,
    /// Tokens that it starts with as the path before does.
    shared: usize,
}

impl<'a> Trie<'a> {
    fn new(choices: &'a mut [Choice], ends: Vec<u32>) -> Trie<'a> {
        let mut paths: Vec<Path<'a>> = choices.iter_mut().map(|choice| Path { choice, shared: 0 }).collect();
        paths.sort_by(|a, b| a.choice.tokens.cmp(&b.choice.tokens));
        for index in 1..paths.len() {
            let (before, tokens) = (&paths[index - 1].choice.tokens, &paths[index].choice.tokens);
            paths[index].shared = before.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        }
        Trie { paths, ends }
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
