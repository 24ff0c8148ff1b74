//! The stages of the forward pass.
//!
//! A [`Worker`] sends a [`Tile`] through all layers. Calibration drives the same stages itself, one layer at a
//! time, and looks at what goes into each matrix:
//!
//! ```text
//! mix       norm, q k v, rotation, attention   residual -> mixed       (in `mix`)
//! project   residual += output * mixed
//! expand    norm, gate and up, activation      residual -> hidden
//! contract  residual += down * hidden
//! logits    norm, output head                  residual -> logits
//! ```
//!
//! Where the parts of a layer are parallel ([`Spec::parallel`](super::Spec::parallel)), `expand` precedes
//! `project`, so that both parts read the same residual stream; [`Tile::layer`] knows the order.

use std::ops::Range;

use arrayvec::ArrayVec;

use super::activations::Activations;
use super::cache::Cache;
use super::families::NormKind;
use super::header::Model;
use super::layout::{self, Linear, MixerWeights, Norms};
use super::logits::LogitRows;
use super::options::TILE;
use super::weights::Weights;
use super::worker::Worker;
use crate::kernels::ops::{Executor, FeedForward, Input, Norm as RowNorm, Output};

/// A norm of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Before the queries, keys and values of a layer.
    Attention(usize),
    /// Before the feed-forward part of a layer.
    FeedForward(usize),
}

/// Tokens of one sequence in a tile.
pub(super) struct SequencePart<'r> {
    pub(super) cache: &'r mut Cache,
    /// Rows of the activations.
    pub(super) rows: Range<usize>,
}

/// The tokens of a tile, sequence by sequence.
#[derive(Default)]
pub(super) struct Parts<'r> {
    pub(super) sequences: ArrayVec<SequencePart<'r>, TILE>,
    pub(super) tokens: usize,
}

impl<'r> Parts<'r> {
    /// Adds tokens of another sequence, which follow those in its cache.
    pub(super) fn push(&mut self, cache: &'r mut Cache, tokens: usize) {
        let rows = self.tokens..self.tokens + tokens;
        self.tokens = rows.end;
        self.sequences.push(SequencePart { cache, rows });
    }
}

/// Tokens on their way through the layers: adjacent ones of each of some sequences. Buffers are `[token][width]`.
pub struct Tile<'r> {
    pub(super) worker: &'r mut Worker,
    pub(super) parts: Parts<'r>,
}

impl<'r> Tile<'r> {
    /// Prepares the pass of these tokens, at most [`TILE`] in all, which fit into their caches.
    pub(super) fn new(worker: &'r mut Worker, mut parts: Parts<'r>) -> Self {
        for SequencePart { cache, rows } in &mut parts.sequences {
            worker.rope.fill(rows.start, cache.position, rows.len());
            if let Some(rope) = &mut worker.local_rope {
                rope.fill(rows.start, cache.position, rows.len());
            }
            cache.history.announce(&(cache.position..cache.position + rows.len()));
        }
        Self { worker, parts }
    }
}

