//! The kernels, written once over [`Simd`].
//!
//! A matrix kernel walks the groups of a part; for each it walks the tiles of tokens and keeps one
//! accumulator vector (a lane per row) per token. For each block of 32 columns the weights are unpacked once
//! to bytes and used for every token of the tile. Symmetric formats store unsigned codes; their zero point
//! enters as the start value of the integer sum, `-zero * sum(activations)`, so unpacking needs no
//! subtraction.

use super::acts::{ActScale, Acts, QuantSink, Tile};
use super::layout::{BLOCK, Offsets, PackedMatrix, Planes};
use super::scalar::{self, VIRTUAL};
use super::simd::Simd;
use crate::blocks::{BlockType, IQ4_NL_VALUES};
use std::ops::Range;

/// One part's share of a matrix product.
pub(crate) struct MatmulJob<'a> {
    /// The weights.
    pub(crate) weights: PackedMatrix<'a>,
    /// Groups of rows to compute.
    pub(crate) groups: Range<usize>,
    /// The activations.
    pub(crate) acts: &'a Acts,
    /// `[token][row]`: the first row of the matrix for token 0.
    pub(crate) out: *mut f32,
    /// Floats from one token to the next.
    pub(crate) out_stride: usize,
    /// Add to `out` instead of replacing it.
    pub(crate) accumulate: bool,
}

/// A block of a group, and the values it shares with seven others in the K formats.
#[derive(Clone, Copy)]
pub(crate) struct PackedBlock {
    start: *const u8,
    supers: *const u8,
}

/// How a quantized format's blocks are unpacked and scaled. Implementations hold no data.
pub(crate) trait Format<S: Simd> {
    /// A type with this format's planes.
    const TYPE: BlockType;
    /// Where the planes lie.
    const AT: Offsets = Offsets::new(Planes::of(Self::TYPE), S::LANES);

    /// Adds a block to the accumulator of each token of a tile of `T`: `codes` and `scales` are the
    /// activations of the same 32 columns.
    ///
    /// # Safety
    /// As for [`Simd`]; the block is in this format, and the tile has `T` tokens.
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    );
}

/// Eight dwords of low and high nibbles: columns 0..16, then 16..32.
#[inline(always)]
unsafe fn nibbles<S: Simd>(codes: *const u8) -> [S::B; 8] {
    // SAFETY: the caller's contract: four dwords per lane.
    unsafe {
        let packed: [S::B; 4] = [0, 1, 2, 3].map(|i| S::bytes(codes.add(i * 4 * S::LANES)));
        let low = packed.map(|x| S::low(x));
        let high = packed.map(|x| S::high(x));
        [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
    }
}

/// [`nibbles`], with the fifth bits of the plane behind them if there is one.
#[inline(always)]
unsafe fn unsigned_codes<S: Simd, const FIVE_BITS: bool>(codes: *const u8) -> [S::B; 8] {
    // SAFETY: the caller's contract: four dwords per lane, and one more with `FIVE_BITS`.
    unsafe {
        let c = nibbles::<S>(codes);
        if !FIVE_BITS {
            return c;
        }
        let bits = S::bytes(codes.add(16 * S::LANES));
        [
            S::with_bit::<0>(c[0], bits),
            S::with_bit::<1>(c[1], bits),
            S::with_bit::<2>(c[2], bits),
            S::with_bit::<3>(c[3], bits),
            S::with_bit::<4>(c[4], bits),
            S::with_bit::<5>(c[5], bits),
            S::with_bit::<6>(c[6], bits),
            S::with_bit::<7>(c[7], bits),
        ]
    }
}

#[inline(always)]
unsafe fn dot<S: Simd, const FIVE_BITS: bool>(weights: &[S::B; 8], acts: *const i8, start: i32) -> S::I {
    // SAFETY: the caller's contract: 32 activations.
    unsafe { if FIVE_BITS { S::dot::<5, 8>(weights, acts, start) } else { S::dot::<4, 8>(weights, acts, start) } }
}

/// Q4_0 (zero 8) and, with `FIVE_BITS`, Q5_0 (zero 16): a half scale.
pub(crate) struct Symmetric<const FIVE_BITS: bool>;
/// Q4_1 and Q5_1: a half scale and a half minimum.
pub(crate) struct Affine<const FIVE_BITS: bool>;
/// Q4_K and Q5_K: byte scales and minima under two halves per 256 columns.
pub(crate) struct Super<const FIVE_BITS: bool>;
/// Q6_K: six bits, a signed byte scale per 16 columns under a half per 256.
pub(crate) struct SixBits;
/// Q8_0: bytes and a half scale.
pub(crate) struct Bytes;
/// IQ4_NL: nibbles index a table; a half scale.
pub(crate) struct Table;

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Symmetric<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5_0 } else { BlockType::Q4_0 };

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights = unsigned_codes::<S, FIVE_BITS>(block.start);
            let d = S::from_f16(block.start.add(at.scales).cast());
            let zero = if FIVE_BITS { 16 } else { 8 };
            for t in 0..T {
                let scale = &*scales.add(t);
                let sum = dot::<S, FIVE_BITS>(&weights, codes.add(t * BLOCK), -zero * scale.sum);
                acc[t] = S::fma(S::from_i32(sum), S::mul(d, S::splat(scale.d)), acc[t]);
            }
        }
    }
}

