//! AVX-512 with VNNI: 16 lanes. `vpdpbusd` multiplies unsigned weight bytes by signed activation bytes, so
//! 8-bit weights are stored with 128 added; its activation operand is a broadcast from memory.

use crate::kernels::simd::Simd;
use std::arch::x86_64::*;

/// Proof that the processor has the instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Vnni;

impl Avx512Vnni {
    /// The instruction set's name.
    pub(crate) const NAME: &str = "avx512vnni";

    /// Whether the processor has everything used here.
    pub(crate) fn is_available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }
}

crate::kernels::entries!(Avx512Vnni, "avx512f,avx512bw,avx512vnni,avx2,fma,f16c");

#[inline(always)]
unsafe fn dot<const N: usize>(codes: &[__m512i; N], acts: *const i8, start: i32) -> __m512i {
    // SAFETY: the contract of `Simd`: `acts` has `4 * N` codes.
    unsafe {
        let mut sum = _mm512_set1_epi32(start);
        for (i, weights) in codes.iter().enumerate() {
            let acts = _mm512_set1_epi32(acts.add(4 * i).cast::<i32>().read_unaligned());
            sum = _mm512_dpbusd_epi32(sum, *weights, acts);
        }
        sum
    }
}

// SAFETY (for every block below): the contract of `Simd`, stated in its module: the features are present
// and the pointers valid.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl Simd for Avx512Vnni {
    const LANES: usize = 16;
    const WIDEST: usize = 8;
    // Measured: with fewer tokens than that it loses.
    const UNPACKS_FROM: usize = 6 * Self::WIDEST;
    const UNPACKS_ALL: bool = false;
    const PAIRS: bool = false;
    const VECTORS: usize = 4;
    const BYTE_OFFSET: i32 = 128;
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    crate::kernels::simd::fused_sums!();

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn magnitudes(x: __m512) -> __m512i {
        unsafe { _mm512_castps_si512(_mm512_abs_ps(x)) }
    }
    #[inline(always)]
    unsafe fn max_i32(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_max_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn highest(x: __m512i) -> i32 {
        unsafe { _mm512_reduce_max_epi32(x) }
    }
    #[inline(always)]
    unsafe fn round(x: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    unsafe fn exp2_integral(x: __m512) -> __m512 {
        unsafe {
            let n = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
        }
    }
    #[inline(always)]
    unsafe fn from_f16(p: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn from_bf16(p: *const u16) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn from_u8(p: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn from_i8(p: *const i8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn from_e8m0(p: *const u8) -> __m512 {
        unsafe {
            let bits = _mm512_slli_epi32::<23>(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())));
            _mm512_castsi512_ps(_mm512_max_epi32(bits, _mm512_set1_epi32(0x0040_0000)))
        }
    }
    #[inline(always)]
    unsafe fn from_e4m3(p: *const u8) -> __m512 {
        unsafe {
            // A half has the same mantissa at the same place and a bias that is larger by 8.
            let halves = _mm256_slli_epi16::<7>(_mm256_cvtepu8_epi16(_mm_loadu_si128(p.cast())));
            _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(256.0))
        }
    }
    #[inline(always)]
    unsafe fn from_i32(x: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, x: __m512) -> i32 {
        unsafe {
            let codes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
            _mm_storeu_si128(p.cast(), codes);
            // Sums of eight unsigned bytes each, which are the codes plus 128.
            let sums = _mm_sad_epu8(_mm_xor_si128(codes, _mm_set1_epi8(-128)), _mm_setzero_si128());
            _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128
        }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn low(x: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(x, _mm512_set1_epi8(0x0F)) }
    }
    #[inline(always)]
    unsafe fn high(x: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(x), _mm512_set1_epi8(0x0F)) }
    }
    #[inline(always)]
    unsafe fn two_bits<const FIELD: u32>(x: __m512i) -> __m512i {
        unsafe {
            let x = _mm512_srl_epi16(x, _mm_cvtsi32_si128(2 * FIELD as i32));
            _mm512_and_si512(x, _mm512_set1_epi8(0x03))
        }
    }
    #[inline(always)]
    unsafe fn with_third<const STEP: u32>(codes: __m512i, bits: __m512i) -> __m512i {
        unsafe {
            let bits = match STEP {
                0..=2 => _mm512_sll_epi16(bits, _mm_cvtsi32_si128(2 - STEP as i32)),
                _ => _mm512_srl_epi16(bits, _mm_cvtsi32_si128(STEP as i32 - 2)),
            };
            // codes | (bits & 4)
            _mm512_ternarylogic_epi32::<0xF8>(codes, bits, _mm512_set1_epi8(0x04))
        }
    }
    #[inline(always)]
    unsafe fn with_bit<const STEP: u32>(codes: __m512i, bits: __m512i) -> __m512i {
        unsafe {
            let bits = match STEP {
                0..=4 => _mm512_sll_epi16(bits, _mm_cvtsi32_si128(4 - STEP as i32)),
                _ => _mm512_srl_epi16(bits, _mm_cvtsi32_si128(STEP as i32 - 4)),
            };
            // codes | (bits & 16)
            _mm512_ternarylogic_epi32::<0xF8>(codes, bits, _mm512_set1_epi8(0x10))
        }
    }
    #[inline(always)]
    unsafe fn with_field<const FIELD: u32>(codes: __m512i, bits: __m512i) -> __m512i {
        unsafe {
            let bits = match FIELD {
                0..=2 => _mm512_sll_epi16(bits, _mm_cvtsi32_si128(4 - 2 * FIELD as i32)),
                _ => _mm512_srl_epi16(bits, _mm_cvtsi32_si128(2 * FIELD as i32 - 4)),
            };
            _mm512_ternarylogic_epi32::<0xF8>(codes, bits, _mm512_set1_epi8(0x30))
        }
    }
    #[inline(always)]
    unsafe fn lookup(codes: __m512i, table: &[i8; 16]) -> __m512i {
        unsafe {
            let table = _mm_xor_si128(_mm_loadu_si128(table.as_ptr().cast()), _mm_set1_epi8(-128));
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes)
        }
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[__m512i; N],
        acts: *const i8,
        start: i32,
    ) -> __m512i {
        unsafe { dot(codes, acts, start) }
    }
    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[__m512i; N], acts: *const i8, start: i32) -> __m512i {
        unsafe { dot(codes, acts, start) }
    }
}
