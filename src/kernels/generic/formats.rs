//! How the blocks of each quantized format are unpacked, multiplied and scaled.
//!
//! One definition for all: the [`Form`] of a format is a constant, and the branches on it leave no trace.

use crate::blocks::{BlockType, Book, Codes, Form, Levels, Minima, Scales};
use crate::kernels::acts::ActScale;
use crate::kernels::layout::{BLOCK, Offsets, Planes};
use crate::kernels::simd::Simd;

/// A block of a group, and the values it shares with seven others where scales are bytes.
#[derive(Clone, Copy)]
pub(crate) struct PackedBlock {
    pub(super) start: *const u8,
    pub(super) supers: *const u8,
    /// What the codes stand for in formats with a book.
    pub(super) book: &'static Book,
    /// [`Form::unit`], likewise.
    pub(super) unit: f32,
}

/// What the bytes of unpacked codes are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsigned {
    /// Below 16.
    FourBits,
    /// Below 32.
    FiveBits,
    /// Below 64.
    SixBits,
    /// Stored 8-bit codes.
    Bytes,
}

/// 32 columns of a group: `w = scale * (code - ZERO) + min`, per row.
pub(crate) struct Unpacked<S: Simd> {
    /// Eight dwords per row: columns `4 * i ..`.
    pub(super) codes: [S::B; 8],
    /// Of columns 0..16 and 16..32.
    pub(super) scales: [S::F; 2],
    pub(super) mins: [S::F; 2],
}

/// A quantized format. Implementations hold no data.
pub(crate) trait Format<S: Simd> {
    /// What its codes mean; of formats that share a kernel, the form of one.
    const FORM: Form;
    /// Where the planes lie.
    const AT: Offsets = Offsets::new(Planes::of(&Self::FORM), S::LANES);
    /// Whether it takes long to unpack a block: it is done once for many tokens.
    const UNPACKED: bool = !matches!((Self::FORM.codes, Self::FORM.levels), (Codes::Four, Levels::Less(_)));
    /// Whether the halves of a block have scales of their own.
    const HALVES: bool = Self::FORM.has_halves();
    /// Whether scales and minima are zero or multiples of `2^-27` up to `2^24`, as halves times bytes and units are.
    const IS_MODERATE: bool = !matches!(Self::FORM.scales, Scales::Power);
    /// Significant bits of a minimum: a half's, times those of a byte or a nibble.
    const MINIMUM_BITS: u32 = match Self::FORM.minima {
        Minima::None | Minima::Half => 11,
        Minima::Byte => 11 + 8,
        Minima::Nibbles => 11 + 4,
    };
    /// The largest magnitude of a code that is multiplied.
    const LARGEST: i32 = {
        let codes = match Self::CODES {
            Unsigned::FourBits => 16,
            Unsigned::FiveBits => 32,
            Unsigned::SixBits => 64,
            Unsigned::Bytes => 256,
        };
        let above = codes - 1 - Self::ZERO;
        match Self::CODES {
            Unsigned::Bytes => 128,
            _ if above > Self::ZERO => above,
            _ => Self::ZERO,
        }
    };
    /// What is added to the values of the book, so that a set that multiplies what it is given by signed bytes has
    /// codes of few bits.
    const LIFT: i8 = if S::BYTE_OFFSET == 0 { Self::FORM.levels().lift } else { 0 };
    /// What [`Unpacked::codes`] are.
    const CODES: Unsigned = match (Self::FORM.levels, Self::FORM.codes) {
        (Levels::Book(_), _) if Self::LIFT != 0 => Unsigned::FiveBits,
        (Levels::Book(_), _) | (_, Codes::Bytes | Codes::Floats(_)) => Unsigned::Bytes,
        (_, Codes::Two | Codes::Three | Codes::Four) => Unsigned::FourBits,
        (_, Codes::Five) => Unsigned::FiveBits,
        (_, Codes::Six) => Unsigned::SixBits,
    };
    /// What is to be subtracted from the codes.
    const ZERO: i32 = match Self::FORM.levels {
        Levels::Book(_) if Self::LIFT != 0 => Self::LIFT as i32,
        Levels::Less(zero) if !matches!(Self::FORM.codes, Codes::Bytes) => zero,
        _ => S::BYTE_OFFSET,
    };
}

/// The storage type with this number, and those that are packed as it is.
pub(crate) struct Stored<const ID: u32>;

impl<S: Simd, const ID: u32> Format<S> for Stored<ID> {
    const FORM: Form = match BlockType::from_id(ID) {
        Some(block_type) => block_type.form(),
        None => panic!("no storage type has this number"),
    };
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
    // SAFETY: the caller's contract.
    unsafe { add_unpacked::<S, W, T>(&unpack::<S, W>(block), (acts, scales), acc) }
}

