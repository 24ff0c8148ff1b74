//! One model, what is in its cache, and the loop that continues it. See [`Session`].

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::model::{LanguageModel, Logits, ModelError, Resume, TILE, logit_blocks};
use crate::text::{Tokenizer, ToolCall};

use super::gate::Gate;
use super::logprobs::LOGPROB_BYTES;
use super::lookup::Lookup;
use super::metrics::Stopwatch;
use super::sampler::SAMPLER_BYTES_PER_TOKEN;
use super::sequence::{Ends, OnToken, Sequence, text_capacity, tokens_capacity};
use super::{CancelHandle, GenerateError, Layout, LogitFilter, SamplerOptions, Timings, TokenLogprobs};

/// What to generate. Make one with [`Request::new`] and set the fields that matter.
pub struct Request<'a> {
    /// The whole sequence to continue, from its first token. What it shares with the cache is not computed
    /// again.
    pub prompt: &'a [u32],
    /// Tokens to generate at most; `None` for as many as the context holds. 0 only fills the cache.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Texts that end the answer and are no part of it. One that is the written form of a control token, such as
    /// `<|im_end|>`, stands for that token.
    pub stop: &'a [String],
    /// Measure log-probabilities, with this many alternatives (0 to [`MAX_LOGPROBS`](super::MAX_LOGPROBS)).
    pub logprobs: Option<usize>,
    /// Stops the request from another thread.
    pub cancel: Option<&'a CancelHandle>,
    /// Tokens to guess ahead at most, from what followed the same tokens before; 0 for none. The answer is the
    /// same, and comes sooner where it repeats parts of the prompt or of itself. At most
    /// [`MAX_LOOKUP`](super::MAX_LOOKUP), and less than [`LanguageModel::logit_rows`].
    pub lookup: usize,
    /// End an answer that goes in circles: the same words over and over, or the same lines or sentences. Not where a
    /// filter says what may come next: what repeats there may have to.
    pub loop_guard: bool,
    /// Called with the tokens of the prompt that are read and their number while a long prompt is read.
    pub progress: Option<&'a dyn Fn(usize, usize)>,
    /// A rule on what may come next: in the answer, where reasoning comes before it.
    pub filter: Option<&'a mut dyn LogitFilter>,
    /// The parts of the answer; without it all that the model says is answer.
    pub layout: Option<&'a Layout>,
}

impl<'a> Request<'a> {
    /// Continues `prompt` with the default sampler until the model ends or the context is full, be it in circles: who
    /// compares or measures wants what the model says.
    pub fn new(prompt: &'a [u32]) -> Request<'a> {
        Request {
            prompt,
            max_tokens: None,
            sampler: SamplerOptions::default(),
            stop: &[],
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

/// A model with its cache, serving one request after another.
///
/// The cache keeps the tokens of the last request. A request whose prompt starts with the same tokens, such
/// as the next turn of a conversation, feeds only the others to the model. At least the prompt's last token
/// is always fed, since its logits are needed.
///
/// A failed or cancelled request leaves the session usable.
pub struct Session<M> {
    pub(super) model: M,
    /// Prompt and answer of the last request. The model's cache holds its first
    /// [`LanguageModel::position`] tokens.
    pub(super) sequence: Sequence,
    lookup: Lookup,
}

/// What the loop needs of a request.
struct Task<'a> {
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens of the prompt that were not fed.
    cached: usize,
    ends: Ends<'a>,
    cancel: Option<&'a CancelHandle>,
    progress: Option<&'a dyn Fn(usize, usize)>,
    filter: Option<&'a mut dyn LogitFilter>,
    watch: Stopwatch,
}

impl Task<'_> {
    fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(CancelHandle::is_cancelled)
    }

    fn is_done(&self) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.is_done())
    }

    /// Tokens that a draft may have when prompt and answer have `len`: it must fit into the context, and the
    /// token after it must be wanted. The prompt is read without one, for what is said of its time.
    fn draft_room(&self, len: usize) -> usize {
        if len == self.prompt {
            return 0;
        }
        let Ends { length, context, .. } = self.ends;
        context.saturating_sub(len).min(length.saturating_sub(len + 1))
    }

    /// Chooses the token that follows `sequence`.
    fn choose(&mut self, sequence: &mut Sequence, logits: Logits<'_>) -> Result<u32, GenerateError> {
        let room = self.ends.room(sequence.tokens().len() + 1);
        let id = sequence.choose(logits, &mut self.filter, room)?;
        self.watch.sampled(Instant::now());
        Ok(id)
    }

    /// Makes sure that a whole answer fits.
    fn check_room(&mut self) -> Result<(), GenerateError> {
        let (allowed, filter) = (self.ends.room(self.prompt), self.filter.as_mut());
        let needed = filter.map_or(0, |filter| filter.least_tokens());
        if allowed > 0 && needed > allowed {
            return Err(GenerateError::FormTooLong { needed, allowed });
        }
        Ok(())
    }

    /// Whether an answer that ended like this is a whole one.
    fn is_whole(&mut self, finish: FinishReason) -> bool {
        match (&mut self.filter, finish) {
            (None, _) | (_, FinishReason::Complete) => true,
            (_, FinishReason::StopString(_)) => false,
            (Some(filter), _) => filter.is_whole(),
        }
    }
}

