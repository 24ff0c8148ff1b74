//! Activation functions, a vector at a time.

use super::vector::exp;
use crate::kernels::activation::Activation;
use crate::kernels::scalar;
use crate::kernels::simd::Simd;

/// [`scalar::activate`].
///
/// # Safety
/// As for [`Simd`]; `factors` are as long as `x`.
#[inline(always)]
pub(crate) unsafe fn activate<S: Simd>(kind: Activation, x: &mut [f32], factors: Option<&[f32]>) {
    // SAFETY: the caller's contract.
    unsafe {
        match kind {
            Activation::Silu => each::<S, Silu>(x, factors),
            Activation::Gelu => each::<S, Gelu>(x, factors),
            Activation::GeluTanh => each::<S, GeluTanh>(x, factors),
            Activation::Relu => each::<S, Relu>(x, factors),
            Activation::ReluSquared => each::<S, ReluSquared>(x, factors),
        }
    }
    let whole = x.len() / S::LANES * S::LANES;
    scalar::activate(kind, &mut x[whole..], factors.map(|factors| &factors[whole..]));
}

/// An activation function.
trait Curve {
    /// # Safety
    /// As for [`Simd`].
    unsafe fn at<S: Simd>(x: S::F) -> S::F;
}

/// Replaces whole vectors of `x` by `f(x)`, or by `f(x) * factor`.
#[inline(always)]
unsafe fn each<S: Simd, C: Curve>(x: &mut [f32], factors: Option<&[f32]>) {
    let whole = x.len() / S::LANES * S::LANES;
    // SAFETY: every vector lies within the first `whole` values of each slice.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            let at = x.as_mut_ptr().add(i);
            let y = C::at::<S>(S::load(at));
            let y = match factors {
                Some(factors) => S::mul(y, S::load(factors.as_ptr().add(i))),
                None => y,
            };
            S::store(at, y);
        }
    }
}

struct Silu;
struct Gelu;
struct GeluTanh;
struct Relu;
struct ReluSquared;

/// The magnitude.
#[inline(always)]
unsafe fn abs<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's contract.
    unsafe { S::max(x, S::mul(x, S::splat(-1.0))) }
}

impl Curve for Silu {
    #[inline(always)]
    unsafe fn at<S: Simd>(x: S::F) -> S::F {
        // SAFETY: the caller's contract.
        unsafe { S::div(x, S::add(S::splat(1.0), exp::<S>(S::mul(x, S::splat(-1.0))))) }
    }
}

impl Curve for Gelu {
    #[inline(always)]
    unsafe fn at<S: Simd>(x: S::F) -> S::F {
        // SAFETY: the caller's contract.
        unsafe {
            let size = abs::<S>(x);
            let t = S::div(S::splat(1.0), S::fma(size, S::splat(scalar::ERFC_SCALE), S::splat(1.0)));
            let mut p = S::splat(scalar::ERFC_POLYNOMIAL[0]);
            for c in &scalar::ERFC_POLYNOMIAL[1..] {
                p = S::fma(p, t, S::splat(*c));
            }
            let tail = S::mul(t, exp::<S>(S::fma(S::mul(size, S::splat(-0.5)), size, p)));
            S::fma(S::mul(size, S::splat(-0.5)), tail, Relu::at::<S>(x))
        }
    }
}

impl Curve for GeluTanh {
    #[inline(always)]
    unsafe fn at<S: Simd>(x: S::F) -> S::F {
        // SAFETY: the caller's contract.
        unsafe {
            let [linear, cubic] = scalar::GELU_TANH;
            let u = S::mul(S::fma(S::mul(x, x), S::splat(-cubic), S::splat(-linear)), x);
            S::div(x, S::add(S::splat(1.0), exp::<S>(u)))
        }
    }
}

impl Curve for Relu {
    #[inline(always)]
    unsafe fn at<S: Simd>(x: S::F) -> S::F {
        // SAFETY: the caller's contract.
        unsafe { S::mul(S::add(x, abs::<S>(x)), S::splat(0.5)) }
    }
}

impl Curve for ReluSquared {
    #[inline(always)]
    unsafe fn at<S: Simd>(x: S::F) -> S::F {
        // SAFETY: the caller's contract.
        unsafe {
            let x = Relu::at::<S>(x);
            S::mul(x, x)
        }
    }
}
