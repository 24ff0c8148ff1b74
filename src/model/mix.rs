//! The stage of the forward pass in which tokens learn of each other: attention, or a short convolution.

use super::activations::Activations;
use super::cache::Cache;
use super::families::{Positions, QkNorm, RotaryPairs};
use super::header::Model;
use super::layout::MixerWeights;
use super::options::TILE;
use super::spec::{LayerSpec, Rotary};
use super::tile::{Parts, SequencePart, Tile, input, norm, output};
use super::worker::Worker;
use crate::kernels::Activation;
use crate::kernels::ops::{Attention, Convolution, Past, Ring, Rotation, SpaceState, StateSpace};
use arrayvec::ArrayVec;

impl Tile<'_> {
    /// Applies attention of layer `index`, or what it has instead: from the residual stream to [`Self::mixed`].
    pub fn mix(&mut self, index: usize) {
        match self.worker.model.layout.layers[index].mixer {
            MixerWeights::Attention(_) => {
                self.project_qkv(index);
                self.attend(index);
                self.state_space(index);
            }
            MixerWeights::Convolution(_) => self.convolve(index),
        }
    }

    /// Computes queries, keys and values of layer `index`, all but their rotation (RoPE).
    fn project_qkv(&mut self, index: usize) {
        let Self { worker: Worker { model, executor, activations, .. }, parts: Parts { tokens, .. } } = self;
        let Model { spec, layout, weights, .. } = &**model;
        let MixerWeights::Attention(attention) = &layout.layers[index].mixer else { return };
        let Activations { residual, queries, keys, values, .. } = activations;
        let (query_len, kv_len) = (*tokens * spec.query_width(), *tokens * spec.kv_width());
        let (queries, keys, values) = (&mut queries[..query_len], &mut keys[..kv_len], &mut values[..kv_len]);
        let input_norm = norm(model, layout.layers[index].attention_norms.input.as_ref());
        executor.linear(
            &input(model, &residual[..*tokens * spec.dim], input_norm),
            &mut [
                output(weights, &attention.query, queries, false),
                output(weights, &attention.key, keys, false),
                output(weights, &attention.value, values, false),
            ],
        );
        if let Some(most) = spec.clamp {
            for rows in [&mut *queries, &mut *keys, &mut *values] {
                rows.iter_mut().for_each(|x| *x = x.clamp(-most, most));
            }
        }
        let is_whole = spec.family.qk_norm == QkNorm::Whole;
        for (qk_norm, rows, width) in [
            (&attention.head_norms[0], queries, spec.query_width()),
            (&attention.head_norms[1], keys, spec.kv_width()),
        ] {
            if let Some(norm) = norm(model, qk_norm.as_ref()) {
                executor.norm_rows(&norm, if is_whole { width } else { spec.head_dim }, rows);
            }
        }
    }

    /// Attends from the queries of layer `index` to the KV cache, with the new keys and values.
    fn attend(&mut self, index: usize) {
        let Self { worker, parts: Parts { sequences, tokens } } = self;
        let Worker { model, executor, rope, local_rope, activations, .. } = &mut **worker;
        let (Model { spec, .. }, kv) = (&**model, sequences[0].cache.kv);
        let LayerSpec { rotary, window, number, .. } = spec.layer_specs[index];
        let Activations { queries, keys, values, mixed, .. } = activations;
        let (query_len, kv_len) = (*tokens * spec.query_width(), *tokens * spec.kv_width());
        let rope = match (rotary, &*local_rope) {
            (Rotary::None, _) => None,
            (Rotary::Local, Some(local)) => Some(local),
            (Rotary::Global | Rotary::Local, _) => Some(&*rope),
        };
        let layer = number * kv.len()..(number + 1) * kv.len();
        let pasts = sequences.iter_mut().map(|SequencePart { cache, rows }| {
            let Cache { keys, values, position, .. } = &mut **cache;
            Past::new(&mut keys[layer.clone()], &mut values[layer.clone()], *position, rows.clone())
        });
        let pasts: ArrayVec<Past<'_>, TILE> = pasts.collect();
        executor.attend(&mut Attention {
            queries: &queries[..query_len],
            new_keys: &keys[..kv_len],
            new_values: &values[..kv_len],
            rotation: Rotation {
                table: rope.map_or(&[], |rope| rope.table()),
                pairs: rope.map_or(0, |_| spec.rope.pairs),
                adjacent: spec.family.positions == Positions::Rotary(RotaryPairs::Adjacent),
            },
            sequences: &pasts,
            kv,
            heads: spec.heads,
            scale: spec.attention_scale,
            window,
            slopes: &spec.slopes,
            out: &mut mixed[..query_len],
        });
    }

    /// Applies the convolution of layer `index`.
    fn convolve(&mut self, index: usize) {
        let Self { worker, parts: Parts { sequences, tokens } } = self;
        let Worker { model, executor, activations, .. } = &mut **worker;
        let Model { spec, layout, weights, .. } = &**model;
        let MixerWeights::Convolution(convolution) = &layout.layers[index].mixer else { return };
        let Activations { residual, gates, mixed, .. } = activations;
        let (len, number) = (*tokens * spec.dim, spec.layer_specs[index].number);
        let gates = &mut gates[..3 * len];
        let input_norm = norm(model, layout.layers[index].attention_norms.input.as_ref());
        let inputs = input(model, &residual[..len], input_norm);
        executor.linear(&inputs, &mut [output(weights, &convolution.input, gates, false)]);
        executor.convolve(&mut Convolution {
            inputs: gates,
            stride: 3 * spec.dim,
            values: 2 * spec.dim,
            gates: Some([0, spec.dim]),
            kernel: weights.vector(&convolution.kernel),
            bias: None,
            sequences: &rings(sequences, number),
            dim: spec.dim,
            out: &mut mixed[..len],
        });
        for SequencePart { cache, rows } in sequences {
            cache.history.save(number, &(cache.position..cache.position + rows.len()));
        }
    }

    /// Applies the state space (SSM) of layer `index`, if it has one, to [`Self::stated`].
    fn state_space(&mut self, index: usize) {
        let Self { worker, parts: Parts { sequences, tokens } } = self;
        let (Worker { model, executor, activations, .. }, tokens) = (&mut **worker, *tokens);
        let Model { spec, layout, weights, .. } = &**model;
        let (MixerWeights::Attention(attention), Some(shape)) = (&layout.layers[index].mixer, spec.state)
        else {
            return;
        };
        let Some(state) = &attention.state else { return };
        let Activations { residual, gates, convolved, stated, .. } = activations;
        let gates = &mut gates[..tokens * shape.input()];
        let convolved = &mut convolved[..tokens * shape.channels()];
        let input_norm = norm(model, layout.layers[index].attention_norms.input.as_ref());
        let inputs = input(model, &residual[..tokens * spec.dim], input_norm);
        executor.linear(&inputs, &mut [output(weights, &state.input, gates, false)]);
        executor.convolve(&mut Convolution {
            inputs: gates,
            stride: shape.input(),
            values: shape.inner(),
            gates: None,
            kernel: weights.vector(&state.kernel),
            bias: state.kernel_bias.as_ref().map(|bias| weights.vector(bias)),
            sequences: &rings(sequences, index),
            dim: shape.channels(),
            out: convolved,
        });
        executor.activate(Activation::Silu, convolved);
        let states = sequences.iter_mut().map(|SequencePart { cache, rows }| {
            SpaceState::new(cache.states.of(index, cache.position), rows.clone())
        });
        let states: ArrayVec<SpaceState<'_>, TILE> = states.collect();
        executor.scan(&mut StateSpace {
            inputs: convolved,
            gates,
            step_bias: weights.vector(&state.step_bias),
            decay: weights.vector(&state.decay),
            direct: weights.vector(&state.direct),
            size: shape.size,
            groups: shape.groups,
            head_dim: shape.head_dim,
            sequences: &states,
            out: &mut stated[..tokens * shape.inner()],
        });
    }
}

/// What the sequences' convolutions of a layer remember.
fn rings<'a>(sequences: &'a mut [SequencePart<'_>], layer: usize) -> ArrayVec<Ring<'a>, TILE> {
    let rings = sequences.iter_mut().map(|SequencePart { cache, rows }| {
        Ring::new(cache.history.ring(layer), cache.position, rows.clone())
    });
    rings.collect()
}
