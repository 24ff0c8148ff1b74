//! Causal attention with grouped queries over the KV cache.
//!
//! The query heads that share a KV head (Ainslie et al. 2023, arXiv 2305.13245), at a few tokens, are a
//! [`Unit`]: they are computed in one pass over the head's cache, chunk by chunk (see `kv`). The units lie
//! end to end and are cut into parts of equal size, at chunks. A part that has all chunks of a unit merges
//! them as it goes; if a cut falls inside a unit, its chunks are kept apart and the part that finishes last
//! merges them, in the same order, so no further stage is needed and the result is the same.

mod memory;
mod write;

pub(super) use memory::{Cuts, Room, Working};

use super::{Executor, Shared};
use crate::kernels::Kernels;
use crate::kernels::acts::ActScale;
use crate::kernels::generic::{ChunkJob, MOST_QUERIES as MOST_PER_CHUNK};
use crate::kernels::kv::{CHUNK, KvShape, KvType, Partial, Stored};
use crate::kernels::scalar::VIRTUAL;
use crate::runtime::Part;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rotary position embedding (Su et al. 2021, arXiv 2104.09864) of the first `2 * pairs` values of a head.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// `[token][pair]` of (cos, sin).
    pub table: &'a [[f32; 2]],
    /// Pairs per token.
    pub pairs: usize,
    /// Pair `i` is values `2i` and `2i + 1`; otherwise `i` and `i + pairs`.
    pub adjacent: bool,
}

impl Rotation<'_> {
    fn apply(&self, token: usize, head: &mut [f32]) {
        let table = &self.table[token * self.pairs..][..self.pairs];
        let rotate = |x: &mut f32, y: &mut f32, [cos, sin]: &[f32; 2]| {
            (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
        };
        if self.adjacent {
            for ([x, y], turn) in head.as_chunks_mut::<2>().0.iter_mut().zip(table) {
                rotate(x, y, turn);
            }
        } else {
            let (first, second) = head.split_at_mut(self.pairs);
            for ((x, y), turn) in first.iter_mut().zip(second).zip(table) {
                rotate(x, y, turn);
            }
        }
    }
}

/// One layer's attention over `tokens` new positions.
#[derive(Debug)]
pub struct Attention<'a> {
    /// `[token][head][dim]`
    pub queries: &'a [f32],
    /// `[token][KV head][dim]`
    pub new_keys: &'a [f32],
    /// `[token][KV head][dim]`
    pub new_values: &'a [f32],
    /// Applied to queries and keys.
    pub rotation: Rotation<'a>,
    /// The layer's key cache, [`KvShape::len`] halves.
    pub keys: &'a mut [u16],
    /// The layer's value cache, [`KvShape::len`] halves.
    pub values: &'a mut [u16],
    /// Shape of the cache.
    pub kv: KvShape,
    /// Query heads.
    pub heads: usize,
    /// Position of the first token.
    pub position: usize,
    /// What scores are multiplied with.
    pub scale: f32,
    /// Positions that a token sees, itself the last; `usize::MAX` for all.
    pub window: usize,
    /// Per query head, what a score loses per position of distance (ALiBi: Press et al. 2021, arXiv
    /// 2108.12409); empty for nothing.
    pub slopes: &'a [f32],
    /// `[token][head][dim]`
    pub out: &'a mut [f32],
}

/// Queries of a unit, if there are not more heads per KV head.
const QUERIES: usize = 16;
/// Most query heads per KV head.
pub(crate) const MOST_QUERIES: usize = MOST_PER_CHUNK;

/// Tokens of a unit, for `group` query heads per KV head: a divisor of [`CHUNK`].
fn tile_tokens(group: usize) -> usize {
    1 << (QUERIES / group).max(1).ilog2()
}

/// The query heads of a KV head at some tokens, within one chunk.
#[derive(Clone, Debug)]
struct Unit {
    head: usize,
    tokens: Range<usize>,
}

/// The queries of a unit, as in [`Working`].
struct Asked<'a> {
    queries: &'a [f32],
    codes: &'a [i8],
    scales: &'a [ActScale],
}

/// What a part does of a unit.
#[derive(Clone, Debug)]
struct Run {
    unit: Unit,
    chunks: Range<usize>,
    /// Number of the cut in it, if these are not all chunks.
    cut: Option<usize>,
}

