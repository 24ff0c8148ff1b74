//! A calibration under way.

use std::collections::HashMap;

use smolt::blocks::BlockType;
use smolt::gguf::{EMBEDDING_TENSOR, GgufFile, HEAD_TENSOR, TensorInfo};
use smolt::kernels::Kernels;
use smolt::model::{Runner, Spec};
use smolt::runtime::Pool;

use super::fold::{self, Folds};
use super::journal::Journal;
use super::layer::{self, Layer};
use super::moments::{Moments, Sums};
use super::rows::{nearest_loss, target};
use super::stream::{Stage, Stream};
use super::text::Sequences;
use super::{CalibrateOptions, Calibrated, Method};
use crate::gptq::{self, Factor, FactorOptions, Format, Matrix};
use crate::{Plan, QuantizeError};

/// Rows of a large matrix that are quantized together, to bound memory.
const ROWS: usize = 4096;
/// Name of the folds in the journal.
const FOLDS: &str = "folds";

pub(super) struct Work<'a> {
    pub(super) input: &'a GgufFile,
    pub(super) spec: Spec,
    /// By tensor.
    types: HashMap<String, BlockType>,
    pub(super) options: CalibrateOptions,
    pub(super) pool: Pool,
    kernels: &'static Kernels,
    /// None where nothing is to be kept.
    journal: Option<Journal>,
    /// `[layer]`, once known.
    folds: Vec<Folds>,
    pub(super) progress: Option<&'a mut dyn FnMut(u64)>,
}

/// Moments with their factors, which depend on how the columns of a format are ordered.
struct Factored<'s> {
    sums: &'s Sums,
    options: FactorOptions,
    /// By columns of a block.
    factors: Vec<(usize, Factor)>,
}

impl<'s> Factored<'s> {
    fn new(sums: &'s Sums, options: FactorOptions) -> Self {
        Self { sums, options, factors: Vec::new() }
    }

    fn for_blocks(&mut self, cols: usize) -> Result<&Factor, gptq::FactorError> {
        let found = self.factors.iter().position(|(block, _)| *block == cols);
        let at = match found {
            Some(at) => at,
            None => {
                let factor = Factor::new(self.sums.squares.as_ref(), self.options, cols)?;
                self.factors.push((cols, factor));
                self.factors.len() - 1
            }
        };
        Ok(&self.factors[at].1)
    }
}

/// A quantized matrix.
pub(super) struct Done {
    pub(super) bytes: Vec<u8>,
    loss: f64,
    nearest_loss: f64,
}