impl Tile<'_> {
    /// The residual stream, `[token][dim]`.
    pub fn residual(&mut self) -> &mut [f32] {
        let len = self.parts.tokens * self.worker.model.spec.dim;
        &mut self.worker.activations.residual[..len]
    }

    /// What attention gives, or a convolution, `[token][query width]`.
    pub fn mixed(&mut self) -> &mut [f32] {
        let len = self.parts.tokens * self.worker.model.spec.query_width();
        &mut self.worker.activations.mixed[..len]
    }

    /// What a state space beside attention gives, `[token][width]`; empty without.
    pub fn stated(&mut self) -> &mut [f32] {
        let len = self.parts.tokens * self.worker.model.spec.state.map_or(0, |state| state.inner());
        &mut self.worker.activations.stated[..len]
    }

    /// What the activation of the feed-forward part gives, `[token][hidden]`.
    pub fn hidden(&mut self) -> &mut [f32] {
        let len = self.parts.tokens * self.worker.model.spec.hidden;
        &mut self.worker.activations.hidden[..len]
    }

    /// The residual stream as the matrices behind a norm read it, `[token][dim]`.
    ///
    /// # Panics
    /// If `out` has another size.
    pub fn normed(&self, of: Norm, out: &mut [f32]) {
        let Worker { model, executor, activations, .. } = &*self.worker;
        let layout = &model.layout;
        let found = match of {
            Norm::Attention(layer) => &layout.layers[layer].attention_norms.input,
            Norm::FeedForward(layer) => &layout.layers[layer].feed_forward_norms.input,
        };
        let rows = &activations.residual[..self.parts.tokens * model.spec.dim];
        executor.normed(&input(model, rows, norm(model, found.as_ref())), out);
    }

    /// Starts the residual stream with the embeddings of `tokens`.
    ///
    /// # Panics
    /// If there are more tokens than the tile has, or an id is out of range.
    pub fn embed(&mut self, tokens: &[u32]) {
        let Worker { model, executor, activations, .. } = &mut *self.worker;
        let Model { spec, layout, weights, .. } = &**model;
        let Activations { residual, words, branch, .. } = activations;
        let embedding = weights.matrix(&layout.embedding);
        let residual = &mut residual[..tokens.len() * spec.dim];
        let rows = if layout.enter.is_some() { &mut **words } else { &mut *residual };
        for (row, token) in rows.chunks_exact_mut(spec.word_dim).zip(tokens) {
            embedding.decode_row(*token as usize, row);
            if spec.embedding_scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= spec.embedding_scale);
            }
        }
        if let Some(enter) = &layout.enter {
            let rows = &words[..tokens.len() * spec.word_dim];
            let input = Input { rows, dim: spec.word_dim, norm: None };
            executor.linear(&input, &mut [output(weights, enter, residual, false)]);
        }
        if let Some(positions) = &layout.positions {
            let (positions, place) = (weights.matrix(positions), &mut branch[..spec.dim]);
            for SequencePart { cache, rows } in &self.parts.sequences {
                let rows = residual[rows.start * spec.dim..rows.end * spec.dim].chunks_exact_mut(spec.dim);
                for (row, position) in rows.zip(cache.position..) {
                    positions.decode_row(position, place);
                    row.iter_mut().zip(&*place).for_each(|(x, place)| *x += place);
                }
            }
        }
        if let Some(norm) = norm(model, layout.embedding_norm.as_ref()) {
            executor.norm_rows(&norm, spec.dim, residual);
        }
    }

    /// Takes the residual stream through layer `index`.
    pub fn layer(&mut self, index: usize) {
        self.mix(index);
        if self.worker.model.spec.parallel {
            self.expand(index);
            self.project(index);
        } else {
            self.project(index);
            self.expand(index);
        }
        self.contract(index);
    }

    /// Adds what the attention of layer `index` gives to the residual stream.
    pub fn project(&mut self, index: usize) {
        let Self { worker: Worker { model, executor, activations, .. }, parts: Parts { tokens, .. } } = self;
        let layer = &model.layout.layers[index];
        let Activations { residual, mixed, branch, stated, .. } = activations;
        if let (MixerWeights::Attention(attention), Some(shape)) = (&layer.mixer, model.spec.state) {
            let dim = shape.inner();
            let input = Input { rows: &stated[..*tokens * dim], dim, norm: None };
            let residual = &mut residual[..*tokens * model.spec.dim];
            if let Some(state) = &attention.state {
                executor.linear(&input, &mut [output(&model.weights, &state.output, residual, true)]);
            }
        }
        let dim = model.spec.query_width();
        let input = Input { rows: &mixed[..*tokens * dim], dim, norm: None };
        let part = Part { linear: layer.mixer.output(), norms: &layer.attention_norms };
        part.add(model, executor, &input, (residual, branch));
    }

    /// The wide part of the feed-forward layer `index`: from the residual stream to [`Self::hidden`].
    pub fn expand(&mut self, index: usize) {
        let Self { worker: Worker { model, executor, activations, .. }, parts: Parts { tokens, .. } } = self;
        let Model { spec, layout, weights, .. } = &**model;
        let layer = &layout.layers[index];
        let Activations { residual, hidden, up, .. } = activations;
        let input_norm = norm(model, layer.feed_forward_norms.input.as_ref());
        let len = *tokens * spec.hidden;
        let (wide, factor) = match &layer.gate {
            Some(gate) => (gate, Some(output(weights, &layer.up, &mut up[..len], false))),
            None => (&layer.up, None),
        };
        executor.feed_forward(
            &input(model, &residual[..*tokens * spec.dim], input_norm),
            &mut FeedForward {
                wide: output(weights, wide, &mut hidden[..len], false),
                factor,
                activation: spec.activation,
            },
        );
    }

    /// Adds the feed-forward output of layer `index` to the residual stream.
    pub fn contract(&mut self, index: usize) {
        let Self { worker: Worker { model, executor, activations, .. }, parts: Parts { tokens, .. } } = self;
        let layer = &model.layout.layers[index];
        let Activations { residual, hidden, branch, .. } = activations;
        let dim = model.spec.hidden;
        let input = Input { rows: &hidden[..*tokens * dim], dim, norm: None };
        let part = Part { linear: &layer.down, norms: &layer.feed_forward_norms };
        part.add(model, executor, &input, (residual, branch));
    }
}

