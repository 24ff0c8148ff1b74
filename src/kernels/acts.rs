//! Activations as the matrix kernels read them.
//!
//! Quantized weights meet activations rounded to 8 bits with one scale per 32 columns; float weights meet
//! them in f32. Tokens are interleaved in tiles of 8, 4, 2 or 1 so that a kernel reads a tile with one
//! pointer:
//!
//! ```text
//! codes   [tile][block][token in tile][32]   i8
//! scales  [tile][block][token in tile]       ActScale
//! floats  [tile][column][token in tile]      f32
//! ```
//!
//! How tokens fall into tiles changes no result: a kernel computes every token by the same operations.

use super::layout::BLOCK;
use crate::runtime::{AllocError, Buffer, page_rounded};

/// Scale and sums of 32 quantized activations `x[k] = d * q[k]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct ActScale {
    /// Scale.
    pub(crate) d: f32,
    /// `d * sum`, what a weight minimum is multiplied with.
    pub(crate) ds: f32,
    /// Sum of the 32 codes.
    pub(crate) sum: i32,
    /// Sum of the first 16 codes.
    pub(crate) first: i32,
}

/// Which forms of the activations the matrices of a stage need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    /// 8-bit codes.
    pub(crate) codes: bool,
    /// f32 values.
    pub(crate) floats: bool,
}

/// A run of tokens that a kernel handles at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// First token.
    pub(crate) start: usize,
    /// Tokens, one of 8, 4, 2, 1.
    pub(crate) width: usize,
}

/// Cuts `tokens` into tiles of at most `widest` (a power of two) tokens.
pub(crate) fn tiles(tokens: usize, widest: usize) -> impl Iterator<Item = Tile> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let left = tokens - start;
        let width = if left == 0 { return None } else { widest.min(1 << left.ilog2()) };
        let tile = Tile { start, width };
        start += width;
        Some(tile)
    })
}

/// Room for the activations of one thread.
#[derive(Debug)]
pub(crate) struct Acts {
    codes: Buffer<i8>,
    scales: Buffer<ActScale>,
    floats: Buffer<f32>,
    row: Buffer<f32>,
    widest: usize,
    tokens: usize,
    blocks: usize,
}

impl Acts {
    /// Room for `tokens` rows of up to `cols` columns in the forms named; tiles are `widest` tokens wide.
    pub(crate) fn new(tokens: usize, cols: usize, forms: Forms, widest: usize) -> Result<Self, AllocError> {
        let blocks = cols.div_ceil(BLOCK);
        let len = |wanted: bool, per_block: usize| if wanted { tokens * blocks * per_block } else { 0 };
        Ok(Self {
            codes: Buffer::zeroed(len(forms.codes, BLOCK), "8-bit activations")?,
            scales: Buffer::zeroed(len(forms.codes, 1), "activation scales")?,
            floats: Buffer::zeroed(len(forms.floats, BLOCK), "activations")?,
            row: Buffer::zeroed(blocks * BLOCK, "an activation row")?,
            widest,
            tokens: 0,
            blocks: 0,
        })
    }

    /// Bytes that [`Self::new`] allocates for the same arguments.
    pub(crate) fn planned_bytes(tokens: usize, cols: usize, forms: Forms) -> usize {
        let elements = tokens * cols.div_ceil(BLOCK) * BLOCK;
        let codes = page_rounded(elements) + page_rounded(elements / BLOCK * size_of::<ActScale>());
        page_rounded(cols.div_ceil(BLOCK) * BLOCK * 4)
            + if forms.codes { codes } else { 0 }
            + if forms.floats { page_rounded(elements * 4) } else { 0 }
    }

