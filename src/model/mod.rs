//! What the layers above need of a model: logits for tokens, a cache that can be cut.

/// A model that continues a sequence of tokens kept in its cache.
pub trait LanguageModel {
    /// Positions in the cache.
    fn context(&self) -> usize;

    /// Length of the logits; ids are below it.
    fn vocab_size(&self) -> usize;

    /// Tokens now in the cache.
    fn position(&self) -> usize;

    /// Forgets everything from `position` on.
    fn truncate(&mut self, position: usize);

    /// Appends tokens and returns the logits of the last one, `[vocab]`.
    ///
    /// # Errors
    /// `cancel` is asked between tiles; [`ModelError::Cancelled`] leaves the cache valid up to the tiles done.
    fn feed(&mut self, tokens: &[u32], cancel: &dyn Fn() -> bool) -> Result<&[f32], ModelError>;
}

/// What can go wrong in a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message explains its fields")]
pub enum ModelError {
    #[error("{needed} tokens do not fit a context of {context}; shorten the text or give a larger context")]
    ContextFull { needed: usize, context: usize },
    #[error("cancelled")]
    Cancelled,
    #[error("token {token} is not in the vocabulary of {vocab} tokens")]
    TokenOutOfRange { token: u32, vocab: usize },
}
