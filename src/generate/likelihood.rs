//! What a model predicts at given positions of texts.

use std::ops::ControlFlow;

use crate::model::{LanguageModel, LogitRows, ModelError};

use super::generation::check_prompt;
use super::sequence::{OnToken, Sequence};
use super::task::{Limits, Read, Rewind, Room, Task};
use super::{CancelHandle, GenerateError, Session};

/// A text of which the tokens from `first` on are predicted from those before them. The last token is only predicted,
/// never read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicted {
    /// The text.
    pub tokens: Vec<u32>,
    /// At least 1, and less than there are tokens.
    pub first: usize,
}

impl Predicted {
    /// The tokens before the first that is predicted.
    pub(super) fn prompt(&self) -> &[u32] {
        self.tokens.get(..self.first).unwrap_or_default()
    }
}

/// Gets the number of the text, the place `i` of a token in it, and the logits that predict this token, `[vocab]`.
pub type OnPrediction<'a> = Box<dyn FnMut(usize, usize, &[f32]) + Send + 'a>;

impl<M: LanguageModel> Session<M> {
    /// Reads texts and calls `visit` for every token that is to be predicted, in order. What a text shares with the
    /// cache, as with the text before, is not computed again, as far as no logits of it are wanted.
    ///
    /// # Errors
    /// If in a text there is no token before `first` or none from it on, all but the last do not fit into the context,
    /// the model fails, or it was cancelled ([`ModelError::Cancelled`]).
    pub fn predictions(
        &mut self,
        texts: Vec<Predicted>,
        cancel: Option<&CancelHandle>,
        visit: OnPrediction<'_>,
    ) -> Result<(), GenerateError> {
        let (limits, cancel) = (self.limits(), cancel.cloned());
        let Session { model, sequence } = self;
        let mut predicting = Predicting::start(texts, cancel, visit, sequence, model, limits)?;
        self.drive(&mut predicting, &mut |_| ControlFlow::Continue(()))?;
        let ended = predicting.end(&mut self.sequence);
        if ended.is_err() {
            self.clear();
        }
        ended
    }
}

/// Texts that are being read.
pub(super) struct Predicting<'a> {
    texts: Vec<Predicted>,
    cancel: Option<CancelHandle>,
    visit: OnPrediction<'a>,
    /// Text under way, and its token whose prediction is asked for next; `None` behind the last text.
    at: (usize, Option<usize>),
    is_interrupted: bool,
}

impl<'a> Predicting<'a> {
    /// As [`Session::predictions`].
    pub(super) fn start(
        texts: Vec<Predicted>,
        cancel: Option<CancelHandle>,
        visit: OnPrediction<'a>,
        sequence: &mut Sequence,
        cache: &mut dyn Rewind,
        limits: Limits,
    ) -> Result<Self, GenerateError> {
        for Predicted { tokens, first } in &texts {
            if *first == 0 || *first >= tokens.len() {
                return Err(GenerateError::EmptyPrompt);
            }
            let read = &tokens[..tokens.len() - 1];
            check_prompt(read, read.len(), limits)?;
        }
        let mut new = Self { texts, cancel, visit, at: (0, None), is_interrupted: false };
        new.begin(0, sequence, cache);
        Ok(new)
    }

    /// Goes to a text, if there are so many.
    fn begin(&mut self, text: usize, sequence: &mut Sequence, cache: &mut dyn Rewind) {
        self.at = (text, None);
        if let Some(text) = self.texts.get(text) {
            sequence.rewind(text.prompt(), cache);
            sequence.set_prompt(&text.tokens[..text.tokens.len() - 1]);
            self.at.1 = Some(text.first);
        }
    }

    /// # Errors
    /// If it was cancelled.
    pub(super) fn end(self, sequence: &mut Sequence) -> Result<(), GenerateError> {
        sequence.drop_draft();
        if self.is_interrupted { Err(ModelError::Cancelled.into()) } else { Ok(()) }
    }
}

impl Task for Predicting<'_> {
    fn next(&mut self, sequence: &mut Sequence, cache: &mut dyn Rewind, room: Room) -> Option<Read> {
        if self.is_cancelled() {
            self.interrupt();
        }
        if self.at.1 == self.texts.get(self.at.0).map(|text| text.tokens.len()) {
            self.begin(self.at.0 + 1, sequence, cache);
        }
        let (tokens, next) = (&self.texts.get(self.at.0)?.tokens, self.at.1?);
        if self.is_interrupted {
            return None;
        }
        let (start, begin) = (cache.position(), next - 1);
        let end = (tokens.len() - 1).min(start + room.tokens);
        Some(Read { range: start..end, rows: end.saturating_sub(begin.max(start)) })
    }

    fn take(&mut self, _: &mut Sequence, logits: LogitRows<'_>, _: OnToken<'_>) -> Result<(), GenerateError> {
        let (text, Some(next)) = self.at else { return Ok(()) };
        let mut end = next;
        for logits in logits.rows() {
            (self.visit)(text, end, logits.values);
            end += 1;
        }
        self.at.1 = Some(end);
        Ok(())
    }

    fn is_over(&self) -> bool {
        let (text, next) = self.at;
        let is_read = |text: &Predicted| next == Some(text.tokens.len());
        self.is_interrupted
            || text + usize::from(self.texts.get(text).is_some_and(is_read)) >= self.texts.len()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled)
    }

    fn interrupt(&mut self) {
        self.is_interrupted = true;
    }
}