/// [`add`] of a block that was unpacked.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub(super) unsafe fn add_unpacked<S: Simd, W: Format<S>, const T: usize>(
    weights: &Unpacked<S>,
    (acts, scales): (*const i8, *const ActScale),
    acc: &mut [S::Acc; T],
) {
    const { assert!(T == 1 || T == 2 || T == 4 || T == 8) };
    // SAFETY: the caller's contract covers `T` tokens.
    unsafe {
        let pair = |t: usize| (acts.add(t * BLOCK), scales.add(t));
        // Written out, since the compiler does not unroll so long a loop: accumulators would leave their
        // registers.
        match acc.as_chunks_mut::<2>() {
            ([], [acc]) => add_tokens::<S, W, 1>(weights, pair(0), std::array::from_mut(acc)),
            ([first, rest @ ..], _) => {
                add_tokens::<S, W, 2>(weights, pair(0), first);
                if let [second, rest @ ..] = rest {
                    add_tokens::<S, W, 2>(weights, pair(2), second);
                    if let [third, fourth] = rest {
                        add_tokens::<S, W, 2>(weights, pair(4), third);
                        add_tokens::<S, W, 2>(weights, pair(6), fourth);
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
                acc[t] = if W::FORM.has_min() {
                    S::add_affine(acc[t], (sums[t], scale), (weights.mins[0], S::factor(scales[t].ds)))
                } else {
                    S::add_scaled(acc[t], sums[t], scale)
                };
            }
        }
        if W::HALVES && W::FORM.has_min() {
            for t in 0..T {
                let ActScale { d, sum, first, .. } = scales[t];
                acc[t] = S::add_min(acc[t], weights.mins[0], S::factor(d * first as f32));
                acc[t] = S::add_min(acc[t], weights.mins[1], S::factor(d * (sum - first) as f32));
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
            let mut two = [sums[0]; T];
            two[1] = sums[1];
            return two;
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
            Unsigned::FourBits => S::dot::<4, N>(codes, acts, start),
            Unsigned::FiveBits => S::dot::<5, N>(codes, acts, start),
            Unsigned::SixBits => S::dot::<6, N>(codes, acts, start),
            Unsigned::Bytes => S::dot_bytes::<N>(codes, acts, start),
        }
    }
}

/// Unpacks a block.
///
/// # Safety
/// As for [`Simd`]; the block is in format `W`.
#[inline(always)]
pub(super) unsafe fn unpack<S: Simd, W: Format<S>>(block: PackedBlock) -> Unpacked<S> {
    // SAFETY: the caller's contract covers every plane of the block.
    unsafe {
        let codes = codes::<S, W>(block.start);
        let codes = match W::FORM.levels {
            Levels::Book(_) => {
                let book = if W::LIFT != 0 { &block.book.lifted } else { &block.book.values };
                each!(i in [0, 1, 2, 3, 4, 5, 6, 7] => S::lookup(codes[i], book))
            }
            Levels::Less(_) => codes,
        };
        Unpacked { codes, scales: scales::<S, W>(block), mins: minima::<S, W>(block) }
    }
}

/// The codes as they are packed.
#[inline(always)]
unsafe fn codes<S: Simd, W: Format<S>>(start: *const u8) -> [S::B; 8] {
    // SAFETY: the caller's contract covers every plane of the block.
    unsafe {
        let high = start.add(W::AT.high);
        match W::FORM.codes {
            Codes::Two => two_bits::<S>(start),
            Codes::Three => {
                let (c, bits) = (two_bits::<S>(start), S::bytes(high));
                [
                    S::with_third::<0>(c[0], bits),
                    S::with_third::<1>(c[1], bits),
                    S::with_third::<2>(c[2], bits),
                    S::with_third::<3>(c[3], bits),
                    S::with_third::<4>(c[4], bits),
                    S::with_third::<5>(c[5], bits),
                    S::with_third::<6>(c[6], bits),
                    S::with_third::<7>(c[7], bits),
                ]
            }
            Codes::Four => nibbles::<S>(start),
            Codes::Five => {
                let (c, bits) = (nibbles::<S>(start), S::bytes(high));
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
            Codes::Six => {
                let c = nibbles::<S>(start);
                let bits = each!(half in [0, 1] => S::bytes(high.add(half * 4 * S::LANES)));
                [
                    S::with_field::<0>(c[0], bits[0]),
                    S::with_field::<1>(c[1], bits[0]),
                    S::with_field::<2>(c[2], bits[0]),
                    S::with_field::<3>(c[3], bits[0]),
                    S::with_field::<0>(c[4], bits[1]),
                    S::with_field::<1>(c[5], bits[1]),
                    S::with_field::<2>(c[6], bits[1]),
                    S::with_field::<3>(c[7], bits[1]),
                ]
            }
            Codes::Bytes | Codes::Floats(_) => {
                each!(i in [0, 1, 2, 3, 4, 5, 6, 7] => S::bytes(start.add(i * 4 * S::LANES)))
            }
        }
    }
}

/// Low nibbles (columns 0..16) and high nibbles (16..32) of four dwords per lane.
#[inline(always)]
unsafe fn nibbles<S: Simd>(codes: *const u8) -> [S::B; 8] {
    // SAFETY: the caller's contract: four dwords per lane.
    unsafe {
        let [a, b, c, d] = each!(i in [0, 1, 2, 3] => S::bytes(codes.add(i * 4 * S::LANES)));
        [S::low(a), S::low(b), S::low(c), S::low(d), S::high(a), S::high(b), S::high(c), S::high(d)]
    }
}

/// The two-bit fields of two dwords per lane: columns 0..16 and 16..32.
#[inline(always)]
unsafe fn two_bits<S: Simd>(codes: *const u8) -> [S::B; 8] {
    // SAFETY: the caller's contract: two dwords per lane.
    unsafe {
        let [first, second] = each!(i in [0, 1] => S::bytes(codes.add(i * 4 * S::LANES)));
        [
            S::two_bits::<0>(first),
            S::two_bits::<1>(first),
            S::two_bits::<2>(first),
            S::two_bits::<3>(first),
            S::two_bits::<0>(second),
            S::two_bits::<1>(second),
            S::two_bits::<2>(second),
            S::two_bits::<3>(second),
        ]
    }
}

/// The scales of the halves of a block.
#[inline(always)]
unsafe fn scales<S: Simd, W: Format<S>>(block: PackedBlock) -> [S::F; 2] {
    // SAFETY: the caller's contract covers every plane of the block.
    unsafe {
        let at = block.start.add(W::AT.scales);
        let of_half = |half: usize| at.add(half * S::LANES);
        // Of formats with bytes under a half.
        let shared = || {
            let d = S::from_f16(block.supers.cast());
            if matches!(W::FORM.levels, Levels::Book(_)) { S::mul(d, S::splat(block.unit)) } else { d }
        };
        match W::FORM.scales {
            Scales::None => [S::splat(1.0); 2],
            Scales::Half => [S::from_f16(at.cast()); 2],
            Scales::Byte => [S::mul(shared(), S::from_u8(at)); 2],
            Scales::Signed => [S::mul(shared(), S::from_i8(at.cast())); 2],
            Scales::SignedPair => each!(half in [0, 1] => S::mul(shared(), S::from_i8(of_half(half).cast()))),
            Scales::NibblePair => each!(half in [0, 1] => S::mul(shared(), split::<S>(of_half(half))[0])),
            Scales::Power => [S::mul(S::from_e8m0(at), S::splat(0.5)); 2],
            Scales::MiniPair => each!(half in [0, 1] => S::mul(S::from_e4m3(of_half(half)), S::splat(0.5))),
        }
    }
}

/// The minima of the halves of a block.
#[inline(always)]
unsafe fn minima<S: Simd, W: Format<S>>(block: PackedBlock) -> [S::F; 2] {
    // SAFETY: the caller's contract covers every plane of the block.
    unsafe {
        let at = block.start.add(W::AT.mins);
        let minus = |x: S::F| S::mul(x, S::splat(-1.0));
        let shared = || S::from_f16(block.supers.add(W::AT.dmin).cast());
        match W::FORM.minima {
            Minima::None => [S::splat(0.0); 2],
            Minima::Half => [S::from_f16(at.cast()); 2],
            Minima::Byte => [minus(S::mul(shared(), S::from_u8(at))); 2],
            Minima::Nibbles => each!(half in [0, 1] => {
                let bytes = block.start.add(W::AT.scales + half * S::LANES);
                minus(S::mul(shared(), split::<S>(bytes)[1]))
            }),
        }
    }
}

/// The lower and the upper four bits of a byte per lane.
#[inline(always)]
unsafe fn split<S: Simd>(bytes: *const u8) -> [S::F; 2] {
    // SAFETY: the caller's contract: a byte per lane.
    unsafe {
        let whole = S::from_u8(bytes);
        // Less 15 / 32, a sixteenth of the lower bits is between -1/2 and 1/2.
        let upper = S::round(S::fma(whole, S::splat(1.0 / 16.0), S::splat(-15.0 / 32.0)));
        [S::fma(upper, S::splat(-16.0), whole), upper]
    }
}
