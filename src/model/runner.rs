//! A model with all it needs to run; the stages of the forward pass are in `tile`.

use super::LanguageModel;
use super::error::ModelError;
use super::history::History;
use super::layout::Layout;
use super::logits::{LogitRows, logit_blocks};
use super::packed::{self, PackStatus};
use super::plan::{self, RunOptions, TILE};
use super::rope::RopeTable;
use super::snapshot::Visit;
use super::spec::Spec;
use super::states::States;
use super::tile::{input, norm, output};
use super::weights::Weights;
use crate::gguf::GgufFile;
use crate::kernels::ops::{Executor, Input};
use crate::kernels::{Kernels, KvShape};
use crate::runtime::{AllocError, Buffer, PAGE};
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A loaded model: shape and packed weights. Shared by any number of runners.
#[derive(Debug)]
pub struct Model {
    pub(super) spec: Spec,
    pub(super) layout: Layout,
    pub(super) weights: Weights,
    pack: PackStatus,
    kernels: &'static Kernels,
}

impl Model {
    /// Loads the model in `file` for `kernels`. The file is not needed afterwards.
    ///
    /// # Errors
    /// If the file does not hold a model that can be run, or memory cannot be had.
    pub fn load(file: &GgufFile, kernels: &'static Kernels) -> Result<Self, ModelError> {
        let spec = Spec::read(file)?;
        let layout = Layout::new(file, &spec, kernels.packing)?;
        let (mut weights, pack) = Weights::load(file, &layout, kernels)?;
        if let Some(norm) = layout.output_norm.as_ref().filter(|_| spec.logit_scale != 1.0) {
            // The head is linear: what it reads may be scaled for what it gives.
            weights.scale(norm, spec.logit_scale);
        }
        Ok(Self { spec, layout, weights, pack, kernels })
    }

    /// Whether the weights came from a pack.
    pub fn pack(&self) -> &PackStatus {
        &self.pack
    }

    /// Writes the pack of the model, which was loaded from `file` without one, and returns its path.
    ///
    /// # Errors
    /// If something else has the name of the pack, or the disk refuses.
    pub fn renew_pack(&self, file: &GgufFile) -> Result<Option<PathBuf>, ModelError> {
        let Some(packed) = self.weights.packed_here() else { return Ok(None) };
        packed::write(file, self.kernels, packed).map(|(path, _)| Some(path))
    }

    /// The shape.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The kernels it is packed for.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }
}

/// Activations of a tile of tokens, `[token][width]` each.
pub(super) struct Activations {
    /// The residual stream.
    pub(super) residual: Buffer<f32>,
    pub(super) queries: Buffer<f32>,
    pub(super) keys: Buffer<f32>,
    pub(super) values: Buffer<f32>,
    pub(super) mixed: Buffer<f32>,
    pub(super) hidden: Buffer<f32>,
    /// Empty if there is no gate.
    pub(super) up: Buffer<f32>,
    /// What is yet to be added to the residual stream; empty if everything is added at once.
    pub(super) branch: Buffer<f32>,
    /// Embeddings, where they have a width of their own.
    pub(super) words: Buffer<f32>,
    /// What a convolution reads: two gates and values. Of a state space: a gate, channels and steps.
    pub(super) gates: Buffer<f32>,
    /// Channels of a state space behind their convolution.
    pub(super) convolved: Buffer<f32>,
    /// What a state space gives.
    pub(super) stated: Buffer<f32>,
}

impl Activations {
    fn new(spec: &Spec, tokens: usize) -> Result<Self, AllocError> {
        let [residual, queries, keys, values, mixed, hidden, up, branch, words, gates, convolved, stated] =
            plan::widths(spec).map(|width| Buffer::zeroed(tokens * width, "activations"));
        Ok(Self {
            residual: residual?,
            queries: queries?,
            keys: keys?,
            values: values?,
            mixed: mixed?,
            hidden: hidden?,
            up: up?,
            branch: branch?,
            words: words?,
            gates: gates?,
            convolved: convolved?,
            stated: stated?,
        })
    }