    /// Fills the activations: `fill(token, row)` writes the `cols` values of a token, and `quantize` (the
    /// kernel of the chosen instruction set) rounds a row.
    pub(crate) fn fill(
        &mut self,
        tokens: usize,
        cols: usize,
        forms: Forms,
        quantize: &dyn Fn(&[f32], &mut QuantSink<'_>),
        fill: &dyn Fn(usize, &mut [f32]),
    ) {
        self.tokens = tokens;
        self.blocks = cols.div_ceil(BLOCK);
        for tile in tiles(tokens, self.widest) {
            for index in 0..tile.width {
                let row = &mut self.row[..self.blocks * BLOCK];
                fill(tile.start + index, &mut row[..cols]);
                row[cols..].fill(0.0);
                let at = tile.start * self.blocks;
                if forms.codes {
                    let end = at + tile.width * self.blocks;
                    let mut sink = QuantSink {
                        codes: &mut self.codes[at * BLOCK..end * BLOCK],
                        scales: &mut self.scales[at..end],
                        width: tile.width,
                        index,
                    };
                    quantize(row, &mut sink);
                }
                if forms.floats {
                    let floats = &mut self.floats[at * BLOCK..][..tile.width * self.blocks * BLOCK];
                    for (k, value) in row.iter().enumerate() {
                        floats[k * tile.width + index] = *value;
                    }
                }
            }
        }
    }

    /// Room for `width` values, not more than the columns of [`Self::new`]; it keeps nothing.
    pub(crate) fn row(&mut self, width: usize) -> &mut [f32] {
        &mut self.row[..width]
    }

    /// Tokens of the last [`Self::fill`].
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Blocks per token of the last [`Self::fill`].
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The tiles of the last [`Self::fill`].
    pub(crate) fn tiles(&self) -> impl Iterator<Item = Tile> + use<> {
        tiles(self.tokens, self.widest)
    }

    /// Whether every scale is zero or from `2^-96` to `2^60`, so that sums of products with weights of moderate scales
    /// do not overflow and, if they are below the normal range, are exact: multiples of the least subnormal number.
    pub(crate) fn is_moderate(&self) -> bool {
        const LEAST: u32 = (127 - 96) << 23;
        const MOST: u32 = (127 + 60) << 23;
        let is_moderate = |scale: &ActScale| {
            let bits = scale.d.to_bits();
            bits == 0 || bits.wrapping_sub(LEAST) <= MOST - LEAST
        };
        self.scales[..self.tokens * self.blocks].iter().fold(true, |all, scale| all & is_moderate(scale))
    }

    /// Codes and scales of a tile.
    pub(crate) fn quantized(&self, tile: Tile) -> (&[i8], &[ActScale]) {
        let (at, len) = (tile.start * self.blocks, tile.width * self.blocks);
        (&self.codes[at * BLOCK..][..len * BLOCK], &self.scales[at..][..len])
    }

    /// Values of a tile.
    pub(crate) fn floats(&self, tile: Tile) -> &[f32] {
        &self.floats[tile.start * self.blocks * BLOCK..][..tile.width * self.blocks * BLOCK]
    }
}

/// Where one token's quantized blocks go in its tile.
pub(crate) struct QuantSink<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [ActScale],
    width: usize,
    index: usize,
}

impl<'a> QuantSink<'a> {
    /// The blocks of one row, one behind the other.
    pub(crate) fn row(codes: &'a mut [i8], scales: &'a mut [ActScale]) -> Self {
        Self { codes, scales, width: 1, index: 0 }
    }

    /// Stores block `b`: `sums` are those of the two halves of the codes.
    pub(crate) fn put(&mut self, b: usize, d: f32, sums: [i32; 2]) {
        let sum = sums[0] + sums[1];
        self.scales[b * self.width + self.index] = ActScale { d, ds: d * sum as f32, sum, first: sums[0] };
    }

    /// Stores a block `b` that has no codes.
    pub(crate) fn put_poison(&mut self, b: usize) {
        self.codes(b).fill(0);
        self.put(b, f32::NAN, [0, 0]);
    }

    /// The 32 codes of block `b`.
    pub(crate) fn codes(&mut self, b: usize) -> &mut [i8; BLOCK] {
        let at = (b * self.width + self.index) * BLOCK;
        (&mut self.codes[at..at + BLOCK]).try_into().expect("a block")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_tokens() {
        for tokens in 0..70 {
            for widest in [1, 2, 4, 8] {
                let mut next = 0;
                for tile in tiles(tokens, widest) {
                    assert_eq!(tile.start, next);
                    assert!(tile.width <= widest && tile.width.is_power_of_two());
                    next += tile.width;
                }
                assert_eq!(next, tokens);
            }
        }
    }
}
