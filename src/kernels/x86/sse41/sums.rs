//! Fused multiply-adds, and sums of them, without an instruction for it.
//!
//! A product of two f32 is exact in f64, and so, nearly always, is its sum with a third; rounding that sum to f32 rounds
//! once. Where the sum is not exact, the second rounding matters only if the first ended half way between two f32, or in
//! their subnormal range: the low bits of the sum tell the one, its exponent the other, and [`round_once`] decides such
//! lanes.

use super::tentative::Tentative;
use crate::kernels::simd::Reach;
use std::arch::x86_64::*;

/// Four values in f64: lanes 0 and 1, then 2 and 3.
pub(super) type Wide = [__m128d; 2];

/// How scaled products are added; the contract is that of [`Simd`](crate::kernels::simd::Simd).
pub(crate) trait Sums: Copy {
    /// `Simd::Moderate`.
    type Moderate: Sums;
    /// `Simd::Tentative`.
    type Tentative: Sums;
    /// `Simd::IS_TENTATIVE`.
    const IS_TENTATIVE: bool = false;
    /// `Simd::Acc`.
    type Acc: Copy;
    /// Whether halves are finite.
    const IS_FINITE: bool;

    /// `Simd::nothing`.
    unsafe fn nothing() -> Self::Acc;
    /// `Simd::add_scaled`.
    unsafe fn add_scaled(acc: Self::Acc, sum: __m128i, scale: __m128) -> Self::Acc;
    /// `Simd::add_min`.
    unsafe fn add_min(acc: Self::Acc, min: __m128, factor: Factor) -> Self::Acc;
    /// `Simd::add_affine`.
    #[inline(always)]
    unsafe fn add_affine(acc: Self::Acc, of_codes: (__m128i, __m128), of_min: (__m128, Factor)) -> Self::Acc {
        // SAFETY: the caller's contract.
        unsafe { Self::add_min(Self::add_scaled(acc, of_codes.0, of_codes.1), of_min.0, of_min.1) }
    }
    /// `Simd::total`.
    unsafe fn total(acc: Self::Acc) -> __m128;
    /// `Simd::is_right`.
    #[inline(always)]
    unsafe fn is_right(_acc: Self::Acc, _reach: Reach) -> bool {
        true
    }
}

/// What minima are multiplied with, in all lanes.
#[derive(Clone, Copy)]
pub(crate) struct Factor {
    pub(super) narrow: __m128,
    pub(super) wide: __m128d,
}

impl Factor {
    #[inline(always)]
    pub(super) unsafe fn new(x: f32) -> Self {
        // SAFETY: SSE2 is part of every x86-64 processor.
        unsafe { Self { narrow: _mm_set1_ps(x), wide: _mm_set1_pd(f64::from(x)) } }
    }
}

/// For all numbers.
#[derive(Clone, Copy)]
pub(crate) struct Exact;

/// For sums that neither overflow nor vanish.
#[derive(Clone, Copy)]
pub(crate) struct Moderate;

/// `products + addends`, rounded once.
#[cold]
#[inline(never)]
fn round_once(products: &[f64; 4], addends: &[f64; 4]) -> [f32; 4] {
    let sums: [f64; 4] = std::array::from_fn(|i| products[i] + addends[i]);
    // Codes are small where one activation is large; then many sums are half way, nearly all of them exactly.
    let is_exact = (0..4).fold(true, |all, i| {
        let of_addend = sums[i] - products[i];
        all & (of_addend == addends[i]) & (sums[i] - of_addend == products[i])
    });
    if is_exact {
        return sums.map(|sum| sum as f32);
    }
    std::array::from_fn(|i| {
        let (a, b, sum) = (products[i], addends[i], sums[i]);
        // What the addition lost (Knuth's two-sum).
        let of_b = sum - a;
        let lost = (a - (sum - of_b)) + (b - of_b);
        // An inexact sum becomes its odd neighbour, which lies on the same side of every f32 and every midpoint as the
        // exact sum does (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums").
        let bits = sum.to_bits();
        let odd = match lost {
            _ if bits % 2 == 1 => bits,
            lost if lost == 0.0 || lost.is_nan() => bits,
            lost if (lost > 0.0) == (sum > 0.0) => bits + 1,
            _ => bits - 1,
        };
        f64::from_bits(odd) as f32
    })
}

