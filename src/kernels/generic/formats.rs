//! How the blocks of each quantized format are unpacked, multiplied and scaled.

use crate::blocks::{BlockType, IQ4_NL_VALUES};
use crate::kernels::acts::ActScale;
use crate::kernels::layout::{BLOCK, Offsets, Planes};
use crate::kernels::simd::Simd;

/// A block of a group, and the values it shares with seven others in the K formats.
#[derive(Clone, Copy)]
pub(crate) struct PackedBlock {
    pub(super) start: *const u8,
    pub(super) supers: *const u8,
}

/// How a quantized format's blocks are unpacked and scaled. Implementations hold no data.
pub(crate) trait Format<S: Simd> {
    /// A type with this format's planes.
    const TYPE: BlockType;
    /// Where the planes lie.
    const AT: Offsets = Offsets::new(Planes::of(Self::TYPE), S::LANES);

    /// Adds a block to the accumulator of each token of a tile of `T`: `codes` and `scales` are the
    /// activations of the same 32 columns.
    ///
    /// # Safety
    /// As for [`Simd`]; the block is in this format, and the tile has `T` tokens.
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    );
}

/// Eight dwords of low and high nibbles: columns 0..16, then 16..32.
#[inline(always)]
unsafe fn nibbles<S: Simd>(codes: *const u8) -> [S::B; 8] {
    // SAFETY: the caller's contract: four dwords per lane.
    unsafe {
        let packed: [S::B; 4] = [0, 1, 2, 3].map(|i| S::bytes(codes.add(i * 4 * S::LANES)));
        let low = packed.map(|x| S::low(x));
        let high = packed.map(|x| S::high(x));
        [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
    }
}

/// [`nibbles`], with the fifth bits of the plane behind them if there is one.
#[inline(always)]
unsafe fn unsigned_codes<S: Simd, const FIVE_BITS: bool>(codes: *const u8) -> [S::B; 8] {
    // SAFETY: the caller's contract: four dwords per lane, and one more with `FIVE_BITS`.
    unsafe {
        let c = nibbles::<S>(codes);
        if !FIVE_BITS {
            return c;
        }
        let bits = S::bytes(codes.add(16 * S::LANES));
        [
            S::with_bit::<0>(c[0], bits),
            S::with_bit::<1>(c[1], bits),
            S::with_bit::<2>(c[2], bits),
            S::with_bit::<3>(c[3], bits),
            S::with_bit::<4>(c[4], bits),
            S::with_bit::<5>(c[5], bits),
            S::with_bit::<6>(c[6], bits),
            S::with_bit::<7>(c[7], bits),
        ]
    }
}

#[inline(always)]
unsafe fn dot<S: Simd, const FIVE_BITS: bool>(weights: &[S::B; 8], acts: *const i8, start: i32) -> S::I {
    // SAFETY: the caller's contract: 32 activations.
    unsafe {
        if FIVE_BITS { S::dot::<5, 8>(weights, acts, start) } else { S::dot::<4, 8>(weights, acts, start) }
    }
}

/// Q4_0 (zero 8) and, with `FIVE_BITS`, Q5_0 (zero 16): a half scale.
pub(crate) struct Symmetric<const FIVE_BITS: bool>;
/// Q4_1 and Q5_1: a half scale and a half minimum.
pub(crate) struct Affine<const FIVE_BITS: bool>;
/// Q4_K and Q5_K: byte scales and minima under two halves per 256 columns.
pub(crate) struct Super<const FIVE_BITS: bool>;
/// Q6_K: six bits, a signed byte scale per 16 columns under a half per 256.
pub(crate) struct SixBits;
/// Q8_0: bytes and a half scale.
pub(crate) struct Bytes;
/// IQ4_NL: nibbles index a table; a half scale.
pub(crate) struct Table;

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Symmetric<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5_0 } else { BlockType::Q4_0 };

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights = unsigned_codes::<S, FIVE_BITS>(block.start);
            let d = S::from_f16(block.start.add(at.scales).cast());
            let zero = if FIVE_BITS { 16 } else { 8 };
            for t in 0..T {
                let scale = &*scales.add(t);
                let sum = dot::<S, FIVE_BITS>(&weights, codes.add(t * BLOCK), -zero * scale.sum);
                acc[t] = S::fma(S::from_i32(sum), S::mul(d, S::splat(scale.d)), acc[t]);
            }
        }
    }
}

