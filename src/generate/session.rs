//! One model, what is in its cache, and the loop that continues it. See [`Session`].

use std::io;
use std::sync::Arc;

use crate::model::{LanguageModel, ModelError, Resume, TILE, logit_blocks};
use crate::text::Tokenizer;

use super::GenerateError;
use super::generation::Generation;
use super::logprobs::LOGPROB_BYTES;
use super::request::{Outcome, Request};
use super::sampler::SAMPLER_BYTES_PER_TOKEN;
use super::sequence::{OnToken, Sequence, text_capacity, tokens_capacity};
use super::task::{Limits, Read, Room, Task};

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
}

impl<M: LanguageModel> Session<M> {
    /// A session with an empty cache; what the model holds is forgotten.
    pub fn new(mut model: M, tokenizer: Arc<Tokenizer>) -> Session<M> {
        model.truncate(0);
        let sequence = Sequence::new(tokenizer, model.context(), model.vocab_size());
        Session { model, sequence }
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Takes all memory that the model allocated: see [`LanguageModel::prefault`].
    pub fn prefault(&mut self) {
        self.model.prefault();
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

    /// Answers a request. `on_token` gets every token as it comes; with
    /// [`ControlFlow::Break`](std::ops::ControlFlow::Break) it ends the answer, and text still held back is then in the
    /// outcome only.
    ///
    /// # Errors
    /// If an option is outside its range, the prompt is empty or longer than the context, the model or the
    /// filter fails, or no token can be chosen. Cancellation is no error.
    pub fn generate(
        &mut self,
        request: Request<'_>,
        on_token: OnToken<'_>,
    ) -> Result<Outcome, GenerateError> {
        let limits = self.limits();
        let mut generation = Generation::start(request, &mut self.sequence, &mut self.model, limits)?;
        self.drive(&mut generation, on_token)?;
        Ok(generation.end(&mut self.sequence, &mut self.model, on_token))
    }

    pub(super) fn limits(&self) -> Limits {
        let (context, vocab, rows) =
            (self.model.context(), self.model.vocab_size(), self.model.logit_rows().max(1));
        Limits { context, vocab, rows }
    }

    /// Takes a task to its end.
    pub(super) fn drive(&mut self, task: &mut dyn Task, on_token: OnToken<'_>) -> Result<(), GenerateError> {
        while self.step(task, on_token).inspect_err(|_| self.clear())? {}
        Ok(())
    }

    /// Takes a task one step further; whether it goes on.
    pub(super) fn step(&mut self, task: &mut dyn Task, on_token: OnToken<'_>) -> Result<bool, GenerateError> {
        let Session { model, sequence } = self;
        let room = Room { tokens: TILE, rows: model.logit_rows().max(1) };
        let Some(read) = task.next(sequence, model, room) else { return Ok(false) };
        if read.rows > room.rows {
            return Self::step_all(model, sequence, task, read, on_token);
        }
        let fed = model.feed_rows(&sequence.all()[read.range], read.rows, &|| task.is_cancelled());
        match fed {
            Ok(logits) => task.take(sequence, logits, on_token)?,
            Err(ModelError::Cancelled) => task.interrupt(),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Takes a task a step further that takes its logits some at a time.
    fn step_all(
        model: &mut M,
        sequence: &mut Sequence,
        task: &mut dyn Task,
        read: Read,
        on_token: OnToken<'_>,
    ) -> Result<bool, GenerateError> {
        let tokens = sequence.all()[read.range].to_vec();
        let mut taken = Ok(());
        model.feed_all(&tokens, read.rows, &mut |logits| {
            if taken.is_ok() {
                taken = task.take(sequence, logits, on_token);
            }
        })?;
        taken.map(|()| true)
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
