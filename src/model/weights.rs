//! The weights: the one resident copy, filled as `layout` says.

use super::error::ModelError;
use super::layout::{Layout, Linear, Matrix, Norm, Place, Placed, Vector};
use super::packed::{Pack, PackStatus};
use super::spec::Spec;
use super::tagged::{Contents, Verified};
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::{KernelError, Kernels, PackedMatrix, PackedShape};
use crate::runtime::{Buffer, Part, Pool};
use std::collections::HashMap;
use std::ops::Range;

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

/// Puts the tensors of the file that `wants` names where they belong, in the order of the file: storage is read as one
/// stream, and pages that the system mapped ahead are given back with the tensor they belong to.
fn fill(
    file: &GgufFile,
    layout: &Layout,
    wants: &dyn Fn(&Placed) -> bool,
    (packed, vectors): (&mut [u8], &mut [f32]),
    pool: &mut Pool,
) -> Result<(), ModelError> {
    let mut places: HashMap<&str, Vec<&Placed>> = HashMap::new();
    for placed in layout.placed.iter().filter(|placed| wants(placed)) {
        let tensor = placed.tensor.as_str();
        if file.tensor(tensor).is_none() {
            return Err(ModelError::MissingTensor {
                file: file.name().to_owned(),
                tensor: tensor.to_owned(),
            });
        }
        places.entry(tensor).or_default().push(placed);
    }
    let has_place = |info: &TensorInfo| places.contains_key(info.name.as_str());
    file.read_tensors(&has_place, &mut |info, start, bytes| {
        for placed in places.get(info.name.as_str()).into_iter().flatten() {
            match placed.place {
                Place::Matrix(m) => {
                    let packed = &mut packed[m.offset..][..m.shape.bytes()];
                    placed.pack(file, &m, (info, start, bytes), packed, pool)?;
                }
                Place::Vector(v) => placed.decode(file, (info, start, bytes), &mut vectors[v.range()])?,
            }
        }
        Ok(())
    })
}

/// Lays out and packs the model in `file`.
pub(super) fn pack(file: &GgufFile, kernels: &Kernels) -> Result<(Layout, Buffer<u8>), ModelError> {
    let layout = Layout::new(file, &Spec::read(file)?, kernels.packing)?;
    let mut vectors = Buffer::guarded(layout.vector_len, VECTORS, file.secrecy())?;
    let packed = load_all(file, &layout, &mut vectors, &mut Pool::new(1))?;
    Ok((layout, packed))
}

/// [`PackedShape::pack_rows`], shared by the threads of a pool: each packs whole groups.
fn pack_rows(
    shape: &PackedShape,
    (native, row_bytes): (&[u8], usize),
    first_row: usize,
    packed: &mut [u8],
    pool: &mut Pool,
) -> Result<(), KernelError> {
    let (lanes, group_bytes) = (shape.packing.lanes, shape.group_bytes());
    // The rest of a group that earlier rows began.
    let lead = (first_row.next_multiple_of(lanes) - first_row).min(native.len() / row_bytes);
    let (began, native) = native.split_at(lead * row_bytes);
    shape.pack_rows(began, first_row, packed)?;
    let first_row = first_row + lead;
    let groups = (native.len() / row_bytes).div_ceil(lanes);
    let packed = &mut packed[first_row / lanes * group_bytes..][..groups * group_bytes];
    let count = pool.threads();
    let (mut native, mut packed) = (native, packed);
    let mut parts: Vec<_> = (0..count)
        .map(|index| {
            let share = Part { index, count }.share(groups);
            let rows = native.len().min(share.len() * lanes * row_bytes);
            let (own, rest) = native.split_at(rows);
            native = rest;
            let (target, rest) = std::mem::take(&mut packed).split_at_mut(share.len() * group_bytes);
            packed = rest;
            (first_row + share.start * lanes, own, target, Ok(()))
        })
        .collect();
    pool.run_with(&mut parts, &|_, (first, native, packed, result)| {
        let shape = PackedShape { rows: native.len() / row_bytes, ..*shape };
        let packing = shape.pack_rows(native, 0, packed);
        *result = packing.map_err(|error| error.of_rows_from(*first));
    });
    parts.into_iter().try_for_each(|(.., result)| result)
}

