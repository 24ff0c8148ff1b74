//! What computes: threads and working memory, shared by all sequences. What it computes is in `step`, the stages in `tile`.

use super::activations::Activations;
use super::error::ModelError;
use super::header::Model;
use super::logits::logit_blocks;
use super::options::{self, RunOptions};
use super::rope::RopeTable;
use crate::kernels::KvShape;
use crate::kernels::ops::Executor;
use crate::runtime::Buffer;
use std::sync::Arc;

/// A model with threads and working memory. It continues any number of sequences, each with its [`Cache`](super::Cache).
pub struct Worker {
    pub(super) model: Arc<Model>,
    pub(super) executor: Executor,
    pub(super) rope: RopeTable,
    /// Of layers with a window, if theirs is another.
    pub(super) local_rope: Option<RopeTable>,
    pub(super) activations: Activations,
    pub(super) kv: KvShape,
    /// `[row][vocab]`
    pub(super) logits: Buffer<f32>,
    /// `[row][block]`, as in [`Logits`](super::Logits)
    pub(super) peaks: Buffer<f32>,
}

impl Worker {
    /// Allocates what [`super::Plan`] counts as scratch and starts the threads.
    ///
    /// # Errors
    /// If the context or the number of slots is out of range, or memory cannot be had.
    pub fn new(model: Arc<Model>, options: &RunOptions) -> Result<Self, ModelError> {
        let spec = &model.spec;
        options::check(spec, options)?;
        let limits = options::limits(spec, &model.layout, options);
        let factors = model.layout.rope_factors.as_ref().map(|factors| model.weights.vector(factors));
        let rows = options::logit_rows(options);
        Ok(Self {
            executor: Executor::new(model.kernels(), options.threads, &limits)?,
            rope: RopeTable::new(&spec.rope, factors, limits.tokens)?,
            local_rope: match &spec.local_rope {
                Some(rope) => Some(RopeTable::new(rope, None, limits.tokens)?),
                None => None,
            },
            activations: Activations::new(spec, limits.tokens)?,
            kv: limits.kv,
            logits: Buffer::zeroed(rows * spec.vocab, "logits")?,
            peaks: Buffer::zeroed(rows * logit_blocks(spec.vocab), "logits")?,
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Threads in use; fewer than asked for if the system refused to start them.
    pub fn threads(&self) -> usize {
        self.executor.threads()
    }

    /// Most tokens of a [`Self::step`], over all pieces: [`TILE`](super::TILE) unless the context is shorter.
    pub fn most_tokens(&self) -> usize {
        self.activations.residual.len() / self.model.spec.dim
    }

    /// Rows of logits that are computed together.
    pub fn logit_rows(&self) -> usize {
        self.logits.len() / self.model.spec.vocab
    }

    /// Writes to every page of the working memory what it holds, so that the system gives it now.
    pub fn prefault(&mut self) {
        let buffers = self.activations.all().into_iter().chain([&mut self.logits, &mut self.peaks]);
        buffers.for_each(|buffer| options::prefault(bytemuck::cast_slice_mut(buffer)));
    }
}
