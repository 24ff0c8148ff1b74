//! An answer under way. See [`Generation`].

use std::sync::Arc;
use std::time::Instant;

use crate::model::{LogitRows, Logits, ModelError};

use super::gate::Gate;
use super::metrics::Stopwatch;
use super::request::{FinishReason, Outcome, Request, TokenEvent};
use super::sequence::{Ends, OnToken, Sequence};
use super::task::{Limits, Read, Rewind, Room, Task};
use super::{CancelHandle, GenerateError, LogitFilter, tally};

/// A request that is being answered.
pub(super) struct Generation<'a> {
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens of the prompt that were in the cache.
    cached: usize,
    ends: Ends,
    cancel: Option<CancelHandle>,
    progress: Option<Box<dyn Fn(usize, usize) + Send + 'a>>,
    filter: Option<Box<dyn LogitFilter + 'a>>,
    watch: Stopwatch,
    /// What the cache keeps of the tokens read last.
    used: Option<usize>,
    finish: Option<FinishReason>,
    is_interrupted: bool,
}

impl<'a> Generation<'a> {
    /// Checks a request and prepares the sequence for it.
    ///
    /// # Errors
    /// If an option is outside its range, the prompt is empty, longer than the context or not of the vocabulary, or no
    /// whole answer fits.
    pub(super) fn start(
        request: Request<'a>,
        sequence: &mut Sequence,
        cache: &mut dyn Rewind,
        limits: Limits,
    ) -> Result<Self, GenerateError> {
        let watch = Stopwatch::start(Instant::now());
        sequence.start(&request, limits)?;
        let prompt = request.prompt.len();
        check_prompt(&request.prompt, prompt, limits)?;
        let cached = sequence.rewind(&request.prompt, cache);
        let length = prompt.saturating_add(request.max_tokens.unwrap_or(usize::MAX));
        let marks = request.layout.as_ref().and_then(|layout| layout.reasoning);
        let mut filter = match (request.filter, marks, request.layout) {
            (Some(inner), Some(marks), Some(layout)) => {
                let tokenizer = Arc::clone(sequence.tokenizer());
                let gate = Gate::new(inner, layout.into_owned(), marks, tokenizer, sequence.ends());
                Some(Box::new(gate) as Box<dyn LogitFilter + 'a>)
            }
            (filter, ..) => filter,
        };
        if let Some(filter) = &mut filter {
            filter.start(&request.prompt);
        }
        let generation = Self {
            prompt,
            cached,
            ends: Ends { length, context: limits.context },
            cancel: request.cancel,
            progress: request.progress,
            filter,
            watch,
            used: None,
            finish: None,
            is_interrupted: false,
        };
        generation.check_room()?;
        Ok(generation)
    }

    /// Makes sure that a whole answer fits.
    fn check_room(&self) -> Result<(), GenerateError> {
        let (allowed, filter) = (self.ends.room(self.prompt), self.filter.as_ref());
        let needed = filter.map_or(0, |filter| filter.least_tokens());
        if allowed > 0 && needed > allowed {
            return Err(GenerateError::FormTooLong { needed, allowed });
        }
        Ok(())
    }

    /// Tokens that a draft may have when prompt and answer have `len`: it must fit into the context, and the
    /// token after it must be wanted. The prompt is read without one, for what is said of its time.
    fn draft_room(&self, len: usize) -> usize {
        if len == self.prompt {
            return 0;
        }
        let Ends { length, context } = self.ends;
        context.saturating_sub(len).min(length.saturating_sub(len + 1))
    }

    /// Chooses the token that follows the sequence.
    fn choose(&mut self, sequence: &mut Sequence, logits: Logits<'_>) -> Result<u32, GenerateError> {
        let room = self.ends.room(sequence.tokens().len() + 1);
        let id = sequence.choose(logits, self.filter.as_deref_mut(), room)?;
        self.watch.sampled(Instant::now());
        Ok(id)
    }

    /// Chooses tokens while they are those of the draft.
    fn choose_all(
        &mut self,
        sequence: &mut Sequence,
        logits: LogitRows<'_>,
        on_token: OnToken<'_>,
    ) -> Result<Option<FinishReason>, GenerateError> {
        let len = sequence.tokens().len();
        for (row, logits) in logits.rows().enumerate() {
            // Without a draft it would be asked before this row is computed.
            if row > 0 && self.is_cancelled() {
                self.interrupt();
                return Ok(Some(FinishReason::Cancelled));
            }
            self.used = Some(len + row);
            let id = self.choose(sequence, logits)?;
            if sequence.is_end(id) {
                sequence.release_held(true, on_token);
                return Ok(Some(FinishReason::EndToken(id)));
            }
            let is_drafted = sequence.lookup.accept(row, id);
            let finish = sequence.add(id, self.filter.as_deref_mut(), self.ends, on_token);
            let is_done = self.filter.as_ref().is_some_and(|filter| filter.is_done());
            if is_done && finish.is_none_or(FinishReason::is_limit) {
                sequence.release_held(true, on_token);
                return Ok(Some(FinishReason::Complete));
            }
            if finish.is_some() || !is_drafted {
                return Ok(finish);
            }
        }
        Ok(None)
    }

    /// Whether an answer that ended like this is a whole one.
    fn is_whole(&mut self, finish: FinishReason) -> bool {
        match (&mut self.filter, finish) {
            (None, _) | (_, FinishReason::Complete) => true,
            (_, FinishReason::StopString(_)) => false,
            (Some(filter), _) => filter.is_whole(),
        }
    }

    /// The answer as it is now. The cache keeps what was read of it.
    pub(super) fn end(
        mut self,
        sequence: &mut Sequence,
        cache: &mut dyn Rewind,
        on_token: OnToken<'_>,
    ) -> Outcome {
        sequence.drop_draft();
        let finish = self.finish.unwrap_or(FinishReason::Cancelled);
        if self.is_interrupted {
            // A model that had to forget more than it was told to may not be back there.
            let fed = cache.position().saturating_sub(self.cached);
            self.watch.prompt_fed(fed, Instant::now());
            // Of the answer the last token is not read; what is beyond it is a draft.
            cache.truncate(sequence.tokens().len() - 1);
            sequence.release_held(false, on_token);
        } else if let Some(used) = self.used {
            cache.truncate(used);
        }
        let tool_calls = sequence.parse_calls();
        // Calls that were cut off are text.
        let rest = if tool_calls.is_empty() { sequence.calls() } else { "" };
        if !rest.is_empty() {
            // The answer ends here whatever the caller says.
            let _ = on_token(&TokenEvent { id: None, text: rest, reasoning: "", logprobs: None });
        }
        let [drafted, accepted] = sequence.lookup.counts();
        let outcome = Outcome {
            tokens: sequence.tokens()[self.prompt..].to_vec(),
            text: [sequence.text(), rest].concat(),
            tool_calls,
            reasoning: Some(sequence.reasoning()).filter(|text| !text.is_empty()).map(str::to_owned),
            logprob: sequence.logprob(),
            finish,
            whole: self.is_whole(finish),
            prompt_tokens: self.prompt,
            cached_tokens: self.cached,
            timings: self.watch.stop(Instant::now(), drafted, accepted),
        };
        tally::count(&outcome);
        outcome
    }
}

impl Task for Generation<'_> {
    fn next(&mut self, sequence: &mut Sequence, cache: &mut dyn Rewind, room: Room) -> Option<Read> {
        if let Some(used) = self.used.take() {
            cache.truncate(used);
        }
        if self.finish.is_none() && self.is_cancelled() {
            self.interrupt();
        }
        if self.finish.is_some() {
            return None;
        }
        let (len, position) = (sequence.tokens().len(), cache.position());
        if let Some(progress) = self.progress.as_ref().filter(|_| len == self.prompt) {
            progress(position, len);
        }
        if len - position > room.tokens {
            return Some(Read { range: position..position + room.tokens, rows: 0 });
        }
        let most = (room.tokens - (len - position)).min(room.rows - 1);
        let drafted = sequence.draft(self.draft_room(len).min(most));
        Some(Read { range: position..len + drafted, rows: 1 + drafted })
    }