/// A stream with its layer ready to run.
pub(super) struct Side<'s> {
    pub(super) stream: &'s mut Stream,
    pub(super) runner: Runner,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        plan: &Plan<'a>,
        options: &CalibrateOptions,
        journal: Option<Journal>,
        progress: &'a mut dyn FnMut(u64),
    ) -> Result<Self, QuantizeError> {
        let types = plan.tensors().iter().map(|tensor| (tensor.source.name.clone(), tensor.choice.stored));
        Ok(Self {
            input: plan.input(),
            spec: layer::spec(plan.input())?,
            types: types.collect(),
            options: *options,
            pool: Pool::new(options.threads),
            kernels: Kernels::detect().map_err(|error| QuantizeError::Kernels(error.to_string()))?,
            journal,
            folds: Vec::new(),
            progress: Some(progress),
        })
    }

    pub(super) fn run(mut self, sequences: &Sequences) -> Result<Calibrated, QuantizeError> {
        let embedding = self.require(EMBEDDING_TENSOR)?;
        let head = self.input.tensor(HEAD_TENSOR).cloned();
        self.whole_model(sequences, &embedding, head.is_none())?;
        let mut float = self.float_stream(sequences, &embedding)?;
        let mut quantized = self.quantized_stream(sequences, &embedding)?;
        for index in 0..self.spec.layers {
            self.layer(index, &mut float, &mut quantized, sequences.length)?;
        }
        if let Some(head) = head.filter(|head| self.is_wanted(&head.name)) {
            let sums = self.head_moments(&mut quantized, sequences.length)?;
            self.quantize_large(&head, &sums)?;
        }
        Ok(self.journal.map_or_else(Calibrated::none, Calibrated::new))
    }

    /// What has to be known of the whole model before its layers are quantized: what to fold, and an embedding that
    /// is also the head.
    fn whole_model(
        &mut self,
        sequences: &Sequences,
        embedding: &TensorInfo,
        is_tied: bool,
    ) -> Result<(), QuantizeError> {
        let wants_head = is_tied && self.is_wanted(&embedding.name);
        if !wants_head && !self.options.fold {
            return Ok(());
        }
        if let Some(folds) = self.remembered_folds()? {
            self.folds = folds;
            if !wants_head {
                return Ok(());
            }
        }
        let mut stream = self.float_stream(sequences, embedding)?;
        for index in 0..self.spec.layers {
            let folds = self.pass(index, &mut stream, sequences.length)?;
            self.folds.extend(folds);
        }
        let bytes: Vec<u8> = self.folds.iter().flat_map(fold::to_bytes).collect();
        self.put(FOLDS, &bytes, 0.0, 0.0)?;
        if wants_head {
            let sums = self.head_moments(&mut stream, sequences.length)?;
            self.quantize_large(embedding, &sums)?;
        }
        Ok(())
    }

    /// The folds of all layers, if they were chosen before.
    fn remembered_folds(&self) -> Result<Option<Vec<Folds>>, QuantizeError> {
        let bytes = self.kept(FOLDS)?;
        Ok(bytes.and_then(|bytes| fold::from_bytes(&bytes, self.spec.layers)))
    }

    fn put(&mut self, name: &str, bytes: &[u8], loss: f64, nearest_loss: f64) -> Result<(), QuantizeError> {
        match &mut self.journal {
            Some(journal) => journal.put(name, bytes, loss, nearest_loss).map_err(QuantizeError::Journal),
            None => Ok(()),
        }
    }

    /// What the journal holds of a name.
    fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, QuantizeError> {
        self.journal.as_ref().map_or(Ok(None), |journal| journal.data(name)).map_err(QuantizeError::Journal)
    }

    fn is_kept(&self, name: &str) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.record(name).is_some())
    }

    /// Tells how much more is done.
    pub(super) fn advance(&mut self, units: u64) {
        if let Some(progress) = &mut self.progress {
            progress(units);
        }
    }

    /// Whether a tensor is still to be quantized.
    fn is_wanted(&self, name: &str) -> bool {
        self.format(name).is_some() && !self.is_kept(name)
    }

    pub(super) fn require(&self, name: &str) -> Result<TensorInfo, QuantizeError> {
        let missing =
            || QuantizeError::MissingTensor { file: self.input.name().to_owned(), tensor: name.to_owned() };
        self.input.tensor(name).cloned().ok_or_else(missing)
    }

    /// The format a tensor is to have, if it is to be quantized.
    pub(super) fn format(&self, name: &str) -> Option<Format> {
        self.types.get(name).and_then(|block_type| self.format_of(*block_type))
    }

    /// The format of a storage type, quantized as asked for.
    pub(super) fn format_of(&self, block_type: BlockType) -> Option<Format> {
        Format::of(block_type).map(|format| format.with_refits(self.options.refits))
    }

    pub(super) fn float_stream(
        &self,
        sequences: &Sequences,
        embedding: &TensorInfo,
    ) -> Result<Stream, QuantizeError> {
        let bytes = self.input.data(embedding).map_err(QuantizeError::Input)?.to_vec();
        self.embedded(sequences, embedding, embedding.block_type, bytes)
    }

    fn quantized_stream(
        &self,
        sequences: &Sequences,
        embedding: &TensorInfo,
    ) -> Result<Stream, QuantizeError> {
        match (self.kept(&embedding.name)?, self.types.get(&embedding.name)) {
            (Some(bytes), Some(block_type)) => self.embedded(sequences, embedding, *block_type, bytes),
            _ => self.float_stream(sequences, embedding),
        }
    }

    /// The stream as it begins with these data of the embedding.
    pub(super) fn embedded(
        &self,
        sequences: &Sequences,
        embedding: &TensorInfo,
        block_type: BlockType,
        bytes: Vec<u8>,
    ) -> Result<Stream, QuantizeError> {
        let ends = Layer::ends(self.input, embedding, block_type, bytes)?;
        Ok(Stream::new(sequences, &mut ends.runner(sequences.length, self.options.threads)?))
    }

    /// Sends the stream through a layer and, unless that is known, chooses what to fold.
    fn pass(
        &mut self,
        index: usize,
        stream: &mut Stream,
        length: usize,
    ) -> Result<Option<Folds>, QuantizeError> {
        let layer = Layer::read(self.input, index)?;
        let mut side = self.side(stream, &layer, length)?;
        let is_known = self.folds.len() == self.spec.layers;
        let mut folds = Folds::default();
        for stage in Stage::order(&self.spec) {
            if self.options.fold && !is_known {
                let sums = self.sampled_moments(stage, &mut side, index)?;
                folds[stage as usize] = self.best_fold(&layer, index, stage, &sums)?;
            }
            side.stream.pass(&mut side.runner, stage);
        }
        Ok((!is_known).then_some(folds))
    }

    /// A layer of the model as it is, folded if asked for.
    fn read(&self, index: usize) -> Result<Layer<'a>, QuantizeError> {
        let mut layer = Layer::read(self.input, index)?;
        if self.options.fold {
            fold::fold(&mut layer, &self.folds[index], &self.spec);
        }
        Ok(layer)
    }

    pub(super) fn side<'s>(
        &self,
        stream: &'s mut Stream,
        layer: &Layer<'_>,
        length: usize,
    ) -> Result<Side<'s>, QuantizeError> {
        Ok(Side { stream, runner: layer.runner(length, self.options.threads)? })
    }

    fn layer(
        &mut self,
        index: usize,
        float: &mut Stream,
        quantized: &mut Stream,
        length: usize,
    ) -> Result<(), QuantizeError> {
        let original = self.read(index)?;
        let mut current = original.clone();
        let mut before = self.side(float, &original, length)?;
        let mut after = self.side(quantized, &current, length)?;
        for stage in Stage::order(&self.spec) {
            self.stage(index, stage, &original, (&mut before, &mut after))?;
            for name in stage.matrices() {
                let full = format!("blk.{index}.{name}");
                if let (Some(format), Some(bytes)) = (self.format(&full), self.kept(&full)?) {
                    current.replace(name, format.block_type, bytes);
                }
            }
            after.runner = current.runner(length, self.options.threads)?;
            before.stream.pass(&mut before.runner, stage);
            after.stream.pass(&mut after.runner, stage);
        }
        self.keep_folded(index, &original)
    }

    /// Quantizes the matrices of a layer that read the input of `stage`, if they are not yet.
    fn stage(
        &mut self,
        index: usize,
        stage: Stage,
        layer: &Layer<'_>,
        (before, after): (&mut Side<'_>, &mut Side<'_>),
    ) -> Result<(), QuantizeError> {
        let full = |name: &&str| format!("blk.{index}.{name}");
        if !stage.matrices().iter().any(|name| self.is_wanted(&full(name))) {
            let elements = stage.matrices().iter().filter_map(|name| self.input.tensor(&full(name)));
            self.advance(elements.map(|tensor| tensor.elements() as u64).sum());
            return Ok(());
        }
        let mut sums = self.stage_moments(stage, before, after);
        self.check(&sums, index)?;
        if self.options.method == Method::Imatrix {
            sums.keep_diagonal();
        }
        let mut factored = Factored::new(&sums, self.options.factor());
        for name in stage.matrices() {
            let full = full(name);
            let (Some(format), Some(weights)) = (self.format(&full), layer.values(name)) else { continue };
            if self.is_wanted(&full) {
                let done = self.quantize(&full, &weights, &mut factored, format)?;
                self.put(&full, &done.bytes, done.loss, done.nearest_loss)?;
            }
            self.advance(weights.len() as u64);
        }
        Ok(())
    }

    /// Keeps what folding changed of the tensors that are not quantized.
    fn keep_folded(&mut self, index: usize, layer: &Layer<'_>) -> Result<(), QuantizeError> {
        if !self.options.fold {
            return Ok(());
        }
        for name in layer.names() {
            let full = format!("blk.{index}.{name}");
            let (Some(values), Some(block_type)) = (layer.values(name), self.types.get(&full)) else {
                continue;
            };
            if !self.is_kept(&full) {
                let mut bytes = vec![0; values.len() / block_type.block_len() * block_type.block_bytes()];
                block_type.encode(&values, &mut bytes);
                self.put(&full, &bytes, 0.0, 0.0)?;
            }
        }
        Ok(())
    }

    /// The moments of the inputs of `stage` in both streams.
    fn stage_moments(&mut self, stage: Stage, before: &mut Side<'_>, after: &mut Side<'_>) -> Sums {
        let (mut originals, mut inputs) = (Vec::new(), Vec::new());
        let mut moments: Option<Moments> = None;
        let with_difference = self.options.asymmetry > 0.0;
        for tile in before.stream.tiles() {
            let tokens = tile.0.len();
            before.stream.input(&mut before.runner, stage, tile.clone(), &mut originals);
            after.stream.input(&mut after.runner, stage, tile, &mut inputs);
            let dim = inputs.len() / tokens;
            inputs.chunks_exact_mut(dim).for_each(|row| self.kernels.round_activations(row));
            let moments =
                moments.get_or_insert_with(|| Moments::new(dim, with_difference, self.pool.threads()));
            moments.add(&mut self.pool, &inputs, &originals);
        }
        moments.expect("a text of at least one tile").finish(&mut self.pool)
    }

    /// The moments of the inputs of the output head.
    pub(super) fn head_moments(&mut self, stream: &mut Stream, length: usize) -> Result<Sums, QuantizeError> {
        let mut side = self.side(stream, &Layer::read(self.input, 0)?, length)?;
        let width = self.spec.word_dim;
        let mut moments = Moments::new(width, false, self.pool.threads());
        let mut inputs = Vec::new();
        for tile in side.stream.tiles() {
            side.stream.head_input(&mut side.runner, tile, &mut inputs);
            inputs.chunks_exact_mut(width).for_each(|row| self.kernels.round_activations(row));
            moments.add(&mut self.pool, &inputs, &inputs);
        }
        let mut sums = moments.finish(&mut self.pool);
        self.check(&sums, self.spec.layers)?;
        if self.options.method == Method::Imatrix {
            sums.keep_diagonal();
        }
        Ok(sums)
    }

    pub(super) fn check(&self, sums: &Sums, layer: usize) -> Result<(), QuantizeError> {
        let finite = (0..sums.squares.ncols()).all(|i| sums.squares[(i, i)].is_finite());
        let bad = || QuantizeError::BadActivation { file: self.input.name().to_owned(), layer };
        if finite { Ok(()) } else { Err(bad()) }
    }

    /// Quantizes the token embedding or the output head.
    fn quantize_large(&mut self, tensor: &TensorInfo, sums: &Sums) -> Result<(), QuantizeError> {
        let Some(format) = self.format(&tensor.name) else { return Ok(()) };
        let done = self.large(tensor, sums, format)?;
        self.put(&tensor.name, &done.bytes, done.loss, done.nearest_loss)
    }

    /// The token embedding or the output head, some rows at a time.
    pub(super) fn large(
        &mut self,
        tensor: &TensorInfo,
        sums: &Sums,
        format: Format,
    ) -> Result<Done, QuantizeError> {
        let (cols, data) = (tensor.cols(), self.input.data(tensor).map_err(QuantizeError::Input)?);
        let row_bytes = data.len() / tensor.rows();
        let mut factored = Factored::new(sums, self.options.head_factor());
        let mut all = Done { bytes: Vec::new(), loss: 0.0, nearest_loss: 0.0 };
        for rows in data.chunks(ROWS * row_bytes) {
            let mut weights = vec![0.0; rows.len() / row_bytes * cols];
            tensor.block_type.decode(rows, &mut weights);
            let done = self.quantize(&tensor.name, &weights, &mut factored, format)?;
            all.bytes.extend_from_slice(&done.bytes);
            all.loss += done.loss;
            all.nearest_loss += done.nearest_loss;
            self.advance(weights.len() as u64);
        }
        Ok(all)
    }

    /// Quantizes rows of a matrix whose inputs have the moments `sums`.
    fn quantize(
        &mut self,
        name: &str,
        weights: &[f32],
        factored: &mut Factored<'_>,
        format: Format,
    ) -> Result<Done, QuantizeError> {
        let sums = factored.sums;
        let cols = sums.squares.ncols();
        self.check_weights(name, weights, cols)?;
        let failed =
            |_| QuantizeError::Moments { file: self.input.name().to_owned(), tensor: name.to_owned() };
        let factor = factored.for_blocks(format.cols).map_err(failed)?;
        let shifted = sums
            .crossed
            .as_ref()
            .map(|crossed| target(&mut self.pool, weights, crossed.as_ref(), factor, self.options.asymmetry));
        let target = shifted.as_deref().unwrap_or(weights);
        let done = gptq::quantize(&mut self.pool, Matrix { weights: target, cols }, factor, format);
        let nearest_loss = nearest_loss(&mut self.pool, weights, target, sums, format.block_type);
        Ok(Done { bytes: done.bytes, loss: done.loss, nearest_loss })
    }

    pub(super) fn check_weights(
        &self,
        name: &str,
        weights: &[f32],
        cols: usize,
    ) -> Result<(), QuantizeError> {
        let Some(at) = weights.iter().position(|weight| !weight.is_finite()) else { return Ok(()) };
        Err(QuantizeError::BadWeight {
            file: self.input.name().to_owned(),
            tensor: name.to_owned(),
            row: at / cols,
            col: at % cols,
            value: weights[at],
            limit: f32::MAX,
        })
    }
}
