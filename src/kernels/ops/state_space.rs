//! State spaces whose matrices fade by one number per head and token (Mamba 2: Dao and Gu 2024, arXiv 2405.21060).

use super::{Executor, Shared};
use crate::kernels::scalar::{self, VIRTUAL};
use crate::kernels::{Activation, Kernels};
use std::ops::Range;

/// The state of a sequence with new positions.
pub struct SpaceState<'a> {
    /// `[head][head_dim][size]`, read and written.
    state: Shared<'a, f32>,
    /// Rows of the new tokens in inputs, gates and output.
    rows: Range<usize>,
}

impl<'a> SpaceState<'a> {
    /// The tokens at `rows` carry on this state.
    pub fn new(state: &'a mut [f32], rows: Range<usize>) -> Self {
        Self { state: Shared::new(state), rows }
    }
}

/// A scan: for each token and head, with `step = softplus(raw step + bias)`,
/// `state = state * exp(step * decay) + step * x writes^T` and `out = (state reads + direct * x) * silu(gate)`.
pub struct StateSpace<'a, 'c> {
    /// `[token]` of x `[head][head_dim]`, writes `[group][size]` and reads `[group][size]`.
    pub inputs: &'a [f32],
    /// `[token]` of gates `[head][head_dim]`, anything, and raw steps `[head]`.
    pub gates: &'a [f32],
    /// `[head]`
    pub step_bias: &'a [f32],
    /// `[head]`
    pub decay: &'a [f32],
    /// `[head]`
    pub direct: &'a [f32],
    /// Columns of a state.
    pub size: usize,
    /// Groups of heads that read and write alike.
    pub groups: usize,
    /// Rows of a state.
    pub head_dim: usize,
    /// The sequences; their rows follow each other from 0 on.
    pub sequences: &'a [SpaceState<'c>],
    /// `[token][head][head_dim]`
    pub out: &'a mut [f32],
}

struct Stage<'a> {
    kernels: &'static Kernels,
    inputs: &'a [f32],
    gates: &'a [f32],
    /// Biases of steps, decay and direct, `[head]` each.
    heads: [&'a [f32]; 3],
    size: usize,
    groups: usize,
    head_dim: usize,
    tokens: usize,
    out: Shared<'a, f32>,
}

impl Executor {
    /// Replaces each value by what the activation makes of it.
    pub fn activate(&mut self, kind: Activation, rows: &mut [f32]) {
        // SAFETY: the executor's kernels are available on this processor.
        unsafe { (self.kernels.activate)(kind, rows, None) };
    }

    /// Scans.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn scan(&mut self, space: &mut StateSpace<'_, '_>) {
        let StateSpace { inputs, gates, step_bias, decay, direct, size, groups, head_dim, sequences, .. } =
            *space;
        let out = &mut *space.out;
        let heads = step_bias.len();
        let inner = heads * head_dim;
        let tokens = out.len() / inner;
        assert_eq!((decay.len(), direct.len()), (heads, heads), "values per head");
        assert_eq!(out.len(), tokens * inner, "output");
        let mut next = 0;
        for SpaceState { state, rows } in sequences {
            assert_eq!((state.len, rows.start), (inner * size, next), "states and rows");
            next = rows.end;
        }
        assert_eq!(next, tokens, "a sequence for each token");
        assert_eq!(inputs.len(), tokens * (inner + 2 * groups * size), "inputs");
        assert!(heads.is_multiple_of(groups) && gates.len() / tokens >= inner + heads, "gates and groups");
        assert!(gates.len().is_multiple_of(tokens), "whole rows of gates");
        let stage = Stage {
            kernels: self.kernels,
            inputs,
            gates,
            heads: [step_bias, decay, direct],
            size,
            groups,
            head_dim,
            tokens,
            out: Shared::new(out),
        };
        self.pool.run_with(&mut self.scratch, &|part, _| {
            for item in part.share(sequences.len() * heads) {
                // SAFETY: each head of a sequence belongs to one part.
                unsafe { stage.run(&sequences[item / heads], item % heads) };
            }
        });
    }
}

/// `ln(1 + e^x)`.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { f64::from(x).exp().ln_1p() as f32 }
}

impl Stage<'_> {
    /// # Safety
    /// No other thread uses this head of the sequence.
    unsafe fn run(&self, sequence: &SpaceState<'_>, head: usize) {
        let heads = self.heads[0].len();
        let (inner, width) = (heads * self.head_dim, self.inputs.len() / self.tokens);
        let [step_bias, decay, direct] = self.heads.map(|values| values[head]);
        let ours = |row: usize| row * inner + head * self.head_dim..row * inner + (head + 1) * self.head_dim;
        let states = head * self.head_dim * self.size..(head + 1) * self.head_dim * self.size;
        // SAFETY: the head is ours by contract.
        let state = unsafe { sequence.state.part(states) };
        for token in sequence.rows.clone() {
            let (x, rest) = self.inputs[token * width..][..width].split_at(inner);
            let group = |first: usize| -> Range<usize> {
                let start = (first + head / (heads / self.groups)) * self.size;
                start..start + self.size
            };
            let (writes, reads) = (&rest[group(0)], &rest[group(self.groups)]);
            let gates = &self.gates[token * (self.gates.len() / self.tokens)..];
            let gates = &gates[..self.gates.len() / self.tokens];
            let step = softplus(gates[gates.len() - heads + head] + step_bias);
            let kept = scalar::exp(step * decay);
            // SAFETY: as above.
            let out = unsafe { self.out.part(ours(token)) };
            out.copy_from_slice(&gates[ours(0)]);
            // SAFETY: the kernels are available on this processor.
            unsafe { (self.kernels.activate)(Activation::Silu, out, None) };
            for ((row, x), out) in state.chunks_exact_mut(self.size).zip(&x[ours(0)]).zip(out) {
                fade(row, kept, step * x, writes);
                *out *= dot(row, reads) + direct * x;
            }
        }
    }
}

/// `row = row * kept + added * writes`.
fn fade(row: &mut [f32], kept: f32, added: f32, writes: &[f32]) {
    for (state, write) in row.iter_mut().zip(writes) {
        *state = *state * kept + added * write;
    }
}

/// The dot product, in interleaved partial sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; VIRTUAL];
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<VIRTUAL>(), b.as_chunks::<VIRTUAL>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..VIRTUAL {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *lane += a * b;
    }
    scalar::reduce(lanes, |a, b| a + b)
}
