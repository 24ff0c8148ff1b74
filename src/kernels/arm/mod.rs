//! aarch64 instruction sets. They differ in the integer dot product alone, the trait [`Dot`]; [`Arm`] adds
//! what they share: 4 lanes, one 128-bit register per vector.

use crate::kernels::simd::Simd;
use std::arch::aarch64::*;
use std::marker::PhantomData;

pub(super) mod dotprod;
pub(super) mod i8mm;
pub(super) mod neon;

/// The operations in which the aarch64 sets differ; their contract is that of [`Simd`].
pub(crate) trait Dot: Copy {
    /// The instruction set's name.
    const NAME: &str;
    /// [`Simd::WIDEST`].
    const WIDEST: usize;

    /// Whether the processor has everything used by the set.
    fn is_available() -> bool;

    /// [`Simd::dot`].
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[int8x16_t; N],
        acts: *const i8,
        start: i32,
    ) -> int32x4_t;
    /// [`Simd::dot_bytes`].
    unsafe fn dot_bytes<const N: usize>(codes: &[int8x16_t; N], acts: *const i8, start: i32) -> int32x4_t;

    /// [`Simd::dot_two`].
    #[inline(always)]
    unsafe fn dot_two<const N: usize>(
        _codes: &[int8x16_t; N],
        _acts: *const i8,
        _zero: i8,
    ) -> Option<[int32x4_t; 2]> {
        None
    }
}

/// An aarch64 instruction set with the dot product `D`; proof that the processor has it.
#[derive(Clone, Copy)]
pub(crate) struct Arm<D>(PhantomData<D>);

impl<D: Dot> Arm<D> {
    /// The instruction set's name.
    pub(crate) const NAME: &str = D::NAME;

    /// Whether the processor has everything used by the set.
    pub(crate) fn is_available() -> bool {
        D::is_available()
    }
}

/// Four bytes, in the low lanes.
#[inline(always)]
unsafe fn four_bytes(p: *const u8) -> uint8x8_t {
    // SAFETY: the contract of `Simd`: `p` has four bytes.
    unsafe { vcreate_u8(u64::from(p.cast::<u32>().read_unaligned())) }
}