/// An [`Attention`] whose cache and output are shared by the parts of a stage.
struct Stage<'a> {
    kernels: &'static Kernels,
    queries: &'a [f32],
    new_keys: &'a [f32],
    new_values: &'a [f32],
    rotation: Rotation<'a>,
    keys: Shared<'a, u16>,
    values: Shared<'a, u16>,
    out: Shared<'a, f32>,
    partials: Shared<'a, f32>,
    stride: usize,
    done: &'a [AtomicUsize],
    kv: KvShape,
    heads: usize,
    position: usize,
    tokens: usize,
    scale: f32,
    window: usize,
    slopes: &'a [f32],
}

impl Executor {
    /// Rotates queries and keys, writes keys and values to the cache and attends to it.
    ///
    /// # Panics
    /// If shapes do not fit each other, or exceed the executor's limits.
    pub fn attend(&mut self, attention: &mut Attention<'_>) {
        self.cuts.done.iter_mut().for_each(|done| *done.get_mut() = 0);
        let stage = Stage::new(self.kernels, attention, &mut self.cuts);
        // The tokens of one unit are all in its last chunk: whoever attends to that writes them.
        let writes = stage.tiles() == 1;
        if !writes {
            let blocks = stage.blocks();
            self.pool.run_with(&mut self.scratch, &|part, scratch| {
                for item in part.share(stage.kv.heads * blocks) {
                    let tokens = stage.block_tokens(item % blocks);
                    // SAFETY: each block of 16 positions of a head belongs to one part.
                    unsafe { stage.write(&Unit { head: item / blocks, tokens }, &mut scratch.attention) };
                }
            });
        }
        self.pool.run_with(&mut self.scratch, &|part, scratch| {
            for run in stage.runs(part) {
                let working = &mut scratch.attention;
                // SAFETY: each chunk of a unit belongs to one part, and so does each unit's last chunk.
                // Otherwise nothing is written to the cache now.
                unsafe {
                    if writes && run.chunks.end == stage.chunks(&run.unit) {
                        stage.write(&run.unit, working);
                    }
                    stage.run(&run, working);
                }
            }
        });
    }
}

impl Shared<'_, u16> {
    /// # Safety
    /// As for [`Self::read`].
    unsafe fn stored(&self, codes: &Range<usize>, scales: &Range<usize>) -> Stored<'_> {
        // SAFETY: the caller's contract.
        unsafe { Stored { codes: self.read(codes.clone()), scales: self.read(scales.clone()) } }
    }
}

impl<'a> Stage<'a> {
    fn new(kernels: &'static Kernels, attention: &'a mut Attention<'_>, cuts: &'a mut Cuts) -> Self {
        let (kv, heads) = (attention.kv, attention.heads);
        let tokens = attention.queries.len() / (heads * kv.dim);
        assert_eq!(attention.queries.len(), tokens * heads * kv.dim, "queries");
        assert_eq!(attention.out.len(), attention.queries.len(), "output");
        assert_eq!(attention.new_keys.len(), tokens * kv.heads * kv.dim, "new keys");
        assert_eq!(attention.new_values.len(), attention.new_keys.len(), "new values");
        assert_eq!((attention.keys.len(), attention.values.len()), (kv.len(), kv.len()), "cache");
        assert!(heads % kv.heads == 0 && attention.position + tokens <= kv.positions, "cache bounds");
        assert!(tokens > 0 && heads / kv.heads <= MOST_QUERIES, "queries");
        assert!(attention.window > 0, "a token sees itself");
        assert!(attention.slopes.is_empty() || attention.slopes.len() == heads, "slopes");
        assert!(attention.rotation.table.len() >= tokens * attention.rotation.pairs);
        assert!(attention.rotation.pairs * 2 <= kv.dim, "rotated dimensions");
        Self {
            kernels,
            queries: attention.queries,
            new_keys: attention.new_keys,
            new_values: attention.new_values,
            rotation: attention.rotation,
            keys: Shared::new(attention.keys),
            values: Shared::new(attention.values),
            out: Shared::new(attention.out),
            partials: Shared::new(&mut cuts.partials),
            stride: cuts.stride,
            done: &cuts.done,
            kv,
            heads,
            position: attention.position,
            tokens,
            scale: attention.scale,
            window: attention.window,
            slopes: attention.slopes,
        }
    }

    /// Query heads per KV head.
    fn group(&self) -> usize {
        self.heads / self.kv.heads
    }

