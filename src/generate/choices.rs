//! How likely each of some answers is.
//!
//! The probability of an answer is that of all its tokens in a row and of an end token after them (the model may
//! have several; their probabilities add up; if it has none, the end counts as certain). The tokens are those
//! that the tokenizer makes of the text, after the prompt. Over a list of answers these probabilities are
//! divided by their sum, which gives what the model would answer if it had to be one of them: unlike a mask at
//! every token, which prefers answers whose first token is likely, whatever must follow.

use std::time::Instant;

use crate::model::{LanguageModel, Logits, ModelError};
use crate::text::{EncodeOptions, Tokenizer};

use super::grammar::check_choices;
use super::logits::{Peak, weight_sum};
use super::metrics::Stopwatch;
use super::sampler::Sampler;
use super::{
    CancelHandle, FinishReason, GenerateError, GrammarError, Outcome, Request, SamplerOptions, Session,
};

/// A possible answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Its text.
    pub text: String,
    /// Its tokens, without an end token.
    pub tokens: Vec<u32>,
    /// Natural logarithm of the probability that the model gives it and then ends; negative infinity if the model
    /// rules it out.
    pub logprob: f64,
    /// Its share of the probability of all choices; 0 for all if the model rules out all.
    pub probability: f64,
}

/// Texts tried before a choice to find its tokens within a line.
const LEADS: [&str; 4] = ["\n", ".", "a", ":"];

impl<M: LanguageModel> Session<M> {
    /// Answers with one of `choices`, of which it computes the probabilities. The sampler's options apply to them
    /// as to the tokens of a vocabulary: at temperature 0 the most likely is chosen. Of the request, `prompt`,
    /// `sampler` and `cancel` count. If it was cancelled, there is no answer and there are no probabilities.
    ///
    /// # Errors
    /// If there are no choices or too many, one is empty, there twice or not possible with this vocabulary, the
    /// prompt and the longest choice do not fit into the context, or the model rules out all.
    pub fn choose(
        &mut self,
        request: &Request<'_>,
        choices: &[String],
    ) -> Result<(Outcome, Vec<Choice>), GenerateError> {
        let mut watch = Stopwatch::start(Instant::now());
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
        let chosen = if scored { Some(pick(&choices, &request.sampler)?) } else { None };
        let (tokens, text) = chosen.map_or_else(Default::default, |index: usize| {
            (choices[index].tokens.clone(), choices[index].text.clone())
        });
        let finish = if scored { FinishReason::Complete } else { FinishReason::Cancelled };
        let timings = watch.stop(Instant::now(), 0, 0);
        let outcome = Outcome { tokens, text, finish, prompt_tokens: prompt, cached_tokens: cached, timings };
        Ok((outcome, choices))
    }

    /// Checks the request and turns the choices into tokens.
    fn encode_choices(
        &self,
        request: &Request<'_>,
        choices: &[String],
    ) -> Result<Vec<Choice>, GenerateError> {
        check_choices(choices)?;
        request.sampler.validate()?;
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
        let ends = self.tokenizer().end_ids().to_vec();
        let fed = self.model.feed_rows(&prompt[cached..], 1, &is_cancelled)?;
        if let Some(logits) = fed.rows().next() {
            let softmax = LogSoftmax::of(logits)?;
            choices.iter_mut().for_each(|choice| choice.logprob = softmax.get(choice.tokens[0]));
        }
        watch.prompt_fed(prompt.len() - cached, Instant::now());
        let rows = self.model.logit_rows().max(1);
        for choice in choices.iter_mut() {
            self.model.truncate(prompt.len());
            let mut following = choice.tokens.iter().skip(1);
            for block in choice.tokens.chunks(rows) {
                let fed = self.model.feed_rows(block, block.len(), &is_cancelled)?;
                for logits in fed.rows() {
                    let softmax = LogSoftmax::of(logits)?;
                    choice.logprob += match following.next() {
                        Some(id) => softmax.get(*id),
                        None if ends.is_empty() => 0.0,
                        None => log_sum(ends.iter().map(|id| softmax.get(*id))),
                    };
                }
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

/// The tokens of `text` after `prompt`; `None` if there are none that give it.
fn encode(tokenizer: &Tokenizer, prompt: &[u32], text: &str) -> Option<Vec<u32>> {
    let plain = |text: &str| {
        let mut tokens = vec![];
        tokenizer.encode(text, EncodeOptions::default(), &mut tokens).ok().map(|()| tokens)
    };
    let gives_text = |tokens: &[u32]| {
        let joined = [prompt, tokens].concat();
        let (before, all) = (tokenizer.decode(prompt, true), tokenizer.decode(&joined, true));
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

/// Chooses among choices as among tokens.
fn pick(choices: &[Choice], options: &SamplerOptions) -> Result<usize, GenerateError> {
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
