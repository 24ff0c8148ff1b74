//! What quantization did to a model: divergence from the original on a text, and errors tensor by tensor.

use std::sync::Arc;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use smolt::eval::divergence::{Divergence, DivergenceSummary, divergence};
use smolt::eval::perplexity::{Corpus, PerplexityOptions, Score};
use smolt::eval::stats::quantile;
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{Model, RunOptions, Runner};
use smolt::text::{Tokenizer, TokenizerOptions};

use crate::QuantizeError;

/// Tokens whose logits are computed together.
const LOGIT_ROWS: usize = 8;
/// Resamples of the bootstrap.
const RESAMPLES: usize = 2000;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// Chunks of the text.
    pub text: PerplexityOptions,
    /// Threads.
    pub threads: usize,
}

/// One quantized file beside the original.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The file.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Bits of tensor data per weight.
    pub bits_per_weight: f64,
    /// Figures over the whole text.
    #[serde(flatten)]
    pub summary: DivergenceSummary,
    /// Mean divergence divided by that of the first file; none for the first file itself.
    pub kl_ratio: Option<Interval>,
    /// Errors of the tensors, the largest first.
    pub tensors: Vec<TensorError>,
}

/// An estimate with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Of all chunks.
    pub estimate: f64,
    /// 2.5 % of resampled estimates are below.
    pub low: f64,
    /// 2.5 % of resampled estimates are above.
    pub high: f64,
}

/// How far a tensor is from the original.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorError {
    /// Name.
    pub name: String,
    /// Type in the quantized file.
    #[serde(rename = "type")]
    pub block_type: &'static str,
    /// Sum of squared differences divided by the sum of squares.
    pub relative_square: f64,
}