/// Some of a tensor's data: its description, the bytes before it, and itself.
type Chunk<'a> = (&'a TensorInfo, usize, &'a [u8]);

impl Placed {
    /// Packs those rows of a chunk that belong to the matrix.
    fn pack(
        &self,
        file: &GgufFile,
        matrix: &Matrix,
        (info, start, bytes): Chunk<'_>,
        packed: &mut [u8],
        pool: &mut Pool,
    ) -> Result<(), ModelError> {
        let row_bytes = (info.bytes as usize / info.rows().max(1)).max(1);
        let Some((to, rows)) = self.part(start / row_bytes, bytes.len() / row_bytes, matrix.shape.rows)
        else {
            return Ok(());
        };
        let native = &bytes[rows.start * row_bytes..rows.end * row_bytes];
        pack_rows(&matrix.shape, (native, row_bytes), to, packed, pool).map_err(|source| ModelError::Pack {
            file: file.name().to_owned(),
            tensor: self.tensor.clone(),
            source,
        })
    }

    /// Decodes those values of a chunk that belong to the vector.
    fn decode(
        &self,
        file: &GgufFile,
        (info, start, bytes): Chunk<'_>,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        // Types of vectors have blocks of one value.
        let value_bytes = (info.bytes as usize / info.elements().max(1)).max(1);
        let Some((to, values)) = self.part(start / value_bytes, bytes.len() / value_bytes, out.len()) else {
            return Ok(());
        };
        let out = &mut out[to..to + values.len()];
        info.block_type.decode(&bytes[values.start * value_bytes..values.end * value_bytes], out);
        if out.iter().all(|v| v.is_finite()) {
            Ok(())
        } else {
            Err(ModelError::NotFinite { file: file.name().to_owned(), tensor: self.tensor.clone() })
        }
    }

    /// Of `len` rows or values from number `start` of the tensor on, those that are among the `most` of this place: where
    /// in it they go, and their numbers in the chunk.
    fn part(&self, start: usize, len: usize, most: usize) -> Option<(usize, Range<usize>)> {
        let from = self.first.max(start);
        let to = (self.first + most).min(start + len);
        (from < to).then(|| (from - self.first, from - start..to - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockType;

    #[test]
    fn threads_pack_what_one_thread_packs_from_any_row_on() {
        for kernels in Kernels::available() {
            let shape =
                PackedShape { block_type: BlockType::Q4_0, rows: 101, cols: 64, packing: kernels.packing };
            let row_bytes = 36;
            let mut native: Vec<u8> = (0..101 * row_bytes).map(|at| (at * 7 % 251) as u8).collect();
            // Scales that are finite.
            native.chunks_mut(18).for_each(|block| block[1] &= 0x3F);
            let mut expected = vec![0; shape.bytes()];
            shape.pack_rows(&native, 0, &mut expected).unwrap();
            for threads in 1..5 {
                let mut pool = Pool::new(threads);
                for cut in [0, 1, 15, 16, 50, 100, 101] {
                    let mut packed = vec![0; shape.bytes()];
                    let (first, rest) = native.split_at(cut * row_bytes);
                    pack_rows(&shape, (first, row_bytes), 0, &mut packed, &mut pool).unwrap();
                    pack_rows(&shape, (rest, row_bytes), cut, &mut packed, &mut pool).unwrap();
                    assert!(packed == expected, "{}, {threads} threads, cut at {cut}", kernels.name);
                }
                let mut broken = native.clone();
                broken[77 * row_bytes + 1] = 0x7C;
                let packed = &mut vec![0; shape.bytes()];
                let error = pack_rows(&shape, (&broken[..], row_bytes), 0, packed, &mut pool).unwrap_err();
                assert!(matches!(error, KernelError::NotFinite { row: 77 }), "{error}");
            }
        }
    }
}
