//! What is done to rows one by one: norms, and sums with the residual stream.

use super::{Executor, Scratch, Shared};
use crate::kernels::Kernels;

/// A norm of a row.
#[derive(Clone, Copy, Debug)]
pub enum Norm<'a> {
    /// Root mean square (Zhang and Sennrich 2019, arXiv 1910.07467): `x / sqrt(mean(x^2) + eps) * weight`.
    Rms {
        /// `[dim]`
        weight: &'a [f32],
        /// Added to the mean square.
        eps: f32,
    },
    /// Layer norm (Ba et al. 2016, arXiv 1607.06450): `(x - mean) / sqrt(variance + eps) * weight + bias`.
    Layer {
        /// `[dim]`; without, 1.
        weight: Option<&'a [f32]>,
        /// `[dim]`; without, 0.
        bias: Option<&'a [f32]>,
        /// Added to the variance.
        eps: f32,
    },
}

impl<'a> Norm<'a> {
    pub(super) fn apply(&self, kernels: &Kernels, x: &[f32], out: &mut [f32]) {
        let fits = |values: &Option<&[f32]>| values.is_none_or(|values| values.len() == x.len());
        assert_eq!(x.len(), out.len(), "rows of a norm");
        // SAFETY: the lengths are equal, and `kernels` is available on this processor.
        unsafe {
            match *self {
                Self::Rms { weight, eps } => {
                    assert_eq!(x.len(), weight.len(), "weights of a norm");
                    let mean = (kernels.sum_squares)(x) / x.len() as f32;
                    (kernels.scale_by)(x, 1.0 / (mean + eps).sqrt(), weight, out);
                }
                Self::Layer { weight, bias, eps } => {
                    assert!([weight, bias].iter().all(fits), "weights of a norm");
                    (kernels.layer_norm)(x, eps, [weight, bias], out);
                }
            }
        }
    }

    /// The norm of row `index`, where rows take turns with the parameters.
    fn turn(&self, index: usize, width: usize) -> Norm<'a> {
        let part = |values: &'a [f32]| &values[index % (values.len() / width) * width..][..width];
        match *self {
            Self::Rms { weight, eps } => Norm::Rms { weight: part(weight), eps },
            Self::Layer { weight, bias, eps } => {
                Norm::Layer { weight: weight.map(part), bias: bias.map(part), eps }
            }
        }
    }
}

/// Does something to a row: its index, itself and room for another.
type RowJob<'a> = &'a (dyn Fn(usize, &mut [f32], &mut [f32]) + Sync);

/// Values below which one thread has them done before others are awake.
const FEW: usize = 1 << 13;

impl Executor {
    /// Norms rows of `width` values in place. Parameters for several rows are used in turn.
    ///
    /// # Panics
    /// If lengths are no multiples of `width`, or rows are wider than the executor's limits.
    pub fn norm_rows(&mut self, norm: &Norm<'_>, width: usize, rows: &mut [f32]) {
        let kernels = self.kernels;
        self.each_row(width, rows, &|index, row, copy| {
            copy.copy_from_slice(row);
            norm.turn(index, width).apply(kernels, copy, row);
        });
    }

    /// Adds `scale` times each row of `branch`, normed first if there is a norm, to the row of `rows`.
    ///
    /// # Panics
    /// If shapes do not fit each other, or rows are wider than the executor's limits.
    pub fn add_rows(
        &mut self,
        rows: &mut [f32],
        branch: &[f32],
        width: usize,
        norm: Option<&Norm<'_>>,
        scale: f32,
    ) {
        assert_eq!(rows.len(), branch.len(), "rows of a branch");
        let kernels = self.kernels;
        self.each_row(width, rows, &|index, row, copy| {
            let branch = &branch[index * width..][..width];
            let added = match norm {
                Some(norm) => {
                    norm.apply(kernels, branch, copy);
                    &*copy
                }
                None => branch,
            };
            row.iter_mut().zip(added).for_each(|(x, added)| *x += scale * added);
        });
    }

    /// Calls `f` for each row, in any order.
    fn each_row(&mut self, width: usize, rows: &mut [f32], f: RowJob<'_>) {
        assert!(width > 0 && rows.len().is_multiple_of(width), "whole rows");
        if let (true, Some(scratch)) = (rows.len() <= FEW, self.scratch.first_mut()) {
            let copy = &mut scratch.row[..width];
            rows.chunks_exact_mut(width).enumerate().for_each(|(index, row)| f(index, row, copy));
            return;
        }
        let (count, rows) = (rows.len() / width, Shared::new(rows));
        self.pool.run_with(&mut self.scratch, &|part, scratch: &mut Scratch| {
            let copy = &mut scratch.row[..width];
            for index in part.share(count) {
                // SAFETY: each row belongs to one part.
                f(index, unsafe { rows.part(index * width..(index + 1) * width) }, copy);
            }
        });
    }
}
