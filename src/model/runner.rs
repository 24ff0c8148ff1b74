//! A model that continues one sequence.

use super::LanguageModel;
use super::cache::Cache;
use super::error::ModelError;
use super::header::Model;
use super::logits::LogitRows;
use super::options::{RunOptions, TILE};
use super::step::Piece;
use super::tile::{Parts, Tile};
use super::worker::Worker;
use std::sync::Arc;

/// A [`Worker`] with the [`Cache`] of one sequence.
pub struct Runner {
    pub(super) worker: Worker,
    pub(super) cache: Cache,
}

impl Runner {
    /// Allocates what [`super::Plan`] counts for one slot and starts the threads.
    ///
    /// # Errors
    /// If the context is out of range or memory cannot be had.
    pub fn new(model: Arc<Model>, options: &RunOptions) -> Result<Self, ModelError> {
        let cache = Cache::new(Arc::clone(&model), options)?;
        Ok(Self { worker: Worker::new(model, options)?, cache })
    }

    /// Joins a worker and a cache of the same model.
    pub(crate) fn from_parts(worker: Worker, cache: Cache) -> Self {
        Self { worker, cache }
    }

    /// What [`Self::from_parts`] joined.
    pub(crate) fn into_parts(self) -> (Worker, Cache) {
        (self.worker, self.cache)
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.worker.model
    }

    /// Threads in use; fewer than asked for if the system refused to start them.
    pub fn threads(&self) -> usize {
        self.worker.threads()
    }

    /// Reads tokens and calls `visit(index, logits)` for each from `first` on, in order.
    ///
    /// # Errors
    /// As [`LanguageModel::feed`].
    pub fn score(
        &mut self,
        tokens: &[u32],
        first: usize,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), ModelError> {
        let mut at = first;
        self.feed_all(tokens, tokens.len().saturating_sub(first), &mut |rows| {
            for logits in rows.rows() {
                visit(at, logits.values);
                at += 1;
            }
        })
    }

    /// A tile of `tokens` tokens at `position`. Attention sees what the layer's cache holds of the positions
    /// before: the tiles of a text must pass a layer in order.
    ///
    /// # Errors
    /// If there are no tokens, more than [`TILE`] or more than fit into the context.
    pub fn tile(&mut self, position: usize, tokens: usize) -> Result<Tile<'_>, ModelError> {
        let context = self.cache.context().min(position.saturating_add(self.worker.most_tokens()));
        match position.checked_add(tokens) {
            _ if tokens == 0 => return Err(ModelError::NoTokens),
            Some(needed) if needed <= context => {}
            needed => return Err(ModelError::ContextFull { needed: needed.unwrap_or(usize::MAX), context }),
        }
        self.cache.position = position;
        let mut parts = Parts::default();
        parts.push(&mut self.cache, tokens);
        Ok(Tile::new(&mut self.worker, parts))
    }

    /// Reads at most [`TILE`] checked tokens.
    fn forward(&mut self, tokens: &[u32]) {
        self.worker.forward(&mut [Piece { cache: &mut self.cache, tokens, rows: 0 }]);
    }
}

impl LanguageModel for Runner {
    fn context(&self) -> usize {
        self.cache.context()
    }

    fn vocab_size(&self) -> usize {
        self.worker.model.spec.vocab
    }

    fn position(&self) -> usize {
        self.cache.position
    }

    fn truncate(&mut self, position: usize) {
        self.cache.truncate(position);
    }

    fn logit_rows(&self) -> usize {
        self.worker.logit_rows()
    }

    fn prefault(&mut self) {
        self.worker.prefault();
        self.cache.prefault();
    }

    fn feed_rows(
        &mut self,
        tokens: &[u32],
        rows: usize,
        cancel: &dyn Fn() -> bool,
    ) -> Result<LogitRows<'_>, ModelError> {
        self.worker.check_tokens(&self.cache, tokens)?;
        let most = self.logit_rows().min(tokens.len());
        if rows > most {
            return Err(ModelError::LogitRows { found: rows, most });
        }
        let first = tokens.len() - rows;
        for (i, tile) in tokens.chunks(TILE).enumerate() {
            if cancel() {
                return Err(ModelError::Cancelled);
            }
            self.forward(tile);
            let start = i * TILE;
            let wanted = first.saturating_sub(start)..tile.len();
            if !wanted.is_empty() {
                let row = start + wanted.start - first;
                self.worker.head(wanted, row);
            }
        }
        Ok(self.worker.logits(rows))
    }

    fn feed_all(
        &mut self,
        tokens: &[u32],
        rows: usize,
        take: &mut dyn FnMut(LogitRows<'_>),
    ) -> Result<(), ModelError> {
        self.worker.check_tokens(&self.cache, tokens)?;
        let (first, most) = (tokens.len().saturating_sub(rows), self.logit_rows());
        for (i, tile) in tokens.chunks(TILE).enumerate() {
            self.forward(tile);
            let mut row = first.saturating_sub(i * TILE);
            while row < tile.len() {
                let end = tile.len().min(row + most);
                take(self.worker.head(row..end, 0));
                row = end;
            }
        }
        Ok(())
    }
}
