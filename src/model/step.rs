//! The forward pass: one step reads a few tokens of each of several sequences.

use super::activations::Activations;
use super::cache::Cache;
use super::error::ModelError;
use super::header::Model;
use super::logits::{LogitRows, logit_blocks};
use super::options::{MAX_SLOTS, TILE};
use super::tile::{Parts, Tile, input, norm, output};
use super::worker::Worker;
use crate::kernels::ops::Input;
use arrayvec::ArrayVec;
use std::ops::Range;
use std::sync::Arc;

/// What one sequence has for a step.
pub struct Piece<'a> {
    /// The sequence.
    pub cache: &'a mut Cache,
    /// The tokens that follow those in the cache, at least one.
    pub tokens: &'a [u32],
    /// How many of them, the last ones, want logits.
    pub rows: usize,
}

/// The logits of a [`Worker::step`], piece by piece.
///
/// The buffer holds [`Worker::logit_rows`]; what does not fit is computed when it is asked for.
pub struct StepRows<'w> {
    worker: &'w mut Worker,
    /// Rows that each piece still wants.
    wanted: ArrayVec<usize, MAX_SLOTS>,
    piece: usize,
    /// Rows of the tile that were not given yet.
    rest: Range<usize>,
    /// Rows of the tile whose logits are in the buffer.
    computed: Range<usize>,
}

impl StepRows<'_> {
    /// The next piece that wants logits, and some of its rows: all, unless it alone wants more than the buffer holds.
    pub fn next_rows(&mut self) -> Option<(usize, LogitRows<'_>)> {
        while *self.wanted.get(self.piece)? == 0 {
            self.piece += 1;
        }
        let start = self.rest.start;
        if start >= self.computed.end {
            self.computed = start..start + self.fitting();
            self.worker.head(self.computed.clone(), 0);
        }
        let rows = self.wanted[self.piece].min(self.computed.end - start);
        self.wanted[self.piece] -= rows;
        self.rest.start += rows;
        let (_, rest) = self.worker.logits(self.computed.len()).split_at(start - self.computed.start);
        Some((self.piece, rest.split_at(rows).0))
    }

    /// Rows from the next on that are computed together: of whole pieces, as far as the buffer holds them.
    fn fitting(&self) -> usize {
        let most = self.worker.logit_rows();
        let mut rows = 0;
        for wanted in &self.wanted[self.piece..] {
            if rows + wanted > most {
                break;
            }
            rows += wanted;
        }
        if rows == 0 { most } else { rows }
    }
}

