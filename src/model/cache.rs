//! What a model keeps of one sequence.

use super::error::ModelError;
use super::header::Model;
use super::history::{History, Visit};
use super::options::{self, RunOptions};
use super::states::States;
use crate::kernels::KvShape;
use crate::runtime::Buffer;
use std::io;
use std::sync::Arc;

/// The tokens a model has read of one sequence: keys and values, inputs of convolutions, states of state spaces.
///
/// A [`Worker`](super::Worker) of the same model continues it.
pub struct Cache {
    pub(super) model: Arc<Model>,
    pub(super) kv: KvShape,
    /// `[attention layer]` of [`KvShape::len`].
    pub(super) keys: Buffer<u16>,
    /// `[attention layer]` of [`KvShape::len`].
    pub(super) values: Buffer<u16>,
    /// Inputs of convolutions.
    pub(super) history: History,
    pub(super) states: States,
    pub(super) position: usize,
}

impl Cache {
    /// Allocates an empty cache of [`RunOptions::context`] positions.
    ///
    /// # Errors
    /// If the context is out of range or memory cannot be had.
    pub fn new(model: Arc<Model>, options: &RunOptions) -> Result<Self, ModelError> {
        let spec = &model.spec;
        options::check_context(spec, options.context)?;
        let kv = options::kv_shape(spec, options);
        // Each head of each layer has room for the whole context: huge pages would all be written to by a short text.
        let halves = if options.slots > 1 { Buffer::sparse } else { Buffer::zeroed };
        Ok(Self {
            kv,
            keys: halves(options::kv_len(spec, &kv), "the KV cache")?,
            values: halves(options::kv_len(spec, &kv), "the KV cache")?,
            history: History::new(spec, options.context)?,
            states: States::new(spec)?,
            position: 0,
            model,
        })
    }

    /// Positions.
    pub fn context(&self) -> usize {
        self.kv.positions
    }

    /// Tokens that were read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Forgets the tokens from `position` on; no effect if there are fewer. A model that cannot go back to any
    /// position forgets more: see [`Self::position`].
    pub fn truncate(&mut self, position: usize) {
        if position < self.position {
            self.position = self.states.rewind(&mut self.history, position);
        }
    }

    /// Replaces all by the first `positions` tokens of `from`, which has as many at least, and returns how many they
    /// are: a model that cannot go back to any position copies fewer.
    ///
    /// # Panics
    /// If the caches are not of the same model and context.
    pub fn copy_prefix(&mut self, from: &Cache, positions: usize) -> usize {
        assert!(self.is_like(from), "caches of the same model and context");
        let (kv, positions) = (self.kv, positions.min(from.position));
        for (to, from) in [(&mut self.keys, &from.keys), (&mut self.values, &from.values)] {
            let layers = to.chunks_exact_mut(kv.len().max(1)).zip(from.chunks_exact(kv.len().max(1)));
            for (to, from) in layers {
                for range in (0..kv.heads).flat_map(|head| kv.filled(head, positions)) {
                    to[range.clone()].copy_from_slice(&from[range]);
                }
            }
        }
        self.history.copy(&from.history);
        self.states.copy(&from.states);
        self.position = from.position;
        self.truncate(positions);
        self.position
    }

    /// Whether both are of the same model and context.
    fn is_like(&self, other: &Cache) -> bool {
        Arc::ptr_eq(&self.model, &other.model) && self.kv == other.kv
    }

    /// Calls `visit` for every part of the cache that tokens after the first `positions` depend on, in an order
    /// that depends on nothing else.
    pub(super) fn visit(&mut self, positions: usize, visit: Visit<'_>) -> io::Result<()> {
        let kv = self.kv;
        for cache in [&mut self.keys, &mut self.values] {
            for layer in cache.chunks_exact_mut(kv.len().max(1)) {
                for range in (0..kv.heads).flat_map(|head| kv.filled(head, positions)) {
                    if !range.is_empty() {
                        visit(bytemuck::cast_slice_mut(&mut layer[range]))?;
                    }
                }
            }
        }
        self.states.visit(visit)?;
        self.history.visit(positions, visit)
    }

    /// Writes to every page what it holds, so that the system gives it now.
    pub fn prefault(&mut self) {
        let prefaulted = self.visit(self.kv.positions, &mut |bytes| {
            options::prefault(bytes);
            Ok(())
        });
        debug_assert!(prefaulted.is_ok(), "it cannot fail");
    }
}
