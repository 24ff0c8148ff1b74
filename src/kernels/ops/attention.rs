//! Causal attention with grouped queries over the KV cache.
//!
//! The query heads that share a KV head (Ainslie et al. 2023, arXiv 2305.13245), at a few tokens of a sequence,
//! are a [`Unit`]: they are computed in one pass over the head's cache, chunk by chunk (see `kv`). The units of
//! all sequences lie end to end and are cut into parts of equal size, at chunks. A part that has all chunks of a unit merges
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

/// A sequence with new positions, and its KV cache of one layer.
pub struct Past<'a> {
    /// [`KvShape::len`] halves.
    keys: Shared<'a, u16>,
    /// [`KvShape::len`] halves.
    values: Shared<'a, u16>,
    /// Position of the first new token.
    position: usize,
    /// Rows of the new tokens in queries, keys and values.
    rows: Range<usize>,
}

impl<'a> Past<'a> {
    /// The tokens at `rows` are to follow the first `position` ones in these caches of keys and values.
    pub fn new(keys: &'a mut [u16], values: &'a mut [u16], position: usize, rows: Range<usize>) -> Self {
        Self { keys: Shared::new(keys), values: Shared::new(values), position, rows }
    }

    fn tokens(&self) -> usize {
        self.rows.len()
    }

    /// Position behind the last new token.
    fn end(&self) -> usize {
        self.position + self.rows.len()
    }

    /// Runs of `len` positions that the new tokens touch.
    fn aligned_runs(&self, len: usize) -> usize {
        self.end().div_ceil(len) - self.position / len
    }

    /// The new tokens in the `i`-th of these.
    fn aligned(&self, len: usize, i: usize) -> Range<usize> {
        let start = (self.position / len + i) * len;
        start.saturating_sub(self.position)..self.tokens().min(start + len - self.position)
    }
}

/// One layer's attention over the new positions of some sequences.
pub struct Attention<'a, 'c> {
    /// `[token][head][dim]`
    pub queries: &'a [f32],
    /// `[token][KV head][dim]`
    pub new_keys: &'a [f32],
    /// `[token][KV head][dim]`
    pub new_values: &'a [f32],
    /// Applied to queries and keys.
    pub rotation: Rotation<'a>,
    /// The sequences; their rows follow each other from 0 on.
    pub sequences: &'a [Past<'c>],
    /// Shape of each cache.
    pub kv: KvShape,
    /// Query heads.
    pub heads: usize,
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

/// The query heads of a KV head at some tokens of a sequence, within one chunk.
struct Unit<'a> {
    past: &'a Past<'a>,
    head: usize,
    /// Of the sequence's new tokens.
    tokens: Range<usize>,
}

impl Unit<'_> {
    /// Rows of the tokens in queries, keys and values.
    fn rows(&self) -> Range<usize> {
        let first = self.past.rows.start;
        first + self.tokens.start..first + self.tokens.end
    }
}

/// The queries of a unit, as in [`Working`].
struct Asked<'a> {
    queries: &'a [f32],
    codes: &'a [i8],
    scales: &'a [ActScale],
}

/// What a part does of a unit.
struct Run<'a> {
    unit: Unit<'a>,
    chunks: Range<usize>,
    /// Number of the cut in it, if these are not all chunks.
    cut: Option<usize>,
}

/// An [`Attention`] whose caches and output are shared by the parts of a stage.
struct Stage<'a> {
    kernels: &'static Kernels,
    queries: &'a [f32],
    new_keys: &'a [f32],
    new_values: &'a [f32],
    rotation: Rotation<'a>,
    sequences: &'a [Past<'a>],
    out: Shared<'a, f32>,
    partials: Shared<'a, f32>,
    stride: usize,
    done: &'a [AtomicUsize],
    kv: KvShape,
    heads: usize,
    scale: f32,
    window: usize,
    slopes: &'a [f32],
}

