//! A loaded model.

use std::sync::Arc;

use super::{LoadError, MemoryPlan};
use crate::generate::{Conversation, Format, SamplerOptions, Session, Slots};
use crate::model::{Model, RunOptions, Runner};
use crate::text::{ChatTemplate, Tokenizer};

/// Weights and tokenizer of a model, shared by any number of sessions. The file is not needed any more.
pub struct Loaded {
    pub(super) model: Arc<Model>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) options: RunOptions,
    pub(super) plan: MemoryPlan,
    pub(super) sampling: SamplerOptions,
}

impl Loaded {
    /// The weights.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// How the model prefers tokens to be chosen, else the defaults; the seed is 0.
    pub fn sampling(&self) -> &SamplerOptions {
        &self.sampling
    }

    /// The options of a session.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// The memory that the model and one session take; another session takes [`MemoryPlan::of_session`] more.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Compiles the model's own chat template; `None` where it has none, as base models do.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn template(&self) -> Result<Option<ChatTemplate>, LoadError> {
        Ok(ChatTemplate::of(&self.tokenizer)?)
    }

    /// How messages become a prompt: by the model's chat template, else as text that is continued.
    ///
    /// # Errors
    /// As [`Self::template`].
    pub fn format(&self) -> Result<Format, LoadError> {
        Ok(Format::of(&self.tokenizer)?)
    }

    /// The tokens of a prompt with one message, in the model's own format. For more than one, keep a [`Conversation`].
    ///
    /// # Errors
    /// If the template is not valid, or the message does not fit into the context.
    pub fn prompt(&self, message: &str) -> Result<Vec<u32>, LoadError> {
        let mut conversation = Conversation::new(None);
        conversation.ask(message);
        Ok(conversation.next(&self.format()?, &self.tokenizer, self.options.context, 1)?.tokens)
    }

    /// Makes a session, whose answers end where the model's chat template ends them.
    ///
    /// # Errors
    /// If memory cannot be had, or the template is not valid.
    pub fn session(&self) -> Result<Session<Runner>, LoadError> {
        let end = self.format()?.turn_end(&self.tokenizer);
        let mut session = self.plain_session()?;
        session.set_turn_end(end);
        Ok(session)
    }

    /// Makes a session that knows no chat template: answers end at the end tokens of the vocabulary.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn plain_session(&self) -> Result<Session<Runner>, LoadError> {
        let options = RunOptions { slots: 1, ..self.options };
        let runner = Runner::new(Arc::clone(&self.model), &options)?;
        Ok(Session::new(runner, Arc::clone(&self.tokenizer)))
    }

    /// Makes slots for several sequences at once ([`LoadOptions::slots`](super::LoadOptions::slots)), whose answers end
    /// where the model's chat template ends them; `queue` jobs may wait for one.
    ///
    /// # Errors
    /// If memory cannot be had, or the template is not valid.
    pub fn slots<'a>(&self, queue: usize) -> Result<Slots<'a>, LoadError> {
        let end = self.format()?.turn_end(&self.tokenizer);
        let mut slots = self.plain_slots(queue)?;
        slots.set_turn_end(end);
        Ok(slots)
    }

    /// Makes slots that know no chat template, as [`Self::plain_session`].
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn plain_slots<'a>(&self, queue: usize) -> Result<Slots<'a>, LoadError> {
        Ok(Slots::new(Arc::clone(&self.model), &self.tokenizer, &self.options, queue)?)
    }
}
