//! Products with the rows of a matrix, on all threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use smolt::blocks::BlockType;
use smolt::runtime::Pool;

use super::moments::Sums;
use crate::gptq::Factor;

/// Rows that one thread multiplies at a time. Fixed, so that results do not depend on the number of threads.
const ROW_TILE: usize = 64;

/// Some rows of a matrix, evenly spread.
pub(super) fn sampled(weights: &[f32], cols: usize, count: usize) -> Vec<f32> {
    let rows = weights.len() / cols;
    let step = rows.div_ceil(count).max(1);
    weights.chunks_exact(cols).step_by(step).flatten().copied().collect()
}

/// Calls `job` for every tile of rows, on all threads; results in the order of the rows.
fn by_rows<R: Send>(
    pool: &mut Pool,
    rows: usize,
    job: &(dyn Fn(std::ops::Range<usize>) -> R + Sync),
) -> Vec<R> {
    let mut shares: Vec<Vec<R>> = (0..pool.threads()).map(|_| Vec::new()).collect();
    pool.run_with(&mut shares, &|part, share| {
        let tiles = part.share(rows.div_ceil(ROW_TILE));
        share.extend(tiles.map(|tile| job(tile * ROW_TILE..rows.min((tile + 1) * ROW_TILE))));
    });
    shares.into_iter().flatten().collect()
}

/// `W + share * W G H^-1`, `[row][column]`.
pub(super) fn target(
    pool: &mut Pool,
    weights: &[f32],
    crossed: MatRef<'_, f64>,
    factor: &Factor,
    share: f32,
) -> Vec<f32> {
    let cols = crossed.ncols();
    let crossed = Mat::from_fn(cols, cols, |i, j| crossed[(i, j)] as f32);
    let tiles = by_rows(pool, weights.len() / cols, &|rows| {
        let weights = &weights[rows.start * cols..rows.end * cols];
        let mut product = vec![0.0; weights.len()];
        let view = MatMut::from_row_major_slice_mut(&mut product, rows.len(), cols);
        let left = MatRef::from_row_major_slice(weights, rows.len(), cols);
        matmul(view, Accum::Replace, left, &crossed, 1.0, Par::Seq);
        let mut shifted = vec![0.0; weights.len()];
        factor.solve(&product, &mut shifted);
        shifted.iter_mut().zip(weights).for_each(|(shift, weight)| *shift = weight + share * *shift);
        shifted
    });
    tiles.concat()
}

/// What rounding every weight to nearest costs.
pub(super) fn nearest_loss(
    pool: &mut Pool,
    weights: &[f32],
    target: &[f32],
    sums: &Sums,
    block_type: BlockType,
) -> f64 {
    let cols = sums.squares.ncols();
    let squares = Mat::from_fn(cols, cols, |i, j| sums.squares[(i, j)] as f32);
    let losses = by_rows(pool, weights.len() / cols, &|rows| {
        let range = rows.start * cols..rows.end * cols;
        let mut rounded = vec![0.0; range.len()];
        let mut bytes = vec![0; range.len() / block_type.block_len() * block_type.block_bytes()];
        block_type.encode(&weights[range.clone()], &mut bytes);
        block_type.decode(&bytes, &mut rounded);
        rounded.iter_mut().zip(&target[range]).for_each(|(value, target)| *value -= target);
        let errors = MatRef::from_row_major_slice(&rounded, rows.len(), cols);
        let mut product = Mat::<f32>::zeros(rows.len(), cols);
        matmul(&mut product, Accum::Replace, errors, &squares, 1.0, Par::Seq);
        let row = |i: usize| (0..cols).map(|j| f64::from(product[(i, j)] * errors[(i, j)])).sum::<f64>();
        (0..rows.len()).map(row).sum::<f64>()
    });
    losses.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gptq::FactorOptions;

    /// `T = W + share * W G H^-1`, so `(T - W) H = share * W G`.
    #[test]
    fn the_target_makes_up_for_the_inputs() {
        let dim = 64;
        let wave = |i: usize, j: usize| f64::from(((i * 37 + j * 11) % 23) as u32) / 23.0 - 0.5;
        let h = Mat::from_fn(dim, dim, |i, j| {
            (0..200).map(|t| wave(t, i) * wave(t, j)).sum::<f64>() + if i == j { 1.0 } else { 0.0 }
        });
        let g = Mat::from_fn(dim, dim, |i, j| wave(i + 5, j + 3));
        let weights: Vec<f32> = (0..70 * dim).map(|i| wave(i, 1) as f32).collect();
        let factor = Factor::new(h.as_ref(), FactorOptions { damping: 0.0, file_order: false }, 32).unwrap();
        for threads in [1, 3] {
            let shifted = target(&mut Pool::new(threads), &weights, g.as_ref(), &factor, 0.5);
            for (t, w) in shifted.chunks_exact(dim).zip(weights.chunks_exact(dim)) {
                for j in 0..dim {
                    let made: f64 = (0..dim).map(|k| f64::from(t[k] - w[k]) * h[(k, j)]).sum();
                    let wanted: f64 = (0..dim).map(|k| 0.5 * f64::from(w[k]) * g[(k, j)]).sum();
                    assert!((made - wanted).abs() < 1e-3, "{made} {wanted}");
                }
            }
        }
    }

    #[test]
    fn samples_are_spread_over_all_rows() {
        let weights: Vec<f32> = (0..100).map(|i| (i / 2) as f32).collect();
        assert_eq!(sampled(&weights, 2, 4), [0.0, 0.0, 13.0, 13.0, 26.0, 26.0, 39.0, 39.0]);
        assert_eq!(sampled(&weights[..4], 2, 96), weights[..4]);
    }
}
