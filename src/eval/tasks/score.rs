//! What is asked of the model about a document: log-likelihoods and answers, as jobs.
//!
//! Tokens are cut as lm-evaluation-harness cuts them: white space at the end of a prompt belongs to the continuation, the
//! tokens of the continuation are those of the whole text after as many as the prompt alone has, and what does not fit
//! into the context is cut off at the front.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use super::TaskError;
use super::task::Generation;
use crate::eval::stats::log_probability;
use crate::generate::{
    CancelHandle, Done, FinishReason, GenerateError, Job, Layout, OnPrediction, Predicted, Request,
    SamplerOptions,
};
use crate::model::ModelError;
use crate::text::{Prompt, Tokenizer};

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

/// Likelihoods that are being measured, one per text.
pub(super) type Measured = Arc<Mutex<Vec<Likelihood>>>;

/// Turns what is asked about a document into jobs.
pub(super) struct Scorer<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    /// Positions of the model's context.
    pub(super) context: usize,
    pub(super) cancel: &'a CancelHandle,
    /// The parts of an answer; only what comes after the reasoning is the answer.
    pub(super) layout: Option<&'a Layout>,
    /// For messages.
    pub(super) task: &'a str,
    pub(super) document: usize,
    /// As in [`super::EvaluationOptions`].
    pub(super) rolling_once: bool,
}

impl Scorer<'_> {
    /// `continuation` after `prompt`.
    pub(super) fn continuation(&self, prompt: &Prompt, continuation: &str) -> Result<Predicted, TaskError> {
        let tokenizer = self.tokenizer;
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
        self.predicted(tokens, first)
    }

    /// A text from its first token on, in windows of a context that do not overlap.
    pub(super) fn rolling(&self, text: &str) -> Result<Vec<Predicted>, TaskError> {
        let mut tokens = vec![];
        Prompt::plain(text).encode(self.tokenizer, &mut tokens)?;
        let (start, context) = (self.start()?, self.context);
        if self.rolling_once && tokens.first() == Some(&start) {
            tokens.remove(0);
        }
        let (mut windows, mut done) = (vec![], 0);
        while done < tokens.len() {
            let end = tokens.len().min(done + context);
            // The first window begins with the start token, the last has as many tokens before it as fit.
            let from = end.saturating_sub(context + 1).min(done.saturating_sub(1));
            let mut window = if done == 0 { vec![start] } else { tokens[from..done].to_vec() };
            let first = window.len();
            window.extend(&tokens[done..end]);
            windows.push(self.predicted(window, first)?);
            done = end;
        }
        Ok(windows)
    }

    /// The answer to `prompt`.
    pub(super) fn generate(
        &self,
        prompt: &Prompt,
        generation: &Generation,
        seed: u64,
    ) -> Result<Job<'static>, TaskError> {
        let (context, max_tokens) = (self.context, generation.tokens(self.context));
        if max_tokens >= context {
            return Err(TaskError::NoRoom { task: self.task.to_owned(), max_tokens, context });
        }
        let mut tokens = vec![];
        prompt.encode(self.tokenizer, &mut tokens)?;
        if tokens.is_empty() {
            tokens.push(self.start()?);
        }
        tokens.drain(..tokens.len().saturating_sub(context - max_tokens));
        // Without a loop guard: what is judged is the whole answer up to its limit, as in lm-evaluation-harness.
        let request = Request {
            max_tokens: Some(max_tokens),
            sampler: SamplerOptions {
                temperature: generation.temperature,
                top_k: generation.top_k,
                top_p: generation.top_p,
                min_p: 0.0,
                seed,
                ..SamplerOptions::greedy()
            },
            stop: generation.until.clone().into(),
            cancel: Some(self.cancel.clone()),
            layout: self.layout.cloned().map(Cow::Owned),
            ..Request::new(tokens)
        };
        Ok(Job::Generate(request, Box::new(|_| ControlFlow::Continue(()))))
    }

    /// The job that measures texts, and where it writes what it finds.
    pub(super) fn measure(&self, texts: Vec<Predicted>) -> (Job<'static>, Measured) {
        let found: Measured = Arc::new(Mutex::new(vec![Likelihood { sum: 0.0, greedy: true }; texts.len()]));
        let visit = measuring(texts.iter().map(|text| text.tokens.clone()).collect(), Arc::clone(&found));
        (Job::Predict(texts, Some(self.cancel.clone()), visit), found)
    }

    /// What a job said.
    ///
    /// # Errors
    /// If it failed or was cancelled, or a likelihood is not finite.
    pub(super) fn said(
        &self,
        done: Result<Done, GenerateError>,
        measured: Option<&Measured>,
    ) -> Result<Said, TaskError> {
        match (done?, measured) {
            (Done::Generated(outcome), _) if outcome.finish == FinishReason::Cancelled => {
                Err(GenerateError::Model(ModelError::Cancelled).into())
            }
            (Done::Generated(outcome) | Done::Chosen(outcome, _), _) => Ok(Said::Answer(outcome.text)),
            (Done::Predicted, measured) => {
                let found =
                    measured.map(|found| found.lock().unwrap_or_else(PoisonError::into_inner).clone());
                let found = found.unwrap_or_default();
                if found.iter().any(|found| !found.sum.is_finite()) {
                    return Err(TaskError::NotFinite { task: self.task.to_owned(), document: self.document });
                }
                Ok(Said::Likelihoods(found))
            }
        }
    }

    /// What stands before the first token of a text.
    fn start(&self) -> Result<u32, TaskError> {
        self.tokenizer.bos().or(self.tokenizer.eos()).ok_or_else(|| self.nothing())
    }

    fn nothing(&self) -> TaskError {
        TaskError::NothingToScore { task: self.task.to_owned(), document: self.document }
    }

    /// A text whose tokens from `first` on are predicted.
    fn predicted(&self, mut tokens: Vec<u32>, first: usize) -> Result<Predicted, TaskError> {
        let (scored, context) = (tokens.len() - first.min(tokens.len()), self.context);
        if scored == 0 {
            return Err(self.nothing());
        }
        if scored > context {
            let (task, document) = (self.task.to_owned(), self.document);
            return Err(TaskError::ContinuationTooLong { task, document, tokens: scored, context });
        }
        let cut = tokens.len().saturating_sub(context + 1);
        tokens.drain(..cut);
        Ok(Predicted { tokens, first: first - cut })
    }
}

/// What the model said about a document.
pub(super) enum Said {
    /// How likely each text is.
    Likelihoods(Vec<Likelihood>),
    Answer(String),
}

/// Adds every prediction to the likelihood of its text.
fn measuring(texts: Vec<Vec<u32>>, found: Measured) -> OnPrediction<'static> {
    Box::new(move |text, at, logits| {
        let token = texts[text][at];
        let logit = logits[token as usize];
        let is_most =
            |(id, other): (usize, &f32)| if id < token as usize { *other < logit } else { *other <= logit };
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found[text].sum += log_probability(logits, token);
        found[text].greedy &= logits.iter().enumerate().all(is_most);
    })
}
