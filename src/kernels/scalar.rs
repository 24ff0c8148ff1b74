//! The specification: every kernel in plain Rust, one value at a time.
//!
//! Instruction-set kernels return the same bits. Where an order of additions matters it is part of the
//! specification: a matrix product accumulates each row block by block with fused multiply-adds, and sums
//! over a vector use [`VIRTUAL`] interleaved partial sums, added pairwise at the end.

use super::Kernels;
use super::acts::{ActScale, Acts, QuantSink};
use super::generic::MatmulJob;
use super::layout::{BLOCK, PackedRow, Packing};

/// Partial sums of a reduction: element `i` goes to sum `i % 16`.
pub(crate) const VIRTUAL: usize = 16;

/// The dot product of a row of quantized weights and token `index` of a tile of `width` tokens.
///
/// With integer sums `s`, weight scales `dw`, activation scales `da`: `acc = fma(s, dw * da, acc)` per block
/// (per 16 columns for Q6_K), then `acc = fma(min, da * sum(q), acc)` for formats with a minimum.
fn dot_quantized(row: &PackedRow<'_>, tile: (&[i8], &[ActScale]), width: usize, index: usize) -> f32 {
    let mut acc = 0.0f32;
    let two_scales = row.halves();
    for (b, scale) in tile.1.iter().skip(index).step_by(width).enumerate() {
        let codes = &tile.0[(b * width + index) * BLOCK..][..BLOCK];
        let terms = row.terms(b);
        let sum = |range: std::ops::Range<usize>| -> i32 {
            range.map(|k| terms.codes[k] * i32::from(codes[k])).sum()
        };
        if two_scales {
            for half in 0..2 {
                let s = sum(16 * half..16 * half + 16) as f32;
                acc = s.mul_add(terms.scales[half] * scale.d, acc);
            }
        } else {
            acc = (sum(0..BLOCK) as f32).mul_add(terms.scales[0] * scale.d, acc);
        }
        if row.has_min() {
            acc = terms.min.mul_add(scale.ds, acc);
        }
    }
    acc
}

/// The dot product of a row of float weights and token `index` of a tile: two partial sums, of the even and
/// of the odd columns.
fn dot_float(row: &PackedRow<'_>, tile: &[f32], width: usize, index: usize) -> f32 {
    let mut acc = [0.0f32; 2];
    for (k, x) in tile.iter().skip(index).step_by(width).enumerate() {
        acc[k % 2] = row.float(k).mul_add(*x, acc[k % 2]);
    }
    acc[0] + acc[1]
}

/// The dot product of a row of weights and one token.
pub(crate) fn dot(row: &PackedRow<'_>, acts: &Acts, token: usize) -> f32 {
    let tile = acts.tiles().find(|tile| token < tile.start + tile.width).expect("a token of the activations");
    let index = token - tile.start;
    if row.is_float() {
        dot_float(row, acts.floats(tile), tile.width, index)
    } else {
        dot_quantized(row, acts.quantized(tile), tile.width, index)
    }
}

/// Rounds a row to 8 bits per block of 32: `d = max|x| / 127`, `q = round(x * (127 / max|x|))`, ties to even.
/// A block whose largest magnitude is below the normal range becomes zero. One that holds a value that is not
/// finite gets a scale that is not a number, so that nothing computed of it is one.
pub(crate) fn quantize(row: &[f32], sink: &mut QuantSink<'_>) {
    for (b, x) in row.chunks_exact(BLOCK).enumerate() {
        if x.iter().any(|v| !v.is_finite()) {
            sink.put_poison(b);
            continue;
        }
        let max = x.iter().fold(0.0f32, |max, v| max.max(v.abs()));
        let inverse = if max >= f32::MIN_POSITIVE { 127.0 / max } else { 0.0 };
        let codes = sink.codes(b);
        for (code, v) in codes.iter_mut().zip(x) {
            *code = (v * inverse).round_ties_even() as i8;
        }
        let sums = [0, 16].map(|at| codes[at..at + 16].iter().map(|&q| i32::from(q)).sum());
        sink.put(b, if inverse == 0.0 { 0.0 } else { max / 127.0 }, sums);
    }
}

/// Adds the partial sums pairwise: 8 apart, then 4, 2, 1.
pub(crate) fn reduce(mut lanes: [f32; VIRTUAL]) -> f32 {
    for apart in [8, 4, 2, 1] {
        for i in 0..apart {
            lanes[i] += lanes[i + apart];
        }
    }
    lanes[0]
}