/// Compares `others` with `base` on `text`. `progress` gets the number of chunks so far and in all.
///
/// # Errors
/// If a model cannot be run, or the text is too short.
pub fn compare(
    base: &GgufFile,
    others: &[GgufFile],
    text: &str,
    options: &CompareOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Compared>, QuantizeError> {
    let tokenizer =
        Tokenizer::from_gguf(base, TokenizerOptions::default()).map_err(QuantizeError::Tokenizer)?;
    let corpus = Corpus::new(&tokenizer, text).map_err(QuantizeError::Tokenizer)?;
    let mut base_runner = runner(base, options)?;
    let mut runners = others.iter().map(|file| runner(file, options)).collect::<Result<Vec<_>, _>>()?;
    let mut scores: Vec<&mut dyn Score> = runners.iter_mut().map(|runner| runner as &mut dyn Score).collect();
    let results = divergence(&mut base_runner, &mut scores, &corpus, &options.text, progress);
    let results = results.map_err(QuantizeError::Measure)?;
    let compared = others.iter().zip(&results).enumerate().map(|(i, (file, result))| {
        let weights: usize = file.tensors().iter().map(|tensor| tensor.elements()).sum();
        let bytes: u64 = file.tensors().iter().map(|tensor| tensor.bytes).sum();
        Some(Compared {
            file: file.name().to_owned(),
            bytes: file.file_bytes(),
            bits_per_weight: bytes as f64 * 8.0 / weights.max(1) as f64,
            summary: result.summary()?,
            kl_ratio: if i > 0 { ratio(result, &results[0]) } else { None },
            tensors: tensor_errors(base, file),
        })
    });
    Ok(compared.flatten().collect())
}

fn runner(file: &GgufFile, options: &CompareOptions) -> Result<Runner, QuantizeError> {
    let kernels = Kernels::detect().map_err(|error| QuantizeError::Kernels(error.to_string()))?;
    let model = Model::load(file, kernels).map_err(QuantizeError::Model)?;
    let (context, threads) = (options.text.n_ctx, options.threads);
    let options = RunOptions { context, threads, logit_rows: LOGIT_ROWS, kv: KvType::F16 };
    Runner::new(Arc::new(model), &options).map_err(QuantizeError::Model)
}

/// The ratio of mean divergences, with a paired bootstrap over chunks (Efron and Tibshirani 1993, chapter 13).
fn ratio(a: &Divergence, b: &Divergence) -> Option<Interval> {
    let pairs: Vec<(f64, f64)> = a.chunk_means().zip(b.chunk_means()).collect();
    let of = |pairs: &mut dyn Iterator<Item = &(f64, f64)>| {
        let (a, b) = pairs.fold((0.0, 0.0), |(a, b), pair| (a + pair.0, b + pair.1));
        a / b
    };
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut resample = || of(&mut (0..pairs.len()).map(|_| &pairs[random.random_range(0..pairs.len())]));
    let mut samples: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    samples.sort_by(f64::total_cmp);
    Some(Interval {
        estimate: of(&mut pairs.iter()),
        low: quantile(&samples, 0.025)?,
        high: quantile(&samples, 0.975)?,
    })
}

/// Errors of all tensors that both files have in one shape, the largest first.
fn tensor_errors(base: &GgufFile, other: &GgufFile) -> Vec<TensorError> {
    let mut errors: Vec<TensorError> = other
        .tensors()
        .iter()
        .filter_map(|tensor| {
            let original = base.tensor(&tensor.name).filter(|original| original.shape == tensor.shape)?;
            let (mut a, mut b) = (vec![0.0; tensor.cols()], vec![0.0; tensor.cols()]);
            let (mut difference, mut size) = (0.0, 0.0);
            let rows = |bytes: usize| bytes / tensor.rows();
            let (data, original_data) = (other.data(tensor), base.data(original));
            let pairs = data
                .chunks_exact(rows(data.len()))
                .zip(original_data.chunks_exact(rows(original_data.len())));
            for (row, original_row) in pairs {
                tensor.block_type.decode(row, &mut a);
                original.block_type.decode(original_row, &mut b);
                for (a, b) in a.iter().zip(&b) {
                    difference += f64::from(a - b).powi(2);
                    size += f64::from(*b).powi(2);
                }
            }
            let relative_square = if size > 0.0 { difference / size } else { 0.0 };
            Some(TensorError {
                name: tensor.name.clone(),
                block_type: tensor.block_type.name(),
                relative_square,
            })
        })
        .collect();
    errors.sort_by(|a, b| b.relative_square.total_cmp(&a.relative_square));
    errors
}

/// A table of the files, then the tensors that suffered most.
pub fn table(compared: &[Compared], worst: usize) -> String {
    let mut lines = vec![format!(
        "{:>12} {:>6} {:>10} {:>17} {:>20} {:>10} {:>9} {:>7}  {}",
        "bytes", "bits/w", "PPL", "ln PPL ratio", "mean KL", "median", "99 %", "top-1", "file"
    )];
    for one in compared {
        let s = &one.summary;
        let error = |error: Option<f64>| error.map_or_else(String::new, |error| format!("±{error:.5}"));
        lines.push(format!(
            "{:>12} {:>6.3} {:>10.4} {:>8.5} {:<8} {:>10.6} {:<9} {:>10.6} {:>9.5} {:>6.2}%  {}",
            one.bytes,
            one.bits_per_weight,
            s.ppl,
            s.ln_ppl_ratio,
            error(s.ln_ppl_ratio_stderr),
            s.mean_kl,
            error(s.mean_kl_stderr),
            s.median_kl,
            s.kl_99,
            s.same_top * 100.0,
            one.file
        ));
    }
    for one in compared {
        if let Some(ratio) = one.kl_ratio {
            let (file, first) = (&one.file, &compared[0].file);
            let Interval { estimate, low, high } = ratio;
            lines.push(format!(
                "{file}: KL is {estimate:.3} of that of {first} (95 %: {low:.3} to {high:.3})"
            ));
        }
    }
    for one in compared {
        lines.push(format!("largest relative errors in {}:", one.file));
        for tensor in one.tensors.iter().filter(|tensor| tensor.relative_square > 0.0).take(worst) {
            lines.push(format!(
                "  {:<28} {:<6} {:.5}",
                tensor.name, tensor.block_type, tensor.relative_square
            ));
        }
    }
    lines.join("\n")
}