    fn take(
        &mut self,
        sequence: &mut Sequence,
        logits: LogitRows<'_>,
        on_token: OnToken<'_>,
    ) -> Result<(), GenerateError> {
        if logits.is_empty() {
            return Ok(());
        }
        sequence.drop_draft();
        let len = sequence.tokens().len();
        self.watch.prompt_fed(len - self.cached, Instant::now());
        if len >= self.ends.length {
            self.finish = Some(FinishReason::Length);
            return Ok(());
        }
        self.finish = self.choose_all(sequence, logits, on_token)?;
        sequence.lookup.step();
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.finish.is_some()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled)
    }

    fn interrupt(&mut self) {
        self.finish = Some(FinishReason::Cancelled);
        self.is_interrupted = true;
    }
}

/// Makes sure that there is a prompt, of tokens that the model knows, and that it and what follows it, `tokens` in all,
/// fit into the context.
pub(super) fn check_prompt(prompt: &[u32], tokens: usize, limits: Limits) -> Result<(), GenerateError> {
    let Limits { context, vocab, .. } = limits;
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if tokens > context {
        return Err(GenerateError::PromptTooLong { tokens, context });
    }
    match prompt.iter().find(|id| **id as usize >= vocab) {
        Some(&token) => Err(ModelError::TokenOutOfRange { token, vocab }.into()),
        None => Ok(()),
    }
}
