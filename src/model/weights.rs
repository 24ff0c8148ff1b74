//! The weights: where each tensor of the file goes, and the one resident copy.
//!
//! [`Layout`] is computed from the header alone: every matrix gets a place in one buffer in its packed form,
//! every norm and bias a place in a second one as f32. The memory plan reads the sizes off it, [`Weights`]
//! fills it.

use super::error::ModelError;
use super::packed::{Pack, PackStatus};
use super::spec::Spec;
use crate::blocks::BlockType;
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::{Forms, Kernels, PackedMatrix, PackedShape, Packing};
use crate::runtime::{Buffer, page_rounded};
use std::collections::HashSet;
use std::ops::Range;

/// Bytes of the file that are packed before their pages are given back.
const CHUNK_BYTES: usize = 1 << 20;

/// A matrix's place in the packed buffer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matrix {
    tensor: String,
    shape: PackedShape,
    offset: usize,
}

/// A norm's or bias's place in the buffer of vectors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vector {
    tensor: String,
    range: Range<usize>,
}

/// A linear layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Linear {
    pub(crate) weights: Matrix,
    pub(crate) bias: Option<Vector>,
}

/// A transformer layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vector,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    pub(crate) feed_forward_norm: Vector,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// Places of all tensors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vector,
    /// Separate output head; without it the embedding is used.
    pub(crate) output: Option<Linear>,
    /// Divisors of the rotary frequencies, `[pairs]`.
    pub(crate) rope_factors: Option<Vector>,
    packed_bytes: usize,
    vector_len: usize,
}

/// Assigns places in the order of the calls.
struct Placer<'a> {
    file: &'a GgufFile,
    packing: Packing,
    packed_bytes: usize,
    vector_len: usize,
    seen: HashSet<&'a str>,
}

impl<'a> Placer<'a> {
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Option<&'a TensorInfo>, ModelError> {
        let Some(tensor) = self.file.tensor(name) else { return Ok(None) };
        let expected: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        // Trailing dimensions of 1 carry no information.
        let length =
            tensor.shape.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1).max(expected.len());
        if tensor.shape[..length.min(tensor.shape.len())] != expected {
            return Err(ModelError::TensorShape {
                file: self.file.name().to_owned(),
                tensor: name.to_owned(),
                expected,
                found: tensor.shape.clone(),
            });
        }
        self.seen.insert(&tensor.name);
        Ok(Some(tensor))
    }

    fn missing(&self, tensor: &str) -> ModelError {
        ModelError::MissingTensor { file: self.file.name().to_owned(), tensor: tensor.to_owned() }
    }

    fn optional_matrix(
        &mut self,
        name: &str,
        cols: usize,
        rows: usize,
    ) -> Result<Option<Matrix>, ModelError> {
        let Some(tensor) = self.find(name, &[cols, rows])? else { return Ok(None) };
        let shape = PackedShape { block_type: tensor.block_type, rows, cols, packing: self.packing };
        let offset = self.packed_bytes;
        self.packed_bytes += shape.bytes();
        Ok(Some(Matrix { tensor: name.to_owned(), shape, offset }))
    }

    fn matrix(&mut self, name: &str, cols: usize, rows: usize) -> Result<Matrix, ModelError> {
        self.optional_matrix(name, cols, rows)?.ok_or_else(|| self.missing(name))
    }

    fn optional_vector(&mut self, name: &str, len: usize) -> Result<Option<Vector>, ModelError> {
        let Some(tensor) = self.find(name, &[len])? else { return Ok(None) };
        if !matches!(tensor.block_type, BlockType::F32 | BlockType::F16 | BlockType::BF16) {
            return Err(ModelError::TensorType {
                file: self.file.name().to_owned(),
                tensor: name.to_owned(),
                found: tensor.block_type.name().to_owned(),
            });
        }
        let range = self.vector_len..self.vector_len + len;
        self.vector_len = range.end;
        Ok(Some(Vector { tensor: name.to_owned(), range }))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vector, ModelError> {
        self.optional_vector(name, len)?.ok_or_else(|| self.missing(name))
    }

    /// `{name}.weight`, and `{name}.bias` where the file has it.
    fn linear(&mut self, name: &str, cols: usize, rows: usize) -> Result<Linear, ModelError> {
        let weights = self.matrix(&format!("{name}.weight"), cols, rows)?;
        let bias = self.optional_vector(&format!("{name}.bias"), rows)?;
        Ok(Linear { weights, bias })
    }

    fn layer(&mut self, index: usize, spec: &Spec) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (dim, query, kv) = (spec.dim, spec.query_width(), spec.kv_width());
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm.weight"), dim)?,
            query: self.linear(&name("attn_q"), dim, query)?,
            key: self.linear(&name("attn_k"), dim, kv)?,
            value: self.linear(&name("attn_v"), dim, kv)?,
            output: self.linear(&name("attn_output"), query, dim)?,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"), dim)?,
            gate: self.linear(&name("ffn_gate"), dim, spec.hidden)?,
            up: self.linear(&name("ffn_up"), dim, spec.hidden)?,
            down: self.linear(&name("ffn_down"), spec.hidden, dim)?,
        })
    }
}

