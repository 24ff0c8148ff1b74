//! What the codes of a format mean: [`Form`], by which the kernels pack and multiply every format, and [`Columnar`],
//! by which the formats that are only read are decoded.

use super::Block;
use half::f16;

/// Columns that share a scale, or two scales of 16 each; they are packed and multiplied as a block.
pub(crate) const COLUMNS: usize = 32;

/// How many bits the codes of a packed block have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// No codes: values of this many bytes.
    Floats(usize),
    /// Unsigned.
    Two,
    Three,
    Four,
    Five,
    Six,
    /// Signed bytes.
    Bytes,
}

/// Levels by number.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) values: [i8; 16],
    /// What makes all values positive and below 32, if there is such a number; else 0.
    pub(crate) lift: i8,
    /// The values with it added.
    pub(crate) lifted: [i8; 16],
}

impl Book {
    pub(crate) const fn new(values: [i8; 16]) -> Self {
        let (mut least, mut most, mut i) = (0, 0, 0);
        while i < 16 {
            least = if values[i] < least { values[i] } else { least };
            most = if values[i] > most { values[i] } else { most };
            i += 1;
        }
        let lift = if most as i32 - (least as i32) < 32 { -least } else { 0 };
        let (mut lifted, mut i) = (values, 0);
        while i < 16 {
            lifted[i] += lift;
            i += 1;
        }
        Self { values, lift, lifted }
    }
}

/// What a code stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Levels {
    /// The code less this.
    Less(i32),
    /// The value of this number.
    Book(&'static Book),
}

/// The scales of a packed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    None,
    /// A half.
    Half,
    /// An unsigned byte under a half per 256 columns.
    Byte,
    /// A signed byte under a half per 256 columns.
    Signed,
    /// A signed byte per 16 columns under a half per 256.
    SignedPair,
    /// Per 16 columns four bits, under a half per 256 columns; the upper four bits are of the minima.
    NibblePair,
    /// `2^(byte - 128)`.
    Power,
    /// Per 16 columns half of an unsigned E4M3.
    MiniPair,
}

/// The minima of a packed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Minima {
    None,
    /// A half, which is added.
    Half,
    /// An unsigned byte under a second half per 256 columns, which is subtracted.
    Byte,
    /// The upper bits of [`Scales::NibblePair`], likewise.
    Nibbles,
}

/// The form of a format: `w = unit * scale * level + minimum`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) codes: Codes,
    pub(crate) levels: Levels,
    pub(crate) scales: Scales,
    pub(crate) minima: Minima,
    /// A power of two that makes the scales integers; 1 without a book.
    pub(crate) unit: f32,
}

impl Form {
    /// Values of `bytes` bytes each.
    pub(crate) const fn floats(bytes: usize) -> Self {
        Self::less(Codes::Floats(bytes), 0, Scales::None)
    }

    /// Codes less `zero`.
    pub(crate) const fn less(codes: Codes, zero: i32, scales: Scales) -> Self {
        Self { codes, levels: Levels::Less(zero), scales, minima: Minima::None, unit: 1.0 }
    }

    /// Codes by `book`.
    pub(crate) const fn book(codes: Codes, book: &'static Book, scales: Scales, unit: f32) -> Self {
        Self { codes, levels: Levels::Book(book), scales, minima: Minima::None, unit }
    }

    /// Codes with minima.
    pub(crate) const fn affine(codes: Codes, scales: Scales, minima: Minima) -> Self {
        Self { codes, levels: Levels::Less(0), scales, minima, unit: 1.0 }
    }

    /// Whether the values are floats.
    pub(crate) const fn is_float(&self) -> bool {
        matches!(self.codes, Codes::Floats(_))
    }

    /// Whether the halves of a block have scales of their own.
    pub(crate) const fn has_halves(&self) -> bool {
        matches!(self.scales, Scales::SignedPair | Scales::NibblePair | Scales::MiniPair)
    }

    /// Whether there are minima.
    pub(crate) const fn has_min(&self) -> bool {
        !matches!(self.minima, Minima::None)
    }

    /// Halves that 256 columns share.
    pub(crate) const fn supers(&self) -> usize {
        let scales =
            matches!(self.scales, Scales::Byte | Scales::Signed | Scales::SignedPair | Scales::NibblePair);
        scales as usize + matches!(self.minima, Minima::Byte | Minima::Nibbles) as usize
    }

