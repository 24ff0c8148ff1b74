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
mod journal;
mod layer;
mod moments;
mod rows;
mod sensitivity;
mod stream;
mod survey;
#[cfg(test)]
mod tests;
mod text;
mod work;

use std::io;
use std::path::Path;

use smolt::blocks::BlockType;
use smolt::files::Fnv;
use smolt::gguf::GgufFile;
use smolt::text::{Tokenizer, TokenizerOptions};

use self::journal::Journal;
pub use self::sensitivity::Sensitivity;
pub(crate) use self::sensitivity::{PROBE, units};
pub use self::text::Draw;
use self::text::Sequences;
use self::work::Work;
use crate::encode::{Encoder, Tensor};
use crate::gptq::{FactorOptions, REFITS};
use crate::{Plan, QuantizeError};

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Each by itself, with the block's scale chosen for columns weighted by the size of their inputs (what
    /// llama.cpp's importance matrix does).
    Imatrix,
    /// One after the other, the later ones making up for the earlier.
    Gptq,
}

/// How to calibrate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrateOptions {
    /// Which part of the text.
    pub draw: Draw,
    /// How weights are rounded.
    pub method: Method,
    /// Added to the diagonal of second moments, in units of its mean.
    pub damping: f64,
    /// The same for the token embedding and the output head.
    pub head_damping: f64,
    /// How much of the inputs' error a matrix makes up for, from 0 to 1.
    pub asymmetry: f32,
    /// Whether factors are folded between adjacent matrices and norms.
    pub fold: bool,
    /// Times the scale of a block is fitted again by least squares to the levels it gave.
    pub refits: u8,
    /// Round columns in the order of the file, not those of the largest inputs first.
    pub file_order: bool,
    /// Threads.
    pub threads: usize,
}

impl CalibrateOptions {
    fn factor(&self) -> FactorOptions {
        FactorOptions { damping: self.damping, file_order: self.file_order }
    }

    fn head_factor(&self) -> FactorOptions {
        FactorOptions { damping: self.head_damping, ..self.factor() }
    }
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        Self {
            draw: Draw::default(),
            method: Method::Gptq,
            damping: 0.02,
            head_damping: 0.05,
            asymmetry: 1.0,
            fold: true,
            refits: REFITS,
            file_order: false,
            threads: 1,
        }
    }
}

/// Quantized tensors, kept in a file until the output is complete.
#[derive(Debug, Default)]
pub struct Calibrated {
    journal: Option<Journal>,
}

impl Calibrated {
    fn new(journal: Journal) -> Self {
        Self { journal: Some(journal) }
    }

    /// No tensor: everything is rounded to nearest.
    pub fn none() -> Self {
        Self::default()
    }

    /// Squared error of a tensor's outputs over the text, divided by what rounding every weight to nearest would
    /// have cost; `None` if it was not quantized here.
    pub fn loss_ratio(&self, tensor: &str) -> Option<f64> {
        let record = self.journal.as_ref()?.record(tensor)?;
        (record.nearest_loss > 0.0).then(|| record.loss / record.nearest_loss)
    }

