//! Weights that were trained on a 4-bit lattice are found, kept and counted.

use std::path::Path;

use half::bf16;
use serde_json::Value;
use smolt::blocks::BlockType;
use smolt::gguf::{GgufFile, GgufWriter, Recipe, TensorInfo};

use crate::calibrate::dialogues;
use crate::fixture::{Outcome, Scratch, quantize, tiny};

/// Columns that share a scale in training.
#[derive(Clone, Copy)]
enum Group {
    Block,
    Row,
}

/// The values of a tensor.
fn values(file: &GgufFile, tensor: &TensorInfo) -> Vec<f32> {
    let mut values = vec![0.0; tensor.elements()];
    tensor.block_type.decode(file.data(tensor).unwrap(), &mut values);
    values
}

/// The tiny model with its matrices, those that `is_trained` names, as training that knows of 4 bits publishes them.
fn trained(group: Group, is_trained: impl Fn(&str) -> bool) -> Vec<u8> {
    let source = GgufFile::from_vec("tiny", tiny("f32")).unwrap();
    let mut writer = GgufWriter::new();
    writer.copy_metadata(&source, |_| true);
    for tensor in source.tensors() {
        let to = if Recipe::decides(tensor) { BlockType::BF16 } else { tensor.block_type };
        writer.add_tensor(&tensor.name, &tensor.shape, to);
    }
    let bytes = writer.to_vec("trained", |info, out| {
        let tensor = source.tensor(&info.name).unwrap();
        let mut values = values(&source, tensor);
        if Recipe::decides(tensor) && is_trained(&tensor.name) {
            let cols = match group {
                Group::Block => 32,
                Group::Row => tensor.cols(),
            };
            for block in values.chunks_exact_mut(cols) {
                let largest = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                let scale = bf16::from_f32(largest / 7.4).to_f32();
                block.iter_mut().for_each(|value| *value = scale * (*value / scale).round().clamp(-8.0, 7.0));
            }
            // Rows of a vocabulary that nothing was learnt about.
            values[..64].fill(0.0);
        }
        let mut bytes = vec![0; info.block_type.block_bytes() * values.len()];
        info.block_type.encode(&values, &mut bytes);
        out.write_all(&bytes)
    });
    bytes.unwrap()
}

fn report(done: &Outcome) -> Value {
    assert_eq!(done.code, 0, "{}", done.stderr);
    serde_json::from_str(&done.stdout).unwrap()
}

/// Whether all tensors that the report says are kept are, rounded to BF16, those of the input; returns their number.
fn kept_tensors(report: &Value, input: &Path, output: &Path) -> usize {
    let [input, output] = [input, output].map(|path| GgufFile::open(path).unwrap());
    let kept = report["tensors"].as_array().unwrap().iter().filter(|row| !row["lattice"].is_null());
    kept.map(|row| {
        let name = row["name"].as_str().unwrap();
        let [before, after] = [&input, &output].map(|file| values(file, file.tensor(name).unwrap()));
        let rounded = |value: &f32| bf16::from_f32(*value).to_f32();
        assert!(before.iter().eq(after.iter().map(rounded).collect::<Vec<_>>().iter()), "{name}");
    })
    .count()
}

#[test]
fn weights_on_a_lattice_are_kept_exactly() {
    for group in [Group::Block, Group::Row] {
        let scratch = Scratch::new();
        let input = scratch.file("in.gguf", &trained(group, |_| true));
        let output = scratch.path("out.gguf");
        for recipe in ["q4_0", "q4_1", "q4_k_m", "q8_0"] {
            let done = report(&quantize(&input, &output, &["--type", recipe, "--json"]));
            let lattice = &done["lattice"];
            assert_eq!((&lattice["scale_rounded"], &lattice["other"]), (&0.into(), &0.into()), "{recipe}");
            assert!(lattice["exact"].as_u64().unwrap() > 10_000, "{lattice}");
            assert_eq!(kept_tensors(&done, &input, &output), 1 + 3 * 7, "{recipe}");
            let file = GgufFile::open(&output).unwrap();
            let expected = if recipe == "q4_1" { "Q4_1" } else { "Q4_0" };
            assert_eq!(file.tensor("blk.1.ffn_down.weight").unwrap().block_type.name(), expected);
        }
        let text = quantize(&input, &output, &["--type", "q4_0"]).stdout;
        let line = text.lines().find(|line| line.starts_with("lattice ")).unwrap();
        assert!(line.ends_with("blocks exact, in 22 tensors"), "{line}");
        let dry = quantize(&input, &output, &["--type", "q4_0", "--dry-run"]).stdout;
        let line = dry.lines().find(|line| line.starts_with("blk.0.attn_q.weight")).unwrap();
        assert!(line.ends_with("(288 of 288 blocks exact)"), "{line}");
    }
}

