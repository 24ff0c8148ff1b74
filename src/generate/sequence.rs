//! Prompt and answer while the answer grows: how the next token is chosen and what its text is.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::model::Logits;
use crate::text::{Detokenizer, Tokenizer, ToolCall};

use super::layout::Splitter;
use super::limits::{Limits, Rewind};
use super::logprobs::Logprobs;
use super::lookup::Lookup;
use super::repetition::LoopGuard;
use super::request::{FinishReason, Request, TokenEvent};
use super::sampler::Sampler;
use super::stop::{self, StopBuffer};
use super::{GenerateError, Layout, LogitFilter};

/// Bytes reserved for the text of an answer at most; a longer text grows as it comes.
const MAX_RESERVED_TEXT: usize = 1 << 20;

/// The caller's function that gets every [`TokenEvent`] and says whether to go on.
pub(super) type OnToken<'a> = &'a mut dyn FnMut(&TokenEvent<'_>) -> ControlFlow<()>;

/// What ends an answer besides the model and the caller.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    /// Length of prompt and answer at which [`FinishReason::Length`] applies.
    pub(super) length: usize,
    /// Length above which [`FinishReason::Context`] applies.
    pub(super) context: usize,
}

/// The tokens of a prompt and its answer, with all that continues them but the model.
pub(super) struct Sequence {
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    logprobs: Logprobs,
    /// Sum over the answer.
    logprob: Option<f64>,
    /// Prompt and answer, and then a draft.
    tokens: Vec<u32>,
    /// Tokens of the draft.
    drafted: usize,
    pub(super) lookup: Lookup,
    detokenizer: Detokenizer,
    text: StopBuffer,
    /// Texts that end an answer.
    stop: Vec<String>,
    /// Ends an answer besides the ends of the vocabulary.
    turn_end: Option<u32>,
    /// Control tokens that stop strings name, with the index of the string.
    stop_tokens: Vec<(u32, usize)>,
    /// Where answers that go in circles are ended.
    guard: Option<LoopGuard>,
    /// Of an answer that has parts.
    layout: Option<Layout>,
    splitter: Splitter,
}

impl Ends {
    /// Tokens that may follow when prompt and answer have `len`: the last need not be in the context.
    pub(super) fn room(&self, len: usize) -> usize {
        self.length.min(self.context.saturating_add(1)).saturating_sub(len)
    }
}

impl Sequence {
    pub(super) fn new(tokenizer: Arc<Tokenizer>, context: usize, vocab_size: usize) -> Sequence {
        let tokens = tokens_capacity(context);
        Sequence {
            sampler: Sampler::new(vocab_size),
            logprobs: Logprobs::default(),
            logprob: None,
            tokens: Vec::with_capacity(tokens),
            drafted: 0,
            lookup: Lookup::default(),
            stop: vec![],
            detokenizer: Detokenizer::new(&tokenizer, &[], true),
            text: StopBuffer::new(text_capacity(tokens, tokenizer.longest_piece())),
            turn_end: None,
            stop_tokens: vec![],
            guard: None,
            layout: None,
            splitter: Splitter::default(),
            tokenizer,
        }
    }

