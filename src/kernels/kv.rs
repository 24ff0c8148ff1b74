//! Layout of the cache of keys and values.
//!
//! Each KV head of a layer has a run of the key cache and one, equally long, of the value cache. Keys keep 16
//! positions side by side, so that their scores are a vector:
//!
//! ```text
//! F16    keys    [position / 16][dim][16]          f16
//!        values  [position][dim]                   f16
//! F32    the same                                  f32
//! Q8_0   keys    [position / 16][dim / 4][16][4]   i8, then scales [chunk][dim / 32][128] f16
//!        values  [position][dim]                   i8, then scales [chunk][dim / 32][128] f16
//! ```
//!
//! Positions and `dim` are rounded up: to whole vectors of 16, `dim` in `Q8_0` to blocks of 32. Key codes are
//! stored as the instruction set stores 8-bit weights (see `Packing`).
//!
//! Attention walks the positions in chunks of [`CHUNK`], counted from position 0, each with a softmax of its
//! own (a [`Partial`]), and merges those in order. So a chunk is the same work and gives the same bits
//! whoever computes it.

use super::layout::BLOCK;
use super::scalar::VIRTUAL;
use std::fmt;
use std::ops::Range;

/// Positions of a chunk.
pub(crate) const CHUNK: usize = 128;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// Half precision.
    #[default]
    F16,
    /// 8-bit codes with a scale per 32 values. Queries are rounded alike.
    Q8_0,
    /// Single precision: nothing is rounded, to compare with other programs.
    F32,
}

impl KvType {
    /// All of them.
    pub const ALL: [KvType; 3] = [KvType::F16, KvType::Q8_0, KvType::F32];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
            KvType::F32 => "f32",
        }
    }

    /// Bytes of a key or a value of `dim` values.
    pub fn position_bytes(self, dim: usize) -> usize {
        match self {
            KvType::F16 => 2 * dim,
            KvType::Q8_0 => dim + 2 * dim.div_ceil(BLOCK),
            KvType::F32 => 4 * dim,
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Shape of the KV cache of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvShape {
    /// How it is stored.
    pub(crate) kind: KvType,
    /// KV heads.
    pub(crate) heads: usize,
    /// Values per head.
    pub(crate) dim: usize,
    /// Positions.
    pub(crate) positions: usize,
}

impl KvShape {
    /// Halves (two bytes) of the key cache, and of the value cache.
    pub(crate) fn len(&self) -> usize {
        self.heads * self.head_len()
    }

    /// Positions, rounded up to whole vectors.
    fn padded_positions(&self) -> usize {
        self.positions.next_multiple_of(VIRTUAL)
    }

    /// Values per head, rounded up.
    pub(crate) fn row(&self) -> usize {
        self.dim.next_multiple_of(match self.kind {
            KvType::F16 | KvType::F32 => VIRTUAL,
            KvType::Q8_0 => BLOCK,
        })
    }

    /// Scales per head and position.
    pub(crate) fn scales(&self) -> usize {
        match self.kind {
            KvType::F16 | KvType::F32 => 0,
            KvType::Q8_0 => self.row() / BLOCK,
        }
    }

    /// Halves of a head's codes per position.
    pub(crate) fn code_halves(&self) -> usize {
        match self.kind {
            KvType::F16 => self.row(),
            KvType::Q8_0 => self.row() / 2,
            KvType::F32 => 2 * self.row(),
        }
    }

    /// Halves of a head's codes at all positions; scales lie behind them.
    fn head_codes(&self) -> usize {
        self.padded_positions() * self.code_halves()
    }

    /// Halves of a head.
    pub(crate) fn head_len(&self) -> usize {
        self.head_codes() + self.chunks() * CHUNK * self.scales()
    }

    /// Where the codes at some positions are in the run of a head; both are multiples of 16.
    pub(crate) fn codes_at(&self, positions: &Range<usize>) -> Range<usize> {
        positions.start * self.code_halves()..positions.end * self.code_halves()
    }

    /// Where the scales of a chunk are in the run of a head.
    pub(crate) fn scales_at(&self, chunk: usize) -> Range<usize> {
        let len = CHUNK * self.scales();
        let start = self.head_codes() + chunk * len;
        start..start + len
    }

    /// Where a head's codes and scales at the first `positions` positions are in a layer's cache. Other positions
    /// may lie there too; what is stored for these does not depend on how many positions the cache has.
    pub(crate) fn filled(&self, head: usize, positions: usize) -> [Range<usize>; 2] {
        let start = head * self.head_len();
        let codes = positions.next_multiple_of(VIRTUAL) * self.code_halves();
        let scales = positions.div_ceil(CHUNK) * CHUNK * self.scales();
        let scales_start = start + self.head_codes();
        [start..start + codes, scales_start..scales_start + scales]
    }

    /// Chunks of a full cache.
    pub(crate) fn chunks(&self) -> usize {
        self.positions.div_ceil(CHUNK)
    }
}

/// A chunk of the keys, or of the values, of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    /// Codes at whole blocks of 16 positions.
    pub(crate) codes: &'a [u16],
    /// `[dim / 32][CHUNK]`, or nothing.
    pub(crate) scales: &'a [u16],
}

/// Attention of some queries to one chunk, or to all chunks up to one.
#[derive(Debug)]
pub(crate) struct Partial<'a> {
    /// Largest score, `[query]`, with room for whole vectors.
    pub(crate) max: &'a mut [f32],
    /// Sum of `exp(score - max)`, `[query]`, with room for whole vectors.
    pub(crate) sum: &'a mut [f32],
    /// Sum of `exp(score - max) * value`, `[query][row]`.
    pub(crate) mixed: &'a mut [f32],
}

impl<'a> Partial<'a> {
    /// Values that [`Self::new`] wants.
    pub(crate) fn len(queries: usize, row: usize) -> usize {
        2 * queries.next_multiple_of(VIRTUAL) + queries * row
    }

    /// Cuts a buffer up.
    pub(crate) fn new(buffer: &'a mut [f32], queries: usize, row: usize) -> Self {
        let padded = queries.next_multiple_of(VIRTUAL);
        let (max, rest) = buffer.split_at_mut(padded);
        let (sum, rest) = rest.split_at_mut(padded);
        Self { max, sum, mixed: &mut rest[..queries * row] }
    }
}
