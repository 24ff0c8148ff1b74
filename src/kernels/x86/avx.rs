//! Instruction sets of 8 lanes, one 256-bit register per vector. They differ in the integer dot product alone,
//! the trait [`Dot`]; [`Avx`] adds what they share, AVX2 with FMA and F16C.

use crate::kernels::simd::Simd;
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// The operations in which the sets differ; their contract is that of [`Simd`].
pub(crate) trait Dot: Copy {
    /// The instruction set's name.
    const NAME: &str;
    /// [`Simd::BYTE_OFFSET`].
    const BYTE_OFFSET: i32;

    /// Whether the processor has what the dot product uses.
    fn is_available() -> bool;

    /// [`Simd::dot`].
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[__m256i; N],
        acts: *const i8,
        start: i32,
    ) -> __m256i;
    /// [`Simd::dot_bytes`].
    unsafe fn dot_bytes<const N: usize>(codes: &[__m256i; N], acts: *const i8, start: i32) -> __m256i;
}

/// An instruction set of 8 lanes with the dot product `D`; proof that the processor has it.
#[derive(Clone, Copy)]
pub(crate) struct Avx<D>(PhantomData<D>);

impl<D: Dot> Avx<D> {
    /// The instruction set's name.
    pub(crate) const NAME: &str = D::NAME;

    /// Whether the processor has everything used by the set.
    pub(crate) fn is_available() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && D::is_available()
    }
}

/// Four activation codes, in all lanes.
#[inline(always)]
pub(super) unsafe fn broadcast(acts: *const i8) -> __m256i {
    // SAFETY: the contract of `Simd`: `acts` has four codes.
    unsafe { _mm256_set1_epi32(acts.cast::<i32>().read_unaligned()) }
}

// SAFETY (for every block below): the contract of `Simd`, stated in its module: the features are present
// and the pointers valid.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl<D: Dot> Simd for Avx<D> {
    const LANES: usize = 8;
    const WIDEST: usize = 4;
    const PAIRS: bool = false;
    const VECTORS: usize = 2;
    const BYTE_OFFSET: i32 = D::BYTE_OFFSET;
    type F = __m256;
    type I = __m256i;
    type B = __m256i;
    crate::kernels::simd::fused_sums!();

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m256) {
        unsafe { _mm256_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn magnitudes(x: __m256) -> __m256i {
        unsafe { _mm256_castps_si256(_mm256_andnot_ps(_mm256_set1_ps(-0.0), x)) }
    }
    #[inline(always)]
    unsafe fn max_i32(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_max_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn highest(x: __m256i) -> i32 {
        unsafe {
            let x = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            let x = _mm_max_epi32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
            let x = _mm_max_epi32(x, _mm_shuffle_epi32::<0b10_11_00_01>(x));
            _mm_cvtsi128_si32(x)
        }
    }
    #[inline(always)]
    unsafe fn round(x: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    unsafe fn exp2_integral(x: __m256) -> __m256 {
        unsafe {
            let n = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        }
    }
    #[inline(always)]
    unsafe fn from_f16(p: *const u16) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn from_bf16(p: *const u16) -> __m256 {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn from_u8(p: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn from_i8(p: *const i8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn from_e8m0(p: *const u8) -> __m256 {
        unsafe {
            let bits = _mm256_slli_epi32::<23>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())));
            _mm256_castsi256_ps(_mm256_max_epi32(bits, _mm256_set1_epi32(0x0040_0000)))
        }
    }
    #[inline(always)]
    unsafe fn from_e4m3(p: *const u8) -> __m256 {
        unsafe {
            // A half has the same mantissa at the same place and a bias that is larger by 8.
            let halves = _mm_slli_epi16::<7>(_mm_cvtepu8_epi16(_mm_loadl_epi64(p.cast())));
            _mm256_mul_ps(_mm256_cvtph_ps(halves), _mm256_set1_ps(256.0))
        }
    }
    #[inline(always)]
    unsafe fn from_i32(x: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, x: __m256) -> i32 {
        unsafe {
            let codes = _mm256_cvtps_epi32(x);
            let (low, high) = (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
            let words = _mm_packs_epi32(low, high);
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(words, words));
            let sum = _mm_add_epi32(low, high);
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
            _mm_cvtsi128_si32(sum)
        }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn low(x: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(x, _mm256_set1_epi8(0x0F)) }
    }
    #[inline(always)]
    unsafe fn high(x: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(x), _mm256_set1_epi8(0x0F)) }
    }
    #[inline(always)]
    unsafe fn two_bits<const FIELD: u32>(x: __m256i) -> __m256i {
        unsafe {
            let x = _mm256_srl_epi16(x, _mm_cvtsi32_si128(2 * FIELD as i32));
            _mm256_and_si256(x, _mm256_set1_epi8(0x03))
        }
    }
    #[inline(always)]
    unsafe fn with_third<const STEP: u32>(codes: __m256i, bits: __m256i) -> __m256i {
        unsafe {
            let bits = match STEP {
                0..=2 => _mm256_sll_epi16(bits, _mm_cvtsi32_si128(2 - STEP as i32)),
                _ => _mm256_srl_epi16(bits, _mm_cvtsi32_si128(STEP as i32 - 2)),
            };
            _mm256_or_si256(codes, _mm256_and_si256(bits, _mm256_set1_epi8(0x04)))
        }
    }
    #[inline(always)]
    unsafe fn with_bit<const STEP: u32>(codes: __m256i, bits: __m256i) -> __m256i {
        unsafe {
            let bits = match STEP {
                0..=4 => _mm256_sll_epi16(bits, _mm_cvtsi32_si128(4 - STEP as i32)),
                _ => _mm256_srl_epi16(bits, _mm_cvtsi32_si128(STEP as i32 - 4)),
            };
            _mm256_or_si256(codes, _mm256_and_si256(bits, _mm256_set1_epi8(0x10)))
        }
    }
    #[inline(always)]
    unsafe fn with_field<const FIELD: u32>(codes: __m256i, bits: __m256i) -> __m256i {
        unsafe {
            let bits = match FIELD {
                0..=2 => _mm256_sll_epi16(bits, _mm_cvtsi32_si128(4 - 2 * FIELD as i32)),
                _ => _mm256_srl_epi16(bits, _mm_cvtsi32_si128(2 * FIELD as i32 - 4)),
            };
            _mm256_or_si256(codes, _mm256_and_si256(bits, _mm256_set1_epi8(0x30)))
        }
    }
    #[inline(always)]
    unsafe fn lookup(codes: __m256i, table: &[i8; 16]) -> __m256i {
        unsafe {
            let offset = _mm_set1_epi8(D::BYTE_OFFSET as i8);
            let table = _mm_xor_si128(_mm_loadu_si128(table.as_ptr().cast()), offset);
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes)
        }
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[__m256i; N],
        acts: *const i8,
        start: i32,
    ) -> __m256i {
        unsafe { D::dot::<BITS, N>(codes, acts, start) }
    }
    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[__m256i; N], acts: *const i8, start: i32) -> __m256i {
        unsafe { D::dot_bytes(codes, acts, start) }
    }
}