    pub(super) fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Prompt and answer.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - self.drafted]
    }

    /// Prompt and answer, and what is to be read after them.
    pub(super) fn all(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether a token ends an answer.
    pub(super) fn is_end(&self, id: u32) -> bool {
        self.tokenizer.is_end(id) || self.turn_end == Some(id)
    }

    /// The tokens that end an answer.
    pub(super) fn ends(&self) -> Vec<u32> {
        let turn_end = self.turn_end.filter(|id| !self.tokenizer.is_end(*id));
        self.tokenizer.end_ids().iter().copied().chain(turn_end).collect()
    }

    /// Ends answers at this token too.
    pub(super) fn set_turn_end(&mut self, id: Option<u32>) {
        self.turn_end = id;
    }

    /// The log-probability of the answer, if it was asked for.
    pub(super) fn logprob(&self) -> Option<f64> {
        self.logprob
    }

    /// The text of the answer.
    pub(super) fn text(&self) -> &str {
        self.text.text()
    }

    /// What the model thought before its answer; empty if nothing.
    pub(super) fn reasoning(&self) -> &str {
        if self.layout.is_some() { self.splitter.reasoning() } else { "" }
    }

    /// The calls of the answer, with their marks; empty if there are none.
    pub(super) fn calls(&self) -> &str {
        if self.layout.is_some() { self.splitter.calls() } else { "" }
    }

    /// Takes the options of a request and forgets the text of the last; the tokens stay.
    pub(super) fn start(&mut self, request: &Request<'_>, limits: Limits) -> Result<(), GenerateError> {
        self.drop_draft();
        self.lookup.start(request.lookup, limits.rows)?;
        stop::validate(&request.stop)?;
        self.sampler.start(&request.sampler, request.filter.is_some())?;
        self.logprobs.start(request.logprobs, limits.vocab)?;
        self.logprob = request.logprobs.map(|_| 0.0);
        self.detokenizer.restart(&self.tokenizer, &request.prompt);
        self.text.clear();
        self.stop.clear();
        self.stop.extend_from_slice(&request.stop);
        self.stop_tokens.clear();
        for (index, stop) in request.stop.iter().enumerate() {
            let named = self.tokenizer.added_token(stop.trim());
            // The text of control tokens is never seen.
            self.stop_tokens.extend(named.filter(|id| self.tokenizer.is_special(*id)).map(|id| (id, index)));
        }
        self.guard = request.loop_guard.then(LoopGuard::default);
        self.layout = request.layout.as_deref().filter(|layout| !layout.is_empty()).cloned();
        if let Some(layout) = &self.layout {
            let capacity = text_capacity(self.tokens.capacity(), self.tokenizer.longest_piece());
            self.splitter.start(layout, layout.opening(&self.tokenizer, &request.prompt), capacity);
        }
        Ok(())
    }

    /// Replaces the tokens.
    pub(super) fn set_prompt(&mut self, prompt: &[u32]) {
        self.tokens.clear();
        self.drafted = 0;
        self.tokens.extend_from_slice(prompt);
    }

    /// Replaces the tokens. The cache keeps what it shares with `prompt`, but not its last token; returns how many
    /// tokens it is.
    pub(super) fn rewind(&mut self, prompt: &[u32], cache: &mut dyn Rewind) -> usize {
        cache.truncate(self.shared(prompt, cache.position()).min(prompt.len() - 1));
        self.set_prompt(prompt);
        // A model may have to forget more than it was told to.
        cache.position()
    }

    /// Tokens that `prompt` shares with the first `position`.
    pub(super) fn shared(&self, prompt: &[u32], position: usize) -> usize {
        let pairs = self.tokens().iter().take(position).zip(prompt);
        pairs.take_while(|(old, new)| old == new).count()
    }

    /// Guesses at most `room` tokens that may follow, and puts them behind; returns how many.
    pub(super) fn draft(&mut self, room: usize) -> usize {
        let Sequence { lookup, tokens, tokenizer, turn_end, .. } = self;
        let draft = lookup.draft(tokens, room, |id| tokenizer.is_end(id) || *turn_end == Some(id));
        tokens.extend_from_slice(draft);
        self.drafted = draft.len();
        self.drafted
    }

    /// Puts tokens behind prompt and answer that are to be read after them.
    pub(super) fn set_draft(&mut self, draft: &[u32]) {
        self.drop_draft();
        self.tokens.extend_from_slice(draft);
        self.drafted = draft.len();
    }

    pub(super) fn drop_draft(&mut self) {
        self.tokens.truncate(self.tokens.len() - self.drafted);
        self.drafted = 0;
    }

    /// The functions that the answer calls, if what it says is a call.
    pub(super) fn parse_calls(&self) -> Vec<ToolCall> {
        let calls = self.layout.as_ref().and_then(|layout| layout.parse_calls(self.calls()));
        calls.unwrap_or_default()
    }

    /// Chooses the token that follows, given its `logits`; `room` more may follow.
    pub(super) fn choose(
        &mut self,
        logits: Logits<'_>,
        filter: Option<&mut (dyn LogitFilter + '_)>,
        room: usize,
    ) -> Result<u32, GenerateError> {
        let id = match filter {
            None => self.sampler.sample(logits, &self.tokens, None)?,
            Some(filter) => {
                let id = self.sampler.sample(logits, &self.tokens, Some(&mut *filter))?;
                let id = filter.settle(id, room).map_err(GenerateError::Filter)?;
                filter.accept(id).map_err(GenerateError::Filter)?;
                id
            }
        };
        self.logprobs.measure(logits, id)?;
        Ok(id)
    }

    /// Adds a token to the answer and reports it; returns the reason if it was the last. Only where anything may come
    /// next an answer can go in circles.
    pub(super) fn add(
        &mut self,
        id: u32,
        mut filter: Option<&mut (dyn LogitFilter + '_)>,
        ends: Ends,
        on_token: OnToken<'_>,
    ) -> Option<FinishReason> {
        self.tokens.push(id);
        let piece = self.detokenizer.push(&self.tokenizer, id);
        let is_free = filter.as_ref().is_none_or(|filter| filter.is_free());
        let circles = is_free && self.guard.as_mut().is_some_and(|guard| guard.push(id, piece));
        let circles = circles && !filter.as_mut().is_some_and(|filter| filter.end_reasoning());
        let mut released = match &self.layout {
            None => self.text.push(piece, &self.stop),
            Some(layout) => {
                let piece = layout.mark(&self.tokenizer, id).unwrap_or(piece);
                self.splitter.push(piece, &mut self.text, &self.stop)
            }
        };
        let named = self.stop_tokens.iter().find(|(token, _)| *token == id).map(|(_, index)| *index);
        let finish = if let Some(index) = released.stopped.or(named) {
            Some(FinishReason::StopString(index))
        } else if self.tokens.len() >= ends.length {
            Some(FinishReason::Length)
        } else if self.tokens.len() > ends.context {
            Some(FinishReason::Context)
        } else if circles {
            Some(FinishReason::Loop)
        } else {
            None
        };
        if finish.is_some() {
            if self.layout.is_some() && released.stopped.is_none() {
                self.splitter.finish(&mut self.text);
            }
            released.range.end = self.text.release_all().range.end;
        }
        let reasoning = if self.layout.is_some() { self.splitter.take_reasoning() } else { "" };
        let text = &self.text.text()[released.range];
        let logprobs = self.logprobs.get();
        if let (Some(sum), Some(of_token)) = (&mut self.logprob, logprobs) {
            *sum += f64::from(of_token.chosen);
        }
        let flow = on_token(&TokenEvent { id: Some(id), text, reasoning, logprobs });
        if finish.is_none() && flow.is_break() {
            if self.layout.is_some() {
                self.splitter.finish(&mut self.text);
            }
            return Some(FinishReason::Cancelled);
        }
        finish
    }

    /// Reports the text held back, if any; at the model's own end also a character it left incomplete.
    pub(super) fn release_held(&mut self, model_ended: bool, on_token: OnToken<'_>) {
        let rest = if model_ended { self.detokenizer.finish() } else { "" };
        let mut released = match &self.layout {
            None => self.text.push(rest, &[]),
            Some(_) => self.splitter.push(rest, &mut self.text, &[]),
        };
        if self.layout.is_some() {
            self.splitter.finish(&mut self.text);
            released.range.end = self.text.release_all().range.end;
        }
        let reasoning = if self.layout.is_some() { self.splitter.take_reasoning() } else { "" };
        if !released.range.is_empty() || !reasoning.is_empty() {
            let text = &self.text.text()[released.range];
            // The answer ends here whatever the caller says.
            let _ = on_token(&TokenEvent { id: None, text, reasoning, logprobs: None });
        }
    }
}

/// Prompt and answer: the last token chosen needs no room in the context.
pub(super) fn tokens_capacity(context: usize) -> usize {
    context.saturating_add(1)
}

pub(super) fn text_capacity(tokens: usize, longest_piece: usize) -> usize {
    tokens.saturating_mul(longest_piece).min(MAX_RESERVED_TEXT)
}
