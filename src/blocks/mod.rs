//! GGUF block formats.
//!
//! A tensor is a sequence of rows, a row a sequence of blocks. Each format has one file with the block
//! struct as it lies in the file, an assertion of its size, and a reference encoder and decoder. The
//! structs hold little-endian byte arrays only, so that they have alignment 1 and can be viewed in place.
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
mod f16;
mod f32;
mod fit;
mod iq4_nl;
mod k_affine;
mod pack;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod round;

#[cfg(test)]
mod tests;

pub use self::bf16::BlockBF16;
pub use self::f16::BlockF16;
pub use self::f32::BlockF32;
pub use self::iq4_nl::{BlockIQ4NL, IQ4_NL_VALUES};
pub(crate) use self::k_affine::scale_min_k4;
pub use self::q4_0::BlockQ4_0;
pub use self::q4_1::BlockQ4_1;
pub use self::q4_k::BlockQ4K;
pub use self::q5_0::BlockQ5_0;
pub use self::q5_1::BlockQ5_1;
pub use self::q5_k::BlockQ5K;
pub use self::q6_k::BlockQ6K;
pub use self::q8_0::BlockQ8_0;

/// A block as stored in a GGUF file.
pub trait Block: bytemuck::Pod {
    /// The storage type this block belongs to.
    const TYPE: BlockType;
    /// Elements per block.
    const LEN: usize;

    /// Encodes [`Self::LEN`] values, see the module for the choice of scales.
    ///
    /// # Panics
    /// May panic on another number of values.
    fn encode(values: &[f32]) -> Self;

    /// Decodes into [`Self::LEN`] values, bit for bit as the format's owner does: products and sums are
    /// rounded separately in f32, in the order of the formula. An infinite or NaN scale decodes to
    /// infinities and NaN.
    ///
    /// # Panics
    /// May panic on another number of values.
    fn decode(&self, out: &mut [f32]);
}

macro_rules! block_types {
    ($($variant:ident = $id:literal, $block:ident, $name:literal;)*) => {
        /// Storage type of a tensor. Discriminants are the type numbers of the GGUF container.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the formats' own names")]
        #[repr(u32)]
        pub enum BlockType { $($variant = $id,)* }

        impl BlockType {
            /// Every supported type.
            pub const ALL: &'static [BlockType] = &[$(BlockType::$variant,)*];

            /// The type with this GGUF number.
            pub fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }

            /// The format's usual name, e.g. `Q4_0`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Elements per block.
            pub fn block_len(self) -> usize {
                match self { $(Self::$variant => <$block as Block>::LEN,)* }
            }

            /// Bytes per block.
            pub fn block_bytes(self) -> usize {
                match self { $(Self::$variant => size_of::<$block>(),)* }
            }

            /// Decodes whole blocks. `bytes` holds `out.len()` elements.
            ///
            /// # Panics
            /// If the lengths are not whole blocks or do not match.
            pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
                match self { $(Self::$variant => decode_blocks::<$block>(bytes, out),)* }
            }

            /// Encodes whole blocks, the inverse of [`Self::decode`].
            ///
            /// # Panics
            /// If the lengths are not whole blocks or do not match.
            pub fn encode(self, values: &[f32], out: &mut [u8]) {
                match self { $(Self::$variant => encode_blocks::<$block>(values, out),)* }
            }
        }
    };
}

block_types! {
    F32 = 0, BlockF32, "F32";
    F16 = 1, BlockF16, "F16";
    Q4_0 = 2, BlockQ4_0, "Q4_0";
    Q4_1 = 3, BlockQ4_1, "Q4_1";
    Q5_0 = 6, BlockQ5_0, "Q5_0";
    Q5_1 = 7, BlockQ5_1, "Q5_1";
    Q8_0 = 8, BlockQ8_0, "Q8_0";
    Q4K = 12, BlockQ4K, "Q4_K";
    Q5K = 13, BlockQ5K, "Q5_K";
    Q6K = 14, BlockQ6K, "Q6_K";
    IQ4NL = 20, BlockIQ4NL, "IQ4_NL";
    BF16 = 30, BlockBF16, "BF16";
}

impl BlockType {
    /// The GGUF type number.
    pub fn id(self) -> u32 {
        self as u32
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
        found.copied().ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|t| t.name().to_lowercase()).collect();
            format!("unknown type {name:?}; known: {}", known.join(", "))
        })
    }
}

fn decode_blocks<B: Block>(bytes: &[u8], out: &mut [f32]) {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    assert_eq!(blocks.len() * B::LEN, out.len());
    for (block, values) in blocks.iter().zip(out.chunks_exact_mut(B::LEN)) {
        block.decode(values);
    }
}

fn encode_blocks<B: Block>(values: &[f32], out: &mut [u8]) {
    let blocks: &mut [B] = bytemuck::cast_slice_mut(out);
    assert_eq!(blocks.len() * B::LEN, values.len());
    for (block, values) in blocks.iter_mut().zip(values.chunks_exact(B::LEN)) {
        *block = B::encode(values);
    }
}
