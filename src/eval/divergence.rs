//! How far a model's predictions are from those of another: what quantization did to it.
//!
//! Text, chunks and scored positions are those of [`super::perplexity`], so the figures can be compared with
//! llama-perplexity's `--kl-divergence`. The base model's logits are kept in f32 for a chunk at a time, so that there
//! is no floor below which differences vanish. Probabilities are computed in f64.
//!
//! [`stream_errors`] looks inside: how far the residual stream is off after each layer.

use super::error::EvalError;
use super::perplexity::{Corpus, Perplexity, PerplexityOptions, Score};
use super::stats::{Mean, quantile};
use crate::model::{ModelError, Runner, TILE};
use serde::Serialize;

/// Both models at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Kullback-Leibler divergence of the other's distribution from the base's, in nats.
    pub kl: f64,
    /// Negative log-probability of the token that follows: base and other.
    pub nll: [f64; 2],
    /// Whether both hold the same token for the likeliest.
    pub same_top: bool,
}

/// All scored positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Divergence {
    /// In the order of the text.
    pub points: Vec<Point>,
    /// Tokens of a chunk.
    pub n_ctx: usize,
}

/// What became of a model, in figures. The names of the fields are the keys of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DivergenceSummary {
    /// Perplexity of the other.
    pub ppl: f64,
    /// Its standard error.
    pub ppl_stderr: Option<f64>,
    /// Logarithm of the ratio of both perplexities.
    pub ln_ppl_ratio: f64,
    /// Its standard error, from the differences at each position.
    pub ln_ppl_ratio_stderr: Option<f64>,
    /// Mean divergence in nats.
    pub mean_kl: f64,
    /// Its standard error.
    pub mean_kl_stderr: Option<f64>,
    /// Median divergence.
    pub median_kl: f64,
    /// Divergence that 99 % of the positions stay below.
    pub kl_99: f64,
    /// Share of positions with the same likeliest token.
    pub same_top: f64,
    /// Its standard error.
    pub same_top_stderr: Option<f64>,
}

impl Divergence {
    /// Figures of all points; `None` if there are none.
    pub fn summary(&self) -> Option<DivergenceSummary> {
        let [mut kl, mut change, mut top] = [Mean::default(); 3];
        for point in &self.points {
            kl.add(point.kl);
            change.add(point.nll[1] - point.nll[0]);
            top.add(f64::from(u8::from(point.same_top)));
        }
        let mut sorted: Vec<f64> = self.points.iter().map(|point| point.kl).collect();
        sorted.sort_by(f64::total_cmp);
        let Perplexity { ppl, stderr, .. } = self.perplexity(1);
        Some(DivergenceSummary {
            ppl,
            ppl_stderr: stderr,
            ln_ppl_ratio: change.mean(),
            ln_ppl_ratio_stderr: change.standard_error(),
            mean_kl: kl.mean(),
            mean_kl_stderr: kl.standard_error(),
            median_kl: quantile(&sorted, 0.5)?,
            kl_99: quantile(&sorted, 0.99)?,
            same_top: top.mean(),
            same_top_stderr: top.standard_error(),
        })
    }

    /// Perplexity of the base.
    pub fn base_perplexity(&self) -> Perplexity {
        self.perplexity(0)
    }

    fn perplexity(&self, model: usize) -> Perplexity {
        let mut nll = Mean::default();
        self.points.iter().for_each(|point| nll.add(point.nll[model]));
        let ppl = nll.mean().exp();
        Perplexity {
            ppl,
            stderr: nll.standard_error().map(|error| error * ppl),
            chunks: self.points.len() / per_chunk(self.n_ctx).max(1),
            scored_tokens: nll.count(),
            n_ctx: self.n_ctx,
        }
    }

    /// The mean of `value` over each chunk, to be resampled.
    pub fn chunk_means(&self, value: impl Fn(&Point) -> f64) -> impl Iterator<Item = f64> {
        let mean = move |points: &[Point]| points.iter().map(&value).sum::<f64>() / points.len() as f64;
        self.points.chunks(per_chunk(self.n_ctx).max(1)).map(mean)
    }
}

/// Scored positions of a chunk.
fn per_chunk(n_ctx: usize) -> usize {
    (n_ctx - n_ctx / 2).saturating_sub(1)
}

