//! What a model predicts at given positions of a text.

use crate::model::LanguageModel;

use super::{CancelHandle, GenerateError, Session};

impl<M: LanguageModel> Session<M> {
    /// Reads `tokens` and calls `visit(i, logits)` for every `i` from `first` on, in order, with the logits that
    /// predict `tokens[i]` from those before it, `[vocab]`. What `tokens` shares with the cache is not computed again,
    /// as far as no logits of it are wanted. The last token is only predicted, never read.
    ///
    /// # Errors
    /// If there is no token before `first` or none from it on, all but the last do not fit into the context, the model
    /// fails, or it was cancelled ([`crate::model::ModelError::Cancelled`]).
    pub fn predictions(
        &mut self,
        tokens: &[u32],
        first: usize,
        cancel: Option<&CancelHandle>,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), GenerateError> {
        if first == 0 || first >= tokens.len() {
            return Err(GenerateError::EmptyPrompt);
        }
        let (read, context) = (&tokens[..tokens.len() - 1], self.model.context());
        if read.len() > context {
            return Err(GenerateError::PromptTooLong { tokens: read.len(), context });
        }
        self.rewind(&read[..first]);
        let done = self.read_on(read, first, cancel, visit);
        if done.is_err() {
            self.clear();
        }
        done
    }

    /// Reads what the cache does not hold of `tokens`; the logits after token `first - 1` and later are wanted.
    fn read_on(
        &mut self,
        tokens: &[u32],
        first: usize,
        cancel: Option<&CancelHandle>,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), GenerateError> {
        self.sequence.set_prompt(tokens);
        let is_cancelled = || cancel.is_some_and(CancelHandle::is_cancelled);
        let rows = self.model.logit_rows().max(1);
        let mut at = self.model.position();
        while at < tokens.len() {
            let wanted = at.max(first - 1);
            let end = tokens.len().min(wanted + rows);
            let fed = self.model.feed_rows(&tokens[at..end], end - wanted, &is_cancelled)?;
            for (i, logits) in fed.rows().enumerate() {
                visit(wanted + 1 + i, logits.values);
            }
            at = end;
        }
        Ok(())
    }
}
