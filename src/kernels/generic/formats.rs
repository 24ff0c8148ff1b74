//! How the blocks of each quantized format are unpacked, multiplied and scaled.
//!
//! A format says what its codes are and how to unpack a block; the product is the same for all.

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

/// What the bytes of unpacked codes are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codes {
    /// Unsigned, below 16.
    FourBits,
    /// Unsigned, below 32.
    FiveBits,
    /// Unsigned, below 64.
    SixBits,
    /// Stored 8-bit codes.
    Bytes,
}

/// 32 columns of a group: `w = scale * (code - ZERO) + min`, per row.
pub(crate) struct Unpacked<S: Simd> {
    /// Eight dwords per row: columns `4 * i ..`.
    codes: [S::B; 8],
    /// Of columns 0..16 and 16..32.
    scales: [S::F; 2],
    min: S::F,
}

/// A quantized format. Implementations hold no data.
pub(crate) trait Format<S: Simd> {
    /// The storage type, or one with the same planes.
    const TYPE: BlockType;
    /// What [`Unpacked::codes`] are.
    const CODES: Codes;
    /// What is to be subtracted from the codes.
    const ZERO: i32 = 0;
    /// Where the planes lie.
    const AT: Offsets = Offsets::new(Planes::of(Self::TYPE), S::LANES);
    /// Whether there is a minimum.
    const HAS_MIN: bool = Planes::of(Self::TYPE).mins > 0;
    /// Whether the halves of a block have scales of their own.
    const HALVES: bool = false;
    /// Whether scales and minima are zero or multiples of `2^-24` up to `2^24`, as halves and halves times bytes are.
    const IS_MODERATE: bool = false;

    /// Unpacks a block.
    ///
    /// # Safety
    /// As for [`Simd`]; the block is in this format.
    unsafe fn unpack(block: PackedBlock) -> Unpacked<S>;
}

