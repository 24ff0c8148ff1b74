//! Exact changes of a layer that make its matrices easier to quantize.
//!
//! A channel between a producer and its readers can be made larger in the readers' columns and smaller in the
//! producer by the same factor; the layer computes the same. Columns that share a block then need not be as uneven
//! as training left them (Xiao et al. 2022, arXiv 2211.10438; Lin et al. 2023, arXiv 2306.00978). Rounding a column
//! costs in proportion to its block's largest weight and to the size of its input; with
//!
//! ```text
//! s_j = (rms(x_j) / max_i |W_ij|)^e        W'_ij = W_ij * s_j        x'_j = x_j / s_j
//! ```
//!
//! and `e = 1/2`, columns with large inputs get large weights, and both become as even as they can be together.
//!
//! Producers are the norms, the rows of `up` (the other factor of the gated product) and the rows of `v`, whose
//! channels all query heads of a group read. The residual stream itself cannot be changed: norms see all of it.

use super::layer::Layer;
use super::stream::Stage;

/// Factors beyond these, relative to their geometric mean, are as likely noise as they are structure.
const LIMIT: f64 = 1024.0;

/// Root mean squares of the inputs of a layer's matrices, `[column]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    pub(super) attention: Vec<f64>,
    pub(super) output: Vec<f64>,
    pub(super) feed_forward: Vec<f64>,
    pub(super) down: Vec<f64>,
}

impl Sizes {
    pub(super) fn at(&mut self, stage: Stage) -> &mut Vec<f64> {
        match stage {
            Stage::Attention => &mut self.attention,
            Stage::Output => &mut self.output,
            Stage::FeedForward => &mut self.feed_forward,
            Stage::Down => &mut self.down,
        }
    }
}

/// Query heads, KV heads and values per head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub(super) query: usize,
    pub(super) kv: usize,
    pub(super) dim: usize,
}

impl Heads {
    /// The channel of the values that column `column` of the output matrix reads.
    fn source(self, column: usize) -> usize {
        let (head, channel) = (column / self.dim, column % self.dim);
        head / (self.query / self.kv) * self.dim + channel
    }
}

/// Folds the factors for `sizes` into a layer.
pub(super) fn fold(layer: &mut Layer<'_>, sizes: &Sizes, heads: Heads, exponent: f64) {
    for (norm, sizes, readers) in [
        ("attn_norm.weight", &sizes.attention, &["attn_q.weight", "attn_k.weight", "attn_v.weight"][..]),
        ("ffn_norm.weight", &sizes.feed_forward, &["ffn_gate.weight", "ffn_up.weight"]),
    ] {
        let factors = factors(sizes, &largest(layer, readers, sizes.len()), exponent);
        layer.scale_rows(norm, &|row| 1.0 / factors[row]);
        readers.iter().for_each(|reader| layer.scale_columns(reader, &|column| factors[column]));
    }
    let factors_of_down =
        factors(&sizes.down, &largest(layer, &["ffn_down.weight"], sizes.down.len()), exponent);
    ["ffn_up.weight", "ffn_up.bias"]
        .iter()
        .for_each(|name| layer.scale_rows(name, &|row| 1.0 / factors_of_down[row]));
    layer.scale_columns("ffn_down.weight", &|column| factors_of_down[column]);

    let columns = largest(layer, &["attn_output.weight"], sizes.output.len());
    let (mut inputs, mut weights) = (vec![0.0; heads.kv * heads.dim], vec![0.0f32; heads.kv * heads.dim]);
    for (column, (size, largest)) in sizes.output.iter().zip(&columns).enumerate() {
        let source = heads.source(column);
        inputs[source] += size * size;
        weights[source] = weights[source].max(*largest);
    }
    let group = (heads.query / heads.kv) as f64;
    inputs.iter_mut().for_each(|sum| *sum = (*sum / group).sqrt());
    let factors_of_output = factors(&inputs, &weights, exponent);
    ["attn_v.weight", "attn_v.bias"]
        .iter()
        .for_each(|name| layer.scale_rows(name, &|row| 1.0 / factors_of_output[row]));
    layer.scale_columns("attn_output.weight", &|column| factors_of_output[heads.source(column)]);
}

/// The largest magnitude in each column of the matrices.
fn largest(layer: &Layer<'_>, names: &[&str], cols: usize) -> Vec<f32> {
    let mut largest = vec![0.0f32; cols];
    for values in names.iter().filter_map(|name| layer.values(name)) {
        for row in values.chunks_exact(cols) {
            largest.iter_mut().zip(row).for_each(|(most, value)| *most = most.max(value.abs()));
        }
    }
    largest
}

/// The factor of each channel: powers of two, so that no weight is rounded.
fn factors(sizes: &[f64], largest: &[f32], exponent: f64) -> Vec<f32> {
    let ratio = |(size, largest): (&f64, &f32)| size / f64::from(*largest);
    let ratios: Vec<f64> = sizes.iter().zip(largest).map(ratio).collect();
    let usable: Vec<f64> = ratios.iter().copied().filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect();
    let mean = usable.iter().map(|ratio| ratio.ln()).sum::<f64>() / usable.len().max(1) as f64;
    let factor = |ratio: &f64| {
        let relative = (ratio.ln() - mean).exp();
        if !relative.is_finite() || relative == 0.0 {
            return 1.0;
        }
        let power = relative.clamp(1.0 / LIMIT, LIMIT).powf(exponent).log2().round();
        power.exp2() as f32
    };
    ratios.iter().map(factor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_even_out_what_is_uneven() {
        let found = factors(&[4.0, 1.0, 0.25, 1.0], &[0.25, 1.0, 4.0, 1.0], 0.5);
        assert_eq!(found, [4.0, 1.0, 0.25, 1.0]);
        assert_eq!(factors(&[1.0, 0.0, f64::NAN], &[1.0, 1.0, 0.0], 0.5), [1.0, 1.0, 1.0]);
        assert_eq!(factors(&[16.0, 1.0, 1.0, 1.0], &[1.0; 4], 0.0), [1.0; 4]);
    }

    #[test]
    fn query_heads_of_a_group_read_one_channel() {
        let heads = Heads { query: 6, kv: 3, dim: 48 };
        assert_eq!([0, 48, 96, 144, 143].map(|column| heads.source(column)), [0, 0, 48, 48, 95]);
    }
}
