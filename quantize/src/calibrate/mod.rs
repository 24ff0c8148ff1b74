//! Calibrated quantization: what a model's matrices read on a text decides how they are rounded.
//!
//! # Design
//!
//! Two streams of activations go through the layers side by side: one of the model as it is, one of the model as it
//! will be, with everything before the matrix at hand quantized already and activations rounded as the kernels
//! round them. Both are computed by the library's own forward pass, one layer at a time: a layer is made a model
//! of its own (`layer`), so that only one layer's weights are in memory, and its stages are driven from here
//! (`stream`).
//!
//! For each stage of a layer (see `stream`) the second moments of the inputs are summed over the text
//! (`moments`), the matrices that read them are quantized (`gptq`) and the streams move on.
//!
//! What a matrix is to reproduce is what the original one makes of the original input, `W x`, from the input that
//! it will get, `x^`. With `H = sum x^ x^'` and `G = sum (x - x^) x^'`,
//!
//! ```text
//! sum |Q x^ - W x|^2 = (Q - T) H (Q - T)' + const,    T = W + W G H^-1
//! ```
//!
//! so `T` takes the place of `W` (the asymmetric target of GPTAQ, arXiv 2504.02692, in closed form);
//! [`CalibrateOptions::asymmetry`] scales the second term, which is itself estimated from a finite text.
//!
//! Before all this, factors between adjacent matrices are folded so that both are easier to quantize (`fold`).
//!
//! The token embedding comes first, since everything after reads it. Where it is also the output head, its errors
//! count as those of the head, over the final states of the original model; the damping stands for its other role.

mod fold;
mod layer;
mod moments;
mod stream;
mod text;
mod work;

use std::collections::HashMap;

use smolt::text::{Tokenizer, TokenizerOptions};

pub use self::text::Draw;
use self::text::Sequences;
use self::work::Work;
use crate::{Plan, QuantizeError};

/// How to calibrate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrateOptions {
    /// Which part of the text.
    pub draw: Draw,
    /// Added to the diagonal of second moments, in units of its mean.
    pub damping: f64,
    /// The same for the token embedding and the output head.
    pub head_damping: f64,
    /// How much of the inputs' error a matrix makes up for, from 0 to 1.
    pub asymmetry: f32,
    /// Whether factors are folded between adjacent matrices and norms.
    pub fold: bool,
    /// Threads.
    pub threads: usize,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        Self {
            draw: Draw::default(),
            damping: 0.02,
            head_damping: 0.05,
            asymmetry: 1.0,
            fold: true,
            threads: 1,
        }
    }
}

/// A quantized tensor and how well it went.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Rows of blocks.
    pub bytes: Vec<u8>,
    /// Squared error of the outputs over the text.
    pub loss: f64,
    /// The same if every weight had been rounded to nearest.
    pub nearest_loss: f64,
}

/// Quantized tensors by name.
pub type Calibrated = HashMap<String, Tensor>;

/// Quantizes every tensor of `plan` that has a quantized type, calibrated on `texts` (name and content).
/// `progress` gets the number of weights just done.
///
/// # Errors
/// If the model cannot be run, the text is too short, or a weight or an activation is not finite.
pub fn calibrate(
    plan: &Plan<'_>,
    texts: &[(String, String)],
    options: &CalibrateOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Calibrated, QuantizeError> {
    let input = plan.input();
    let tokenizer =
        Tokenizer::from_gguf(input, TokenizerOptions::default()).map_err(QuantizeError::Tokenizer)?;
    let sequences = Sequences::draw(&tokenizer, texts, options.draw)?;
    Work::new(plan, options, progress)?.run(&sequences)
}
