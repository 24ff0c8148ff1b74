//! Exact changes of a layer that make its matrices easier to quantize.
//!
//! A channel between a producer and its readers can be made larger in the readers' columns and smaller in the
//! producer by the same factor; the layer computes the same. Columns that share a block then need not be as uneven
//! as training left them (Xiao et al. 2022, arXiv 2211.10438; Lin et al. 2023, arXiv 2306.00978). Rounding a column
//! costs in proportion to its block's largest weight and to the size of its input:
//!
//! ```text
//! s_j = rms(x_j)^a / (max_i |W_ij|)^b        W'_ij = W_ij * s_j        x'_j = x_j / s_j
//! ```
//!
//! Which exponents are best depends on how alike inputs and weights are. Each pair of [`EXPONENTS`] is tried on a
//! sample of the readers' rows, and the one of least realised loss is taken. Factors are powers of two, so that no
//! weight is rounded.
//!
//! Producers are the norms that only this stage reads, the rows of `up` (the other factor of the gated product, or
//! before an activation that a positive factor passes through) and the rows of `v`, whose channels all query heads of a
//! group read; for a convolution, the gate behind it. The residual stream itself cannot be changed: norms see all of it.

use smolt::kernels::Activation;
use smolt::model::{NormPlaces, Spec};

use super::layer::Layer;
use super::stream::Stage;

/// Factors beyond these, relative to their geometric mean, are as likely noise as they are structure.
const LIMIT: f64 = 1024.0;
/// Pairs `(a, b)` that are tried.
const EXPONENTS: [(f64, f64); 9] = [
    (0.0, 0.0),
    (0.25, 0.25),
    (0.5, 0.0),
    (0.0, 0.5),
    (0.25, 0.5),
    (0.5, 0.5),
    (0.0, 1.0),
    (0.25, 1.0),
    (0.5, 1.0),
];

/// The factors of a layer, `[stage][column of the stage's input]`; none where nothing is folded.
pub(super) type Folds = [Vec<f32>; Stage::ALL.len()];

/// Query heads, KV heads and values per head.
#[derive(Clone, Copy, Debug)]
struct Heads {
    query: usize,
    kv: usize,
    dim: usize,
}

impl Heads {
    /// Those of a layer; a convolution counts as one head.
    fn of(layer: &Layer<'_>, spec: &Spec) -> Self {
        match layer.has("attn_output.weight") {
            true => Self { query: spec.heads, kv: spec.kv_heads, dim: spec.head_dim },
            false => Self { query: 1, kv: 1, dim: spec.dim },
        }
    }

    /// The channel of the values that column `column` of the output matrix reads.
    fn source(self, column: usize) -> usize {
        let (head, channel) = (column / self.dim, column % self.dim);
        head / (self.query / self.kv) * self.dim + channel
    }

    /// The first column of the output matrix that reads channel `channel` of the values.
    fn column(self, channel: usize) -> usize {
        channel / self.dim * (self.query / self.kv) * self.dim + channel % self.dim
    }
}

/// What makes the input of a stage, and lets a factor on each of its rows pass to a column there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Producer {
    /// Without `.weight` and `.bias`.
    tensor: &'static str,
    /// The first of its rows; of a norm, of its values.
    first: usize,
}

impl Producer {
    fn of(layer: &Layer<'_>, spec: &Spec, stage: Stage) -> Option<Self> {
        let all = |tensor| Some(Self { tensor, first: 0 });
        let is_before = matches!(spec.family.norm_places, NormPlaces::Pre | NormPlaces::Sandwich);
        let is_own = is_before && !spec.post_norm && !spec.shared_norm;
        let producer = match stage {
            Stage::Attention => all("attn_norm").filter(|_| is_own),
            Stage::FeedForward => all("ffn_norm").filter(|_| is_own),
            // The gate behind a state space has an activation of its own.
            Stage::State => None,
            Stage::Output if spec.clamp.is_some() => None,
            Stage::Output if layer.has("attn_v.weight") => all("attn_v"),
            Stage::Output if layer.has("attn_qkv.weight") => {
                Some(Self { tensor: "attn_qkv", first: spec.query_width() + spec.kv_width() })
            }
            Stage::Output => Some(Self { tensor: "shortconv.in_proj", first: spec.dim }),
            Stage::Down if spec.family.gated || spec.activation == Activation::Relu => all("ffn_up"),
            Stage::Down => None,
        };
        producer.filter(|producer| layer.has(&format!("{}.weight", producer.tensor)))
    }
}