    /// Blocks of 16 positions that the tokens touch.
    fn blocks(&self) -> usize {
        (self.position + self.tokens).div_ceil(VIRTUAL) - self.position / VIRTUAL
    }

    /// Tokens in the `i`-th of these.
    fn block_tokens(&self, i: usize) -> Range<usize> {
        self.aligned(VIRTUAL, i)
    }

    /// Units of a KV head.
    fn tiles(&self) -> usize {
        let tile = tile_tokens(self.group());
        (self.position + self.tokens).div_ceil(tile) - self.position / tile
    }

    /// The tokens at the `i`-th run of `len` positions, counted from the run of the first token on.
    fn aligned(&self, len: usize, i: usize) -> Range<usize> {
        let start = (self.position / len + i) * len;
        start.saturating_sub(self.position)..self.tokens.min(start + len - self.position)
    }

    fn units(&self) -> impl Iterator<Item = Unit> {
        let (tile, tiles) = (tile_tokens(self.group()), self.tiles());
        (0..self.kv.heads * tiles)
            .map(move |i| Unit { head: i / tiles, tokens: self.aligned(tile, i % tiles) })
    }

    /// The first chunk that a unit attends to. It is that of all tokens of the unit's run of positions, so that
    /// it does not depend on which of them are here.
    fn first_chunk(&self, unit: &Unit) -> usize {
        let tile = tile_tokens(self.group());
        let first = (self.position + unit.tokens.start) / tile * tile;
        (first + 1).saturating_sub(self.window) / CHUNK
    }

    /// Chunks that a unit attends to.
    fn chunks(&self, unit: &Unit) -> usize {
        (self.position + unit.tokens.end).div_ceil(CHUNK) - self.first_chunk(unit)
    }

    /// Costs of a chunk and of a unit, in proportion to the time they take.
    fn costs(&self, unit: &Unit) -> (usize, usize) {
        let start = self.first_chunk(unit) * CHUNK;
        let blocks = (self.position + unit.tokens.end - start).div_ceil(VIRTUAL);
        (CHUNK / VIRTUAL * unit.tokens.len(), blocks * unit.tokens.len())
    }

    /// The chunks of units that belong to a part: those that start in its share of the costs.
    fn runs(&self, part: Part) -> impl Iterator<Item = Run> {
        let total: usize = self.units().map(|unit| self.costs(&unit).1).sum();
        let (mine, mut before) = (part.share(total), 0);
        self.units().filter_map(move |unit| {
            let (chunk, all) = self.costs(&unit);
            let (chunks, start) = (self.chunks(&unit), before);
            let first = |cost: usize| cost.saturating_sub(start).div_ceil(chunk).min(chunks);
            let range = first(mine.start)..first(mine.end);
            before += all;
            let owns = |index: usize| Part { index, ..part }.share(total).contains(&start);
            let cut = if range.len() == chunks { None } else { (0..part.count).find(|i| owns(*i)) };
            (!range.is_empty()).then_some(Run { unit, chunks: range, cut })
        })
    }

    /// Rotates, scales and perhaps rounds the queries of a unit; returns their number.
    fn prepare(&self, unit: &Unit, working: &mut Working) -> usize {
        let (group, dim, row) = (self.group(), self.kv.dim, self.kv.row());
        for (i, token) in unit.tokens.clone().enumerate() {
            let from = (token * self.heads + unit.head * group) * dim;
            let queries = self.queries[from..from + group * dim].chunks_exact(dim);
            let rows = working.queries[i * group * row..].chunks_exact_mut(row);
            for (query, to) in queries.zip(rows) {
                let to = &mut to[..dim];
                to.copy_from_slice(query);
                self.rotation.apply(token, to);
                to.iter_mut().for_each(|x| *x *= self.scale);
            }
        }
        let count = unit.tokens.len() * group;
        if self.kv.kind == KvType::Q8_0 {
            working.round(self.kernels, &self.kv, count);
        }
        count
    }

