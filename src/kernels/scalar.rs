//! The specification: every kernel in plain Rust, one value at a time.
//!
//! Instruction-set kernels return the same bits. Where an order of additions matters it is part of the
//! specification: a matrix product accumulates each row block by block with fused multiply-adds, and sums
//! over a vector use [`VIRTUAL`] interleaved partial sums, added pairwise at the end.

use super::Kernels;
use super::activation::Activation;
use super::acts::{ActScale, Acts, QuantSink};
use super::generic::{ChunkJob, MatmulJob};
use super::kv::{CHUNK, KvType, Partial, Stored};
use super::layout::{BLOCK, Packing};
use super::packed_row::PackedRow;

/// Partial sums of a reduction: element `i` goes to sum `i % 16`.
pub(crate) const VIRTUAL: usize = 16;

/// The dot product of a row of quantized weights and token `index` of a tile of `width` tokens.
///
/// With integer sums `s`, weight scales `dw`, activation scales `da`: `acc = fma(s, dw * da, acc)` per block
/// (per 16 columns where they have a scale), then `acc = fma(min, da * sum(q), acc)` for formats with a minimum, likewise.
fn dot_quantized(row: &PackedRow<'_>, tile: (&[i8], &[ActScale]), width: usize, index: usize) -> f32 {
    let mut acc = 0.0f32;
    let (two_scales, has_min) = (row.form().has_halves(), row.form().has_min());
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
        if has_min && two_scales {
            for (min, sum) in terms.mins.into_iter().zip([scale.first, scale.sum - scale.first]) {
                acc = min.mul_add(scale.d * sum as f32, acc);
            }
        } else if has_min {
            acc = terms.mins[0].mul_add(scale.ds, acc);
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
    if row.form().is_float() {
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

/// Joins partial results pairwise: 8 apart, then 4, 2, 1.
#[inline(always)]
pub(crate) fn reduce(lanes: [f32; VIRTUAL], join: impl Fn(f32, f32) -> f32) -> f32 {
    let lanes: [f32; 8] = std::array::from_fn(|i| join(lanes[i], lanes[i + 8]));
    let lanes: [f32; 4] = std::array::from_fn(|i| join(lanes[i], lanes[i + 4]));
    join(join(lanes[0], lanes[2]), join(lanes[1], lanes[3]))
}

/// Sum of squares.
pub(crate) fn sum_squares(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; VIRTUAL];
    for (i, v) in x.iter().enumerate() {
        lanes[i % VIRTUAL] = v.mul_add(*v, lanes[i % VIRTUAL]);
    }
    reduce(lanes, |a, b| a + b)
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

/// Replaces scores by `exp(score - max)` and returns the maximum and the sum.
pub(crate) fn softmax(scores: &mut [f32]) -> (f32, f32) {
    let max = scores.iter().fold(f32::NEG_INFINITY, |max, v| max.max(*v));
    let mut lanes = [0.0f32; VIRTUAL];
    for (i, score) in scores.iter_mut().enumerate() {
        *score = exp(*score - max);
        lanes[i % VIRTUAL] += *score;
    }
    (max, reduce(lanes, |a, b| a + b))
}

/// Layer norm (Ba et al. 2016, arXiv 1607.06450): `(x - mean) / sqrt(variance + eps)`, then [`affine`].
pub(crate) fn layer_norm(x: &[f32], eps: f32, parameters: [Option<&[f32]>; 2], out: &mut [f32]) {
    let mut lanes = [0.0f32; VIRTUAL];
    x.iter().enumerate().for_each(|(i, v)| lanes[i % VIRTUAL] += v);
    let mean = reduce(lanes, |a, b| a + b) / x.len() as f32;
    out.iter_mut().zip(x).for_each(|(out, x)| *out = x - mean);
    let scale = 1.0 / (sum_squares(out) / x.len() as f32 + eps).sqrt();
    affine(out, scale, parameters);
}

/// `x[i] = (x[i] * scale) * weight[i] + bias[i]`, where there are weights and biases.
pub(crate) fn affine(x: &mut [f32], scale: f32, [weight, bias]: [Option<&[f32]>; 2]) {
    for (i, x) in x.iter_mut().enumerate() {
        let scaled = *x * scale;
        let weighted = weight.map_or(scaled, |weight| scaled * weight[i]);
        *x = bias.map_or(weighted, |bias| weighted + bias[i]);
    }
}

/// `erfc(x / sqrt(2)) = t exp(-x^2 / 2 + polynomial(t))` with `t = 1 / (1 + ERFC_SCALE x)`, to 1.2e-7 of itself (Press et
/// al., Numerical Recipes in C, 6.2).
pub(crate) const ERFC_SCALE: f32 = 0.353_553_4;
/// From the highest power down.
pub(crate) const ERFC_POLYNOMIAL: [f32; 10] = [
    0.170_872_77,
    -0.822_152_2,
    1.488_515_9,
    -1.135_204,
    0.278_868_08,
    -0.186_288_06,
    0.096_784_18,
    0.374_091_96,
    1.000_023_7,
    -1.265_512_2,
];
/// `2 sqrt(2 / pi)`, and this times 0.044715: `0.5 (1 + tanh(u)) = 1 / (1 + exp(-2 u))`.
pub(crate) const GELU_TANH: [f32; 2] = [1.595_769, 0.071_354_814];

/// One value of an activation. Whatever is not a number stays so.
fn activated(kind: Activation, x: f32) -> f32 {
    let relu = (x + x.abs()) * 0.5;
    match kind {
        Activation::Silu => x / (1.0 + exp(-x)),
        Activation::Gelu => {
            let size = x.abs();
            let t = 1.0 / size.mul_add(ERFC_SCALE, 1.0);
            let p = ERFC_POLYNOMIAL[1..].iter().fold(ERFC_POLYNOMIAL[0], |p, c| p.mul_add(t, *c));
            let tail = t * exp((size * -0.5).mul_add(size, p));
            (size * -0.5).mul_add(tail, relu)
        }
        Activation::GeluTanh => {
            let u = (x * x).mul_add(-GELU_TANH[1], -GELU_TANH[0]) * x;
            x / (1.0 + exp(u))
        }
        Activation::Relu => relu,
        Activation::ReluSquared => relu * relu,
    }
}

/// `x[i] = f(x[i]) * factors[i]`, without factors `f(x[i])`.
pub(crate) fn activate(kind: Activation, x: &mut [f32], factors: Option<&[f32]>) {
    for (i, x) in x.iter_mut().enumerate() {
        let y = activated(kind, *x);
        *x = factors.map_or(y, |factors| y * factors[i]);
    }
}

/// A half of the cache.
fn half(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

/// Value `index` of the cache, where it is stored as a float.
fn float(kind: KvType, codes: &[u16], index: usize) -> f32 {
    match kind {
        KvType::F32 => bytemuck::cast_slice::<u16, f32>(codes)[index],
        _ => half(codes[index]),
    }
}

/// The score of a query at a position of the chunk: fused in order of dimensions, or with 8-bit codes block
/// by block as in a matrix product.
fn score(job: &ChunkJob<'_>, query: usize, position: usize) -> f32 {
    let (row, codes) = (job.kv.row(), job.keys.codes);
    let (block, lane) = (position / VIRTUAL * VIRTUAL * row, position % VIRTUAL);
    if job.kv.kind != KvType::Q8_0 {
        let query = &job.queries[query * row..][..job.kv.dim];
        let key = |d: usize| float(job.kv.kind, codes, block + d * VIRTUAL + lane);
        return query.iter().enumerate().fold(0.0, |acc, (d, q)| key(d).mul_add(*q, acc));
    }
    let codes: &[i8] = bytemuck::cast_slice(codes);
    (0..job.kv.scales()).fold(0.0, |acc, b| {
        let scale = half(job.keys.scales[b * CHUNK + position]);
        let at = query * job.kv.scales() + b;
        let product = |k: usize| {
            let key = codes[block + ((b * BLOCK + k) / 4 * VIRTUAL + lane) * 4 + k % 4];
            i32::from(key) * i32::from(job.codes[at * BLOCK + k])
        };
        let sum: i32 = (0..BLOCK).map(product).sum();
        (sum as f32).mul_add(scale * job.scales[at].d, acc)
    })
}

/// Attends from the queries of a job to its chunk. Per query: scores, less slope times distance, [`softmax`] over
/// the positions that it sees, and the sum of `weight * value`, fused in order of positions. Where a value is a
/// code, the weight is multiplied with its scale first. A query that sees nothing has sum 0.
pub(crate) fn attend(job: &mut ChunkJob<'_>, out: &mut Partial<'_>) {
    let row = job.kv.row();
    for query in 0..job.count() {
        let seen = job.range(query);
        for position in seen.clone() {
            let loss = job.slopes.get(query % job.group).map(|slope| (job.distance(query, position), -slope));
            let score = score(job, query, position);
            let biased = loss.map_or(score, |(distance, slope)| distance.mul_add(slope, score));
            job.weights[query * CHUNK + position] = biased;
        }
        let weights = &mut job.weights[query * CHUNK..][seen.clone()];
        (out.max[query], out.sum[query]) =
            if weights.is_empty() { (f32::MIN, 0.0) } else { softmax(weights) };
        let Stored { codes, scales } = job.values;
        for (d, out) in out.mixed[query * row..][..row].iter_mut().enumerate() {
            *out = seen.clone().zip(&*weights).fold(0.0, |acc, (position, weight)| {
                let at = position * row + d;
                match job.kv.kind {
                    KvType::F16 | KvType::F32 => float(job.kv.kind, codes, at).mul_add(*weight, acc),
                    KvType::Q8_0 => {
                        let scale = half(scales[d / BLOCK * CHUNK + position]);
                        let code: &[i8] = bytemuck::cast_slice(codes);
                        f32::from(code[at]).mul_add(*weight * scale, acc)
                    }
                }
            });
        }
    }
}

/// Adds attention to further positions: with `a` and `b` the `exp` of what the maxima lack to their maximum,
/// `state * a + next * b`, fused.
pub(crate) fn merge(state: &mut Partial<'_>, next: &Partial<'_>, row: usize) {
    let rows = state.mixed.chunks_exact_mut(row).zip(next.mixed.chunks_exact(row));
    for (query, (mixed, next_mixed)) in rows.enumerate() {
        let max = next.max[query].max(state.max[query]);
        let (a, b) = (exp(state.max[query] - max), exp(next.max[query] - max));
        state.max[query] = max;
        state.sum[query] = state.sum[query].mul_add(a, next.sum[query] * b);
        for (out, next) in mixed.iter_mut().zip(next_mixed) {
            *out = out.mul_add(a, next * b);
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
    layer_norm,
    activate,
    weight_sum: super::softmax::sum,
    attend,
    merge,
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
