//! One model, what is in its cache, and the loop that continues it. See [`Session`].

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::model::{LanguageModel, ModelError};
use crate::text::{Detokenizer, Tokenizer};

use super::logprobs::{LOGPROB_BYTES, Logprobs};
use super::metrics::Stopwatch;
use super::sampler::{SAMPLER_BYTES_PER_TOKEN, Sampler};
use super::stop::{self, StopBuffer};
use super::{CancelHandle, GenerateError, LogitFilter, SamplerOptions, Timings, TokenLogprobs};

/// Bytes reserved for the text of an answer at most; a longer text grows as it comes.
const MAX_RESERVED_TEXT: usize = 1 << 20;

/// What to generate. Make one with [`Request::new`] and set the fields that matter.
pub struct Request<'a> {
    /// The whole sequence to continue, from its first token. What it shares with the cache is not computed
    /// again.
    pub prompt: &'a [u32],
    /// Tokens to generate at most; `None` for as many as the context holds. 0 only fills the cache.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Texts that end the answer and are no part of it.
    pub stop: &'a [String],
    /// Measure log-probabilities, with this many alternatives (0 to [`MAX_LOGPROBS`](super::MAX_LOGPROBS)).
    pub logprobs: Option<usize>,
    /// Stops the request from another thread.
    pub cancel: Option<&'a CancelHandle>,
    /// A rule on what may come next.
    pub filter: Option<&'a mut dyn LogitFilter>,
}