    /// Attends to some chunks of a unit. If that was the last to do, writes the output.
    ///
    /// # Safety
    /// No thread writes these chunks, no other thread attends to them for this unit, and no other unit has
    /// this unit's output.
    unsafe fn run(&self, run: &Run, working: &mut Working) {
        let Run { unit, chunks, cut } = run;
        let (count, row) = (self.prepare(unit, working), self.kv.row());
        let len = Partial::len(count, row);
        let Working { queries, codes, scales, weights, state, next } = working;
        let asked = Asked {
            queries: &queries[..count * row],
            codes: &codes[..(count * row).min(codes.len())],
            scales: &scales[..count * self.kv.scales()],
        };
        let weights = &mut weights[..2 * count * CHUNK];
        let (mut state, mut next) = (Partial::new(state, count, row), Partial::new(next, count, row));
        let Some(cut) = cut else {
            for chunk in chunks.clone() {
                let out = if chunk == 0 { &mut state } else { &mut next };
                // SAFETY: the caller's contract; both partial results have these queries and rows.
                unsafe {
                    self.attend((unit, chunk), &asked, weights, out);
                    if chunk > 0 {
                        (self.kernels.merge)(&mut state, &next, row);
                    }
                }
            }
            // SAFETY: the output is ours by contract.
            return unsafe { self.finish(unit, &state) };
        };
        let of = self.chunks(unit);
        let partial = |chunk: usize| {
            let start = (cut * self.kv.chunks() + chunk) * self.stride;
            // SAFETY: `cut` belongs to this unit; its chunk is ours, or finished and from now on ours.
            Partial::new(unsafe { self.partials.part(start..start + len) }, count, row)
        };
        for chunk in chunks.clone() {
            // SAFETY: the caller's contract.
            unsafe { self.attend((unit, chunk), &asked, weights, &mut partial(chunk)) };
        }
        if self.done[*cut].fetch_add(chunks.len(), Ordering::AcqRel) + chunks.len() == of {
            let mut state = partial(0);
            // SAFETY: all have these queries and rows; the output is ours by contract.
            unsafe {
                (1..of).for_each(|chunk| (self.kernels.merge)(&mut state, &partial(chunk), row));
                self.finish(unit, &state);
            }
        }
    }

    /// Attends from the queries of a unit to a chunk, counted from the unit's first.
    ///
    /// # Safety
    /// No thread writes this chunk.
    unsafe fn attend(
        &self,
        (unit, chunk): (&Unit, usize),
        asked: &Asked<'_>,
        weights: &mut [f32],
        out: &mut Partial<'_>,
    ) {
        let chunk = self.first_chunk(unit) + chunk;
        let (start, end) = (chunk * CHUNK, self.position + unit.tokens.end);
        let positions = start..end.next_multiple_of(VIRTUAL).min(start + CHUNK);
        let codes = self.of_head(unit.head, self.kv.codes_at(&positions));
        let scales = self.of_head(unit.head, self.kv.scales_at(chunk));
        // A single token is followed by the next head, others by the next tokens.
        let next = if end > start + CHUNK {
            codes.end
        } else {
            (unit.head + usize::from(self.tokens == 1)) * self.kv.head_len()
        };
        let mut job = ChunkJob {
            kv: self.kv,
            group: self.group(),
            queries: asked.queries,
            codes: asked.codes,
            scales: asked.scales,
            // SAFETY: only reads of this chunk, by contract.
            keys: unsafe { self.keys.stored(&codes, &scales) },
            // SAFETY: as above.
            values: unsafe { self.values.stored(&codes, &scales) },
            visible: self.position + unit.tokens.start + 1 - start,
            window: self.window,
            slopes: self.slopes.get(unit.head * self.group()..(unit.head + 1) * self.group()).unwrap_or(&[]),
            weights,
            next: [&self.keys, &self.values].map(|cache| cache.start().wrapping_add(next).cast_const()),
        };
        // SAFETY: the kernels are available, and all slices are as long as the job wants them.
        unsafe { (self.kernels.attend)(&mut job, out) };
    }

    /// Writes the output of a unit.
    ///
    /// # Safety
    /// No other thread uses it.
    unsafe fn finish(&self, unit: &Unit, state: &Partial<'_>) {
        let (group, dim, row) = (self.group(), self.kv.dim, self.kv.row());
        for (query, mixed) in state.mixed.chunks_exact(row).enumerate() {
            let token = unit.tokens.start + query / group;
            let to = (token * self.heads + unit.head * group + query % group) * dim;
            let scale = 1.0 / state.sum[query];
            // SAFETY: the caller's contract.
            let out = unsafe { self.out.part(to..to + dim) };
            out.iter_mut().zip(mixed).for_each(|(out, mixed)| *out = mixed * scale);
        }
    }
}
