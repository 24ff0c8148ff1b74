//! Baseline NEON (Cortex-A53, A72): no dot product instructions. Products of bytes are added in 16 bits as
//! long as every sum fits, then widened once.

use super::{Arm, Dot};
use crate::kernels::simd::Simd;
use std::arch::aarch64::*;

/// The dot product by 16-bit sums.
#[derive(Clone, Copy)]
pub(crate) struct Widening;

/// Baseline NEON.
pub(crate) type Neon = Arm<Widening>;

crate::kernels::entries!(Neon, "neon");

/// Partial sums of rows 0 and 1, and of rows 2 and 3: one per column of a dword.
type Sums = (int16x8_t, int16x8_t);

#[inline]
#[target_feature(enable = "neon")]
fn zero() -> Sums {
    (vdupq_n_s16(0), vdupq_n_s16(0))
}

/// The largest magnitude of a sum of `n` products of codes of `bits` bits and activations.
const fn largest(bits: u32, n: usize) -> i32 {
    ((1 << bits) - 1) * 127 * n as i32
}

/// Adds to each row of `total` its two sums of `n` products.
#[inline]
#[target_feature(enable = "neon")]
fn widen<const BITS: u32>(total: int32x4_t, (low, high): Sums, n: usize) -> int32x4_t {
    if 2 * largest(BITS, n) <= i16::MAX as i32 {
        vpadalq_s16(total, vpaddq_s16(low, high))
    } else {
        vaddq_s32(total, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
    }
}

/// Four dwords of activation codes, each in all lanes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn broadcast_four(acts: *const i8) -> [int8x16_t; 4] {
    // SAFETY: the contract of `Simd`: `acts` has 16 codes.
    let acts = unsafe { vreinterpretq_s32_s8(vld1q_s8(acts)) };
    [
        vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(acts)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(acts)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(acts)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(acts)),
    ]
}

#[inline]
#[target_feature(enable = "neon")]
fn multiply_add((low, high): Sums, codes: int8x16_t, acts: int8x16_t) -> Sums {
    (vmlal_s8(low, vget_low_s8(codes), vget_low_s8(acts)), vmlal_high_s8(high, codes, acts))
}

// SAFETY (for every block below): the contract of `Simd`: NEON is present and `acts` has `4 * N` codes.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
impl Dot for Widening {
    const NAME: &str = "neon";
    const WIDEST: usize = 4;

    fn is_available() -> bool {
        std::arch::is_aarch64_feature_detected!("neon")
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[int8x16_t; N],
        acts: *const i8,
        start: i32,
    ) -> int32x4_t {
        const { assert!(largest(BITS, 4) <= i16::MAX as i32) };
        unsafe {
            let (mut sums, mut total) = (zero(), vdupq_n_s32(start));
            for (i, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                let acts = broadcast_four(acts.add(16 * i));
                for (codes, acts) in codes.iter().zip(acts) {
                    sums = multiply_add(sums, *codes, acts);
                }
                // Where all products do not fit 16 bits, those of four dwords do.
                if largest(BITS, N) > i16::MAX as i32 {
                    total = widen::<BITS>(total, sums, 4);
                    sums = zero();
                }
            }
            if largest(BITS, N) > i16::MAX as i32 { total } else { widen::<BITS>(total, sums, N) }
        }
    }

    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[int8x16_t; N], acts: *const i8, start: i32) -> int32x4_t {
        unsafe {
            let (mut low, mut high) = (vdupq_n_s32(0), vdupq_n_s32(0));
            for (i, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                let acts = broadcast_four(acts.add(16 * i));
                for pair in [0, 2] {
                    // Two products are at most 2 * 128 * 127, which fits.
                    let sums = multiply_add(zero(), codes[pair], acts[pair]);
                    let sums = multiply_add(sums, codes[pair + 1], acts[pair + 1]);
                    (low, high) = (vpadalq_s16(low, sums.0), vpadalq_s16(high, sums.1));
                }
            }
            vaddq_s32(vdupq_n_s32(start), vpaddq_s32(low, high))
        }
    }
}