/// Adds unsigned codes with a scale and a minimum per row.
#[inline(always)]
unsafe fn add_affine<S: Simd, const FIVE_BITS: bool, const T: usize>(
    weights: &[S::B; 8],
    (d, m): (S::F, S::F),
    codes: *const i8,
    scales: *const ActScale,
    acc: &mut [S::F; T],
) {
    // SAFETY: the caller's contract: `T` tokens.
    unsafe {
        for t in 0..T {
            let scale = &*scales.add(t);
            let sum = dot::<S, FIVE_BITS>(weights, codes.add(t * BLOCK), 0);
            acc[t] = S::fma(S::from_i32(sum), S::mul(d, S::splat(scale.d)), acc[t]);
            acc[t] = S::fma(m, S::splat(scale.ds), acc[t]);
        }
    }
}

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Affine<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5_1 } else { BlockType::Q4_1 };

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights = unsigned_codes::<S, FIVE_BITS>(block.start);
            let d = S::from_f16(block.start.add(at.scales).cast());
            let m = S::from_f16(block.start.add(at.mins).cast());
            add_affine::<S, FIVE_BITS, T>(&weights, (d, m), codes, scales, acc);
        }
    }
}

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Super<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5K } else { BlockType::Q4K };

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights = unsigned_codes::<S, FIVE_BITS>(block.start);
            let d = S::from_f16(block.supers.cast());
            let dmin = S::from_f16(block.supers.add(at.dmin).cast());
            let d = S::mul(d, S::from_u8(block.start.add(at.scales)));
            let m = S::mul(dmin, S::from_u8(block.start.add(at.mins)));
            let m = S::mul(m, S::splat(-1.0));
            add_affine::<S, FIVE_BITS, T>(&weights, (d, m), codes, scales, acc);
        }
    }
}

impl<S: Simd> Format<S> for SixBits {
    const TYPE: BlockType = BlockType::Q6K;

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let c = nibbles::<S>(block.start);
            let d = S::from_f16(block.supers.cast());
            for half in 0..2 {
                let bits = S::bytes(block.start.add(at.high + half * 4 * S::LANES));
                let weights = [
                    S::with_field::<0>(c[4 * half], bits),
                    S::with_field::<1>(c[4 * half + 1], bits),
                    S::with_field::<2>(c[4 * half + 2], bits),
                    S::with_field::<3>(c[4 * half + 3], bits),
                ];
                let dw = S::mul(d, S::from_i8(block.start.add(at.scales + half * S::LANES).cast()));
                for t in 0..T {
                    let scale = &*scales.add(t);
                    let sum = if half == 0 { scale.first } else { scale.sum - scale.first };
                    let sum = S::dot::<6, 4>(&weights, codes.add(t * BLOCK + 16 * half), -32 * sum);
                    acc[t] = S::fma(S::from_i32(sum), S::mul(dw, S::splat(scale.d)), acc[t]);
                }
            }
        }
    }
}

