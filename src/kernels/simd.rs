//! The few vector operations an instruction set provides; [`super::generic`] builds every kernel from them.
//!
//! # Safety
//!
//! All functions are `unsafe` for one reason, stated here once: the caller must be compiled with, and run
//! on, a processor that has the instruction set, and pointers must be valid for the elements named. They
//! are `#[inline(always)]` so that they melt into the entry points, which carry `#[target_feature]`.

/// Vectors of one instruction set. `LANES` f32 or i32 values, or `4 * LANES` bytes (a dword per lane).
pub(crate) trait Simd: Copy {
    /// Lanes, also the rows of a packed group; a divisor of 16.
    const LANES: usize;
    /// Tokens per tile: as many accumulators as the registers hold.
    const WIDEST: usize;
    /// Tokens from which on weights that take long to unpack are unpacked once for all.
    const UNPACKS_FROM: usize = 2 * Self::WIDEST;
    /// Whether that pays for all of them, or only for those whose halves have scales of their own: vectors may be so wide
    /// that storing others takes as long.
    const UNPACKS_ALL: bool = true;
    /// Whether a single token meets two groups at once, to share what is loaded of it.
    const PAIRS: bool;
    /// Vectors of results per query that attention keeps in registers: 4, 2 or 1.
    const VECTORS: usize;
    /// Whether this is the set for moderate products of another.
    const IS_MODERATE: bool = false;
    /// 8-bit weight codes are stored with this added.
    const BYTE_OFFSET: i32;
    /// `LANES` f32 values.
    type F: Copy;
    /// `LANES` i32 values.
    type I: Copy;
    /// `4 * LANES` bytes.
    type B: Copy;
    /// `LANES` sums of scaled products, each a value of f32.
    type Acc: Copy;
    /// The set for products of moderate activations with a format of moderate scales, of which no sum overflows and none
    /// that is not exact is below the normal range.
    type Moderate: Simd;
    /// The set whose sums may come out wrong and then say so ([`Self::is_right`]): it is asked for moderate products only,
    /// and what is wrong is computed again by the set that names it. Without [`Self::IS_TENTATIVE`] there is none.
    type Tentative: Simd;
    /// Whether this is such a set. Activations are spread over vectors in memory before they meet its weights; it has
    /// [`Self::spread`], [`Self::splat_i32`] and [`Self::dot_spread`].
    const IS_TENTATIVE: bool = false;
    /// What minima are multiplied with.
    type Factor: Copy;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, x: Self::F);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Sums of nothing.
    unsafe fn nothing() -> Self::Acc;
    /// `acc + sum * scale`, rounded once; sums are below `2^24`, so f32 has them.
    unsafe fn add_scaled(acc: Self::Acc, sum: Self::I, scale: Self::F) -> Self::Acc;
    /// `acc + min * factor`, rounded once.
    unsafe fn add_min(acc: Self::Acc, min: Self::F, factor: Self::Factor) -> Self::Acc;
    /// [`Self::add_scaled`], then [`Self::add_min`].
    #[inline(always)]
    unsafe fn add_affine(
        acc: Self::Acc,
        of_codes: (Self::I, Self::F),
        of_min: (Self::F, Self::Factor),
    ) -> Self::Acc {
        // SAFETY: the caller's contract.
        unsafe { Self::add_min(Self::add_scaled(acc, of_codes.0, of_codes.1), of_min.0, of_min.1) }
    }
    /// A factor of minima.
    unsafe fn factor(x: f32) -> Self::Factor;
    /// The values of the sums.
    unsafe fn total(acc: Self::Acc) -> Self::F;
    /// Whether the sums of a set that is tentative are what they have to be; they are within `reach`.
    #[inline(always)]
    unsafe fn is_right(_acc: Self::Acc, _reach: Reach) -> bool {
        true
    }
    /// The larger; `b` where `a` is not a number.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` where `a` is not a number.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// The bits without the sign: ordered like the magnitudes, with what is not finite at the upper end.
    unsafe fn magnitudes(x: Self::F) -> Self::I;
    /// The larger integers.
    unsafe fn max_i32(a: Self::I, b: Self::I) -> Self::I;
    /// The largest integer.
    unsafe fn highest(x: Self::I) -> i32;
    /// To the nearest integer, ties to even.
    unsafe fn round(x: Self::F) -> Self::F;
    /// `2^x` for an integral `x` in -126..=127.
    unsafe fn exp2_integral(x: Self::F) -> Self::F;
    /// `LANES` halves.
    unsafe fn from_f16(p: *const u16) -> Self::F;
    /// `LANES` bfloat16 values.
    unsafe fn from_bf16(p: *const u16) -> Self::F;
    /// `LANES` unsigned bytes.
    unsafe fn from_u8(p: *const u8) -> Self::F;
    /// `LANES` signed bytes.
    unsafe fn from_i8(p: *const i8) -> Self::F;
    /// `LANES` numbers of type E8M0: `2^(byte - 127)`, whatever the byte.
    unsafe fn from_e8m0(p: *const u8) -> Self::F;
    /// `LANES` numbers of type E4M3 without a sign, below 0x7F.
    unsafe fn from_e4m3(p: *const u8) -> Self::F;
    unsafe fn from_i32(x: Self::I) -> Self::F;
    /// Rounds values in -128..=127 to bytes, ties to even, and stores them; returns their sum.
    unsafe fn store_i8(p: *mut i8, x: Self::F) -> i32;

    /// Loads `4 * LANES` bytes.
    unsafe fn bytes(p: *const u8) -> Self::B;
    /// The low nibble of each byte.
    unsafe fn low(x: Self::B) -> Self::B;
    /// The high nibble of each byte.
    unsafe fn high(x: Self::B) -> Self::B;
    /// The two-bit field `FIELD` of each byte.
    unsafe fn two_bits<const FIELD: u32>(x: Self::B) -> Self::B;
    /// `codes`, below 4, with bit `STEP` of each byte of `bits` added as 4.
    unsafe fn with_third<const STEP: u32>(codes: Self::B, bits: Self::B) -> Self::B;
    /// `codes` with bit `STEP` of each byte of `bits` added as 16.
    unsafe fn with_bit<const STEP: u32>(codes: Self::B, bits: Self::B) -> Self::B;
    /// `codes` with the two-bit field `FIELD` of each byte of `bits` added in units of 16.
    unsafe fn with_field<const FIELD: u32>(codes: Self::B, bits: Self::B) -> Self::B;
    /// `table[code]` in the form of stored 8-bit codes (that is, plus `BYTE_OFFSET`).
    unsafe fn lookup(codes: Self::B, table: &[i8; 16]) -> Self::B;

    /// Per lane, `start` plus the dot product of `N` dwords of unsigned codes below `2^BITS` (`BITS` is 4, 5
    /// or 6) with `4 * N` activation codes, the same for all lanes.
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[Self::B; N],
        acts: *const i8,
        start: i32,
    ) -> Self::I;
    /// The same for stored 8-bit codes; the offset is not yet taken off.
    unsafe fn dot_bytes<const N: usize>(codes: &[Self::B; N], acts: *const i8, start: i32) -> Self::I;
    /// Four activation codes, in all lanes.
    #[inline(always)]
    unsafe fn spread(_acts: *const i8) -> Self::B {
        unreachable!("the set does not spread activations")
    }
    #[inline(always)]
    unsafe fn splat_i32(_x: i32) -> Self::I {
        unreachable!("the set does not spread activations")
    }
    /// [`Self::dot`] with activation codes that are spread, or, if `BITS` is 8, [`Self::dot_bytes`].
    #[inline(always)]
    unsafe fn dot_spread<const BITS: u32, const N: usize>(
        _codes: &[Self::B; N],
        _acts: &[Self::B; N],
        _start: Option<Self::I>,
    ) -> Self::I {
        unreachable!("the set does not spread activations")
    }
    /// The dot products of codes less `zero`, of whatever kind, with two tokens, which are [`BLOCK`] apart: only
    /// for a set that has an instruction for two tokens at once and a [`Self::BYTE_OFFSET`] of 0.
    ///
    /// [`BLOCK`]: super::layout::BLOCK
    #[inline(always)]
    unsafe fn dot_two<const N: usize>(
        _codes: &[Self::B; N],
        _acts: *const i8,
        _zero: i8,
    ) -> Option<[Self::I; 2]> {
        None
    }
}