/// The factors to try for a stage, `[column]` each, whose input has root mean squares `sizes`. The first are 1.
pub(super) fn candidates(layer: &Layer<'_>, spec: &Spec, stage: Stage, sizes: &[f64]) -> Vec<Vec<f32>> {
    if Producer::of(layer, spec, stage).is_none() {
        return vec![vec![1.0; sizes.len()]];
    }
    let heads = Heads::of(layer, spec);
    let weights = largest(layer, stage.matrices(), sizes.len());
    let all = EXPONENTS.iter().map(|exponents| {
        if stage != Stage::Output {
            return factors(sizes, &weights, *exponents);
        }
        let channels = heads.kv * heads.dim;
        let (mut inputs, mut most) = (vec![0.0f64; channels], vec![0.0f32; channels]);
        for (column, (size, weight)) in sizes.iter().zip(&weights).enumerate() {
            let source = heads.source(column);
            inputs[source] = inputs[source].hypot(*size);
            most[source] = most[source].max(*weight);
        }
        let shared = factors(&inputs, &most, *exponents);
        (0..sizes.len()).map(|column| shared[heads.source(column)]).collect()
    });
    let mut found: Vec<Vec<f32>> = all.collect();
    found.dedup();
    found
}

/// Folds factors into a layer.
pub(super) fn fold(layer: &mut Layer<'_>, folds: &Folds, spec: &Spec) {
    let heads = Heads::of(layer, spec);
    for (stage, factors) in Stage::ALL.into_iter().zip(folds) {
        let Some(producer) = Producer::of(layer, spec, stage).filter(|_| !factors.is_empty()) else {
            continue;
        };
        stage.matrices().iter().for_each(|reader| layer.scale_columns(reader, &|column| factors[column]));
        let channel =
            |row: usize| 1.0 / factors[if stage == Stage::Output { heads.column(row) } else { row }];
        let channels = if stage == Stage::Output { heads.kv * heads.dim } else { factors.len() };
        let inverse: Vec<f32> = (0..channels).map(channel).collect();
        for part in ["weight", "bias"] {
            layer.scale_rows(&format!("{}.{part}", producer.tensor), producer.first, &inverse);
        }
    }
}

/// Folds as they are remembered: the number of factors of each stage, then the factors.
pub(super) fn to_bytes(folds: &Folds) -> Vec<u8> {
    let stage = |factors: &Vec<f32>| {
        let mut bytes = (factors.len() as u32).to_le_bytes().to_vec();
        bytes.extend(factors.iter().flat_map(|factor| factor.to_le_bytes()));
        bytes
    };
    folds.iter().flat_map(stage).collect()
}