/// Adds stored 8-bit codes.
#[inline(always)]
unsafe fn add_bytes<S: Simd, const T: usize>(
    weights: &[S::B; 8],
    d: S::F,
    codes: *const i8,
    scales: *const ActScale,
    acc: &mut [S::F; T],
) {
    // SAFETY: the caller's contract: `T` tokens.
    unsafe {
        for t in 0..T {
            let scale = &*scales.add(t);
            let start = -S::BYTE_OFFSET * scale.sum;
            let sum = S::dot_bytes::<8>(weights, codes.add(t * BLOCK), start);
            acc[t] = S::fma(S::from_i32(sum), S::mul(d, S::splat(scale.d)), acc[t]);
        }
    }
}

impl<S: Simd> Format<S> for Bytes {
    const TYPE: BlockType = BlockType::Q8_0;

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights: [S::B; 8] =
                [0, 1, 2, 3, 4, 5, 6, 7].map(|i| S::bytes(block.start.add(i * 4 * S::LANES)));
            let d = S::from_f16(block.start.add(at.scales).cast());
            add_bytes::<S, T>(&weights, d, codes, scales, acc);
        }
    }
}

impl<S: Simd> Format<S> for Table {
    const TYPE: BlockType = BlockType::IQ4NL;

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights = nibbles::<S>(block.start).map(|c| S::lookup(c, &IQ4_NL_VALUES));
            let d = S::from_f16(block.start.add(at.scales).cast());
            add_bytes::<S, T>(&weights, d, codes, scales, acc);
        }
    }
}

/// A run of tokens of width `T` against one group of quantized weights.
#[inline(always)]
unsafe fn quantized_tile<S: Simd, W: Format<S>, const T: usize>(
    group: *const u8,
    job: &MatmulJob<'_>,
    tile: Tile,
    rows: Range<usize>,
) {
    // SAFETY: the caller's contract; `quantized` checked that the tile has `T` tokens for each block.
    unsafe {
        let (codes, scales) = job.acts.quantized(tile);
        let (codes, scales) = (codes.as_ptr(), scales.as_ptr());
        let mut acc = [S::splat(0.0); T];
        for b in 0..job.acts.blocks() {
            let block = PackedBlock {
                start: group.add(W::AT.block_start(b)),
                supers: group.add(W::AT.super_start(b)),
            };
            W::add::<T>(block, codes.add(b * T * BLOCK), scales.add(b * T), &mut acc);
        }
        store::<S, T>(&acc, job, tile, rows);
    }
}

/// Writes a lane per row, or the lanes that are rows in the last group.
#[inline(always)]
unsafe fn store<S: Simd, const T: usize>(acc: &[S::F; T], job: &MatmulJob<'_>, tile: Tile, rows: Range<usize>) {
    // SAFETY: the caller's contract: `out` has every row of `rows` for every token of the tile.
    unsafe {
        for (t, value) in acc.iter().enumerate() {
            let out = job.out.add((tile.start + t) * job.out_stride + rows.start);
            if rows.len() == S::LANES {
                let value = if job.accumulate { S::add(S::load(out), *value) } else { *value };
                S::store(out, value);
            } else {
                let mut lanes = [0.0f32; VIRTUAL];
                S::store(lanes.as_mut_ptr(), *value);
                for (i, lane) in lanes[..rows.len()].iter().enumerate() {
                    let out = out.add(i);
                    *out = if job.accumulate { *out + lane } else { *lane };
                }
            }
        }
    }
}

/// Calls `$kernel` with the tile's width as a constant.
macro_rules! by_width {
    ($width:expr, $kernel:ident::<$($generic:ty),*>($($argument:expr),*)) => {
        match $width {
            8 => $kernel::<$($generic,)* 8>($($argument),*),
            4 => $kernel::<$($generic,)* 4>($($argument),*),
            2 => $kernel::<$($generic,)* 2>($($argument),*),
            _ => $kernel::<$($generic,)* 1>($($argument),*),
        }
    };
}

/// The groups of a job and their rows.
fn groups<'a>(job: &'a MatmulJob<'_>, lanes: usize) -> impl Iterator<Item = (*const u8, Range<usize>)> + 'a {
    let shape = job.weights.shape();
    let bytes = job.weights.groups(job.groups.clone()).chunks_exact(shape.group_bytes());
    bytes.zip(job.groups.clone()).map(move |(bytes, index)| {
        let first = index * lanes;
        (bytes.as_ptr(), first..shape.rows.min(first + lanes))
    })
}