/// Compares each of `others` with `base` on `corpus`; what their caches held is forgotten. After each chunk,
/// `progress` gets the number of chunks so far and in all.
///
/// # Errors
/// If the text has fewer than two chunks, the options make no sense, a model has a smaller context, the vocabularies
/// differ, or logits are not finite.
pub fn divergence(
    base: &mut dyn Score,
    others: &mut [&mut dyn Score],
    corpus: &Corpus,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Divergence>, EvalError> {
    let chunks = options.check(corpus.tokens.len())?;
    let vocab = base.vocab_size();
    for other in others.iter() {
        if other.vocab_size() != vocab {
            return Err(EvalError::Vocabulary { base: vocab, other: other.vocab_size() });
        }
    }
    let n_ctx = options.n_ctx;
    let mut results = vec![Divergence { points: Vec::new(), n_ctx }; others.len()];
    let mut logits = Vec::with_capacity(per_chunk(n_ctx) * vocab);
    for (index, chunk) in corpus.chunks(options.n_ctx).take(chunks).enumerate() {
        logits.clear();
        read(base, &chunk, index, &mut |_, row| logits.extend_from_slice(row))?;
        for (other, result) in others.iter_mut().zip(&mut results) {
            let mut base_rows = logits.chunks_exact(vocab);
            read(&mut **other, &chunk, index, &mut |next, row| {
                if let Some(base) = base_rows.next() {
                    result.points.push(compare(base, row, next));
                }
            })?;
        }
        progress(index + 1, chunks);
    }
    Ok(results)
}

/// Calls `visit(the token that follows, logits)` for each scored position of a chunk.
fn read(
    model: &mut dyn Score,
    chunk: &[u32],
    index: usize,
    visit: &mut (dyn FnMut(u32, &[f32]) + Send),
) -> Result<(), EvalError> {
    check_tokens(chunk, model.vocab_size())?;
    let mut damaged = None;
    model.score(chunk, chunk.len() / 2 + 1, &mut |at, logits| {
        if !logits.iter().all(|logit| logit.is_finite()) {
            damaged.get_or_insert(at - 1);
        }
        visit(chunk[at], logits);
    })?;
    damaged.map_or(Ok(()), |token| Err(EvalError::NotFinite { chunk: index, token }))
}

fn check_tokens(tokens: &[u32], vocab: usize) -> Result<(), ModelError> {
    match tokens.iter().find(|&&token| token as usize >= vocab) {
        Some(&token) => Err(ModelError::TokenOutOfRange { token, vocab }),
        None => Ok(()),
    }
}

/// How far the residual stream of each of `others` is from that of `base`: `[other][0]` after the embedding,
/// `[other][1 + layer]` after each layer. Of each token the square of the difference is divided by the square of the
/// base's stream; the result is the mean over all tokens of the first chunks of `corpus`, so that the few tokens whose
/// stream is very large (attention sinks) count like any other. After each chunk, `progress` gets the number of chunks
/// so far and in all.
///
/// # Errors
/// If the text has fewer than two chunks, the options make no sense, a model has a smaller context or vocabulary or
/// another number or width of layers, or a stream is not finite.
pub fn stream_errors(
    base: &mut Runner,
    others: &mut [Runner],
    corpus: &Corpus,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<f64>>, EvalError> {
    let chunks = options.check(corpus.tokens.len())?;
    let (layers, dim) = (base.model().spec().layers, base.model().spec().dim);
    for spec in others.iter().map(|other| other.model().spec()) {
        let counts = [("the number of layers", spec.layers, layers), ("the width of layers", spec.dim, dim)];
        if let Some(&(what, found, only)) = counts.iter().find(|(_, found, only)| found != only) {
            return Err(EvalError::OutOfRange { what, found, least: only, most: only });
        }
    }
    let mut means = vec![vec![Mean::default(); layers + 1]; others.len()];
    let mut streams = vec![Vec::new(); layers + 1];
    for (index, chunk) in corpus.chunks(options.n_ctx).take(chunks).enumerate() {
        for (i, tokens) in chunk.chunks(TILE).enumerate() {
            walk(base, tokens, i * TILE, &mut |step, stream| {
                streams[step].clear();
                streams[step].extend_from_slice(stream);
            })?;
            for (other, means) in others.iter_mut().zip(&mut means) {
                walk(other, tokens, i * TILE, &mut |step, stream| {
                    let rows = streams[step].chunks_exact(dim).zip(stream.chunks_exact(dim));
                    rows.for_each(|(base, other)| add_error(&mut means[step], base, other));
                })?;
                if means.iter().any(|mean| mean.count() > 0 && !mean.mean().is_finite()) {
                    return Err(EvalError::NotFinite { chunk: index, token: i * TILE });
                }
            }
        }
        progress(index + 1, chunks);
    }
    let mean = |mean: &Mean| if mean.count() > 0 { mean.mean() } else { 0.0 };
    Ok(means.iter().map(|steps| steps.iter().map(mean).collect()).collect())
}

/// Takes a tile of a chunk through a model: `visit(0, stream)` after the embedding, `visit(1 + layer, stream)` after each
/// layer; streams are `[token][dim]`.
fn walk(
    model: &mut Runner,
    tokens: &[u32],
    position: usize,
    visit: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), ModelError> {
    let spec = model.model().spec();
    check_tokens(tokens, spec.vocab)?;
    let layers = spec.layers;
    let mut tile = model.tile(position, tokens.len())?;
    tile.embed(tokens);
    visit(0, tile.residual());
    for layer in 0..layers {
        tile.layer(layer);
        visit(layer + 1, tile.residual());
    }
    Ok(())
}

/// Adds the error of one token. Of a stream that is zero there are no shares.
fn add_error(mean: &mut Mean, base: &[f32], other: &[f32]) {
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v) * f64::from(v)).sum();
    let size: f64 = square(&mut base.iter().copied());
    let error: f64 = square(&mut base.iter().zip(other).map(|(base, other)| other - base));
    if size != 0.0 {
        mean.add(error / size);
    }
}

