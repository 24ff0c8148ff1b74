//! Perplexity: how well a model predicts a text.
//!
//! The protocol is the default one of llama.cpp's `llama-perplexity`, so figures can be compared:
//!
//! * The whole text is tokenized once, control tokens in it as plain text, with the start token in front if
//!   the vocabulary adds one. A line break at the very end is dropped.
//! * It is cut into chunks of `n_ctx` tokens that do not overlap; what remains at the end is not used. Each
//!   chunk is read with an empty cache, its first token replaced by the start token if the vocabulary adds
//!   one.
//! * Only positions with at least half a chunk before them count: the logits at positions `n_ctx/2` to
//!   `n_ctx-2`, each for the token that follows.
//! * Perplexity is the exponential of the mean of the negative log-probabilities (natural logarithms). Its
//!   standard error is that of the mean times the perplexity.

use super::error::EvalError;
use super::stats::{Mean, log_probability};
use crate::generate::{GenerateError, Predicted, Session};
use crate::model::{LanguageModel, ModelError};
use crate::text::{EncodeOptions, TextError, Tokenizer};
use serde::Serialize;

/// Tokens of a chunk unless asked otherwise.
pub const CHUNK: usize = 512;
/// Fewest tokens of a chunk: below, a chunk has no position to score.
const SHORTEST_CHUNK: usize = 3;

/// What predicts the tokens of a text. See [`Session::predictions`].
pub trait Score {
    /// Tokens in the vocabulary.
    fn vocab_size(&self) -> usize;

    /// Calls `visit(i, logits)` for every token `i` of a text from `first` on, with what predicts it from the tokens
    /// before; what was read before the text is forgotten.
    ///
    /// # Errors
    /// As [`Session::predictions`].
    fn score(&mut self, text: &[u32], first: usize, visit: OnScore<'_>) -> Result<(), GenerateError>;
}

/// Gets the place of a token in its text, and the logits that predict it.
pub type OnScore<'a> = &'a mut (dyn FnMut(usize, &[f32]) + Send);

impl<M: LanguageModel> Score for Session<M> {
    fn vocab_size(&self) -> usize {
        self.model().vocab_size()
    }

    fn score(&mut self, text: &[u32], first: usize, visit: OnScore<'_>) -> Result<(), GenerateError> {
        self.clear();
        let text = Predicted { tokens: text.to_vec(), first };
        self.predictions(vec![text], None, Box::new(|_, at, logits| visit(at, logits)))
    }
}

/// A tokenized text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// The tokens, the start token included.
    pub tokens: Vec<u32>,
    /// The start token, if the vocabulary adds one.
    pub bos: Option<u32>,
}

impl Corpus {
    /// Tokenizes `text`.
    ///
    /// # Errors
    /// If the vocabulary has no token for a part of the text.
    pub fn new(tokenizer: &Tokenizer, text: &str) -> Result<Self, TextError> {
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let mut tokens = Vec::from_iter(bos);
        let text = text.strip_suffix('\n').unwrap_or(text);
        tokenizer.encode(text, EncodeOptions::default(), &mut tokens)?;
        Ok(Self { tokens, bos })
    }

    /// Chunks of `n_ctx` tokens, each with the start token in the place of its first.
    pub(super) fn chunks(&self, n_ctx: usize) -> impl Iterator<Item = Vec<u32>> {
        self.tokens.chunks_exact(n_ctx).map(|tokens| {
            let mut chunk = tokens.to_vec();
            if let Some(bos) = self.bos {
                chunk[0] = bos;
            }
            chunk
        })
    }
}

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerplexityOptions {
    /// Tokens of a chunk.
    pub n_ctx: usize,
    /// Most chunks to read; all if `None`.
    pub chunks: Option<usize>,
}

impl PerplexityOptions {
    /// Number of chunks that will be read of a text of `tokens` tokens.
    ///
    /// # Errors
    /// If the text has fewer than two chunks, or the options make no sense.
    pub fn check(&self, tokens: usize) -> Result<usize, EvalError> {
        let n_ctx = self.n_ctx;
        if n_ctx < SHORTEST_CHUNK {
            return Err(EvalError::ChunkTooShort { found: n_ctx, least: SHORTEST_CHUNK });
        }
        let needed = n_ctx.saturating_mul(2);
        if tokens < needed {
            return Err(EvalError::TextTooShort { found: tokens, needed, context: n_ctx });
        }
        match self.chunks {
            Some(0) => Err(EvalError::NoChunks),
            Some(most) => Ok(most.min(tokens / n_ctx)),
            None => Ok(tokens / n_ctx),
        }
    }
}