/// A job on quantized weights.
///
/// # Safety
/// As for [`Simd`]; the job's weights are in format `W`, packed for `S`, have as many blocks as the
/// activations, and `out` is valid for all tokens and the rows of `groups`.
#[inline(always)]
pub(crate) unsafe fn quantized<S: Simd, W: Format<S>>(job: &MatmulJob<'_>) {
    for (group, rows) in groups(job, S::LANES) {
        for tile in job.acts.tiles() {
            // SAFETY: the caller's contract; `tile.width` is the constant chosen.
            unsafe { by_width!(tile.width, quantized_tile::<S, W>(group, job, tile, rows.clone())) }
        }
    }
}

/// Float storage formats.
pub(crate) trait FloatFormat<S: Simd> {
    /// Bytes per value.
    const BYTES: usize;
    /// Loads `LANES` values.
    ///
    /// # Safety
    /// As for [`Simd`]; `p` is valid for `LANES` values.
    unsafe fn load(p: *const u8) -> S::F;
}

/// F32.
pub(crate) struct Single;
/// F16.
pub(crate) struct Half;
/// BF16.
pub(crate) struct Brain;

impl<S: Simd> FloatFormat<S> for Single {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::load(p.cast()) }
    }
}

impl<S: Simd> FloatFormat<S> for Half {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::from_f16(p.cast()) }
    }
}

impl<S: Simd> FloatFormat<S> for Brain {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::from_bf16(p.cast()) }
    }
}

#[inline(always)]
unsafe fn float_tile<S: Simd, W: FloatFormat<S>, const T: usize>(
    group: *const u8,
    job: &MatmulJob<'_>,
    tile: Tile,
    rows: Range<usize>,
) {
    // SAFETY: the caller's contract; the tile has `T` values per column.
    unsafe {
        let floats = job.acts.floats(tile).as_ptr();
        let mut acc = [[S::splat(0.0); T]; 2];
        for k in 0..job.acts.blocks() * BLOCK {
            let weights = W::load(group.add(k * W::BYTES * S::LANES));
            for t in 0..T {
                let x = S::splat(*floats.add(k * T + t));
                acc[k % 2][t] = S::fma(weights, x, acc[k % 2][t]);
            }
        }
        let [even, odd] = acc;
        let mut total = even;
        for t in 0..T {
            total[t] = S::add(even[t], odd[t]);
        }
        store::<S, T>(&total, job, tile, rows);
    }
}

/// A job on float weights.
///
/// # Safety
/// As for [`quantized`].
#[inline(always)]
pub(crate) unsafe fn floats<S: Simd, W: FloatFormat<S>>(job: &MatmulJob<'_>) {
    for (group, rows) in groups(job, S::LANES) {
        for tile in job.acts.tiles() {
            // SAFETY: the caller's contract; `tile.width` is the constant chosen.
            unsafe { by_width!(tile.width, float_tile::<S, W>(group, job, tile, rows.clone())) }
        }
    }
}

/// [`scalar::quantize`].
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(crate) unsafe fn quantize<S: Simd>(row: &[f32], sink: &mut QuantSink<'_>) {
    for (b, x) in row.chunks_exact(BLOCK).enumerate() {
        // SAFETY: every vector lies within the 32 values and codes of the block.
        unsafe {
            let mut lanes = [0.0f32; VIRTUAL];
            let mut max = S::splat(0.0);
            for i in (0..BLOCK).step_by(S::LANES) {
                max = S::max(S::abs(S::load(x.as_ptr().add(i))), max);
            }
            S::store(lanes.as_mut_ptr(), max);
            let max = lanes.iter().fold(0.0f32, |max, v| max.max(*v));
            let inverse = if max >= f32::MIN_POSITIVE { 127.0 / max } else { 0.0 };
            let scale = S::splat(inverse);
            let codes = sink.codes(b).as_mut_ptr();
            let mut sums = [0; 2];
            for i in (0..BLOCK).step_by(S::LANES) {
                let rounded = S::round(S::mul(S::load(x.as_ptr().add(i)), scale));
                sums[i / 16] += S::store_i8(codes.add(i), rounded);
            }
            sink.put(b, if inverse == 0.0 { 0.0 } else { max / 127.0 }, sums);
        }
    }
}

