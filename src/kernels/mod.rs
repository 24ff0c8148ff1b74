//! Packed weights and the arithmetic of the token path.
//!
//! # Design
//!
//! * [`scalar`](self) code is the specification. The kernels proper are written once in `generic` over the
//!   few vector operations of `simd`, and each instruction set only provides those operations. Every set
//!   returns the bits of the specification: lanes are rows, so no sum is ever split across lanes in an order
//!   that depends on their number.
//! * A [`Kernels`] table is chosen once, by [`Kernels::detect`]; the environment variable `SMOLT_ISA` forces
//!   one. `ALL` lists what this build knows; the conformance suite walks that list.
//! * Weights are packed once into the layout of the chosen set (see `layout`), activations are rounded to 8
//!   bits per 32 columns (see `acts`).
//! * `ops` runs whole stages on a thread pool; what it computes does not depend on the number of threads
//!   or on how a prompt is cut, because each output element is computed by one thread in a fixed order.
//!
//! # Safety
//!
//! Outside of this module a `Kernels` can only be had for a set that the processor has: `ALL` is private, and
//! [`Kernels::detect`], [`Kernels::named`] and [`Kernels::available`] ask the processor first. Shapes and buffers are the
//! crate's own: what others reach of them checks its arguments.
//!
//! ```compile_fail,E0603
//! smolt::kernels::ALL[0].round_activations(&mut [1.0; 64]);
//! ```
//!
//! A function that states no contract of its own has that of `simd`: the processor has the instruction set, and pointers
//! are valid for the elements named.
#![allow(unsafe_code, reason = "vector intrinsics and disjoint writes to a shared output")]

mod activation;
mod acts;
#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(test)]
mod conformance;
mod error;
mod generic;
mod held;
mod kv;
mod layout;
#[allow(unreachable_pub, reason = "what is public there is for this crate")]
pub(crate) mod ops;
mod packed_row;
#[cfg(test)]
mod repeated;
mod sample;
mod scalar;
mod simd;
pub(crate) mod softmax;
#[doc(hidden)]
pub mod trial;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activation::Activation;
pub use error::KernelError;
pub use held::Held;
pub use kv::KvType;

pub(crate) use acts::{Acts, Forms};
pub(crate) use kv::KvShape;
pub(crate) use layout::{PackedMatrix, PackedShape, Packing};

use crate::blocks::BlockType;
use acts::QuantSink;
use generic::{ChunkJob, MatmulJob};
use kv::Partial;
use layout::BLOCK;

/// Of a row, epsilon, weight and bias, to the result.
type LayerNorm = unsafe fn(&[f32], f32, [Option<&[f32]>; 2], &mut [f32]);

