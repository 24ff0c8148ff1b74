//! From an input file and a recipe to an output file. See [`Plan`].

use std::collections::HashMap;
use std::path::Path;

use regex::Regex;
use smolt::blocks::BlockType;
use smolt::files::is_same_file;
use smolt::gguf::{
    Choice, FILE_TYPE_KEY, GgufFile, GgufWriter, Layout, QUANTIZATION_VERSION, QUANTIZATION_VERSION_KEY,
    Recipe, TensorInfo, layer,
};

use crate::QuantizeError;
use crate::calibrate::Calibrated;
use crate::encode::{Encoder, Tensor};
use crate::lattice::{Lattice, LatticeBlocks, Lattices};

/// A type for the tensors with certain names.
#[derive(Clone, Debug)]
pub struct TypeRule {
    pattern: Regex,
    block_type: BlockType,
}

impl std::str::FromStr for TypeRule {
    type Err = String;

    /// Parses `REGEX=TYPE`. The pattern is found anywhere in a name unless it has anchors.
    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, block_type) = text.rsplit_once('=').ok_or("expected REGEX=TYPE, e.g. ffn_down=q5_0")?;
        let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
        Ok(Self { pattern, block_type: BlockType::to_write(block_type)? })
    }
}

/// What to make of a file.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// The types to store.
    pub recipe: Recipe,
    /// Types of single tensors in place of the recipe's; the last rule that fits a name counts.
    pub rules: Vec<TypeRule>,
    /// Types by name, as chosen for a size; a rule goes before them.
    pub chosen: HashMap<String, BlockType>,
    /// Refuse to replace a type that does not fit a tensor's rows.
    pub strict: bool,
    /// Accept an input with quantized tensors.
    pub allow_requantize: bool,
    /// The tensors whose weights are on a 4-bit lattice. They are stored as Q4_0, or as the type asked for, if that holds
    /// lattices, with the levels and scales that they were trained with.
    pub lattices: Lattices,
}

/// One tensor of the output.
#[derive(Clone, Debug)]
pub struct PlannedTensor {
    /// The tensor of the input.
    pub source: TensorInfo,
    /// Its type in the output.
    pub choice: Choice,
    /// Bytes in the output.
    pub bytes: u64,
    /// Whether its type is the recipe's own choice, not asked for by a rule or for the embedding or head.
    pub is_free: bool,
    /// Its blocks, if it is on a 4-bit lattice and stored in a type that holds lattices.
    pub lattice: Option<LatticeBlocks>,
}

impl PlannedTensor {
    /// What to tell about a type that had to be replaced.
    pub fn substitution(&self) -> Option<String> {
        let Choice { wanted, stored } = self.choice;
        let cols = self.source.cols();
        self.choice.substituted().then(|| {
            let name = &self.source.name;
            let block = wanted.block_len();
            format!("{name}: {stored} instead of {wanted}: rows of {cols} are not a multiple of {block}")
        })
    }

    fn substituted(&self) -> bool {
        self.choice.substituted()
    }
}

/// An output file, planned to the byte.
///
/// Metadata is copied. Tensors are ordered by layer, then name, as `llama-quantize` orders them.
#[derive(Debug)]
pub struct Plan<'a> {
    input: &'a GgufFile,
    recipe: Recipe,
    tensors: Vec<PlannedTensor>,
    /// Blocks that were looked at for lattices.
    seen_blocks: u64,
    writer: GgufWriter,
    file_bytes: u64,
}

impl<'a> Plan<'a> {
    /// Plans the quantization of `input`.
    ///
    /// # Errors
    /// If `input` is quantized already, or `options.strict` and a type does not fit.
    pub fn new(input: &'a GgufFile, options: &QuantizeOptions) -> Result<Self, QuantizeError> {
        let quantized = input.tensors().iter().find(|tensor| tensor.block_type.is_quantized());
        if let Some(tensor) = quantized.filter(|_| !options.allow_requantize) {
            return Err(QuantizeError::AlreadyQuantized {
                file: input.name().to_owned(),
                tensor: tensor.name.clone(),
                block_type: tensor.block_type,
            });
        }
        let tensors = planned(input, options)?;
        let refused = tensors.iter().filter(|_| options.strict).filter_map(PlannedTensor::substitution);
        let refused: Vec<_> = refused.collect();
        if !refused.is_empty() {
            return Err(QuantizeError::Substituted { file: input.name().to_owned(), tensors: refused });
        }
        let writer = described(input, options.recipe, &tensors);
        let file_bytes = writer.file_bytes(input.name()).map_err(QuantizeError::Output)?;
        let seen_blocks = options.lattices.blocks();
        Ok(Self { input, recipe: options.recipe, tensors, seen_blocks, writer, file_bytes })
    }