impl Executor {
    /// Rotates queries and keys, writes keys and values to the caches and attends to them.
    ///
    /// # Panics
    /// If shapes do not fit each other, or exceed the executor's limits.
    pub fn attend(&mut self, attention: &mut Attention<'_, '_>) {
        self.cuts.done.iter_mut().for_each(|done| *done.get_mut() = 0);
        let stage = Stage::new(self.kernels, attention, &mut self.cuts);
        let blocks: usize =
            stage.written_first().map(|past| stage.kv.heads * past.aligned_runs(VIRTUAL)).sum();
        if blocks > 0 {
            self.pool.run_with(&mut self.scratch, &|part, scratch| {
                for unit in stage.blocks(part.share(blocks)) {
                    // SAFETY: each block of 16 positions of a head belongs to one part.
                    unsafe { stage.write(&unit, &mut scratch.attention) };
                }
            });
        }
        self.pool.run_with(&mut self.scratch, &|part, scratch| {
            for run in stage.runs(part) {
                let working = &mut scratch.attention;
                // SAFETY: each chunk of a unit belongs to one part, and so does each unit's last chunk.
                // Otherwise nothing is written to the caches now.
                unsafe {
                    if stage.is_one_unit(run.unit.past) && run.chunks.end == stage.chunks(&run.unit) {
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
    fn new(kernels: &'static Kernels, attention: &'a mut Attention<'_, '_>, cuts: &'a mut Cuts) -> Self {
        let (kv, heads) = (attention.kv, attention.heads);
        let tokens = attention.queries.len() / (heads * kv.dim);
        assert_eq!(attention.queries.len(), tokens * heads * kv.dim, "queries");
        assert_eq!(attention.out.len(), attention.queries.len(), "output");
        assert_eq!(attention.new_keys.len(), tokens * kv.heads * kv.dim, "new keys");
        assert_eq!(attention.new_values.len(), attention.new_keys.len(), "new values");
        let mut next = 0;
        for past in attention.sequences {
            assert!(past.rows.start == next && past.tokens() > 0, "rows of sequences");
            assert_eq!((past.keys.len, past.values.len), (kv.len(), kv.len()), "cache");
            assert!(past.end() <= kv.positions, "cache bounds");
            next = past.rows.end;
        }
        assert!(tokens > 0 && next == tokens, "a sequence for each token");
        assert!(heads % kv.heads == 0 && heads / kv.heads <= MOST_QUERIES, "queries");
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
            sequences: attention.sequences,
            out: Shared::new(attention.out),
            partials: Shared::new(&mut cuts.partials),
            stride: cuts.stride,
            done: &cuts.done,
            kv,
            heads,
            scale: attention.scale,
            window: attention.window,
            slopes: attention.slopes,
        }
    }

    /// Query heads per KV head.
    fn group(&self) -> usize {
        self.heads / self.kv.heads
    }

    /// Whether the new tokens of a sequence are one unit per KV head. They are all in its last chunk: whoever
    /// attends to that writes them.
    fn is_one_unit(&self, past: &Past<'_>) -> bool {
        past.aligned_runs(tile_tokens(self.group())) == 1
    }

    /// The sequences whose keys and values must be written before any thread attends to them.
    fn written_first(&self) -> impl Iterator<Item = &'a Past<'a>> {
        self.sequences.iter().filter(|past| !self.is_one_unit(past))
    }

    /// Some of the blocks of 16 positions that those sequences write, over all KV heads.
    fn blocks(&self, range: Range<usize>) -> impl Iterator<Item = Unit<'a>> {
        let mut before = 0;
        self.written_first().flat_map(move |past| {
            let blocks = past.aligned_runs(VIRTUAL);
            let (start, all) = (before, self.kv.heads * blocks);
            before += all;
            let ours = |at: usize| at.saturating_sub(start).min(all);
            (ours(range.start)..ours(range.end)).map(move |item| Unit {
                past,
                head: item / blocks,
                tokens: past.aligned(VIRTUAL, item % blocks),
            })
        })
    }

    fn units(&self) -> impl Iterator<Item = Unit<'a>> {
        let tile = tile_tokens(self.group());
        self.sequences.iter().flat_map(move |past| {
            let tiles = past.aligned_runs(tile);
            (0..self.kv.heads * tiles).map(move |i| Unit {
                past,
                head: i / tiles,
                tokens: past.aligned(tile, i % tiles),
            })
        })
    }

    /// The first chunk that a unit attends to. It is that of all tokens of the unit's run of positions, so that
    /// it does not depend on which of them are here.
    fn first_chunk(&self, unit: &Unit<'_>) -> usize {
        let tile = tile_tokens(self.group());
        let first = (unit.past.position + unit.tokens.start) / tile * tile;
        (first + 1).saturating_sub(self.window) / CHUNK
    }

    /// Chunks that a unit attends to.
    fn chunks(&self, unit: &Unit<'_>) -> usize {
        (unit.past.position + unit.tokens.end).div_ceil(CHUNK) - self.first_chunk(unit)
    }

    /// Costs of a chunk and of a unit, in proportion to the time they take.
    fn costs(&self, unit: &Unit<'_>) -> (usize, usize) {
        let start = self.first_chunk(unit) * CHUNK;
        let blocks = (unit.past.position + unit.tokens.end - start).div_ceil(VIRTUAL);
        (CHUNK / VIRTUAL * unit.tokens.len(), blocks * unit.tokens.len())
    }

    /// The chunks of units that belong to a part: those that start in its share of the costs.
    fn runs(&self, part: Part) -> impl Iterator<Item = Run<'a>> {
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
    fn prepare(&self, unit: &Unit<'_>, working: &mut Working) -> usize {
        let (group, dim, row) = (self.group(), self.kv.dim, self.kv.row());
        for (i, token) in unit.rows().enumerate() {
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
    unsafe fn run(&self, run: &Run<'_>, working: &mut Working) {
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
        (unit, chunk): (&Unit<'_>, usize),
        asked: &Asked<'_>,
        weights: &mut [f32],
        out: &mut Partial<'_>,
    ) {
        let chunk = self.first_chunk(unit) + chunk;
        let past = unit.past;
        let (start, end) = (chunk * CHUNK, past.position + unit.tokens.end);
        let positions = start..end.next_multiple_of(VIRTUAL).min(start + CHUNK);
        let codes = self.of_head(unit.head, self.kv.codes_at(&positions));
        let scales = self.of_head(unit.head, self.kv.scales_at(chunk));
        // A single token is followed by the next head, others by the next tokens.
        let next = if end > start + CHUNK {
            codes.end
        } else {
            (unit.head + usize::from(past.tokens() == 1)) * self.kv.head_len()
        };
        let mut job = ChunkJob {
            kv: self.kv,
            group: self.group(),
            queries: asked.queries,
            codes: asked.codes,
            scales: asked.scales,
            // SAFETY: only reads of this chunk, by contract.
            keys: unsafe { past.keys.stored(&codes, &scales) },
            // SAFETY: as above.
            values: unsafe { past.values.stored(&codes, &scales) },
            visible: past.position + unit.tokens.start + 1 - start,
            window: self.window,
            slopes: self.slopes.get(unit.head * self.group()..(unit.head + 1) * self.group()).unwrap_or(&[]),
            weights,
            next: [&past.keys, &past.values].map(|cache| cache.start().wrapping_add(next).cast_const()),
        };
        // SAFETY: the kernels are available, and all slices are as long as the job wants them.
        unsafe { (self.kernels.attend)(&mut job, out) };
    }

    /// Writes the output of a unit.
    ///
    /// # Safety
    /// No other thread uses it.
    unsafe fn finish(&self, unit: &Unit<'_>, state: &Partial<'_>) {
        let (group, dim, row) = (self.group(), self.kv.dim, self.kv.row());
        for (query, mixed) in state.mixed.chunks_exact(row).enumerate() {
            let token = unit.rows().start + query / group;
            let to = (token * self.heads + unit.head * group + query % group) * dim;
            let scale = 1.0 / state.sum[query];
            // SAFETY: the caller's contract.
            let out = unsafe { self.out.part(to..to + dim) };
            out.iter_mut().zip(mixed).for_each(|(out, mixed)| *out = mixed * scale);
        }
    }
}
