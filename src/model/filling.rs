//! From the bytes of tensors to their places in memory.
//!
//! A file that is there as a whole is cut into jobs, which threads take in the order of the file: none waits for another
//! before the end, however much of a processor it gets. One that is read once comes piece by piece, each of which the
//! threads share.

use super::error::ModelError;
use super::layout::{Layout, Matrix, Place, Placed};
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::{KernelError, PackedShape};
use crate::runtime::{Part, Pool};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of packed weights that a job fills, at most one group less: as many as a huge page has, so that two threads
/// seldom wait for the system to clear the same one.
const JOB_BYTES: usize = 2 << 20;

/// Puts the tensors of the file that `wants` names where they belong, in the order of the file: storage is read as one
/// stream, and pages that the system mapped ahead are given back with the rows they belong to.
///
/// # Errors
/// If a tensor is missing, or holds what cannot be packed; of several the first in the file.
pub(super) fn fill(
    file: &GgufFile,
    layout: &Layout,
    wants: &dyn Fn(&Placed) -> bool,
    (packed, vectors): (&mut [u8], &mut [f32]),
    pool: &mut Pool,
) -> Result<(), ModelError> {
    let mut wanted = Vec::new();
    for placed in layout.placed.iter().filter(|placed| wants(placed)) {
        let info = file.tensor(&placed.tensor).ok_or_else(|| ModelError::MissingTensor {
            file: file.name().to_owned(),
            tensor: placed.tensor.clone(),
        })?;
        wanted.push((placed, info));
    }
    match file.is_in_place() {
        true => run(file, jobs(file, &wanted, packed, vectors)?, pool),
        false => stream(file, &wanted, (packed, vectors), pool),
    }
}

/// Some rows or values of a tensor, and where they go.
struct Job<'a> {
    placed: &'a Placed,
    info: &'a TensorInfo,
    /// Bytes of the tensor.
    range: Range<usize>,
    native: &'a [u8],
    target: Target<'a>,
}

enum Target<'a> {
    /// Whole groups of rows; the shape is theirs, `first` the row of the matrix they begin with.
    Matrix {
        shape: PackedShape,
        first: usize,
        packed: &'a mut [u8],
    },
    Vector(&'a mut [f32]),
}

impl Job<'_> {
    fn run(self, file: &GgufFile) -> Result<(), ModelError> {
        let Self { placed, info, range, native, target } = self;
        match target {
            Target::Matrix { shape, first, packed } => shape
                .pack_rows(native, 0, packed)
                .map_err(|error| placed.pack_error(file, error.of_rows_from(first)))?,
            Target::Vector(values) => placed.decode_values(file, info, native, values)?,
        }
        file.release_around(info, range);
        Ok(())
    }
}

/// What is left of a buffer whose parts are taken in order.
struct Rest<'a, T> {
    passed: usize,
    left: &'a mut [T],
}

impl<'a, T> Rest<'a, T> {
    /// Takes a part, which begins where the last one ended, or later.
    fn take(&mut self, range: Range<usize>) -> &'a mut [T] {
        let (_, left) = std::mem::take(&mut self.left).split_at_mut(range.start - self.passed);
        let (part, left) = left.split_at_mut(range.len());
        (self.passed, self.left) = (range.end, left);
        part
    }
}

