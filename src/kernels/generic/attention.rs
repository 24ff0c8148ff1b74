//! Attention of queries to one chunk of the cache, and merging of chunks.
//!
//! Scores and sums keep up to [`QUERIES`] queries times [`Simd::VECTORS`] vectors of results in registers, so
//! that a key or value is loaded and converted once for all of them. How results are grouped changes none
//! of them. The cache is read once per token and from memory, so a pass over a chunk asks for what the next
//! one reads: of halves, scores for the values and sums for the next keys; of bytes, whose scores take
//! little time, sums for both.

use super::vector;
use crate::kernels::acts::{ActScale, tiles};
use crate::kernels::kv::{CHUNK, KvShape, KvType, Partial, Stored};
use crate::kernels::layout::BLOCK;
use crate::kernels::scalar::VIRTUAL;
use crate::kernels::simd::Simd;
use std::ops::Range;

/// Queries that share one pass over the keys or values.
const QUERIES: usize = 6;
/// Most queries of a [`ChunkJob`].
pub(crate) const MOST_QUERIES: usize = 64;

/// Queries of one KV head, at consecutive tokens, against one chunk of its positions.
pub(crate) struct ChunkJob<'a> {
    /// The cache.
    pub(crate) kv: KvShape,
    /// Queries per token.
    pub(crate) group: usize,
    /// `[token][query of the group][row]`, already multiplied with the scale of the scores; not of Q8_0.
    pub(crate) queries: &'a [f32],
    /// The same rounded to 8 bits; only of Q8_0.
    pub(crate) codes: &'a [i8],
    /// `[token][query of the group][row / 32]`
    pub(crate) scales: &'a [ActScale],
    /// Keys of the chunk.
    pub(crate) keys: Stored<'a>,
    /// Values of the chunk.
    pub(crate) values: Stored<'a>,
    /// Positions from the chunk's first to the first token; each further token is one further.
    pub(crate) visible: usize,
    /// Positions that a token sees, itself the last.
    pub(crate) window: usize,
    /// What a score loses per position of distance, `[query of the group]`; or empty.
    pub(crate) slopes: &'a [f32],
    /// `[2][query][CHUNK]`, scratch.
    pub(crate) weights: &'a mut [f32],
    /// Keys and values that will be read after this chunk, for prefetching only.
    pub(crate) next: [*const u16; 2],
}

impl ChunkJob<'_> {
    /// Queries.
    pub(crate) fn count(&self) -> usize {
        match self.kv.kind {
            KvType::F16 | KvType::F32 => self.queries.len() / self.kv.row(),
            KvType::Q8_0 => self.codes.len() / self.kv.row(),
        }
    }

    /// The end of the positions of the chunk that a query sees.
    pub(crate) fn seen(&self, query: usize) -> usize {
        (self.visible + query / self.group).min(CHUNK)
    }

    /// The positions of the chunk that a query sees.
    pub(crate) fn range(&self, query: usize) -> Range<usize> {
        let end = self.seen(query);
        (self.visible + query / self.group).saturating_sub(self.window).min(end)..end
    }

    /// Positions from one of the chunk to a query's token.
    #[inline(always)]
    pub(crate) fn distance(&self, query: usize, position: usize) -> f32 {
        (self.visible + query / self.group - 1 - position) as f32
    }

    /// Positions of the chunk, a multiple of 16.
    pub(crate) fn positions(&self) -> usize {
        self.keys.codes.len() / self.kv.code_halves()
    }
}

/// Calls `$kernel::<types, queries>` with the count as a constant.
macro_rules! by_queries {
    ($queries:expr, $kernel:ident[$($type:tt),*]$arguments:tt) => {
        match $queries {
            6 => by_queries!(@ $kernel[$($type,)* 6]$arguments),
            5 => by_queries!(@ $kernel[$($type,)* 5]$arguments),
            4 => by_queries!(@ $kernel[$($type,)* 4]$arguments),
            3 => by_queries!(@ $kernel[$($type,)* 3]$arguments),
            2 => by_queries!(@ $kernel[$($type,)* 2]$arguments),
            _ => by_queries!(@ $kernel[$($type,)* 1]$arguments),
        }
    };
    (@ $kernel:ident[$($parameter:tt),*]($($argument:expr),*)) => {
        $kernel::<$($parameter),*>($($argument),*)
    };
}

