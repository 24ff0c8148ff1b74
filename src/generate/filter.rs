//! A rule of the caller's on what may come next.

use std::error::Error;

/// Why a [`LogitFilter`] cannot go on.
pub type FilterError = Box<dyn Error + Send + Sync>;

/// Changes the logits of every step, for constrained output or biases.
///
/// A session calls [`apply`](Self::apply) once for every token it is about to choose, after the repetition
/// penalty and before all other filters, [`settle`](Self::settle) with the token that was chosen, and
/// [`accept`](Self::accept) with the one that is taken, end tokens included. An object serves one request.
pub trait LogitFilter: Send {
    /// Learns the prompt, before anything else.
    fn start(&mut self, prompt: &[u32]) {
        let _ = prompt;
    }

    /// Changes `logits`, `[vocab]`. A token set to negative infinity is never chosen.
    ///
    /// # Errors
    /// The request fails with [`GenerateError::Filter`](super::GenerateError::Filter).
    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError>;

    /// The token to take, which is `token` or another: `room` more may follow, and a whole answer may need them.
    ///
    /// # Errors
    /// As for [`apply`](Self::apply).
    fn settle(&mut self, token: u32, room: usize) -> Result<u32, FilterError> {
        let _ = room;
        Ok(token)
    }

    /// Learns which token was taken.
    ///
    /// # Errors
    /// As for [`apply`](Self::apply).
    fn accept(&mut self, token: u32) -> Result<(), FilterError>;

    /// Whether the answer is complete and nothing may follow it. The session then ends it with
    /// [`FinishReason::Complete`](super::FinishReason::Complete).
    fn is_done(&self) -> bool {
        false
    }

    /// Whether the answer so far is a whole one, were it to end here.
    fn is_whole(&mut self) -> bool {
        true
    }

    /// Whether anything may come next, as in the reasoning before an answer.
    fn is_free(&self) -> bool {
        false
    }

    /// Asks for the answer, because what comes before it goes in circles; whether it will come.
    fn end_reasoning(&mut self) -> bool {
        false
    }

    /// Whether a part of the answer was in the prompt.
    fn has_part(&self) -> bool {
        false
    }

    /// Tokens that a whole answer takes at least, asked before the first.
    fn least_tokens(&self) -> usize {
        0
    }
}

impl<F: LogitFilter + ?Sized> LogitFilter for &mut F {
    fn start(&mut self, prompt: &[u32]) {
        (**self).start(prompt);
    }

    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        (**self).apply(logits)
    }

    fn settle(&mut self, token: u32, room: usize) -> Result<u32, FilterError> {
        (**self).settle(token, room)
    }

    fn accept(&mut self, token: u32) -> Result<(), FilterError> {
        (**self).accept(token)
    }

    fn is_done(&self) -> bool {
        (**self).is_done()
    }

    fn is_whole(&mut self) -> bool {
        (**self).is_whole()
    }

    fn is_free(&self) -> bool {
        (**self).is_free()
    }

    fn end_reasoning(&mut self) -> bool {
        (**self).end_reasoning()
    }

    fn has_part(&self) -> bool {
        (**self).has_part()
    }

    fn least_tokens(&self) -> usize {
        (**self).least_tokens()
    }
}

/// A rule that has seen the part of an answer that is there: for what follows it.
pub struct Resumed<'a> {
    rule: &'a mut dyn LogitFilter,
    /// Tokens of the prompt that are not part of the answer.
    prompt: usize,
    failure: Option<FilterError>,
    /// Whether a part of the answer is there.
    has_part: bool,
}

impl<'a> Resumed<'a> {
    /// A rule for a request of whose prompt only the first `prompt` tokens are not part of the answer.
    pub fn new(rule: &'a mut dyn LogitFilter, prompt: usize) -> Resumed<'a> {
        Resumed { rule, prompt, failure: None, has_part: false }
    }

    fn check(&mut self) -> Result<(), FilterError> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

impl LogitFilter for Resumed<'_> {
    fn start(&mut self, prompt: &[u32]) {
        let (before, answer) = prompt.split_at(self.prompt.min(prompt.len()));
        self.rule.start(before);
        self.has_part = !answer.is_empty();
        self.failure = answer.iter().try_for_each(|token| self.rule.accept(*token)).err();
    }

    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        self.check()?;
        self.rule.apply(logits)
    }

    fn settle(&mut self, token: u32, room: usize) -> Result<u32, FilterError> {
        self.check()?;
        self.rule.settle(token, room)
    }

    fn accept(&mut self, token: u32) -> Result<(), FilterError> {
        self.check()?;
        self.rule.accept(token)
    }

    fn is_whole(&mut self) -> bool {
        self.rule.is_whole()
    }

    fn least_tokens(&self) -> usize {
        if self.has_part { 0 } else { self.rule.least_tokens() }
    }

    fn has_part(&self) -> bool {
        self.has_part
    }

    fn is_done(&self) -> bool {
        self.rule.is_done()
    }
}