/// [`round_once`] of vectors.
#[inline(always)]
unsafe fn round_once_wide(products: Wide, addends: Wide) -> __m128 {
    // SAFETY: SSE2 is part of every x86-64 processor; arrays have four values.
    unsafe {
        let (mut of_products, mut of_addends) = ([0.0; 4], [0.0; 4]);
        for i in 0..2 {
            _mm_storeu_pd(of_products.as_mut_ptr().add(2 * i), products[i]);
            _mm_storeu_pd(of_addends.as_mut_ptr().add(2 * i), addends[i]);
        }
        _mm_loadu_ps(round_once(&of_products, &of_addends).as_ptr())
    }
}

/// The low dwords of four values.
#[inline(always)]
unsafe fn low_dwords(x: Wide) -> __m128i {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe {
        let [first, second] = [_mm_castpd_ps(x[0]), _mm_castpd_ps(x[1])];
        _mm_castps_si128(_mm_shuffle_ps::<0b10_00_10_00>(first, second))
    }
}

/// Whether a lane is all ones.
#[inline(always)]
unsafe fn is_any(lanes: __m128i) -> bool {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe { _mm_movemask_ps(_mm_castsi128_ps(lanes)) != 0 }
}

/// The values in f64.
#[inline(always)]
pub(super) unsafe fn wide(x: __m128) -> Wide {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe { [_mm_cvtps_pd(x), _mm_cvtps_pd(_mm_movehl_ps(x, x))] }
}

#[inline(always)]
pub(super) unsafe fn wide_i32(x: __m128i) -> Wide {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe { [_mm_cvtepi32_pd(x), _mm_cvtepi32_pd(_mm_unpackhi_epi64(x, x))] }
}

#[inline(always)]
pub(super) unsafe fn mul_wide(a: Wide, b: Wide) -> Wide {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe { [_mm_mul_pd(a[0], b[0]), _mm_mul_pd(a[1], b[1])] }
}

/// `products + addends` in f32, rounded once; without `TINY` no inexact sum is below the normal range.
#[inline(always)]
unsafe fn add_wide<const TINY: bool>(products: Wide, addends: Wide) -> __m128 {
    // SAFETY: the contract of `Simd`: SSE4.1 is present.
    unsafe {
        let sums = [_mm_add_pd(products[0], addends[0]), _mm_add_pd(products[1], addends[1])];
        // Half way: the 29 bits that f32 lacks are a one and zeros.
        let mut suspect = _mm_cmpeq_epi32(_mm_slli_epi32::<3>(low_dwords(sums)), _mm_set1_epi32(i32::MIN));
        if TINY {
            // Not zero and below the least normal f32, compared without the sign as unsigned numbers less 1.
            const LEAST: i32 = (1023 - 126) << 21;
            let [first, second] = [_mm_castpd_ps(sums[0]), _mm_castpd_ps(sums[1])];
            let high = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(first, second));
            let less_one = _mm_add_epi32(_mm_slli_epi32::<1>(high), _mm_set1_epi32(-1));
            let capped = _mm_min_epu32(less_one, _mm_set1_epi32(LEAST - 2));
            suspect = _mm_or_si128(suspect, _mm_cmpeq_epi32(capped, less_one));
        }
        if is_any(suspect) {
            return round_once_wide(products, addends);
        }
        _mm_movelh_ps(_mm_cvtpd_ps(sums[0]), _mm_cvtpd_ps(sums[1]))
    }
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub(super) unsafe fn fma(a: __m128, b: __m128, c: __m128) -> __m128 {
    // SAFETY: the caller's contract.
    unsafe { add_wide::<true>(mul_wide(wide(a), wide(b)), wide(c)) }
}

