//! SSE4.1 with SSSE3: 4 lanes, one 128-bit register per vector, for processors without AVX2 (Atom, Celeron J and N).
//! They have no fused multiply-add, of which the specification is made: see [`sums`].

mod sums;
mod tentative;

use self::sums::{Exact, Factor, Sums};
use crate::kernels::simd::{Reach, Simd};
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// The instruction set, with one of the ways to add scaled products; proof that the processor has it.
#[derive(Clone, Copy)]
pub(crate) struct Sse<A>(PhantomData<A>);

/// SSE4.1 for all numbers.
pub(crate) type Sse41 = Sse<Exact>;

impl Sse41 {
    /// The instruction set's name.
    pub(crate) const NAME: &str = "sse41";

    /// Whether the processor has everything used here.
    pub(crate) fn is_available() -> bool {
        is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
    }
}

crate::kernels::entries!(Sse41, "sse4.1,ssse3");

/// Sixteen activation codes: each dword in all lanes.
#[inline(always)]
unsafe fn broadcast_four(acts: *const i8) -> [__m128i; 4] {
    // SAFETY: the contract of `Simd`: `acts` has 16 codes.
    unsafe {
        let acts = _mm_loadu_si128(acts.cast());
        [
            _mm_shuffle_epi32::<0b00_00_00_00>(acts),
            _mm_shuffle_epi32::<0b01_01_01_01>(acts),
            _mm_shuffle_epi32::<0b10_10_10_10>(acts),
            _mm_shuffle_epi32::<0b11_11_11_11>(acts),
        ]
    }
}

#[inline(always)]
unsafe fn widen(sum: __m128i, pairs: __m128i) -> __m128i {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe { _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi16(1))) }
}

/// Products of signed bytes, in pairs. As in AVX2: the weight's sign moves to the activation.
#[inline(always)]
unsafe fn bytes(weights: __m128i, acts: __m128i) -> __m128i {
    // SAFETY: the contract of `Simd`: SSSE3 is present.
    unsafe { _mm_maddubs_epi16(_mm_abs_epi8(weights), _mm_sign_epi8(acts, weights)) }
}

