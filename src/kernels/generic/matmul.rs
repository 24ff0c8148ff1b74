//! Matrix products: the walk over groups of rows and tiles of tokens.

use super::formats::{self, Format, PackedBlock};
use crate::kernels::acts::{Acts, Tile};
use crate::kernels::layout::{BLOCK, PackedMatrix};
use crate::kernels::scalar::VIRTUAL;
use crate::kernels::simd::Simd;
use std::ops::Range;

/// One part's share of a matrix product.
pub(crate) struct MatmulJob<'a> {
    /// The weights.
    pub(crate) weights: PackedMatrix<'a>,
    /// Groups of rows to compute.
    pub(crate) groups: Range<usize>,
    /// The activations.
    pub(crate) acts: &'a Acts,
    /// `[token][row]`: the first row of the matrix for token 0.
    pub(crate) out: *mut f32,
    /// Floats from one token to the next.
    pub(crate) out_stride: usize,
    /// Add to `out` instead of replacing it.
    pub(crate) accumulate: bool,
}

/// Bytes from a block to what is fetched while it is computed.
const AHEAD: usize = 128;
const CACHE_LINE: usize = 64;

/// Asks for the cache lines of `bytes` bytes, in ascending order. The loads of a block are not: scales, which lie
/// behind the codes, come first in some formats, and then the processor sees no stream to fetch ahead of.
#[inline(always)]
fn prefetch(start: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes).step_by(CACHE_LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes, CACHE_LINE);
}

/// A run of tokens of width `T` against one group of quantized weights.
#[inline(always)]
unsafe fn quantized_tile<S: Simd, W: Format<S>, const T: usize>(
    group: *const u8,
    job: &MatmulJob<'_>,
    tile: Tile,
    rows: Range<usize>,
) {
    // SAFETY: the caller's contract; `quantized` checked that the tile has `T` tokens for each block.
    unsafe {
        let (codes, scales) = job.acts.quantized(tile);
        let (codes, scales) = (codes.as_ptr(), scales.as_ptr());
        let mut acc = [S::splat(0.0); T];
        for b in 0..job.acts.blocks() {
            let block = PackedBlock {
                start: group.add(W::AT.block_start(b)),
                supers: group.add(W::AT.super_start(b)),
            };
            prefetch(block.start.wrapping_add(AHEAD), W::AT.block);
            formats::add::<S, W, T>(block, codes.add(b * T * BLOCK), scales.add(b * T), &mut acc);
        }
        store::<S, T>(&acc, job, tile, rows);
    }
}

/// Writes a lane per row, or the lanes that are rows in the last group.
#[inline(always)]
unsafe fn store<S: Simd, const T: usize>(
    acc: &[S::F; T],
    job: &MatmulJob<'_>,
    tile: Tile,
    rows: Range<usize>,
) {
    // SAFETY: the caller's contract: `out` has every row of `rows` for every token of the tile.
    unsafe {
        for (t, value) in acc.iter().enumerate() {
            let out = job.out.add((tile.start + t) * job.out_stride + rows.start);
            if rows.len() == S::LANES {
                let value = if job.accumulate { S::add(S::load(out), *value) } else { *value };
                S::store(out, value);
            } else {
                let mut lanes = [0.0f32; VIRTUAL];
                S::store(lanes.as_mut_ptr(), *value);
                for (i, lane) in lanes[..rows.len()].iter().enumerate() {
                    let out = out.add(i);
                    *out = if job.accumulate { *out + lane } else { *lane };
                }
            }
        }
    }
}

/// Calls `$kernel` with the tile's width as a constant.
macro_rules! by_width {
    ($width:expr, $kernel:ident::<$($generic:ty),*>($($argument:expr),*)) => {
        match $width {
            8 => $kernel::<$($generic,)* 8>($($argument),*),
            4 => $kernel::<$($generic,)* 4>($($argument),*),
            2 => $kernel::<$($generic,)* 2>($($argument),*),
            _ => $kernel::<$($generic,)* 1>($($argument),*),
        }
    };
}

/// The groups of a job and their rows.
fn groups<'a>(job: &'a MatmulJob<'_>, lanes: usize) -> impl Iterator<Item = (*const u8, Range<usize>)> + 'a {
    let shape = job.weights.shape();
    let bytes = job.weights.groups(job.groups.clone()).chunks_exact(shape.group_bytes());
    bytes.zip(job.groups.clone()).map(move |(bytes, index)| {
        let first = index * lanes;
        (bytes.as_ptr(), first..shape.rows.min(first + lanes))
    })
}

/// A job on quantized weights.
///
/// # Safety
/// As for [`Simd`]; the job's weights are in format `W`, packed for `S`, have as many blocks as the
/// activations, and `out` is valid for all tokens and the rows of `groups`.
#[inline(always)]
pub(crate) unsafe fn quantized<S: Simd, W: Format<S>>(job: &MatmulJob<'_>) {
    for (group, rows) in groups(job, S::LANES) {
        for tile in job.acts.tiles() {
            // SAFETY: the caller's contract; `tile.width` is the constant chosen.
            unsafe { by_width!(tile.width, quantized_tile::<S, W>(group, job, tile, rows.clone())) }
        }
    }
}

/// Float storage formats.
pub(crate) trait FloatFormat<S: Simd> {
    /// Bytes per value.
    const BYTES: usize;
    /// Loads `LANES` values.
    ///
    /// # Safety
    /// As for [`Simd`]; `p` is valid for `LANES` values.
    unsafe fn load(p: *const u8) -> S::F;
}

/// F32.
pub(crate) struct Single;
/// F16.
pub(crate) struct Half;
/// BF16.
pub(crate) struct Brain;

impl<S: Simd> FloatFormat<S> for Single {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::load(p.cast()) }
    }
}

impl<S: Simd> FloatFormat<S> for Half {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::from_f16(p.cast()) }
    }
}

impl<S: Simd> FloatFormat<S> for Brain {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::from_bf16(p.cast()) }
    }
}

#[inline(always)]
unsafe fn float_tile<S: Simd, W: FloatFormat<S>, const T: usize>(
    group: *const u8,
    job: &MatmulJob<'_>,
    tile: Tile,
    rows: Range<usize>,
) {
    // SAFETY: the caller's contract; the tile has `T` values per column.
    unsafe {
        let floats = job.acts.floats(tile).as_ptr();
        let mut acc = [[S::splat(0.0); T]; 2];
        for pair in 0..job.acts.blocks() * BLOCK / 2 {
            // A constant index keeps the sums in registers.
            for odd in 0..2 {
                let k = 2 * pair + odd;
                let weights = W::load(group.add(k * W::BYTES * S::LANES));
                for t in 0..T {
                    let x = S::splat(*floats.add(k * T + t));
                    acc[odd][t] = S::fma(weights, x, acc[odd][t]);
                }
            }
        }
        let [even, odd] = acc;
        let mut total = even;
        for t in 0..T {
            total[t] = S::add(even[t], odd[t]);
        }
        store::<S, T>(&total, job, tile, rows);
    }
}

/// A job on float weights.
///
/// # Safety
/// As for [`quantized`].
#[inline(always)]
pub(crate) unsafe fn floats<S: Simd, W: FloatFormat<S>>(job: &MatmulJob<'_>) {
    for (group, rows) in groups(job, S::LANES) {
        for tile in job.acts.tiles() {
            // SAFETY: the caller's contract; `tile.width` is the constant chosen.
            unsafe { by_width!(tile.width, float_tile::<S, W>(group, job, tile, rows.clone())) }
        }
    }
}