/// Adds a block to the accumulator of each token of a tile of `T`; `acts` and `scales` are the activations
/// of the same 32 columns.
///
/// # Safety
/// As for [`Simd`]; the block is in format `W`, and the tile has `T` tokens, which are 1, 2, 4 or 8.
#[inline(always)]
pub(super) unsafe fn add<S: Simd, W: Format<S>, const T: usize>(
    block: PackedBlock,
    acts: *const i8,
    scales: *const ActScale,
    acc: &mut [S::Acc; T],
) {
    const { assert!(T == 1 || T == 2 || T == 4 || T == 8) };
    // SAFETY: the caller's contract covers the block and `T` tokens.
    unsafe {
        let weights = W::unpack(block);
        let pair = |t: usize| (acts.add(t * BLOCK), scales.add(t));
        // Written out, since the compiler does not unroll so long a loop: accumulators would leave their
        // registers.
        match acc.as_chunks_mut::<2>() {
            ([], [acc]) => add_tokens::<S, W, 1>(&weights, pair(0), std::array::from_mut(acc)),
            ([first, rest @ ..], _) => {
                add_tokens::<S, W, 2>(&weights, pair(0), first);
                if let [second, rest @ ..] = rest {
                    add_tokens::<S, W, 2>(&weights, pair(2), second);
                    if let [third, fourth] = rest {
                        add_tokens::<S, W, 2>(&weights, pair(4), third);
                        add_tokens::<S, W, 2>(&weights, pair(6), fourth);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Adds a block to the accumulators of `T` adjacent tokens of a tile.
#[inline(always)]
unsafe fn add_tokens<S: Simd, W: Format<S>, const T: usize>(
    weights: &Unpacked<S>,
    (acts, scales): (*const i8, *const ActScale),
    acc: &mut [S::Acc; T],
) {
    // SAFETY: the caller's contract: activations and scales of `T` tokens.
    unsafe {
        let scales = &*scales.cast::<[ActScale; T]>();
        if W::HALVES {
            let (low, high) = weights.codes.split_at(4);
            for (half, codes) in [low, high].into_iter().enumerate() {
                let codes: &[S::B; 4] = &[codes[0], codes[1], codes[2], codes[3]];
                let totals = scales.map(|s| [s.first, s.sum - s.first][half]);
                let sums = dots::<S, W, 4, T>(codes, acts.add(16 * half), totals);
                for t in 0..T {
                    let scale = S::mul(weights.scales[half], S::splat(scales[t].d));
                    acc[t] = S::add_scaled(acc[t], sums[t], scale);
                }
            }
        } else {
            let sums = dots::<S, W, 8, T>(&weights.codes, acts, scales.map(|s| s.sum));
            for t in 0..T {
                let scale = S::mul(weights.scales[0], S::splat(scales[t].d));
                acc[t] = if W::HAS_MIN {
                    S::add_affine(acc[t], (sums[t], scale), (weights.min, scales[t].ds))
                } else {
                    S::add_scaled(acc[t], sums[t], scale)
                };
            }
        }
        if W::HALVES && W::HAS_MIN {
            for t in 0..T {
                acc[t] = S::add_min(acc[t], weights.min, scales[t].ds);
            }
        }
    }
}

/// The dot products with `T` adjacent tokens, whose codes add up to `totals`.
#[inline(always)]
unsafe fn dots<S: Simd, W: Format<S>, const N: usize, const T: usize>(
    codes: &[S::B; N],
    acts: *const i8,
    totals: [i32; T],
) -> [S::I; T] {
    // SAFETY: the caller's contract: `4 * N` activations of each token.
    unsafe {
        if T == 2
            && let Some(sums) = S::dot_two::<N>(codes, acts, W::ZERO as i8)
        {
            return std::array::from_fn(|t| sums[t]);
        }
        let mut sums = [dot::<S, W, N>(codes, acts, -W::ZERO * totals[0]); T];
        for t in 1..T {
            sums[t] = dot::<S, W, N>(codes, acts.add(t * BLOCK), -W::ZERO * totals[t]);
        }
        sums
    }
}

#[inline(always)]
unsafe fn dot<S: Simd, W: Format<S>, const N: usize>(codes: &[S::B; N], acts: *const i8, start: i32) -> S::I {
    // SAFETY: the caller's contract: `4 * N` activations.
    unsafe {
        match W::CODES {
            Codes::FourBits => S::dot::<4, N>(codes, acts, start),
            Codes::FiveBits => S::dot::<5, N>(codes, acts, start),
            Codes::SixBits => S::dot::<6, N>(codes, acts, start),
            Codes::Bytes => S::dot_bytes::<N>(codes, acts, start),
        }
    }
}

/// Low nibbles (columns 0..16) and high nibbles (16..32) of four dwords per lane.
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

const fn codes_of(five_bits: bool) -> Codes {
    if five_bits { Codes::FiveBits } else { Codes::FourBits }
}

/// Q4_0 (zero 8) and, with `FIVE_BITS`, Q5_0 (zero 16): a half scale.
pub(crate) struct Symmetric<const FIVE_BITS: bool>;

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Symmetric<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5_0 } else { BlockType::Q4_0 };
    const CODES: Codes = codes_of(FIVE_BITS);
    const ZERO: i32 = if FIVE_BITS { 16 } else { 8 };
    const IS_MODERATE: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: PackedBlock) -> Unpacked<S> {
        // SAFETY: the caller's contract covers every plane of the block.
        unsafe {
            let d = S::from_f16(block.start.add(<Self as Format<S>>::AT.scales).cast());
            let codes = unsigned_codes::<S, FIVE_BITS>(block.start);
            Unpacked { codes, scales: [d, d], min: S::splat(0.0) }
        }
    }
}

/// Q4_1 and Q5_1: a half scale and a half minimum.
pub(crate) struct Affine<const FIVE_BITS: bool>;

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Affine<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5_1 } else { BlockType::Q4_1 };
    const CODES: Codes = codes_of(FIVE_BITS);
    const IS_MODERATE: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: PackedBlock) -> Unpacked<S> {
        // SAFETY: the caller's contract covers every plane of the block.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let d = S::from_f16(block.start.add(at.scales).cast());
            let min = S::from_f16(block.start.add(at.mins).cast());
            Unpacked { codes: unsigned_codes::<S, FIVE_BITS>(block.start), scales: [d, d], min }
        }
    }
}

