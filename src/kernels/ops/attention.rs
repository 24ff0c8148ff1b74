//! Causal attention with grouped queries over a half-precision cache.
//!
//! The cache of a layer holds, for each KV head, keys as `[position / 16][dim][16]`, so that scores of 16
//! positions are one vector, and values as `[position][padded dim]`. The query heads that share a KV head
//! (Ainslie et al. 2023, arXiv 2305.13245) are computed in one pass over it, several tokens of a prompt at a
//! time. Scores, softmax and the weighted sum run over the positions of a token in one fixed order, so a
//! result does not depend on which tokens are computed together.

use super::{Executor, Scratch, Shared};
use crate::kernels::Kernels;
use crate::kernels::scalar::VIRTUAL;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::ops::Range;

/// Shape of the KV cache of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// KV heads.
    pub heads: usize,
    /// Values per head.
    pub dim: usize,
    /// Positions.
    pub positions: usize,
}

impl KvShape {
    /// Positions, rounded up to whole vectors.
    pub fn padded_positions(&self) -> usize {
        self.positions.next_multiple_of(VIRTUAL)
    }

    /// Values per head in the value cache, rounded up to whole vectors.
    pub fn padded_dim(&self) -> usize {
        self.dim.next_multiple_of(VIRTUAL)
    }

    /// Halves in the key cache of a head.
    fn head_keys(&self) -> usize {
        self.padded_positions() * self.dim
    }

    /// Halves in the value cache of a head.
    fn head_values(&self) -> usize {
        self.padded_positions() * self.padded_dim()
    }

    /// Halves in the key cache of a layer.
    pub fn keys(&self) -> usize {
        self.heads * self.head_keys()
    }

    /// Halves in the value cache of a layer.
    pub fn values(&self) -> usize {
        self.heads * self.head_values()
    }
}

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
        for (i, [cos, sin]) in table.iter().enumerate() {
            let (a, b) = if self.adjacent { (2 * i, 2 * i + 1) } else { (i, i + self.pairs) };
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = x * sin + y * cos;
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
    /// The layer's key cache, [`KvShape::keys`] halves.
    pub keys: &'a mut [u16],
    /// The layer's value cache, [`KvShape::values`] halves.
    pub values: &'a mut [u16],
    /// Shape of the cache.
    pub kv: KvShape,
    /// Query heads.
    pub heads: usize,
    /// Position of the first token.
    pub position: usize,
    /// What scores are multiplied with.
    pub scale: f32,
    /// `[token][head][dim]`
    pub out: &'a mut [f32],
}

/// Tokens that share a pass over the cache, for `group` query heads per KV head.
pub(super) fn tile_tokens(group: usize) -> usize {
    (12 / group).max(1)
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
    kv: KvShape,
    heads: usize,
    position: usize,
    tokens: usize,
    scale: f32,
}

impl Executor {
    /// Rotates queries and keys, writes keys and values to the cache and attends to it.
    ///
    /// # Panics
    /// If shapes do not fit each other, or exceed the executor's limits.
    pub fn attend(&mut self, attention: &mut Attention<'_>) {
        let stage = Stage::new(self.kernels, attention);
        let (heads, tokens) = (stage.kv.heads, stage.tokens);
        if tokens == 1 {
            self.pool.run_with(&mut self.scratch, &|part, scratch| {
                for head in part.share(heads) {
                    // SAFETY: each KV head, and so its queries' output, belongs to one part.
                    unsafe {
                        stage.write(head, scratch);
                        stage.mix(head, 0..1, scratch);
                    }
                }
            });
            return;
        }
        self.pool.run_with(&mut self.scratch, &|part, scratch| {
            for head in part.share(heads) {
                // SAFETY: each KV head belongs to one part.
                unsafe { stage.write(head, scratch) };
            }
        });
        let tile = tile_tokens(stage.group());
        let tiles = tokens.div_ceil(tile);
        self.pool.run_with(&mut self.scratch, &|part, scratch| {
            for item in part.share(heads * tiles) {
                let first = item % tiles * tile;
                // SAFETY: nothing is written to the cache now, and each (head, token) belongs to one part.
                unsafe { stage.mix(item / tiles, first..tokens.min(first + tile), scratch) };
            }
        });
    }
}

