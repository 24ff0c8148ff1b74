//! What convolutions remember of the tokens before.
//!
//! A layer's convolution reads its inputs at the last few positions. The inputs at the latest positions lie in a
//! ring, as long as a tile and what its first token sees, so that a run can go back by a tile at least. To go back
//! further, those before every [`STEP`]-th position are kept as well: it then goes back to the last of these.

use super::options::TILE;
use super::spec::{Mixer, Spec};
use crate::runtime::{AllocError, Buffer, page_rounded};
use std::io;
use std::ops::Range;

/// Positions from one place to which a run can always go back to the next.
const STEP: usize = 64;

/// Called with one part of a cache after the other, to be read or filled.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&mut [u8]) -> io::Result<()>;

/// Inputs of all convolutions.
pub(super) struct History {
    /// `[layer][position % slots][dim]`
    ring: Buffer<f32>,
    /// `[layer][place][position before it][dim]`
    saved: Buffer<f32>,
    shape: Shape,
    /// The first position that the ring holds.
    first: usize,
}

#[derive(Clone, Copy)]
struct Shape {
    layers: usize,
    /// Positions before a token that its convolution reads.
    before: usize,
    dim: usize,
    places: usize,
}

impl Shape {
    fn new(spec: &Spec, context: usize) -> Self {
        if let Some(state) = &spec.state {
            // `states` keeps what a run goes back to.
            return Self { layers: spec.layers, before: state.taps - 1, dim: state.channels(), places: 0 };
        }
        let layers = spec.layers_with(Mixer::Convolution);
        Self { layers, before: spec.taps.saturating_sub(1), dim: spec.dim, places: context / STEP }
    }

    fn slots(&self) -> usize {
        TILE + self.before
    }

    /// Values of the ring, and of what is saved.
    fn lens(&self) -> [usize; 2] {
        [self.slots(), self.places * self.before].map(|rows| self.layers * rows * self.dim)
    }

    /// Where an input is in the ring.
    fn in_ring(&self, layer: usize, position: usize) -> Range<usize> {
        let start = (layer * self.slots() + position % self.slots()) * self.dim;
        start..start + self.dim
    }

    /// Where the inputs before position `place * STEP` (not 0) are.
    fn in_saved(&self, layer: usize, place: usize) -> Range<usize> {
        let len = self.before * self.dim;
        let start = (layer * self.places + place - 1) * len;
        start..start + len
    }
}

impl History {
    pub(super) fn new(spec: &Spec, context: usize) -> Result<Self, AllocError> {
        let shape = Shape::new(spec, context);
        let [ring, saved] = shape.lens().map(|len| Buffer::zeroed(len, "inputs of convolutions"));
        Ok(Self { ring: ring?, saved: saved?, shape, first: 0 })
    }

    pub(super) fn planned_bytes(spec: &Spec, context: usize) -> usize {
        Shape::new(spec, context).lens().into_iter().map(|len| page_rounded(len * 4)).sum()
    }

    /// Takes over all that another of the same model and context holds.
    pub(super) fn copy(&mut self, from: &Self) {
        self.ring.copy_from_slice(&from.ring);
        self.saved.copy_from_slice(&from.saved);
        self.first = from.first;
    }

    /// The ring of a layer, `[position % slots][dim]`.
    pub(super) fn ring(&mut self, layer: usize) -> &mut [f32] {
        let len = self.shape.slots() * self.shape.dim;
        &mut self.ring[layer * len..(layer + 1) * len]
    }

    /// Inputs of a layer at a position that the ring holds.
    pub(super) fn inputs(&mut self, layer: usize, position: usize) -> &mut [f32] {
        &mut self.ring[self.shape.in_ring(layer, position)]
    }

    /// Takes note that all layers will get inputs at these positions.
    pub(super) fn announce(&mut self, positions: &Range<usize>) {
        let oldest = positions.end.saturating_sub(self.shape.slots());
        self.first = self.first.min(positions.start).max(oldest);
    }

    /// Saves what a layer's ring holds before every place that these positions, all in the ring, reach.
    pub(super) fn save(&mut self, layer: usize, positions: &Range<usize>) {
        for place in positions.start / STEP + 1..=(positions.end / STEP).min(self.shape.places) {
            let before = place * STEP - self.shape.before..place * STEP;
            let to = &mut self.saved[self.shape.in_saved(layer, place)];
            for (row, position) in to.chunks_exact_mut(self.shape.dim).zip(before) {
                row.copy_from_slice(&self.ring[self.shape.in_ring(layer, position)]);
            }
        }
    }

    /// Calls `visit` for all that a run at `positions` needs, in an order that depends on nothing else.
    pub(super) fn visit(&mut self, positions: usize, visit: Visit<'_>) -> io::Result<()> {
        if self.shape.layers == 0 {
            return Ok(());
        }
        let mut first = self.first as u64;
        visit(bytemuck::bytes_of_mut(&mut first))?;
        self.first = first as usize;
        visit(bytemuck::cast_slice_mut(&mut self.ring))?;
        for layer in 0..self.shape.layers {
            for place in 1..=(positions / STEP).min(self.shape.places) {
                visit(bytemuck::cast_slice_mut(&mut self.saved[self.shape.in_saved(layer, place)]))?;
            }
        }
        Ok(())
    }

    /// Whether what was read by [`Self::visit`] can be.
    pub(super) fn is_possible(&self, positions: usize) -> bool {
        let oldest = positions.saturating_sub(self.shape.slots());
        self.shape.layers == 0 || (oldest..=positions).contains(&self.first)
    }

    /// Makes ready for a new text.
    pub(super) fn forget(&mut self) {
        self.first = 0;
    }

    /// Goes back to `position` or as little before as it can, and returns where it is.
    pub(super) fn rewind(&mut self, position: usize) -> usize {
        if self.shape.layers == 0 || position.saturating_sub(self.shape.before) >= self.first {
            return position;
        }
        let place = position / STEP;
        let before = (place * STEP).saturating_sub(self.shape.before)..place * STEP;
        self.first = before.start;
        for layer in (0..self.shape.layers).filter(|_| place > 0) {
            let from = &self.saved[self.shape.in_saved(layer, place)];
            for (row, position) in from.chunks_exact(self.shape.dim).zip(before.clone()) {
                self.ring[self.shape.in_ring(layer, position)].copy_from_slice(row);
            }
        }
        place * STEP
    }
}
