//! What it costs to store a matrix in a type, measured: the divergence of the whole model's predictions.
//!
//! Each matrix alone is quantized as [`PROBE`] under the moments of a sample, and the model's predictions after some
//! tokens of the text are compared with those of the original. The streams of all matrices so changed go through the
//! layers side by side, so that every layer is read once.
//!
//! That a type other than [`PROBE`] costs in proportion to its loss is an approximation: divergence is quadratic in
//! small errors, and so is the loss, measured on a sample of the rows for every type.
//!
//! The token embedding has two roles. As the start of the stream it is rounded to nearest, as the head quantized under
//! the head's moments; both divergences are added.

use std::ops::Range;

use smolt::blocks::BlockType;
use smolt::eval::divergence::kl_divergence;
use smolt::gguf::{EMBEDDING_TENSOR, GgufFile, HEAD_TENSOR, TensorInfo};
use smolt::model::Runner;
use smolt::runtime::Pool;

use super::layer::Layer;
use super::moments::Sums;
use super::rows::sampled;
use super::stream::{Stage, Stream, TileAt};
use super::survey::{SAMPLE_ROWS, SAMPLE_TOKENS};
use super::text::Sequences;
use super::work::Work;
use crate::QuantizeError;
use crate::gptq::{self, Factor, Format, Matrix};

/// The type that is tried.
pub(crate) const PROBE: BlockType = BlockType::Q4_0;
/// Sequences whose predictions are compared, and the tokens of each; the second half of them counts.
const SEQUENCES: usize = 4;
const LENGTH: usize = 128;

/// What types cost a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Its name.
    pub tensor: String,
    /// Mean divergence of the model's predictions, in nats, with only this tensor stored in the type.
    pub damage: Vec<(BlockType, f64)>,
}

/// Sensitivities as they are remembered: JSON.
pub(super) fn to_bytes(all: &[Sensitivity]) -> Vec<u8> {
    let damage = |one: &Sensitivity| -> Vec<(u32, f64)> {
        one.damage.iter().map(|(block_type, damage)| (block_type.id(), *damage)).collect()
    };
    let rows: Vec<_> = all.iter().map(|one| (&one.tensor, damage(one))).collect();
    serde_json::to_vec(&rows).unwrap_or_default()
}

/// What [`to_bytes`] wrote; `None` if it is something else.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Vec<Sensitivity>> {
    let rows: Vec<(String, Vec<(u32, f64)>)> = serde_json::from_slice(bytes).ok()?;
    let named = |id: u32| BlockType::ALL.iter().find(|one| one.id() == id).copied();
    let row = |(tensor, damage): (String, Vec<(u32, f64)>)| {
        let damage = damage.into_iter().map(|(id, damage)| Some((named(id)?, damage)));
        Some(Sensitivity { tensor, damage: damage.collect::<Option<_>>()? })
    };
    rows.into_iter().map(row).collect()
}

/// A matrix that was changed, and the stream of the model in which it is.
struct Changed {
    tensor: String,
    stream: Stream,
    /// Loss of each type, relative to that of [`PROBE`].
    losses: Vec<(BlockType, f64)>,
}

/// A matrix quantized as [`PROBE`], in f32.
struct Probed {
    name: &'static str,
    values: Vec<f32>,
    losses: Vec<(BlockType, f64)>,
}

/// Units of progress: one per stream and layer, these for a layer's sample, and these for a head.
const SAMPLE_UNITS: u64 = 24;
const HEAD_UNITS: u64 = 4;

/// Units of progress for a model.
pub(crate) fn units(input: &GgufFile) -> Result<u64, QuantizeError> {
    let matrices = |index: usize| {
        let names = Stage::ALL.iter().flat_map(|stage| stage.matrices());
        names.filter(|name| input.tensor(&format!("blk.{index}.{name}")).is_some()).count() as u64
    };
    let (mut passing, mut units) = (1, 0);
    for index in 0..super::layer::spec(input)?.layers {
        passing += matrices(index);
        units += SAMPLE_UNITS + passing;
    }
    Ok(units + (passing + 2) * HEAD_UNITS)
}