impl<'a> Stage<'a> {
    fn new(kernels: &'static Kernels, attention: &'a mut Attention<'_>) -> Self {
        let (kv, heads) = (attention.kv, attention.heads);
        let tokens = attention.queries.len() / (heads * kv.dim);
        assert_eq!(attention.queries.len(), tokens * heads * kv.dim, "queries");
        assert_eq!(attention.out.len(), attention.queries.len(), "output");
        assert_eq!(attention.new_keys.len(), tokens * kv.heads * kv.dim, "new keys");
        assert_eq!(attention.new_values.len(), attention.new_keys.len(), "new values");
        assert_eq!((attention.keys.len(), attention.values.len()), (kv.keys(), kv.values()), "cache");
        assert!(heads % kv.heads == 0 && attention.position + tokens <= kv.positions, "cache bounds");
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
            kv,
            heads,
            position: attention.position,
            tokens,
            scale: attention.scale,
        }
    }

    /// Query heads per KV head.
    fn group(&self) -> usize {
        self.heads / self.kv.heads
    }

    /// Writes the new keys and values of a KV head.
    ///
    /// # Safety
    /// No other thread uses this head's cache.
    unsafe fn write(&self, head: usize, scratch: &mut Scratch) {
        let KvShape { heads, dim, .. } = self.kv;
        // SAFETY: the head is ours by contract.
        let keys = unsafe { self.keys.part(head * self.kv.head_keys()..(head + 1) * self.kv.head_keys()) };
        let range = head * self.kv.head_values()..(head + 1) * self.kv.head_values();
        // SAFETY: as above.
        let values = unsafe { self.values.part(range) };
        for token in 0..self.tokens {
            let from = (token * heads + head) * dim;
            let position = self.position + token;
            let key = &mut scratch.queries[..dim];
            key.copy_from_slice(&self.new_keys[from..from + dim]);
            self.rotation.apply(token, key);
            let block = &mut keys[position / VIRTUAL * VIRTUAL * dim..][..VIRTUAL * dim];
            for (column, k) in block.chunks_exact_mut(VIRTUAL).zip(key.iter()) {
                column[position % VIRTUAL] = half::f16::from_f32(*k).to_bits();
            }
            let row = &mut values[position * self.kv.padded_dim()..][..dim];
            row.reinterpret_cast_mut::<half::f16>()
                .convert_from_f32_slice(&self.new_values[from..from + dim]);
        }
    }

    /// Attends from the query heads of a KV head at `tokens`, at most [`tile_tokens`].
    ///
    /// # Safety
    /// No thread writes this head's cache, and no other thread writes this head's output at `tokens`.
    unsafe fn mix(&self, head: usize, tokens: Range<usize>, scratch: &mut Scratch) {
        let (group, dim, padded) = (self.group(), self.kv.dim, self.kv.padded_dim());
        let stride = self.kv.padded_positions();
        let count = tokens.len() * group;
        let queries = &mut scratch.queries[..count * dim];
        for (i, token) in tokens.clone().enumerate() {
            let from = (token * self.heads + head * group) * dim;
            let rows = &mut queries[i * group * dim..][..group * dim];
            rows.copy_from_slice(&self.queries[from..from + group * dim]);
            rows.chunks_exact_mut(dim).for_each(|row| self.rotation.apply(token, row));
        }
        // Positions visible to the first and the last of the tokens.
        let first = self.position + tokens.start + 1;
        let last = self.position + tokens.end;
        let blocks = last.div_ceil(VIRTUAL) * VIRTUAL;
        let scores = &mut scratch.scores[..count * stride];
        let mixed = &mut scratch.mixed[..count * padded];
        mixed.fill(0.0);
        // SAFETY: only reads of this head's cache, by contract; lengths are as the kernels want them, and
        // the kernels are available.
        unsafe {
            let start = head * self.kv.head_keys();
            let keys = self.keys.read(start..start + blocks * dim);
            (self.kernels.scores)(queries, keys, dim, self.scale, scores, stride);
            let start = head * self.kv.head_values();
            let values = self.values.read(start..start + last * padded);
            let mut sums = [0.0; MOST_QUERIES];
            for (query, sum) in sums[..count].iter_mut().enumerate() {
                *sum = (self.kernels.softmax)(&mut scores[query * stride..][..first + query / group]);
            }
            (self.kernels.weighted)(scores, stride, &values[..first * padded], padded, mixed);
            for i in 1..tokens.len() {
                let tail = &values[first * padded..(first + i) * padded];
                let mixed = &mut mixed[i * group * padded..][..group * padded];
                (self.kernels.weighted)(&scores[i * group * stride + first..], stride, tail, padded, mixed);
            }
            for (query, sum) in sums[..count].iter().enumerate() {
                let token = tokens.start + query / group;
                let to = (token * self.heads + head * group + query % group) * dim;
                let scale = 1.0 / sum;
                for (out, value) in self.out.part(to..to + dim).iter_mut().zip(&mixed[query * padded..]) {
                    *out = value * scale;
                }
            }
        }
    }
}

/// Most queries of a tile; also the most query heads per KV head.
pub(crate) const MOST_QUERIES: usize = 64;