impl Layout {
    /// Finds and checks every tensor of the model.
    pub(crate) fn new(file: &GgufFile, spec: &Spec, packing: Packing) -> Result<Self, ModelError> {
        let mut placer = Placer { file, packing, packed_bytes: 0, vector_len: 0, seen: HashSet::new() };
        let embedding = placer.matrix("token_embd.weight", spec.dim, spec.vocab)?;
        let layers = (0..spec.layers).map(|index| placer.layer(index, spec)).collect::<Result<_, _>>()?;
        let output_norm = placer.vector("output_norm.weight", spec.dim)?;
        let output = match placer.optional_matrix("output.weight", spec.dim, spec.vocab)? {
            Some(weights) => {
                Some(Linear { weights, bias: placer.optional_vector("output.bias", spec.vocab)? })
            }
            None => None,
        };
        let rope_factors = placer.optional_vector("rope_freqs.weight", spec.rope.pairs)?;
        if let Some(extra) = file.tensors().iter().find(|t| !placer.seen.contains(t.name.as_str())) {
            return Err(ModelError::UnexpectedTensor {
                file: file.name().to_owned(),
                tensor: extra.name.clone(),
                architecture: spec.family.architecture,
            });
        }
        let Placer { packed_bytes, vector_len, .. } = placer;
        Ok(Self { embedding, layers, output_norm, output, rope_factors, packed_bytes, vector_len })
    }

    /// Bytes of all packed matrices.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// Bytes of the buffers.
    pub(crate) fn planned_bytes(&self) -> usize {
        page_rounded(self.packed_bytes) + page_rounded(self.vector_len * size_of::<f32>())
    }

    /// The forms of activations the matrices need.
    pub(crate) fn forms(&self) -> Forms {
        let head = self.output.as_ref().map_or(&self.embedding, |output| &output.weights);
        let all = self.linears().map(|linear| &linear.weights).chain([head]);
        all.fold(Forms::default(), |forms, matrix| forms.with(&matrix.shape))
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers
            .iter()
            .flat_map(|l| [&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down])
            .chain(&self.output)
    }

    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        std::iter::once(&self.embedding).chain(self.linears().map(|linear| &linear.weights))
    }

    fn vectors(&self) -> impl Iterator<Item = &Vector> {
        let norms = self.layers.iter().flat_map(|layer| [&layer.attention_norm, &layer.feed_forward_norm]);
        let biases = self.linears().filter_map(|linear| linear.bias.as_ref());
        norms.chain(biases).chain([&self.output_norm]).chain(&self.rope_factors)
    }
}

/// A tensor's place in either buffer.
enum Place<'a> {
    Matrix(&'a Matrix),
    Vector(&'a Vector),
}

impl Place<'_> {
    fn tensor(&self) -> &str {
        match self {
            Place::Matrix(matrix) => &matrix.tensor,
            Place::Vector(vector) => &vector.tensor,
        }
    }
}

/// The loaded weights.
#[derive(Debug)]
pub(crate) struct Weights {
    packed: Packed,
    vectors: Buffer<f32>,
}

/// The packed matrices.
#[derive(Debug)]
enum Packed {
    Memory(Buffer<u8>),
    File(Pack),
}

impl Packed {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(buffer) => buffer,
            Self::File(pack) => pack.bytes(),
        }
    }
}

