//! The kernels, written once over [`Simd`].
//!
//! A matrix kernel walks the groups of a part; for each it walks the tiles of tokens and keeps one
//! accumulator vector (a lane per row) per token. For each block of 32 columns the weights are unpacked to
//! bytes and used for every token of the tile (`matmul`); weights that take longer to unpack, once for all
//! tiles (`unpacked`). Symmetric formats store unsigned codes; their zero point enters as the start value of
//! the integer sum, `-zero * sum(activations)`, so unpacking needs no subtraction.
//!
//! For a set of few registers and narrow vectors (SSE4.1) activations are spread beforehand, a chunk of blocks at a time,
//! once for many groups (`spread`). On AVX2 the same lost: what is spread takes the first-level cache from the weights.
#![expect(clippy::needless_range_loop, reason = "an index walks several arrays at once")]

/// The array of what an expression is for each value. With closures (`map`), there would be some functions more for each
/// array of each kernel, thousands to compile.
macro_rules! each {
    ($name:ident in [$($value:expr),*] => $result:expr) => {
        [$({
            let $name = $value;
            $result
        }),*]
    };
}

mod activate;
mod attention;
mod fetch;
mod floats;
mod formats;
mod job;
mod matmul;
mod spread;
mod unpacked;
mod vector;

pub(crate) use activate::activate;
pub(crate) use attention::{ChunkJob, MOST_QUERIES, attend, merge};
pub(crate) use floats::{Brain, Half, Single, floats};
pub(crate) use formats::Stored;
pub(crate) use job::MatmulJob;
pub(crate) use matmul::quantized;
pub(crate) use vector::{layer_norm, quantize, scale_by, sum_squares};
