//! The weights: the one resident copy, filled as `layout` says.

use super::error::ModelError;
use super::filling::fill;
use super::layout::{Layout, Linear, Matrix, Norm, Place, Placed, Vector};
use super::packed::{Pack, PackStatus};
use super::spec::Spec;
use super::tagged::{Contents, Verified};
use crate::gguf::GgufFile;
use crate::kernels::{Kernels, PackedMatrix};
use crate::runtime::{Buffer, Pool};

/// What vectors are, for messages.
const VECTORS: &str = "norms and biases";

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
    /// Loads every tensor: from a pack if there is one that fits, otherwise from the file; `verified` says which pack fits
    /// a verified model. What the output norm gives is multiplied by `scale`.
    pub(super) fn load(
        file: &GgufFile,
        (layout, kernels): (&Layout, &Kernels),
        (scale, verified): (f32, Option<&Verified>),
        pool: &mut Pool,
    ) -> Result<(Self, PackStatus), ModelError> {
        let status = match verified {
            None => None,
            Some(verified) => match verified.open(file, layout, kernels)? {
                // Scaled when it was written.
                (Some(Contents { packed, vectors }), status) => {
                    return Ok((Self { packed: Packed::Memory(packed), vectors }, status));
                }
                (None, status) => Some(status),
            },
        };
        let (mut weights, own) = Self::load_plain(file, layout, kernels, pool)?;
        if let Some(norm) = layout.output_norm.as_ref().filter(|_| scale != 1.0) {
            // The head is linear: what it reads may be scaled for what it gives.
            weights.scale(norm, scale);
        }
        Ok((weights, status.unwrap_or(own)))
    }

    fn load_plain(
        file: &GgufFile,
        layout: &Layout,
        kernels: &Kernels,
        pool: &mut Pool,
    ) -> Result<(Self, PackStatus), ModelError> {
        let mut vectors = Buffer::guarded(layout.vector_len, VECTORS, file.secrecy())?;
        let (pack, status) = Pack::open(file, layout, kernels);
        let packed = match pack {
            Some(pack) => {
                let is_vector = |placed: &Placed| matches!(placed.place, Place::Vector(_));
                fill(file, layout, &is_vector, (&mut [], &mut vectors), pool)?;
                // What the system mapped around the vectors would be resident beside the pack.
                file.release_all();
                Packed::File(pack)
            }
            None => Packed::Memory(load_all(file, layout, &mut vectors, pool)?),
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

    /// Norms and biases.
    pub(super) fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// Multiplies what is left of a norm by `scale`.
    fn scale(&mut self, norm: &Norm, scale: f32) {
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

/// Packs every matrix and decodes every vector.
fn load_all(
    file: &GgufFile,
    layout: &Layout,
    vectors: &mut [f32],
    pool: &mut Pool,
) -> Result<Buffer<u8>, ModelError> {
    let mut packed = Buffer::guarded(layout.packed_bytes, "the weights", file.secrecy())?;
    fill(file, layout, &|_| true, (&mut packed, vectors), pool)?;
    Ok(packed)
}

/// Lays out and packs the model in `file`.
pub(super) fn pack(file: &GgufFile, kernels: &Kernels) -> Result<(Layout, Buffer<u8>), ModelError> {
    let layout = Layout::new(file, &Spec::read(file)?, kernels.packing)?;
    let mut vectors = Buffer::guarded(layout.vector_len, VECTORS, file.secrecy())?;
    let packed = load_all(file, &layout, &mut vectors, &mut Pool::new(1))?;
    Ok((layout, packed))
}
