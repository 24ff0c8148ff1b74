//! Calls to the system that fail, and kills, while a model is converted and quantized. `SMOLT_FAULTS=all` tries every call.

#[allow(dead_code, reason = "the tests of the runner ask for more")]
#[path = "../../tests/faults/harness.rs"]
mod harness;

use std::fs;
use std::path::Path;
use std::process::Command;

use smolt::eval::synthetic::{Shape, Synthetic};

use self::harness::{Case, fail_each, kill_often};
use crate::fuzz::parts;

/// Largest exit code that is documented.
const CODES: i32 = 3;

/// So small that a command takes less time than its start.
const SHAPE: Shape = Shape {
    name: "small",
    architecture: "llama",
    layers: 1,
    dim: 32,
    heads: 2,
    kv_heads: 1,
    head_dim: 16,
    rotary_dim: 16,
    hidden: 64,
    vocab: 400,
    context: 64,
    rope_base: 10_000.0,
    norm_eps: 1e-5,
    tied: true,
};

/// Fails and kills a command, which writes `out.gguf` where an older file is.
fn hurt(name: &str, setup: &dyn Fn(&Path), arguments: &[&str]) {
    let case = Case {
        name,
        setup: &|folder| {
            fs::write(folder.join("out.gguf"), "GGUF of an older model").unwrap();
            setup(folder);
        },
        command: &|_| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_smolt-quantize"));
            command.args(arguments);
            command
        },
        input: "",
        growing: &[],
        repeats: true,
        codes: CODES,
        check: &|_, _| (),
    };
    fail_each(&case);
    kill_often(&case);
}

const QUANTIZE: [&str; 7] = ["quantize", "in.gguf", "out.gguf", "--type", "q8_0", "-t", "1"];

fn model(folder: &Path) {
    let model = Synthetic { shape: SHAPE, recipe: "f16".parse().unwrap(), seed: 1 };
    fs::write(folder.join("in.gguf"), model.to_vec().unwrap()).unwrap();
}

#[test]
fn a_quantized_model_is_whole_or_none() {
    hurt("quantize", &model, &QUANTIZE);
}

#[test]
fn a_calibrated_model_is_whole_or_none() {
    let setup = |folder: &Path| {
        model(folder);
        fs::write(folder.join("text.txt"), "one two three four five\n".repeat(20)).unwrap();
    };
    let calibration = ["--calibration", "text.txt", "--calibration-tokens", "16"];
    hurt("calibrate", &setup, &[&QUANTIZE[..], &calibration].concat());
}

#[test]
fn a_converted_model_is_whole_or_none() {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/convert/llama");
    let seed = fs::read(seed).unwrap();
    let files: [&[u8]; 4] = parts(&seed);
    let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    let setup = |folder: &Path| {
        fs::create_dir(folder.join("model")).unwrap();
        for (name, content) in names.iter().zip(files) {
            fs::write(folder.join("model").join(name), content).unwrap();
        }
    };
    hurt("convert", &setup, &["convert", "model", "out.gguf"]);
}
