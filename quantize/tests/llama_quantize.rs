//! Files made by llama.cpp's `llama-quantize` are reproduced. Needs the shared development data.

use std::collections::HashMap;
use std::path::PathBuf;

use smolt::gguf::GgufFile;
use smolt_quantize::calibrate::Calibrated;
use smolt_quantize::{Lattices, Plan, QuantizeOptions};

use crate::fixture::Scratch;

/// A file of the shared data: under `SMOLT_SHARED`, or a folder `shared` beside the project. Prints and
/// returns nothing where it is absent.
fn shared(path: &str) -> Option<GgufFile> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let root = std::env::var_os("SMOLT_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(GgufFile::open(&found).unwrap());
    }
    eprintln!("SKIPPED: no shared data at {} (set SMOLT_SHARED)", found.display());
    None
}

/// Our file and theirs.
fn both(scratch: &Scratch, recipe: &str, theirs: &str) -> Option<(GgufFile, GgufFile)> {
    let input = shared("models/s288/gguf/s288-f16.gguf")?;
    let theirs = shared(&format!("models/s288/gguf/s288-{theirs}.gguf"))?;
    let options = QuantizeOptions {
        recipe: recipe.parse().unwrap(),
        rules: vec![],
        chosen: HashMap::new(),
        strict: false,
        allow_requantize: false,
        lattices: Lattices::default(),
    };
    let path = scratch.path("ours.gguf");
    Plan::new(&input, &options).unwrap().write(&path, 2, &Calibrated::none(), &mut |_| {}).unwrap();
    Some((GgufFile::open(&path).unwrap(), theirs))
}

#[test]
fn round_to_nearest_files_are_byte_equal() {
    let scratch = Scratch::new();
    for (recipe, name) in [("q8_0", "Q8_0"), ("q4_0", "Q4_0")] {
        let Some((ours, theirs)) = both(&scratch, recipe, name) else { return };
        for tensor in theirs.tensors() {
            let our = ours.tensor(&tensor.name).unwrap();
            assert_eq!((our.block_type, &our.shape), (tensor.block_type, &tensor.shape), "{}", tensor.name);
            assert!(
                ours.data(our).unwrap() == theirs.data(tensor).unwrap(),
                "{recipe}: {} differs",
                tensor.name
            );
        }
        assert!(ours.as_bytes().unwrap() == theirs.as_bytes().unwrap(), "{recipe}: the headers differ");
    }
}

/// The values of the mix are found by a search, where only types and sizes must agree.
#[test]
fn mixes_have_the_same_types_and_size() {
    let scratch = Scratch::new();
    let Some((ours, theirs)) = both(&scratch, "q4_k_m", "Q4_K_M") else { return };
    assert_eq!(ours.tensors(), theirs.tensors());
    assert_eq!(ours.file_bytes(), theirs.file_bytes());
}