/// Calls `$kernel::<set, element, vectors, queries>` with both counts as constants.
macro_rules! by_counts {
    ($queries:expr, $vectors:expr, $kernel:ident[$set:tt, $element:tt]$arguments:tt) => {
        match $vectors {
            4 if $set::VECTORS == 4 => by_queries!($queries, $kernel[$set, $element, 4]$arguments),
            2 => by_queries!($queries, $kernel[$set, $element, 2]$arguments),
            _ => by_queries!($queries, $kernel[$set, $element, 1]$arguments),
        }
    };
}

/// Values of the cache as they are stored.
trait Element<S: Simd> {
    type Stored: Copy;

    unsafe fn load(p: *const Self::Stored) -> S::F;
}

struct Half;
struct Byte;
struct Single;

impl<S: Simd> Element<S> for Single {
    type Stored = f32;

    #[inline(always)]
    unsafe fn load(p: *const f32) -> S::F {
        // SAFETY: the caller's contract.
        unsafe { S::load(p) }
    }
}

impl<S: Simd> Element<S> for Half {
    type Stored = u16;

    #[inline(always)]
    unsafe fn load(p: *const u16) -> S::F {
        // SAFETY: the caller's contract.
        unsafe { S::from_f16(p) }
    }
}

impl<S: Simd> Element<S> for Byte {
    type Stored = i8;

    #[inline(always)]
    unsafe fn load(p: *const i8) -> S::F {
        // SAFETY: the caller's contract.
        unsafe { S::from_i8(p) }
    }
}

/// Asks for `bytes` bytes from `p` on, at least one line; reads nothing.
#[inline(always)]
fn prefetch(p: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(64) {
        let line = p.wrapping_add(offset);
        // SAFETY: a prefetch of any address is harmless.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(line.cast());
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{line}]", line = in(reg) line, options(nostack, readonly, preserves_flags));
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = line;
    }
}

/// [`crate::kernels::scalar::attend`].
///
/// # Safety
/// As for [`Simd`]; the slices of the job are as long as it says, and `out` has room for its queries.
#[inline(always)]
pub(crate) unsafe fn attend<S: Simd>(job: &mut ChunkJob<'_>, out: &mut Partial<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        match job.kv.kind {
            KvType::F16 => scores_of_floats::<S, Half>(job),
            KvType::F32 => scores_of_floats::<S, Single>(job),
            KvType::Q8_0 => scores_of_bytes::<S>(job),
        }
        let count = job.count();
        for query in 0..count {
            let seen = job.range(query);
            if let Some(slope) = job.slopes.get(query % job.group) {
                for position in seen.clone() {
                    let distance = job.distance(query, position);
                    let score = &mut job.weights[query * CHUNK + position];
                    *score = distance.mul_add(-slope, *score);
                }
            }
            let (hidden, weights) = job.weights[query * CHUNK..][..seen.end].split_at_mut(seen.start);
            hidden.fill(0.0);
            (out.max[query], out.sum[query]) = match weights {
                [] => (f32::MIN, 0.0),
                weights => vector::softmax::<S>(weights),
            };
        }
        out.mixed.fill(0.0);
        // What the first token sees, all do; each further token sees some more.
        let Range { start, end: shared } = job.range(0);
        for first in (0..count).step_by(job.group) {
            let (queries, positions) = match first {
                0 => (0..count, start..shared),
                _ => (first..first + job.group, shared..job.seen(first)),
            };
            if !positions.is_empty() {
                weigh_all::<S>(job, queries, positions, out.mixed);
            }
        }
    }
}