impl Default for PerplexityOptions {
    fn default() -> Self {
        Self { n_ctx: CHUNK, chunks: None }
    }
}

/// A result, also of the chunks so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// The perplexity.
    pub ppl: f64,
    /// Its standard error; unknown for a single scored token.
    pub stderr: Option<f64>,
    /// Chunks read.
    pub chunks: usize,
    /// Tokens predicted.
    pub scored_tokens: usize,
    /// Tokens of a chunk.
    pub n_ctx: usize,
}

/// Measures the perplexity of `model` on `corpus`; what its cache held is forgotten. After each chunk,
/// `progress` gets the result so far and the number of chunks there will be.
///
/// # Errors
/// If the text has fewer than two chunks, the options make no sense, the model has a smaller context or
/// vocabulary, or its logits are not finite.
pub fn perplexity(
    model: &mut dyn Score,
    corpus: &Corpus,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(&Perplexity, usize),
) -> Result<Perplexity, EvalError> {
    let n_ctx = options.n_ctx;
    let chunks = options.check(corpus.tokens.len())?;
    let mut nll = Mean::default();
    let mut result = summarize(&nll, 0, n_ctx);
    for (index, chunk) in corpus.chunks(n_ctx).take(chunks).enumerate() {
        score_chunk(model, &chunk, index, &mut nll)?;
        result = summarize(&nll, index + 1, n_ctx);
        progress(&result, chunks);
    }
    Ok(result)
}

fn score_chunk(model: &mut dyn Score, chunk: &[u32], index: usize, nll: &mut Mean) -> Result<(), EvalError> {
    let vocab = model.vocab_size();
    if let Some(&token) = chunk.iter().find(|&&token| token as usize >= vocab) {
        return Err(ModelError::TokenOutOfRange { token, vocab }.into());
    }
    let mut damaged = None;
    model.score(chunk, chunk.len() / 2 + 1, &mut |at, logits| {
        let log_probability = log_probability(logits, chunk[at]);
        if !log_probability.is_finite() {
            damaged.get_or_insert(at - 1);
        }
        nll.add(-log_probability);
    })?;
    match damaged {
        Some(token) => Err(EvalError::NotFinite { chunk: index, token }),
        None => Ok(()),
    }
}

