//! One layer of a model as a model of its own, whose tensors can be replaced.

use std::sync::Arc;

use smolt::blocks::BlockType;
use smolt::gguf::{EMBEDDING_TENSOR, GgufFile, GgufWriter, TensorInfo};
use smolt::kernels::{Kernels, KvType};
use smolt::model::{FIRST_LAYER, Model, RunOptions, Runner, Spec, TILE};

use crate::QuantizeError;

/// Tensors outside of the layers that the forward pass needs, if the model has them.
const SHARED: [&str; 9] = [
    "output_norm.weight",
    "output_norm.bias",
    "rope_freqs.weight",
    "position_embd.weight",
    "token_embd_norm.weight",
    "token_embd_norm.bias",
    "token_embd_proj.weight",
    "output_proj.weight",
    "output.bias",
];
/// The only one of them that belongs to the matrix of the head.
const HEAD_BIAS: &str = "output.bias";

/// A tensor as it is at the moment.
#[derive(Clone, Debug)]
struct Tensor {
    /// Without the layer's prefix.
    name: String,
    shape: Vec<u64>,
    block_type: BlockType,
    bytes: Vec<u8>,
}

/// The tensors of one layer.
#[derive(Clone)]
pub(crate) struct Layer<'a> {
    input: &'a GgufFile,
    index: usize,
    tensors: Vec<Tensor>,
    /// The token embedding, if that is wanted, too; it is also the output head.
    embedding: Option<Tensor>,
}

impl<'a> Layer<'a> {
    /// Layer `index` of a model, as it is stored there.
    pub(crate) fn read(input: &'a GgufFile, index: usize) -> Result<Self, QuantizeError> {
        let prefix = format!("blk.{index}.");
        let ours = input.tensors().iter().filter_map(|info| Some((info.name.strip_prefix(&prefix)?, info)));
        let tensors = ours.map(|(name, info)| {
            Ok(Tensor {
                name: name.to_owned(),
                shape: info.shape.clone(),
                block_type: info.block_type,
                bytes: copied(input, info)?,
            })
        });
        Ok(Self { input, index, tensors: tensors.collect::<Result<_, QuantizeError>>()?, embedding: None })
    }

    /// Both ends of a model, with some layer between them. The data `bytes`, in place of that of `source`, is both token
    /// embedding and output head.
    pub(crate) fn ends(
        input: &'a GgufFile,
        source: &TensorInfo,
        block_type: BlockType,
        bytes: Vec<u8>,
    ) -> Result<Self, QuantizeError> {
        let (name, shape) = (EMBEDDING_TENSOR.to_owned(), source.shape.clone());
        Ok(Self { embedding: Some(Tensor { name, shape, block_type, bytes }), ..Self::read(input, 0)? })
    }

    fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The values of a tensor, `[row][column]`; `None` if the layer does not have it.
    pub(crate) fn values(&self, name: &str) -> Option<Vec<f32>> {
        self.tensor(name).map(|tensor| {
            let mut values = vec![0.0; tensor.shape.iter().product::<u64>() as usize];
            tensor.block_type.decode(&tensor.bytes, &mut values);
            values
        })
    }

