//! What becomes of every tensor, as a table and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::calibrate::Calibrated;
use crate::{LatticeBlocks, Plan};

/// A planned or finished quantization. Sizes are in bytes, shapes list columns first.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    input: String,
    output: Option<String>,
    dry_run: bool,
    #[serde(rename = "type")]
    recipe: &'static str,
    file_type: u32,
    tensors: Vec<Row>,
    /// Tensors whose wanted type did not fit.
    substitutions: usize,
    weights: u64,
    tensor_bytes: u64,
    file_bytes: u64,
    /// Bits of tensor data per weight, scales and norms included.
    bits_per_weight: f64,
    /// Blocks of 32 weights on a 4-bit lattice; null where nothing is quantized.
    lattice: Option<LatticeBlocks>,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    name: String,
    shape: Vec<u64>,
    from: &'static str,
    /// The type the recipe asks for.
    wanted: &'static str,
    /// The type stored.
    to: &'static str,
    bytes: u64,
    bits_per_weight: f64,
    /// Of a calibrated tensor: squared error of its outputs over the text, divided by that of rounding to nearest.
    loss_ratio: Option<f64>,
    /// Of a tensor whose weights are on a 4-bit lattice, which is kept.
    lattice: Option<LatticeBlocks>,
}

impl Report {
    /// The report of `plan`, to be written to or written to `output`.
    pub fn new(plan: &Plan<'_>, output: Option<String>, dry_run: bool, calibrated: &Calibrated) -> Self {
        let tensors = plan.tensors().iter().map(|tensor| Row {
            name: tensor.source.name.clone(),
            shape: tensor.source.shape.clone(),
            from: tensor.source.block_type.name(),
            wanted: tensor.choice.wanted.name(),
            to: tensor.choice.stored.name(),
            bytes: tensor.bytes,
            bits_per_weight: bits_per_weight(tensor.bytes, tensor.source.elements() as u64),
            loss_ratio: calibrated.loss_ratio(&tensor.source.name),
            lattice: tensor.lattice,
        });
        let weights = plan.tensors().iter().map(|tensor| tensor.source.elements() as u64).sum();
        let tensor_bytes = plan.tensors().iter().map(|tensor| tensor.bytes).sum();
        Self {
            input: plan.input().name().to_owned(),
            output,
            dry_run,
            recipe: plan.recipe().name(),
            file_type: plan.recipe().file_type(),
            tensors: tensors.collect(),
            substitutions: plan.substituted(),
            weights,
            tensor_bytes,
            file_bytes: plan.file_bytes(),
            bits_per_weight: bits_per_weight(tensor_bytes, weights),
            lattice: plan.lattice(),
        }
    }

    /// One line per tensor under a heading; a type that did not fit follows in brackets.
    pub fn table(&self) -> String {
        let shapes: Vec<String> = self.tensors.iter().map(|row| format!("{:?}", row.shape)).collect();
        let names = self.tensors.iter().map(|row| row.name.len()).max().unwrap_or(0).max(6);
        let axes = shapes.iter().map(String::len).max().unwrap_or(0).max(5);
        let heading = ["tensor", "shape", "from", "to", "bytes", "bits/w", ""].map(str::to_owned);
        let rows = self.tensors.iter().zip(shapes).map(|(row, shape)| {
            let replaced = match row.lattice {
                _ if row.to != row.wanted => format!("(not {})", row.wanted),
                Some(blocks) => format!("({})", lattice_note(blocks)),
                None => String::new(),
            };
            let (bytes, bits) = (row.bytes.to_string(), format!("{:.2}", row.bits_per_weight));
            [row.name.clone(), shape, row.from.to_owned(), row.to.to_owned(), bytes, bits, replaced]
        });
        let line = |[name, shape, from, to, bytes, bits, replaced]: [String; 7]| {
            let line = format!(
                "{name:<names$}  {shape:<axes$}  {from:<6}  {to:<6}  {bytes:>12}  {bits:>6}  {replaced}"
            );
            line.trim_end().to_owned()
        };
        std::iter::once(heading).chain(rows).map(line).collect::<Vec<_>>().join("\n")
    }

    /// Bytes of each type, and bytes and bits per weight of the file.
    pub fn summary(&self) -> String {
        let mut types = BTreeMap::<&str, (usize, u64)>::new();
        for row in &self.tensors {
            let (count, bytes) = types.entry(row.to).or_default();
            *count += 1;
            *bytes += row.bytes;
        }
        let mut lines: Vec<String> = types
            .into_iter()
            .map(|(name, (count, bytes))| format!("{name:<6}  {bytes:>12} bytes in {count} tensors"))
            .collect();
        let ratios = || self.tensors.iter().filter_map(|row| Some((row.loss_ratio?, &row.name)));
        if let Some((worst, name)) = ratios().max_by(|a, b| a.0.total_cmp(&b.0)) {
            let mean = (ratios().map(|(ratio, _)| ratio.ln()).sum::<f64>() / ratios().count() as f64).exp();
            lines.push(format!("loss    {mean:.3} of rounding to nearest, at most {worst:.3} ({name})"));
        }
        if let Some(blocks) = self.lattice {
            let on_lattice = self.tensors.iter().filter(|row| row.lattice.is_some()).count();
            lines.push(match on_lattice {
                0 => format!("lattice none of {} blocks: not trained on 4 bits", blocks.total()),
                _ => format!("lattice {}, in {on_lattice} tensors", lattice_note(blocks)),
            });
        }
        let (file, bits) = (self.file_bytes, self.bits_per_weight);
        lines.push(format!("file    {file:>12} bytes, {bits:.3} bits per weight"));
        lines.join("\n")
    }
}

/// How many blocks are kept as they were trained.
fn lattice_note(blocks: LatticeBlocks) -> String {
    let note = format!("{} of {} blocks exact", blocks.exact, blocks.total());
    match blocks.scale_rounded {
        0 => note,
        count => format!("{note}, {count} with their scale rounded"),
    }
}

fn bits_per_weight(bytes: u64, weights: u64) -> f64 {
    bytes as f64 * 8.0 / weights.max(1) as f64
}
