//! Streams a tensor of floating-point numbers into the output, in tiles of a fixed size.

use std::io::Write;

use half::{bf16, f16};
use safetensors::Dtype;
use smolt::blocks::BlockType;

use super::ConvertError;
use super::shards::{Entry, Shards};

/// Bytes read at a time, unless a row is longer.
const TILE_BYTES: u64 = 1 << 20;

/// Order of the rows of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    /// That of the source.
    Same,
    /// Heads of `head_dim` rows, reordered so that value `i`, which rotates with `i + head_dim/2`, lies beside it.
    Rotary { head_dim: u64 },
    /// Each of the heads has `head_dim` query, key and value rows; all queries come first, then keys, then values.
    ByPart { heads: u64, head_dim: u64 },
}

impl RowOrder {
    /// The row of the source that becomes `row`.
    pub(super) fn source(self, row: u64) -> u64 {
        match self {
            Self::Same => row,
            Self::Rotary { head_dim } => {
                let within = row % head_dim;
                row - within + within % 2 * (head_dim / 2) + within / 2
            }
            Self::ByPart { heads, head_dim } => {
                let (part, head) = (row / (heads * head_dim), row / head_dim % heads);
                (head * 3 + part) * head_dim + row % head_dim
            }
        }
    }
}

/// What is done to each number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// They stay.
    Same,
    /// 1 is added.
    PlusOne,
    /// `x` becomes `-exp(x)`.
    NegativeExp,
    /// They are multiplied by factors; each is that of the rows of the source before an end.
    Scaled(Vec<(u64, f32)>),
}

