//! The sweep over the columns of 16 rows at a time.

use smolt::runtime::Pool;

use super::factor::Factor;
use super::grid::{Format, Levels, Scale, Span, Units};

/// Rows that go together; each operation is done for all of them, so that compilers find vector instructions.
const LANES: usize = 16;
/// Most columns with a scale of their own.
const MOST_COLS: usize = 32;

type Lanes = [f32; LANES];

/// A matrix to be quantized.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// `[row][column]`
    pub(crate) weights: &'a [f32],
    pub(crate) cols: usize,
}

/// A quantized matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Quantized {
    /// Rows of blocks, as in the file.
    pub(crate) bytes: Vec<u8>,
    /// The sum over rows of `(w - q) H (w - q)'`.
    pub(crate) loss: f64,
}

/// The factor in the form the sweep reads it.
struct Steps<'f> {
    factor: &'f Factor,
    cols: usize,
    /// `[place][place]`, `L` in f32: the lower triangle.
    lower: Vec<f32>,
    /// `[place]`, `1 / L_jj`.
    inverse: Vec<f32>,
}

impl<'f> Steps<'f> {
    fn new(factor: &'f Factor) -> Self {
        let cols = factor.order().len();
        let mut lower = vec![0.0; cols * cols];
        for (i, row) in lower.chunks_exact_mut(cols).enumerate() {
            for (j, value) in row[..=i].iter_mut().enumerate() {
                *value = factor.at(i, j) as f32;
            }
        }
        let inverse = (0..cols).map(|i| (1.0 / factor.at(i, i)) as f32).collect();
        Self { factor, cols, lower, inverse }
    }

    /// `L` of a row, from place `from` on.
    fn row(&self, row: usize, from: usize, len: usize) -> &[f32] {
        &self.lower[row * self.cols + from..][..len]
    }
}

/// Quantizes `matrix` so that its outputs change least. The columns of `factor` must have been ordered in blocks of
/// [`Format::cols`].
pub(crate) fn quantize(pool: &mut Pool, matrix: Matrix<'_>, factor: &Factor, format: Format) -> Quantized {
    let steps = Steps::new(factor);
    let tile_len = matrix.cols * LANES;
    let tiles = matrix.weights.len().div_ceil(tile_len);
    let mut workers: Vec<Vec<Quantized>> = vec![Vec::new(); pool.threads()];
    pool.run_with(&mut workers, &|part, done| {
        for rows in matrix.weights.chunks(tile_len).take(part.share(tiles).end).skip(part.share(tiles).start)
        {
            done.push(Sweep::new(&steps, format, rows).run());
        }
    });
    let tiles = workers.concat();
    let bytes = tiles.iter().flat_map(|tile| &tile.bytes).copied().collect();
    // In the order of the rows: the number of threads does not change the sum.
    Quantized { bytes, loss: tiles.iter().map(|tile| tile.loss).sum() }
}

/// Up to 16 rows under way.
struct Sweep<'s> {
    steps: &'s Steps<'s>,
    format: Format,
    rows: usize,
    /// `[place]`, what is left of the weights.
    working: Vec<Lanes>,
    /// `[row][super-block]`
    units: Vec<Vec<Units>>,
    /// `[row][block]` in the order of the file.
    scales: Vec<Vec<Scale>>,
    /// `[row][column]` in the order of the file.
    codes: Vec<Vec<i16>>,
    loss: f64,
}

/// A block's part of the sweep: places `start..start + cols`.
struct Corner<'s> {
    steps: &'s Steps<'s>,
    start: usize,
    cols: usize,
}

/// What a trial with given scales gave.
struct Trial {
    loss: Lanes,
    levels: [Lanes; MOST_COLS],
    errors: [Lanes; MOST_COLS],
}

/// One scale per row.
#[derive(Clone, Copy)]
struct Scales {
    d: Lanes,
    inverse: Lanes,
    m: Lanes,
}

impl Scales {
    fn new(scales: &[Scale; LANES]) -> Self {
        let d = scales.map(|scale| scale.d);
        Self { d, inverse: d.map(|d| if d == 0.0 { 0.0 } else { 1.0 / d }), m: scales.map(|scale| scale.m) }
    }
}

/// `w -= factor * error`, row by row.
#[inline(always)]
fn take(w: &mut Lanes, factor: f32, error: &Lanes) {
    for (w, error) in w.iter_mut().zip(error) {
        *w -= factor * error;
    }
}

