//! AVX2. `vpmaddubsw` adds pairs of products in 16 bits with saturation, so the number of sums kept in 16 bits
//! depends on the weight codes: a pair is at most `2 * (2^BITS - 1) * 127`.

use super::avx::{Avx, Dot, broadcast};
use crate::kernels::simd::Simd;
use std::arch::x86_64::*;

/// The dot product by 16-bit sums.
#[derive(Clone, Copy)]
pub(crate) struct Widening;

/// AVX2 with FMA and F16C.
pub(crate) type Avx2 = Avx<Widening>;

crate::kernels::entries!(Avx2, "avx2,fma,f16c");

#[inline(always)]
unsafe fn widen(sum: __m256i, pairs: __m256i) -> __m256i {
    // SAFETY: the contract of `Simd`: AVX2 is present.
    unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))) }
}

// SAFETY (for every block below): the contract of `Simd`: AVX2 is present and `acts` has `4 * N` codes.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl Dot for Widening {
    const NAME: &str = "avx2";
    const BYTE_OFFSET: i32 = 0;

    fn is_available() -> bool {
        true
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[__m256i; N],
        acts: *const i8,
        start: i32,
    ) -> __m256i {
        unsafe {
            // Sums of this many pairs stay within 16 bits: 8 * 3810, 4 * 7874, 2 * 16002.
            let run = 128 >> BITS;
            let mut sum = _mm256_set1_epi32(start);
            let mut pairs = _mm256_setzero_si256();
            for (i, weights) in codes.iter().enumerate() {
                let products = _mm256_maddubs_epi16(*weights, broadcast(acts.add(4 * i)));
                pairs = if i % run == 0 { products } else { _mm256_add_epi16(pairs, products) };
                if i % run == run - 1 || i == N - 1 {
                    sum = widen(sum, pairs);
                }
            }
            sum
        }
    }
    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[__m256i; N], acts: *const i8, start: i32) -> __m256i {
        unsafe {
            let mut sum = _mm256_set1_epi32(start);
            for (i, weights) in codes.iter().enumerate() {
                // The first operand is unsigned: move the weight's sign to the activation. A pair is at most
                // 2 * 128 * 127, which fits.
                let acts = _mm256_sign_epi8(broadcast(acts.add(4 * i)), *weights);
                sum = widen(sum, _mm256_maddubs_epi16(_mm256_abs_epi8(*weights), acts));
            }
            sum
        }
    }
}