/// `codes`, of which the compiler now knows nothing. Where it knows that codes are not negative it extends
/// them to 16 bits ahead of the loop over tokens, and the multiplications that extend by themselves are lost.
#[inline]
#[target_feature(enable = "neon")]
fn opaque(codes: int8x16_t) -> int8x16_t {
    let mut codes = codes;
    // SAFETY: there is no instruction.
    unsafe {
        std::arch::asm!(
            "/* {codes:v} */",
            codes = inout(vreg) codes,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    codes
}

/// Bytes shifted left by -6..=4, a constant where this is inlined: NEON's shifts by a register cost more.
#[inline]
#[target_feature(enable = "neon")]
fn shifted(bytes: int8x16_t, left: i32) -> int8x16_t {
    let bytes = vreinterpretq_u8_s8(bytes);
    vreinterpretq_s8_u8(match left {
        4 => vshlq_n_u8::<4>(bytes),
        3 => vshlq_n_u8::<3>(bytes),
        2 => vshlq_n_u8::<2>(bytes),
        1 => vshlq_n_u8::<1>(bytes),
        -1 => vshrq_n_u8::<1>(bytes),
        -2 => vshrq_n_u8::<2>(bytes),
        -3 => vshrq_n_u8::<3>(bytes),
        -4 => vshrq_n_u8::<4>(bytes),
        -5 => vshrq_n_u8::<5>(bytes),
        -6 => vshrq_n_u8::<6>(bytes),
        _ => bytes,
    })
}

/// Four halves. The intrinsic for FCVTL is younger than this package's `rust-version`.
#[inline]
#[target_feature(enable = "neon")]
fn widened(halves: uint16x4_t) -> float32x4_t {
    let floats: float32x4_t;
    // SAFETY: the instruction works on these registers alone, and every processor with NEON has it.
    unsafe {
        std::arch::asm!(
            "fcvtl {floats:v}.4s, {halves:v}.4h",
            floats = out(vreg) floats,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    floats
}

// SAFETY (for every block below): the contract of `Simd`, stated in its module: the pointers are valid for
// the elements named.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl<D: Dot> Simd for Arm<D> {
    const LANES: usize = 4;
    const WIDEST: usize = D::WIDEST;
    const PAIRS: bool = true;
    const VECTORS: usize = 4;
    const BYTE_OFFSET: i32 = 0;
    type F = float32x4_t;
    type I = int32x4_t;
    type B = int8x16_t;
    crate::kernels::simd::fused_sums!();

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: float32x4_t) {
        unsafe { vst1q_f32(p, x) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmaxnmq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vminnmq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn magnitudes(x: float32x4_t) -> int32x4_t {
        unsafe { vreinterpretq_s32_f32(vabsq_f32(x)) }
    }
    #[inline(always)]
    unsafe fn max_i32(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        unsafe { vmaxq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn highest(x: int32x4_t) -> i32 {
        unsafe { vmaxvq_s32(x) }
    }
    #[inline(always)]
    unsafe fn round(x: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(x) }
    }
    #[inline(always)]
    unsafe fn exp2_integral(x: float32x4_t) -> float32x4_t {
        unsafe {
            let n = vaddq_s32(vcvtq_s32_f32(x), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(n))
        }
    }
    #[inline(always)]
    unsafe fn from_f16(p: *const u16) -> float32x4_t {
        unsafe { widened(vld1_u16(p)) }
    }
    #[inline(always)]
    unsafe fn from_bf16(p: *const u16) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))) }
    }
    #[inline(always)]
    unsafe fn from_u8(p: *const u8) -> float32x4_t {
        unsafe {
            let words = vmovl_u8(four_bytes(p));
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)))
        }
    }
    #[inline(always)]
    unsafe fn from_i8(p: *const i8) -> float32x4_t {
        unsafe {
            let words = vmovl_s8(vreinterpret_s8_u8(four_bytes(p.cast())));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)))
        }
    }
    #[inline(always)]
    unsafe fn from_e8m0(p: *const u8) -> float32x4_t {
        unsafe {
            let bits = vshlq_n_u32::<23>(vmovl_u16(vget_low_u16(vmovl_u8(four_bytes(p)))));
            vreinterpretq_f32_u32(vmaxq_u32(bits, vdupq_n_u32(0x0040_0000)))
        }
    }
    #[inline(always)]
    unsafe fn from_e4m3(p: *const u8) -> float32x4_t {
        unsafe {
            // A half has the same mantissa at the same place and a bias that is larger by 8.
            let halves = vget_low_u16(vshll_n_u8::<7>(four_bytes(p)));
            vmulq_f32(widened(halves), vdupq_n_f32(256.0))
        }
    }
    #[inline(always)]
    unsafe fn from_i32(x: int32x4_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(x) }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, x: float32x4_t) -> i32 {
        unsafe {
            let codes = vcvtnq_s32_f32(x);
            let words = vqmovn_s32(codes);
            let bytes = vqmovn_s16(vcombine_s16(words, words));
            p.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(bytes)));
            vaddvq_s32(codes)
        }
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> int8x16_t {
        unsafe { vld1q_s8(p.cast()) }
    }
    #[inline(always)]
    unsafe fn low(x: int8x16_t) -> int8x16_t {
        unsafe { opaque(vandq_s8(x, vdupq_n_s8(0x0F))) }
    }
    #[inline(always)]
    unsafe fn high(x: int8x16_t) -> int8x16_t {
        unsafe { opaque(vreinterpretq_s8_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s8(x)))) }
    }
    #[inline(always)]
    unsafe fn two_bits<const FIELD: u32>(x: int8x16_t) -> int8x16_t {
        unsafe { opaque(vandq_s8(shifted(x, -2 * (FIELD as i32)), vdupq_n_s8(0x03))) }
    }
    #[inline(always)]
    unsafe fn with_third<const STEP: u32>(codes: int8x16_t, bits: int8x16_t) -> int8x16_t {
        unsafe { vbslq_s8(vdupq_n_u8(0x04), shifted(bits, 2 - STEP as i32), codes) }
    }
    #[inline(always)]
    unsafe fn with_bit<const STEP: u32>(codes: int8x16_t, bits: int8x16_t) -> int8x16_t {
        unsafe { vbslq_s8(vdupq_n_u8(0x10), shifted(bits, 4 - STEP as i32), codes) }
    }
    #[inline(always)]
    unsafe fn with_field<const FIELD: u32>(codes: int8x16_t, bits: int8x16_t) -> int8x16_t {
        unsafe { vbslq_s8(vdupq_n_u8(0x30), shifted(bits, 4 - 2 * FIELD as i32), codes) }
    }
    #[inline(always)]
    unsafe fn lookup(codes: int8x16_t, table: &[i8; 16]) -> int8x16_t {
        unsafe { vqtbl1q_s8(vld1q_s8(table.as_ptr()), vreinterpretq_u8_s8(codes)) }
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[int8x16_t; N],
        acts: *const i8,
        start: i32,
    ) -> int32x4_t {
        unsafe { D::dot::<BITS, N>(codes, acts, start) }
    }
    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[int8x16_t; N], acts: *const i8, start: i32) -> int32x4_t {
        unsafe { D::dot_bytes(codes, acts, start) }
    }
    #[inline(always)]
    unsafe fn dot_two<const N: usize>(
        codes: &[int8x16_t; N],
        acts: *const i8,
        zero: i8,
    ) -> Option<[int32x4_t; 2]> {
        unsafe { D::dot_two(codes, acts, zero) }
    }
}

#[cfg(test)]
mod tests {
    use super::neon::Neon;
    use super::*;

    #[test]
    fn extrema_return_the_second_where_the_first_is_not_a_number() {
        for nan in [f32::NAN, -f32::NAN] {
            let (mut max, mut min) = ([0.0; 4], [0.0; 4]);
            // SAFETY: baseline NEON; the arrays have 4 values.
            unsafe {
                Neon::store(max.as_mut_ptr(), Neon::max(Neon::splat(nan), Neon::splat(-1.5)));
                Neon::store(min.as_mut_ptr(), Neon::min(Neon::splat(nan), Neon::splat(1.5)));
            }
            assert_eq!((max, min), ([-1.5; 4], [1.5; 4]), "{:#x}", nan.to_bits());
        }
    }

    #[test]
    fn every_half_converts_as_specified() {
        for bits in 0..=u16::MAX {
            let (halves, mut found) = ([bits; 4], [0.0f32; 4]);
            // SAFETY: baseline NEON; the arrays have 4 values.
            unsafe { Neon::store(found.as_mut_ptr(), Neon::from_f16(halves.as_ptr())) };
            let expected = half::f16::from_bits(bits).to_f32();
            assert_eq!(found.map(f32::to_bits), [expected.to_bits(); 4], "{bits:#x}");
        }
    }
}
