//! What the model says about a document: log-likelihoods and answers, by the one generation session.
//!
//! Tokens are cut as lm-evaluation-harness cuts them: white space at the end of a prompt belongs to the continuation, the
//! tokens of the continuation are those of the whole text after as many as the prompt alone has, and what does not fit
//! into the context is cut off at the front.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::TaskError;
use super::task::Generation;
use crate::eval::stats::log_probability;
use crate::generate::{
    CancelHandle, FinishReason, GenerateError, Layout, Predicted, Request, SamplerOptions, Session,
};
use crate::model::{LanguageModel, ModelError};
use crate::text::Prompt;

/// Tokens whose logits are computed together.
pub const LOGIT_ROWS: usize = 16;

/// How likely a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Likelihood {
    /// Natural logarithm of its probability.
    pub(super) sum: f64,
    /// Whether every token is the most likely one.
    pub(super) greedy: bool,
}

/// Asks a model about a document.
pub(super) struct Scorer<'a, M> {
    pub(super) session: &'a mut Session<M>,
    pub(super) cancel: &'a CancelHandle,
    /// The parts of an answer; only what comes after the reasoning is the answer.
    pub(super) layout: Option<&'a Layout>,
    /// For messages.
    pub(super) task: &'a str,
    pub(super) document: usize,
    /// As in [`super::EvaluationOptions`].
    pub(super) rolling_once: bool,
}

impl<M: LanguageModel> Scorer<'_, M> {
    /// How likely `continuation` is after `prompt`.
    pub(super) fn continuation(
        &mut self,
        prompt: &Prompt,
        continuation: &str,
    ) -> Result<Likelihood, TaskError> {
        let tokenizer = self.session.tokenizer();
        let (mut tokens, mut whole) = (vec![], vec![]);
        if prompt.text.is_empty() {
            Prompt::plain(continuation).encode_from(0, tokenizer, &mut whole)?;
            let start = self.start()?;
            tokens.push(start);
            if whole.first() != Some(&start) {
                whole.insert(0, start);
            }
        } else {
            let kept = prompt.text.trim_end().len();
            prompt.cut(kept).encode(tokenizer, &mut tokens)?;
            prompt.followed_by(continuation).encode(tokenizer, &mut whole)?;
        }
        let first = tokens.len();
        tokens.extend(whole.iter().skip(first));
        self.score(tokens, first)
    }

    /// How likely a text is from its first token on, read in windows of a context that do not overlap.
    pub(super) fn rolling(&mut self, text: &str) -> Result<f64, TaskError> {
        let mut tokens = vec![];
        Prompt::plain(text).encode(self.session.tokenizer(), &mut tokens)?;
        let (start, context) = (self.start()?, self.session.context());
        if self.rolling_once && tokens.first() == Some(&start) {
            tokens.remove(0);
        }
        let (mut sum, mut done) = (0.0, 0);
        while done < tokens.len() {
            let end = tokens.len().min(done + context);
            // The first window begins with the start token, the last has as many tokens before it as fit.
            let from = end.saturating_sub(context + 1).min(done.saturating_sub(1));
            let mut window = if done == 0 { vec![start] } else { tokens[from..done].to_vec() };
            let first = window.len();
            window.extend(&tokens[done..end]);
            sum += self.score(window, first)?.sum;
            done = end;
        }
        Ok(sum)
    }

    /// The answer to `prompt`.
    pub(super) fn generate(
        &mut self,
        prompt: &Prompt,
        generation: &Generation,
        seed: u64,
    ) -> Result<String, TaskError> {
        let (context, max_tokens) = (self.session.context(), generation.tokens(self.session.context()));
        if max_tokens >= context {
            return Err(TaskError::NoRoom { task: self.task.to_owned(), max_tokens, context });
        }
        let mut tokens = vec![];
        prompt.encode(self.session.tokenizer(), &mut tokens)?;
        if tokens.is_empty() {
            tokens.push(self.start()?);
        }
        let kept = tokens.len().saturating_sub(context - max_tokens);
        let mut request = Request::new(&tokens[kept..]);
        request.max_tokens = Some(max_tokens);
        request.sampler = SamplerOptions {
            temperature: generation.temperature,
            top_k: generation.top_k,
            top_p: generation.top_p,
            min_p: 0.0,
            seed,
            ..SamplerOptions::greedy()
        };
        request.stop = Cow::Borrowed(&generation.until);
        // Without a loop guard: what is judged is the whole answer up to its limit, as in lm-evaluation-harness.
        request.cancel = Some(self.cancel.clone());
        request.layout = self.layout.map(Cow::Borrowed);
        let outcome = self.session.generate(request, &mut |_| ControlFlow::Continue(()))?;
        match outcome.finish {
            FinishReason::Cancelled => Err(GenerateError::Model(ModelError::Cancelled).into()),
            _ => Ok(outcome.text),
        }
    }

    /// What stands before the first token of a text.
    fn start(&self) -> Result<u32, TaskError> {
        let tokenizer = self.session.tokenizer();
        tokenizer.bos().or(tokenizer.eos()).ok_or_else(|| self.nothing())
    }

    fn nothing(&self) -> TaskError {
        TaskError::NothingToScore { task: self.task.to_owned(), document: self.document }
    }

    /// How likely the tokens from `first` on are.
    fn score(&mut self, mut tokens: Vec<u32>, mut first: usize) -> Result<Likelihood, TaskError> {
        let (scored, context) = (tokens.len() - first.min(tokens.len()), self.session.context());
        if scored == 0 {
            return Err(self.nothing());
        }
        if scored > context {
            let (task, document) = (self.task.to_owned(), self.document);
            return Err(TaskError::ContinuationTooLong { task, document, tokens: scored, context });
        }
        let cut = tokens.len().saturating_sub(context + 1);
        tokens.drain(..cut);
        first -= cut;
        let mut found = Likelihood { sum: 0.0, greedy: true };
        let read = Predicted { tokens: tokens.clone(), first };
        let visit = |_: usize, at: usize, logits: &[f32]| {
            let token = tokens[at];
            found.sum += log_probability(logits, token);
            let logit = logits[token as usize];
            let is_most = |(id, other): (usize, &f32)| {
                if id < token as usize { *other < logit } else { *other <= logit }
            };
            found.greedy &= logits.iter().enumerate().all(is_most);
        };
        self.session.predictions(vec![read], Some(self.cancel), Box::new(visit))?;
        if !found.sum.is_finite() {
            return Err(TaskError::NotFinite { task: self.task.to_owned(), document: self.document });
        }
        Ok(found)
    }
}