/// Cuts what is to be filled into jobs, in the order of the file. Places ascend in either buffer.
fn jobs<'a>(
    file: &'a GgufFile,
    wanted: &[(&'a Placed, &'a TensorInfo)],
    packed: &'a mut [u8],
    vectors: &'a mut [f32],
) -> Result<Vec<Job<'a>>, ModelError> {
    let mut packed = Rest { passed: 0, left: packed };
    let mut vectors = Rest { passed: 0, left: vectors };
    let mut jobs = Vec::new();
    for &(placed, info) in wanted {
        let data = file.data(info)?;
        let mut push = |range: Range<usize>, target| {
            let native = &data[range.clone()];
            jobs.push(Job { placed, info, range, native, target });
        };
        match placed.place {
            Place::Vector(vector) => {
                let bytes = value_bytes(info);
                let range = placed.first * bytes..(placed.first + vector.len) * bytes;
                push(range, Target::Vector(vectors.take(vector.range())));
            }
            Place::Matrix(Matrix { shape, offset }) => {
                let (bytes, lanes, group) = (row_bytes(info), shape.packing.lanes, shape.group_bytes());
                let groups = (JOB_BYTES / group.max(1)).max(1);
                let packed = packed.take(offset..offset + shape.bytes());
                for (number, packed) in packed.chunks_mut(groups * group).enumerate() {
                    let first = number * groups * lanes;
                    let shape = PackedShape { rows: (shape.rows - first).min(groups * lanes), ..shape };
                    let row = placed.first + first;
                    let range = row * bytes..(row + shape.rows) * bytes;
                    push(range, Target::Matrix { shape, first, packed });
                }
            }
        }
    }
    jobs.sort_by_key(|job| (job.info.part, job.info.offset, job.range.start));
    Ok(jobs)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the jobs on all threads.
fn run(file: &GgufFile, jobs: Vec<Job<'_>>, pool: &mut Pool) -> Result<(), ModelError> {
    file.advise_order();
    let jobs = Mutex::new(jobs.into_iter().enumerate());
    let failed: Mutex<Option<(usize, ModelError)>> = Mutex::new(None);
    pool.run(&|_| {
        loop {
            let Some((number, job)) = lock(&jobs).next() else { return };
            let Err(error) = job.run(file) else { continue };
            // Those before it were taken, and are done.
            lock(&jobs).by_ref().for_each(drop);
            let mut failed = lock(&failed);
            if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                *failed = Some((number, error));
            }
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// Fills from a file that is read once.
fn stream(
    file: &GgufFile,
    wanted: &[(&Placed, &TensorInfo)],
    (packed, vectors): (&mut [u8], &mut [f32]),
    pool: &mut Pool,
) -> Result<(), ModelError> {
    let mut places: HashMap<&str, Vec<&Placed>> = HashMap::new();
    for (placed, info) in wanted {
        places.entry(&info.name).or_default().push(placed);
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

fn row_bytes(info: &TensorInfo) -> usize {
    (info.bytes as usize / info.rows().max(1)).max(1)
}

/// Types of vectors have blocks of one value.
fn value_bytes(info: &TensorInfo) -> usize {
    (info.bytes as usize / info.elements().max(1)).max(1)
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
        let row_bytes = row_bytes(info);
        let Some((to, rows)) = self.part(start / row_bytes, bytes.len() / row_bytes, matrix.shape.rows)
        else {
            return Ok(());
        };
        let native = &bytes[rows.start * row_bytes..rows.end * row_bytes];
        pack_rows(&matrix.shape, (native, row_bytes), to, packed, pool)
            .map_err(|error| self.pack_error(file, error))
    }

    fn pack_error(&self, file: &GgufFile, source: KernelError) -> ModelError {
        ModelError::Pack { file: file.name().to_owned(), tensor: self.tensor.clone(), source }
    }

    /// Decodes those values of a chunk that belong to the vector.
    fn decode(
        &self,
        file: &GgufFile,
        (info, start, bytes): Chunk<'_>,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let size = value_bytes(info);
        let Some((to, values)) = self.part(start / size, bytes.len() / size, out.len()) else {
            return Ok(());
        };
        let out = &mut out[to..to + values.len()];
        self.decode_values(file, info, &bytes[values.start * size..values.end * size], out)
    }

    fn decode_values(
        &self,
        file: &GgufFile,
        info: &TensorInfo,
        native: &[u8],
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        info.block_type.decode(native, out);
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
    use crate::kernels::Kernels;

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
