//! What quantization did to a model: how far its predictions are from the original's on a text, layer by layer how far
//! its residual stream is, tensor by tensor how far its weights are.
//!
//! # Design
//!
//! ```text
//! check      whether two files hold versions of one model
//! bootstrap  two quantized files against each other, with intervals
//! unfold     exact factors between adjacent matrices, undone before weights are compared
//! tensors    errors of the weights
//! show       names and numbers for people
//! table      for the terminal
//! page       one HTML page: tables and text
//!   chart    its charts, as SVG
//! write      files that appear complete or not at all
//! cli        arguments of `report`
//! error      what can be wrong, exit codes
//! ```
//!
//! [`compare`] measures and returns a [`Comparison`], which is the JSON; the table and the page are made of it alone.
//! Everything depends on the files, the text and the options only: not on the number of threads, the time or chance.

mod bootstrap;
mod chart;
mod check;
mod cli;
mod error;
mod page;
mod show;
mod table;
mod target;
mod tensors;
mod unfold;

use std::sync::Arc;

use serde::Serialize;
use smolt::eval::divergence::{DivergenceSummary, divergence, stream_errors};
use smolt::eval::perplexity::{Corpus, PerplexityOptions, Score};
use smolt::generate::Session;
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{Model, RunOptions, Runner};
use smolt::text::{Tokenizer, TokenizerOptions};

pub use self::bootstrap::{Against, Estimate, Verdict};
pub(crate) use self::cli::ReportArgs;
pub use self::error::CompareError;
pub use self::page::page;
pub use self::table::table;
pub use self::tensors::TensorError;

/// Tokens whose logits are computed together.
const LOGIT_ROWS: usize = 8;
/// Chunks over which errors by layer are measured; they vary little from text to text.
const LAYER_CHUNKS: usize = 8;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// Chunks of the text.
    pub text: PerplexityOptions,
    /// Threads.
    pub threads: usize,
}

/// A model and its quantized versions. The names of the fields are the keys of the JSON, here and in what it holds.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The original.
    pub base: Base,
    /// Name of the text.
    pub text: String,
    /// Tokens of a chunk.
    pub n_ctx: usize,
    /// Chunks read.
    pub chunks: usize,
    /// Chunks read for the errors by layer, the first of the text.
    pub layer_chunks: usize,
    /// Positions whose predictions were compared.
    pub scored_tokens: usize,
    /// The quantized files in the order given.
    pub files: Vec<Compared>,
}

/// The original.
#[derive(Clone, Debug, Serialize)]
pub struct Base {
    /// The file, as it was named.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Bits of tensor data per weight.
    pub bits_per_weight: f64,
    /// Its perplexity.
    pub ppl: f64,
    /// The standard error of that; unknown for a single position.
    pub ppl_stderr: Option<f64>,
}

/// One quantized file beside the original.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The file, as it was named.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Bits of tensor data per weight.
    pub bits_per_weight: f64,
    /// Figures over the whole text.
    #[serde(flatten)]
    pub summary: DivergenceSummary,
    /// Beside the first of the files; null for the first itself.
    pub against_first: Option<Against>,
    /// Mean relative squared error of the embeddings of the tokens read.
    pub embedding_error: f64,
    /// The same of the residual stream after each layer, see [`stream_errors`].
    pub layer_errors: Vec<f64>,
    /// Channels whose factor was undone before weights were compared.
    pub unfolded_channels: usize,
    /// Errors of the weights, the largest first.
    pub tensors: Vec<TensorError>,
}

/// A text and its name.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// For people.
    pub name: &'a str,
    /// What is read.
    pub content: &'a str,
}

/// Compares `others` with `base` on `text`. `progress` gets the number of chunks so far and in all.
///
/// # Errors
/// If a file is not a version of the base, a model cannot be run, or the text is too short.
pub fn compare(
    base: &GgufFile,
    others: &[GgufFile],
    text: Text<'_>,
    options: &CompareOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Comparison, CompareError> {
    let spec = check::versions(base, others)?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(base, TokenizerOptions::default())?);
    let tokens = Corpus::new(&tokenizer, text.content);
    let corpus = tokens.map_err(|source| CompareError::Tokenize { file: text.name.to_owned(), source })?;
    let chunks = options.text.check(corpus.tokens.len())?;
    let mut base_runner = runner(base, options)?;
    let mut runners = others.iter().map(|file| runner(file, options)).collect::<Result<Vec<_>, _>>()?;
    let first = PerplexityOptions { chunks: Some(chunks.min(LAYER_CHUNKS)), ..options.text };
    let all = chunks + chunks.min(LAYER_CHUNKS);
    let streams = stream_errors(&mut base_runner, &mut runners, &corpus, &first, &mut |done, _| {
        progress(done, all);
    })?;
    let session = |runner| Session::new(runner, Arc::clone(&tokenizer));
    let mut sessions: Vec<_> = runners.into_iter().map(session).collect();
    let mut scores: Vec<&mut dyn Score> =
        sessions.iter_mut().map(|session| session as &mut dyn Score).collect();
    let results =
        divergence(&mut session(base_runner), &mut scores, &corpus, &options.text, &mut |done, _| {
            progress(chunks.min(LAYER_CHUNKS) + done, all);
        })?;
    let Some(first) = results.first() else { return Err(CompareError::NothingToCompare) };
    let files = others.iter().zip(&results).zip(streams).enumerate().map(|(i, ((file, result), stream))| {
        let unfolded = unfold::find(base, file, &spec);
        Some(Compared {
            file: file.name().to_owned(),
            bytes: file.file_bytes(),
            bits_per_weight: bits_per_weight(file),
            summary: result.summary()?,
            against_first: (i > 0).then(|| bootstrap::against(result, first)),
            embedding_error: *stream.first()?,
            layer_errors: stream[1..].to_vec(),
            unfolded_channels: unfolded.channels(),
            tensors: tensors::errors(base, file, &unfolded),
        })
    });
    let files = files.flatten().collect();
    let whole = first.base_perplexity();
    Ok(Comparison {
        base: Base {
            file: base.name().to_owned(),
            bytes: base.file_bytes(),
            bits_per_weight: bits_per_weight(base),
            ppl: whole.ppl,
            ppl_stderr: whole.stderr,
        },
        text: text.name.to_owned(),
        n_ctx: whole.n_ctx,
        chunks: whole.chunks,
        layer_chunks: chunks.min(LAYER_CHUNKS),
        scored_tokens: whole.scored_tokens,
        files,
    })
}

fn bits_per_weight(file: &GgufFile) -> f64 {
    let weights: usize = file.tensors().iter().map(|tensor| tensor.elements()).sum();
    let bytes: u64 = file.tensors().iter().map(|tensor| tensor.bytes).sum();
    bytes as f64 * 8.0 / weights.max(1) as f64
}

fn runner(file: &GgufFile, options: &CompareOptions) -> Result<Runner, CompareError> {
    let kernels = Kernels::detect().map_err(CompareError::Kernels)?;
    let model = Model::load(file, kernels)?;
    let (context, threads) = (options.text.n_ctx, options.threads);
    let options = RunOptions { context, threads, slots: 1, logit_rows: LOGIT_ROWS, kv: KvType::F16 };
    Ok(Runner::new(Arc::new(model), &options)?)
}
