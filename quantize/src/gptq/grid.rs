//! What the values of a block can be, format by format, and which scales are tried.

use half::f16;
use smolt::blocks::{self, BlockType, Encode, IQ4_NL_VALUES};

/// A block's values are `d * level + m`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scale {
    pub(crate) d: f32,
    pub(crate) m: f32,
}

/// What the working weights of a block span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Span {
    /// The value of largest magnitude.
    fn extreme(self) -> f32 {
        if -self.low > self.high { self.low } else { self.high }
    }
}

/// The levels of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Levels {
    /// All integers from the first to the second.
    Integers(i16, i16),
    /// The code book of IQ4_NL.
    Book,
}

/// A block format as the sweep sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Format {
    pub(crate) block_type: BlockType,
    /// Columns with a scale of their own.
    pub(crate) cols: usize,
    pub(crate) levels: Levels,
    /// Whether there is a minimum.
    pub(crate) has_min: bool,
    /// Times a scale is fitted again to the levels that the last one gave.
    pub(crate) refits: u8,
    /// Where candidates place the value of largest magnitude (without a minimum), in levels.
    extremes: &'static [f32],
}

/// Where candidates place the ends of the span (with a minimum): this many steps outside of the outer levels.
const CLIPS: [f32; 5] = [-0.25, 0.0, 0.3, 0.7, 1.2];

const FOUR_BITS: &[f32] =
    &[-9.4, -8.9, -8.5, -8.2, -7.9, -7.6, -7.2, -6.7, -6.0, 6.0, 6.6, 7.0, 7.3, 7.6, 8.0, 8.5, 9.0];
const FIVE_BITS: &[f32] = &[-17.6, -16.8, -16.2, -15.8, -15.3, -14.6, 14.2, 14.8, 15.3, 15.8, 16.5];
const SIX_BITS: &[f32] = &[-33.5, -32.5, -32.0, -31.5, -30.5, 30.5, 31.2, 31.8, 32.5];
const EIGHT_BITS: &[f32] = &[127.0, 126.5, 126.0, 125.0];
const BOOK: &[f32] = &[
    -150.0, -142.0, -135.0, -130.0, -126.0, -121.0, -115.0, -108.0, -98.0, 90.0, 98.0, 104.0, 109.0, 113.0,
    117.0, 122.0, 128.0, 135.0,
];

/// Refits that bring nearly all there is to gain.
pub(crate) const REFITS: u8 = 2;

impl Format {
    /// The format of a storage type; `None` for types that are not quantized, or only read.
    pub(crate) fn of(block_type: BlockType) -> Option<Self> {
        let plain = |levels, extremes| Self {
            block_type,
            cols: 32,
            levels,
            has_min: false,
            refits: REFITS,
            extremes,
        };
        let affine = |most| Self {
            block_type,
            cols: 32,
            levels: Levels::Integers(0, most),
            has_min: true,
            refits: REFITS,
            extremes: &[],
        };
        Some(match block_type {
            BlockType::Q4_0 => plain(Levels::Integers(-8, 7), FOUR_BITS),
            BlockType::Q5_0 => plain(Levels::Integers(-16, 15), FIVE_BITS),
            BlockType::Q8_0 => plain(Levels::Integers(-127, 127), EIGHT_BITS),
            BlockType::IQ4NL => plain(Levels::Book, BOOK),
            BlockType::Q6K => Self { cols: 16, ..plain(Levels::Integers(-32, 31), SIX_BITS) },
            BlockType::Q4_1 | BlockType::Q4K => affine(15),
            BlockType::Q5_1 | BlockType::Q5K => affine(31),
            _ => return None,
        })
    }

    pub(crate) fn with_refits(self, refits: u8) -> Self {
        Self { refits, ..self }
    }

    /// Candidates per block.
    pub(crate) fn candidates(&self) -> usize {
        if self.has_min { CLIPS.len() * CLIPS.len() } else { self.extremes.len() }
    }

    /// The scale that candidate `index` wishes for.
    pub(crate) fn candidate(&self, index: usize, span: Span) -> Scale {
        match self.levels {
            Levels::Integers(_, most) if self.has_min => {
                let (below, above) = (CLIPS[index / CLIPS.len()], CLIPS[index % CLIPS.len()]);
                let d = (span.high - span.low) / (f32::from(most) + below + above);
                Scale { d, m: span.low + below * d }
            }
            _ => Scale { d: span.extreme() / self.extremes[index], m: 0.0 },
        }
    }

    /// The scale nearest to the one wished for that a block can have.
    pub(crate) fn nearest(&self, wish: Scale, units: Units) -> Scale {
        let half = |value: f32| f16::from_f32(value.clamp(-HALF_MAX, HALF_MAX)).to_f32();
        match self.block_type {
            BlockType::Q4K | BlockType::Q5K => units.affine(wish),
            BlockType::Q6K => Scale { d: units.d * f32::from(units.signed(wish.d)), m: 0.0 },
            _ => Scale { d: half(wish.d), m: half(wish.m) },
        }
    }

