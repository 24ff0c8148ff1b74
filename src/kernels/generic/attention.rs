//! Scores of queries against keys, and weighted sums of values.
//!
//! Both keep up to [`QUERIES`] queries times [`Simd::VECTORS`] vectors of results in registers, so that a
//! key or value is loaded and converted once for all of them. How results are grouped changes none of them.

use crate::kernels::acts::tiles;
use crate::kernels::scalar::VIRTUAL;
use crate::kernels::simd::Simd;

/// Queries that share one pass over the keys or values.
const QUERIES: usize = 4;

/// Calls `$kernel::<S, queries, vectors>` with both counts as constants.
macro_rules! by_counts {
    ($queries:expr, $vectors:expr, $kernel:ident($($argument:expr),*)) => {
        match ($queries, $vectors) {
            (4, 4) => $kernel::<S, 4, 4>($($argument),*),
            (4, 2) => $kernel::<S, 4, 2>($($argument),*),
            (4, _) => $kernel::<S, 4, 1>($($argument),*),
            (3, 4) => $kernel::<S, 3, 4>($($argument),*),
            (3, 2) => $kernel::<S, 3, 2>($($argument),*),
            (3, _) => $kernel::<S, 3, 1>($($argument),*),
            (2, 4) => $kernel::<S, 2, 4>($($argument),*),
            (2, 2) => $kernel::<S, 2, 2>($($argument),*),
            (2, _) => $kernel::<S, 2, 1>($($argument),*),
            (_, 4) => $kernel::<S, 1, 4>($($argument),*),
            (_, 2) => $kernel::<S, 1, 2>($($argument),*),
            (_, _) => $kernel::<S, 1, 1>($($argument),*),
        }
    };
}

/// [`crate::kernels::scalar::scores`].
///
/// # Safety
/// As for [`Simd`]; `keys` holds whole blocks of 16 positions, and `out` a row of `stride` floats with room
/// for all of them per query.
#[inline(always)]
pub(crate) unsafe fn scores<S: Simd>(
    queries: &[f32],
    keys: &[u16],
    dim: usize,
    scale: f32,
    out: &mut [f32],
    stride: usize,
) {
    let vectors = keys.len() / dim / S::LANES;
    for (queries, out) in queries.chunks(dim * QUERIES).zip(out.chunks_mut(stride * QUERIES)) {
        let (count, out) = (queries.len() / dim, out.as_mut_ptr());
        for run in tiles(vectors, S::VECTORS) {
            // SAFETY: the caller's contract; the counts are the constants chosen.
            unsafe {
                let out = out.add(run.start * S::LANES);
                by_counts!(count, run.width, score(queries, (keys, run.start), dim, scale, out, stride));
            }
        }
    }
}

/// Scores of `Q` queries against `V` vectors of positions from vector `first` on.
#[inline(always)]
unsafe fn score<S: Simd, const Q: usize, const V: usize>(
    queries: &[f32],
    (keys, first): (&[u16], usize),
    dim: usize,
    scale: f32,
    out: *mut f32,
    stride: usize,
) {
    let per_block = VIRTUAL / S::LANES;
    // SAFETY: the caller's contract: `Q` queries of `dim` values, `V` vectors of keys per dimension, `Q`
    // output rows.
    unsafe {
        let mut starts = [keys.as_ptr(); V];
        for (v, start) in starts.iter_mut().enumerate() {
            let vector = first + v;
            *start = start.add(vector / per_block * VIRTUAL * dim + vector % per_block * S::LANES);
        }
        let mut acc = [[S::splat(0.0); V]; Q];
        for d in 0..dim {
            let mut key = [S::splat(0.0); V];
            for v in 0..V {
                key[v] = S::from_f16(starts[v].add(d * VIRTUAL));
            }
            for q in 0..Q {
                let query = S::splat(*queries.as_ptr().add(q * dim + d));
                for v in 0..V {
                    acc[q][v] = S::fma(key[v], query, acc[q][v]);
                }
            }
        }
        for q in 0..Q {
            for v in 0..V {
                S::store(out.add(q * stride + v * S::LANES), S::mul(acc[q][v], S::splat(scale)));
            }
        }
    }
}

/// [`crate::kernels::scalar::weighted`].
///
/// # Safety
/// As for [`Simd`]; `dim` is a multiple of 16 and `values` holds whole rows.
#[inline(always)]
pub(crate) unsafe fn weighted<S: Simd>(
    weights: &[f32],
    stride: usize,
    values: &[u16],
    dim: usize,
    out: &mut [f32],
) {
    for (out, weights) in out.chunks_mut(dim * QUERIES).zip(weights.chunks(stride * QUERIES)) {
        let count = out.len() / dim;
        for run in tiles(dim / S::LANES, S::VECTORS) {
            let first = run.start * S::LANES;
            // SAFETY: the caller's contract; the counts are the constants chosen.
            unsafe { by_counts!(count, run.width, weigh(weights, stride, values, dim, out, first)) }
        }
    }
}

/// Adds the weighted values of `V` vectors of dimensions from `first` on to `Q` outputs.
#[inline(always)]
unsafe fn weigh<S: Simd, const Q: usize, const V: usize>(
    weights: &[f32],
    stride: usize,
    values: &[u16],
    dim: usize,
    out: &mut [f32],
    first: usize,
) {
    // SAFETY: the caller's contract: `Q` rows of weights and outputs, whole rows of values.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; Q];
        for q in 0..Q {
            for v in 0..V {
                acc[q][v] = S::load(out.as_ptr().add(q * dim + first + v * S::LANES));
            }
        }
        for p in 0..values.len() / dim {
            let mut value = [S::splat(0.0); V];
            for v in 0..V {
                value[v] = S::from_f16(values.as_ptr().add(p * dim + first + v * S::LANES));
            }
            for q in 0..Q {
                let weight = S::splat(*weights.as_ptr().add(q * stride + p));
                for v in 0..V {
                    acc[q][v] = S::fma(value[v], weight, acc[q][v]);
                }
            }
        }
        for q in 0..Q {
            for v in 0..V {
                S::store(out.as_mut_ptr().add(q * dim + first + v * S::LANES), acc[q][v]);
            }
        }
    }
}
