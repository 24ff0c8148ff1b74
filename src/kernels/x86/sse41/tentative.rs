//! Sums of a single token that are looked at once, at the end.
//!
//! Rounding a sum of f64 to f32 is right wherever the sum is exact. All sums of a row are multiples of one number, the last
//! place of its least product: as long as they stay below `2^53` times this number, each is exact. So the least and the
//! largest scales tell whether a row came out right. Rows of which they do not tell are for [`Moderate`].
//!
//! [`Moderate`]: super::sums::Moderate

use super::sums::{Factor, Sums, Wide, mul_wide, wide, wide_i32};
use crate::kernels::simd::Reach;
use std::arch::x86_64::*;

/// For moderate sums that are exact in f64.
#[derive(Clone, Copy)]
pub(crate) struct Tentative;

/// The least and the largest magnitude of the values met: bits without the sign, a place up.
#[derive(Clone, Copy)]
struct Range {
    least: __m128i,
    most: __m128i,
}

impl Range {
    #[inline(always)]
    unsafe fn nothing() -> Self {
        // SAFETY: SSE2 is part of every x86-64 processor.
        unsafe { Self { least: _mm_set1_epi32(-1), most: _mm_setzero_si128() } }
    }

    /// With the values of `x`, of which zeros are the least.
    #[inline(always)]
    unsafe fn with(self, x: __m128) -> Self {
        // SAFETY: the contract of `Simd`: SSE4.1 is present.
        unsafe {
            let size = _mm_slli_epi32::<1>(_mm_castps_si128(x));
            Self { least: _mm_min_epu32(self.least, size), most: _mm_max_epu32(self.most, size) }
        }
    }

    /// With the values of `x` that are not zero.
    #[inline(always)]
    unsafe fn with_some(self, x: __m128) -> Self {
        // SAFETY: the contract of `Simd`: SSE4.1 is present.
        unsafe {
            let size = _mm_slli_epi32::<1>(_mm_castps_si128(x));
            // Zero becomes the largest number. The others lose less than an ulp.
            let less_one = _mm_add_epi32(size, _mm_set1_epi32(-1));
            Self { least: _mm_min_epu32(self.least, less_one), most: _mm_max_epu32(self.most, size) }
        }
    }

    /// The least, which is not a number if there is none, and the largest.
    #[inline(always)]
    unsafe fn values(self) -> [__m128; 2] {
        // SAFETY: SSE2 is part of every x86-64 processor.
        unsafe { [self.least, self.most].map(|bits| _mm_castsi128_ps(_mm_srli_epi32::<1>(bits))) }
    }
}

/// Sums under way.
#[derive(Clone, Copy)]
pub(crate) struct Acc {
    /// Values that f32 has.
    sums: Wide,
    scales: Range,
    /// Minima times their factors.
    minima: Range,
}

#[inline(always)]
unsafe fn step(sums: Wide, products: Wide) -> Wide {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe {
        let sums = [_mm_add_pd(sums[0], products[0]), _mm_add_pd(sums[1], products[1])];
        [_mm_cvtps_pd(_mm_cvtpd_ps(sums[0])), _mm_cvtps_pd(_mm_cvtpd_ps(sums[1]))]
    }
}

