//! Activations spread over vectors in memory: what the products of many groups of weights take of them is loaded as it is
//! needed, and not put together anew for each.

use super::formats::{Format, PackedBlock, Unpacked, Unsigned, unpack};
use crate::kernels::acts::{ActScale, Acts, Tile};
use crate::kernels::layout::BLOCK;
use crate::kernels::simd::{Reach, Simd};
use std::mem::MaybeUninit;

/// Groups that meet a chunk of spread activations.
pub(super) const MOST_GROUPS: usize = 64;

/// Tokens times blocks of a chunk; it stays in the first-level cache beside the weights that it meets.
const ROOM: usize = 64;

/// One token in one block.
#[derive(Clone, Copy)]
pub(super) struct Cell<S: Simd> {
    /// Columns `4 * i ..` in all lanes.
    codes: [S::B; 8],
    /// What the integer sums of the block or of its halves begin with.
    starts: [S::I; 2],
    scale: S::F,
    /// What minima are multiplied with: those of the block, or of its halves.
    factors: [S::Factor; 2],
}

/// A chunk of blocks of a tile, `[block][token]`.
pub(super) struct Spread<S: Simd> {
    cells: [MaybeUninit<Cell<S>>; ROOM],
    /// First token and first block.
    holds: Option<(usize, usize)>,
}

impl<S: Simd> Spread<S> {
    /// A chunk of nothing.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { cells: [const { MaybeUninit::uninit() }; ROOM], holds: None }
    }

    /// Blocks of a chunk of `tokens` tokens, a multiple of 8.
    pub(super) const fn blocks(tokens: usize) -> usize {
        let all = if tokens == 1 { ROOM } else { ROOM / 2 };
        all / tokens
    }

    /// Takes a chunk of a tile of `T` tokens that begins with block `first`; returns how many blocks there are.
    ///
    /// # Safety
    /// As for [`Simd`]; the tile has `T` tokens and more than `first` blocks.
    #[inline(always)]
    pub(super) unsafe fn fill<W: Format<S>, const T: usize>(
        &mut self,
        acts: &Acts,
        tile: Tile,
        first: usize,
    ) -> usize {
        let len = Self::blocks(T).min(acts.blocks() - first);
        let (codes, scales) = acts.quantized(tile);
        if self.holds.replace((tile.start, first)) != Some((tile.start, first)) {
            for (i, cell) in self.cells[..len * T].iter_mut().enumerate() {
                let at = first * T + i;
                // SAFETY: the caller's contract: the tile has as many codes and scales.
                cell.write(unsafe { Cell::new::<W>(codes.as_ptr().add(at * BLOCK), &scales[at]) });
            }
        }
        len
    }

    /// Block `b` of the chunk.
    ///
    /// # Safety
    /// [`Self::fill`] returned more than `b` for `T` tokens.
    #[inline(always)]
    pub(super) unsafe fn block<const T: usize>(&self, b: usize) -> &[Cell<S>; T] {
        // SAFETY: the caller's contract: the cells were written.
        unsafe { &*self.cells.as_ptr().add(b * T).cast() }
    }
}

impl<S: Simd> Cell<S> {
    #[inline(always)]
    unsafe fn new<W: Format<S>>(codes: *const i8, scale: &ActScale) -> Self {
        let ActScale { d, ds, sum, first } = *scale;
        let second = sum - first;
        let (totals, factors) = if W::HALVES {
            ([first, second], [d * first as f32, d * second as f32])
        } else {
            ([sum, 0], [ds, 0.0])
        };
        // SAFETY: the caller's contract: 32 codes.
        unsafe {
            Self {
                codes: [0, 4, 8, 12, 16, 20, 24, 28].map(|at| S::spread(codes.add(at))),
                starts: totals.map(|total| S::splat_i32(-W::ZERO * total)),
                scale: S::splat(d),
                factors: factors.map(|factor| S::factor(factor)),
            }
        }
    }
}

/// How far the sums of a row of weights with the first token of a tile may go.
#[inline(always)]
pub(super) fn reach<S: Simd, W: Format<S>>(acts: &Acts, tile: Tile) -> Reach {
    let (codes, scales) = acts.quantized(tile);
    let size: u64 = codes.iter().map(|code| u64::from(code.unsigned_abs())).sum();
    let terms = scales.len() * if W::HALVES { 2 } else { 1 };
    let codes = if terms < Reach::MOST_TERMS { size as f32 * W::LARGEST as f32 } else { f32::INFINITY };
    Reach { codes, minima: terms as f32, minimum_bits: W::MINIMUM_BITS }
}

/// [`super::formats::add`] with spread activations.
///
/// # Safety
/// As for [`Simd`]; the block is in format `W`.
#[inline(always)]
pub(super) unsafe fn add<S: Simd, W: Format<S>, const T: usize>(
    block: PackedBlock,
    cells: &[Cell<S>; T],
    acc: &mut [S::Acc; T],
) {
    // SAFETY: the caller's contract.
    unsafe {
        let Unpacked { codes, scales, mins } = unpack::<S, W>(block);
        for t in 0..T {
            let cell = &cells[t];
            if W::HALVES {
                for half in 0..2 {
                    let (of_half, _) = codes[4 * half..].as_chunks::<4>();
                    let (acts, _) = cell.codes[4 * half..].as_chunks::<4>();
                    let sum = dot::<S, W, 4>(&of_half[0], &acts[0], cell.starts[half]);
                    acc[t] = S::add_scaled(acc[t], sum, S::mul(scales[half], cell.scale));
                }
            } else {
                let sum = dot::<S, W, 8>(&codes, &cell.codes, cell.starts[0]);
                let scale = S::mul(scales[0], cell.scale);
                acc[t] = if W::FORM.has_min() {
                    S::add_affine(acc[t], (sum, scale), (mins[0], cell.factors[0]))
                } else {
                    S::add_scaled(acc[t], sum, scale)
                };
            }
        }
        if W::HALVES && W::FORM.has_min() {
            for t in 0..T {
                for half in 0..2 {
                    acc[t] = S::add_min(acc[t], mins[half], cells[t].factors[half]);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn dot<S: Simd, W: Format<S>, const N: usize>(
    codes: &[S::B; N],
    acts: &[S::B; N],
    start: S::I,
) -> S::I {
    let start = if W::ZERO == 0 { None } else { Some(start) };
    // SAFETY: the caller's contract.
    unsafe {
        match W::CODES {
            Unsigned::FourBits => S::dot_spread::<4, N>(codes, acts, start),
            Unsigned::FiveBits => S::dot_spread::<5, N>(codes, acts, start),
            Unsigned::SixBits => S::dot_spread::<6, N>(codes, acts, start),
            Unsigned::Bytes => S::dot_spread::<8, N>(codes, acts, start),
        }
    }
}
