//! Decodes, checks and encodes one tensor in tiles.

use std::io::{self, Write};
use std::ops::Range;

use smolt::blocks::BlockType;
use smolt::gguf::{GgufError, GgufFile, TensorInfo};
use smolt::runtime::Pool;

use crate::QuantizeError;
use crate::gptq::Format;
use crate::lattice::{COLS, Lattice};

/// Elements one thread encodes at a time: a whole number of blocks of every type.
const CHUNK: usize = 1 << 16;
/// Largest magnitude of a weight whose block has a half-precision scale.
const HALF_MAX: f32 = 65_504.0;

/// A tensor to be encoded.
pub(crate) struct Tensor<'a> {
    file: &'a GgufFile,
    source: &'a TensorInfo,
    data: &'a [u8],
    to: BlockType,
    /// The format in which blocks on a lattice are kept, if they are.
    lattice: Option<Format>,
}

impl<'a> Tensor<'a> {
    pub(crate) fn new(file: &'a GgufFile, source: &'a TensorInfo, to: BlockType) -> Result<Self, GgufError> {
        Ok(Self { file, source, data: file.data(source)?, to, lattice: None })
    }

    /// Keeps the blocks that are on a lattice, if asked to, as they were trained.
    pub(crate) fn with_lattice(self, is_kept: bool) -> Self {
        Self { lattice: Format::of(self.to).filter(|_| is_kept), ..self }
    }

    /// Where elements lie in the source; `elements` begins and ends with whole blocks.
    fn source_bytes(&self, elements: &Range<usize>) -> Range<usize> {
        let from = self.source.block_type;
        let bytes = |element: usize| element / from.block_len() * from.block_bytes();
        bytes(elements.start)..bytes(elements.end)
    }

    /// Largest magnitude the output can hold.
    fn limit(&self) -> f32 {
        if matches!(self.to, BlockType::F32 | BlockType::BF16) { f32::MAX } else { HALF_MAX }
    }

    fn bad_weight(&self, fault: Fault) -> QuantizeError {
        let cols = self.source.cols();
        QuantizeError::BadWeight {
            file: self.file.name().to_owned(),
            tensor: self.source.name.clone(),
            row: fault.element / cols,
            col: fault.element % cols,
            value: fault.value,
            limit: self.limit(),
        }
    }
}

/// A weight that cannot be encoded.
#[derive(Clone, Copy)]
struct Fault {
    element: usize,
    value: f32,
}

/// Buffers of one thread.
#[derive(Default)]
struct Worker {
    values: Vec<f32>,
    bytes: Vec<u8>,
    fault: Option<Fault>,
}

impl Worker {
    fn encode(&mut self, tensor: &Tensor<'_>, elements: Range<usize>) {
        let (from, to) = (tensor.source.block_type, tensor.to);
        let data = &tensor.data[tensor.source_bytes(&elements)];
        self.values.resize(elements.len(), 0.0);
        from.decode(data, &mut self.values);
        let limit = tensor.limit();
        // NaN compares false.
        let bad = self.values.iter().position(|value| !matches!(value.abs(), size if size <= limit));
        self.fault = bad.map(|i| Fault { element: elements.start + i, value: self.values[i] });
        self.bytes.clear();
        if from == to {
            self.bytes.extend_from_slice(data);
        } else if let (Some(format), None) = (&tensor.lattice, self.fault) {
            for block in self.values.chunks_exact(COLS) {
                let kept =
                    Lattice::of(block, from).is_some_and(|lattice| lattice.encode(format, &mut self.bytes));
                if !kept {
                    let start = self.bytes.len();
                    self.bytes.resize(start + to.block_bytes(), 0);
                    to.encode(block, &mut self.bytes[start..]);
                }
            }
        } else if self.fault.is_none() {
            self.bytes.resize(elements.len() / to.block_len() * to.block_bytes(), 0);
            to.encode(&self.values, &mut self.bytes);
        }
    }
}

/// Threads and their buffers, reused for all tensors.
pub(crate) struct Encoder {
    pool: Pool,
    workers: Vec<Worker>,
}

impl Encoder {
    pub(crate) fn new(threads: usize) -> Self {
        let pool = Pool::new(threads);
        let workers = (0..pool.threads()).map(|_| Worker::default()).collect();
        Self { pool, workers }
    }

    /// Writes the encoded tensor. `done` gets each range of source bytes that will not be read again. Returns
    /// the first weight that is not a number or too large, if any.
    pub(crate) fn encode(
        &mut self,
        tensor: &Tensor<'_>,
        out: &mut dyn Write,
        done: &mut dyn FnMut(Range<usize>),
    ) -> io::Result<Option<QuantizeError>> {
        let elements = tensor.source.elements();
        let tile = CHUNK * self.workers.len();
        for start in (0..elements).step_by(tile) {
            let end = elements.min(start + tile);
            self.pool.run_with(&mut self.workers, &|part, worker| {
                let first = end.min(start + part.index * CHUNK);
                worker.encode(tensor, first..end.min(first + CHUNK));
            });
            for worker in &self.workers {
                if let Some(fault) = worker.fault {
                    return Ok(Some(tensor.bad_weight(fault)));
                }
                out.write_all(&worker.bytes)?;
            }
            done(tensor.source_bytes(&(start..end)));
        }
        Ok(None)
    }
}
