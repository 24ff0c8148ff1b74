//! NEON with the matrix instructions of Armv8.6 (Neoverse V1, Cortex-X2 and later): SMMLA multiplies two rows
//! by two tokens, eight columns at a time. One token is multiplied by SDOT.

use super::{Arm, Dot, dotprod};
use crate::kernels::layout::BLOCK;
use crate::kernels::simd::Simd;
use std::arch::aarch64::*;

/// The dot product by SDOT and SMMLA.
#[derive(Clone, Copy)]
pub(crate) struct Smmla;

/// NEON with SDOT and SMMLA.
pub(crate) type MatMul = Arm<Smmla>;

crate::kernels::entries!(MatMul, "neon,dotprod,i8mm");

/// Adds to `[row][token]` the products of `[row][8]` codes and `[token][8]` activations.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(sums: int32x4_t, codes: int8x16_t, acts: int8x16_t) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: the instruction works on these registers alone, and the function enables its feature. (Its
    // intrinsic is not stable.)
    unsafe {
        std::arch::asm!(
            "smmla {sums:v}.4s, {codes:v}.16b, {acts:v}.16b",
            sums = inout(vreg) sums,
            codes = in(vreg) codes,
            acts = in(vreg) acts,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Two dwords per row as eight columns of rows 0 and 1, and of rows 2 and 3.
#[inline]
#[target_feature(enable = "neon")]
fn zip_rows(first: int8x16_t, second: int8x16_t) -> [int8x16_t; 2] {
    let (first, second) = (vreinterpretq_s32_s8(first), vreinterpretq_s32_s8(second));
    [vreinterpretq_s8_s32(vzip1q_s32(first, second)), vreinterpretq_s8_s32(vzip2q_s32(first, second))]
}

/// Sixteen columns of each of two tokens as the first eight of both, and the last eight of both.
#[inline]
#[target_feature(enable = "neon")]
fn zip_tokens(first: int8x16_t, second: int8x16_t) -> [int8x16_t; 2] {
    let (first, second) = (vreinterpretq_s64_s8(first), vreinterpretq_s64_s8(second));
    [vreinterpretq_s8_s64(vzip1q_s64(first, second)), vreinterpretq_s8_s64(vzip2q_s64(first, second))]
}

// SAFETY (for every block below): the contract of `Simd`: the features are present, and every token has `4 * N`
// codes.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl Dot for Smmla {
    const NAME: &str = "i8mm";
    const WIDEST: usize = 8;

    fn is_available() -> bool {
        dotprod::DotProd::is_available() && std::arch::is_aarch64_feature_detected!("i8mm")
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[int8x16_t; N],
        acts: *const i8,
        start: i32,
    ) -> int32x4_t {
        unsafe { dotprod::dot(codes, acts, start) }
    }

    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[int8x16_t; N], acts: *const i8, start: i32) -> int32x4_t {
        unsafe { dotprod::dot(codes, acts, start) }
    }

    #[inline(always)]
    unsafe fn dot_two<const N: usize>(
        codes: &[int8x16_t; N],
        acts: *const i8,
        zero: i8,
    ) -> Option<[int32x4_t; 2]> {
        unsafe {
            let zero = vdupq_n_s8(zero);
            // `[row][token]`, of rows 0 and 1 and of rows 2 and 3.
            let mut sums = [vdupq_n_s32(0); 2];
            for (i, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                let acts = acts.add(16 * i);
                let acts = zip_tokens(vld1q_s8(acts), vld1q_s8(acts.add(BLOCK)));
                for (half, acts) in acts.into_iter().enumerate() {
                    // Once for all tokens: the compiler takes it out of the loop over them.
                    let codes = [codes[2 * half], codes[2 * half + 1]].map(|codes| vsubq_s8(codes, zero));
                    let rows = zip_rows(codes[0], codes[1]);
                    sums = [smmla(sums[0], rows[0], acts), smmla(sums[1], rows[1], acts)];
                }
            }
            Some([vuzp1q_s32(sums[0], sums[1]), vuzp2q_s32(sums[0], sums[1])])
        }
    }
}