/// Adds unsigned codes with a scale and a minimum per row.
#[inline(always)]
unsafe fn add_affine<S: Simd, const FIVE_BITS: bool, const T: usize>(
    weights: &[S::B; 8],
    (d, m): (S::F, S::F),
    codes: *const i8,
    scales: *const ActScale,
    acc: &mut [S::F; T],
) {
    // SAFETY: the caller's contract: `T` tokens.
    unsafe {
        for t in 0..T {
            let scale = &*scales.add(t);
            let sum = dot::<S, FIVE_BITS>(weights, codes.add(t * BLOCK), 0);
            acc[t] = S::fma(S::from_i32(sum), S::mul(d, S::splat(scale.d)), acc[t]);
            acc[t] = S::fma(m, S::splat(scale.ds), acc[t]);
        }
    }
}

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Affine<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5_1 } else { BlockType::Q4_1 };

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights = unsigned_codes::<S, FIVE_BITS>(block.start);
            let d = S::from_f16(block.start.add(at.scales).cast());
            let m = S::from_f16(block.start.add(at.mins).cast());
            add_affine::<S, FIVE_BITS, T>(&weights, (d, m), codes, scales, acc);
        }
    }
}

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Super<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5K } else { BlockType::Q4K };

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights = unsigned_codes::<S, FIVE_BITS>(block.start);
            let d = S::from_f16(block.supers.cast());
            let dmin = S::from_f16(block.supers.add(at.dmin).cast());
            let d = S::mul(d, S::from_u8(block.start.add(at.scales)));
            let m = S::mul(dmin, S::from_u8(block.start.add(at.mins)));
            let m = S::mul(m, S::splat(-1.0));
            add_affine::<S, FIVE_BITS, T>(&weights, (d, m), codes, scales, acc);
        }
    }
}

impl<S: Simd> Format<S> for SixBits {
    const TYPE: BlockType = BlockType::Q6K;

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let c = nibbles::<S>(block.start);
            let d = S::from_f16(block.supers.cast());
            for half in 0..2 {
                let bits = S::bytes(block.start.add(at.high + half * 4 * S::LANES));
                let weights = [
                    S::with_field::<0>(c[4 * half], bits),
                    S::with_field::<1>(c[4 * half + 1], bits),
                    S::with_field::<2>(c[4 * half + 2], bits),
                    S::with_field::<3>(c[4 * half + 3], bits),
                ];
                let dw = S::mul(d, S::from_i8(block.start.add(at.scales + half * S::LANES).cast()));
                for t in 0..T {
                    let scale = &*scales.add(t);
                    let sum = if half == 0 { scale.first } else { scale.sum - scale.first };
                    let sum = S::dot::<6, 4>(&weights, codes.add(t * BLOCK + 16 * half), -32 * sum);
                    acc[t] = S::fma(S::from_i32(sum), S::mul(dw, S::splat(scale.d)), acc[t]);
                }
            }
        }
    }
}

/// Adds stored 8-bit codes.
#[inline(always)]
unsafe fn add_bytes<S: Simd, const T: usize>(
    weights: &[S::B; 8],
    d: S::F,
    codes: *const i8,
    scales: *const ActScale,
    acc: &mut [S::F; T],
) {
    // SAFETY: the caller's contract: `T` tokens.
    unsafe {
        for t in 0..T {
            let scale = &*scales.add(t);
            let start = -S::BYTE_OFFSET * scale.sum;
            let sum = S::dot_bytes::<8>(weights, codes.add(t * BLOCK), start);
            acc[t] = S::fma(S::from_i32(sum), S::mul(d, S::splat(scale.d)), acc[t]);
        }
    }
}

impl<S: Simd> Format<S> for Bytes {
    const TYPE: BlockType = BlockType::Q8_0;

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights: [S::B; 8] =
                [0, 1, 2, 3, 4, 5, 6, 7].map(|i| S::bytes(block.start.add(i * 4 * S::LANES)));
            let d = S::from_f16(block.start.add(at.scales).cast());
            add_bytes::<S, T>(&weights, d, codes, scales, acc);
        }
    }
}

impl<S: Simd> Format<S> for Table {
    const TYPE: BlockType = BlockType::IQ4NL;

    #[inline(always)]
    unsafe fn add<const T: usize>(
        block: PackedBlock,
        codes: *const i8,
        scales: *const ActScale,
        acc: &mut [S::F; T],
    ) {
        // SAFETY: the caller's contract covers every plane of the block and `T` tokens.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let weights = nibbles::<S>(block.start).map(|c| S::lookup(c, &IQ4_NL_VALUES));
            let d = S::from_f16(block.start.add(at.scales).cast());
            add_bytes::<S, T>(&weights, d, codes, scales, acc);
        }
    }
}