impl<M: LanguageModel> Session<M> {
    /// A session with an empty cache; what the model holds is forgotten.
    pub fn new(mut model: M, tokenizer: Arc<Tokenizer>) -> Session<M> {
        model.truncate(0);
        let sequence = Sequence::new(tokenizer, model.context(), model.vocab_size());
        Session { model, sequence, lookup: Lookup::default() }
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Takes all memory that the model allocated: see [`LanguageModel::touch`].
    pub fn touch(&mut self) {
        self.model.touch();
    }

    /// Positions in the cache.
    pub fn context(&self) -> usize {
        self.model.context()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.sequence.tokenizer()
    }

    /// Ends answers at this token too: the one that a chat template writes behind them
    /// ([`ChatTemplate::turn_end`](crate::text::ChatTemplate::turn_end)).
    pub fn set_turn_end(&mut self, id: Option<u32>) {
        self.sequence.set_turn_end(id);
    }

    /// The tokens whose keys and values are in the cache.
    pub fn cached(&self) -> &[u32] {
        let tokens = self.sequence.tokens();
        &tokens[..self.model.position().min(tokens.len())]
    }

    /// Empties the cache.
    pub fn clear(&mut self) {
        self.model.truncate(0);
        self.sequence.set_prompt(&[]);
    }

    /// Answers a request. `on_token` gets every token as it comes; with [`ControlFlow::Break`](std::ops::ControlFlow::Break) it ends the
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
        let prompt = request.prompt.len();
        let cached = self.rewind(request.prompt);
        let length = prompt.saturating_add(request.max_tokens.unwrap_or(usize::MAX));
        let Request { stop, cancel, progress, filter, layout, .. } = request;
        let tokenizer = Arc::clone(self.tokenizer());
        let mut gate;
        let mut filter: Option<&mut dyn LogitFilter> =
            match (filter, layout.and_then(|layout| Some((layout, layout.reasoning?)))) {
                (Some(inner), Some((layout, marks))) => {
                    gate = Gate::new(inner, layout, marks, &tokenizer, self.sequence.ends());
                    Some(&mut gate)
                }
                (Some(filter), None) => Some(&mut *filter),
                (None, _) => None,
            };
        if let Some(filter) = &mut filter {
            filter.start(request.prompt);
        }
        let ends = Ends { stop, length, context: self.model.context() };
        let mut task = Task { prompt, cached, ends, cancel, progress, filter, watch };
        task.check_room()?;
        let finish = match self.run(&mut task, on_token) {
            Ok(finish) => finish,
            Err(error) => {
                // What the cache holds is in doubt.
                self.clear();
                return Err(error);
            }
        };
        let calls = self.sequence.calls();
        let tool_calls = layout.and_then(|layout| layout.parse_calls(calls)).unwrap_or_default();
        // Calls that were cut off are text.
        let rest = if tool_calls.is_empty() { calls } else { "" };
        if !rest.is_empty() {
            // The answer ends here whatever the caller says.
            let _ = on_token(&TokenEvent { id: None, text: rest, reasoning: "", logprobs: None });
        }
        let Lookup { drafted, accepted, .. } = self.lookup;
        Ok(Outcome {
            tokens: self.sequence.tokens()[prompt..].to_vec(),
            text: [self.sequence.text(), rest].concat(),
            tool_calls,
            reasoning: Some(self.sequence.reasoning()).filter(|text| !text.is_empty()).map(str::to_owned),
            finish,
            whole: task.is_whole(finish),
            prompt_tokens: prompt,
            cached_tokens: cached,
            timings: task.watch.stop(Instant::now(), drafted, accepted),
        })
    }

    /// Checks a request and prepares all that serves it but the cache.
    fn start(&mut self, request: &Request<'_>) -> Result<(), GenerateError> {
        self.lookup.start(request.lookup, self.model.logit_rows())?;
        let (tokens, context) = (request.prompt.len(), self.model.context());
        self.sequence.start(request, self.model.vocab_size())?;
        if tokens == 0 {
            return Err(GenerateError::EmptyPrompt);
        }
        if tokens > context {
            return Err(GenerateError::PromptTooLong { tokens, context });
        }
        Ok(())
    }

    /// Keeps what the cache shares with `prompt`, but not its last token, and returns how many tokens it is.
    pub(super) fn rewind(&mut self, prompt: &[u32]) -> usize {
        let pairs = self.cached().iter().zip(prompt);
        let shared = pairs.take_while(|(old, new)| old == new).count();
        self.model.truncate(shared.min(prompt.len() - 1));
        self.sequence.set_prompt(prompt);
        // A model may have to forget more than it was told to.
        self.model.position()
    }