impl Work<'_> {
    /// Measures every tensor that has the type [`PROBE`], for all types of `menu` that its rows can have.
    pub(super) fn sensitivities(
        mut self,
        sequences: &Sequences,
        menu: &[BlockType],
    ) -> Result<Vec<Sensitivity>, QuantizeError> {
        let embedding = self.require(EMBEDDING_TENSOR)?;
        let head = self.input.tensor(HEAD_TENSOR).cloned();
        let (sample, short) = (sequences.first(SAMPLE_TOKENS), sequences.spread(SEQUENCES, LENGTH));
        let mut whole = self.float_stream(&sample, &embedding)?;
        let mut base = self.float_stream(&short, &embedding)?;
        let mut changed: Vec<Changed> =
            self.changed_embedding(&short, &embedding, menu)?.into_iter().collect();
        for index in 0..self.spec.layers {
            let layer = Layer::read(self.input, index)?;
            let probed = self.probe_layer(&layer, index, &mut whole, menu)?;
            self.advance(SAMPLE_UNITS);
            let mut runner = layer.runner(short.length, self.options.threads)?;
            for one in &mut changed {
                one.stream.pass_layer(&mut runner);
                self.advance(1);
            }
            for Probed { name, values, losses } in probed {
                let mut stream = base.clone();
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                let mut other = layer.clone();
                other.replace(name, BlockType::F32, bytes);
                stream.pass_layer(&mut other.runner(short.length, self.options.threads)?);
                changed.push(Changed { tensor: format!("blk.{index}.{name}"), stream, losses });
                self.advance(1);
            }
            base.pass_layer(&mut runner);
        }
        let head = head.as_ref().unwrap_or(&embedding);
        let mut all = self.compared(&base, &changed, head)?;
        self.add_head(&mut all, head, (&mut whole, &base), menu)?;
        Ok(all)
    }

    /// Whether a tensor is to be measured.
    fn is_probed(&self, name: &str) -> bool {
        self.format(name).is_some_and(|format| format.block_type == PROBE)
    }

    /// Quantizes each matrix of a layer by itself and sends the sample's stream through the layer.
    fn probe_layer(
        &mut self,
        layer: &Layer<'_>,
        index: usize,
        whole: &mut Stream,
        menu: &[BlockType],
    ) -> Result<Vec<Probed>, QuantizeError> {
        let length = whole.length();
        let mut side = self.side(whole, layer, length)?;
        let mut probed = Vec::new();
        for stage in Stage::order(&self.spec) {
            let is_probed = |name: &&&str| self.is_probed(&format!("blk.{index}.{name}"));
            let names: Vec<&'static str> = stage.matrices().iter().filter(is_probed).copied().collect();
            if !names.is_empty() {
                let sums = self.sampled_moments(stage, &mut side, index)?;
                let folds = match self.options.fold {
                    true => self.best_fold(layer, index, stage, &sums)?,
                    false => vec![1.0; sums.squares.ncols()],
                };
                let wide = self.sample_factor(index, stage, &sums, 32)?.scaled(&folds);
                let narrow = self.sample_factor(index, stage, &sums, 16)?.scaled(&folds);
                for name in names {
                    let Some(weights) = layer.values(name) else { continue };
                    self.check_weights(&format!("blk.{index}.{name}"), &weights, folds.len())?;
                    let folded: Vec<f32> = weights
                        .iter()
                        .zip(folds.iter().cycle())
                        .map(|(weight, fold)| weight * fold)
                        .collect();
                    let losses = self.losses(&folded, [&wide, &narrow], menu);
                    let mut values = self.decoded(&folded, &wide);
                    values.iter_mut().zip(folds.iter().cycle()).for_each(|(value, fold)| *value /= fold);
                    probed.push(Probed { name, values, losses });
                }
            }
            side.stream.pass(&mut side.runner, stage);
        }
        Ok(probed)
    }

    /// A matrix quantized as [`PROBE`].
    fn decoded(&mut self, weights: &[f32], factor: &Factor) -> Vec<f32> {
        let cols = factor.order().len();
        let format = self.format_of(PROBE).expect("a quantized type");
        let bytes = gptq::quantize(&mut self.pool, Matrix { weights, cols }, factor, format).bytes;
        let mut values = vec![0.0; weights.len()];
        PROBE.decode(&bytes, &mut values);
        values
    }

    /// The loss of each type on a sample of the rows, relative to that of [`PROBE`]. The factors are for blocks of
    /// 32 and of 16 columns.
    fn losses(
        &mut self,
        weights: &[f32],
        [wide, narrow]: [&Factor; 2],
        menu: &[BlockType],
    ) -> Vec<(BlockType, f64)> {
        let cols = wide.order().len();
        let rows = sampled(weights, cols, SAMPLE_ROWS);
        let mut loss = |block_type: BlockType| {
            let format =
                self.format_of(block_type).filter(|_| cols.is_multiple_of(block_type.block_len()))?;
            let factor = if format.cols == 16 { narrow } else { wide };
            Some(gptq::quantize(&mut self.pool, Matrix { weights: &rows, cols }, factor, format).loss)
        };
        let probe = loss(PROBE).unwrap_or_default();
        let relative = |loss: f64| if probe > 0.0 { loss / probe } else { 0.0 };
        menu.iter().filter_map(|one| loss(*one).map(|loss| (*one, relative(loss)))).collect()
    }

    /// The stream that begins with an embedding rounded to nearest.
    fn changed_embedding(
        &self,
        short: &Sequences,
        embedding: &TensorInfo,
        menu: &[BlockType],
    ) -> Result<Option<Changed>, QuantizeError> {
        if !self.is_probed(&embedding.name) {
            return Ok(None);
        }
        let cols = embedding.cols();
        let data = self.input.data(embedding).map_err(QuantizeError::Input)?;
        let mut values = vec![0.0; cols];
        let mut bytes = vec![0; cols / PROBE.block_len() * PROBE.block_bytes()];
        let mut rounded = Vec::new();
        for row in data.chunks_exact(data.len() / embedding.rows()) {
            embedding.block_type.decode(row, &mut values);
            PROBE.encode(&values, &mut bytes);
            rounded.extend_from_slice(&bytes);
        }
        let losses = rounding_losses(data, embedding, menu);
        let stream = self.embedded(short, embedding, PROBE, rounded)?;
        Ok(Some(Changed { tensor: embedding.name.clone(), stream, losses }))
    }

    /// How far the predictions of each changed model are from those of the base.
    fn compared(
        &mut self,
        base: &Stream,
        changed: &[Changed],
        head: &TensorInfo,
    ) -> Result<Vec<Sensitivity>, QuantizeError> {
        let data = self.input.data(head).map_err(QuantizeError::Input)?.to_vec();
        let layer = Layer::ends(self.input, head, head.block_type, data)?;
        let mut runner = layer.runner(base.length(), self.options.threads)?;
        let mut kl = vec![Vec::new(); changed.len()];
        for (at, rows) in scored(base) {
            let expected = base.logits(&mut runner, at.clone(), rows.clone()).to_vec();
            for (one, kl) in changed.iter().zip(&mut kl) {
                let found = one.stream.logits(&mut runner, at.clone(), rows.clone());
                kl.extend(divergences(&mut self.pool, &expected, found, rows.len()));
            }
        }
        let damage = |(one, kl): (&Changed, &Vec<f64>)| Sensitivity {
            tensor: one.tensor.clone(),
            damage: one.losses.iter().map(|(block_type, loss)| (*block_type, mean(kl) * loss)).collect(),
        };
        self.advance(HEAD_UNITS * changed.len() as u64);
        Ok(changed.iter().zip(&kl).map(damage).collect())
    }

    /// Adds what it costs to quantize the matrix of the output head.
    fn add_head(
        &mut self,
        all: &mut Vec<Sensitivity>,
        head: &TensorInfo,
        (whole, base): (&mut Stream, &Stream),
        menu: &[BlockType],
    ) -> Result<(), QuantizeError> {
        let Some(format) = self.format(&head.name).filter(|_| self.is_probed(&head.name)) else {
            return Ok(());
        };
        let length = whole.length();
        let sums = self.head_moments(whole, length)?;
        // Its progress would be in weights.
        let progress = self.progress.take();
        let bytes = self.large(head, &sums, format)?.bytes;
        self.progress = progress;
        let losses = self.head_losses(head, &sums, menu)?;
        let data = self.input.data(head).map_err(QuantizeError::Input)?.to_vec();
        let mut original = self.head_runner(head, head.block_type, data, base.length())?;
        let mut other = self.head_runner(head, PROBE, bytes, base.length())?;
        let mut kl = Vec::new();
        for (at, rows) in scored(base) {
            let expected = base.logits(&mut original, at.clone(), rows.clone());
            let found = base.logits(&mut other, at, rows.clone());
            kl.extend(divergences(&mut self.pool, expected, found, rows.len()));
        }
        let damage = losses.into_iter().map(|(block_type, loss)| (block_type, mean(&kl) * loss));
        match all.iter_mut().find(|one| one.tensor == head.name) {
            Some(embedding) => {
                for ((_, sum), (_, more)) in embedding.damage.iter_mut().zip(damage) {
                    *sum += more;
                }
            }
            None => all.push(Sensitivity { tensor: head.name.clone(), damage: damage.collect() }),
        }
        self.advance(2 * HEAD_UNITS);
        Ok(())
    }

    fn head_runner(
        &self,
        head: &TensorInfo,
        block_type: BlockType,
        bytes: Vec<u8>,
        length: usize,
    ) -> Result<Runner, QuantizeError> {
        Layer::ends(self.input, head, block_type, bytes)?.runner(length, self.options.threads)
    }

    /// As [`Self::losses`], of rows of the head.
    fn head_losses(
        &mut self,
        head: &TensorInfo,
        sums: &Sums,
        menu: &[BlockType],
    ) -> Result<Vec<(BlockType, f64)>, QuantizeError> {
        let rows = sampled_rows(self.input.data(head).map_err(QuantizeError::Input)?, head);
        let factor = |cols| {
            Factor::new(sums.squares.as_ref(), self.options.head_factor(), cols).map_err(|_| {
                QuantizeError::Moments { file: self.input.name().to_owned(), tensor: head.name.clone() }
            })
        };
        let (wide, narrow) = (factor(32)?, factor(16)?);
        Ok(self.losses(&rows, [&wide, &narrow], menu))
    }
}

