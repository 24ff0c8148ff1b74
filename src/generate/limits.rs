//! What a model gives and takes, and its cache, as far as work on a sequence knows them.

use crate::model::{Cache, LanguageModel};

/// What a model gives and takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) context: usize,
    pub(super) vocab: usize,
    /// Most rows of logits for one sequence.
    pub(super) rows: usize,
}

/// The cache of a sequence, as far as tasks know it.
pub(super) trait Rewind {
    fn position(&self) -> usize;

    /// As [`LanguageModel::truncate`].
    fn truncate(&mut self, position: usize);
}

impl<M: LanguageModel> Rewind for M {
    fn position(&self) -> usize {
        LanguageModel::position(self)
    }

    fn truncate(&mut self, position: usize) {
        LanguageModel::truncate(self, position);
    }
}

impl Rewind for Cache {
    fn position(&self) -> usize {
        Cache::position(self)
    }

    fn truncate(&mut self, position: usize) {
        Cache::truncate(self, position);
    }
}
