//! Second moments of the inputs of a matrix.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use smolt::runtime::Pool;

/// Columns of a part of the moments, which one thread computes. Fixed, so that results do not depend on the number
/// of threads.
const PART: usize = 96;
/// Tokens whose products are summed in f32 before they are added in f64.
const BATCH: usize = 256;

/// Sums over tokens of `x^ x^'` and, if asked for, `(x - x^) x^'`: `x^` is the input as it will be, `x` as it was
/// before anything was quantized.
pub(crate) struct Moments {
    dim: usize,
    with_difference: bool,
    /// `[token][dim]` of those not yet added.
    inputs: Vec<f32>,
    differences: Vec<f32>,
    /// The moments by columns; the parts of one thread together.
    shares: Vec<Vec<Columns>>,
}

/// Columns `start..start + PART` of both sums, column after column.
struct Columns {
    start: usize,
    width: usize,
    /// Rows `start..`: the lower triangle and what it shares columns with.
    squares: Vec<f64>,
    /// All rows.
    crossed: Vec<f64>,
    batch: Vec<f32>,
}

impl Columns {
    fn new(dim: usize, start: usize, with_difference: bool) -> Self {
        let width = PART.min(dim - start);
        let crossed = if with_difference { dim * width } else { 0 };
        Self {
            start,
            width,
            squares: vec![0.0; (dim - start) * width],
            crossed: vec![0.0; crossed],
            batch: vec![0.0; dim * width],
        }
    }

    /// Adds a batch: `inputs` and `differences` are `[token][dim]`.
    fn add(&mut self, inputs: MatRef<'_, f32>, differences: Option<MatRef<'_, f32>>) {
        let dim = inputs.ncols();
        let columns = inputs.subcols(self.start, self.width);
        let lower = inputs.subcols(self.start, dim - self.start);
        accumulate(&mut self.squares, &mut self.batch, lower, columns);
        if let Some(differences) = differences {
            accumulate(&mut self.crossed, &mut self.batch, differences, columns);
        }
    }
}

/// `sum += left' * right`, products in f32.
fn accumulate(sum: &mut [f64], batch: &mut [f32], left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    let (rows, cols) = (left.ncols(), right.ncols());
    let batch = &mut batch[..rows * cols];
    let product = MatMut::from_column_major_slice_mut(batch, rows, cols);
    matmul(product, Accum::Replace, left.transpose(), right, 1.0, Par::Seq);
    for (sum, value) in sum.iter_mut().zip(batch) {
        *sum += f64::from(*value);
    }
}

impl Moments {
    /// For inputs of `dim` values, computed on the threads of pools with as many as `threads`.
    pub(crate) fn new(dim: usize, with_difference: bool, threads: usize) -> Self {
        let mut shares: Vec<Vec<Columns>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
        for (i, start) in (0..dim).step_by(PART).enumerate() {
            shares[i % threads.max(1)].push(Columns::new(dim, start, with_difference));
        }
        let (inputs, differences) = (Vec::with_capacity(BATCH * dim), Vec::new());
        Self { dim, with_difference, inputs, differences, shares }
    }

    /// Adds tokens: `inputs` is `x^`, `originals` is `x`, both `[token][dim]`.
    pub(crate) fn add(&mut self, pool: &mut Pool, inputs: &[f32], originals: &[f32]) {
        for (input, original) in inputs.chunks_exact(self.dim).zip(originals.chunks_exact(self.dim)) {
            self.inputs.extend_from_slice(input);
            if self.with_difference {
                self.differences.extend(original.iter().zip(input).map(|(x, input)| x - input));
            }
            if self.inputs.len() == BATCH * self.dim {
                self.flush(pool);
            }
        }
    }

    fn flush(&mut self, pool: &mut Pool) {
        let Self { dim, inputs, differences, shares, .. } = self;
        let rows = inputs.len() / *dim;
        let inputs_view = MatRef::from_row_major_slice(inputs, rows, *dim);
        let view = MatRef::from_row_major_slice(differences, differences.len() / *dim, *dim);
        let differences_view = (!differences.is_empty()).then_some(view);
        pool.run_with(shares, &|_, share| {
            for columns in share {
                columns.add(inputs_view, differences_view);
            }
        });
        inputs.clear();
        differences.clear();
    }

    /// Ends the sums.
    pub(crate) fn finish(mut self, pool: &mut Pool) -> Sums {
        self.flush(pool);
        let mut squares = Mat::zeros(self.dim, self.dim);
        let mut crossed = self.with_difference.then(|| Mat::zeros(self.dim, self.dim));
        for columns in self.shares.into_iter().flatten() {
            let rows = self.dim - columns.start;
            for (j, column) in columns.squares.chunks_exact(rows).enumerate() {
                for (i, value) in column.iter().enumerate() {
                    squares[(columns.start + i, columns.start + j)] = *value;
                }
            }
            let Some(crossed) = &mut crossed else { continue };
            for (j, column) in columns.crossed.chunks_exact(self.dim).enumerate() {
                for (i, value) in column.iter().enumerate() {
                    crossed[(i, columns.start + j)] = *value;
                }
            }
        }
        for j in 0..self.dim {
            for i in 0..j {
                squares[(i, j)] = squares[(j, i)];
            }
        }
        Sums { squares, crossed }
    }
}

impl Sums {
    /// Forgets how inputs vary together: each column counts by its own size.
    pub(crate) fn keep_diagonal(&mut self) {
        let dim = self.squares.ncols();
        self.squares = Mat::from_fn(dim, dim, |i, j| if i == j { self.squares[(i, i)] } else { 0.0 });
        self.crossed = None;
    }
}

/// Finished sums.
pub(crate) struct Sums {
    /// `sum of x^ x^'`, `[dim][dim]`.
    pub(crate) squares: Mat<f64>,
    /// `sum of (x - x^) x^'`, `[dim][dim]`: rows of `x - x^`, columns of `x^`.
    pub(crate) crossed: Option<Mat<f64>>,
}
