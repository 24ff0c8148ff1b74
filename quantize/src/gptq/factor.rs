//! The triangular factor of the inverse second moments, in the order of quantization.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, MatRef, Par, Side};

/// Second moments that no damping makes positive definite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the inputs' second moments are not positive definite")]
pub(crate) struct FactorError;

/// The order of columns and `L` with `H^-1 = L L'`, `H` permuted to that order and damped.
pub(crate) struct Factor {
    /// The column at each place.
    order: Vec<usize>,
    /// `[place][place]`, lower triangle.
    lower: Mat<f64>,
}

/// How second moments are factored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FactorOptions {
    /// Times the mean of the diagonal, this is added to the diagonal.
    pub(crate) damping: f64,
    /// Take the columns in the order of the file, not of their size.
    pub(crate) file_order: bool,
}

/// The order of columns: blocks of `block` columns by falling largest diagonal value, and columns within a block
/// likewise. Equal values keep the order of the file.
fn order_of(diagonal: &[f64], block: usize) -> Vec<usize> {
    let mut blocks: Vec<Vec<usize>> =
        (0..diagonal.len()).step_by(block).map(|start| (start..start + block).collect()).collect();
    for columns in &mut blocks {
        columns.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
    }
    blocks.sort_by(|a, b| diagonal[b[0]].total_cmp(&diagonal[a[0]]));
    blocks.concat()
}

impl Factor {
    /// Factors second moments `[column][column]`, of which the lower triangle is read. Columns are ordered in blocks
    /// of `block`.
    ///
    /// # Errors
    /// If they are not positive definite even so.
    ///
    /// # Panics
    /// If the matrix is not square, or not a whole number of blocks wide.
    pub(crate) fn new(
        moments: MatRef<'_, f64>,
        options: FactorOptions,
        block: usize,
    ) -> Result<Self, FactorError> {
        let dim = moments.ncols();
        assert!(moments.nrows() == dim && dim.is_multiple_of(block));
        let diagonal: Vec<f64> = (0..dim).map(|i| moments[(i, i)]).collect();
        let mean = diagonal.iter().sum::<f64>() / dim as f64;
        // Inputs that are all zero: any positive definite matrix will do.
        let ridge = if mean > 0.0 { options.damping * mean } else { 1.0 };
        let order = if options.file_order { (0..dim).collect() } else { order_of(&diagonal, block) };
        // With `R` the reversal and `R H R = C C'`, `L = R C^-T R` is lower triangular and `L L' = H^-1`.
        let at = |i: usize| order[dim - 1 - i];
        let reversed = Mat::from_fn(dim, dim, |i, j| {
            let (a, b) = (at(i).max(at(j)), at(i).min(at(j)));
            moments[(a, b)] + if i == j { ridge } else { 0.0 }
        });
        let cholesky = reversed.llt(Side::Lower).map_err(|_| FactorError)?;
        let mut inverse = Mat::zeros(dim, dim);
        invert_lower_triangular(inverse.as_mut(), cholesky.L(), Par::Seq);
        let lower =
            Mat::from_fn(dim, dim, |i, j| if j > i { 0.0 } else { inverse[(dim - 1 - j, dim - 1 - i)] });
        Ok(Self { order, lower })
    }

    /// The factor of the moments of inputs that are divided by `factors`, `[column]`, in the same order.
    pub(crate) fn scaled(&self, factors: &[f32]) -> Self {
        let lower = Mat::from_fn(self.order.len(), self.order.len(), |i, j| {
            self.lower[(i, j)] * f64::from(factors[self.order[i]])
        });
        Self { order: self.order.clone(), lower }
    }

    /// The column at each place.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// `L`, at `place` of `row`.
    pub(crate) fn at(&self, row: usize, place: usize) -> f64 {
        self.lower[(row, place)]
    }

    /// `rows * H^-1`, both `[row][column]` in the order of the file.
    pub(crate) fn solve(&self, rows: &[f32], out: &mut [f32]) {
        let dim = self.order.len();
        let count = rows.len() / dim;
        let placed = Mat::from_fn(count, dim, |i, j| f64::from(rows[i * dim + self.order[j]]));
        let mut half = Mat::zeros(count, dim);
        matmul(&mut half, Accum::Replace, &placed, &self.lower, 1.0, Par::Seq);
        let mut whole = placed;
        matmul(&mut whole, Accum::Replace, &half, self.lower.transpose(), 1.0, Par::Seq);
        for i in 0..count {
            for (j, column) in self.order.iter().enumerate() {
                out[i * dim + column] = whole[(i, j)] as f32;
            }
        }
    }
}
