//! How far a model's predictions are from those of another: what quantization did to it.
//!
//! Text, chunks and scored positions are those of [`super::perplexity`], so the figures can be compared with
//! llama-perplexity's `--kl-divergence`. The base model's logits are kept in f32 for a chunk at a time, so that there
//! is no floor below which differences vanish. Probabilities are computed in f64.

use super::error::EvalError;
use super::perplexity::{Corpus, PerplexityOptions, Score};
use super::stats::{Mean, quantile};
use crate::model::ModelError;
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
    /// Scored positions of a chunk.
    pub per_chunk: usize,
}

/// What became of a model, in figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DivergenceSummary {
    /// Perplexity of the base.
    pub base_ppl: f64,
    /// Perplexity of the other.
    pub ppl: f64,
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
    /// Chunks read.
    pub chunks: usize,
    /// Positions scored.
    pub scored_tokens: usize,
}

impl Divergence {
    /// Figures of all points; `None` if there are none.
    pub fn summary(&self) -> Option<DivergenceSummary> {
        let (mut kl, mut change, mut nll, mut top) = (Mean::default(), Mean::default(), [0.0; 2], 0);
        for point in &self.points {
            kl.add(point.kl);
            change.add(point.nll[1] - point.nll[0]);
            nll[0] += point.nll[0];
            nll[1] += point.nll[1];
            top += usize::from(point.same_top);
        }
        let count = self.points.len();
        let mut sorted: Vec<f64> = self.points.iter().map(|point| point.kl).collect();
        sorted.sort_by(f64::total_cmp);
        let [base_ppl, ppl] = nll.map(|nll| (nll / count as f64).exp());
        Some(DivergenceSummary {
            base_ppl,
            ppl,
            ln_ppl_ratio: change.mean(),
            ln_ppl_ratio_stderr: change.standard_error(),
            mean_kl: kl.mean(),
            mean_kl_stderr: kl.standard_error(),
            median_kl: quantile(&sorted, 0.5)?,
            kl_99: quantile(&sorted, 0.99)?,
            same_top: top as f64 / count as f64,
            chunks: count / self.per_chunk.max(1),
            scored_tokens: count,
        })
    }

    /// Mean divergence of each chunk, to be resampled.
    pub fn chunk_means(&self) -> impl Iterator<Item = f64> {
        let mean = |points: &[Point]| points.iter().map(|point| point.kl).sum::<f64>() / points.len() as f64;
        self.points.chunks(self.per_chunk.max(1)).map(mean)
    }
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
    let per_chunk = options.n_ctx - 1 - options.n_ctx / 2;
    let mut results = vec![Divergence { points: Vec::new(), per_chunk }; others.len()];
    let mut logits = Vec::with_capacity(per_chunk * vocab);
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
    visit: &mut dyn FnMut(u32, &[f32]),
) -> Result<(), EvalError> {
    let vocab = model.vocab_size();
    if let Some(&token) = chunk.iter().find(|&&token| token as usize >= vocab) {
        return Err(ModelError::TokenOutOfRange { token, vocab }.into());
    }
    let mut damaged = None;
    model.truncate(0);
    model.score(&chunk[..chunk.len() - 1], chunk.len() / 2, &mut |at, logits| {
        if !logits.iter().all(|logit| logit.is_finite()) {
            damaged.get_or_insert(at);
        }
        visit(chunk[at + 1], logits);
    })?;
    damaged.map_or(Ok(()), |token| Err(EvalError::NotFinite { chunk: index, token }))
}

/// The largest logit's index (the first if several), its value, and the logarithm of the sum of exponentials.
fn normalizer(logits: &[f32]) -> (usize, f64) {
    let larger = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    let top = (0..logits.len()).fold(0, larger);
    let most = f64::from(logits[top]);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
    (top, most + sum.ln())
}

fn compare(base: &[f32], other: &[f32], next: u32) -> Point {
    let ((base_top, base_norm), (other_top, other_norm)) = (normalizer(base), normalizer(other));
    let kl = base.iter().zip(other).map(|(base, other)| {
        let (base, other) = (f64::from(*base) - base_norm, f64::from(*other) - other_norm);
        base.exp() * (base - other)
    });
    let next = next as usize;
    Point {
        kl: kl.sum(),
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
        let summary = Divergence { points, per_chunk: 2 }.summary().unwrap();
        assert!((summary.mean_kl - 0.2).abs() < 1e-12 && (summary.median_kl - 0.2).abs() < 1e-12);
        assert!((summary.ln_ppl_ratio - 0.5).abs() < 1e-12);
        assert!((summary.base_ppl - 1f64.exp()).abs() < 1e-12 && (summary.ppl - 1.5f64.exp()).abs() < 1e-12);
        assert_eq!((summary.same_top, summary.chunks, summary.scored_tokens), (0.75, 2, 4));
        assert_eq!(Divergence::default().summary(), None);
    }
}