    fn all(&mut self) -> [&mut Buffer<f32>; 12] {
        let Self {
            residual,
            queries,
            keys,
            values,
            mixed,
            hidden,
            up,
            branch,
            words,
            gates,
            convolved,
            stated,
        } = self;
        [residual, queries, keys, values, mixed, hidden, up, branch, words, gates, convolved, stated]
    }
}

/// A model with a KV cache, working memory and threads.
pub struct Runner {
    pub(super) model: Arc<Model>,
    pub(super) executor: Executor,
    pub(super) rope: RopeTable,
    /// Of layers with a window, if theirs is another.
    pub(super) local_rope: Option<RopeTable>,
    pub(super) kv: KvShape,
    /// `[attention layer]` of [`KvShape::len`].
    pub(super) keys: Buffer<u16>,
    /// `[attention layer]` of [`KvShape::len`].
    pub(super) values: Buffer<u16>,
    /// Inputs of convolutions.
    pub(super) history: History,
    pub(super) states: States,
    pub(super) activations: Activations,
    /// `[row][vocab]`
    logits: Buffer<f32>,
    /// `[row][block]`, as in [`Logits`](super::Logits)
    peaks: Buffer<f32>,
    pub(super) position: usize,
}

impl Runner {
    /// Allocates what [`super::Plan`] counts and starts the threads.
    ///
    /// # Errors
    /// If the context is out of range or memory cannot be had.
    pub fn new(model: Arc<Model>, options: &RunOptions) -> Result<Self, ModelError> {
        let spec = &model.spec;
        plan::check_context(spec, options.context)?;
        let kv = plan::kv_shape(spec, options);
        let limits = plan::limits(spec, &model.layout, options);
        let factors = model.layout.rope_factors.as_ref().map(|factors| model.weights.vector(factors));
        let rows = options.logit_rows.max(1);
        Ok(Self {
            executor: Executor::new(model.kernels, options.threads, &limits)?,
            rope: RopeTable::new(&spec.rope, factors, limits.tokens)?,
            local_rope: match &spec.local_rope {
                Some(rope) => Some(RopeTable::new(rope, None, limits.tokens)?),
                None => None,
            },
            kv,
            keys: Buffer::zeroed(plan::kv_len(spec, &kv), "the KV cache")?,
            values: Buffer::zeroed(plan::kv_len(spec, &kv), "the KV cache")?,
            history: History::new(spec, options.context)?,
            states: States::new(spec)?,
            activations: Activations::new(spec, limits.tokens)?,
            logits: Buffer::zeroed(rows * spec.vocab, "logits")?,
            peaks: Buffer::zeroed(rows * logit_blocks(spec.vocab), "logits")?,
            position: 0,
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Threads in use; fewer than asked for if the system refused to start them.
    pub fn threads(&self) -> usize {
        self.executor.threads()
    }

    /// Reads tokens and calls `visit(index, logits)` for each from `first` on, in order. Logits are computed
    /// [`RunOptions::logit_rows`] at a time.
    ///
    /// # Errors
    /// As [`LanguageModel::feed`].
    pub fn score(
        &mut self,
        tokens: &[u32],
        first: usize,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), ModelError> {
        self.check(tokens)?;
        let vocab = self.model.spec.vocab;
        for (i, tile) in tokens.chunks(TILE).enumerate() {
            self.forward(tile);
            let start = i * TILE;
            let rows = self.logit_rows();
            let mut row = first.saturating_sub(start);
            while row < tile.len() {
                let end = tile.len().min(row + rows);
                for (j, logits) in self.head(row..end, 0).values.chunks_exact(vocab).enumerate() {
                    visit(start + row + j, logits);
                }
                row = end;
            }
        }
        Ok(())
    }

    /// Calls `visit` for every part of the cache that tokens after the first `positions` depend on, in an order
    /// that depends on nothing else.
    pub(super) fn visit(&mut self, positions: usize, visit: Visit<'_>) -> io::Result<()> {
        let kv = self.kv;
        for cache in [&mut self.keys, &mut self.values] {
            for layer in cache.chunks_exact_mut(kv.len().max(1)) {
                for range in (0..kv.heads).flat_map(|head| kv.filled(head, positions)) {
                    if !range.is_empty() {
                        visit(bytemuck::cast_slice_mut(&mut layer[range]))?;
                    }
                }
            }
        }
        self.states.visit(visit)?;
        self.history.visit(positions, visit)
    }

    fn check(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let vocab = self.model.spec.vocab;
        if tokens.is_empty() {
            return Err(ModelError::NoTokens);
        }
        let (needed, context) = (self.position + tokens.len(), self.kv.positions);
        if needed > context {
            return Err(ModelError::ContextFull { needed, context });
        }
        match tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(ModelError::TokenOutOfRange { token, vocab }),
            None => Ok(()),
        }
    }

    /// Reads at most [`TILE`] tokens; their final residuals stay in the activations.
    fn forward(&mut self, tokens: &[u32]) {
        let (position, layers) = (self.position, self.model.spec.layers);
        self.states.save(&mut self.history, position, tokens.len());
        let mut tile = self.checked_tile(position, tokens.len());
        tile.embed(tokens);
        for layer in 0..layers {
            tile.layer(layer);
        }
        self.position += tokens.len();
    }

    /// Tokens that fit into the activations.
    pub(super) fn most_tokens(&self) -> usize {
        self.activations.residual.len() / self.model.spec.dim
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
        let mut input = input(&self.model, residual, norm(&self.model, layout.output_norm.as_ref()));
        if let Some(leave) = &layout.leave {
            let words = &mut words[..rows.len() * spec.word_dim];
            self.executor.linear(&input, &mut [output(weights, leave, words, false)]);
            input = Input { rows: words, dim: spec.word_dim, norm: None };
        }
        self.executor.head(&input, &mut output(weights, &layout.head, logits, false), peaks);
        LogitRows { vocab, values: &self.logits[..end * vocab], peaks: &self.peaks[..end * blocks] }
    }
}

/// Writes to every page what it holds.
fn touch(bytes: &mut [u8]) {
    for page in bytes.chunks_mut(PAGE) {
        page[0] = black_box(page[0]);
    }
}

impl LanguageModel for Runner {
    fn context(&self) -> usize {
        self.kv.positions
    }

    fn vocab_size(&self) -> usize {
        self.model.spec.vocab
    }

    fn position(&self) -> usize {
        self.position
    }

    fn truncate(&mut self, position: usize) {
        if position < self.position {
            self.position = self.states.rewind(&mut self.history, position);
        }
    }

    fn logit_rows(&self) -> usize {
        self.logits.len() / self.model.spec.vocab
    }

    fn touch(&mut self) {
        let buffers = self.activations.all().into_iter().chain([&mut self.logits, &mut self.peaks]);
        buffers.for_each(|buffer| touch(bytemuck::cast_slice_mut(buffer)));
        let cache = self.visit(self.kv.positions, &mut |bytes| {
            touch(bytes);
            Ok(())
        });
        debug_assert!(cache.is_ok(), "touching cannot fail");
    }

    fn feed_rows(
        &mut self,
        tokens: &[u32],
        rows: usize,
        cancel: &dyn Fn() -> bool,
    ) -> Result<LogitRows<'_>, ModelError> {
        self.check(tokens)?;
        let most = self.logit_rows().min(tokens.len());
        if !(1..=most).contains(&rows) {
            return Err(ModelError::LogitRows { found: rows, most });
        }
        let first = tokens.len() - rows;
        for (i, tile) in tokens.chunks(TILE).enumerate() {
            if cancel() {
                return Err(ModelError::Cancelled);
            }
            self.forward(tile);
            let start = i * TILE;
            let wanted = first.saturating_sub(start)..tile.len();
            if !wanted.is_empty() {
                let row = start + wanted.start - first;
                self.head(wanted, row);
            }
        }
        let vocab = self.model.spec.vocab;
        let values = &self.logits[..rows * vocab];
        Ok(LogitRows { vocab, values, peaks: &self.peaks[..rows * logit_blocks(vocab)] })
    }
}