// SAFETY (for every block below): the contract of `Simd`: SSE4.1 is present.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl Sums for Tentative {
    type Moderate = Self;
    type Tentative = Self;
    type Acc = Acc;
    const IS_TENTATIVE: bool = true;
    const IS_FINITE: bool = true;

    #[inline(always)]
    unsafe fn nothing() -> Acc {
        unsafe { Acc { sums: [_mm_setzero_pd(); 2], scales: Range::nothing(), minima: Range::nothing() } }
    }
    #[inline(always)]
    unsafe fn add_scaled(acc: Acc, sum: __m128i, scale: __m128) -> Acc {
        unsafe {
            let products = mul_wide(wide_i32(sum), wide(scale));
            Acc { sums: step(acc.sums, products), scales: acc.scales.with(scale), ..acc }
        }
    }
    #[inline(always)]
    unsafe fn add_min(acc: Acc, min: __m128, factor: Factor) -> Acc {
        unsafe {
            let products = mul_wide(wide(min), [factor.wide; 2]);
            let minima = acc.minima.with_some(_mm_mul_ps(min, factor.narrow));
            Acc { sums: step(acc.sums, products), minima, ..acc }
        }
    }
    #[inline(always)]
    unsafe fn total(acc: Acc) -> __m128 {
        unsafe { _mm_movelh_ps(_mm_cvtpd_ps(acc.sums[0]), _mm_cvtpd_ps(acc.sums[1])) }
    }
    #[inline(always)]
    unsafe fn is_right(acc: Acc, reach: Reach) -> bool {
        // What the rounding of up to 2^18 sums and of the numbers below may add.
        const MARGIN: f32 = 1.0 + 1.0 / 16.0;
        // The product of an integer with a scale is a multiple of 2^-24 of the scale.
        const OF_SCALE: f32 = (1u32 << (53 - 24)) as f32;
        unsafe {
            let [least, most] = acc.scales.values();
            let [least_min, most_min] = acc.minima.values();
            let size = _mm_mul_ps(most, _mm_set1_ps(reach.codes * MARGIN));
            let size = _mm_add_ps(size, _mm_mul_ps(most_min, _mm_set1_ps(reach.minima * MARGIN)));
            // That of a minimum with a factor is one of 2^-24 of the product for each bit of the minimum.
            let of_min = OF_SCALE * f32::from_bits((127 - reach.minimum_bits) << 23);
            let is_beyond = |least, times| _mm_cmpgt_ps(size, _mm_mul_ps(least, _mm_set1_ps(times)));
            let beyond = _mm_or_ps(is_beyond(least, OF_SCALE), is_beyond(least_min, of_min));
            _mm_movemask_ps(beyond) == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::x86::sse41::Sse41;

    /// Whether the sums of products of 1000 with these scales, and of minima of 1 with these factors, are right.
    fn is_right(scales: &[f32], factors: &[f32]) -> bool {
        #[target_feature(enable = "sse4.1,ssse3")]
        unsafe fn sums(scales: &[f32], factors: &[f32]) -> bool {
            // SAFETY: the features are enabled.
            unsafe {
                let mut acc = Tentative::nothing();
                for scale in scales {
                    acc = Tentative::add_scaled(acc, _mm_set1_epi32(1000), _mm_set1_ps(*scale));
                }
                for factor in factors {
                    acc = Tentative::add_min(acc, _mm_set1_ps(1.0), Factor::new(*factor));
                }
                let [codes, minima] = [1000 * scales.len(), factors.len()].map(|terms| terms as f32);
                Tentative::is_right(acc, Reach { codes, minima, minimum_bits: 11 })
            }
        }
        // SAFETY: the callers asked the processor.
        unsafe { sums(scales, factors) }
    }

    #[test]
    fn sums_of_scales_that_are_alike_are_right() {
        if !Sse41::is_available() {
            eprintln!("NOT TESTED, this processor lacks: sse41");
            return;
        }
        let scales: Vec<f32> = (0..48u8).map(|i| (f32::from(i) - 23.5) * 1e-3).collect();
        let factors: Vec<f32> = scales.iter().map(|scale| scale * 100.0).collect();
        assert!(is_right(&scales, &[]) && is_right(&scales, &factors));
        assert!(is_right(&scales, &[0.0, 1.0]) && is_right(&[0.0; 9], &[]));
        // Of 48 sums of 1000 the reach is less than 2^16, so the least scale may be 2^-13 of the largest.
        assert!(is_right(&[&scales[..], &[1e-2 * 2f32.powi(-10)]].concat(), &[]));
        for least in [1e-2 * 2f32.powi(-15), 1e-30, 0.0] {
            assert!(!is_right(&[&scales[..], &[least]].concat(), &[]), "{least:e}");
        }
        // 2^29 less the reach and the bits of a minimum.
        assert!(is_right(&scales, &[1e-2]) && !is_right(&scales, &[1e-5]));
    }
}
