//! From the folder of a published model (`transformers`) to a GGUF file that llama.cpp and the runner read.
//!
//! # Design
//!
//! ```text
//! family     families as rows of data: names and sizes, theirs and GGUF's
//! config     config.json: family, constants
//! sizes      widths and counts
//! layers     how layers differ
//! rope       rotary embedding and its scaling
//! shards     safetensors files: where each tensor lies
//! tensors    rows of the family + files -> what each tensor of the output is made from
//! floats     streams a tensor of numbers
//! gptq       GPTQ checkpoints onto blocks, exactly or not at all
//! tokenizer  tokenizer.json -> `tokenizer.ggml` keys
//! json       JSON files with errors that name the key
//! cli        arguments of `convert`
//! ```
//!
//! [`Conversion::open`] reads everything but the weights and checks it; [`Conversion::write`] streams the weights
//! through a fixed amount of memory (of a GPTQ checkpoint, or where matrices are transposed: one matrix). The folder is untrusted: sizes have caps,
//! every tensor must have the shape that config.json implies, none may be missing or left over.
//!
//! The same folder gives the same bytes. Tensors are in the order of the family's rows.

pub(crate) mod cli;
mod config;
mod error;
mod family;
mod floats;
mod gptq;
mod json;
mod layers;
mod rope;
mod sampling;
mod shards;
mod sizes;
mod tensors;
mod tokenizer;

use std::fs;
use std::io;
use std::path::Path;

use smolt::blocks::BlockType;
use smolt::gguf::{FILE_TYPE_KEY, GgufWriter, QUANTIZATION_VERSION, QUANTIZATION_VERSION_KEY};

pub use self::error::ConvertError;

use self::config::Config;
use self::family::FAMILIES;
use self::floats::StreamError;
use self::gptq::GptqSettings;
use self::shards::Shards;
use self::tensors::{Planned, Planner, Source};

/// Type of the matrices of a converted model. Vectors are F32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FloatType {
    /// IEEE half precision; a weight beyond its range is refused.
    #[default]
    F16,
    /// The upper half of F32.
    Bf16,
    /// Single precision.
    F32,
}

impl FloatType {
    /// Storage type, and value of `general.file_type`.
    fn stored(self) -> (BlockType, u32) {
        match self {
            Self::F16 => (BlockType::F16, 1),
            Self::Bf16 => (BlockType::BF16, 32),
            Self::F32 => (BlockType::F32, 0),
        }
    }
}

/// What the caller may say about a conversion.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// Type of matrices that are not quantized already.
    pub float: FloatType,
    /// Name of the pre-tokenizer of a byte-level tokenizer, in place of its definition.
    pub pre: Option<String>,
}

/// A tensor of the output.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConvertedTensor {
    /// Name in the output.
    pub name: String,
    /// Extents, columns first.
    pub shape: Vec<u64>,
    /// Storage type, e.g. `F16`.
    #[serde(rename = "type")]
    pub type_name: &'static str,
}

/// A model ready to be written.
#[derive(Debug)]
pub struct Conversion {
    shards: Shards,
    tensors: Vec<Planned>,
    writer: GgufWriter,
    notes: Vec<String>,
    architecture: &'static str,
    file_bytes: u64,
}

impl Conversion {
    /// Reads the model in `folder`: everything but its weights.
    ///
    /// # Errors
    /// If a file is missing or damaged, the family or the tokenizer is not known, tensors do not fit config.json,
    /// or a GPTQ checkpoint does not fit blocks.
    pub fn open(folder: &Path, options: &ConvertOptions) -> Result<Self, ConvertError> {
        let config = Config::read(folder)?;
        let shards = Shards::open(folder)?;
        let gptq = GptqSettings::read(folder, &config)?;
        let (float, file_type) = options.float.stored();
        let planner = Planner::new(folder.display().to_string(), &config, &shards, gptq, float);
        let (tensors, mut notes) = planner.plan()?;
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", config.family.architecture);
        writer.set("general.type", "model");
        writer.set("general.name", name(folder, &config)?);
        writer.set("general.size_label", size_label(weights(&tensors)));
        config.describe(&mut writer);
        writer.set(FILE_TYPE_KEY, quantized_file_type(&tensors).unwrap_or(file_type));
        writer.set(QUANTIZATION_VERSION_KEY, QUANTIZATION_VERSION);
        notes.extend(tokenizer::describe(folder, &config, options.pre.as_deref(), &mut writer)?);
        for tensor in &tensors {
            writer.add_tensor(&tensor.name, &tensor.shape, tensor.block_type);
        }
        let file_bytes = writer.file_bytes(&folder.display().to_string()).map_err(ConvertError::Output)?;
        let architecture = config.family.architecture;
        Ok(Self { shards, tensors, writer, notes, architecture, file_bytes })
    }

