//! The stages of the forward pass.
//!
//! [`Runner`] sends a [`Tile`] through all layers. Calibration drives the same stages itself, one layer at a
//! time, and looks at what goes into each matrix:
//!
//! ```text
//! mix       norm, q k v, rotation, attention   residual -> mixed
//! project   residual += output * mixed
//! expand    norm, gate and up, activation      residual -> hidden
//! contract  residual += down * hidden
//! logits    norm, output head                  residual -> logits
//! ```

use std::ops::Range;

use super::error::ModelError;
use super::families::RotaryPairs;
use super::logits::LogitRows;
use super::runner::{Activations, Model, Runner};
use super::weights::{Linear, Vector, Weights};
use crate::kernels::ops::{Attention, Gated, Input, Output, RmsNorm, Rotation};

/// A norm of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Before the queries, keys and values of a layer.
    Attention(usize),
    /// Before the feed-forward part of a layer.
    FeedForward(usize),
    /// Before the output head.
    Output,
}

/// Adjacent tokens on their way through the layers. Buffers are `[token][width]`.
pub struct Tile<'r> {
    runner: &'r mut Runner,
    tokens: usize,
}

impl Runner {
    /// A tile of `tokens` tokens at `position`. Attention sees what the layer's cache holds of the positions
    /// before: the tiles of a text must pass a layer in order.
    ///
    /// # Errors
    /// If there are no tokens, more than [`TILE`](super::TILE) or more than fit into the context.
    pub fn tile(&mut self, position: usize, tokens: usize) -> Result<Tile<'_>, ModelError> {
        let context = self.kv.positions.min(position.saturating_add(self.most_tokens()));
        match position.checked_add(tokens) {
            _ if tokens == 0 => Err(ModelError::NoTokens),
            Some(needed) if needed <= context => Ok(self.checked_tile(position, tokens)),
            needed => Err(ModelError::ContextFull { needed: needed.unwrap_or(usize::MAX), context }),
        }
    }

    pub(super) fn checked_tile(&mut self, position: usize, tokens: usize) -> Tile<'_> {
        self.position = position;
        self.rope.fill(position, tokens);
        Tile { runner: self, tokens }
    }
}