    /// Generates until there is a reason to end.
    fn run(&mut self, task: &mut Task<'_>, on_token: OnToken<'_>) -> Result<FinishReason, GenerateError> {
        loop {
            match self.step(task, on_token) {
                Ok(None) => {}
                Ok(Some(finish)) => return Ok(finish),
                Err(GenerateError::Model(ModelError::Cancelled)) => {
                    // A model that had to forget more than it was told to may not be back there.
                    let fed = self.model.position().saturating_sub(task.cached);
                    task.watch.prompt_fed(fed, Instant::now());
                    // Of the answer the last token is not read; what is beyond it is a draft.
                    self.model.truncate(self.sequence.tokens().len() - 1);
                    self.sequence.release_held(false, on_token);
                    return Ok(FinishReason::Cancelled);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the model read what is not in its cache, with a draft of what may follow, and chooses tokens while
    /// they are those of the draft. Returns the reason if the answer ends.
    fn step(
        &mut self,
        task: &mut Task<'_>,
        on_token: OnToken<'_>,
    ) -> Result<Option<FinishReason>, GenerateError> {
        if task.is_cancelled() {
            return Err(ModelError::Cancelled.into());
        }
        let Session { model, sequence, lookup } = self;
        let (len, position) = (sequence.tokens().len(), model.position());
        let draft = lookup.draft(sequence.tokens(), task.draft_room(len), |id| sequence.is_end(id));
        let rows = 1 + draft.len();
        let logits = sequence.with_draft(draft, |tokens| {
            let tiles = Cell::new(0);
            // Asked before each tile.
            let ask = || {
                if let Some(progress) = task.progress.filter(|_| len == task.prompt) {
                    progress((position + tiles.replace(tiles.get() + 1) * TILE).min(len), len);
                }
                task.is_cancelled()
            };
            model.feed_rows(&tokens[position..], rows, &ask)
        })?;
        task.watch.prompt_fed(len - position, Instant::now());
        if len >= task.ends.length {
            return Ok(Some(FinishReason::Length));
        }
        let (mut finish, mut used) = (None, len);
        for (row, logits) in logits.rows().enumerate() {
            // Without a draft it would be asked before this row is computed.
            if row > 0 && task.is_cancelled() {
                return Err(ModelError::Cancelled.into());
            }
            used = len + row;
            let id = task.choose(sequence, logits)?;
            if sequence.is_end(id) {
                sequence.release_held(true, on_token);
                finish = Some(FinishReason::EndToken(id));
                break;
            }
            let is_drafted = lookup.accept(row, id);
            finish = sequence.add(id, &mut task.filter, &task.ends, on_token);
            if task.is_done() && finish.is_none_or(FinishReason::is_limit) {
                sequence.release_held(true, on_token);
                finish = Some(FinishReason::Complete);
            }
            if finish.is_some() || !is_drafted {
                break;
            }
        }
        lookup.step();
        model.truncate(used);
        Ok(finish)
    }
}

impl<M: Resume> Session<M> {
    /// As [`Resume::state_key`].
    pub fn state_key(&self) -> u64 {
        self.model.state_key()
    }

    /// Bytes of the state of `positions` tokens.
    pub fn state_bytes(&mut self, positions: usize) -> u64 {
        self.model.state_bytes(positions)
    }

    /// Writes the state of the tokens in the cache ([`Session::cached`]).
    ///
    /// # Errors
    /// As `out`.
    pub fn write_state(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        self.model.write_state(out)
    }

    /// Fills the cache with a state that was written when it held `tokens`, which must be of the vocabulary.
    ///
    /// # Errors
    /// As [`Resume::read_state`]; the cache is empty then.
    pub fn read_state(&mut self, tokens: &[u32], from: &mut dyn io::Read) -> io::Result<()> {
        self.clear();
        self.model.read_state(tokens.len(), from)?;
        self.sequence.set_prompt(tokens);
        Ok(())
    }
}

/// Memory, in bytes, that a [`Session`] reserves besides its model and tokenizer, at most: token ids, text,
/// the sampler's logits and candidates.
pub fn planned_bytes(context: usize, vocab_size: usize, longest_piece: usize) -> u64 {
    let tokens = tokens_capacity(context);
    let ids = tokens.saturating_mul(size_of::<u32>());
    // What was said, thought, called, and is held back.
    let text = 4 * text_capacity(tokens, longest_piece);
    let peaks = logit_blocks(vocab_size) * size_of::<f32>();
    let sampling = vocab_size.saturating_mul(SAMPLER_BYTES_PER_TOKEN).saturating_add(peaks);
    ids.saturating_add(text).saturating_add(sampling).saturating_add(LOGPROB_BYTES) as u64
}