#[test]
fn plain_weights_are_on_none() {
    let scratch = Scratch::new();
    let output = scratch.path("out.gguf");
    for input in
        [scratch.file("a.gguf", &tiny("bf16")), scratch.file("b.gguf", &trained(Group::Block, |_| false))]
    {
        let done = report(&quantize(&input, &output, &["--type", "q4_0", "--json"]));
        let lattice = &done["lattice"];
        assert_eq!((&lattice["exact"], &lattice["scale_rounded"]), (&0.into(), &0.into()));
        assert!(lattice["other"].as_u64().unwrap() > 10_000, "{lattice}");
        assert_eq!(kept_tensors(&done, &input, &output), 0);
        let text = quantize(&input, &output, &["--type", "q4_0"]).stdout;
        assert!(text.lines().any(|line| line.starts_with("lattice none of ")), "{text}");
        // Where nothing is quantized there is nothing to say.
        let text = quantize(&input, &output, &["--type", "f16"]).stdout;
        assert!(!text.contains("lattice"), "{text}");
    }
}

#[test]
fn calibration_leaves_lattices_alone() {
    let scratch = Scratch::new();
    let is_trained = |name: &str| name.contains("attn") || name.contains("blk.1.");
    let input = scratch.file("in.gguf", &trained(Group::Block, is_trained));
    let text = scratch.file("text", dialogues()[0].as_bytes());
    let text = ["--calibration", text.to_str().unwrap(), "--calibration-tokens", "1024"];
    for method in ["gptq", "imatrix"] {
        let output = scratch.path(method);
        let asked = [&["--type", "q4_0", "--json", "--method", method][..], &text[..]].concat();
        let done = report(&quantize(&input, &output, &asked));
        assert_eq!(kept_tensors(&done, &input, &output), 3 * 4 + 3, "{method}");
        let rows = done["tensors"].as_array().unwrap();
        let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
        assert_eq!(row("blk.1.ffn_up.weight")["loss_ratio"], Value::Null, "kept, not calibrated");
        assert!(row("blk.0.ffn_up.weight")["loss_ratio"].is_f64(), "calibrated");
    }
    // A size is spent on the others.
    let output = scratch.path("sized");
    let done = report(&quantize(&input, &output, &[&["--bpw", "6.5", "--json"][..], &text[..]].concat()));
    assert_eq!(kept_tensors(&done, &input, &output), 3 * 4 + 3);
}

#[test]
fn a_type_that_is_asked_for_is_the_type() {
    let scratch = Scratch::new();
    let input = scratch.file("in.gguf", &trained(Group::Block, |_| true));
    let output = scratch.path("out.gguf");
    let asked = ["--type", "q4_0", "--json", "--embedding-type", "q8_0", "--tensor-type", "ffn_down=q4_k"];
    let done = report(&quantize(&input, &output, &asked));
    let file = GgufFile::open(&output).unwrap();
    let type_of = |name: &str| file.tensor(name).unwrap().block_type.name();
    assert_eq!((type_of("token_embd.weight"), type_of("blk.0.ffn_down.weight")), ("Q8_0", "Q4_K"));
    // Q8_0 holds the lattice; Q4_K does not, and the report does not say so.
    assert_eq!(kept_tensors(&done, &input, &output), 1 + 3 * 6);
    assert_eq!(done["lattice"]["other"], 3 * 96 * 256 / 32);
}
