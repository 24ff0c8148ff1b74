//! Scores of queries against keys, and weighted sums of values.

use crate::kernels::scalar::VIRTUAL;
use crate::kernels::simd::Simd;

/// Queries that share one pass over the keys or values.
const QUERIES: usize = 4;

/// [`scalar::scores`].
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
    for (queries, out) in queries.chunks(dim * QUERIES).zip(out.chunks_mut(stride * QUERIES)) {
        for (b, block) in keys.chunks_exact(dim * VIRTUAL).enumerate() {
            let out = out[b * VIRTUAL..].as_mut_ptr();
            // SAFETY: the caller's contract; the count of queries is the constant chosen.
            unsafe {
                match queries.len() / dim {
                    4 => score_block::<S, 4>(queries, block, dim, scale, out, stride),
                    3 => score_block::<S, 3>(queries, block, dim, scale, out, stride),
                    2 => score_block::<S, 2>(queries, block, dim, scale, out, stride),
                    _ => score_block::<S, 1>(queries, block, dim, scale, out, stride),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn score_block<S: Simd, const Q: usize>(
    queries: &[f32],
    block: &[u16],
    dim: usize,
    scale: f32,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's contract: `Q` queries of `dim` values, `dim` columns of 16 keys, `Q` output rows.
    unsafe {
        for i in (0..VIRTUAL).step_by(S::LANES) {
            let mut acc = [S::splat(0.0); Q];
            for d in 0..dim {
                let key = S::from_f16(block.as_ptr().add(d * VIRTUAL + i));
                for (q, acc) in acc.iter_mut().enumerate() {
                    *acc = S::fma(key, S::splat(*queries.as_ptr().add(q * dim + d)), *acc);
                }
            }
            for (q, acc) in acc.iter().enumerate() {
                S::store(out.add(q * stride + i), S::mul(*acc, S::splat(scale)));
            }
        }
    }
}

/// [`scalar::weighted`].
///
/// # Safety
/// As for [`Simd`]; `dim` is a multiple of 16 and `values` holds whole rows.
#[inline(always)]
pub(crate) unsafe fn weighted<S: Simd>(
    weights: &[f32],
    weight_stride: usize,
    values: &[u16],
    dim: usize,
    out: &mut [f32],
) {
    for (out, weights) in out.chunks_mut(dim * QUERIES).zip(weights.chunks(weight_stride * QUERIES)) {
        // SAFETY: the caller's contract; the count of queries is the constant chosen.
        unsafe {
            match out.len() / dim {
                4 => weigh::<S, 4>(weights, weight_stride, values, dim, out),
                3 => weigh::<S, 3>(weights, weight_stride, values, dim, out),
                2 => weigh::<S, 2>(weights, weight_stride, values, dim, out),
                _ => weigh::<S, 1>(weights, weight_stride, values, dim, out),
            }
        }
    }
}

#[inline(always)]
unsafe fn weigh<S: Simd, const Q: usize>(
    weights: &[f32],
    weight_stride: usize,
    values: &[u16],
    dim: usize,
    out: &mut [f32],
) {
    let positions = values.len() / dim;
    // SAFETY: the caller's contract: `Q` rows of weights and outputs, `positions` rows of values.
    unsafe {
        for d in (0..dim).step_by(VIRTUAL) {
            for i in (d..d + VIRTUAL).step_by(S::LANES) {
                let mut acc = [S::splat(0.0); Q];
                for (q, acc) in acc.iter_mut().enumerate() {
                    *acc = S::load(out.as_ptr().add(q * dim + i));
                }
                for p in 0..positions {
                    let value = S::from_f16(values.as_ptr().add(p * dim + i));
                    for (q, acc) in acc.iter_mut().enumerate() {
                        *acc = S::fma(value, S::splat(*weights.as_ptr().add(q * weight_stride + p)), *acc);
                    }
                }
                for (q, acc) in acc.iter().enumerate() {
                    S::store(out.as_mut_ptr().add(q * dim + i), *acc);
                }
            }
        }
    }
}
