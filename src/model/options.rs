//! What a run needs room for, and the shapes of its memory that follow.

use super::error::ModelError;
use super::families::NormPlaces;
use super::layout::Layout;
use super::spec::{Mixer, Spec};
use crate::kernels::ops::Limits;
use crate::kernels::{KvShape, KvType};
use crate::runtime::PAGE;
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