/// How far the sums of a row may go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach {
    /// The sum of the magnitudes of all integer sums, at most.
    pub(crate) codes: f32,
    /// Terms of minima.
    pub(crate) minima: f32,
    /// Significant bits of a minimum, at most.
    pub(crate) minimum_bits: u32,
}

impl Reach {
    /// Products of a row, of codes or of minima, of which the sum may be told to be right.
    pub(crate) const MOST_TERMS: usize = 1 << 17;
}

/// Implements the sums of [`Simd`] for a set with an instruction for [`Simd::fma`].
macro_rules! fused_sums {
    () => {
        type Acc = Self::F;
        type Moderate = Self;
        type Tentative = Self;
        type Factor = f32;

        #[inline(always)]
        unsafe fn nothing() -> Self::F {
            // SAFETY: the caller's contract.
            unsafe { Self::splat(0.0) }
        }
        #[inline(always)]
        unsafe fn add_scaled(acc: Self::F, sum: Self::I, scale: Self::F) -> Self::F {
            // SAFETY: the caller's contract.
            unsafe { Self::fma(Self::from_i32(sum), scale, acc) }
        }
        #[inline(always)]
        unsafe fn add_min(acc: Self::F, min: Self::F, factor: f32) -> Self::F {
            // SAFETY: the caller's contract.
            unsafe { Self::fma(min, Self::splat(factor), acc) }
        }
        #[inline(always)]
        unsafe fn factor(x: f32) -> f32 {
            x
        }
        #[inline(always)]
        unsafe fn total(acc: Self::F) -> Self::F {
            acc
        }
    };
}
pub(crate) use fused_sums;
