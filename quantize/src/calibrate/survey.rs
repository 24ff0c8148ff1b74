//! What a sample of the text and of the rows tells of a stage before it is quantized.

use super::fold;
use super::layer::Layer;
use super::moments::{Moments, Sums};
use super::rows::sampled;
use super::stream::Stage;
use super::work::{Side, Work};
use crate::QuantizeError;
use crate::gptq::{self, Factor, Matrix};

/// Tokens of the sample.
pub(super) const SAMPLE_TOKENS: usize = 8192;
/// Rows of each matrix in the sample.
pub(super) const SAMPLE_ROWS: usize = 96;
/// What folding must bring the loss of the sample to.
const FOLD_GAIN: f64 = 0.97;

impl Work<'_> {
    /// The moments of the inputs of `stage` over the sample.
    pub(super) fn sampled_moments(
        &mut self,
        stage: Stage,
        side: &mut Side<'_>,
        index: usize,
    ) -> Result<Sums, QuantizeError> {
        let mut moments: Option<Moments> = None;
        let mut rows = Vec::new();
        for tile in side.stream.tiles().take_while(|tile| tile.0.start < SAMPLE_TOKENS) {
            let tokens = tile.0.len();
            side.stream.input(&mut side.runner, stage, tile, &mut rows);
            let dim = rows.len() / tokens;
            let moments = moments.get_or_insert_with(|| Moments::new(dim, false, self.pool.threads()));
            moments.add(&mut self.pool, &rows, &rows);
        }
        let sums = moments.expect("a text of at least one tile").finish(&mut self.pool);
        self.check(&sums, index)?;
        Ok(sums)
    }

    /// The factor of sampled moments for blocks of `cols` columns.
    pub(super) fn sample_factor(
        &self,
        index: usize,
        stage: Stage,
        sums: &Sums,
        cols: usize,
    ) -> Result<Factor, QuantizeError> {
        let failed = |_| QuantizeError::Moments {
            file: self.input.name().to_owned(),
            tensor: format!("blk.{index}.{}", stage.matrices()[0]),
        };
        Factor::new(sums.squares.as_ref(), self.options.factor(), cols).map_err(failed)
    }

    /// The factors with which a sample of the rows that read the input of `stage` loses least; none if nothing of it
    /// is quantized.
    pub(super) fn best_fold(
        &mut self,
        layer: &Layer<'_>,
        index: usize,
        stage: Stage,
        sums: &Sums,
    ) -> Result<Vec<f32>, QuantizeError> {
        let cols = sums.squares.ncols();
        let mut samples = Vec::new();
        for name in stage.matrices() {
            let format = self.format(&format!("blk.{index}.{name}"));
            if let (Some(format), Some(weights)) = (format, layer.values(name)) {
                samples.push((format, sampled(&weights, cols, SAMPLE_ROWS)));
            }
        }
        let Some((first, _)) = samples.first() else { return Ok(Vec::new()) };
        let factor = self.sample_factor(index, stage, sums, first.cols)?;
        let sizes: Vec<f64> = (0..cols).map(|i| sums.squares[(i, i)].sqrt()).collect();
        let mut best = (f64::INFINITY, vec![1.0; cols]);
        for factors in fold::candidates(layer, &self.spec, stage, &sizes) {
            let scaled = factor.scaled(&factors);
            let mut loss = 0.0;
            for (format, rows) in samples.iter().filter(|(format, _)| format.cols == first.cols) {
                let rows: Vec<f32> = rows.iter().zip(factors.iter().cycle()).map(|(w, s)| w * s).collect();
                loss +=
                    gptq::quantize(&mut self.pool, Matrix { weights: &rows, cols }, &scaled, *format).loss;
            }
            if loss < best.0 {
                // The first candidate changes nothing: the others must gain more than a sample's noise.
                let margin = if best.0.is_finite() { 1.0 } else { FOLD_GAIN };
                best = (loss * margin, factors);
            }
        }
        Ok(best.1)
    }
}