    /// The bytes of a tensor.
    pub(crate) fn read(&self, tensor: &str) -> io::Result<Option<Vec<u8>>> {
        self.journal.as_ref().map_or(Ok(None), |journal| journal.data(tensor))
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn remove(self) -> io::Result<()> {
        self.journal.map_or(Ok(()), Journal::remove)
    }
}

/// Quantizes every tensor of `plan` that has a quantized type, calibrated on `texts` (name and content). What is
/// finished is kept in the file `journal`; a calibration with the same inputs goes on from there. `progress` gets
/// the number of weights just done.
///
/// # Errors
/// If the model cannot be run, the text is too short, a weight or an activation is not finite, or the journal cannot
/// be written.
pub fn calibrate(
    plan: &Plan<'_>,
    texts: &[(String, String)],
    options: &CalibrateOptions,
    journal: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Calibrated, QuantizeError> {
    let sequences = sequences(plan.input(), texts, options)?;
    // Factors that move between matrices would take weights off their lattices.
    let keeps_lattices = plan.tensors().iter().any(|tensor| tensor.lattice.is_some());
    let options = &CalibrateOptions { fold: options.fold && !keeps_lattices, ..*options };
    let mut journal = Journal::open(journal, key(plan, &sequences, options)?)?;
    keep_lattices(plan, options.threads, &mut journal)?;
    Work::new(plan, options, Some(journal), progress)?.run(&sequences)
}

/// Puts the tensors on a lattice among those that are finished.
fn keep_lattices(plan: &Plan<'_>, threads: usize, journal: &mut Journal) -> Result<(), QuantizeError> {
    let mut encoder = Encoder::new(threads);
    for planned in plan.tensors().iter().filter(|planned| planned.lattice.is_some()) {
        let source = &planned.source;
        if journal.record(&source.name).is_some() {
            continue;
        }
        let tensor =
            Tensor::new(plan.input(), source, planned.choice.stored).map_err(QuantizeError::Input)?;
        let mut bytes = Vec::new();
        let released = &mut |bytes| plan.input().release(source, bytes);
        let encoded = encoder.encode(&tensor.with_lattice(true), &mut bytes, released);
        if let Some(fault) = encoded.map_err(QuantizeError::Journal)? {
            return Err(fault);
        }
        journal.put(&source.name, &bytes, 0.0, 0.0).map_err(QuantizeError::Journal)?;
    }
    Ok(())
}

/// Measures what it costs to store each tensor that has the type `PROBE` in `plan` in each type of `menu`. The result
/// is kept in the file `journal`, if any, and not measured again. `progress` gets the number of
/// [`units`] just done.
///
/// # Errors
/// As [`calibrate`].
pub(crate) fn sensitivities(
    plan: &Plan<'_>,
    texts: &[(String, String)],
    (options, menu): (&CalibrateOptions, &[BlockType]),
    journal: Option<&Path>,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Sensitivity>, QuantizeError> {
    let sequences = sequences(plan.input(), texts, options)?;
    let mut hash = Fnv::default();
    hash.add(&key(plan, &sequences, options)?.to_le_bytes());
    menu.iter().for_each(|one| hash.add(&one.id().to_le_bytes()));
    let key = hash.finish();
    let journal = journal.map(|path| Journal::open(path, key)).transpose()?;
    let kept = journal.as_ref().map(|journal| journal.data(SENSITIVITIES)).transpose();
    let kept = kept.map_err(QuantizeError::Journal)?.flatten();
    if let Some(known) = kept.as_deref().and_then(sensitivity::from_bytes) {
        return Ok(known);
    }
    let found = Work::new(plan, options, None, progress)?.sensitivities(&sequences, menu)?;
    if let Some(mut journal) = journal {
        let bytes = sensitivity::to_bytes(&found);
        journal.put(SENSITIVITIES, &bytes, 0.0, 0.0).map_err(QuantizeError::Journal)?;
    }
    Ok(found)
}

/// Whether a file holds what was finished of a calibration.
///
/// # Errors
/// If it holds something else: that stays as it is.
pub fn holds_calibration(path: &Path) -> Result<bool, QuantizeError> {
    Journal::holds(path)
}

/// Deletes the file in which sensitivities were kept.
///
/// # Errors
/// If the system refuses, or it is not such a file.
pub fn remove_sensitivities(path: &Path) -> Result<(), QuantizeError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Journal::open(path, 0)?.remove().map_err(QuantizeError::Journal)
}

/// Name of the sensitivities in their journal.
const SENSITIVITIES: &str = "sensitivities";

fn sequences(
    input: &GgufFile,
    texts: &[(String, String)],
    options: &CalibrateOptions,
) -> Result<Sequences, QuantizeError> {
    let tokenizer =
        Tokenizer::from_gguf(input, TokenizerOptions::default()).map_err(QuantizeError::Tokenizer)?;
    let context = layer::spec(input)?.trained_context;
    let draw = Draw { sequence: options.draw.sequence.min(context), ..options.draw };
    Sequences::draw(&tokenizer, texts, draw)
}

/// A number that differs between calibrations with different results.
fn key(plan: &Plan<'_>, sequences: &Sequences, options: &CalibrateOptions) -> Result<u64, QuantizeError> {
    let mut hash = Fnv::default();
    hash.add(plan.input().as_bytes().map_err(QuantizeError::Input)?);
    plan.input().release_all();
    for tensor in plan.tensors() {
        hash.add(&tensor.choice.stored.id().to_le_bytes());
        hash.add(&[u8::from(tensor.lattice.is_some())]);
    }
    sequences.tokens.iter().for_each(|token| hash.add(&token.to_le_bytes()));
    let same_threads = CalibrateOptions { threads: 1, ..*options };
    hash.add(format!("{same_threads:?} {}", env!("CARGO_PKG_VERSION")).as_bytes());
    Ok(hash.finish())
}