// SAFETY (for every block below): the contract of `Simd`: SSE4.1 is present.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl Sums for Exact {
    type Moderate = Moderate;
    type Tentative = Self;
    type Acc = __m128;
    const IS_FINITE: bool = false;

    #[inline(always)]
    unsafe fn nothing() -> __m128 {
        unsafe { _mm_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn add_scaled(acc: __m128, sum: __m128i, scale: __m128) -> __m128 {
        // Every term is a multiple of the least subnormal f32: what is below the normal range is exact.
        unsafe { add_wide::<false>(mul_wide(wide_i32(sum), wide(scale)), wide(acc)) }
    }
    #[inline(always)]
    unsafe fn add_min(acc: __m128, min: __m128, factor: Factor) -> __m128 {
        unsafe { fma(min, factor.narrow, acc) }
    }
    #[inline(always)]
    unsafe fn total(acc: __m128) -> __m128 {
        acc
    }
}

/// A sum under way that is rounded to f32 in place: half an ulp of f32 is added to the magnitude and what f32 lacks is
/// cut off. Where the sum was half way, nothing is left to cut off.
#[derive(Clone, Copy)]
struct Step {
    /// The new sum.
    rounded: Wide,
    /// What was cut off, shifted; 0 where the sum was half way.
    cut: __m128i,
}

#[inline(always)]
unsafe fn step(acc: Wide, products: Wide) -> Step {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe {
        let (half, kept) = (_mm_set1_epi64x(1 << 28), _mm_set1_epi64x(-1 << 29));
        let mut raised = acc;
        let mut rounded = acc;
        for i in 0..2 {
            let sum = _mm_castpd_si128(_mm_add_pd(acc[i], products[i]));
            let sum = _mm_add_epi64(sum, half);
            raised[i] = _mm_castsi128_pd(sum);
            rounded[i] = _mm_castsi128_pd(_mm_and_si128(sum, kept));
        }
        Step { rounded, cut: _mm_slli_epi32::<3>(low_dwords(raised)) }
    }
}

/// A step that is half way in some lane, or follows one that is.
#[inline(always)]
unsafe fn step_again(acc: Wide, products: Wide) -> Wide {
    // SAFETY: the caller's contract.
    unsafe { wide(round_once_wide(products, acc)) }
}

// SAFETY (for every block below): the contract of `Simd`: SSE4.1 is present.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl Sums for Moderate {
    type Moderate = Self;
    type Tentative = Tentative;
    /// Values that f32 has.
    type Acc = Wide;
    const IS_FINITE: bool = true;

    #[inline(always)]
    unsafe fn nothing() -> Wide {
        unsafe { [_mm_setzero_pd(); 2] }
    }
    #[inline(always)]
    unsafe fn add_scaled(acc: Wide, sum: __m128i, scale: __m128) -> Wide {
        unsafe {
            let products = mul_wide(wide_i32(sum), wide(scale));
            let Step { rounded, cut } = step(acc, products);
            if is_any(_mm_cmpeq_epi32(cut, _mm_setzero_si128())) {
                return step_again(acc, products);
            }
            rounded
        }
    }
    #[inline(always)]
    unsafe fn add_min(acc: Wide, min: __m128, factor: Factor) -> Wide {
        unsafe {
            let products = mul_wide(wide(min), [factor.wide; 2]);
            let Step { rounded, cut } = step(acc, products);
            if is_any(_mm_cmpeq_epi32(cut, _mm_setzero_si128())) {
                return step_again(acc, products);
            }
            rounded
        }
    }
    #[inline(always)]
    unsafe fn add_affine(
        acc: Wide,
        (sum, scale): (__m128i, __m128),
        (min, factor): (__m128, Factor),
    ) -> Wide {
        unsafe {
            let products = mul_wide(wide_i32(sum), wide(scale));
            let first = step(acc, products);
            let of_min = mul_wide(wide(min), [factor.wide; 2]);
            let second = step(first.rounded, of_min);
            let cut = _mm_min_epu32(first.cut, second.cut);
            if is_any(_mm_cmpeq_epi32(cut, _mm_setzero_si128())) {
                return step_again(step_again(acc, products), of_min);
            }
            second.rounded
        }
    }
    #[inline(always)]
    unsafe fn total(acc: Wide) -> __m128 {
        unsafe { _mm_movelh_ps(_mm_cvtpd_ps(acc[0]), _mm_cvtpd_ps(acc[1])) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sse41;
    use super::*;
    use crate::kernels::simd::Simd;
    use rand::{RngExt, SeedableRng};

    /// `a * b + c` by the vector operation, which has to be what `mul_add` returns.
    fn assert_fused(a: [f32; 4], b: [f32; 4], c: [f32; 4]) {
        #[target_feature(enable = "sse4.1,ssse3")]
        unsafe fn fma(a: &[f32; 4], b: &[f32; 4], c: &[f32; 4], out: &mut [f32; 4]) {
            // SAFETY: the features are enabled; arrays have four values.
            unsafe {
                let sum =
                    Sse41::fma(Sse41::load(a.as_ptr()), Sse41::load(b.as_ptr()), Sse41::load(c.as_ptr()));
                Sse41::store(out.as_mut_ptr(), sum);
            }
        }
        let mut found = [0.0; 4];
        // SAFETY: the caller asked the processor.
        unsafe { fma(&a, &b, &c, &mut found) };
        for i in 0..4 {
            let expected = a[i].mul_add(b[i], c[i]);
            let same = found[i].to_bits() == expected.to_bits() || (found[i].is_nan() && expected.is_nan());
            assert!(same, "{:e} * {:e} + {:e}: {:e}, not {expected:e}", a[i], b[i], c[i], found[i]);
        }
    }

    fn is_missing() -> bool {
        let missing = !Sse41::is_available();
        if missing {
            eprintln!("NOT TESTED, this processor lacks: sse41");
        }
        missing
    }

    #[test]
    fn sums_are_rounded_once() {
        if is_missing() {
            return;
        }
        let mut rng = rand::rngs::ChaCha8Rng::seed_from_u64(1);
        let ulp = f32::EPSILON;
        // Half way between two f32, and a little more or less: the last term vanishes in f64.
        let (one, tie) = (1.0 + ulp, 1.5 * ulp * 0.5);
        for least in [0.0, 2f32.powi(-60), -2f32.powi(-60), 2f32.powi(-126), -2f32.powi(-126)] {
            assert_fused([1.0 + least.abs().sqrt(); 4], [tie; 4], [one, -one, 2.0 * one, 1.0]);
            assert_fused([least; 4], [1.0, ulp, 0.5, -1.0], [one, 0.0, -0.0, f32::MAX]);
        }
        let special =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45];
        for a in special {
            for b in special {
                for c in special {
                    assert_fused([a, -a, a, 1.0], [b, b, -b, b], [c, c, c, -c]);
                }
            }
        }
        // Few bits and exponents that meet: ties and what lies beside them, normal and subnormal.
        for least in [0, -100, -149, -160] {
            for _ in 0..200_000 {
                let mut value = |bits: u32, low: i32, high: i32| -> f32 {
                    let mantissa = f64::from(rng.random_range(0..1u32 << bits));
                    let sign = if rng.random_range(0..2) == 0 { 1.0 } else { -1.0 };
                    (sign * mantissa * 2f64.powi(rng.random_range(low..=high))) as f32
                };
                let four = |f: &mut dyn FnMut() -> f32| [f(), f(), f(), f()];
                let a = four(&mut || value(24, least / 2 - 24, least / 2 + 4));
                let b = four(&mut || value(24, least - least / 2 - 24, least - least / 2 + 4));
                let c = four(&mut || value(6, least - 4, least + 30));
                assert_fused(a, b, c);
            }
        }
        for _ in 0..500_000 {
            let [a, b, c] = std::array::from_fn(|_| std::array::from_fn(|_| f32::from_bits(rng.random())));
            assert_fused(a, b, c);
        }
    }

    #[test]
    fn an_inexact_tie_is_decided_by_what_was_lost() {
        let tie = 1.0 + f64::from(f32::EPSILON) / 2.0;
        let least = 2f64.powi(-80);
        let up = 1.0 + f32::EPSILON;
        let found = round_once(&[tie, tie, -tie, -tie], &[least, -least, -least, least]);
        assert_eq!(found, [up, 1.0, -up, -1.0]);
        assert_eq!(round_once(&[tie, -tie, 0.0, f64::NAN], &[0.0; 4])[..3], [1.0, -1.0, 0.0]);
    }
}
