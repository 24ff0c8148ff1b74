//! What is asked of a model, and what it answers.

use std::borrow::Cow;

use crate::text::ToolCall;

use super::{CancelHandle, Layout, LogitFilter, SamplerOptions, Timings, TokenLogprobs};

/// What to generate. Make one with [`Request::new`] and set the fields that matter.
pub struct Request<'a> {
    /// The whole sequence to continue, from its first token. What it shares with the cache is not computed
    /// again.
    pub prompt: Cow<'a, [u32]>,
    /// Tokens to generate at most; `None` for as many as the context holds. 0 only fills the cache.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Texts that end the answer and are no part of it. One that is the written form of a control token, such as
    /// `<|im_end|>`, stands for that token.
    pub stop: Cow<'a, [String]>,
    /// Measure log-probabilities, with this many alternatives (0 to [`MAX_LOGPROBS`](super::MAX_LOGPROBS)).
    pub logprobs: Option<usize>,
    /// Stops the request from another thread.
    pub cancel: Option<CancelHandle>,
    /// Tokens to guess ahead at most, from what followed the same tokens before; 0 for none. The answer is the
    /// same, and comes sooner where it repeats parts of the prompt or of itself. At most
    /// [`MAX_LOOKUP`](super::MAX_LOOKUP), and less than [`LanguageModel::logit_rows`](crate::model::LanguageModel::logit_rows).
    pub lookup: usize,
    /// End an answer that goes in circles: the same words over and over, or the same lines or sentences. Not where a
    /// filter says what may come next: what repeats there may have to.
    pub loop_guard: bool,
    /// Called with the tokens of the prompt that are read and their number while a long prompt is read.
    pub progress: Option<Box<dyn Fn(usize, usize) + Send + 'a>>,
    /// A rule on what may come next: in the answer, where reasoning comes before it.
    pub filter: Option<Box<dyn LogitFilter + 'a>>,
    /// The parts of the answer; without it all that the model says is answer.
    pub layout: Option<Cow<'a, Layout>>,
}

impl<'a> Request<'a> {
    /// Continues `prompt` with the default sampler until the model ends or the context is full, be it in circles: who
    /// compares or measures wants what the model says.
    pub fn new(prompt: impl Into<Cow<'a, [u32]>>) -> Request<'a> {
        Request {
            prompt: prompt.into(),
            max_tokens: None,
            sampler: SamplerOptions::default(),
            stop: Cow::Borrowed(&[]),
            logprobs: None,
            cancel: None,
            lookup: 0,
            loop_guard: false,
            progress: None,
            filter: None,
            layout: None,
        }
    }
}

/// A token that was generated, or text that was held back until the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenEvent<'a> {
    /// The token; `None` when only text is released, at the end.
    pub id: Option<u32>,
    /// Text that is now certain: whole characters, no part of a stop string. Often empty or longer than the
    /// token's own.
    pub text: &'a str,
    /// Reasoning that is now certain, likewise.
    pub reasoning: &'a str,
    /// Of this token, if asked for.
    pub logprobs: Option<TokenLogprobs<'a>>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model generated an end token, which is no part of the answer.
    EndToken(u32),
    /// The filter says that nothing may follow.
    Complete,
    /// A stop string was completed; its index in the request.
    StopString(usize),
    /// The wanted number of tokens was generated.
    Length,
    /// The context is full.
    Context,
    /// The answer went in circles.
    Loop,
    /// The callback or a [`CancelHandle`] asked for it.
    Cancelled,
}

impl FinishReason {
    /// The name in machine-readable output.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::EndToken(_) | FinishReason::Complete => "stop",
            FinishReason::StopString(_) => "stop_string",
            FinishReason::Length => "length",
            FinishReason::Context => "context",
            FinishReason::Loop => "loop",
            FinishReason::Cancelled => "cancelled",
        }
    }

    /// Whether there was no room for more.
    pub fn is_limit(self) -> bool {
        matches!(self, FinishReason::Length | FinishReason::Context)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// All tokens generated, without an end token, with those of a stop string.
    pub tokens: Vec<u32>,
    /// Their text, without a stop string. When the answer was cut off within a character, without its
    /// bytes; bytes that the model left incomplete by ending there are U+FFFD.
    pub text: String,
    /// What the model thought before it, if it did.
    pub reasoning: Option<String>,
    /// The functions that it calls.
    pub tool_calls: Vec<ToolCall>,
    /// Sum of the log-probabilities of its tokens, if they were asked for.
    pub logprob: Option<f64>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Whether the filter has it as a whole answer; true without a filter.
    pub whole: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were in the cache already.
    pub cached_tokens: usize,
    /// How long it took.
    pub timings: Timings,
}

impl Outcome {
    /// Why it ended, in machine-readable output.
    pub fn finish_name(&self) -> &'static str {
        let is_whole = matches!(self.finish, FinishReason::EndToken(_) | FinishReason::Complete);
        if is_whole && !self.tool_calls.is_empty() { "tool_calls" } else { self.finish.name() }
    }
}
