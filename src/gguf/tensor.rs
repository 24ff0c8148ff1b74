//! Description of one tensor and the checks of its shape.

use super::{GgufError, MAX_DIMS, MAX_ELEMENTS};
use crate::blocks::BlockType;

/// Name, shape and place of a tensor. The data is row major: rows follow each other, each a whole number of
/// blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the file.
    pub name: String,
    /// Extent of each axis, innermost (columns) first; 1 to 4 axes, each at least 1.
    pub shape: Vec<u64>,
    /// Storage type.
    pub block_type: BlockType,
    /// Bytes from the start of the tensor data.
    pub offset: u64,
    /// Bytes of the data.
    pub bytes: u64,
    /// Number of the file that holds it, from 0; above 0 only in models that are split over several.
    pub part: usize,
}

impl TensorInfo {
    /// A tensor at `offset`; `file` is for messages.
    ///
    /// # Errors
    /// If the shape has no or too many axes, an axis of 0, too many elements, or rows that are not whole blocks.
    pub(super) fn checked(
        file: &str,
        name: &str,
        shape: Vec<u64>,
        block_type: BlockType,
        offset: u64,
    ) -> Result<Self, GgufError> {
        let mut info = Self { name: name.to_owned(), shape, block_type, offset, bytes: 0, part: 0 };
        info.bytes = info.checked_bytes(file)?;
        Ok(info)
    }

    fn checked_bytes(&self, file: &str) -> Result<u64, GgufError> {
        let (file, tensor, shape) = (file.to_owned(), self.name.clone(), self.shape.clone());
        if shape.is_empty() || shape.len() as u64 > u64::from(MAX_DIMS) {
            return Err(GgufError::DimensionCount { file, tensor, found: shape.len() as u64 });
        }
        if shape.contains(&0) {
            return Err(GgufError::ZeroDimension { file, tensor, shape });
        }
        let elements = shape.iter().try_fold(1u64, |product, axis| product.checked_mul(*axis));
        let Some(elements) = elements.filter(|n| *n <= MAX_ELEMENTS && usize::try_from(*n).is_ok()) else {
            return Err(GgufError::TooManyElements { file, tensor, shape });
        };
        let (block_len, block_bytes) = (self.block_type.block_len(), self.block_type.block_bytes());
        if !shape[0].is_multiple_of(block_len as u64) {
            return Err(GgufError::RowLength { file, tensor, block_type: self.block_type, cols: shape[0] });
        }
        // At most MAX_ELEMENTS times the bytes of a block, far from the end of u64.
        Ok(elements / block_len as u64 * block_bytes as u64)
    }

    /// Elements of a row.
    pub fn cols(&self) -> usize {
        to_usize(self.shape.first().copied().unwrap_or(1))
    }

    /// Rows: the product of all axes but the first.
    pub fn rows(&self) -> usize {
        to_usize(self.shape.iter().skip(1).product())
    }

    /// Elements in all.
    pub fn elements(&self) -> usize {
        to_usize(self.shape.iter().product())
    }
}

/// Exact for tensors of a file or writer: their element count fits.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
