//! The weights: the one resident copy, filled as `layout` says.

use super::error::ModelError;
use super::layout::{Layout, Linear, Matrix, Norm, Place, Placed, Vector};
use super::packed::{Pack, PackStatus};
use super::spec::Spec;
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::{Kernels, PackedMatrix};
use crate::runtime::Buffer;

/// Bytes of the file that are packed before their pages are given back.
const CHUNK_BYTES: usize = 1 << 20;

/// The loaded weights.
#[derive(Debug)]
pub(super) struct Weights {
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
    pub(super) fn load(
        file: &GgufFile,
        layout: &Layout,
        kernels: &Kernels,
    ) -> Result<(Self, PackStatus), ModelError> {
        let mut vectors = Buffer::zeroed(layout.vector_len, "norms and biases")?;
        let (pack, status) = Pack::open(file, layout, kernels);
        let packed = match pack {
            Some(pack) => {
                for placed in &layout.placed {
                    if let Place::Vector(vector) = placed.place {
                        placed.load_vector(file, &mut vectors[vector.range()])?;
                    }
                }
                // What the system mapped around the vectors would be resident beside the pack.
                file.release_all();
                Packed::File(pack)
            }
            None => Packed::Memory(load_all(file, layout, &mut vectors)?),
        };
        file.release_all();
        Ok((Self { packed, vectors }, status))
    }

    /// The packed matrices, unless they are those of a pack.
    pub(super) fn packed_here(&self) -> Option<&[u8]> {
        match &self.packed {
            Packed::Memory(packed) => Some(packed),
            Packed::File(_) => None,
        }
    }

    /// Multiplies what is left of a norm by `scale`.
    pub(super) fn scale(&mut self, norm: &Norm, scale: f32) {
        for vector in [norm.weight, norm.bias].into_iter().flatten() {
            self.vectors[vector.range()].iter_mut().for_each(|value| *value *= scale);
        }
    }

    pub(super) fn matrix(&self, matrix: &Matrix) -> PackedMatrix<'_> {
        PackedMatrix::new(matrix.shape, &self.packed.bytes()[matrix.offset..][..matrix.shape.bytes()])
    }

    pub(super) fn vector(&self, vector: &Vector) -> &[f32] {
        &self.vectors[vector.range()]
    }

    pub(super) fn bias(&self, linear: &Linear) -> Option<&[f32]> {
        linear.bias.as_ref().map(|bias| self.vector(bias))
    }
}

/// Packs every matrix and decodes every vector, in the order of the file: storage is read as one stream, and
/// pages that the system mapped ahead are given back with the tensor they belong to.
fn load_all(file: &GgufFile, layout: &Layout, vectors: &mut [f32]) -> Result<Buffer<u8>, ModelError> {
    let mut packed = Buffer::zeroed(layout.packed_bytes, "the weights")?;
    let mut all: Vec<_> = layout.placed.iter().collect();
    all.sort_by_key(|placed| {
        (file.tensor(&placed.tensor).map(|info| (info.part, info.offset)), placed.first)
    });
    for placed in all {
        match placed.place {
            Place::Matrix(m) => placed.load_matrix(&m, file, &mut packed[m.offset..][..m.shape.bytes()])?,
            Place::Vector(v) => placed.load_vector(file, &mut vectors[v.range()])?,
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

impl Placed {
    fn info<'a>(&self, file: &'a GgufFile) -> Result<&'a TensorInfo, ModelError> {
        file.tensor(&self.tensor).ok_or_else(|| ModelError::MissingTensor {
            file: file.name().to_owned(),
            tensor: self.tensor.clone(),
        })
    }

    fn load_matrix(&self, matrix: &Matrix, file: &GgufFile, packed: &mut [u8]) -> Result<(), ModelError> {
        let info = self.info(file)?;
        let all = file.data(info);
        let row_bytes = (all.len() / info.rows().max(1)).max(1);
        let first = self.first * row_bytes;
        let native = &all[first..first + matrix.shape.rows * row_bytes];
        let rows = (CHUNK_BYTES / row_bytes).max(1);
        for (i, chunk) in native.chunks(rows * row_bytes).enumerate() {
            matrix.shape.pack_rows(chunk, i * rows, packed).map_err(|source| ModelError::Pack {
                file: file.name().to_owned(),
                tensor: self.tensor.clone(),
                source,
            })?;
            let start = first + i * rows * row_bytes;
            file.release(info, start..start + chunk.len());
        }
        Ok(())
    }

    fn load_vector(&self, file: &GgufFile, out: &mut [f32]) -> Result<(), ModelError> {
        let info = self.info(file)?;
        let all = file.data(info);
        let value_bytes = all.len() / info.elements().max(1);
        info.block_type.decode(&all[self.first * value_bytes..][..out.len() * value_bytes], out);
        if out.iter().all(|v| v.is_finite()) {
            Ok(())
        } else {
            Err(ModelError::NotFinite { file: file.name().to_owned(), tensor: self.tensor.clone() })
        }
    }
}