impl<'r> Tile<'r> {
    /// What the matrix of the output head reads, `[token][word dim]`.
    ///
    /// # Panics
    /// If `out` has another size.
    pub fn head_input(&mut self, out: &mut [f32]) {
        let Worker { model, executor, activations, .. } = &mut *self.worker;
        let Model { spec, layout, weights, .. } = &**model;
        let rows = &activations.residual[..self.parts.tokens * spec.dim];
        let input = input(model, rows, norm(model, layout.output_norm.as_ref()));
        match &layout.leave {
            Some(leave) => executor.linear(&input, &mut [output(weights, leave, out, false)]),
            None => executor.normed(&input, out),
        }
    }

    /// The logits after the tokens `rows` of the tile, by their residual streams.
    ///
    /// # Panics
    /// If there are more rows than [`LanguageModel::logit_rows`](super::LanguageModel::logit_rows) or tokens.
    pub fn logits(self, rows: Range<usize>) -> LogitRows<'r> {
        assert!(rows.end <= self.parts.tokens);
        self.worker.head(rows, 0)
    }
}

/// The end of a part of a layer.
struct Part<'a> {
    linear: &'a Linear,
    norms: &'a Norms,
}

impl Part<'_> {
    /// Adds the product of the input to the residual stream; the branch is scratch.
    fn add(
        &self,
        model: &Model,
        executor: &mut Executor,
        input: &Input<'_>,
        (residual, branch): (&mut [f32], &mut [f32]),
    ) {
        let Model { spec, weights, .. } = model;
        let len = input.rows.len() / input.dim * spec.dim;
        let residual = &mut residual[..len];
        let added = norm(model, self.norms.added.as_ref());
        if added.is_none() && spec.residual_scale == 1.0 {
            executor.linear(input, &mut [output(weights, self.linear, residual, true)]);
        } else {
            let branch = &mut branch[..len];
            executor.linear(input, &mut [output(weights, self.linear, branch, false)]);
            executor.add_rows(residual, branch, spec.dim, added.as_ref(), spec.residual_scale);
        }
        if let Some(norm) = norm(model, self.norms.sum.as_ref()) {
            executor.norm_rows(&norm, spec.dim, residual);
        }
    }
}

/// A norm with its weights.
pub(super) fn norm<'a>(model: &'a Model, norm: Option<&layout::Norm>) -> Option<RowNorm<'a>> {
    let layout::Norm { kind, weight, bias } = norm?;
    let [weight, bias] = [weight, bias].map(|vector| vector.as_ref().map(|v| model.weights.vector(v)));
    let eps = model.spec.norm_eps;
    Some(match (kind, weight) {
        (NormKind::Rms, Some(weight)) => RowNorm::Rms { weight, eps },
        _ => RowNorm::Layer { weight, bias, eps },
    })
}

/// Rows as wide as the residual stream, as the input of a stage.
pub(super) fn input<'a>(model: &Model, rows: &'a [f32], norm: Option<RowNorm<'a>>) -> Input<'a> {
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
