//! The memory plan: what a run will allocate, known from the header before anything is.

use super::cache::Cache;
use super::error::ModelError;
use super::families::NormPlaces;
use super::layout::Layout;
use super::logits::logit_blocks;
use super::spec::{Mixer, Rope, Spec};
use crate::gguf::GgufFile;
use crate::kernels::ops::Limits;
use crate::kernels::{Kernels, KvShape, KvType};
use crate::runtime::{PAGE, page_rounded};
use std::hint::black_box;

/// Tokens of a prompt that go through the layers together.
pub const TILE: usize = 64;
/// Most sequences that are continued together: each has a token in every step.
pub const MAX_SLOTS: usize = TILE;
/// Longest context.
pub const MAX_CONTEXT: usize = 1 << 20;

/// What a run needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Positions of each KV cache.
    pub context: usize,
    /// Threads.
    pub threads: usize,
    /// Sequences that are continued together, each with a cache of its own.
    pub slots: usize,
    /// Tokens of a sequence whose logits are computed together: 1 to generate, more to score or to check a draft.
    pub logit_rows: usize,
    /// How the KV cache is stored.
    pub kv: KvType,
}

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
            kv_cache: options.slots as u64 * Cache::planned_bytes(spec, options) as u64,
            scratch: scratch_bytes(spec, layout, options) as u64,
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.scratch
    }
}

pub(super) fn check(spec: &Spec, options: &RunOptions) -> Result<(), ModelError> {
    check_context(spec, options.context)?;
    let (found, most) = (options.slots, MAX_SLOTS);
    if (1..=most).contains(&found) { Ok(()) } else { Err(ModelError::Slots { found, most }) }
}

/// Rows of logits that are computed together: of several slots at most one per token of a tile.
pub(super) fn logit_rows(options: &RunOptions) -> usize {
    let rows = options.logit_rows.max(1);
    rows.saturating_mul(options.slots).min(TILE).max(rows)
}

/// Writes to every page what it holds.
pub(super) fn prefault(bytes: &mut [u8]) {
    for page in bytes.chunks_mut(PAGE) {
        page[0] = black_box(page[0]);
    }
}

pub(super) fn check_context(spec: &Spec, context: usize) -> Result<(), ModelError> {
    let most = spec.positions.unwrap_or(MAX_CONTEXT).min(MAX_CONTEXT);
    if (1..=most).contains(&context) {
        return Ok(());
    }
    Err(ModelError::ContextSize { found: context, most })
}

pub(super) fn kv_shape(spec: &Spec, options: &RunOptions) -> KvShape {
    KvShape { kind: options.kv, heads: spec.kv_heads, dim: spec.head_dim, positions: options.context }
}

/// Halves of the key cache of all layers, and of the value cache.
pub(super) fn kv_len(spec: &Spec, kv: &KvShape) -> usize {
    spec.layers_with(Mixer::Attention) * kv.len()
}

pub(super) fn limits(spec: &Spec, layout: &Layout, options: &RunOptions) -> Limits {
    let inner = spec.state.map_or(0, |state| state.inner());
    Limits {
        tokens: TILE.min(options.slots.saturating_mul(options.context)),
        cols: spec.dim.max(spec.query_width()).max(spec.hidden).max(spec.word_dim).max(inner),
        forms: layout.forms(),
        kv: kv_shape(spec, options),
        heads: spec.heads,
    }
}

/// f32 values per token of a tile, by buffer of the runner.
pub(super) fn widths(spec: &Spec) -> [usize; 12] {
    let (query, kv) = (spec.query_width(), spec.kv_width());
    let up = if spec.family.gated { spec.hidden } else { 0 };
    let words = if spec.word_dim == spec.dim { 0 } else { spec.word_dim };
    let (gates, convolved, stated) = match &spec.state {
        Some(state) => (state.input(), state.channels(), state.inner()),
        None if spec.taps > 0 => (3 * spec.dim, 0, 0),
        None => (0, 0, 0),
    };
    let branch = branch_width(spec);
    [spec.dim, query, kv, kv, query, spec.hidden, up, branch, words, gates, convolved, stated]
}

/// Width of the buffer for what a part of a layer adds to the residual stream, if it does not add it at once.
fn branch_width(spec: &Spec) -> usize {
    let is_normed = matches!(spec.family.norm_places, NormPlaces::Sandwich | NormPlaces::Post);
    let is_needed = is_normed || spec.residual_scale != 1.0 || spec.positions.is_some();
    if is_needed { spec.dim } else { 0 }
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