/// The tiles of a stream that count, each with its rows that do: the second half of every sequence.
fn scored(stream: &Stream) -> Vec<(TileAt, Range<usize>)> {
    let half = stream.length() / 2;
    let rows = |(tokens, position): &TileAt| half.saturating_sub(*position).min(tokens.len())..tokens.len();
    stream.tiles().map(|tile| (tile.clone(), rows(&tile))).filter(|(_, rows)| !rows.is_empty()).collect()
}

/// The divergence of each of `rows` rows of logits.
fn divergences(pool: &mut Pool, base: &[f32], other: &[f32], rows: usize) -> Vec<f64> {
    let vocab = base.len() / rows;
    let mut shares: Vec<Vec<f64>> = vec![Vec::new(); pool.threads()];
    pool.run_with(&mut shares, &|part, share| {
        let range = |row: usize| row * vocab..(row + 1) * vocab;
        share.extend(part.share(rows).map(|row| kl_divergence(&base[range(row)], &other[range(row)])));
    });
    shares.concat()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Some rows of a large matrix in f32.
fn sampled_rows(data: &[u8], tensor: &TensorInfo) -> Vec<f32> {
    let step = tensor.rows().div_ceil(SAMPLE_ROWS).max(1);
    let mut values = vec![0.0; tensor.cols()];
    let rows = data.chunks_exact(data.len() / tensor.rows()).step_by(step);
    rows.flat_map(|row| {
        tensor.block_type.decode(row, &mut values);
        values.clone()
    })
    .collect()
}

/// The squared error of rounding some rows to nearest in each type, relative to [`PROBE`].
fn rounding_losses(data: &[u8], tensor: &TensorInfo, menu: &[BlockType]) -> Vec<(BlockType, f64)> {
    let rows = sampled_rows(data, tensor);
    let loss = |block_type: BlockType| {
        let mut bytes = vec![0; rows.len() / block_type.block_len() * block_type.block_bytes()];
        let mut rounded = vec![0.0; rows.len()];
        block_type.encode(&rows, &mut bytes);
        block_type.decode(&bytes, &mut rounded);
        rows.iter().zip(&rounded).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    let probe = loss(PROBE);
    let fits =
        |one: &&BlockType| Format::of(**one).is_some() && tensor.cols().is_multiple_of(one.block_len());
    menu.iter().filter(fits).map(|one| (*one, if probe > 0.0 { loss(*one) / probe } else { 0.0 })).collect()
}
