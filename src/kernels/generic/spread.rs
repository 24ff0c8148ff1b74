//! Activations spread over vectors in memory: what the products of many groups of weights take of them is loaded as it is
//! needed, and not put together anew for each.

use super::formats::{Format, PackedBlock, Unpacked, Unsigned, unpack};
use super::job::{Codes, Walk};
use crate::kernels::acts::ActScale;
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

/// A chunk of blocks of `T` tokens, `[block][token]`.
pub(super) struct Spread<S: Simd, const T: usize> {
    cells: [MaybeUninit<Cell<S>>; ROOM],
    /// The first token and the first block.
    holds: Option<(usize, usize)>,
}

impl<S: Simd, const T: usize> Spread<S, T> {
    /// Blocks from one chunk to the next, a multiple of 8.
    pub(super) const STEP: usize = if T == 1 { ROOM } else { ROOM / 2 / T };

    /// A chunk of nothing.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { cells: [const { MaybeUninit::uninit() }; ROOM], holds: None }
    }

    /// The chunk of the `T` tokens from `token` on that begins with block `first`.
    ///
    /// # Safety
    /// As for [`Simd`]; `acts` are the codes of the tokens, of `blocks` blocks.
    #[inline(always)]
    pub(super) unsafe fn fill<W: Format<S>>(
        &mut self,
        acts: Codes,
        blocks: usize,
        token: usize,
        first: usize,
    ) -> &[[Cell<S>; T]] {
        let len = Self::STEP.min(blocks - first);
        let cells = &mut self.cells[..len * T];
        if self.holds.replace((token, first)) != Some((token, first)) {
            for (i, cell) in cells.iter_mut().enumerate() {
                // SAFETY: the caller's contract.
                cell.write(unsafe {
                    let (codes, scales) = acts.block(first + i / T);
                    Cell::new::<W>(codes.add(i % T * BLOCK), &*scales.add(i % T))
                });
            }
        }
        // SAFETY: all were written, now or when the chunk was taken.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), len) }
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
                codes: each!(at in [0, 4, 8, 12, 16, 20, 24, 28] => S::spread(codes.add(at))),
                starts: each!(half in [0, 1] => S::splat_i32(-W::ZERO * totals[half])),
                scale: S::splat(d),
                factors: each!(half in [0, 1] => S::factor(factors[half])),
            }
        }
    }
}

/// How far the sums of a row of weights with a token of `blocks` blocks may go.
///
/// # Safety
/// `acts` has as many blocks.
#[inline(always)]
pub(super) unsafe fn reach<S: Simd, W: Format<S>>(acts: Codes, blocks: usize) -> Reach {
    let mut size = 0u64;
    for b in 0..blocks {
        // SAFETY: the caller's contract: 32 codes.
        let codes = unsafe { &*acts.block(b).0.cast::<[i8; BLOCK]>() };
        size += u64::from(codes.iter().map(|code| u32::from(code.unsigned_abs())).sum::<u32>());
    }
    let terms = blocks * if W::HALVES { 2 } else { 1 };
    let codes = if terms < Reach::MOST_TERMS { size as f32 * W::LARGEST as f32 } else { f32::INFINITY };
    Reach { codes, minima: terms as f32, minimum_bits: W::MINIMUM_BITS }
}

/// [`super::formats::add`] with spread activations.
///
/// # Safety
/// As for [`Simd`]; the block is in format `W`.
#[inline(always)]
unsafe fn add<S: Simd, W: Format<S>, const T: usize>(
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

/// Adds a chunk to the sums of a group; `walk` comes to its first block.
///
/// # Safety
/// As for [`Simd`]; the group is in format `W` and has as many blocks.
#[inline(always)]
pub(super) unsafe fn add_chunk<S: Simd, W: Format<S>, const T: usize>(
    mut walk: Walk,
    cells: &[[Cell<S>; T]],
    sums: &mut [S::Acc; T],
) {
    // A block of a tentative set has no branch: two to a step.
    let (pairs, rest) = if S::IS_TENTATIVE { cells.as_chunks::<2>() } else { (&[][..], cells) };
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = *sums;
        for (pair, cells) in pairs.iter().enumerate() {
            for odd in 0..2 {
                add::<S, W, T>(walk.next::<S, W>(2 * pair + odd), &cells[odd], &mut acc);
            }
        }
        for (b, cell) in rest.iter().enumerate() {
            add::<S, W, T>(walk.next::<S, W>(2 * pairs.len() + b), cell, &mut acc);
        }
        *sums = acc;
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
