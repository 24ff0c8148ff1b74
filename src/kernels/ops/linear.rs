//! Linear layers: an input, perhaps normed, times one or several matrices.

use super::{Executor, Norm, OWN_TOKENS, Scratch, Shared};
use crate::kernels::acts::{Filling, QuantSink};
use crate::kernels::generic::MatmulJob;
use crate::kernels::{Activation, Acts, Forms, Kernels, PackedMatrix, PackedShape};
use crate::runtime::{Part, split};
use std::ops::Range;

/// The input of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `[token][dim]`
    pub rows: &'a [f32],
    /// Values per token.
    pub dim: usize,
    /// Applied to each row first.
    pub norm: Option<Norm<'a>>,
}

impl Input<'_> {
    pub(super) fn tokens(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// Fills activations, together with other threads; `row` is room for a row of whole blocks.
    fn fill(&self, kernels: &Kernels, filling: &Filling<'_>, row: &mut [f32]) {
        // SAFETY: the executor's kernels are available on this processor.
        let quantize = |row: &[f32], sink: &mut QuantSink<'_>| unsafe { (kernels.quantize)(row, sink) };
        filling.fill(row, &quantize, &|token, row| {
            let x = &self.rows[token * self.dim..][..self.dim];
            match &self.norm {
                Some(norm) => norm.apply(kernels, x, row),
                None => row.copy_from_slice(x),
            }
        });
    }
}

/// One matrix of a stage and where its product goes.
#[derive(Debug)]
pub struct Output<'a> {
    /// `[row][dim]`
    pub weights: PackedMatrix<'a>,
    /// `[row]`
    pub bias: Option<&'a [f32]>,
    /// `[token][row]`
    pub out: &'a mut [f32],
    /// Add to `out` instead of replacing it.
    pub accumulate: bool,
}

/// Most matrices that share the input of a stage.
const MOST_OUTPUTS: usize = 3;

/// The wide stage of a feed-forward layer: `hidden = f(wide x)`, or gated `f(wide x) * (factor x)`.
#[derive(Debug)]
pub struct FeedForward<'a> {
    /// What the activation is applied to, `[token][row]` in `out`; the result goes there.
    pub wide: Output<'a>,
    /// What it is multiplied with; `out` is scratch.
    pub factor: Option<Output<'a>>,
    /// The activation `f`.
    pub activation: Activation,
}

impl Forms {
    /// Adds the form that matrices of this shape need.
    #[must_use]
    pub fn with(self, shape: &PackedShape) -> Self {
        let float = shape.block_type.form().is_float();
        Self { codes: self.codes || !float, floats: self.floats || float }
    }
}

/// A product whose output is shared by the parts of a stage.
pub(super) struct Target<'a> {
    weights: PackedMatrix<'a>,
    bias: Option<&'a [f32]>,
    out: Shared<'a, f32>,
    accumulate: bool,
}

impl<'a> Target<'a> {
    pub(super) fn new(output: &'a mut Output<'_>, input: &Input<'_>) -> Self {
        Self::check(&output.weights, output.bias, output.out, input);
        let Output { weights, bias, ref mut out, accumulate } = *output;
        Self { weights, bias, out: Shared::new(out), accumulate }
    }

    fn check(weights: &PackedMatrix<'_>, bias: Option<&[f32]>, out: &[f32], input: &Input<'_>) {
        let shape = weights.shape();
        assert_eq!(shape.cols, input.dim, "columns and input");
        assert_eq!(out.len(), shape.rows * input.tokens(), "output rows");
        assert!(bias.is_none_or(|bias| bias.len() == shape.rows), "one bias per row");
    }

    /// Rows of a run of groups.
    pub(super) fn rows(&self, groups: &Range<usize>) -> Range<usize> {
        let shape = self.weights.shape();
        let lanes = shape.packing.lanes;
        (groups.start * lanes).min(shape.rows)..(groups.end * lanes).min(shape.rows)
    }

    /// Computes the rows of `groups`.
    ///
    /// # Safety
    /// No other thread uses these rows of the output.
    pub(super) unsafe fn compute(&self, kernels: &Kernels, groups: Range<usize>, acts: &Acts) {
        let shape = self.weights.shape();
        assert_eq!(acts.blocks(), shape.blocks());
        let rows = self.rows(&groups);
        let job = MatmulJob {
            weights: self.weights,
            groups,
            acts,
            out: self.out.start(),
            out_stride: shape.rows,
            accumulate: self.accumulate,
        };
        // SAFETY: `check` verified the output's size and the columns; the rows are ours by contract, and
        // the kernels are available and the weights packed for them.
        unsafe { (kernels.matmul)(shape.block_type)(&job) };
        let Some(bias) = self.bias else { return };
        for token in 0..acts.tokens() {
            // SAFETY: the rows are ours by contract.
            let out = unsafe { self.part(token, rows.clone()) };
            for (out, bias) in out.iter_mut().zip(&bias[rows.clone()]) {
                *out += bias;
            }
        }
    }