/// Sum of squares.
pub(crate) fn sum_squares(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; VIRTUAL];
    for (i, v) in x.iter().enumerate() {
        lanes[i % VIRTUAL] = v.mul_add(*v, lanes[i % VIRTUAL]);
    }
    reduce(lanes)
}

/// `out[i] = (x[i] * scale) * weight[i]`.
pub(crate) fn scale_by(x: &[f32], scale: f32, weight: &[f32], out: &mut [f32]) {
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = (x * scale) * weight;
    }
}

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, the first exact in few bits (Cody and Waite's reduction).
pub(crate) const LN2_HIGH: f32 = 0.693_359_4;
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
/// Arguments are clamped to where the result is a normal number.
pub(crate) const EXP_RANGE: (f32, f32) = (-87.0, 88.0);
/// Taylor coefficients of exp from degree 7 down: the remainder on |r| <= ln 2 / 2 is below a tenth of an ulp.
pub(crate) const EXP_POLYNOMIAL: [f32; 8] =
    [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// e^x to 2 ulp, within [`EXP_RANGE`].
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.max(EXP_RANGE.0).min(EXP_RANGE.1);
    let n = (x * LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let p = EXP_POLYNOMIAL[1..].iter().fold(EXP_POLYNOMIAL[0], |p, c| p.mul_add(r, *c));
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// Replaces scores by `exp(score - max)` and returns their sum.
pub(crate) fn softmax(scores: &mut [f32]) -> f32 {
    let max = scores.iter().fold(f32::NEG_INFINITY, |max, v| max.max(*v));
    let mut lanes = [0.0f32; VIRTUAL];
    for (i, score) in scores.iter_mut().enumerate() {
        *score = exp(*score - max);
        lanes[i % VIRTUAL] += *score;
    }
    reduce(lanes)
}

/// `gate[i] = silu(gate[i]) * up[i]` with `silu(x) = x / (1 + exp(-x))`.
pub(crate) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// Scores of queries against keys stored as `[position / 16][dim][16]` halves:
/// `out[query][position] = scale * sum over dim of query[dim] * key[dim]`, fused in order of `dim`.
pub(crate) fn scores(queries: &[f32], keys: &[u16], dim: usize, scale: f32, out: &mut [f32], stride: usize) {
    for (query, out) in queries.chunks_exact(dim).zip(out.chunks_mut(stride)) {
        for (block, out) in keys.chunks_exact(dim * VIRTUAL).zip(out.chunks_exact_mut(VIRTUAL)) {
            let mut acc = [0.0f32; VIRTUAL];
            for (q, column) in query.iter().zip(block.chunks_exact(VIRTUAL)) {
                for (acc, k) in acc.iter_mut().zip(column) {
                    *acc = half::f16::from_bits(*k).to_f32().mul_add(*q, *acc);
                }
            }
            for (out, acc) in out.iter_mut().zip(acc) {
                *out = acc * scale;
            }
        }
    }
}

/// `out[query][dim] += sum over positions of weights[query][position] * values[position][dim]`, fused in
/// order of positions. `values` holds `positions * dim` halves.
pub(crate) fn weighted(weights: &[f32], weight_stride: usize, values: &[u16], dim: usize, out: &mut [f32]) {
    for (out, weights) in out.chunks_exact_mut(dim).zip(weights.chunks(weight_stride)) {
        for (value, weight) in values.chunks_exact(dim).zip(weights) {
            for (out, v) in out.iter_mut().zip(value) {
                *out = half::f16::from_bits(*v).to_f32().mul_add(*weight, *out);
            }
        }
    }
}

/// The specification as a kernel table. It packs in groups of four rows; any grouping would do.
pub(crate) static KERNELS: Kernels = Kernels {
    name: "scalar",
    packing: Packing { lanes: 4, offset_bytes: false },
    widest: 1,
    is_available: || true,
    matmul: |_| matmul_job,
    quantize,
    sum_squares,
    scale_by,
    softmax,
    silu_mul,
    scores,
    weighted,
};

/// # Safety
/// `job.out` is valid for all tokens and the rows of the job's groups.
unsafe fn matmul_job(job: &MatmulJob<'_>) {
    let shape = job.weights.shape();
    let lanes = shape.packing.lanes;
    for r in job.groups.start * lanes..shape.rows.min(job.groups.end * lanes) {
        let row = job.weights.row(r);
        for token in 0..job.acts.tokens() {
            let value = dot(&row, job.acts, token);
            // SAFETY: the caller's contract.
            unsafe {
                let out = job.out.add(token * job.out_stride + r);
                *out = if job.accumulate { *out + value } else { value };
            }
        }
    }
}