#[inline(always)]
unsafe fn scores_of_floats<S: Simd, E: Element<S>>(job: &mut ChunkJob<'_>) {
    let row = job.kv.row();
    let vectors = job.positions() / S::LANES;
    let (keys, ahead) = (job.keys.codes.as_ptr().cast::<E::Stored>(), job.values.codes.as_ptr());
    let ahead = ahead.cast::<E::Stored>();
    let runs = job.queries.chunks(row * QUERIES).zip(job.weights.chunks_mut(CHUNK * QUERIES));
    for (queries, out) in runs {
        for run in tiles(vectors, S::VECTORS) {
            let ahead = ahead.wrapping_add(run.start * S::LANES * row);
            // SAFETY: the caller's contract; the counts are the constants chosen.
            unsafe {
                let out = out.as_mut_ptr().add(run.start * S::LANES);
                let keys = (keys, run.start);
                by_counts!(
                    queries.len() / row,
                    run.width,
                    score[S, E](queries, keys, (job.kv.dim, row), out, ahead)
                );
            }
        }
    }
}

/// Scores of `Q` queries against `V` vectors of positions from vector `first` on.
#[inline(always)]
unsafe fn score<S: Simd, E: Element<S>, const V: usize, const Q: usize>(
    queries: &[f32],
    (keys, first): (*const E::Stored, usize),
    (dim, row): (usize, usize),
    out: *mut f32,
    ahead: *const E::Stored,
) {
    let per_block = VIRTUAL / S::LANES;
    // SAFETY: the caller's contract: `Q` queries, `V` vectors of keys per dimension, `Q` output rows.
    unsafe {
        let mut starts = [keys; V];
        for (v, start) in starts.iter_mut().enumerate() {
            let vector = first + v;
            *start = start.add(vector / per_block * VIRTUAL * row + vector % per_block * S::LANES);
        }
        let mut acc = [[S::splat(0.0); V]; Q];
        for d in 0..dim {
            prefetch(ahead.wrapping_add(d * V * S::LANES).cast(), V * S::LANES * size_of::<E::Stored>());
            let mut key = [S::splat(0.0); V];
            for v in 0..V {
                key[v] = E::load(starts[v].add(d * VIRTUAL));
            }
            for q in 0..Q {
                let query = S::splat(*queries.as_ptr().add(q * row + d));
                for v in 0..V {
                    acc[q][v] = S::fma(key[v], query, acc[q][v]);
                }
            }
        }
        for q in 0..Q {
            for v in 0..V {
                S::store(out.add(q * CHUNK + v * S::LANES), acc[q][v]);
            }
        }
    }
}

#[inline(always)]
unsafe fn scores_of_bytes<S: Simd>(job: &mut ChunkJob<'_>) {
    let (row, blocks, positions) = (job.kv.row(), job.kv.scales(), job.positions());
    let keys = job.keys.codes.as_ptr().cast::<u8>();
    let scales = job.keys.scales.as_ptr();
    let queries = job.codes.chunks(row * QUERIES).zip(job.scales.chunks(blocks * QUERIES));
    for (queries, out) in queries.zip(job.weights.chunks_mut(CHUNK * QUERIES)) {
        for position in (0..positions).step_by(S::LANES) {
            // SAFETY: the caller's contract; the count is the constant chosen.
            unsafe {
                let block = position / VIRTUAL * VIRTUAL * row + position % VIRTUAL * 4;
                let keys = (keys.add(block), scales.add(position));
                let out = out.as_mut_ptr().add(position);
                by_queries!(queries.1.len() / blocks, score_bytes[S](queries, keys, blocks, out));
            }
        }
    }
}

