//! Models: what a family is, what a file holds, and the forward pass.
//!
//! * `families`: a row of data per family; no code knows a family by name.
//! * [`Spec`]: a model's shape, from the header.
//! * `layout`: where each tensor goes; [`Header`]: a header that was read.
//! * [`RunOptions`]: what a run needs room for; [`Plan`]: the memory it takes; [`Model`]: the packed weights. Both come from a [`Header`].
//! * `filling`: what reads and packs them, on all threads.
//! * `packed`: packed weights kept in a file, so that the next start need not pack them; `write_pack` writes them.
//! * [`Cache`]: what is kept of one sequence: KV cache, inputs of convolutions, states.
//! * [`Worker`]: working memory and threads; [`Worker::step`] is the one forward pass, for any number of sequences, in
//!   `step`.
//! * [`Runner`]: a worker with the cache of one sequence.
//! * [`Tile`]: the stages of the pass, for those who look inside; `mix` is the one in which tokens meet.
//! * `history`, `states`: what convolutions and state spaces remember, and how they go back.
//! * [`Logits`]: what a model says may come next.
//! * [`Resume`]: what the cache holds as bytes, to go on in a later run.
//! * [`LanguageModel`]: what generation and scoring need of a runner, so that tests can use another.

mod activations;
mod cache;
mod error;
mod families;
mod filling;
mod header;
mod history;
mod layout;
mod logits;
mod mix;
mod options;
mod packed;
mod plan;
mod rope;
mod runner;
mod snapshot;
mod spec;
mod states;
mod step;
#[cfg(feature = "trust")]
mod tagged;
#[cfg(not(feature = "trust"))]
#[path = "untagged.rs"]
mod tagged;
#[cfg(test)]
mod tests;
mod tile;
mod weights;
mod worker;
mod write_pack;

pub use cache::Cache;
pub use error::ModelError;
pub use families::{
    FAMILIES, Family, NormKind, NormPlaces, Parallel, Positions, QkNorm, RotaryPairs, Windows,
};
pub use header::{Header, Model};
pub use logits::{LogitRows, Logits, logit_blocks};
pub use options::{MAX_CONTEXT, MAX_SLOTS, RunOptions, TILE};
pub use packed::{Misfit, PackStatus, pack_path};
pub use plan::Plan;
pub use runner::Runner;
pub use snapshot::Resume;
pub use spec::{FIRST_LAYER, LayerSpec, Mixer, Rope, Rotary, Spec, StateSpec, check_purpose};
pub use step::{Piece, StepRows};
pub use tagged::Verified;
pub use tile::{Norm, Tile};
pub use worker::Worker;
pub use write_pack::{write_pack, write_verified_pack};

/// A causal language model with a cache of the tokens it has read.
pub trait LanguageModel {
    /// Positions in the cache.
    fn context(&self) -> usize;

    /// Number of tokens in the vocabulary.
    fn vocab_size(&self) -> usize;

    /// Tokens in the cache.
    fn position(&self) -> usize;

    /// Forgets the tokens from `position` on; no effect if there are fewer. A model that cannot go back to any
    /// position forgets more: see [`Self::position`].
    fn truncate(&mut self, position: usize);

    /// Most rows that [`Self::feed_rows`] returns.
    fn logit_rows(&self) -> usize;

    /// Takes all memory that was allocated. Systems give memory at the first write to it, which may come late in a
    /// long run, when there is none left.
    fn prefault(&mut self) {}

    /// Reads tokens and returns the logits after each of the last `rows` of them. They are the same however
    /// the tokens are split over calls. Long input is read in tiles; between them `cancel` is asked.
    ///
    /// # Errors
    /// If there are no tokens, they do not fit, an id is out of range, `rows` is above the number of
    /// tokens or [`Self::logit_rows`] ([`ModelError::ContextFull`] and the others leave the cache as it
    /// was), or `cancel` said so ([`ModelError::Cancelled`]: the tiles read before stay in the cache).
    fn feed_rows(
        &mut self,
        tokens: &[u32],
        rows: usize,
        cancel: &dyn Fn() -> bool,
    ) -> Result<LogitRows<'_>, ModelError>;

    /// Reads tokens and calls `take` with the logits after the last `rows` of them, any number, in order and some at a
    /// time.
    ///
    /// # Errors
    /// As [`Self::feed_rows`].
    fn feed_all(
        &mut self,
        tokens: &[u32],
        rows: usize,
        take: &mut dyn FnMut(LogitRows<'_>),
    ) -> Result<(), ModelError> {
        let (most, first) = (self.logit_rows().max(1), tokens.len().saturating_sub(rows));
        if first > 0 {
            self.feed_rows(&tokens[..first], 0, &|| false)?;
        }
        for tokens in tokens[first..].chunks(most) {
            take(self.feed_rows(tokens, tokens.len(), &|| false)?);
        }
        Ok(())
    }

    /// Reads tokens and returns the logits after the last, `[vocab]`.
    ///
    /// # Errors
    /// As [`Self::feed_rows`].
    fn feed(&mut self, tokens: &[u32], cancel: &dyn Fn() -> bool) -> Result<&[f32], ModelError> {
        Ok(self.feed_rows(tokens, 1, cancel)?.values)
    }
}
