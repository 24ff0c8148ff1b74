//! Working memory of attention.

use super::tile_tokens;
use crate::kernels::Kernels;
use crate::kernels::acts::{ActScale, QuantSink};
use crate::kernels::kv::{CHUNK, KvShape, Partial};
use crate::kernels::layout::BLOCK;
use crate::runtime::{AllocError, Buffer, page_rounded};
use std::sync::atomic::AtomicUsize;

/// Room that attention needs.
#[derive(Clone, Copy)]
pub(in crate::kernels::ops) struct Room {
    kv: KvShape,
    /// Queries of a unit.
    queries: usize,
}

impl Room {
    pub(in crate::kernels::ops) fn new(kv: KvShape, heads: usize, tokens: usize) -> Self {
        let group = heads / kv.heads;
        Self { kv, queries: group * tile_tokens(group).min(tokens) }
    }

    /// Queries, weights and a partial result, in f32 values.
    fn floats(&self) -> [usize; 3] {
        let queries = self.queries * self.kv.row();
        [queries, 2 * self.queries * CHUNK, self.partial()]
    }

    fn partial(&self) -> usize {
        Partial::len(self.queries, self.kv.row())
    }

    /// f32 values for units that parts share.
    fn shared(&self, threads: usize) -> usize {
        threads.saturating_sub(1) * self.kv.chunks() * self.partial()
    }

    pub(in crate::kernels::ops) fn planned_bytes(&self, threads: usize) -> usize {
        let [queries, weights, partial] = self.floats().map(|len| page_rounded(len * 4));
        let blocks = self.queries * self.kv.scales();
        let rounded = page_rounded(blocks * BLOCK) + page_rounded(blocks * size_of::<ActScale>());
        let shared = page_rounded(self.shared(threads) * 4);
        threads * (queries + weights + 2 * partial + rounded) + shared
    }
}

/// One thread's working memory.
pub(in crate::kernels::ops) struct Working {
    /// `[query][row]`, zero behind `dim`.
    pub(super) queries: Buffer<f32>,
    /// `[query][row]`, if keys are codes.
    pub(super) codes: Buffer<i8>,
    /// `[query][row / 32]`, if keys are codes.
    pub(super) scales: Buffer<ActScale>,
    /// `[2][query][CHUNK]`
    pub(super) weights: Buffer<f32>,
    /// A [`Partial`] of the chunks so far.
    pub(super) state: Buffer<f32>,
    /// A [`Partial`] of the next.
    pub(super) next: Buffer<f32>,
}

impl Working {
    pub(in crate::kernels::ops) fn new(room: &Room) -> Result<Self, AllocError> {
        let [queries, weights, partial] = room.floats();
        let blocks = room.queries * room.kv.scales();
        Ok(Self {
            queries: Buffer::zeroed(queries, "attention queries")?,
            codes: Buffer::zeroed(blocks * BLOCK, "8-bit queries")?,
            scales: Buffer::zeroed(blocks, "scales of queries")?,
            weights: Buffer::zeroed(weights, "attention weights")?,
            state: Buffer::zeroed(partial, "attention output")?,
            next: Buffer::zeroed(partial, "attention output")?,
        })
    }

    /// Rounds the first `rows` rows of the queries to 8 bits.
    pub(super) fn round(&mut self, kernels: &Kernels, kv: &KvShape, rows: usize) {
        for i in 0..rows {
            let mut sink = QuantSink::row(
                &mut self.codes[i * kv.row()..][..kv.row()],
                &mut self.scales[i * kv.scales()..][..kv.scales()],
            );
            // SAFETY: the executor's kernels are available on this processor.
            unsafe { (kernels.quantize)(&self.queries[i * kv.row()..][..kv.row()], &mut sink) };
        }
    }
}

/// Partial results of units that parts share: the unit in which the share of part `i` ends is number `i`.
pub(in crate::kernels::ops) struct Cuts {
    /// `[cut][chunk]` of [`Partial`].
    pub(super) partials: Buffer<f32>,
    /// Values for each.
    pub(super) stride: usize,
    /// Finished chunks of each.
    pub(super) done: Vec<AtomicUsize>,
}

impl Cuts {
    pub(in crate::kernels::ops) fn new(room: &Room, threads: usize) -> Result<Self, AllocError> {
        let partials = Buffer::zeroed(room.shared(threads), "attention output")?;
        let done = (1..threads).map(|_| AtomicUsize::new(0)).collect();
        Ok(Self { partials, stride: room.partial(), done })
    }
}