    /// The book; one of zeros where there is none.
    pub(crate) const fn levels(&self) -> &'static Book {
        const NONE: Book = Book::new([0; 16]);
        match self.levels {
            Levels::Book(book) => book,
            Levels::Less(_) => &NONE,
        }
    }

    /// The level of a code.
    pub(crate) fn level(&self, code: u8) -> i32 {
        match self.levels {
            Levels::Less(_) if self.codes == Codes::Bytes => i32::from(code as i8),
            Levels::Less(zero) => i32::from(code) - zero,
            Levels::Book(book) => i32::from(book.values[usize::from(code)]),
        }
    }

    /// The scale of a half of a block, from the halves of its super-block and the bytes of its scales.
    pub(crate) fn scale(&self, supers: [f32; 2], bytes: [u8; 2], half: usize) -> f32 {
        let d = supers[0] * self.unit;
        match self.scales {
            Scales::None => 1.0,
            Scales::Half => f16::from_le_bytes(bytes).to_f32(),
            Scales::Byte => d * f32::from(bytes[0]),
            Scales::Signed => d * f32::from(bytes[0] as i8),
            Scales::SignedPair => d * f32::from(bytes[half] as i8),
            Scales::NibblePair => d * f32::from(bytes[half] & 0x0F),
            Scales::Power => power(bytes[0]),
            Scales::MiniPair => mini(bytes[half]),
        }
    }

    /// The minimum of a half of a block, likewise; 0 where there is none.
    pub(crate) fn min(&self, supers: [f32; 2], scales: [u8; 2], minima: [u8; 2], half: usize) -> f32 {
        match self.minima {
            Minima::None => 0.0,
            Minima::Half => f16::from_le_bytes(minima).to_f32(),
            Minima::Byte => -(supers[1] * f32::from(minima[0])),
            Minima::Nibbles => -(supers[1] * f32::from(scales[half] >> 4)),
        }
    }

    /// Whether the scales of a block are numbers that the format has, and no weight leaves f32.
    pub(crate) fn is_sound(&self, supers: [[u8; 2]; 2], scales: [u8; 2]) -> bool {
        let is_number = |half: [u8; 2]| f16::from_le_bytes(half).is_finite();
        supers[..self.supers()].iter().all(|half| is_number(*half))
            && match self.scales {
                Scales::Half => is_number(scales),
                Scales::Power => scales[0] <= MOST_POWER,
                Scales::MiniPair => scales.iter().all(|scale| *scale <= MOST_MINI),
                _ => true,
            }
    }
}

/// The largest exponent by which no level leaves f32; 255 is not a number.
const MOST_POWER: u8 = 252;

/// The largest E4M3 number; above it are one that is none, and the negative ones.
const MOST_MINI: u8 = 0x7E;

/// `2^(exponent - 128)`: half of an E8M0, since its levels are doubled.
fn power(exponent: u8) -> f32 {
    f32::from_bits((u32::from(exponent) << 23).max(0x0040_0000)) * 0.5
}

/// Half of an unsigned E4M3; 0 for what is not a number.
fn mini(bits: u8) -> f32 {
    // A half has the same mantissa at the same place and a bias that is larger by 8.
    if bits == 0x7F { 0.0 } else { f16::from_bits(u16::from(bits & 0x7F) << 7).to_f32() * 128.0 }
}

/// Columns of a block.
pub(crate) struct Columns {
    /// In the form's bits.
    pub(crate) codes: [u8; COLUMNS],
    /// A half, or a byte for each half of the columns (the second is spare where they share one).
    pub(crate) scales: [u8; 2],
}

/// A format that is only read: its blocks are taken apart by columns.
pub(crate) trait Columnar: Block {
    /// What its codes mean.
    const FORM: Form;

    /// The halves that all columns share, as many as the form has.
    fn supers(&self) -> [[u8; 2]; 2] {
        [[0; 2]; 2]
    }

    /// Columns `32 * index ..`.
    fn columns(&self, index: usize) -> Columns;
}

/// [`Block::decode`] of a columnar format. No product is rounded: scales have up to 11 + 6 bits, levels up to 7.
pub(super) fn decode<B: Columnar>(block: &B, out: &mut [f32]) {
    let supers = block.supers().map(|half| f16::from_le_bytes(half).to_f32());
    for (index, out) in out.chunks_exact_mut(COLUMNS).enumerate() {
        let Columns { codes, scales } = block.columns(index);
        for (k, (value, code)) in out.iter_mut().zip(codes).enumerate() {
            let scale = B::FORM.scale(supers, scales, k / 16);
            *value = scale * B::FORM.level(code) as f32;
            if B::FORM.has_min() {
                *value += B::FORM.min(supers, scales, [0; 2], k / 16);
            }
        }
    }
}