/// [`scalar::sum_squares`].
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(crate) unsafe fn sum_squares<S: Simd>(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; VIRTUAL];
    let (blocks, tail) = x.as_chunks::<VIRTUAL>();
    // SAFETY: every vector lies within 16 values.
    unsafe {
        for i in (0..VIRTUAL).step_by(S::LANES) {
            let mut acc = S::splat(0.0);
            for block in blocks {
                let x = S::load(block.as_ptr().add(i));
                acc = S::fma(x, x, acc);
            }
            S::store(lanes.as_mut_ptr().add(i), acc);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(tail) {
        *lane = x.mul_add(*x, *lane);
    }
    scalar::reduce(lanes)
}

/// [`scalar::scale_by`].
///
/// # Safety
/// As for [`Simd`]; `weight` and `out` are as long as `x`.
#[inline(always)]
pub(crate) unsafe fn scale_by<S: Simd>(x: &[f32], scale: f32, weight: &[f32], out: &mut [f32]) {
    let whole = x.len() / S::LANES * S::LANES;
    // SAFETY: every vector lies within the first `whole` values of each slice.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            let scaled = S::mul(S::load(x.as_ptr().add(i)), S::splat(scale));
            S::store(out.as_mut_ptr().add(i), S::mul(scaled, S::load(weight.as_ptr().add(i))));
        }
    }
    scalar::scale_by(&x[whole..], scale, &weight[whole..], &mut out[whole..]);
}

/// [`scalar::exp`].
#[inline(always)]
unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's contract.
    unsafe {
        let x = S::max(x, S::splat(scalar::EXP_RANGE.0));
        let x = S::min(x, S::splat(scalar::EXP_RANGE.1));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-scalar::LN2_HIGH), x);
        let r = S::fma(n, S::splat(-scalar::LN2_LOW), r);
        let mut p = S::splat(scalar::EXP_POLYNOMIAL[0]);
        for c in &scalar::EXP_POLYNOMIAL[1..] {
            p = S::fma(p, r, S::splat(*c));
        }
        S::mul(p, S::exp2_integral(n))
    }
}

/// [`scalar::softmax`].
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(crate) unsafe fn softmax<S: Simd>(scores: &mut [f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; VIRTUAL];
    let (blocks, tail) = scores.as_chunks_mut::<VIRTUAL>();
    // SAFETY: every vector lies within 16 values.
    unsafe {
        let mut max = S::splat(f32::NEG_INFINITY);
        for block in blocks.iter() {
            for i in (0..VIRTUAL).step_by(S::LANES) {
                max = S::max(S::load(block.as_ptr().add(i)), max);
            }
        }
        S::store(lanes.as_mut_ptr(), max);
        let max = lanes.iter().chain(tail.iter()).fold(f32::NEG_INFINITY, |max, v| max.max(*v));
        let mut sums = [0.0f32; VIRTUAL];
        for block in blocks {
            for i in (0..VIRTUAL).step_by(S::LANES) {
                let at = block.as_mut_ptr().add(i);
                let e = exp::<S>(S::sub(S::load(at), S::splat(max)));
                S::store(at, e);
                let sum = sums.as_mut_ptr().add(i);
                S::store(sum, S::add(S::load(sum), e));
            }
        }
        for (sum, score) in sums.iter_mut().zip(tail) {
            *score = scalar::exp(*score - max);
            *sum += *score;
        }
        scalar::reduce(sums)
    }
}

/// [`scalar::silu_mul`].
///
/// # Safety
/// As for [`Simd`]; `up` is as long as `gate`.
#[inline(always)]
pub(crate) unsafe fn silu_mul<S: Simd>(gate: &mut [f32], up: &[f32]) {
    let whole = gate.len() / S::LANES * S::LANES;
    // SAFETY: every vector lies within the first `whole` values of each slice.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            let at = gate.as_mut_ptr().add(i);
            let x = S::load(at);
            let negative = S::mul(x, S::splat(-1.0));
            let silu = S::div(x, S::add(S::splat(1.0), exp::<S>(negative)));
            S::store(at, S::mul(silu, S::load(up.as_ptr().add(i))));
        }
    }
    scalar::silu_mul(&mut gate[whole..], &up[whole..]);
}

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