impl Worker {
    /// Reads the tokens of all pieces in one pass and returns the logit rows they want, piece by piece. What it
    /// computes for a sequence does not depend on the other pieces, on how its tokens are split over steps, or on the
    /// number of threads, to the bit.
    ///
    /// # Errors
    /// If there is no piece, one has no tokens, more than fit into its cache, an id out of range or wants more rows
    /// than it has tokens, or all have more tokens than [`Self::most_tokens`]. The caches are as they were then.
    ///
    /// # Panics
    /// If a cache is of another model or context.
    pub fn step(&mut self, pieces: &mut [Piece<'_>]) -> Result<StepRows<'_>, ModelError> {
        self.check(pieces)?;
        self.forward(pieces);
        let rest = self.gather(pieces);
        let wanted = pieces.iter().map(|piece| piece.rows).collect();
        Ok(StepRows { worker: self, wanted, piece: 0, rest, computed: 0..0 })
    }

    fn check(&self, pieces: &[Piece<'_>]) -> Result<(), ModelError> {
        let mut tokens = 0;
        for piece in pieces {
            assert!(Arc::ptr_eq(&piece.cache.model, &self.model), "a cache of this model");
            self.check_tokens(piece.cache, piece.tokens)?;
            if piece.rows > piece.tokens.len() {
                return Err(ModelError::LogitRows { found: piece.rows, most: piece.tokens.len() });
            }
            tokens += piece.tokens.len();
        }
        let most = self.most_tokens();
        if tokens > most {
            return Err(ModelError::StepTokens { found: tokens, most });
        }
        if tokens == 0 { Err(ModelError::NoTokens) } else { Ok(()) }
    }

    /// Makes sure that `tokens` may follow those in the cache.
    pub(super) fn check_tokens(&self, cache: &Cache, tokens: &[u32]) -> Result<(), ModelError> {
        assert_eq!(cache.kv, self.kv, "a cache of the worker's context");
        let vocab = self.model.spec.vocab;
        if tokens.is_empty() {
            return Err(ModelError::NoTokens);
        }
        let (needed, context) = (cache.position + tokens.len(), cache.kv.positions);
        if needed > context {
            return Err(ModelError::ContextFull { needed, context });
        }
        match tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(ModelError::TokenOutOfRange { token, vocab }),
            None => Ok(()),
        }
    }

    /// Reads checked pieces; their final residuals stay in the activations, piece by piece.
    pub(super) fn forward(&mut self, pieces: &mut [Piece<'_>]) {
        let tokens: ArrayVec<u32, TILE> = pieces.iter().flat_map(|piece| piece.tokens).copied().collect();
        let mut parts = Parts::default();
        for piece in &mut *pieces {
            let Cache { states, history, position, .. } = &mut *piece.cache;
            states.save(history, *position, piece.tokens.len());
            parts.push(piece.cache, piece.tokens.len());
        }
        let layers = self.model.spec.layers;
        let mut tile = Tile::new(self, parts);
        tile.embed(&tokens);
        for layer in 0..layers {
            tile.layer(layer);
        }
        drop(tile);
        for piece in pieces {
            piece.cache.position += piece.tokens.len();
        }
    }

    /// Moves the residuals whose logits are wanted next to each other; returns their rows.
    fn gather(&mut self, pieces: &[Piece<'_>]) -> Range<usize> {
        let (dim, residual) = (self.model.spec.dim, &mut self.activations.residual);
        if let [piece] = pieces {
            return piece.tokens.len() - piece.rows..piece.tokens.len();
        }
        let (mut end, mut row) = (0, 0);
        for piece in pieces {
            end += piece.tokens.len();
            residual.copy_within((end - piece.rows) * dim..end * dim, row * dim);
            row += piece.rows;
        }
        0..row
    }

    /// Computes the logits of tokens `rows` of the last tile into rows of the buffer from `first` on; returns
    /// the rows so far.
    pub(super) fn head(&mut self, rows: Range<usize>, first: usize) -> LogitRows<'_> {
        let Model { spec, layout, weights, .. } = &*self.model;
        let (vocab, blocks, end) = (spec.vocab, logit_blocks(spec.vocab), first + rows.len());
        let Activations { residual, words, .. } = &mut self.activations;
        let logits = &mut self.logits[first * vocab..end * vocab];
        let peaks = &mut self.peaks[first * blocks..end * blocks];
        let residual = &residual[rows.start * spec.dim..rows.end * spec.dim];
        if !rows.is_empty() {
            let mut input = input(&self.model, residual, norm(&self.model, layout.output_norm.as_ref()));
            if let Some(leave) = &layout.leave {
                let words = &mut words[..rows.len() * spec.word_dim];
                self.executor.linear(&input, &mut [output(weights, leave, words, false)]);
                input = Input { rows: words, dim: spec.word_dim, norm: None };
            }
            self.executor.head(&input, &mut output(weights, &layout.head, logits, false), peaks);
        }
        self.logits(end)
    }

    /// The first rows of logits.
    pub(super) fn logits(&self, rows: usize) -> LogitRows<'_> {
        let vocab = self.model.spec.vocab;
        let peaks = &self.peaks[..rows * logit_blocks(vocab)];
        LogitRows { vocab, values: &self.logits[..rows * vocab], peaks }
    }
}