// SAFETY (for every block below): the contract of `Simd`, stated in its module: the features are present
// and the pointers valid.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl<A: Sums> Simd for Sse<A> {
    const LANES: usize = 4;
    const WIDEST: usize = 4;
    const PAIRS: bool = false;
    const VECTORS: usize = 2;
    const IS_MODERATE: bool = A::IS_FINITE;
    const BYTE_OFFSET: i32 = 0;
    type F = __m128;
    type I = __m128i;
    type B = __m128i;
    type Acc = A::Acc;
    type Moderate = Sse<A::Moderate>;
    type Tentative = Sse<A::Tentative>;
    const IS_TENTATIVE: bool = A::IS_TENTATIVE;
    type Factor = Factor;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m128 {
        unsafe { _mm_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m128 {
        unsafe { _mm_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m128) {
        unsafe { _mm_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m128, b: __m128, c: __m128) -> __m128 {
        unsafe { sums::fma(a, b, c) }
    }
    #[inline(always)]
    unsafe fn nothing() -> A::Acc {
        unsafe { A::nothing() }
    }
    #[inline(always)]
    unsafe fn add_scaled(acc: A::Acc, sum: __m128i, scale: __m128) -> A::Acc {
        unsafe { A::add_scaled(acc, sum, scale) }
    }
    #[inline(always)]
    unsafe fn add_min(acc: A::Acc, min: __m128, factor: Factor) -> A::Acc {
        unsafe { A::add_min(acc, min, factor) }
    }
    #[inline(always)]
    unsafe fn add_affine(acc: A::Acc, of_codes: (__m128i, __m128), of_min: (__m128, Factor)) -> A::Acc {
        unsafe { A::add_affine(acc, of_codes, of_min) }
    }
    #[inline(always)]
    unsafe fn factor(x: f32) -> Factor {
        unsafe { Factor::new(x) }
    }
    #[inline(always)]
    unsafe fn is_right(acc: A::Acc, reach: Reach) -> bool {
        unsafe { A::is_right(acc, reach) }
    }
    #[inline(always)]
    unsafe fn total(acc: A::Acc) -> __m128 {
        unsafe { A::total(acc) }
    }
    #[inline(always)]
    unsafe fn max(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m128, b: __m128) -> __m128 {
        unsafe { _mm_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn magnitudes(x: __m128) -> __m128i {
        unsafe { _mm_castps_si128(_mm_andnot_ps(_mm_set1_ps(-0.0), x)) }
    }
    #[inline(always)]
    unsafe fn max_i32(a: __m128i, b: __m128i) -> __m128i {
        unsafe { _mm_max_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn highest(x: __m128i) -> i32 {
        unsafe {
            let x = _mm_max_epi32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
            let x = _mm_max_epi32(x, _mm_shuffle_epi32::<0b10_11_00_01>(x));
            _mm_cvtsi128_si32(x)
        }
    }
    #[inline(always)]
    unsafe fn round(x: __m128) -> __m128 {
        unsafe { _mm_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    unsafe fn exp2_integral(x: __m128) -> __m128 {
        unsafe {
            let n = _mm_add_epi32(_mm_cvtps_epi32(x), _mm_set1_epi32(127));
            _mm_castsi128_ps(_mm_slli_epi32::<23>(n))
        }
    }
    #[inline(always)]
    unsafe fn from_f16(p: *const u16) -> __m128 {
        // The bits of a half at the end of those of an f32 are the value times 2^-112, subnormals included.
        const SCALE: f32 = f32::from_bits((127 + 112) << 23);
        const LARGEST_FINITE: i32 = (31 << 23) - 1;
        unsafe {
            let extended = _mm_cvtepi16_epi32(_mm_loadl_epi64(p.cast()));
            let bits = _mm_and_si128(_mm_slli_epi32::<13>(extended), _mm_set1_epi32(0x8FFF_E000_u32 as i32));
            if A::IS_FINITE {
                return _mm_mul_ps(_mm_castsi128_ps(bits), _mm_set1_ps(SCALE));
            }
            let size = _mm_and_si128(bits, _mm_set1_epi32(i32::MAX));
            let special = _mm_cmpgt_epi32(size, _mm_set1_epi32(LARGEST_FINITE));
            let special = _mm_and_si128(special, _mm_set1_epi32(0x7F80_0000));
            _mm_mul_ps(_mm_castsi128_ps(_mm_or_si128(bits, special)), _mm_set1_ps(SCALE))
        }
    }
    #[inline(always)]
    unsafe fn from_bf16(p: *const u16) -> __m128 {
        unsafe { _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn from_u8(p: *const u8) -> __m128 {
        unsafe { _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned()))) }
    }
    #[inline(always)]
    unsafe fn from_i8(p: *const i8) -> __m128 {
        unsafe { _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned()))) }
    }
    #[inline(always)]
    unsafe fn from_e8m0(p: *const u8) -> __m128 {
        unsafe {
            let bits = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned()));
            _mm_castsi128_ps(_mm_max_epi32(_mm_slli_epi32::<23>(bits), _mm_set1_epi32(0x0040_0000)))
        }
    }
    #[inline(always)]
    unsafe fn from_e4m3(p: *const u8) -> __m128 {
        // The bits at the end of the exponent of an f32 are the value times 2^-120, subnormals included.
        const SCALE: f32 = f32::from_bits((127 + 120) << 23);
        unsafe {
            let bits = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned()));
            _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32::<20>(bits)), _mm_set1_ps(SCALE))
        }
    }
    #[inline(always)]
    unsafe fn from_i32(x: __m128i) -> __m128 {
        unsafe { _mm_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, x: __m128) -> i32 {
        unsafe {
            let codes = _mm_cvtps_epi32(x);
            let words = _mm_packs_epi32(codes, codes);
            p.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(_mm_packs_epi16(words, words)));
            let sum = _mm_add_epi32(codes, _mm_shuffle_epi32::<0b01_00_11_10>(codes));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
            _mm_cvtsi128_si32(sum)
        }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> __m128i {
        unsafe { _mm_loadu_si128(p.cast()) }
    }
    #[inline(always)]
    unsafe fn low(x: __m128i) -> __m128i {
        unsafe { _mm_and_si128(x, _mm_set1_epi8(0x0F)) }
    }
    #[inline(always)]
    unsafe fn high(x: __m128i) -> __m128i {
        unsafe { _mm_and_si128(_mm_srli_epi16::<4>(x), _mm_set1_epi8(0x0F)) }
    }
    #[inline(always)]
    unsafe fn two_bits<const FIELD: u32>(x: __m128i) -> __m128i {
        unsafe {
            let x = _mm_srl_epi16(x, _mm_cvtsi32_si128(2 * FIELD as i32));
            _mm_and_si128(x, _mm_set1_epi8(0x03))
        }
    }
    #[inline(always)]
    unsafe fn with_third<const STEP: u32>(codes: __m128i, bits: __m128i) -> __m128i {
        unsafe {
            let bits = match STEP {
                0..=2 => _mm_sll_epi16(bits, _mm_cvtsi32_si128(2 - STEP as i32)),
                _ => _mm_srl_epi16(bits, _mm_cvtsi32_si128(STEP as i32 - 2)),
            };
            _mm_or_si128(codes, _mm_and_si128(bits, _mm_set1_epi8(0x04)))
        }
    }
    #[inline(always)]
    unsafe fn with_bit<const STEP: u32>(codes: __m128i, bits: __m128i) -> __m128i {
        unsafe {
            let bits = match STEP {
                0..=4 => _mm_sll_epi16(bits, _mm_cvtsi32_si128(4 - STEP as i32)),
                _ => _mm_srl_epi16(bits, _mm_cvtsi32_si128(STEP as i32 - 4)),
            };
            _mm_or_si128(codes, _mm_and_si128(bits, _mm_set1_epi8(0x10)))
        }
    }
    #[inline(always)]
    unsafe fn with_field<const FIELD: u32>(codes: __m128i, bits: __m128i) -> __m128i {
        unsafe {
            let bits = match FIELD {
                0..=2 => _mm_sll_epi16(bits, _mm_cvtsi32_si128(4 - 2 * FIELD as i32)),
                _ => _mm_srl_epi16(bits, _mm_cvtsi32_si128(2 * FIELD as i32 - 4)),
            };
            _mm_or_si128(codes, _mm_and_si128(bits, _mm_set1_epi8(0x30)))
        }
    }
    #[inline(always)]
    unsafe fn lookup(codes: __m128i, table: &[i8; 16]) -> __m128i {
        unsafe { _mm_shuffle_epi8(_mm_loadu_si128(table.as_ptr().cast()), codes) }
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[__m128i; N],
        acts: *const i8,
        start: i32,
    ) -> __m128i {
        unsafe {
            // As in AVX2: sums of this many pairs stay within 16 bits.
            let run = 128 >> BITS;
            let mut sum = _mm_set1_epi32(start);
            let mut pairs = _mm_setzero_si128();
            for (i, four) in codes.as_chunks::<4>().0.iter().enumerate() {
                let acts = broadcast_four(acts.add(16 * i));
                for j in 0..4 {
                    let products = _mm_maddubs_epi16(four[j], acts[j]);
                    let i = 4 * i + j;
                    pairs = if i % run == 0 { products } else { _mm_add_epi16(pairs, products) };
                    if i % run == run - 1 || i == N - 1 {
                        sum = widen(sum, pairs);
                    }
                }
            }
            sum
        }
    }
    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[__m128i; N], acts: *const i8, start: i32) -> __m128i {
        unsafe {
            let mut sum = _mm_set1_epi32(start);
            for (i, four) in codes.as_chunks::<4>().0.iter().enumerate() {
                let acts = broadcast_four(acts.add(16 * i));
                for (weights, acts) in four.iter().zip(acts) {
                    sum = widen(sum, bytes(*weights, acts));
                }
            }
            sum
        }
    }
    #[inline(always)]
    unsafe fn spread(acts: *const i8) -> __m128i {
        unsafe { _mm_set1_epi32(acts.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn splat_i32(x: i32) -> __m128i {
        unsafe { _mm_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn dot_spread<const BITS: u32, const N: usize>(
        codes: &[__m128i; N],
        acts: &[__m128i; N],
        start: Option<__m128i>,
    ) -> __m128i {
        unsafe {
            let run = if BITS == 8 { 1 } else { 128 >> BITS };
            let mut sum = start;
            let mut pairs = _mm_setzero_si128();
            for (i, (weights, acts)) in codes.iter().zip(acts).enumerate() {
                let products =
                    if BITS == 8 { bytes(*weights, *acts) } else { _mm_maddubs_epi16(*weights, *acts) };
                pairs = if i % run == 0 { products } else { _mm_add_epi16(pairs, products) };
                if i % run == run - 1 || i == N - 1 {
                    let wide = _mm_madd_epi16(pairs, _mm_set1_epi16(1));
                    sum = Some(sum.map_or(wide, |sum| _mm_add_epi32(sum, wide)));
                }
            }
            sum.unwrap_or(pairs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_converts_as_specified() {
        if !Sse41::is_available() {
            eprintln!("NOT TESTED, this processor lacks: sse41");
            return;
        }
        #[target_feature(enable = "sse4.1,ssse3")]
        unsafe fn convert(halves: &[u16; 4], out: &mut [f32; 4]) {
            // SAFETY: the features are enabled; arrays have four values.
            unsafe { Sse41::store(out.as_mut_ptr(), Sse41::from_f16(halves.as_ptr())) }
        }
        for bits in 0..=u16::MAX {
            let (halves, mut found) = ([bits, !bits, 0x7C00, bits ^ 0x8000], [0.0f32; 4]);
            // SAFETY: the processor was asked.
            unsafe { convert(&halves, &mut found) };
            let expected = halves.map(|bits| half::f16::from_bits(bits).to_f32().to_bits());
            assert_eq!(found.map(f32::to_bits), expected, "{bits:#x}");
        }
    }
}