impl<'a> Request<'a> {
    /// Continues `prompt` with the default sampler until the model ends or the context is full.
    pub fn new(prompt: &'a [u32]) -> Request<'a> {
        Request {
            prompt,
            max_tokens: None,
            sampler: SamplerOptions::default(),
            stop: &[],
            logprobs: None,
            cancel: None,
            filter: None,
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
    /// Of this token, if asked for.
    pub logprobs: Option<TokenLogprobs<'a>>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model generated an end token, which is no part of the answer.
    EndToken(u32),
    /// A stop string was completed; its index in the request.
    StopString(usize),
    /// The wanted number of tokens was generated.
    Length,
    /// The context is full.
    Context,
    /// The callback or a [`CancelHandle`] asked for it.
    Cancelled,
}

impl FinishReason {
    /// The name in machine-readable output.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::EndToken(_) => "stop",
            FinishReason::StopString(_) => "stop_string",
            FinishReason::Length => "length",
            FinishReason::Context => "context",
            FinishReason::Cancelled => "cancelled",
        }
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
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were in the cache already.
    pub cached_tokens: usize,
    /// How long it took.
    pub timings: Timings,
}

/// A model with its cache, serving one request after another.
///
/// The cache keeps the tokens of the last request. A request whose prompt starts with the same tokens, such
/// as the next turn of a conversation, feeds only the others to the model. At least the prompt's last token
/// is always fed, since its logits are needed.
///
/// A failed or cancelled request leaves the session usable.
pub struct Session<M> {
    model: M,
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    logprobs: Logprobs,
    /// Prompt and answer of the last request. The model's cache holds its first
    /// [`LanguageModel::position`] tokens.
    tokens: Vec<u32>,
    detokenizer: Detokenizer,
    text: StopBuffer,
}

/// What the loop needs of a request.
struct Task<'a> {
    /// Length of prompt and answer at which [`FinishReason::Length`] applies.
    end: usize,
    /// Tokens of the prompt that were not fed.
    cached: usize,
    stop: &'a [String],
    cancel: Option<&'a CancelHandle>,
    filter: Option<&'a mut dyn LogitFilter>,
    watch: Stopwatch,
}

/// The caller's function that gets every [`TokenEvent`] and says whether to go on.
type OnToken<'a> = &'a mut dyn FnMut(&TokenEvent<'_>) -> ControlFlow<()>;

impl<M: LanguageModel> Session<M> {
    /// A session with an empty cache; what the model holds is forgotten.
    pub fn new(mut model: M, tokenizer: Arc<Tokenizer>) -> Session<M> {
        model.truncate(0);
        let tokens = tokens_capacity(model.context());
        Session {
            sampler: Sampler::new(model.vocab_size()),
            logprobs: Logprobs::default(),
            tokens: Vec::with_capacity(tokens),
            detokenizer: Detokenizer::new(&tokenizer, &[], true),
            text: StopBuffer::new(text_capacity(tokens, tokenizer.longest_piece())),
            model,
            tokenizer,
        }
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The tokens whose keys and values are in the cache.
    pub fn cached(&self) -> &[u32] {
        &self.tokens[..self.model.position().min(self.tokens.len())]
    }

    /// Empties the cache.
    pub fn clear(&mut self) {
        self.model.truncate(0);
        self.tokens.clear();
    }

    /// Answers a request. `on_token` gets every token as it comes; with [`ControlFlow::Break`] it ends the
    /// answer, and text still held back is then in the outcome only.
    ///
    /// # Errors
    /// If an option is outside its range, the prompt is empty or longer than the context, the model or the
    /// filter fails, or no token can be chosen. Cancellation is no error.
    pub fn generate(
        &mut self,
        request: Request<'_>,
        on_token: OnToken<'_>,
    ) -> Result<Outcome, GenerateError> {
        let watch = Stopwatch::start(Instant::now());
        self.start(&request)?;
        let prompt_tokens = request.prompt.len();
        let cached = self.rewind(request.prompt);
        let end = prompt_tokens.saturating_add(request.max_tokens.unwrap_or(usize::MAX));
        let Request { stop, cancel, filter, .. } = request;
        let mut task = Task { end, cached, stop, cancel, filter, watch };
        let finish = match self.run(&mut task, on_token) {
            Ok(finish) => finish,
            Err(error) => {
                // What the cache holds is in doubt.
                self.clear();
                return Err(error);
            }
        };
        Ok(Outcome {
            tokens: self.tokens[prompt_tokens..].to_vec(),
            text: self.text.text().to_owned(),
            finish,
            prompt_tokens,
            cached_tokens: cached,
            timings: task.watch.stop(Instant::now()),
        })
    }

    /// Checks a request and prepares all that serves it but the cache.
    fn start(&mut self, request: &Request<'_>) -> Result<(), GenerateError> {
        stop::validate(request.stop)?;
        self.sampler.start(&request.sampler, request.filter.is_some())?;
        self.logprobs.start(request.logprobs, self.model.vocab_size())?;
        let (tokens, context) = (request.prompt.len(), self.model.context());
        if tokens == 0 {
            return Err(GenerateError::EmptyPrompt);
        }
        if tokens > context {
            return Err(GenerateError::PromptTooLong { tokens, context });
        }
        self.detokenizer.restart(&self.tokenizer, request.prompt);
        self.text.clear();
        Ok(())
    }

    /// Keeps what the cache shares with `prompt`, but not its last token, and returns how many tokens it is.
    fn rewind(&mut self, prompt: &[u32]) -> usize {
        let pairs = self.cached().iter().zip(prompt);
        let shared = pairs.take_while(|(old, new)| old == new).count();
        self.model.truncate(shared.min(prompt.len() - 1));
        self.tokens.clear();
        self.tokens.extend_from_slice(prompt);
        // A model may have to forget more than it was told to.
        self.model.position()
    }

    /// Generates until there is a reason to end.
    fn run(&mut self, task: &mut Task<'_>, on_token: OnToken<'_>) -> Result<FinishReason, GenerateError> {
        loop {
            let id = match self.next_token(task) {
                Ok(Some(id)) => id,
                Ok(None) => return Ok(FinishReason::Length),
                Err(GenerateError::Model(ModelError::Cancelled)) => {
                    let fed = self.model.position() - task.cached;
                    task.watch.prompt_fed(fed, Instant::now());
                    self.release_held(false, on_token);
                    return Ok(FinishReason::Cancelled);
                }
                Err(error) => return Err(error),
            };
            if self.tokenizer.is_end(id) {
                self.release_held(true, on_token);
                return Ok(FinishReason::EndToken(id));
            }
            if let Some(finish) = self.add(id, task, on_token) {
                return Ok(finish);
            }
        }
    }

    /// Feeds the tokens that are not in the cache and chooses the next; `None` if none is wanted.
    fn next_token(&mut self, task: &mut Task<'_>) -> Result<Option<u32>, GenerateError> {
        let is_cancelled = || task.cancel.is_some_and(CancelHandle::is_cancelled);
        if is_cancelled() {
            return Err(ModelError::Cancelled.into());
        }
        let pending = &self.tokens[self.model.position()..];
        let logits = self.model.feed(pending, &is_cancelled)?;
        task.watch.prompt_fed(pending.len(), Instant::now());
        if self.tokens.len() >= task.end {
            return Ok(None);
        }
        let filter: Option<&mut dyn LogitFilter> = match &mut task.filter {
            Some(filter) => Some(&mut **filter),
            None => None,
        };
        let id = self.sampler.sample(logits, &self.tokens, filter)?;
        self.logprobs.measure(logits, id)?;
        task.watch.sampled(Instant::now());
        if let Some(filter) = &mut task.filter {
            filter.accept(id).map_err(GenerateError::Filter)?;
        }
        Ok(Some(id))
    }

    /// Adds a token to the answer and reports it; returns the reason if it was the last.
    fn add(&mut self, id: u32, task: &Task<'_>, on_token: OnToken<'_>) -> Option<FinishReason> {
        self.tokens.push(id);
        let piece = self.detokenizer.push(&self.tokenizer, id);
        let mut released = self.text.push(piece, task.stop);
        let finish = if let Some(index) = released.stopped {
            Some(FinishReason::StopString(index))
        } else if self.tokens.len() >= task.end {
            Some(FinishReason::Length)
        } else if self.tokens.len() > self.model.context() {
            Some(FinishReason::Context)
        } else {
            None
        };
        if finish.is_some() {
            released.range.end = self.text.release_all().range.end;
        }
        let text = &self.text.text()[released.range];
        let flow = on_token(&TokenEvent { id: Some(id), text, logprobs: self.logprobs.get() });
        finish.or(flow.is_break().then_some(FinishReason::Cancelled))
    }

    /// Reports the text held back, if any; at the model's own end also a character it left incomplete.
    fn release_held(&mut self, model_ended: bool, on_token: OnToken<'_>) {
        let rest = if model_ended { self.detokenizer.finish() } else { "" };
        let released = self.text.push(rest, &[]);
        if !released.range.is_empty() {
            let text = &self.text.text()[released.range];
            // The answer ends here whatever the caller says.
            let _ = on_token(&TokenEvent { id: None, text, logprobs: None });
        }
    }
}

/// Memory, in bytes, that a [`Session`] reserves besides its model and tokenizer, at most: token ids, text,
/// the sampler's logits and candidates.
pub fn planned_bytes(context: usize, vocab_size: usize, longest_piece: usize) -> u64 {
    let tokens = tokens_capacity(context);
    let ids = tokens.saturating_mul(size_of::<u32>());
    let text = text_capacity(tokens, longest_piece);
    let sampling = vocab_size.saturating_mul(SAMPLER_BYTES_PER_TOKEN);
    ids.saturating_add(text).saturating_add(sampling).saturating_add(LOGPROB_BYTES) as u64
}

/// Prompt and answer: the last token chosen needs no room in the context.
fn tokens_capacity(context: usize) -> usize {
    context.saturating_add(1)
}

fn text_capacity(tokens: usize, longest_piece: usize) -> usize {
    tokens.saturating_mul(longest_piece).min(MAX_RESERVED_TEXT)
}
