//! GGUF block formats.
//!
//! A tensor is a sequence of rows, a row a sequence of blocks. Each format has one file with the block
//! struct as it lies in the file, an assertion of its size, and a reference decoder. The structs hold
//! little-endian byte arrays only, so that they have alignment 1 and can be viewed in place. A new format is
//! a file and a row of the table here: `form` has the words for what its codes mean, by which it is decoded,
//! packed and multiplied.
//!
//! Formats that are written have a reference encoder, [`Encode`]; the others are only read.
//!
//! # Encoding
//!
//! F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 have one reference encoding, defined to the bit by the
//! formats' owner (ggml): scales from the extreme values, codes rounded to nearest. `round` holds what they
//! share, `pack` the bit layouts. Q4_K, Q5_K, Q6_K and IQ4_NL leave the choice of the scales to the encoder;
//! `fit` describes our least-squares search, `k_affine` and `q6_k` what it becomes in a super-block. All
//! encoders are deterministic, on every processor the same, and use no data but the values of the block.
//!
//! No input panics. Values that are not finite, or beyond the f16 scales of a format, are the caller's
//! business to refuse; each encoder documents what it makes of them.
//!
//! Field names are those of the format's owner: `d` scale, `m`/`dmin` minimum, `qs` low code bits, `qh`
//! high code bits, `scales` packed sub-block scales.

mod bf16;
mod codebook;
mod f16;
mod f32;
mod fit;
mod form;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod k_affine;
mod mxfp4;
mod nvfp4;
mod pack;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod round;
mod tq1_0;
mod tq2_0;

#[cfg(test)]
mod tests;

pub use self::bf16::BlockBF16;
pub use self::f16::BlockF16;
pub use self::f32::BlockF32;
pub(crate) use self::form::{Book, COLUMNS, Codes, Columnar, Columns, Form, Levels, Minima, Scales};
pub use self::iq1_m::BlockIQ1M;
pub use self::iq1_s::BlockIQ1S;
pub use self::iq2_s::BlockIQ2S;
pub use self::iq2_xs::BlockIQ2XS;
pub use self::iq2_xxs::BlockIQ2XXS;
pub use self::iq3_s::BlockIQ3S;
pub use self::iq3_xxs::BlockIQ3XXS;
pub use self::iq4_nl::{BlockIQ4NL, IQ4_NL_VALUES};
pub use self::iq4_xs::BlockIQ4XS;
pub(crate) use self::k_affine::scale_min_k4;
pub use self::mxfp4::BlockMXFP4;
pub use self::nvfp4::BlockNVFP4;
pub use self::q1_0::BlockQ1_0;
pub use self::q2_0::BlockQ2_0;
pub use self::q2_k::BlockQ2K;
pub use self::q3_k::BlockQ3K;
pub use self::q4_0::BlockQ4_0;
pub use self::q4_1::BlockQ4_1;
pub use self::q4_k::BlockQ4K;
pub use self::q5_0::BlockQ5_0;
pub use self::q5_1::BlockQ5_1;
pub use self::q5_k::BlockQ5K;
pub use self::q6_k::BlockQ6K;
pub use self::q8_0::BlockQ8_0;
pub use self::tq1_0::BlockTQ1_0;
pub use self::tq2_0::BlockTQ2_0;

/// A block as stored in a GGUF file.
pub trait Block: bytemuck::Pod {
    /// The storage type this block belongs to.
    const TYPE: BlockType;
    /// Elements per block.
    const LEN: usize;

    /// Decodes into [`Self::LEN`] values, bit for bit as the format's owner does: products and sums are
    /// rounded separately in f32, in the order of the formula. An infinite or NaN scale decodes to
    /// infinities and NaN.
    ///
    /// # Panics
    /// May panic on another number of values.
    fn decode(&self, out: &mut [f32]);
}

/// A block that can be written.
pub trait Encode: Block {
    /// Encodes [`Block::LEN`] values, see the module for the choice of scales.
    ///
    /// # Panics
    /// May panic on another number of values.
    fn encode(values: &[f32]) -> Self;
}