impl Values {
    /// Changes values of one row of the source.
    fn apply(&self, row: u64, values: &mut [f32]) {
        match self {
            Self::Same => {}
            Self::PlusOne => values.iter_mut().for_each(|x| *x += 1.0),
            Self::NegativeExp => values.iter_mut().for_each(|x| *x = -x.exp()),
            Self::Scaled(factors) => {
                let factor = factors.iter().find(|(end, _)| row < *end).map_or(1.0, |(_, factor)| *factor);
                values.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }
}

/// How the output is made from the source.
#[derive(Clone, Debug)]
pub(super) struct Making {
    /// Rows and columns of the output.
    pub(super) rows: u64,
    pub(super) cols: u64,
    pub(super) order: RowOrder,
    pub(super) values: Values,
    /// First rows of the source that are not used.
    pub(super) skipped: u64,
    /// Rows of the output are columns of the source.
    pub(super) transposed: bool,
}

/// A tensor of floating-point numbers, in one dimension or two.
#[derive(Debug)]
pub(super) struct Floats {
    entry: Entry,
    dtype: BlockType,
    making: Making,
}

impl Floats {
    /// Refuses types that are not F32, F16 or BF16. The source must have the shape that `making` implies.
    pub(super) fn new(shards: &Shards, entry: Entry, making: Making) -> Result<Self, ConvertError> {
        let dtype = float_type(shards, &entry)?;
        Ok(Self { entry, dtype, making })
    }

    /// Bytes of the source that are used.
    pub(super) fn bytes(&self) -> u64 {
        self.making.rows * self.row_bytes()
    }

    fn row_bytes(&self) -> u64 {
        self.making.cols * self.dtype.block_bytes() as u64
    }

    /// Writes the tensor as `to`. `done` gets the bytes of the source read since the call before.
    pub(super) fn write(
        &self,
        shards: &Shards,
        to: BlockType,
        out: &mut dyn Write,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), StreamError> {
        let Making { rows, cols, .. } = self.making;
        let held = if self.making.transposed { self.held(shards)? } else { Vec::new() };
        let most = match self.making.order {
            RowOrder::Same => (TILE_BYTES / self.row_bytes()).max(1),
            _ => 1,
        };
        let (mut bytes, mut values, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = 0;
        while row < rows {
            let count = most.min(rows - row);
            let source = self.making.order.source(row) + self.making.skipped;
            values.resize((count * cols) as usize, 0.0);
            if self.making.transposed {
                gather(&held, (rows, cols), row, &mut values);
            } else {
                bytes.resize((count * self.row_bytes()) as usize, 0);
                shards.read(&self.entry, source * self.row_bytes(), &mut bytes)?;
                self.dtype.decode(&bytes, &mut values);
            }
            for (i, values) in values.chunks_exact_mut(cols as usize).enumerate() {
                self.making.values.apply(source + i as u64, values);
            }
            if let Some(bad) = values.iter().position(|value| !holds(to, *value)) {
                return Err(self.bad_weight(shards, to, (source, bad as u64), values[bad]).into());
            }
            encoded.resize(values.len() * to.block_bytes(), 0);
            to.encode(&values, &mut encoded);
            out.write_all(&encoded).map_err(StreamError::Write)?;
            done(count * self.row_bytes());
            row += count;
        }
        Ok(())
    }

    /// The numbers of the whole source.
    fn held(&self, shards: &Shards) -> Result<Vec<f32>, ConvertError> {
        let bytes = shards.read_all(&self.entry)?;
        let mut values = vec![0.0; bytes.len() / self.dtype.block_bytes()];
        self.dtype.decode(&bytes, &mut values);
        Ok(values)
    }

    fn bad_weight(
        &self,
        shards: &Shards,
        block_type: BlockType,
        (row, offset): (u64, u64),
        value: f32,
    ) -> ConvertError {
        let (file, tensor) = (shards.file_of(&self.entry), self.entry.name.clone());
        let (row, col) = (row + offset / self.making.cols, offset % self.making.cols);
        let (row, col) = if self.making.transposed { (col, row) } else { (row, col) };
        let advice =
            if value.is_finite() { "pass --type bf16 or --type f32" } else { "the model is damaged" };
        ConvertError::BadWeight { file, tensor, row, col, value, block_type, advice }
    }
}

/// The block type of a tensor's numbers.
pub(super) fn float_type(shards: &Shards, entry: &Entry) -> Result<BlockType, ConvertError> {
    match entry.dtype {
        Dtype::F32 => Ok(BlockType::F32),
        Dtype::F16 => Ok(BlockType::F16),
        Dtype::BF16 => Ok(BlockType::BF16),
        found => Err(ConvertError::TensorType {
            file: shards.file_of(entry),
            tensor: entry.name.clone(),
            expected: "F32, F16 or BF16",
            found,
        }),
    }
}

/// Rows of the output from `row` on, which are columns of `held`.
fn gather(held: &[f32], (rows, cols): (u64, u64), row: u64, values: &mut [f32]) {
    let (rows, cols, row) = (rows as usize, cols as usize, row as usize);
    for (i, values) in values.chunks_exact_mut(cols).enumerate() {
        for (value, source) in values.iter_mut().zip(held.chunks_exact(rows)) {
            *value = source[row + i];
        }
    }
}

/// Whether a number stays finite as this type.
fn holds(block_type: BlockType, value: f32) -> bool {
    match block_type {
        BlockType::F16 => f16::from_f32(value).is_finite(),
        BlockType::BF16 => bf16::from_f32(value).is_finite(),
        _ => value.is_finite(),
    }
}

/// Why a tensor was not written.
#[derive(Debug)]
pub(super) enum StreamError {
    /// The source is at fault.
    Source(ConvertError),
    /// The output is.
    Write(std::io::Error),
}

impl From<ConvertError> for StreamError {
    fn from(error: ConvertError) -> Self {
        Self::Source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_rotate_together_become_neighbours() {
        let order: Vec<_> = (0..12).map(|row| RowOrder::Rotary { head_dim: 6 }.source(row)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn queries_keys_and_values_of_heads_are_parted() {
        let order: Vec<_> =
            (0..12).map(|row| RowOrder::ByPart { heads: 2, head_dim: 2 }.source(row)).collect();
        assert_eq!(order, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    }

    #[test]
    fn rows_of_a_transposed_matrix_are_columns() {
        let held = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut values = [0.0; 4];
        gather(&held, (3, 2), 1, &mut values);
        assert_eq!(values, [2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn numbers_beyond_a_type_are_found() {
        assert!(holds(BlockType::F16, 65_519.0) && !holds(BlockType::F16, 65_520.0));
        assert!(!holds(BlockType::F32, f32::NAN) && !holds(BlockType::BF16, f32::NEG_INFINITY));
        assert!(!holds(BlockType::BF16, f32::MAX) && holds(BlockType::F32, f32::MAX));
    }
}
