//! Undoes the factors that calibrated quantization folds between adjacent matrices.
//!
//! Multiplying a channel by a power of two where it is made and dividing it where it is read changes the weights and
//! not the function (see `calibrate`). Weights of the two files can be compared only without these factors. What is
//! looked for is exactly what leaves the function as it is:
//!
//! ```text
//! norms      a norm's weights divided, the columns of the matrices that read it multiplied
//! up, down   the rows of `up` divided, the columns of `down` multiplied
//! v, output  the rows of `v` divided, the columns of `attn_output` of all heads that read the channel multiplied
//! ```
//!
//! Norms are not quantized, so their factors are the ratios of their weights. Between two matrices the factor of a
//! channel is the power of two for which the relative squared errors of its row and of its columns together are least;
//! a wrong one costs at least 1/4 of their squares, far more than rounding does (of a channel that is rounded to nothing,
//! the factor that flatters it most is taken). A channel that is scaled on one side
//! only keeps its error: nothing is undone that would change the function.

use std::collections::HashMap;

use smolt::gguf::GgufFile;
use smolt::model::Spec;

/// Largest exponent of a factor.
const MOST: i32 = 24;
/// How far the ratio of two norm weights may be from a power of two, relative to it: they may be stored in 16 bits.
const NORM_TOLERANCE: f64 = 1.0 / 64.0;

/// What the weights of a quantized tensor are to be multiplied by before they are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Factors {
    /// `[row]`; none are 1. A vector's elements are rows.
    rows: Vec<f32>,
    /// `[column]`; none are 1.
    columns: Vec<f32>,
}

impl Factors {
    pub(super) fn row(&self, row: usize) -> f32 {
        self.rows.get(row).copied().unwrap_or(1.0)
    }

    pub(super) fn column(&self, column: usize) -> f32 {
        self.columns.get(column).copied().unwrap_or(1.0)
    }
}

/// The factors of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Unfolded {
    factors: HashMap<String, Factors>,
    channels: usize,
}

impl Unfolded {
    /// The factors of a tensor.
    pub(super) fn of(&self, tensor: &str) -> Factors {
        self.factors.get(tensor).cloned().unwrap_or_default()
    }

    /// Channels with a factor other than 1.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Notes the factor by which each channel was multiplied where it is read.
    fn note(&mut self, layer: usize, folds: &[f32], producers: &[(&str, &[f32])], readers: &[&str]) {
        let made = producers.first().map_or(folds, |(_, rows)| rows);
        self.channels += made.iter().filter(|fold| **fold != 1.0).count();
        for (name, rows) in producers {
            self.entry(layer, name).rows = rows.to_vec();
        }
        for name in readers {
            self.entry(layer, name).columns = folds.iter().map(|fold| fold.recip()).collect();
        }
    }

    fn entry(&mut self, layer: usize, name: &str) -> &mut Factors {
        self.factors.entry(format!("blk.{layer}.{name}")).or_default()
    }
}

/// A tensor in both files.
struct Pair {
    base: Vec<f32>,
    other: Vec<f32>,
    columns: usize,
}

/// Sums over the weights of one channel.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    base: f64,
    other: f64,
    product: f64,
}

impl Sums {
    fn add(&mut self, base: f32, other: f32) {
        let (base, other) = (f64::from(base), f64::from(other));
        self.base += base * base;
        self.other += other * other;
        self.product += base * other;
    }

    /// The relative squared error if the other's weights are multiplied by `factor`.
    fn error(&self, factor: f64) -> f64 {
        if self.base == 0.0 {
            return 0.0;
        }
        (factor * factor * self.other - 2.0 * factor * self.product) / self.base + 1.0
    }
}

/// Finds the factors of `other`, which has the shape of `base`.
pub(super) fn find(base: &GgufFile, other: &GgufFile, spec: &Spec) -> Unfolded {
    let mut found = Unfolded::default();
    // A channel of the values is read by all query heads of its group.
    let (dim, group) = (spec.head_dim, spec.heads / spec.kv_heads);
    let source = |column: usize| column / dim / group * dim + column % dim;
    for layer in 0..spec.layers {
        let pair = |name: &str| Pair::read(base, other, &format!("blk.{layer}.{name}"));
        for (norm, readers) in [
            ("attn_norm.weight", ["attn_q.weight", "attn_k.weight", "attn_v.weight"].as_slice()),
            ("ffn_norm.weight", &["ffn_gate.weight", "ffn_up.weight"]),
        ] {
            let Some(norms) = pair(norm) else { continue };
            let folds: Vec<f32> =
                norms.base.iter().zip(&norms.other).map(|(a, b)| norm_factor(*a, *b)).collect();
            found.note(layer, &folds, &[(norm, &folds)], readers);
        }
        for (producer, bias, reader, source) in [
            (
                "ffn_up.weight",
                "ffn_up.bias",
                "ffn_down.weight",
                &(|column| column) as &dyn Fn(usize) -> usize,
            ),
            ("attn_v.weight", "attn_v.bias", "attn_output.weight", &source),
        ] {
            let (Some(rows), Some(columns)) = (pair(producer), pair(reader)) else { continue };
            let known = found.of(&format!("blk.{layer}.{producer}"));
            let folds = channel_factors(&rows, &known, &columns, source);
            let read: Vec<f32> = (0..columns.columns).map(|column| folds[source(column)]).collect();
            found.note(layer, &read, &[(producer, &folds), (bias, &folds)], &[reader]);
        }
    }
    found
}