/// The kernels of one instruction set that this processor has.
///
/// The function pointers are `unsafe` to call: the processor must have the set, which holds for every table that code
/// outside of this module can have, and the arguments must fit each other, which `ops` checks.
pub struct Kernels {
    /// Name, as [`Self::named`] takes it.
    pub name: &'static str,
    /// How weights are packed for it.
    pub(crate) packing: Packing,
    /// Tokens per tile of activations.
    widest: usize,
    is_available: fn() -> bool,
    matmul: fn(BlockType) -> unsafe fn(&MatmulJob<'_>),
    quantize: unsafe fn(&[f32], &mut QuantSink<'_>),
    sum_squares: unsafe fn(&[f32]) -> f32,
    scale_by: unsafe fn(&[f32], f32, &[f32], &mut [f32]),
    layer_norm: LayerNorm,
    activate: unsafe fn(Activation, &mut [f32], Option<&[f32]>),
    weight_sum: unsafe fn(&[f32], f32, f32) -> f64,
    attend: unsafe fn(&mut ChunkJob<'_>, &mut Partial<'_>),
    /// The last argument is the row of `mixed`.
    merge: unsafe fn(&mut Partial<'_>, &Partial<'_>, usize),
}

impl Kernels {
    /// Replaces `row` by what a matrix of quantized weights sees of it: 8 bits per block of 32 columns.
    pub fn round_activations(&self, row: &mut [f32]) {
        let (mut codes, mut scales) = ([0; BLOCK], [acts::ActScale::default()]);
        for values in row.chunks_mut(BLOCK) {
            let mut block = [0.0; BLOCK];
            block[..values.len()].copy_from_slice(values);
            // SAFETY: the kernels are available on this processor.
            unsafe { (self.quantize)(&block, &mut QuantSink::row(&mut codes, &mut scales)) };
            for (value, code) in values.iter_mut().zip(codes) {
                *value = scales[0].d * f32::from(code);
            }
        }
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels").field("name", &self.name).field("packing", &self.packing).finish()
    }
}

/// Declares the entry points of an instruction set, which carry its target features, and its table.
macro_rules! entries {
    ($isa:ident, $features:literal) => {
        // SAFETY (for every function below): the features are enabled here and present by the contract of
        // `Kernels`; all else is the callee's contract, passed on.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, just above")]
        #[allow(clippy::missing_safety_doc, reason = "the contract of `Kernels`")]
        mod entry {
            use super::$isa;
            use crate::blocks::BlockType;
            use crate::kernels::activation::Activation;
            use crate::kernels::acts::QuantSink;
            use crate::kernels::generic::{self, ChunkJob, MatmulJob};
            use crate::kernels::kv::Partial;

            crate::kernels::entries!(@matmul $isa, $features,
                floats {
                    f32 = Single: F32;
                    f16 = Half: F16;
                    bf16 = Brain: BF16;
                }
                // The first type of a row stands for those that are packed in the same form.
                quantized {
                    q8_0 = Q8_0;
                    iq4_nl = IQ4NL;
                    q4_0 = Q4_0;
                    q5_0 = Q5_0;
                    q4_1 = Q4_1;
                    q5_1 = Q5_1;
                    q4_k = Q4K;
                    q5_k = Q5K;
                    q6_k = Q6K;
                    q3_k = Q3K;
                    q2_k = Q2K;
                    iq4_xs = IQ4XS | IQ3S | IQ3XXS;
                    iq2_xs = IQ2XS | IQ2XXS | IQ2S | IQ1S | IQ1M;
                    q2_0 = Q2_0 | Q1_0 | TQ1_0 | TQ2_0;
                    mxfp4 = MXFP4;
                    nvfp4 = NVFP4;
                });

            #[target_feature(enable = $features)]
            pub(super) unsafe fn quantize(row: &[f32], sink: &mut QuantSink<'_>) {
                unsafe { generic::quantize::<$isa>(row, sink) }
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn sum_squares(x: &[f32]) -> f32 {
                unsafe { generic::sum_squares::<$isa>(x) }
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn scale_by(x: &[f32], scale: f32, weight: &[f32], out: &mut [f32]) {
                unsafe { generic::scale_by::<$isa>(x, scale, weight, out) }
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn layer_norm(x: &[f32], eps: f32, affine: [Option<&[f32]>; 2], out: &mut [f32]) {
                unsafe { generic::layer_norm::<$isa>(x, eps, affine, out) }
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn activate(kind: Activation, x: &mut [f32], factors: Option<&[f32]>) {
                unsafe { generic::activate::<$isa>(kind, x, factors) }
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn weight_sum(logits: &[f32], max: f32, temperature: f32) -> f64 {
                crate::kernels::softmax::sum(logits, max, temperature)
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn attend(job: &mut ChunkJob<'_>, out: &mut Partial<'_>) {
                unsafe { generic::attend::<$isa>(job, out) }
            }
            #[target_feature(enable = $features)]
            pub(super) unsafe fn merge(state: &mut Partial<'_>, next: &Partial<'_>, row: usize) {
                unsafe { generic::merge::<$isa>(state, next, row) }
            }
        }

        /// The kernels of this instruction set.
        pub(in crate::kernels) static KERNELS: crate::kernels::Kernels = crate::kernels::Kernels {
            name: $isa::NAME,
            packing: crate::kernels::Packing {
                lanes: <$isa as Simd>::LANES,
                offset_bytes: <$isa as Simd>::BYTE_OFFSET != 0,
            },
            widest: <$isa as Simd>::WIDEST,
            is_available: $isa::is_available,
            matmul: entry::matmul,
            quantize: entry::quantize,
            sum_squares: entry::sum_squares,
            scale_by: entry::scale_by,
            layer_norm: entry::layer_norm,
            activate: entry::activate,
            weight_sum: entry::weight_sum,
            attend: entry::attend,
            merge: entry::merge,
        };
    };
    (
        @matmul $isa:ident, $features:literal,
        floats { $($float:ident = $format:ident: $float_type:ident;)* }
        quantized { $($name:ident = $first:ident $(| $type:ident)*;)* }
    ) => {
        $(
            #[target_feature(enable = $features)]
            unsafe fn $float(job: &MatmulJob<'_>) {
                // SAFETY: the features are enabled here and present by the contract of `Kernels`.
                unsafe { generic::floats::<$isa, generic::$format>(job) }
            }
        )*
        $(
            #[target_feature(enable = $features)]
            unsafe fn $name(job: &MatmulJob<'_>) {
                // SAFETY: the features are enabled here and present by the contract of `Kernels`.
                unsafe { generic::quantized::<$isa, generic::Stored<{ BlockType::$first as u32 }>>(job) }
            }
        )*
        pub(super) fn matmul(block_type: BlockType) -> unsafe fn(&MatmulJob<'_>) {
            match block_type {
                $(BlockType::$float_type => $float,)*
                $(BlockType::$first $(| BlockType::$type)* => $name,)*
            }
        }
    };
}
pub(crate) use entries;

/// Every instruction set this build knows, best first; the last is the specification.
static ALL: &[&Kernels] = &[
    #[cfg(target_arch = "x86_64")]
    &x86::avx512vnni::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &x86::avxvnni::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &x86::avx2::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &x86::sse41::KERNELS,
    #[cfg(target_arch = "aarch64")]
    &arm::i8mm::KERNELS,
    #[cfg(target_arch = "aarch64")]
    &arm::dotprod::KERNELS,
    #[cfg(target_arch = "aarch64")]
    &arm::neon::KERNELS,
    &scalar::KERNELS,
];

impl Kernels {
    /// The best set this processor has, or the one `SMOLT_ISA` names.
    ///
    /// # Errors
    /// If `SMOLT_ISA` names a set this build does not know or the processor does not have.
    pub fn detect() -> Result<&'static Kernels, KernelError> {
        match std::env::var("SMOLT_ISA") {
            Ok(name) if !name.is_empty() => Self::named(&name),
            _ => Ok(Self::available().next().unwrap_or(&scalar::KERNELS)),
        }
    }

    /// The set with this name.
    ///
    /// # Errors
    /// If this build does not know it or the processor does not have it.
    pub fn named(name: &str) -> Result<&'static Kernels, KernelError> {
        let names = |sets: &mut dyn Iterator<Item = &Kernels>| {
            sets.map(|kernels| kernels.name).collect::<Vec<_>>().join(", ")
        };
        let found = ALL.iter().find(|kernels| kernels.name == name);
        let found = found.ok_or_else(|| KernelError::UnknownIsa {
            name: name.to_owned(),
            known: names(&mut ALL.iter().copied()),
        })?;
        if !(found.is_available)() {
            let available = names(&mut Self::available());
            return Err(KernelError::MissingIsa { name: found.name, available });
        }
        Ok(found)
    }

    /// The sets this processor has, best first.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        ALL.iter().copied().filter(|kernels| (kernels.is_available)())
    }
}