/// Scores of `Q` queries against the codes and scales of a vector of positions.
#[inline(always)]
unsafe fn score_bytes<S: Simd, const Q: usize>(
    queries: (&[i8], &[ActScale]),
    (keys, scales): (*const u8, *const u16),
    blocks: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's contract: `Q` queries and output rows, `blocks` blocks of 32 dimensions each.
    unsafe {
        let mut acc = [S::nothing(); Q];
        for b in 0..blocks {
            let dwords = keys.add(b * BLOCK * VIRTUAL);
            let codes = each!(i in [0, 1, 2, 3, 4, 5, 6, 7] => S::bytes(dwords.add(i * 4 * VIRTUAL)));
            let scale = S::from_f16(scales.add(b * CHUNK));
            for q in 0..Q {
                let query = &*queries.1.as_ptr().add(q * blocks + b);
                let acts = queries.0.as_ptr().add((q * blocks + b) * BLOCK);
                let sum = S::dot_bytes::<8>(&codes, acts, -S::BYTE_OFFSET * query.sum);
                acc[q] = S::add_scaled(acc[q], sum, S::mul(scale, S::splat(query.d)));
            }
        }
        for q in 0..Q {
            S::store(out.add(q * CHUNK), S::total(acc[q]));
        }
    }
}

/// Adds the weighted values at `positions` of the chunk to the rows of `queries` in `out`.
///
/// # Safety
/// As for [`attend`].
#[inline(always)]
unsafe fn weigh_all<S: Simd>(
    job: &mut ChunkJob<'_>,
    queries: Range<usize>,
    positions: Range<usize>,
    out: &mut [f32],
) {
    let row = job.kv.row();
    let out = &mut out[queries.start * row..queries.end * row];
    let codes = job.values.codes;
    // The rest of a chunk that some queries do not see is in the cache by now.
    let next = if positions.start == 0 { job.next } else { [codes.as_ptr(); 2] };
    // SAFETY: the caller's contract.
    unsafe {
        match job.kv.kind {
            KvType::F16 | KvType::F32 => {
                let weights = &job.weights[queries.start * CHUNK..queries.end * CHUNK];
                let dims = (0..row, row);
                if job.kv.kind == KvType::F16 {
                    weigh_dims::<S, Half>((codes.as_ptr(), next[0]), weights, dims, positions, out);
                } else {
                    let values = (codes.as_ptr().cast(), next[0].cast());
                    weigh_dims::<S, Single>(values, weights, dims, positions, out);
                }
            }
            KvType::Q8_0 => {
                let (weights, scaled) = job.weights.split_at_mut(job.weights.len() / 2);
                let weights = &weights[queries.start * CHUNK..queries.end * CHUNK];
                let scaled = &mut scaled[queries.start * CHUNK..queries.end * CHUNK];
                for b in 0..job.kv.scales() {
                    let scales = &job.values.scales[b * CHUNK..][..CHUNK];
                    scale_weights::<S>(weights, scales, &positions, scaled);
                    // Two blocks are a line: one pass over them asks for keys, one for values.
                    let values = (codes.as_ptr().cast(), next[b % 2].cast());
                    let dims = b * BLOCK..(b + 1) * BLOCK;
                    weigh_dims::<S, Byte>(values, scaled, (dims, row), positions.clone(), out);
                }
            }
        }
    }
}

/// Weights times the scales of values: `[query][CHUNK]`, at `positions` and their neighbours in a vector.
#[inline(always)]
unsafe fn scale_weights<S: Simd>(weights: &[f32], scales: &[u16], positions: &Range<usize>, out: &mut [f32]) {
    let rows = weights.chunks_exact(CHUNK).zip(out.chunks_exact_mut(CHUNK));
    let vectors = positions.start / S::LANES * S::LANES..positions.end;
    for (weights, out) in rows {
        for p in vectors.clone().step_by(S::LANES) {
            // SAFETY: the caller's contract: whole vectors of weights and scales.
            unsafe {
                let scale = S::from_f16(scales.as_ptr().add(p));
                S::store(out.as_mut_ptr().add(p), S::mul(S::load(weights.as_ptr().add(p)), scale));
            }
        }
    }
}