    /// Whether the layer has a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensor(name).is_some()
    }

    /// Multiplies row `first + i` of a tensor, if the layer has it, by `factors[i]`; a vector counts as a column.
    pub(crate) fn scale_rows(&mut self, name: &str, first: usize, factors: &[f32]) {
        let Some(tensor) = self.tensor(name) else { return };
        let cols = if tensor.shape.len() > 1 { tensor.shape[0] as usize } else { 1 };
        self.scale(name, &|index| {
            (index / cols).checked_sub(first).and_then(|i| factors.get(i)).copied().unwrap_or(1.0)
        });
    }

    /// Multiplies each column of a matrix, if the layer has it, by `factor(column)`.
    pub(crate) fn scale_columns(&mut self, name: &str, factor: &dyn Fn(usize) -> f32) {
        let Some(tensor) = self.tensor(name) else { return };
        let cols = tensor.shape[0] as usize;
        self.scale(name, &|index| factor(index % cols));
    }

    fn scale(&mut self, name: &str, factor: &dyn Fn(usize) -> f32) {
        let Some(values) = self.values(name) else { return };
        let scaled =
            values.iter().enumerate().flat_map(|(index, value)| (value * factor(index)).to_le_bytes());
        let bytes = scaled.collect();
        self.replace(name, BlockType::F32, bytes);
    }

    /// Names of the tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// Replaces the data of a tensor that the layer has.
    pub(crate) fn replace(&mut self, name: &str, block_type: BlockType, bytes: Vec<u8>) {
        if let Some(tensor) = self.tensors.iter_mut().find(|tensor| tensor.name == name) {
            (tensor.block_type, tensor.bytes) = (block_type, bytes);
        }
    }

    /// An embedding of one token, for layers that run without a head.
    fn no_embedding(&self) -> Tensor {
        let dim = self.input.tensor(EMBEDDING_TENSOR).map_or(1, TensorInfo::cols);
        let shape = vec![dim as u64, 1];
        Tensor {
            name: EMBEDDING_TENSOR.to_owned(),
            shape,
            block_type: BlockType::F32,
            bytes: vec![0; dim * 4],
        }
    }

    /// The layer as a model: a single layer, the norm before the head and an embedding.
    fn file(&self) -> Result<GgufFile, QuantizeError> {
        let architecture = self.input.require_str("general.architecture").map_err(QuantizeError::Input)?;
        let count = format!("{architecture}.block_count");
        let prefix = format!("{architecture}.");
        let mut writer = GgufWriter::new();
        writer.copy_metadata(self.input, |key| {
            key == "general.architecture" || (key.starts_with(&prefix) && key != count)
        });
        writer.set(count, 1u32);
        writer.set(FIRST_LAYER, self.index as u32);
        let none = self.no_embedding();
        let embedding = self.embedding.as_ref().unwrap_or(&none);
        writer.add_tensor(&embedding.name, &embedding.shape, embedding.block_type);
        let is_needed = |name: &&&str| self.embedding.is_some() || **name != HEAD_BIAS;
        for shared in SHARED.iter().filter(is_needed).filter_map(|name| self.input.tensor(name)) {
            writer.add_tensor(&shared.name, &shared.shape, shared.block_type);
        }
        for tensor in &self.tensors {
            writer.add_tensor(format!("blk.0.{}", tensor.name), &tensor.shape, tensor.block_type);
        }
        let bytes = writer.to_vec(self.input.name(), |info, out| {
            match (info.name.strip_prefix("blk.0."), self.input.tensor(&info.name)) {
                (Some(name), _) => out.write_all(self.tensor(name).map_or(&[], |tensor| &tensor.bytes)),
                (None, Some(shared)) if info.name != EMBEDDING_TENSOR => {
                    out.write_all(self.input.data(shared).map_err(std::io::Error::other)?)
                }
                _ => out.write_all(&embedding.bytes),
            }
        });
        GgufFile::from_vec(self.input.name(), bytes.map_err(QuantizeError::Output)?)
            .map_err(QuantizeError::Input)
    }

    /// Prepares the layer to run on sequences of up to `length` tokens.
    pub(crate) fn runner(&self, length: usize, threads: usize) -> Result<Runner, QuantizeError> {
        let kernels = Kernels::detect().map_err(|error| QuantizeError::Kernels(error.to_string()))?;
        let model = Model::load(&self.file()?, kernels).map_err(QuantizeError::Model)?;
        let logit_rows = if self.embedding.is_some() { TILE } else { 1 };
        let options = RunOptions { context: length, threads, slots: 1, logit_rows, kv: KvType::F16 };
        Runner::new(Arc::new(model), &options).map_err(QuantizeError::Model)
    }
}

/// The data of a tensor, whose pages need not stay.
fn copied(input: &GgufFile, info: &TensorInfo) -> Result<Vec<u8>, QuantizeError> {
    let bytes = input.data(info).map_err(QuantizeError::Input)?.to_vec();
    input.release(info, 0..bytes.len());
    Ok(bytes)
}

/// The shape of a model that can be calibrated.
pub(crate) fn spec(input: &GgufFile) -> Result<Spec, QuantizeError> {
    Spec::read(input).map_err(QuantizeError::Model)
}