/// Q4_K and Q5_K: byte scales and minima under two halves per 256 columns.
pub(crate) struct Super<const FIVE_BITS: bool>;

impl<S: Simd, const FIVE_BITS: bool> Format<S> for Super<FIVE_BITS> {
    const TYPE: BlockType = if FIVE_BITS { BlockType::Q5K } else { BlockType::Q4K };
    const CODES: Codes = codes_of(FIVE_BITS);
    const IS_MODERATE: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: PackedBlock) -> Unpacked<S> {
        // SAFETY: the caller's contract covers every plane of the block.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let d = S::from_f16(block.supers.cast());
            let dmin = S::from_f16(block.supers.add(at.dmin).cast());
            let d = S::mul(d, S::from_u8(block.start.add(at.scales)));
            let min = S::mul(dmin, S::from_u8(block.start.add(at.mins)));
            let min = S::mul(min, S::splat(-1.0));
            Unpacked { codes: unsigned_codes::<S, FIVE_BITS>(block.start), scales: [d, d], min }
        }
    }
}

/// Q6_K: six bits, a signed byte scale per 16 columns under a half per 256.
pub(crate) struct SixBits;

impl<S: Simd> Format<S> for SixBits {
    const TYPE: BlockType = BlockType::Q6K;
    const CODES: Codes = Codes::SixBits;
    const ZERO: i32 = 32;
    const HALVES: bool = true;
    const IS_MODERATE: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: PackedBlock) -> Unpacked<S> {
        // SAFETY: the caller's contract covers every plane of the block.
        unsafe {
            let at = <Self as Format<S>>::AT;
            let c = nibbles::<S>(block.start);
            let bits = [0, 1].map(|half| S::bytes(block.start.add(at.high + half * 4 * S::LANES)));
            let d = S::from_f16(block.supers.cast());
            let scale = |half| S::from_i8(block.start.add(at.scales + half * S::LANES).cast());
            let codes = [
                S::with_field::<0>(c[0], bits[0]),
                S::with_field::<1>(c[1], bits[0]),
                S::with_field::<2>(c[2], bits[0]),
                S::with_field::<3>(c[3], bits[0]),
                S::with_field::<0>(c[4], bits[1]),
                S::with_field::<1>(c[5], bits[1]),
                S::with_field::<2>(c[6], bits[1]),
                S::with_field::<3>(c[7], bits[1]),
            ];
            Unpacked { codes, scales: [S::mul(d, scale(0)), S::mul(d, scale(1))], min: S::splat(0.0) }
        }
    }
}

/// Q8_0: bytes and a half scale.
pub(crate) struct Bytes;

impl<S: Simd> Format<S> for Bytes {
    const TYPE: BlockType = BlockType::Q8_0;
    const CODES: Codes = Codes::Bytes;
    const ZERO: i32 = S::BYTE_OFFSET;
    const IS_MODERATE: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: PackedBlock) -> Unpacked<S> {
        // SAFETY: the caller's contract covers every plane of the block.
        unsafe {
            let codes = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| S::bytes(block.start.add(i * 4 * S::LANES)));
            let d = S::from_f16(block.start.add(<Self as Format<S>>::AT.scales).cast());
            Unpacked { codes, scales: [d, d], min: S::splat(0.0) }
        }
    }
}

/// IQ4_NL: nibbles index a table; a half scale.
pub(crate) struct Table;

impl<S: Simd> Format<S> for Table {
    const TYPE: BlockType = BlockType::IQ4NL;
    const CODES: Codes = Codes::Bytes;
    const ZERO: i32 = S::BYTE_OFFSET;
    const IS_MODERATE: bool = true;

    #[inline(always)]
    unsafe fn unpack(block: PackedBlock) -> Unpacked<S> {
        // SAFETY: the caller's contract covers every plane of the block.
        unsafe {
            let codes = nibbles::<S>(block.start).map(|c| S::lookup(c, &IQ4_NL_VALUES));
            let d = S::from_f16(block.start.add(<Self as Format<S>>::AT.scales).cast());
            Unpacked { codes, scales: [d, d], min: S::splat(0.0) }
        }
    }
}
