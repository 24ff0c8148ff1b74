//! The memory plan: what a run will allocate, known from the header before anything is.

use super::error::ModelError;
use super::logits::logit_blocks;
use super::spec::Spec;
use super::weights::Layout;
use crate::gguf::GgufFile;
use crate::kernels::ops::Limits;
use crate::kernels::{Kernels, KvShape, KvType};
use crate::runtime::page_rounded;

/// Tokens of a prompt that go through the layers together.
pub const TILE: usize = 64;
/// Longest context.
pub const MAX_CONTEXT: usize = 1 << 20;

/// What a run needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Positions of the KV cache.
    pub context: usize,
    /// Threads.
    pub threads: usize,
    /// Tokens whose logits are computed together: 1 to generate, more to score or to check a draft.
    pub logit_rows: usize,
    /// How the KV cache is stored.
    pub kv: KvType,
}

/// Bytes a run allocates, by purpose. Pages are counted whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// Packed weights, norms and biases.
    pub weights: u64,
    /// Keys and values of all layers.
    pub kv_cache: u64,
    /// Activations, logits and the threads' working memory.
    pub scratch: u64,
}

impl Plan {
    /// Plans a run of the model in `file`.
    ///
    /// # Errors
    /// If the file does not hold a model that can be run, or the context is out of range.
    pub fn new(file: &GgufFile, kernels: &Kernels, options: &RunOptions) -> Result<Self, ModelError> {
        let spec = Spec::read(file)?;
        let layout = Layout::new(file, &spec, kernels.packing)?;
        check_context(options.context)?;
        Ok(Self {
            weights: layout.planned_bytes() as u64,
            kv_cache: kv_bytes(spec.layers, &kv_shape(&spec, options)) as u64,
            scratch: scratch_bytes(&spec, &layout, options) as u64,
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.scratch
    }
}

pub(super) fn check_context(context: usize) -> Result<(), ModelError> {
    match context {
        1..=MAX_CONTEXT => Ok(()),
        found => Err(ModelError::ContextSize { found, most: MAX_CONTEXT }),
    }
}

pub(super) fn kv_shape(spec: &Spec, options: &RunOptions) -> KvShape {
    KvShape { kind: options.kv, heads: spec.kv_heads, dim: spec.head_dim, positions: options.context }
}

fn kv_bytes(layers: usize, kv: &KvShape) -> usize {
    2 * page_rounded(layers * kv.len() * 2)
}

pub(super) fn limits(spec: &Spec, layout: &Layout, options: &RunOptions) -> Limits {
    Limits {
        tokens: TILE.min(options.context),
        cols: spec.dim.max(spec.query_width()).max(spec.hidden),
        forms: layout.forms(),
        kv: kv_shape(spec, options),
        heads: spec.heads,
    }
}

/// f32 values per token of a tile, by buffer of the runner.
pub(super) fn widths(spec: &Spec) -> [usize; 7] {
    let (query, kv) = (spec.query_width(), spec.kv_width());
    [spec.dim, query, kv, kv, query, spec.hidden, spec.hidden]
}

fn scratch_bytes(spec: &Spec, layout: &Layout, options: &RunOptions) -> usize {
    let limits = limits(spec, layout, options);
    let tile: usize = widths(spec).iter().map(|width| page_rounded(limits.tokens * width * 4)).sum();
    let rope = page_rounded(limits.tokens * spec.rope.pairs * 8) + page_rounded(spec.rope.pairs * 8);
    let logits = page_rounded(options.logit_rows * spec.vocab * 4)
        + page_rounded(options.logit_rows * logit_blocks(spec.vocab) * 4);
    tile + rope + logits + limits.planned_bytes(options.threads)
}