    /// The units of the super-blocks of a row; empty for formats without.
    pub(crate) fn units(&self, row: &[f32]) -> Vec<Units> {
        let half = |bytes: [u8; 2]| f16::from_le_bytes(bytes).to_f32();
        let affine = |d, dmin| Units { d: half(d), dmin: half(dmin) };
        let supers = row.chunks_exact(256);
        match self.block_type {
            BlockType::Q4K => {
                let block = |x: &[f32]| blocks::BlockQ4K::encode(x);
                supers.map(block).map(|block| affine(block.d, block.dmin)).collect()
            }
            BlockType::Q5K => {
                let block = |x: &[f32]| blocks::BlockQ5K::encode(x);
                supers.map(block).map(|block| affine(block.d, block.dmin)).collect()
            }
            BlockType::Q6K => {
                supers.map(|x| Units { d: half(blocks::BlockQ6K::encode(x).d), dmin: 0.0 }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The code of a level.
    pub(crate) fn code(&self, level: f32) -> i16 {
        match self.levels {
            Levels::Integers(least, _) if self.block_type != BlockType::Q8_0 => level as i16 - least,
            Levels::Integers(..) => level as i16,
            Levels::Book => {
                let found = IQ4_NL_VALUES.iter().position(|value| f32::from(*value) == level);
                found.unwrap_or(0) as i16
            }
        }
    }

    /// Writes a row of blocks: scales `[block]`, codes `[column]`.
    pub(crate) fn encode(&self, scales: &[Scale], units: &[Units], codes: &[i16], out: &mut Vec<u8>) {
        let small = |codes: &[i16]| -> [u8; 32] { std::array::from_fn(|i| codes[i] as u8) };
        let whole = |codes: &[i16]| -> [u8; 256] { std::array::from_fn(|i| codes[i] as u8) };
        if units.is_empty() {
            for (scale, codes) in scales.iter().zip(codes.chunks_exact(32)) {
                let (d, m) = (f16::from_f32(scale.d), f16::from_f32(scale.m));
                let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
                match self.block_type {
                    BlockType::Q4_1 => {
                        put(bytemuck::bytes_of(&blocks::BlockQ4_1::from_codes(d, m, &small(codes))))
                    }
                    BlockType::Q5_0 => {
                        put(bytemuck::bytes_of(&blocks::BlockQ5_0::from_codes(d, &small(codes))))
                    }
                    BlockType::Q5_1 => {
                        put(bytemuck::bytes_of(&blocks::BlockQ5_1::from_codes(d, m, &small(codes))))
                    }
                    BlockType::IQ4NL => {
                        put(bytemuck::bytes_of(&blocks::BlockIQ4NL::from_codes(d, &small(codes))))
                    }
                    BlockType::Q8_0 => {
                        let qs = std::array::from_fn(|i| codes[i] as i8);
                        put(bytemuck::bytes_of(&blocks::BlockQ8_0 { d: d.to_le_bytes(), qs }));
                    }
                    _ => put(bytemuck::bytes_of(&blocks::BlockQ4_0::from_codes(d, &small(codes)))),
                }
            }
            return;
        }
        let per_super = 256 / self.cols;
        for (i, units) in units.iter().enumerate() {
            let (scales, codes) = (&scales[i * per_super..][..per_super], whole(&codes[256 * i..][..256]));
            let pairs = || std::array::from_fn(|j| units.pair(scales[j]));
            let (d, dmin) = (f16::from_f32(units.d), f16::from_f32(units.dmin));
            let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
            match self.block_type {
                BlockType::Q4K => {
                    put(bytemuck::bytes_of(&blocks::BlockQ4K::from_codes(d, dmin, &pairs(), &codes)))
                }
                BlockType::Q5K => {
                    put(bytemuck::bytes_of(&blocks::BlockQ5K::from_codes(d, dmin, &pairs(), &codes)))
                }
                _ => {
                    let scales = std::array::from_fn(|j| units.signed(scales[j].d));
                    put(bytemuck::bytes_of(&blocks::BlockQ6K::from_codes(d, scales, &codes)));
                }
            }
        }
    }
}

const HALF_MAX: f32 = 65_504.0;

/// The units of a super-block: scales and minima are their multiples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Units {
    pub(crate) d: f32,
    pub(crate) dmin: f32,
}

impl Units {
    /// The multiple of `unit` nearest to `value`, in 0..=63.
    fn multiple(value: f32, unit: f32) -> u8 {
        // The cast saturates.
        if unit > 0.0 { ((value / unit + 0.5) as u8).min(63) } else { 0 }
    }

    fn pair(self, scale: Scale) -> (u8, u8) {
        (Self::multiple(scale.d, self.d), Self::multiple(-scale.m, self.dmin))
    }

    fn affine(self, wish: Scale) -> Scale {
        let (d, m) = self.pair(wish);
        Scale { d: self.d * f32::from(d), m: -(self.dmin * f32::from(m)) }
    }

    /// The multiple of the unit nearest to `d`, with sign.
    fn signed(self, d: f32) -> i8 {
        // The cast saturates.
        if self.d == 0.0 { 0 } else { (d / self.d).round() as i8 }
    }
}