    /// The input file.
    pub fn input(&self) -> &'a GgufFile {
        self.input
    }

    /// The types asked for.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// Tensors in the order of the output.
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// Every type that had to be replaced.
    pub fn substitutions(&self) -> impl Iterator<Item = String> {
        self.tensors.iter().filter_map(PlannedTensor::substitution)
    }

    /// Number of types that had to be replaced.
    pub fn substituted(&self) -> usize {
        self.tensors.iter().filter(|tensor| tensor.substituted()).count()
    }

    /// Blocks of 32 weights on a 4-bit lattice, the others of those that were looked at; `None` if none were.
    pub fn lattice(&self) -> Option<LatticeBlocks> {
        let kept = self.tensors.iter().filter_map(|tensor| tensor.lattice);
        let kept = kept.fold(LatticeBlocks::default(), LatticeBlocks::plus);
        let other = self.seen_blocks.saturating_sub(kept.exact + kept.scale_rounded);
        (self.seen_blocks > 0).then_some(LatticeBlocks { other, ..kept })
    }

    /// Bytes of the output file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes of tensor data to be read.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.source.bytes).sum()
    }

    /// Refuses an output that is the input. [`Self::write`] does, too; this tells it before anything is measured.
    ///
    /// # Errors
    /// If it is.
    pub fn check_output(input: &GgufFile, path: &Path) -> Result<(), QuantizeError> {
        let files = input.files().map_err(QuantizeError::Input)?;
        if files.iter().any(|(name, _)| is_same_file(Path::new(name), path)) {
            return Err(QuantizeError::SameFile { path: path.display().to_string() });
        }
        GgufWriter::check_target(path).map_err(QuantizeError::Output)
    }

    /// Whether a tensor's lattice is kept.
    pub(crate) fn is_on_lattice(&self, name: &str) -> bool {
        self.tensors.iter().any(|tensor| tensor.source.name == name && tensor.lattice.is_some())
    }

    /// Writes the output with `threads` threads: the tensors of `calibrated` as they are there, all others rounded
    /// to nearest. `progress` gets the number of source bytes just done.
    ///
    /// # Errors
    /// If `path` is the input, a weight is not a number or too large for its type, or the disk refuses.
    pub fn write(
        &self,
        path: &Path,
        threads: usize,
        calibrated: &Calibrated,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), QuantizeError> {
        Self::check_output(self.input, path)?;
        let mut encoder = Encoder::new(threads);
        let mut sources = self.tensors.iter().map(|tensor| &tensor.source);
        let mut bad_weight = None;
        let written = self.writer.write_to(path, |target, out| {
            let source = sources.next().ok_or_else(|| std::io::Error::other("more tensors than planned"))?;
            if let Some(bytes) = calibrated.read(&target.name)? {
                progress(source.bytes);
                return out.write_all(&bytes);
            }
            let planned =
                Tensor::new(self.input, source, target.block_type).map_err(std::io::Error::other)?;
            let tensor = planned.with_lattice(self.is_on_lattice(&target.name));
            let outcome = encoder.encode(&tensor, out, &mut |bytes| {
                progress(bytes.len() as u64);
                self.input.release(source, bytes);
            })?;
            bad_weight = outcome;
            if bad_weight.is_some() { Err(std::io::Error::other("bad weight")) } else { Ok(()) }
        });
        match (bad_weight, written) {
            (Some(fault), _) => Err(fault),
            (None, Err(error)) => Err(QuantizeError::Output(error)),
            (None, Ok(_)) => Ok(()),
        }
    }
}

fn planned(input: &GgufFile, options: &QuantizeOptions) -> Result<Vec<PlannedTensor>, QuantizeError> {
    let layout = Layout::of(input.tensors().iter().map(|tensor| tensor.name.as_str()));
    let mut sources: Vec<&TensorInfo> = input.tensors().iter().collect();
    sources.sort_by(|a, b| layer(&a.name).cmp(&layer(&b.name)).then_with(|| a.name.cmp(&b.name)));
    let is_for =
        |rule: &TypeRule, source: &TensorInfo| Recipe::decides(source) && rule.pattern.is_match(&source.name);
    if let Some(unused) = options.rules.iter().find(|rule| !sources.iter().any(|source| is_for(rule, source)))
    {
        let (file, pattern) = (input.name().to_owned(), unused.pattern.to_string());
        return Err(QuantizeError::UnusedRule { file, pattern });
    }
    let plan = |source: &TensorInfo| {
        let rule = options.rules.iter().rev().find(|rule| is_for(rule, source));
        let chosen = rule.map(|rule| &rule.block_type).or_else(|| options.chosen.get(&source.name));
        let choice = match chosen {
            Some(block_type) => Choice::fitting(*block_type, source.cols()),
            None => options.recipe.choose(layout, source),
        };
        let is_free =
            rule.is_none() && Recipe::decides(source) && options.recipe.asked_for(&source.name).is_none();
        let on_lattice = options.lattices.tensor(&source.name).filter(|_| choice.stored.is_quantized());
        let choice = if on_lattice.is_some() && is_free { lattice_choice(choice) } else { choice };
        PlannedTensor {
            source: source.clone(),
            choice,
            bytes: bytes_as(source, choice.stored),
            is_free: is_free && on_lattice.is_none(),
            lattice: on_lattice.filter(|_| Lattice::is_held_by(choice.stored)),
        }
    };
    Ok(sources.into_iter().map(plan).collect())
}

/// The type of a tensor on a lattice for which the recipe has another choice: four bits hold it.
fn lattice_choice(choice: Choice) -> Choice {
    match choice.stored {
        BlockType::Q4_0 | BlockType::Q4_1 => choice,
        _ => Choice { wanted: BlockType::Q4_0, stored: BlockType::Q4_0 },
    }
}

/// Bytes of a tensor whose rows are whole blocks of `block_type`. The reader's caps keep it within u64.
pub(crate) fn bytes_as(tensor: &TensorInfo, block_type: BlockType) -> u64 {
    (tensor.elements() / block_type.block_len()) as u64 * block_type.block_bytes() as u64
}

fn described(input: &GgufFile, recipe: Recipe, tensors: &[PlannedTensor]) -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.copy_metadata(input, |key| key != FILE_TYPE_KEY && key != QUANTIZATION_VERSION_KEY);
    writer.set(QUANTIZATION_VERSION_KEY, QUANTIZATION_VERSION);
    writer.set(FILE_TYPE_KEY, recipe.file_type());
    for tensor in tensors {
        writer.add_tensor(&tensor.source.name, &tensor.source.shape, tensor.choice.stored);
    }
    writer
}