impl Pair {
    /// `None` unless both files have the tensor in one shape.
    fn read(base: &GgufFile, other: &GgufFile, name: &str) -> Option<Self> {
        let (base_tensor, other_tensor) = (base.tensor(name)?, other.tensor(name)?);
        let values = |file: &GgufFile, tensor: &smolt::gguf::TensorInfo| {
            let mut values = vec![0.0; tensor.elements()];
            tensor.block_type.decode(file.data(tensor).ok()?, &mut values);
            Some(values)
        };
        let columns = base_tensor.cols();
        if base_tensor.shape != other_tensor.shape {
            return None;
        }
        Some(Self { base: values(base, base_tensor)?, other: values(other, other_tensor)?, columns })
    }

    /// Calls `visit(row, column, base, other)` for each weight.
    fn each(&self, mut visit: impl FnMut(usize, usize, f32, f32)) {
        for (index, (base, other)) in self.base.iter().zip(&self.other).enumerate() {
            visit(index / self.columns, index % self.columns, *base, *other);
        }
    }
}

/// The power of two by which a norm's weight was divided; 1 if it changed otherwise.
fn norm_factor(base: f32, other: f32) -> f32 {
    let ratio = f64::from(base) / f64::from(other);
    if !(ratio.is_finite() && ratio > 0.0) {
        return 1.0;
    }
    let power = ratio.log2().round();
    let is_exact = (ratio / power.exp2() - 1.0).abs() <= NORM_TOLERANCE;
    if is_exact && power.abs() <= f64::from(MOST) { power.exp2() as f32 } else { 1.0 }
}

/// The power of two by which each channel was divided in the rows of `producer` and multiplied in the columns of
/// `reader`. Column `c` reads channel `source(c)`; `known` are the factors of the producer's columns.
fn channel_factors(
    producer: &Pair,
    known: &Factors,
    reader: &Pair,
    source: &dyn Fn(usize) -> usize,
) -> Vec<f32> {
    let channels = producer.base.len() / producer.columns.max(1);
    let mut sums = vec![(Sums::default(), Sums::default()); channels];
    producer.each(|row, column, base, other| sums[row].0.add(base, other * known.column(column)));
    reader.each(|_, column, base, other| sums[source(column)].1.add(base, other));
    sums.iter().map(|(made, read)| least(|factor| made.error(factor) + read.error(factor.recip()))).collect()
}