fn summarize(nll: &Mean, chunks: usize, n_ctx: usize) -> Perplexity {
    let ppl = nll.mean().exp();
    let stderr = nll.standard_error().map(|error| error * ppl);
    Perplexity { ppl, stderr, chunks, scored_tokens: nll.count(), n_ctx }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCAB: usize = 10;

    /// Logits are a function of the position and the token read there; records what it was fed.
    struct Fake {
        logits: fn(position: usize, token: u32) -> [f32; VOCAB],
        fed: Vec<Vec<u32>>,
        scored: Vec<usize>,
    }

    impl Fake {
        fn new(logits: fn(usize, u32) -> [f32; VOCAB]) -> Self {
            Self { logits, fed: vec![], scored: vec![] }
        }
    }

    impl Score for Fake {
        fn vocab_size(&self) -> usize {
            VOCAB
        }

        fn score(&mut self, text: &[u32], first: usize, visit: OnScore<'_>) -> Result<(), GenerateError> {
            let mut cache = vec![];
            // The last token is only predicted, never read.
            for (at, &token) in (1..).zip(&text[..text.len() - 1]) {
                let logits = (self.logits)(cache.len(), token);
                cache.push(token);
                if at >= first {
                    self.scored.push(at - 1);
                    visit(at, &logits);
                }
            }
            self.fed.push(cache);
            Ok(())
        }
    }

    fn corpus(tokens: impl IntoIterator<Item = u32>, bos: Option<u32>) -> Corpus {
        Corpus { tokens: tokens.into_iter().collect(), bos }
    }

    fn measure(
        fake: &mut Fake,
        corpus: &Corpus,
        options: PerplexityOptions,
    ) -> Result<Perplexity, EvalError> {
        perplexity(fake, corpus, &options, &mut |_, _| ())
    }

    fn options(n_ctx: usize) -> PerplexityOptions {
        PerplexityOptions { n_ctx, chunks: None }
    }

    #[test]
    fn a_uniform_model_has_the_perplexity_of_its_vocabulary() {
        let mut fake = Fake::new(|_, _| [3.5; VOCAB]);
        let result = measure(&mut fake, &corpus((0..100).map(|i| i * 7 % 10), None), options(8)).unwrap();
        assert!((result.ppl - VOCAB as f64).abs() < 1e-9);
        assert!(result.stderr.unwrap() < 1e-6);
        assert_eq!((result.chunks, result.scored_tokens, result.n_ctx), (12, 12 * 3, 8));
    }

    #[test]
    fn chunks_are_cut_and_scored_as_the_protocol_says() {
        let mut fake = Fake::new(|_, _| [0.0; VOCAB]);
        let text = corpus((0..22).map(|i| i % 10), Some(9));
        let mut seen = vec![];
        perplexity(&mut fake, &text, &options(8), &mut |so_far, all| seen.push((so_far.chunks, all)))
            .unwrap();
        // 22 tokens are two chunks of 8 and a rest; the last token of a chunk is not read.
        assert_eq!(fake.fed, [vec![9, 1, 2, 3, 4, 5, 6], vec![9, 9, 0, 1, 2, 3, 4]]);
        assert_eq!(fake.scored, [4, 5, 6, 4, 5, 6]);
        assert_eq!(seen, [(1, 2), (2, 2)]);
    }

    #[test]
    fn odd_chunks_round_half_down() {
        let mut fake = Fake::new(|_, _| [0.0; VOCAB]);
        let result = measure(&mut fake, &corpus([1; 14], None), options(7)).unwrap();
        assert_eq!(fake.scored, [3, 4, 5, 3, 4, 5]);
        assert_eq!(fake.fed[0], [1; 6]);
        assert_eq!(result.scored_tokens, 6);
    }

    /// The next token is predicted with probability 1/2 or 1/8 by turns over positions 2 and 3 of chunks of
    /// 5, so the mean is (ln 2 + ln 8) / 2 = ln 4 and the perplexity 4. Four values ln 2, ln 8, ln 2, ln 8
    /// have spread (ln 2)^2, so the standard error is 4 * ln 2 / sqrt 3 = 1.600755.
    #[test]
    fn perplexity_and_standard_error_by_hand() {
        let mut fake = Fake::new(|position, token| {
            let p = if position % 2 == 0 { 0.5f32 } else { 0.125 };
            let mut logits = [((1.0 - p) / 9.0).ln(); VOCAB];
            logits[(token as usize + 1) % VOCAB] = p.ln();
            logits
        });
        let result = measure(&mut fake, &corpus((0..10).map(|i| i % 10), None), options(5)).unwrap();
        assert_eq!(fake.scored, [2, 3, 2, 3]);
        assert!((result.ppl - 4.0).abs() < 1e-5, "{}", result.ppl);
        assert!((result.stderr.unwrap() - 1.600_755).abs() < 1e-5, "{:?}", result.stderr);
    }

    #[test]
    fn the_number_of_chunks_can_be_limited() {
        let text = corpus([1; 40], None);
        for (asked, read) in [(Some(1), 1), (Some(3), 3), (Some(99), 5), (None, 5)] {
            let mut fake = Fake::new(|_, _| [0.0; VOCAB]);
            let result = measure(&mut fake, &text, PerplexityOptions { n_ctx: 8, chunks: asked }).unwrap();
            assert_eq!((result.chunks, fake.fed.len()), (read, read));
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let mut fake = Fake::new(|_, _| [0.0; VOCAB]);
        let mut fail = |tokens: usize, n_ctx, chunks| {
            let text = corpus(vec![1; tokens], None);
            measure(&mut fake, &text, PerplexityOptions { n_ctx, chunks }).unwrap_err().to_string()
        };
        assert!(fail(15, 8, None).contains("15 tokens, 16 are needed"));
        assert!(fail(0, 8, None).contains("0 tokens"));
        assert!(fail(100, 2, None).contains("at least 3"));
        assert!(fail(100, usize::MAX, None).contains("are needed for chunks of"));
        assert!(fail(100, 8, Some(0)).contains("no chunks"));
        let foreign = corpus([1, 2, 3, 4, 5, 6, 7, 10, 1, 1, 1, 1, 1, 1, 1, 1], None);
        let error = measure(&mut fake, &foreign, options(8)).unwrap_err();
        assert!(matches!(error, EvalError::Model(ModelError::TokenOutOfRange { token: 10, vocab: VOCAB })));
    }

    #[test]
    fn logits_that_are_not_numbers_are_refused() {
        let mut fake = Fake::new(|position, _| if position == 5 { [f32::NAN; VOCAB] } else { [0.0; VOCAB] });
        let error = measure(&mut fake, &corpus([1; 16], None), options(8)).unwrap_err();
        assert!(matches!(error, EvalError::NotFinite { chunk: 0, token: 5 }));
    }
}
