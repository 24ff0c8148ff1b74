//! A product to be timed, for the benchmark of the kernels.

use super::ops::{Executor, Input, Limits, Output};
use super::{Forms, KernelError, Kernels, KvShape, KvType, PackedMatrix, PackedShape, sample};
use crate::blocks::BlockType;
use crate::runtime::AllocError;

/// Most rows and columns, so that no size overflows.
const MOST: usize = 1 << 20;

/// A packed matrix with an input and an output.
pub struct Product {
    shape: PackedShape,
    packed: Vec<u8>,
    input: Vec<f32>,
    out: Vec<f32>,
    executor: Executor,
}

/// Why there is no such product.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The weights cannot be packed.
    #[error(transparent)]
    Pack(#[from] KernelError),
    /// There is no memory for it.
    #[error(transparent)]
    Memory(#[from] AllocError),
}

impl Product {
    /// Packs a matrix of `rows` by `cols` values of `next`, which are between -0.5 and 0.5, to be multiplied with up to
    /// `tokens` inputs, likewise. Of a type that is only read the values are whatever its blocks can be.
    ///
    /// # Errors
    /// If the columns are no whole blocks, a size is 0 or out of range, or there is no memory.
    pub fn new(
        kernels: &'static Kernels,
        block_type: BlockType,
        [rows, cols, tokens]: [usize; 3],
        next: &mut dyn FnMut() -> f32,
    ) -> Result<Self, TrialError> {
        let bytes = block_type
            .row_bytes(cols)
            .filter(|_| [rows, cols, tokens].iter().all(|n| (1..=MOST).contains(n)));
        let bytes = bytes.ok_or(KernelError::Columns { block_type, cols })?;
        let shape = PackedShape { block_type, rows, cols, packing: kernels.packing };
        let (mut packed, mut native) = (vec![0; shape.bytes()], vec![0; bytes]);
        for row in 0..rows {
            if block_type.is_written() {
                let values: Vec<f32> = (0..cols).map(|_| next()).collect();
                block_type.encode(&values, &mut native);
            } else {
                for block in native.chunks_exact_mut(block_type.block_bytes()) {
                    sample::fill_block(block_type, block, &mut |block| random_bytes(block, next));
                }
            }
            shape.pack_rows(&native, row, &mut packed)?;
        }
        let kv = KvShape { kind: KvType::F16, heads: 1, dim: 16, positions: 16 };
        let limits = Limits { tokens, cols, forms: Forms::default().with(&shape), kv, heads: 1 };
        let input = (0..tokens * cols).map(|_| next()).collect();
        let executor = Executor::new(kernels, 1, &limits)?;
        Ok(Self { shape, packed, input, out: vec![0.0; tokens * rows], executor })
    }

    /// Multiplies the first `tokens` inputs.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn run(&mut self, tokens: usize) -> &[f32] {
        let PackedShape { rows, cols, .. } = self.shape;
        let input = Input { rows: &self.input[..tokens * cols], dim: cols, norm: None };
        let weights = PackedMatrix::new(self.shape, &self.packed);
        let out = &mut self.out[..tokens * rows];
        self.executor.linear(&input, &mut [Output { weights, bias: None, out, accumulate: false }]);
        &self.out[..tokens * rows]
    }

    /// Returns the bytes of the packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.packed.len()
    }
}

/// Fills `bytes` from numbers between -0.5 and 0.5.
fn random_bytes(bytes: &mut [u8], next: &mut dyn FnMut() -> f32) {
    // The cast saturates.
    bytes.fill_with(|| ((next() + 0.5) * 256.0) as u8);
}
