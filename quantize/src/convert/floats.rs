//! Streams a tensor of floating-point numbers into the output, in tiles of a fixed size.

use std::io::Write;

use half::{bf16, f16};
use safetensors::Dtype;
use smolt::blocks::BlockType;

use super::ConvertError;
use super::shards::{Entry, Shards};

/// Bytes read at a time, unless a row is longer.
const TILE_BYTES: u64 = 1 << 20;

/// A tensor of floating-point numbers, in one dimension or two.
#[derive(Debug)]
pub(super) struct Floats {
    entry: Entry,
    dtype: BlockType,
    /// Heads whose rows are reordered for adjacent rotary pairs.
    heads: Option<u64>,
}

impl Floats {
    /// Refuses types that are not F32, F16 or BF16.
    pub(super) fn new(shards: &Shards, entry: Entry, heads: Option<u64>) -> Result<Self, ConvertError> {
        let dtype = float_type(shards, &entry)?;
        Ok(Self { entry, dtype, heads })
    }

    /// Bytes of the source.
    pub(super) fn bytes(&self) -> u64 {
        self.entry.bytes
    }

    fn rows(&self) -> u64 {
        self.entry.shape.first().copied().unwrap_or(1)
    }

    fn cols(&self) -> u64 {
        self.entry.shape.get(1..).map_or(1, |rest| rest.iter().product())
    }

    /// Writes the tensor as `to`. `done` gets the bytes of the source read since the call before.
    pub(super) fn write(
        &self,
        shards: &Shards,
        to: BlockType,
        out: &mut dyn Write,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), StreamError> {
        let (rows, cols) = (self.rows(), self.cols());
        let row_bytes = cols * self.dtype.block_bytes() as u64;
        let most = if self.heads.is_some() { 1 } else { (TILE_BYTES / row_bytes).max(1) };
        let (mut bytes, mut values, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = 0;
        while row < rows {
            let count = most.min(rows - row);
            let source = self.heads.map_or(row, |heads| rotary_source(row, rows / heads));
            bytes.resize((count * row_bytes) as usize, 0);
            shards.read(&self.entry, source * row_bytes, &mut bytes)?;
            values.resize((count * cols) as usize, 0.0);
            self.dtype.decode(&bytes, &mut values);
            if let Some(bad) = values.iter().position(|value| !holds(to, *value)) {
                return Err(self.bad_weight(shards, to, (source, bad as u64), values[bad]).into());
            }
            encoded.resize(values.len() * to.block_bytes(), 0);
            to.encode(&values, &mut encoded);
            out.write_all(&encoded).map_err(StreamError::Write)?;
            done(bytes.len() as u64);
            row += count;
        }
        Ok(())
    }

    fn bad_weight(
        &self,
        shards: &Shards,
        block_type: BlockType,
        (row, offset): (u64, u64),
        value: f32,
    ) -> ConvertError {
        let (file, tensor) = (shards.file_of(&self.entry), self.entry.name.clone());
        let (row, col) = (row + offset / self.cols(), offset % self.cols());
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

/// The row that becomes `row` where heads of `head_dim` rows are reordered so that value `i`, which rotates with
/// `i + head_dim/2`, lies beside it.
pub(super) fn rotary_source(row: u64, head_dim: u64) -> u64 {
    let within = row % head_dim;
    row - within + within % 2 * (head_dim / 2) + within / 2
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
        let order: Vec<_> = (0..12).map(|row| rotary_source(row, 6)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn numbers_beyond_a_type_are_found() {
        assert!(holds(BlockType::F16, 65_519.0) && !holds(BlockType::F16, 65_520.0));
        assert!(!holds(BlockType::F32, f32::NAN) && !holds(BlockType::BF16, f32::NEG_INFINITY));
        assert!(!holds(BlockType::BF16, f32::MAX) && holds(BlockType::F32, f32::MAX));
    }
}
