//! Rounding, norms, softmax and activation functions.

use crate::kernels::acts::QuantSink;
use crate::kernels::layout::BLOCK;
use crate::kernels::scalar::{self, VIRTUAL};
use crate::kernels::simd::Simd;

/// [`scalar::quantize`].
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(crate) unsafe fn quantize<S: Simd>(row: &[f32], sink: &mut QuantSink<'_>) {
    for (b, x) in row.chunks_exact(BLOCK).enumerate() {
        // SAFETY: every vector lies within the 32 values and codes of the block.
        unsafe {
            let mut largest = S::magnitudes(S::load(x.as_ptr()));
            for i in (S::LANES..BLOCK).step_by(S::LANES) {
                largest = S::max_i32(largest, S::magnitudes(S::load(x.as_ptr().add(i))));
            }
            let max = f32::from_bits(S::highest(largest).cast_unsigned());
            if !max.is_finite() {
                sink.put_poison(b);
                continue;
            }
            let inverse = if max >= f32::MIN_POSITIVE { 127.0 / max } else { 0.0 };
            let scale = S::splat(inverse);
            let codes = sink.codes(b).as_mut_ptr();
            let mut sums = [0; 2];
            for i in (0..BLOCK).step_by(S::LANES) {
                let scaled = S::mul(S::load(x.as_ptr().add(i)), scale);
                sums[i / 16] += S::store_i8(codes.add(i), scaled);
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
    scalar::reduce(lanes, |a, b| a + b)
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
pub(super) unsafe fn exp<S: Simd>(x: S::F) -> S::F {
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
pub(super) unsafe fn softmax<S: Simd>(scores: &mut [f32]) -> (f32, f32) {
    let (blocks, tail) = scores.as_chunks_mut::<VIRTUAL>();
    let mut rest = [f32::NEG_INFINITY; VIRTUAL];
    rest[..tail.len()].copy_from_slice(tail);
    let mut lanes = rest;
    // SAFETY: every vector lies within 16 values.
    unsafe {
        for i in (0..VIRTUAL).step_by(S::LANES) {
            let mut max = S::load(rest.as_ptr().add(i));
            for block in blocks.iter() {
                max = S::max(S::load(block.as_ptr().add(i)), max);
            }
            S::store(lanes.as_mut_ptr().add(i), max);
        }
        let max = scalar::reduce(lanes, f32::max);
        for i in (0..VIRTUAL).step_by(S::LANES) {
            let mut sum = S::splat(0.0);
            for block in blocks.iter_mut() {
                let at = block.as_mut_ptr().add(i);
                let e = exp::<S>(S::sub(S::load(at), S::splat(max)));
                S::store(at, e);
                sum = S::add(sum, e);
            }
            S::store(lanes.as_mut_ptr().add(i), sum);
        }
        if !tail.is_empty() {
            for i in (0..VIRTUAL).step_by(S::LANES) {
                let at = rest.as_mut_ptr().add(i);
                S::store(at, exp::<S>(S::sub(S::load(at), S::splat(max))));
            }
            tail.copy_from_slice(&rest[..tail.len()]);
            lanes.iter_mut().zip(tail).for_each(|(lane, weight)| *lane += *weight);
        }
        (max, scalar::reduce(lanes, |a, b| a + b))
    }
}

/// [`scalar::layer_norm`].
///
/// # Safety
/// As for [`Simd`]; weight, bias and `out` are as long as `x`.
#[inline(always)]
pub(crate) unsafe fn layer_norm<S: Simd>(
    x: &[f32],
    eps: f32,
    [weight, bias]: [Option<&[f32]>; 2],
    out: &mut [f32],
) {
    let mut lanes = [0.0f32; VIRTUAL];
    let (blocks, tail) = x.as_chunks::<VIRTUAL>();
    // SAFETY: every vector lies within 16 values.
    let mean = unsafe {
        for i in (0..VIRTUAL).step_by(S::LANES) {
            let mut acc = S::splat(0.0);
            for block in blocks {
                acc = S::add(acc, S::load(block.as_ptr().add(i)));
            }
            S::store(lanes.as_mut_ptr().add(i), acc);
        }
        lanes.iter_mut().zip(tail).for_each(|(lane, x)| *lane += x);
        scalar::reduce(lanes, |a, b| a + b) / x.len() as f32
    };
    let whole = x.len() / S::LANES * S::LANES;
    // SAFETY: every vector lies within the first `whole` values of each slice.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            S::store(out.as_mut_ptr().add(i), S::sub(S::load(x.as_ptr().add(i)), S::splat(mean)));
        }
        out[whole..].iter_mut().zip(&x[whole..]).for_each(|(out, x)| *out = x - mean);
        let scale = 1.0 / (sum_squares::<S>(out) / x.len() as f32 + eps).sqrt();
        for i in (0..whole).step_by(S::LANES) {
            let at = out.as_mut_ptr().add(i);
            let mut y = S::mul(S::load(at), S::splat(scale));
            if let Some(weight) = weight {
                y = S::mul(y, S::load(weight.as_ptr().add(i)));
            }
            if let Some(bias) = bias {
                y = S::add(y, S::load(bias.as_ptr().add(i)));
            }
            S::store(at, y);
        }
        let rest = [weight, bias].map(|values| values.map(|values| &values[whole..]));
        scalar::affine(&mut out[whole..], scale, rest);
    }
}
