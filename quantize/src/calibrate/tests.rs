//! Every family's tiny model, layer by layer, against the model as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{Model, RunOptions, Runner, Spec, TILE};

use super::fold::{self, Folds};
use super::layer::{self, Layer};
use super::stream::{Stage, Stream};
use super::text::Sequences;
use crate::convert::{Conversion, ConvertOptions, FloatType};

/// Longer than a tile, and than the windows of the models.
const LENGTH: usize = TILE + 9;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/families")
}

/// Calls `check` for every family's model in F16.
fn with_families(test: &str, check: impl Fn(&str, &GgufFile)) {
    let scratch = std::env::temp_dir().join(format!("smolt-calibrate-{test}-{}", std::process::id()));
    let mut count = 0;
    for folder in std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()) {
        if !folder.is_dir() {
            continue;
        }
        std::fs::create_dir_all(&scratch).unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(folder.join(file), scratch.join(file)).unwrap();
        }
        std::fs::copy(root().join("tokenizer.json"), scratch.join("tokenizer.json")).unwrap();
        let output = scratch.join("model.gguf");
        let options = ConvertOptions { float: FloatType::F16, pre: None };
        Conversion::open(&scratch, &options).unwrap().write(&output, &mut |_| {}).unwrap();
        let bytes = std::fs::read(&output).unwrap();
        std::fs::remove_dir_all(&scratch).unwrap();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let file = GgufFile::from_vec(&name, bytes).unwrap();
        check(&name, &file);
        count += 1;
    }
    assert!(count >= 15, "{count} families");
}

fn sequences(spec: &Spec) -> Sequences {
    let token = |i: usize| (i * 37 % 101 % spec.vocab) as u32;
    Sequences { tokens: (0..2 * LENGTH).map(token).collect(), length: LENGTH }
}

fn whole(input: &GgufFile) -> Runner {
    let model = Model::load(input, Kernels::detect().unwrap()).unwrap();
    let options = RunOptions { context: LENGTH, threads: 1, slots: 1, logit_rows: TILE, kv: KvType::F16 };
    Runner::new(Arc::new(model), &options).unwrap()
}

fn start(input: &GgufFile, sequences: &Sequences) -> (Runner, Stream) {
    let embedding = input.tensor("token_embd.weight").unwrap();
    let head = input.tensor("output.weight").unwrap_or(embedding);
    let ends =
        |tensor| Layer::ends(input, tensor, tensor.block_type, input.data(tensor).unwrap().to_vec()).unwrap();
    let stream = Stream::new(sequences, &mut ends(embedding).runner(LENGTH, 1).unwrap());
    (ends(head).runner(LENGTH, 1).unwrap(), stream)
}

#[test]
fn layers_one_by_one_compute_what_the_model_does() {
    with_families("layers", |name, input| {
        let spec = layer::spec(input).unwrap();
        let sequences = sequences(&spec);
        let (mut head, mut stream) = start(input, &sequences);
        for index in 0..spec.layers {
            stream.pass_layer(&mut Layer::read(input, index).unwrap().runner(LENGTH, 1).unwrap());
        }
        let mut expected = Vec::new();
        for sequence in sequences.tokens.chunks_exact(LENGTH) {
            whole(input).score(sequence, 0, &mut |_, logits| expected.extend_from_slice(logits)).unwrap();
        }
        let mut found = Vec::new();
        for at in stream.tiles() {
            let rows = 0..at.0.len();
            found.extend_from_slice(stream.logits(&mut head, at, rows));
        }
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Parallel parts are added in another order here.
        let limit = if spec.parallel { 1e-3 } else { 0.0 };
        assert!(largest <= limit, "{name}: {largest}");
    });
}

#[test]
fn folded_layers_of_every_family_compute_the_same() {
    with_families("folds", |name, input| {
        let spec = layer::spec(input).unwrap();
        let (_, start) = start(input, &sequences(&spec));
        let mut folded_stages = 0;
        let stages = |index| Stage::order(&spec).map(move |stage| (index, stage));
        for (index, stage) in (0..spec.layers).flat_map(stages) {
            let original = Layer::read(input, index).unwrap();
            let width = match stage {
                Stage::Down => spec.hidden,
                Stage::Output => spec.query_width(),
                Stage::State => spec.state.unwrap().inner(),
                _ => spec.dim,
            };
            // Unequal powers of two, as a fold is chosen.
            let sizes: Vec<f64> = (0..width).map(|i| [0.06, 4.1, 1.0, 0.3, 17.0][i * 31 % 5]).collect();
            let candidates = fold::candidates(&original, &spec, stage, &sizes);
            let mut folds = Folds::default();
            folds[stage as usize] = candidates.last().unwrap().clone();
            let mut folded = original.clone();
            fold::fold(&mut folded, &folds, &spec);
            let is_changed = stage.matrices().iter().any(|name| folded.values(name) != original.values(name));
            folded_stages += usize::from(is_changed);
            let [expected, found] = [&original, &folded].map(|layer| {
                let mut stream = start.clone();
                stream.pass_layer(&mut layer.runner(LENGTH, 1).unwrap());
                stream.residual().to_vec()
            });
            let size = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Halves of the cache are rounded the same, but for those below the normal range.
            assert!(largest <= 1e-4 * size, "{name} {index} {stage:?}: {largest} of {size}");
        }
        // Values and outputs can always be folded, but for limited ones.
        assert!(folded_stages >= spec.layers || spec.clamp.is_some(), "{name}: {folded_stages}");
    });
}