macro_rules! block_types {
    (
        written { $($written:ident = $written_id:literal, $written_block:ident, $written_name:literal, $form:expr;)* }
        read { $($read:ident = $read_id:literal, $read_block:ident, $read_name:literal;)* }
    ) => {
        /// Storage type of a tensor. Discriminants are the type numbers of the GGUF container.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the formats' own names")]
        #[repr(u32)]
        pub enum BlockType { $($written = $written_id,)* $($read = $read_id,)* }

        impl BlockType {
            /// The types that can be written.
            pub const WRITTEN: &'static [BlockType] = &[$(BlockType::$written,)*];
            /// Every supported type.
            pub const ALL: &'static [BlockType] = &[$(BlockType::$written,)* $(BlockType::$read,)*];

            /// The type with this GGUF number.
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($written_id => Some(Self::$written),)*
                    $($read_id => Some(Self::$read),)*
                    _ => None,
                }
            }

            /// The format's usual name, e.g. `Q4_0`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$written => $written_name,)* $(Self::$read => $read_name,)* }
            }

            /// Elements per block.
            pub fn block_len(self) -> usize {
                match self {
                    $(Self::$written => <$written_block as Block>::LEN,)*
                    $(Self::$read => <$read_block as Block>::LEN,)*
                }
            }

            /// Bytes per block.
            pub fn block_bytes(self) -> usize {
                match self {
                    $(Self::$written => size_of::<$written_block>(),)*
                    $(Self::$read => size_of::<$read_block>(),)*
                }
            }

            /// What the codes mean.
            pub(crate) const fn form(self) -> Form {
                match self { $(Self::$written => $form,)* $(Self::$read => <$read_block as Columnar>::FORM,)* }
            }

            /// Decodes whole blocks. `bytes` holds `out.len()` elements.
            ///
            /// # Panics
            /// If the lengths are not whole blocks or do not match.
            pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
                match self {
                    $(Self::$written => decode_blocks::<$written_block>(bytes, out),)*
                    $(Self::$read => decode_blocks::<$read_block>(bytes, out),)*
                }
            }

            /// Encodes whole blocks, the inverse of [`Self::decode`].
            ///
            /// # Panics
            /// If the lengths are not whole blocks or do not match, or if the type is only read: see
            /// [`Self::is_written`].
            pub fn encode(self, values: &[f32], out: &mut [u8]) {
                match self {
                    $(Self::$written => encode_blocks::<$written_block>(values, out),)*
                    $(Self::$read)|* => panic!("{self} is only read"),
                }
            }

            /// Visits the blocks of a type that is only read by columns; `false` for the others.
            pub(crate) fn visit(self, bytes: &[u8], visitor: &mut impl ColumnVisitor) -> bool {
                match self {
                    $(Self::$written)|* => return false,
                    $(Self::$read => visit_blocks::<$read_block>(bytes, visitor),)*
                }
                true
            }
        }
    };
}