/// The integer nearest to `x`, ties to even, for magnitudes below 2^22.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// The value of the IQ4_NL book nearest to `x`.
fn nearest_in_book(x: f32) -> f32 {
    const BOOK: [f32; 512] = book();
    // The cast saturates at 0.
    BOOK[usize::from((2.0 * x + 256.0) as u16).min(511)]
}

/// The value of the book nearest to `x` for each `floor(2 x)` from -256 to 255: midpoints of neighbours are
/// multiples of one half.
const fn book() -> [f32; 512] {
    let values = smolt::blocks::IQ4_NL_VALUES;
    let (mut table, mut code, mut i) = ([0.0; 512], 0, 0);
    while i < 512 {
        while code < 15 && i as i32 - 256 >= values[code] as i32 + values[code + 1] as i32 {
            code += 1;
        }
        table[i] = values[code] as f32;
        i += 1;
    }
    table
}

impl Corner<'_> {
    /// Quantizes the columns of the block, one after the other, with the given scales.
    fn sweep(&self, working: &[Lanes], levels: Levels, scales: &Scales) -> Trial {
        match levels {
            Levels::Integers(least, most) => {
                let (least, most) = (f32::from(least), f32::from(most));
                let level = |x: f32| {
                    let x = if x > least { x } else { least };
                    nearest(if x < most { x } else { most })
                };
                self.sweep_with(working, scales, level)
            }
            Levels::Book => self.sweep_with(working, scales, nearest_in_book),
        }
    }

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "six arrays side by side")]
    fn sweep_with(&self, working: &[Lanes], scales: &Scales, level: impl Fn(f32) -> f32) -> Trial {
        let zero = [[0.0; LANES]; MOST_COLS];
        let mut trial = Trial { loss: [0.0; LANES], levels: zero, errors: zero };
        let mut left = zero;
        left[..self.cols].copy_from_slice(&working[self.start..][..self.cols]);
        for j in 0..self.cols {
            let row = self.steps.row(self.start + j, self.start, self.cols);
            // What the block's earlier columns leave to this one to make up for.
            let mut w = left[j];
            for (factor, error) in row[..j].iter().zip(&trial.errors) {
                take(&mut w, *factor, error);
            }
            let inverse = self.steps.inverse[self.start + j];
            for lane in 0..LANES {
                let level = level((w[lane] - scales.m[lane]) * scales.inverse[lane]);
                let error = (w[lane] - (scales.d[lane] * level + scales.m[lane])) * inverse;
                trial.levels[j][lane] = level;
                trial.errors[j][lane] = error;
                trial.loss[lane] += error * error;
            }
        }
        trial
    }

    /// The errors of the block's columns if nothing is rounded: linear in `values`, `[column]`.
    fn errors(&self, values: &[Lanes]) -> [Lanes; MOST_COLS] {
        let mut errors = [[0.0; LANES]; MOST_COLS];
        for j in 0..self.cols {
            let row = self.steps.row(self.start + j, self.start, self.cols);
            let inverse = self.steps.inverse[self.start + j];
            let mut value = values[j];
            for (factor, error) in row[..j].iter().zip(&errors) {
                take(&mut value, *factor, error);
            }
            errors[j] = value.map(|value| value * inverse);
        }
        errors
    }

    /// The scales that cost least with the levels of a trial: a linear least-squares problem per row, since errors
    /// are linear in what is taken off the weights.
    fn refit(&self, working: &[Lanes], levels: &[Lanes; MOST_COLS], has_min: bool) -> [Scale; LANES] {
        let w = self.errors(&working[self.start..][..self.cols]);
        let v = self.errors(&levels[..self.cols]);
        let one = if has_min { self.errors(&[[1.0; LANES]; MOST_COLS]) } else { [[0.0; LANES]; MOST_COLS] };
        std::array::from_fn(|lane| {
            let dot = |a: &[Lanes; MOST_COLS], b: &[Lanes; MOST_COLS]| -> f32 {
                (0..self.cols).map(|j| a[j][lane] * b[j][lane]).sum()
            };
            let (vv, wv) = (dot(&v, &v), dot(&w, &v));
            if !has_min {
                return Scale { d: if vv > 0.0 { wv / vv } else { 0.0 }, m: 0.0 };
            }
            let (oo, ov, wo) = (dot(&one, &one), dot(&one, &v), dot(&w, &one));
            let determinant = vv * oo - ov * ov;
            if determinant > 1e-6 * vv * oo {
                Scale { d: (wv * oo - wo * ov) / determinant, m: (wo * vv - wv * ov) / determinant }
            } else {
                Scale { d: 0.0, m: wo / oo }
            }
        })
    }
}