impl Weights {
    /// Loads every tensor: matrices from a pack if there is one that fits, otherwise packed here.
    pub(crate) fn load(
        file: &GgufFile,
        layout: &Layout,
        kernels: &Kernels,
    ) -> Result<(Self, PackStatus), ModelError> {
        let mut vectors = Buffer::zeroed(layout.vector_len, "norms and biases")?;
        let (pack, status) = Pack::open(file, layout, kernels);
        let packed = match pack {
            Some(pack) => {
                for vector in layout.vectors() {
                    vector.load(file, &mut vectors[vector.range.clone()])?;
                }
                // What the system mapped around the vectors would be resident beside the pack.
                file.release_all();
                pack.prefetch();
                Packed::File(pack)
            }
            None => Packed::Memory(load_all(file, layout, &mut vectors)?),
        };
        file.release_all();
        Ok((Self { packed, vectors }, status))
    }

    pub(crate) fn matrix(&self, matrix: &Matrix) -> PackedMatrix<'_> {
        PackedMatrix::new(matrix.shape, &self.packed.bytes()[matrix.offset..][..matrix.shape.bytes()])
    }

    pub(crate) fn vector(&self, vector: &Vector) -> &[f32] {
        &self.vectors[vector.range.clone()]
    }

    pub(crate) fn bias(&self, linear: &Linear) -> Option<&[f32]> {
        linear.bias.as_ref().map(|bias| self.vector(bias))
    }
}

/// Packs every matrix and decodes every vector, in the order of the file: storage is read as one stream, and
/// pages that the system mapped ahead are given back with the tensor they belong to.
fn load_all(file: &GgufFile, layout: &Layout, vectors: &mut [f32]) -> Result<Buffer<u8>, ModelError> {
    let mut packed = Buffer::zeroed(layout.packed_bytes, "the weights")?;
    let matrices = layout.matrices().map(Place::Matrix);
    let mut places: Vec<_> = matrices.chain(layout.vectors().map(Place::Vector)).collect();
    places.sort_by_key(|place| file.tensor(place.tensor()).map(|info| info.offset));
    for place in places {
        match place {
            Place::Matrix(m) => m.load(file, &mut packed[m.offset..][..m.shape.bytes()])?,
            Place::Vector(v) => v.load(file, &mut vectors[v.range.clone()])?,
        }
    }
    Ok(packed)
}

/// Lays out and packs the model in `file`.
pub(super) fn pack(file: &GgufFile, kernels: &Kernels) -> Result<(Layout, Buffer<u8>), ModelError> {
    let layout = Layout::new(file, &Spec::read(file)?, kernels.packing)?;
    let mut vectors = Buffer::zeroed(layout.vector_len, "norms and biases")?;
    let packed = load_all(file, &layout, &mut vectors)?;
    Ok((layout, packed))
}

fn tensor<'a>(file: &'a GgufFile, name: &str) -> Result<&'a TensorInfo, ModelError> {
    file.tensor(name)
        .ok_or_else(|| ModelError::MissingTensor { file: file.name().to_owned(), tensor: name.to_owned() })
}

impl Matrix {
    fn load(&self, file: &GgufFile, packed: &mut [u8]) -> Result<(), ModelError> {
        let info = tensor(file, &self.tensor)?;
        let native = file.data(info);
        let row_bytes = (native.len() / self.shape.rows).max(1);
        let rows = (CHUNK_BYTES / row_bytes).max(1);
        for (i, chunk) in native.chunks(rows * row_bytes).enumerate() {
            self.shape.pack_rows(chunk, i * rows, packed).map_err(|source| ModelError::Pack {
                file: file.name().to_owned(),
                tensor: self.tensor.clone(),
                source,
            })?;
            let start = i * rows * row_bytes;
            file.release(info, start..start + chunk.len());
        }
        Ok(())
    }
}

impl Vector {
    fn load(&self, file: &GgufFile, out: &mut [f32]) -> Result<(), ModelError> {
        let info = tensor(file, &self.tensor)?;
        info.block_type.decode(file.data(info), out);
        if out.iter().all(|v| v.is_finite()) {
            Ok(())
        } else {
            Err(ModelError::NotFinite { file: file.name().to_owned(), tensor: self.tensor.clone() })
        }
    }
}