block_types! {
    written {
        F32 = 0, BlockF32, "F32", Form::floats(4);
        F16 = 1, BlockF16, "F16", Form::floats(2);
        Q4_0 = 2, BlockQ4_0, "Q4_0", Form::less(Codes::Four, 8, Scales::Half);
        Q4_1 = 3, BlockQ4_1, "Q4_1", Form::affine(Codes::Four, Scales::Half, Minima::Half);
        Q5_0 = 6, BlockQ5_0, "Q5_0", Form::less(Codes::Five, 16, Scales::Half);
        Q5_1 = 7, BlockQ5_1, "Q5_1", Form::affine(Codes::Five, Scales::Half, Minima::Half);
        Q8_0 = 8, BlockQ8_0, "Q8_0", Form::less(Codes::Bytes, 0, Scales::Half);
        Q4K = 12, BlockQ4K, "Q4_K", Form::affine(Codes::Four, Scales::Byte, Minima::Byte);
        Q5K = 13, BlockQ5K, "Q5_K", Form::affine(Codes::Five, Scales::Byte, Minima::Byte);
        Q6K = 14, BlockQ6K, "Q6_K", Form::less(Codes::Six, 32, Scales::SignedPair);
        IQ4NL = 20, BlockIQ4NL, "IQ4_NL", Form::book(Codes::Four, &iq4_xs::BOOK, Scales::Half, 1.0);
        BF16 = 30, BlockBF16, "BF16", Form::floats(2);
    }
    read {
        Q2K = 10, BlockQ2K, "Q2_K";
        Q3K = 11, BlockQ3K, "Q3_K";
        IQ2XXS = 16, BlockIQ2XXS, "IQ2_XXS";
        IQ2XS = 17, BlockIQ2XS, "IQ2_XS";
        IQ3XXS = 18, BlockIQ3XXS, "IQ3_XXS";
        IQ1S = 19, BlockIQ1S, "IQ1_S";
        IQ3S = 21, BlockIQ3S, "IQ3_S";
        IQ2S = 22, BlockIQ2S, "IQ2_S";
        IQ4XS = 23, BlockIQ4XS, "IQ4_XS";
        IQ1M = 29, BlockIQ1M, "IQ1_M";
        TQ1_0 = 34, BlockTQ1_0, "TQ1_0";
        TQ2_0 = 35, BlockTQ2_0, "TQ2_0";
        MXFP4 = 39, BlockMXFP4, "MXFP4";
        NVFP4 = 40, BlockNVFP4, "NVFP4";
        Q1_0 = 41, BlockQ1_0, "Q1_0";
        Q2_0 = 42, BlockQ2_0, "Q2_0";
    }
}

impl BlockType {
    /// The GGUF type number.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Whether the type can be written, not only read.
    pub fn is_written(self) -> bool {
        Self::WRITTEN.contains(&self)
    }

    /// Parses the name, in any case, of a type that can be written.
    ///
    /// # Errors
    /// If there is no such type, or it is only read; the message lists the others.
    pub fn to_write(name: &str) -> Result<Self, String> {
        let known = || names(Self::WRITTEN);
        match name.parse() {
            Ok(found) if Self::is_written(found) => Ok(found),
            Ok(found) => Err(format!("{found} is read here, not written; known: {}", known())),
            Err(_) => Err(format!("unknown type {name:?}; known: {}", known())),
        }
    }

    /// Whether values are codes with a shared scale, not numbers of their own.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of a row of `cols` elements; `None` if it is not a whole number of blocks or overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        cols.is_multiple_of(self.block_len())
            .then(|| (cols / self.block_len()).checked_mul(self.block_bytes()))?
    }
}

impl std::fmt::Display for BlockType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for BlockType {
    type Err = String;

    /// Parses a type name in any case.
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|t| t.name().eq_ignore_ascii_case(name));
        found.copied().ok_or_else(|| format!("unknown type {name:?}; known: {}", names(Self::ALL)))
    }
}

/// Lists types as they are written on a command line.
fn names(types: &[BlockType]) -> String {
    types.iter().map(|block_type| block_type.name().to_lowercase()).collect::<Vec<_>>().join(", ")
}

fn decode_blocks<B: Block>(bytes: &[u8], out: &mut [f32]) {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    assert_eq!(blocks.len() * B::LEN, out.len());
    for (block, values) in blocks.iter().zip(out.chunks_exact_mut(B::LEN)) {
        block.decode(values);
    }
}

fn encode_blocks<B: Encode>(values: &[f32], out: &mut [u8]) {
    let blocks: &mut [B] = bytemuck::cast_slice_mut(out);
    assert_eq!(blocks.len() * B::LEN, values.len());
    for (block, values) in blocks.iter_mut().zip(values.chunks_exact(B::LEN)) {
        *block = B::encode(values);
    }
}

/// Takes what [`BlockType::visit`] finds.
pub(crate) trait ColumnVisitor {
    /// Takes block `index`, of so many columns of 32 each.
    fn take<B: Columnar>(&mut self, index: usize, block: &B);
}

fn visit_blocks<B: Columnar>(bytes: &[u8], visitor: &mut impl ColumnVisitor) {
    for (index, block) in bytemuck::cast_slice::<u8, B>(bytes).iter().enumerate() {
        visitor.take(index, block);
    }
}
