//! The library: what a written file holds.

use smolt::blocks::BlockType;
use smolt::gguf::{FILE_TYPE_KEY, GgufFile, QUANTIZATION_VERSION_KEY, Recipe};
use smolt_quantize::calibrate::Calibrated;
use smolt_quantize::{Lattices, Plan, QuantizeOptions};

use crate::fixture::{Scratch, tiny};

fn options(recipe: &str) -> QuantizeOptions {
    QuantizeOptions {
        recipe: recipe.parse().unwrap(),
        rules: vec![],
        chosen: std::collections::HashMap::new(),
        strict: false,
        allow_requantize: false,
        lattices: Lattices::default(),
    }
}

fn values(file: &GgufFile, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    let mut values = vec![0.0; tensor.elements()];
    tensor.block_type.decode(file.data(tensor).unwrap(), &mut values);
    values
}

#[test]
fn tensors_and_metadata_survive() {
    let scratch = Scratch::new();
    let input = GgufFile::open(&scratch.file("in.gguf", &tiny("f32"))).unwrap();
    for recipe in Recipe::ALL {
        let plan = Plan::new(&input, &options(recipe.name())).unwrap();
        let path = scratch.path("out.gguf");
        let mut done = 0;
        plan.write(&path, 2, &Calibrated::none(), &mut |bytes| done += bytes).unwrap();
        let output = GgufFile::open(&path).unwrap();
        assert_eq!(output.file_bytes(), plan.file_bytes(), "{recipe}");
        assert_eq!(done, plan.source_bytes(), "{recipe}");
        assert_eq!(output.u32(FILE_TYPE_KEY).unwrap(), Some(recipe.file_type()));
        assert_eq!(output.u32(QUANTIZATION_VERSION_KEY).unwrap(), Some(2));
        assert_eq!(output.metadata().len(), input.metadata().len());
        for (key, value) in input.metadata().filter(|(key, _)| *key != FILE_TYPE_KEY) {
            assert_eq!(output.get(key), Some(value), "{recipe}: {key}");
        }
        assert_eq!(output.tensors().len(), input.tensors().len());
        for tensor in input.tensors() {
            assert_eq!(output.tensor(&tensor.name).unwrap().shape, tensor.shape);
            let (before, after) = (values(&input, &tensor.name), values(&output, &tensor.name));
            let power: f32 = before.iter().map(|v| v * v).sum();
            let noise: f32 = before.iter().zip(&after).map(|(a, b)| (a - b) * (a - b)).sum();
            // The coarsest type, four bits, loses less than one percent of the power of normal values.
            assert!(noise <= 0.01 * power, "{recipe}: {}: {noise} of {power}", tensor.name);
        }
    }
}

#[test]
fn float_weights_are_kept_exactly() {
    let scratch = Scratch::new();
    let input = GgufFile::open(&scratch.file("in.gguf", &tiny("f16"))).unwrap();
    let path = scratch.path("out.gguf");
    Plan::new(&input, &options("f32")).unwrap().write(&path, 1, &Calibrated::none(), &mut |_| {}).unwrap();
    let output = GgufFile::open(&path).unwrap();
    for tensor in input.tensors() {
        assert_eq!(output.tensor(&tensor.name).unwrap().block_type, BlockType::F32);
        assert_eq!(values(&input, &tensor.name), values(&output, &tensor.name), "{}", tensor.name);
    }
}

/// The embedding is larger than a tile of one thread, and no multiple of it.
#[test]
fn threads_do_not_change_a_byte() {
    let scratch = Scratch::new();
    let input = GgufFile::open(&scratch.file("in.gguf", &tiny("bf16"))).unwrap();
    let plan = Plan::new(&input, &options("q4_k_m")).unwrap();
    let files = [1, 2, 3].map(|threads| {
        let path = scratch.path("out.gguf");
        plan.write(&path, threads, &Calibrated::none(), &mut |_| {}).unwrap();
        std::fs::read(path).unwrap()
    });
    assert!(files[0] == files[1] && files[0] == files[2]);
}
