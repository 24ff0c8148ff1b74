//! How far the weights of a quantized file are from the original's.

use serde::Serialize;
use smolt::gguf::{GgufFile, TensorInfo};

use super::unfold::{Factors, Unfolded};

/// How far a tensor is from the original.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorError {
    /// Name.
    pub name: String,
    /// Type in the quantized file.
    #[serde(rename = "type")]
    pub block_type: &'static str,
    /// Sum of squared differences divided by the sum of squares, without the exact factors that calibration folds
    /// between adjacent matrices.
    pub relative_square: f64,
}

/// Errors of all tensors that both files have in one shape, the largest first, equal ones by name.
pub(super) fn errors(base: &GgufFile, other: &GgufFile, unfolded: &Unfolded) -> Vec<TensorError> {
    let shared = other.tensors().iter().filter_map(|tensor| {
        let original = base.tensor(&tensor.name).filter(|original| original.shape == tensor.shape)?;
        Some(TensorError {
            name: tensor.name.clone(),
            block_type: tensor.block_type.name(),
            relative_square: error((base, original), (other, tensor), &unfolded.of(&tensor.name))?,
        })
    });
    let mut errors: Vec<TensorError> = shared.collect();
    errors.sort_by(|a, b| b.relative_square.total_cmp(&a.relative_square).then_with(|| a.name.cmp(&b.name)));
    errors
}

fn error(
    (base, original): (&GgufFile, &TensorInfo),
    (other, tensor): (&GgufFile, &TensorInfo),
    factors: &Factors,
) -> Option<f64> {
    let columns = tensor.cols();
    let (mut a, mut b) = (vec![0.0; columns], vec![0.0; columns]);
    let (mut difference, mut size) = (0.0, 0.0);
    let row_bytes = |bytes: usize| bytes / tensor.rows();
    let (data, original_data) = (other.data(tensor).ok()?, base.data(original).ok()?);
    let rows = data
        .chunks_exact(row_bytes(data.len()))
        .zip(original_data.chunks_exact(row_bytes(original_data.len())));
    let is_vector = tensor.shape.len() == 1;
    for (row, (bytes, original_bytes)) in rows.enumerate() {
        tensor.block_type.decode(bytes, &mut a);
        original.block_type.decode(original_bytes, &mut b);
        for (column, (a, b)) in a.iter().zip(&b).enumerate() {
            let factor =
                if is_vector { factors.row(column) } else { factors.row(row) * factors.column(column) };
            difference += f64::from(a * factor - b).powi(2);
            size += f64::from(*b).powi(2);
        }
    }
    Some(if size > 0.0 { difference / size } else { 0.0 })
}