    /// Value of `general.architecture`.
    pub fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// Tensors in the order of the output.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = ConvertedTensor> {
        self.tensors.iter().map(|tensor| ConvertedTensor {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            type_name: tensor.block_type.name(),
        })
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        weights(&self.tensors)
    }

    /// What the output cannot express or leaves out.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bytes of the output.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes of tensors to be read.
    pub fn source_bytes(&self) -> u64 {
        let bytes = |tensor: &Planned| match &tensor.source {
            Source::Floats(floats) => floats.bytes(),
            Source::Gptq(linear) => linear.bytes(),
            Source::Made(_) => 0,
        };
        self.tensors.iter().map(bytes).sum()
    }

    /// Writes the output; it appears under its name when it is complete. `progress` gets the number of source
    /// bytes just read.
    ///
    /// # Errors
    /// If `path` is a file of the model, a weight is not a number or too large for its type, or a file cannot be
    /// read or written.
    pub fn write(&self, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), ConvertError> {
        if self.shards.paths().any(|source| smolt::files::is_same_file(source, path)) {
            return Err(ConvertError::OutputIsInput { path: path.display().to_string() });
        }
        let mut tensors = self.tensors.iter();
        let mut fault = None;
        let written = self.writer.write_to(path, |_, out| {
            let tensor = tensors.next().ok_or_else(|| io::Error::other("more tensors than planned"))?;
            self.write_tensor(tensor, out, progress).map_err(|error| match error {
                StreamError::Write(error) => error,
                StreamError::Source(error) => {
                    fault = Some(error);
                    io::Error::other("the source is at fault")
                }
            })
        });
        match (fault, written) {
            (Some(fault), _) => Err(fault),
            (None, written) => written.map(drop).map_err(ConvertError::Output),
        }
    }

    fn write_tensor(
        &self,
        tensor: &Planned,
        out: &mut dyn io::Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StreamError> {
        match &tensor.source {
            Source::Floats(floats) => floats.write(&self.shards, tensor.block_type, out, progress),
            Source::Gptq(linear) => {
                linear.write(&self.shards, out)?;
                progress(linear.bytes());
                Ok(())
            }
            Source::Made(values) => out.write_all(bytemuck::cast_slice(values)).map_err(StreamError::Write),
        }
    }
}

/// Classes of `transformers` that can be converted, each with its value of `general.architecture`.
pub fn classes() -> impl ExactSizeIterator<Item = (&'static str, &'static str)> {
    FAMILIES.iter().map(|family| (family.class, family.architecture))
}

fn name(folder: &Path, config: &Config) -> Result<String, ConvertError> {
    if let Some(name) = config.model_name()? {
        return Ok(name.to_owned());
    }
    let folder = fs::canonicalize(folder);
    let name = folder.as_ref().ok().and_then(|folder| folder.file_name());
    Ok(name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned()))
}

/// The caps of shapes keep the sum within u64.
fn weights(tensors: &[Planned]) -> u64 {
    tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum()
}

/// `general.file_type` of a checkpoint that is quantized already.
fn quantized_file_type(tensors: &[Planned]) -> Option<u32> {
    let has = |block_type| tensors.iter().any(|tensor| tensor.block_type == block_type);
    let recipe = |name: &str| name.parse().ok().map(|recipe: smolt::gguf::Recipe| recipe.file_type());
    match (has(BlockType::Q4_0), has(BlockType::Q4_1)) {
        (_, true) => recipe("q4_1"),
        (true, false) => recipe("q4_0"),
        (false, false) => None,
    }
}

/// A number of weights in at least two digits, e.g. `7.8M` or `135M`.
fn size_label(weights: u64) -> String {
    let (unit, suffix) = match weights {
        1_000_000_000.. => (1e9, "B"),
        1_000_000.. => (1e6, "M"),
        _ => (1e3, "K"),
    };
    let scaled = weights as f64 / unit;
    let decimals = usize::from(scaled.round() < 10.0);
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_labels_have_two_digits() {
        for (weights, label) in [
            (7_840_000, "7.8M"),
            (134_515_008, "135M"),
            (1_235_814_400, "1.2B"),
            (9_960_000, "10M"),
            (512, "0.5K"),
        ] {
            assert_eq!(size_label(weights), label);
        }
    }
}