/// The largest logit's index (the first if several), its value, and the logarithm of the sum of exponentials.
fn normalizer(logits: &[f32]) -> (usize, f64) {
    let larger = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    let top = (0..logits.len()).fold(0, larger);
    let most = f64::from(logits[top]);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
    (top, most + sum.ln())
}

/// Kullback-Leibler divergence of the distribution with logits `other` from that with logits `base`, in nats.
pub fn kl_divergence(base: &[f32], other: &[f32]) -> f64 {
    normalized_kl((base, normalizer(base).1), (other, normalizer(other).1))
}

/// The same of logits with their normalizers.
fn normalized_kl((base, base_norm): (&[f32], f64), (other, other_norm): (&[f32], f64)) -> f64 {
    let parts = base.iter().zip(other).map(|(base, other)| {
        let (base, other) = (f64::from(*base) - base_norm, f64::from(*other) - other_norm);
        base.exp() * (base - other)
    });
    parts.sum()
}

fn compare(base: &[f32], other: &[f32], next: u32) -> Point {
    let ((base_top, base_norm), (other_top, other_norm)) = (normalizer(base), normalizer(other));
    let next = next as usize;
    Point {
        kl: normalized_kl((base, base_norm), (other, other_norm)),
        nll: [base_norm - f64::from(base[next]), other_norm - f64::from(other[next])],
        same_top: base_top == other_top,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): KL = 1/2 ln 2 - 1/4 ln 2 = 1/4 ln 2.
    #[test]
    fn divergence_by_hand() {
        let base = [2.0f32, 1.0, 1.0].map(f32::ln);
        let other = [1.0f32, 1.0, 2.0].map(|p| p.ln() + 7.0);
        let point = compare(&base, &other, 2);
        assert!((point.kl - 0.25 * 2f64.ln()).abs() < 1e-6, "{}", point.kl);
        assert_eq!(kl_divergence(&base, &other), point.kl);
        assert!((point.nll[0] - 4f64.ln()).abs() < 1e-6 && (point.nll[1] - 2f64.ln()).abs() < 1e-6);
        assert!(!point.same_top);
        let same = compare(&base, &base, 0);
        assert!(same.kl.abs() < 1e-12 && same.same_top);
    }

    #[test]
    fn a_summary_by_hand() {
        let point = |kl, nll, same_top| Point { kl, nll: [1.0, nll], same_top };
        let points =
            vec![point(0.1, 1.0, true), point(0.3, 1.5, false), point(0.2, 1.5, true), point(0.2, 2.0, true)];
        // Chunks of 6 tokens have 2 scored positions.
        let divergence = Divergence { points, n_ctx: 6 };
        let summary = divergence.summary().unwrap();
        assert!((summary.mean_kl - 0.2).abs() < 1e-12 && (summary.median_kl - 0.2).abs() < 1e-12);
        assert!((summary.ln_ppl_ratio - 0.5).abs() < 1e-12);
        // Of 1, 1.5, 1.5, 2: mean of squares 2.375, so sqrt((2.375 - 2.25) / 3), times the perplexity.
        let stderr = (0.125f64 / 3.0).sqrt() * 1.5f64.exp();
        assert!((summary.ppl - 1.5f64.exp()).abs() < 1e-12, "{}", summary.ppl);
        assert!((summary.ppl_stderr.unwrap() - stderr).abs() < 1e-12, "{:?}", summary.ppl_stderr);
        // sqrt((3/4 - 9/16) / 3) = 1/4.
        assert_eq!((summary.same_top, summary.same_top_stderr), (0.75, Some(0.25)));
        let base = divergence.base_perplexity();
        assert!((base.ppl - 1f64.exp()).abs() < 1e-12 && base.stderr == Some(0.0));
        assert_eq!((base.chunks, base.scored_tokens, base.n_ctx), (2, 4, 6));
        let means: Vec<f64> = divergence.chunk_means(|point| point.nll[1]).collect();
        assert_eq!(means, [1.25, 1.75]);
        assert_eq!(Divergence::default().summary(), None);
    }

    /// |(0, 1)|^2 / |(3, 4)|^2 = 1/25; a token of zeros does not count.
    #[test]
    fn stream_errors_are_shares_of_each_token() {
        let mut mean = Mean::default();
        add_error(&mut mean, &[3.0, 4.0], &[3.0, 5.0]);
        add_error(&mut mean, &[0.0, 0.0], &[0.0, 1.0]);
        add_error(&mut mean, &[300.0, 400.0], &[300.0, 400.0]);
        assert_eq!((mean.mean(), mean.count()), (0.02, 2));
        add_error(&mut mean, &[3.0, 4.0], &[f32::NAN, 4.0]);
        assert!(!mean.mean().is_finite());
    }
}