    /// # Safety
    /// No other thread uses these rows of the output.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps rows disjoint")]
    pub(super) unsafe fn part(&self, token: usize, rows: Range<usize>) -> &mut [f32] {
        let first = token * self.weights.shape().rows;
        // SAFETY: the caller's contract.
        unsafe { self.out.part(first + rows.start..first + rows.end) }
    }
}

/// The groups of each target that belong to `part`: the targets' groups lie end to end and are cut into
/// shares of equal bytes.
fn share<'t, 'a>(
    targets: &'t [Option<Target<'a>>],
    part: Part,
) -> impl Iterator<Item = (&'t Target<'a>, Range<usize>)> {
    let total: usize = targets.iter().flatten().map(|target| target.weights.shape().bytes()).sum();
    let mine = split(total, part);
    let mut before = 0;
    targets.iter().flatten().map(move |target| {
        let shape = target.weights.shape();
        let size = shape.group_bytes();
        // A group belongs to the part in whose share it starts.
        let first = |byte: usize| byte.saturating_sub(before).div_ceil(size).min(shape.groups());
        let groups = first(mine.start)..first(mine.end);
        before += shape.bytes();
        (target, groups)
    })
}

impl Executor {
    pub(super) fn forms<'a>(&self, shapes: impl Iterator<Item = &'a PackedMatrix<'a>>) -> Forms {
        shapes.fold(Forms::default(), |forms, matrix| {
            assert_eq!(matrix.shape().packing, self.kernels.packing, "packed for these kernels");
            forms.with(&matrix.shape())
        })
    }

    /// Calls `job` for every part with the prepared input.
    pub(super) fn run_on(&mut self, input: &Input<'_>, forms: Forms, job: &(dyn Fn(Part, &Acts) + Sync)) {
        let Self { kernels, pool, scratch, acts, .. } = self;
        let (tokens, dim) = (input.tokens(), input.dim);
        if pool.threads() > 1 && tokens <= OWN_TOKENS {
            pool.run_with(scratch, &|part, Scratch { row, acts, .. }| {
                input.fill(kernels, &acts.filling(tokens, dim, forms), row);
                job(part, acts);
            });
            return;
        }
        let filling = acts.filling(tokens, dim, forms);
        pool.run_with(scratch, &|_, scratch| input.fill(kernels, &filling, &mut scratch.row));
        let acts = &*acts;
        pool.run(&|part| job(part, acts));
    }

    /// Writes the input's rows, normed if it says so, `[token][dim]`.
    ///
    /// # Panics
    /// If `out` has another size.
    pub fn normed(&self, input: &Input<'_>, out: &mut [f32]) {
        assert_eq!(out.len(), input.rows.len());
        for (x, out) in input.rows.chunks_exact(input.dim).zip(out.chunks_exact_mut(input.dim)) {
            match &input.norm {
                Some(norm) => norm.apply(self.kernels, x, out),
                None => out.copy_from_slice(x),
            }
        }
    }

    /// Multiplies the input by each matrix.
    ///
    /// # Panics
    /// If shapes do not fit each other, or exceed the executor's limits.
    pub fn linear(&mut self, input: &Input<'_>, outputs: &mut [Output<'_>]) {
        let forms = self.forms(outputs.iter().map(|output| &output.weights));
        assert!(outputs.len() <= MOST_OUTPUTS);
        let mut outputs = outputs.iter_mut();
        let targets: [Option<Target<'_>>; MOST_OUTPUTS] =
            std::array::from_fn(|_| outputs.next().map(|output| Target::new(output, input)));
        let kernels = self.kernels;
        self.run_on(input, forms, &|part, acts| {
            for (target, groups) in share(&targets, part) {
                // SAFETY: shares of different parts are disjoint.
                unsafe { target.compute(kernels, groups, acts) };
            }
        });
    }

    /// Runs the wide stage of a feed-forward layer.
    ///
    /// # Panics
    /// If shapes do not fit each other, or exceed the executor's limits.
    pub fn feed_forward(&mut self, input: &Input<'_>, stage: &mut FeedForward<'_>) {
        let FeedForward { wide, factor, activation } = stage;
        let both = std::iter::once(&wide.weights).chain(factor.as_ref().map(|factor| &factor.weights));
        let forms = self.forms(both);
        let wide = Target::new(wide, input);
        let factor = factor.as_mut().map(|factor| Target::new(factor, input));
        let shape = wide.weights.shape();
        assert!(factor.as_ref().is_none_or(|f| f.weights.shape().rows == shape.rows), "gate and up rows");
        let (kernels, activation) = (self.kernels, *activation);
        self.run_on(input, forms, &|part, acts| {
            let groups = part.share(shape.groups());
            let rows = wide.rows(&groups);
            // SAFETY: shares of different parts are disjoint, and the kernels are available.
            unsafe {
                wide.compute(kernels, groups.clone(), acts);
                if let Some(factor) = &factor {
                    factor.compute(kernels, groups, acts);
                }
                for token in 0..input.tokens() {
                    let factors = factor.as_ref().map(|factor| &*factor.part(token, rows.clone()));
                    (kernels.activate)(activation, wide.part(token, rows.clone()), factors);
                }
            }
        });
    }
}