/// The power of two of the least error; of equal ones the closest to 1.
fn least(error: impl Fn(f64) -> f64) -> f32 {
    let powers = (1..=MOST).flat_map(|power| [power, -power]);
    let mut best = (error(1.0), 1.0);
    for factor in powers.map(|power| f64::from(power).exp2()) {
        let error = error(factor);
        if error < best.0 {
            best = (error, factor);
        }
    }
    best.1 as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt::blocks::BlockType;
    use smolt::eval::synthetic::{Shape, Synthetic};
    use smolt::gguf::GgufWriter;

    const SHAPE: Shape = Shape {
        name: "tiny",
        architecture: "llama",
        layers: 2,
        dim: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        rotary_dim: 32,
        hidden: 96,
        vocab: 300,
        context: 64,
        rope_base: 10_000.0,
        norm_eps: 1e-5,
        tied: true,
    };

    fn base() -> GgufFile {
        let bytes = Synthetic { shape: SHAPE, recipe: "f32".parse().unwrap(), seed: 1 }.to_vec().unwrap();
        GgufFile::from_vec("base", bytes).unwrap()
    }

    /// Every weight of the layers times `factor(tensor without its layer, row, column)`, rounded to `block_type`.
    fn changed(
        file: &GgufFile,
        block_type: BlockType,
        factor: &dyn Fn(&str, usize, usize) -> f32,
    ) -> GgufFile {
        let mut writer = GgufWriter::new();
        writer.copy_metadata(file, |_| true);
        for tensor in file.tensors() {
            let block_type = if tensor.shape.len() > 1 { block_type } else { BlockType::F32 };
            writer.add_tensor(&tensor.name, &tensor.shape, block_type);
        }
        let bytes = writer.to_vec("other", |info, out| {
            let original = file.tensor(&info.name).unwrap();
            let mut values = vec![0.0; original.elements()];
            original.block_type.decode(file.data(original).unwrap(), &mut values);
            let columns = if original.shape.len() > 1 { original.cols() } else { 1 };
            let name = info.name.splitn(3, '.').nth(2).unwrap_or_default().to_owned();
            for (i, value) in values.iter_mut().enumerate() {
                *value *= factor(&name, i / columns, i % columns);
            }
            let mut bytes = vec![0; info.bytes as usize];
            info.block_type.encode(&values, &mut bytes);
            out.write_all(&bytes)
        });
        GgufFile::from_vec("other", bytes.unwrap()).unwrap()
    }

    /// A power of two from 1/16 to 16 that depends on the channel.
    fn power(channel: usize) -> f32 {
        (((channel * 7 + channel / 5) % 9) as f32 - 4.0).exp2()
    }

    /// What folding multiplies each weight by.
    fn folded(name: &str, row: usize, column: usize) -> f32 {
        // Four query heads of 32 share two of values.
        let source = |column: usize| column / 64 * 32 + column % 32;
        match name {
            "attn_norm.weight" | "ffn_norm.weight" => 1.0 / power(row),
            "attn_q.weight" | "attn_k.weight" | "ffn_gate.weight" => power(column),
            "attn_v.weight" => power(column) / power(row + 3),
            "attn_output.weight" => power(source(column) + 3),
            "ffn_up.weight" => power(column) / power(row + 1),
            "ffn_down.weight" => power(column + 1),
            _ => 1.0,
        }
    }

    fn largest_error(base: &GgufFile, other: &GgufFile, unfolded: &Unfolded) -> f64 {
        super::super::tensors::errors(base, other, unfolded)[0].relative_square
    }

    #[test]
    fn exact_factors_are_undone() {
        let base = base();
        let spec = Spec::read(&base).unwrap();
        let other = changed(&base, BlockType::F32, &folded);
        assert!(largest_error(&base, &other, &Unfolded::default()) > 1.0);
        let found = find(&base, &other, &spec);
        assert_eq!(largest_error(&base, &other, &found), 0.0);
        // One channel in nine has the factor 1; norms have 64, values 64 and the feed-forward part 96 channels.
        let count = |shift: usize, channels: usize| (0..channels).filter(|c| power(c + shift) != 1.0).count();
        assert_eq!(found.channels(), 2 * (2 * count(0, 64) + count(3, 64) + count(1, 96)));
    }

    /// As calibration does it: uneven channels are made even, then rounded.
    #[test]
    fn factors_are_found_through_rounding_to_four_bits() {
        let even = base();
        let spec = Spec::read(&even).unwrap();
        let uneven = changed(&even, BlockType::F32, &folded);
        let rounded = changed(&even, BlockType::Q4_0, &|_, _, _| 1.0);
        let found = find(&uneven, &rounded, &spec);
        assert!(found == find(&uneven, &even, &spec), "rounding hides factors");
        assert!(found.channels() > 400, "{}", found.channels());
        // Of normally distributed weights, Q4_0 loses a little less than 1 % of the square.
        let error = largest_error(&uneven, &rounded, &found);
        assert!((0.005..0.02).contains(&error), "{error}");
        assert!(largest_error(&uneven, &rounded, &Unfolded::default()) > 0.3);
        assert_eq!(find(&even, &rounded, &spec).channels(), 0);
    }

    #[test]
    fn what_changes_the_function_is_not_undone() {
        let base = base();
        let spec = Spec::read(&base).unwrap();
        let names =
            ["attn_q.weight", "attn_v.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight"];
        for name in names {
            for factor in [0.25, 0.5, 2.0, 4.0, -1.0] {
                let one_sided = |tensor: &str, row: usize, _: usize| {
                    if tensor == name && row == 5 { factor } else { 1.0 }
                };
                let other = changed(&base, BlockType::F32, &one_sided);
                let found = find(&base, &other, &spec);
                let left: f64 = super::super::tensors::errors(&base, &other, &found)
                    .iter()
                    .map(|tensor| tensor.relative_square)
                    .sum();
                assert!(left > 1e-4, "{name} times {factor}: {left}");
            }
        }
        let norm =
            |name: &str, row: usize, _: usize| if name == "ffn_norm.weight" && row == 2 { 1.3 } else { 1.0 };
        assert_eq!(find(&base, &changed(&base, BlockType::F32, &norm), &spec).channels(), 0);
    }

    #[test]
    fn channels_of_zeros_have_the_factor_one() {
        let base = changed(&base(), BlockType::F32, &|name, row, column| match (name, row, column) {
            ("ffn_up.weight", 4, _) | ("ffn_down.weight", _, 4) | ("attn_norm.weight", 4, _) => 0.0,
            _ => 1.0,
        });
        assert_eq!(find(&base, &base, &Spec::read(&base).unwrap()).channels(), 0);
    }
}
