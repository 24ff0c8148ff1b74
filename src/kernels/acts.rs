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
use std::sync::{Mutex, PoisonError};

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

/// Room for activations.
#[derive(Debug)]
pub(crate) struct Acts {
    codes: Buffer<i8>,
    scales: Buffer<ActScale>,
    floats: Buffer<f32>,
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
            widest,
            tokens: 0,
            blocks: 0,
        })
    }

    /// Bytes that [`Self::new`] allocates for the same arguments.
    pub(crate) fn planned_bytes(tokens: usize, cols: usize, forms: Forms) -> usize {
        let elements = tokens * cols.div_ceil(BLOCK) * BLOCK;
        let codes = page_rounded(elements) + page_rounded(elements / BLOCK * size_of::<ActScale>());
        let floats = page_rounded(elements * 4);
        usize::from(forms.codes) * codes + usize::from(forms.floats) * floats
    }

    /// Begins to fill the activations of `tokens` rows of `cols` columns.
    pub(crate) fn filling(&mut self, tokens: usize, cols: usize, forms: Forms) -> Filling<'_> {
        self.tokens = tokens;
        self.blocks = cols.div_ceil(BLOCK);
        let Self { codes, scales, floats, widest, blocks, .. } = self;
        let blocks = *blocks;
        let len = |wanted: bool| usize::from(wanted) * tokens * blocks;
        let rest = Rest {
            start: 0,
            codes: &mut codes[..len(forms.codes) * BLOCK],
            scales: &mut scales[..len(forms.codes)],
            floats: &mut floats[..len(forms.floats) * BLOCK],
        };
        Filling { rest: Mutex::new(rest), tokens, cols, widest: *widest }
    }

    /// Tokens of the last [`Self::filling`].
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Blocks per token of the last [`Self::filling`].
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The tiles of the last [`Self::filling`].
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

/// Activations that are being filled: threads take tiles of it until none is left.
pub(crate) struct Filling<'a> {
    rest: Mutex<Rest<'a>>,
    tokens: usize,
    cols: usize,
    widest: usize,
}

/// What no thread has taken.
struct Rest<'a> {
    /// The first token.
    start: usize,
    codes: &'a mut [i8],
    scales: &'a mut [ActScale],
    floats: &'a mut [f32],
}

impl<'a> Filling<'a> {
    /// Fills tiles until none is left: `fill(token, row)` writes the `cols` values of a token, and `quantize` (the
    /// kernel of the chosen instruction set) rounds a row. `row` is room for a row of whole blocks.
    pub(crate) fn fill(
        &self,
        row: &mut [f32],
        quantize: &dyn Fn(&[f32], &mut QuantSink<'_>),
        fill: &dyn Fn(usize, &mut [f32]),
    ) {
        let row = &mut row[..self.cols.next_multiple_of(BLOCK)];
        while let Some((tile, Rest { codes, scales, floats, .. })) = self.next() {
            for index in 0..tile.width {
                fill(tile.start + index, &mut row[..self.cols]);
                row[self.cols..].fill(0.0);
                if !scales.is_empty() {
                    quantize(row, &mut QuantSink { codes, scales, width: tile.width, index });
                }
                for (values, value) in floats.chunks_exact_mut(tile.width).zip(&*row) {
                    values[index] = *value;
                }
            }
        }
    }

    /// Takes the next tile.
    fn next(&self) -> Option<(Tile, Rest<'a>)> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let tile = tiles(self.tokens - rest.start, self.widest).next()?;
        let blocks = tile.width * self.cols.div_ceil(BLOCK);
        let taken = Rest {
            start: rest.start,
            codes: take(&mut rest.codes, blocks * BLOCK),
            scales: take(&mut rest.scales, blocks),
            floats: take(&mut rest.floats, blocks * BLOCK),
        };
        rest.start += tile.width;
        Some((Tile { start: taken.start, ..tile }, taken))
    }
}

/// The first `len` elements of `rest`, or none if it is empty.
fn take<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let len = len.min(rest.len());
    rest.split_off_mut(..len).unwrap_or_default()
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
    use crate::kernels::scalar;

    /// Whoever takes a tile, in whatever order, the activations are the same.
    #[test]
    fn threads_fill_what_one_does() {
        let forms = Forms { codes: true, floats: true };
        let cols = 70;
        let value = |token: usize, k: usize| (token * 131 + k * 7) as f32 % 17.0 - 8.0;
        let fill = |token: usize, row: &mut [f32]| (0..cols).for_each(|k| row[k] = value(token, k));
        for (tokens, widest) in [(1, 4), (3, 4), (13, 4), (64, 8), (31, 8)] {
            let [mut alone, mut together] = [(); 2].map(|()| Acts::new(tokens, cols, forms, widest).unwrap());
            alone.filling(tokens, cols, forms).fill(&mut [0.0; 96], &scalar::quantize, &fill);
            let filling = together.filling(tokens, cols, forms);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| filling.fill(&mut [0.0; 96], &scalar::quantize, &fill));
                }
            });
            assert_eq!((together.tokens(), together.blocks()), (tokens, 3));
            for tile in together.tiles() {
                assert_eq!(together.quantized(tile), alone.quantized(tile));
                assert_eq!(together.floats(tile), alone.floats(tile));
                for index in 0..tile.width {
                    let values = together.floats(tile)[index..].iter().step_by(tile.width);
                    assert!(values.take(cols).enumerate().all(|(k, x)| *x == value(tile.start + index, k)));
                }
            }
        }
    }

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