impl<'s> Sweep<'s> {
    fn new(steps: &'s Steps<'s>, format: Format, weights: &[f32]) -> Self {
        let cols = steps.cols;
        let rows = weights.len() / cols;
        let order = steps.factor.order();
        let lanes = |column: &usize| {
            std::array::from_fn(|lane| weights.get(lane * cols + column).copied().unwrap_or(0.0))
        };
        Self {
            steps,
            format,
            rows,
            working: order.iter().map(lanes).collect(),
            units: weights.chunks_exact(cols).map(|row| format.units(row)).collect(),
            scales: vec![vec![Scale::default(); cols / format.cols]; rows],
            codes: vec![vec![0; cols]; rows],
            loss: 0.0,
        }
    }

    fn run(mut self) -> Quantized {
        for start in (0..self.steps.cols).step_by(self.format.cols) {
            self.block(start);
        }
        let mut bytes = Vec::new();
        for row in 0..self.rows {
            self.format.encode(&self.scales[row], &self.units[row], &self.codes[row], &mut bytes);
        }
        Quantized { bytes, loss: self.loss }
    }

    /// Chooses the scales of a block, rounds its columns and lets all later columns make up for it.
    fn block(&mut self, start: usize) {
        let cols = self.format.cols;
        let corner = Corner { steps: self.steps, start, cols };
        let block = self.steps.factor.order()[start] / cols;
        let (scales, trial) = self.choose(&corner, block);
        for row in 0..self.rows {
            self.scales[row][block] = scales[row];
            for (j, levels) in trial.levels[..cols].iter().enumerate() {
                self.codes[row][self.steps.factor.order()[start + j]] = self.format.code(levels[row]);
            }
            self.loss += f64::from(trial.loss[row]);
        }
        for place in start + cols..self.steps.cols {
            let factors = self.steps.row(place, start, cols);
            for (factor, error) in factors.iter().zip(&trial.errors) {
                take(&mut self.working[place], *factor, error);
            }
        }
    }

    /// The cheapest scales of a block, and what they give.
    fn choose(&self, corner: &Corner<'_>, block: usize) -> ([Scale; LANES], Trial) {
        let spans = self.spans(corner);
        let per_super = 256 / self.format.cols;
        let units = |lane: usize| {
            let units = self.units.get(lane).and_then(|units| units.get(block / per_super));
            units.copied().unwrap_or_default()
        };
        let possible = |wishes: [Scale; LANES]| -> [Scale; LANES] {
            std::array::from_fn(|lane| self.format.nearest(wishes[lane], units(lane)))
        };
        let sweep =
            |scales: &[Scale; LANES]| corner.sweep(&self.working, self.format.levels, &Scales::new(scales));
        let mut best = ([Scale::default(); LANES], [f32::INFINITY; LANES]);
        let mut keep_better = |scales: &[Scale; LANES], loss: &Lanes| {
            let mut any = false;
            for lane in 0..LANES {
                if loss[lane] < best.1[lane] {
                    (best.0[lane], best.1[lane]) = (scales[lane], loss[lane]);
                    any = true;
                }
            }
            (any, best.0)
        };
        for index in 0..self.format.candidates() {
            let scales = possible(std::array::from_fn(|lane| self.format.candidate(index, spans[lane])));
            keep_better(&scales, &sweep(&scales).loss);
        }
        let (_, mut scales) = keep_better(&[Scale::default(); LANES], &[f32::INFINITY; LANES]);
        let mut trial = sweep(&scales);
        for _ in 0..self.format.refits {
            let refitted = possible(corner.refit(&self.working, &trial.levels, self.format.has_min));
            let (any, better) = keep_better(&refitted, &sweep(&refitted).loss);
            if !any {
                break;
            }
            scales = better;
            trial = sweep(&scales);
        }
        (scales, trial)
    }

    /// What the working weights of a block span, row by row.
    fn spans(&self, corner: &Corner<'_>) -> [Span; LANES] {
        std::array::from_fn(|lane| {
            let values = self.working[corner.start..][..corner.cols].iter().map(|lanes| lanes[lane]);
            values.fold(Span { low: 0.0, high: 0.0 }, |span, value| Span {
                low: span.low.min(value),
                high: span.high.max(value),
            })
        })
    }
}