/// The folds of `layers` layers; `None` if these are not their bytes.
pub(super) fn from_bytes(mut bytes: &[u8], layers: usize) -> Option<Vec<Folds>> {
    let mut next = || {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        bytes = rest;
        Some(*word)
    };
    let mut all = vec![Folds::default(); layers];
    for factors in all.iter_mut().flatten() {
        let count = u32::from_le_bytes(next()?);
        for _ in 0..count {
            factors.push(f32::from_le_bytes(next()?));
        }
    }
    bytes.is_empty().then_some(all)
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

/// The factor of each channel.
fn factors(sizes: &[f64], largest: &[f32], (a, b): (f64, f64)) -> Vec<f32> {
    let wish = |(size, largest): (&f64, &f32)| a * size.ln() - b * f64::from(*largest).ln();
    let wishes: Vec<f64> = sizes.iter().zip(largest).map(wish).collect();
    let usable = || wishes.iter().filter(|wish| wish.is_finite());
    let mean = usable().sum::<f64>() / usable().count().max(1) as f64;
    let factor = |wish: &f64| {
        // A channel that is always zero, or that nothing reads.
        if !wish.is_finite() {
            return 1.0;
        }
        let power = (wish - mean).exp().clamp(1.0 / LIMIT, LIMIT).log2().round();
        power.exp2() as f32
    };
    wishes.iter().map(factor).collect()
}

#[cfg(test)]
mod tests {
    use smolt::eval::synthetic::{Shape, Synthetic};
    use smolt::gguf::GgufFile;

    use super::*;
    use crate::calibrate::stream::Stream;

    #[test]
    fn factors_even_out_what_is_uneven() {
        let (sizes, largest) = ([4.0, 1.0, 0.25, 1.0], [0.25, 1.0, 4.0, 1.0]);
        assert_eq!(factors(&sizes, &largest, (0.5, 0.5)), [4.0, 1.0, 0.25, 1.0]);
        assert_eq!(factors(&sizes, &largest, (0.0, 1.0)), [4.0, 1.0, 0.25, 1.0]);
        assert_eq!(factors(&sizes, &largest, (0.0, 0.0)), [1.0; 4]);
        assert_eq!(factors(&[1.0, 0.0, f64::NAN], &[1.0, 1.0, 0.0], (0.5, 0.5)), [1.0, 1.0, 1.0]);
    }

    /// What a layer computes, residuals after it, on a text of 32 tokens.
    fn computed(layer: &Layer<'_>, dim: usize) -> Vec<f32> {
        let start = |i: usize| ((i % dim * 7 + i / dim * 13) % 11) as f32 - 5.0;
        let mut stream = Stream::of((0..32 * dim).map(start).collect(), dim, 16);
        let mut runner = layer.runner(16, 1).unwrap();
        stream.pass_layer(&mut runner);
        let mut all = Vec::new();
        for (tokens, position) in stream.tiles() {
            let mut tile = runner.tile(position, tokens.len()).unwrap();
            stream.enter(&mut tile, &tokens);
            all.extend_from_slice(tile.residual());
        }
        all
    }

    #[test]
    fn a_folded_layer_computes_the_same() {
        let shape = Shape {
            name: "tiny",
            architecture: "llama",
            layers: 1,
            dim: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            rotary_dim: 16,
            hidden: 96,
            vocab: 500,
            context: 64,
            rope_base: 10_000.0,
            norm_eps: 1e-5,
            tied: true,
        };
        let bytes = Synthetic { shape, recipe: "f16".parse().unwrap(), seed: 1 }.to_vec().unwrap();
        let input = GgufFile::from_vec("tiny", bytes).unwrap();
        let spec = crate::calibrate::layer::spec(&input).unwrap();
        let heads = Heads { query: 4, kv: 2, dim: 16 };
        let original = Layer::read(&input, 0).unwrap();
        let expected = computed(&original, 64);
        let power = |i: usize| [0.25f32, 1.0, 4.0, 0.5, 8.0][i * 31 % 5];
        for (stage, width) in Stage::order(&spec).zip([64, 64, 64, 96]) {
            let factor = |column| power(if stage == Stage::Output { heads.source(column) } else { column });
            let mut folds = Folds::default();
            folds[stage as usize] = (0..width).map(factor).collect();
            let mut folded = original.clone();
            fold(&mut folded, &folds, &spec);
            for name in stage.matrices().iter().filter(|name| original.has(name)) {
                assert_ne!(folded.values(name), original.values(name), "{name}");
            }
            let found = computed(&folded, 64);
            let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Halves of the cache are rounded the same, but for those below the normal range.
            assert!(largest < 1e-4, "{stage:?}: {largest}");
        }
    }

    #[test]
    fn folds_are_remembered() {
        let folds = vec![[vec![1.0, 0.5], vec![], vec![2.0], vec![], vec![]], Folds::default()];
        let bytes: Vec<u8> = folds.iter().flat_map(to_bytes).collect();
        assert_eq!(from_bytes(&bytes, 2), Some(folds));
        for wrong in [&bytes[1..], &bytes[..bytes.len() - 1], &[]] {
            assert_eq!(from_bytes(wrong, 2), None);
        }
        assert_eq!(from_bytes(&bytes, 1), None);
    }

    #[test]
    fn query_heads_of_a_group_read_one_channel() {
        let heads = Heads { query: 6, kv: 3, dim: 48 };
        assert_eq!([0, 48, 96, 144, 143].map(|column| heads.source(column)), [0, 0, 48, 48, 95]);
    }
}
