//! What state spaces remember of the tokens before.
//!
//! A state is all that a layer keeps of a text, so there is no way back but to a copy. Copies are made before every
//! run of several tokens and at every [`STEP`]-th position; the last [`COPIES`] of them are kept. A run that has
//! to go back goes to the last copy that is early enough, or to the start.

use super::history::{History, Visit};
use super::spec::{Spec, StateSpec};
use crate::runtime::{AllocError, Buffer, page_rounded};
use std::io;

/// Copies of the states of all layers.
const COPIES: usize = 3;
/// Positions between copies while tokens come one by one.
const STEP: usize = 64;

/// States of all layers.
pub(super) struct States {
    /// `[layer][head][head_dim][size]`
    now: Buffer<f32>,
    /// `[copy][layer]` of a state and the inputs of the convolution at the positions before.
    copies: Buffer<f32>,
    /// Where the copies were made; 0 for none.
    positions: [usize; COPIES],
    layers: usize,
    shape: StateSpec,
}

const NONE: StateSpec = StateSpec { heads: 0, head_dim: 0, size: 0, groups: 0, taps: 1 };

/// Values of a state, and of the inputs of its convolution.
fn lens(shape: &StateSpec) -> [usize; 2] {
    [shape.inner() * shape.size, (shape.taps - 1) * shape.channels()]
}

/// Values of all states, and of all copies.
fn all_lens(spec: &Spec) -> [usize; 2] {
    let [state, inputs] = lens(&spec.state.unwrap_or(NONE));
    [spec.layers * state, COPIES * spec.layers * (state + inputs)]
}

impl States {
    pub(super) fn new(spec: &Spec) -> Result<Self, AllocError> {
        let [now, copies] = all_lens(spec).map(|len| Buffer::zeroed(len, "states"));
        let (layers, shape) = (spec.layers, spec.state.unwrap_or(NONE));
        Ok(Self { now: now?, copies: copies?, positions: [0; COPIES], layers, shape })
    }

    pub(super) fn planned_bytes(spec: &Spec) -> usize {
        all_lens(spec).into_iter().map(|len| page_rounded(len * 4)).sum()
    }

    /// Takes over all that another of the same model holds.
    pub(super) fn copy(&mut self, from: &Self) {
        self.now.copy_from_slice(&from.now);
        self.copies.copy_from_slice(&from.copies);
        self.positions = from.positions;
    }

    /// The state of a layer, to be carried on from `position`.
    pub(super) fn of(&mut self, layer: usize, position: usize) -> &mut [f32] {
        let [len, _] = lens(&self.shape);
        let state = &mut self.now[layer * len..(layer + 1) * len];
        if position == 0 {
            state.fill(0.0);
        }
        state
    }

    /// Copies all states, if this is a place to go back to: `tokens` are to be read at `position`.
    pub(super) fn save(&mut self, history: &mut History, position: usize, tokens: usize) {
        let is_place = tokens > 1 || position.is_multiple_of(STEP);
        if self.now.is_empty() || position == 0 || !is_place || self.positions.contains(&position) {
            return;
        }
        let first = (0..COPIES).fold(0, |a, b| if self.positions[b] < self.positions[a] { b } else { a });
        self.positions[first] = position;
        self.exchange(first, position, &mut |state, copy| copy.copy_from_slice(state), history);
    }

    /// Calls `visit` for the states and their copies.
    pub(super) fn visit(&mut self, visit: Visit<'_>) -> io::Result<()> {
        if self.now.is_empty() {
            return Ok(());
        }
        let mut copied = self.positions.map(|position| position as u64);
        visit(bytemuck::bytes_of_mut(&mut copied))?;
        self.positions = copied.map(|position| position as usize);
        visit(bytemuck::cast_slice_mut(&mut self.now))?;
        visit(bytemuck::cast_slice_mut(&mut self.copies))
    }

    /// Whether what was read by [`Self::visit`] can be.
    pub(super) fn is_possible(&self, positions: usize) -> bool {
        self.positions.iter().all(|position| *position <= positions)
    }

    /// Makes ready for a new text.
    pub(super) fn forget(&mut self) {
        self.positions = [0; COPIES];
    }

    /// Goes back to `position` or as little before as it can, and returns where it is.
    pub(super) fn rewind(&mut self, history: &mut History, position: usize) -> usize {
        if self.now.is_empty() {
            return history.rewind(position);
        }
        self.positions.iter_mut().filter(|at| **at > position).for_each(|at| *at = 0);
        let last = (0..COPIES).fold(0, |a, b| if self.positions[b] > self.positions[a] { b } else { a });
        let found = self.positions[last];
        if found > 0 {
            self.exchange(last, found, &mut |state, copy| state.copy_from_slice(copy), history);
        }
        found
    }

    /// Calls `copy(present, copied)` for the state of each layer, and for the inputs of its convolution at each
    /// position before `position`.
    fn exchange(
        &mut self,
        index: usize,
        position: usize,
        copy: &mut dyn FnMut(&mut [f32], &mut [f32]),
        history: &mut History,
    ) {
        let ([state, inputs], channels) = (lens(&self.shape), self.shape.channels());
        let all = self.layers * (state + inputs);
        let copies = self.copies[index * all..(index + 1) * all].chunks_exact_mut(state + inputs);
        for (layer, (now, copied)) in self.now.chunks_exact_mut(state).zip(copies).enumerate() {
            let (copied, rows) = copied.split_at_mut(state);
            copy(now, copied);
            for (i, row) in rows.chunks_exact_mut(channels).enumerate() {
                if let Some(at) = (position + i + 1).checked_sub(self.shape.taps) {
                    copy(history.inputs(layer, at), row);
                }
            }
        }
    }
}
