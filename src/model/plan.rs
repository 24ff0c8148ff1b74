//! The memory plan: what a run will allocate, known from the header before anything is.

use super::error::ModelError;
use super::history::History;
use super::layout::Layout;
use super::logits::logit_blocks;
use super::options::{RunOptions, check, kv_len, kv_shape, limits, logit_rows, widths};
use super::spec::{Rope, Spec};
use super::states::States;
use crate::gguf::GgufFile;
use crate::kernels::Kernels;
use crate::runtime::page_rounded;

/// Bytes a run allocates, by purpose. Pages are counted whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// Packed weights, norms and biases.
    pub weights: u64,
    /// Keys and values of all layers, states, and what convolutions remember, of all slots.
    pub kv_cache: u64,
    /// Activations, logits and the threads' working memory.
    pub scratch: u64,
}

impl Plan {
    /// Plans a run of the model in `file`.
    ///
    /// # Errors
    /// If the file does not hold a model that can be run, or the context or the number of slots is out of range.
    pub fn new(file: &GgufFile, kernels: &Kernels, options: &RunOptions) -> Result<Self, ModelError> {
        let spec = Spec::read(file)?;
        let layout = Layout::new(file, &spec, kernels.packing)?;
        Self::of(&spec, &layout, options)
    }

    pub(super) fn of(spec: &Spec, layout: &Layout, options: &RunOptions) -> Result<Self, ModelError> {
        check(spec, options)?;
        Ok(Self {
            weights: layout.planned_bytes() as u64,
            kv_cache: options.slots as u64 * cache_bytes(spec, options) as u64,
            scratch: scratch_bytes(spec, layout, options) as u64,
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.scratch
    }
}

/// Bytes of the cache of one sequence.
fn cache_bytes(spec: &Spec, options: &RunOptions) -> usize {
    let kv = 2 * page_rounded(kv_len(spec, &kv_shape(spec, options)) * 2);
    kv + History::planned_bytes(spec, options.context) + States::planned_bytes(spec)
}

fn rope_bytes(rope: &Rope, tokens: usize) -> usize {
    page_rounded(tokens * rope.pairs * 8) + page_rounded(rope.pairs * 8)
}

fn scratch_bytes(spec: &Spec, layout: &Layout, options: &RunOptions) -> usize {
    let limits = limits(spec, layout, options);
    let tile: usize = widths(spec).iter().map(|width| page_rounded(limits.tokens * width * 4)).sum();
    let ropes = [Some(&spec.rope), spec.local_rope.as_ref()];
    let rope: usize = ropes.into_iter().flatten().map(|rope| rope_bytes(rope, limits.tokens)).sum();
    let rows = logit_rows(options);
    let logits = page_rounded(rows * spec.vocab * 4) + page_rounded(rows * logit_blocks(spec.vocab) * 4);
    tile + rope + logits + limits.planned_bytes(options.threads)
}
