//! Working memory of the forward pass.

use super::options;
use super::spec::Spec;
use crate::runtime::{AllocError, Buffer};

/// Activations of a tile of tokens, `[token][width]` each.
pub(super) struct Activations {
    /// The residual stream.
    pub(super) residual: Buffer<f32>,
    pub(super) queries: Buffer<f32>,
    pub(super) keys: Buffer<f32>,
    pub(super) values: Buffer<f32>,
    pub(super) mixed: Buffer<f32>,
    pub(super) hidden: Buffer<f32>,
    /// Empty if there is no gate.
    pub(super) up: Buffer<f32>,
    /// What is yet to be added to the residual stream; empty if everything is added at once.
    pub(super) branch: Buffer<f32>,
    /// Embeddings, where they have a width of their own.
    pub(super) words: Buffer<f32>,
    /// What a convolution reads: two gates and values. Of a state space: a gate, channels and steps.
    pub(super) gates: Buffer<f32>,
    /// Channels of a state space behind their convolution.
    pub(super) convolved: Buffer<f32>,
    /// What a state space gives.
    pub(super) stated: Buffer<f32>,
}

impl Activations {
    pub(super) fn new(spec: &Spec, tokens: usize) -> Result<Self, AllocError> {
        let [residual, queries, keys, values, mixed, hidden, up, branch, words, gates, convolved, stated] =
            options::widths(spec).map(|width| Buffer::zeroed(tokens * width, "activations"));
        Ok(Self {
            residual: residual?,
            queries: queries?,
            keys: keys?,
            values: values?,
            mixed: mixed?,
            hidden: hidden?,
            up: up?,
            branch: branch?,
            words: words?,
            gates: gates?,
            convolved: convolved?,
            stated: stated?,
        })
    }

    pub(super) fn all(&mut self) -> [&mut Buffer<f32>; 12] {
        let Self {
            residual,
            queries,
            keys,
            values,
            mixed,
            hidden,
            up,
            branch,
            words,
            gates,
            convolved,
            stated,
        } = self;
        [residual, queries, keys, values, mixed, hidden, up, branch, words, gates, convolved, stated]
    }
}