/// Adds the weighted values of some dimensions; `values` are those of the chunk and what to prefetch.
#[inline(always)]
unsafe fn weigh_dims<S: Simd, E: Element<S>>(
    values: (*const E::Stored, *const E::Stored),
    weights: &[f32],
    (dims, row): (Range<usize>, usize),
    positions: Range<usize>,
    out: &mut [f32],
) {
    for (weights, out) in weights.chunks(CHUNK * QUERIES).zip(out.chunks_mut(row * QUERIES)) {
        for run in tiles(dims.len() / S::LANES, S::VECTORS) {
            let first = dims.start + run.start * S::LANES;
            // SAFETY: the caller's contract; the counts are the constants chosen.
            unsafe {
                let weights = weights.as_ptr().add(positions.start);
                let at = (values.0.add(positions.start * row + first), positions.len());
                let ahead = values.1.wrapping_add(first);
                let (count, out) = (out.len() / row, out.as_mut_ptr().add(first));
                by_counts!(count, run.width, weigh[S, E](weights, at, row, out, ahead));
            }
        }
    }
}

/// Adds the weighted values of `V` vectors of dimensions to `Q` outputs.
#[inline(always)]
unsafe fn weigh<S: Simd, E: Element<S>, const V: usize, const Q: usize>(
    weights: *const f32,
    (values, positions): (*const E::Stored, usize),
    row: usize,
    out: *mut f32,
    ahead: *const E::Stored,
) {
    // SAFETY: the caller's contract: `Q` rows of weights and outputs, whole rows of values.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; Q];
        for q in 0..Q {
            for v in 0..V {
                acc[q][v] = S::load(out.add(q * row + v * S::LANES));
            }
        }
        for p in 0..positions {
            prefetch(ahead.wrapping_add(p * row).cast(), V * S::LANES * size_of::<E::Stored>());
            let mut value = [S::splat(0.0); V];
            for v in 0..V {
                value[v] = E::load(values.add(p * row + v * S::LANES));
            }
            for q in 0..Q {
                let weight = S::splat(*weights.add(q * CHUNK + p));
                for v in 0..V {
                    acc[q][v] = S::fma(value[v], weight, acc[q][v]);
                }
            }
        }
        for q in 0..Q {
            for v in 0..V {
                S::store(out.add(q * row + v * S::LANES), acc[q][v]);
            }
        }
    }
}

/// [`crate::kernels::scalar::merge`].
///
/// # Safety
/// As for [`Simd`]; both hold as many queries, at most [`MOST_QUERIES`], and rows of whole vectors.
#[inline(always)]
pub(crate) unsafe fn merge<S: Simd>(state: &mut Partial<'_>, next: &Partial<'_>, row: usize) {
    let (mut old, mut new) = ([0.0f32; MOST_QUERIES], [0.0f32; MOST_QUERIES]);
    // SAFETY: the caller's contract; `max` and `sum` have room for whole vectors.
    unsafe {
        for at in (0..state.max.len()).step_by(S::LANES) {
            let (max, sum) = (state.max.as_mut_ptr().add(at), state.sum.as_mut_ptr().add(at));
            let (ours, theirs) = (S::load(max), S::load(next.max.as_ptr().add(at)));
            let larger = S::max(theirs, ours);
            let a = vector::exp::<S>(S::sub(ours, larger));
            let b = vector::exp::<S>(S::sub(theirs, larger));
            S::store(max, larger);
            S::store(sum, S::fma(S::load(sum), a, S::mul(S::load(next.sum.as_ptr().add(at)), b)));
            S::store(old.as_mut_ptr().add(at), a);
            S::store(new.as_mut_ptr().add(at), b);
        }
        let rows = state.mixed.chunks_exact_mut(row).zip(next.mixed.chunks_exact(row));
        for ((state, next), (a, b)) in rows.zip(old.iter().zip(&new)) {
            for at in (0..row).step_by(S::LANES) {
                let out = state.as_mut_ptr().add(at);
                let added = S::mul(S::load(next.as_ptr().add(at)), S::splat(*b));
                S::store(out, S::fma(S::load(out), S::splat(*a), added));
            }
        }
    }
}
