//! NEON with the dot product instructions of Armv8.2 (Cortex-A55, A76 and later): SDOT adds four products to
//! each 32-bit lane.

use super::{Arm, Dot};
use crate::kernels::simd::Simd;
use std::arch::aarch64::*;

/// The dot product by SDOT.
#[derive(Clone, Copy)]
pub(crate) struct Sdot;

/// NEON with SDOT.
pub(crate) type DotProd = Arm<Sdot>;

crate::kernels::entries!(DotProd, "neon,dotprod");

/// Adds to each lane the dot product of its four codes with dword `LANE` of `acts`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: u32>(sum: int32x4_t, codes: int8x16_t, acts: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: the instruction works on these registers alone, and the function enables its feature. (Its
    // intrinsic is not stable.)
    unsafe {
        std::arch::asm!(
            "sdot {sum:v}.4s, {codes:v}.16b, {acts:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            codes = in(vreg) codes,
            acts = in(vreg) acts,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// [`Dot::dot`] and [`Dot::dot_bytes`].
#[inline(always)]
pub(super) unsafe fn dot<const N: usize>(codes: &[int8x16_t; N], acts: *const i8, start: i32) -> int32x4_t {
    // SAFETY: the contract of `Simd`: the feature is present, and `acts` has `4 * N` codes.
    unsafe {
        let mut sum = vdupq_n_s32(start);
        for (i, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            let acts = vld1q_s8(acts.add(16 * i));
            sum = sdot::<0>(sum, codes[0], acts);
            sum = sdot::<1>(sum, codes[1], acts);
            sum = sdot::<2>(sum, codes[2], acts);
            sum = sdot::<3>(sum, codes[3], acts);
        }
        sum
    }
}

impl Dot for Sdot {
    const NAME: &str = "dotprod";
    const WIDEST: usize = 8;

    fn is_available() -> bool {
        std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("dotprod")
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[int8x16_t; N],
        acts: *const i8,
        start: i32,
    ) -> int32x4_t {
        // SAFETY: the caller's contract.
        unsafe { dot(codes, acts, start) }
    }

    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[int8x16_t; N], acts: *const i8, start: i32) -> int32x4_t {
        // SAFETY: the caller's contract.
        unsafe { dot(codes, acts, start) }
    }
}