impl Tile<'_> {
    /// The residual stream, `[token][dim]`.
    pub fn residual(&mut self) -> &mut [f32] {
        let len = self.tokens * self.runner.model.spec.dim;
        &mut self.runner.activations.residual[..len]
    }

    /// What attention gives, `[token][query width]`.
    pub fn mixed(&mut self) -> &mut [f32] {
        let len = self.tokens * self.runner.model.spec.query_width();
        &mut self.runner.activations.mixed[..len]
    }

    /// What the activation of the feed-forward part gives, `[token][hidden]`.
    pub fn hidden(&mut self) -> &mut [f32] {
        let len = self.tokens * self.runner.model.spec.hidden;
        &mut self.runner.activations.hidden[..len]
    }

    /// The residual stream after a norm, `[token][dim]`.
    ///
    /// # Panics
    /// If `out` has another size.
    pub fn normed(&self, norm: Norm, out: &mut [f32]) {
        let Runner { model, executor, activations, .. } = &*self.runner;
        let layout = &model.layout;
        let vector = match norm {
            Norm::Attention(layer) => &layout.layers[layer].attention_norm,
            Norm::FeedForward(layer) => &layout.layers[layer].feed_forward_norm,
            Norm::Output => &layout.output_norm,
        };
        let rows = &activations.residual[..self.tokens * model.spec.dim];
        executor.normed(&input(model, rows, Some(vector)), out);
    }

    /// Starts the residual stream with the embeddings of `tokens`.
    ///
    /// # Panics
    /// If there are more tokens than the tile has, or an id is out of range.
    pub fn embed(&mut self, tokens: &[u32]) {
        let Runner { model, activations, .. } = &mut *self.runner;
        let embedding = model.weights.matrix(&model.layout.embedding);
        for (row, token) in activations.residual.chunks_exact_mut(model.spec.dim).zip(tokens) {
            embedding.decode_row(*token as usize, row);
        }
    }

    /// The attention of layer `index`: from the residual stream to [`Self::mixed`].
    pub fn mix(&mut self, index: usize) {
        let Self { runner, tokens } = self;
        let Runner {
            model,
            executor,
            rope,
            kv,
            keys: cached_keys,
            values: cached_values,
            activations,
            position,
            ..
        } = &mut **runner;
        let Model { spec, layout, weights, .. } = &**model;
        let layer = &layout.layers[index];
        let Activations { residual, queries, keys, values, mixed, .. } = activations;
        let (query_len, kv_len) = (*tokens * spec.query_width(), *tokens * spec.kv_width());
        let (queries, mixed) = (&mut queries[..query_len], &mut mixed[..query_len]);
        let (keys, values) = (&mut keys[..kv_len], &mut values[..kv_len]);
        executor.linear(
            &input(model, &residual[..*tokens * spec.dim], Some(&layer.attention_norm)),
            &mut [
                output(weights, &layer.query, queries, false),
                output(weights, &layer.key, keys, false),
                output(weights, &layer.value, values, false),
            ],
        );
        let cache = index * kv.len()..(index + 1) * kv.len();
        executor.attend(&mut Attention {
            queries,
            new_keys: keys,
            new_values: values,
            rotation: Rotation {
                table: rope.table(),
                pairs: spec.rope.pairs,
                adjacent: spec.family.rotary == RotaryPairs::Adjacent,
            },
            keys: &mut cached_keys[cache.clone()],
            values: &mut cached_values[cache],
            kv: *kv,
            heads: spec.heads,
            position: *position,
            scale: 1.0 / (spec.head_dim as f32).sqrt(),
            out: mixed,
        });
    }

    /// Adds the attention output of layer `index` to the residual stream.
    pub fn project(&mut self, index: usize) {
        let Self { runner: Runner { model, executor, activations, .. }, tokens } = self;
        let Model { spec, layout, weights, .. } = &**model;
        let rows = &activations.mixed[..*tokens * spec.query_width()];
        let residual = &mut activations.residual[..*tokens * spec.dim];
        let input = Input { rows, dim: spec.query_width(), norm: None };
        executor.linear(&input, &mut [output(weights, &layout.layers[index].output, residual, true)]);
    }

    /// The wide part of the feed-forward layer `index`: from the residual stream to [`Self::hidden`].
    pub fn expand(&mut self, index: usize) {
        let Self { runner: Runner { model, executor, activations, .. }, tokens } = self;
        let Model { spec, layout, weights, .. } = &**model;
        let layer = &layout.layers[index];
        let Activations { residual, hidden, up, .. } = activations;
        executor.gated(
            &input(model, &residual[..*tokens * spec.dim], Some(&layer.feed_forward_norm)),
            &mut Gated {
                gate: weights.matrix(&layer.gate.weights),
                up: weights.matrix(&layer.up.weights),
                bias: [weights.bias(&layer.gate), weights.bias(&layer.up)],
                hidden: &mut hidden[..*tokens * spec.hidden],
                up_out: &mut up[..*tokens * spec.hidden],
            },
        );
    }

    /// Adds the feed-forward output of layer `index` to the residual stream.
    pub fn contract(&mut self, index: usize) {
        let Self { runner: Runner { model, executor, activations, .. }, tokens } = self;
        let Model { spec, layout, weights, .. } = &**model;
        let rows = &activations.hidden[..*tokens * spec.hidden];
        let residual = &mut activations.residual[..*tokens * spec.dim];
        let input = Input { rows, dim: spec.hidden, norm: None };
        executor.linear(&input, &mut [output(weights, &layout.layers[index].down, residual, true)]);
    }
}

impl<'r> Tile<'r> {
    /// The logits after the tokens `rows` of the tile, by their residual streams.
    ///
    /// # Panics
    /// If there are more rows than [`LanguageModel::logit_rows`](super::LanguageModel::logit_rows) or tokens.
    pub fn logits(self, rows: Range<usize>) -> LogitRows<'r> {
        assert!(rows.end <= self.tokens);
        self.runner.head(rows, 0)
    }
}

/// Rows as wide as the residual stream, as the input of a stage.
pub(super) fn input<'a>(model: &'a Model, rows: &'a [f32], norm: Option<&Vector>) -> Input<'a> {
    let norm = norm.map(|norm| RmsNorm { weight: model.weights.vector(norm), eps: model.spec.norm_eps });
    Input { rows, dim: model.spec.dim, norm }
}

pub(super) fn output<'a>(
    weights: &'a Weights,
    linear: &Linear,
    out: &'a mut [f32],
    accumulate: bool,
) -> Output<'a> {
    let bias = weights.bias(linear);
    Output { weights: weights.matrix(&linear.weights), bias, out, accumulate }
}
