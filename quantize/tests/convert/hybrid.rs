//! Granite 4 without experts and state spaces, what generation_config.json says, and files that only name others.

use safetensors::Dtype;
use serde_json::{Value, json};
use smolt::gguf::GgufFile;
use smolt_quantize::convert::ConvertOptions;

use super::folder::{Folder, HIDDEN, LAYERS, WIDTH, Weights};

fn granite() -> Folder {
    let mut folder = Folder::llama(Dtype::F16);
    folder.config["architectures"] = json!(["GraniteForCausalLM"]);
    folder.config["model_type"] = "granite".into();
    for (key, value) in [
        ("attention_multiplier", 0.3),
        ("embedding_multiplier", 3.0),
        ("residual_multiplier", 0.4),
        ("logits_scaling", 0.7),
    ] {
        folder.config[key] = value.into();
    }
    folder
}

/// The same model as the newer class stores it: gate and up are one matrix.
fn hybrid() -> Folder {
    let mut folder = granite();
    folder.config["architectures"] = json!(["GraniteMoeHybridForCausalLM"]);
    folder.config["model_type"] = "granitemoehybrid".into();
    folder.config["layer_types"] = json!(vec!["attention"; LAYERS]);
    folder.config["num_local_experts"] = 0.into();
    folder.config["shared_intermediate_size"] = HIDDEN.into();
    folder.config["position_embedding_type"] = "rope".into();
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let take = |folder: &mut Folder, part: &str| folder.tensors.remove(&name(part)).unwrap();
        let (gate, up) = (take(&mut folder, "mlp.gate_proj"), take(&mut folder, "mlp.up_proj"));
        let down = take(&mut folder, "mlp.down_proj");
        let both = Weights {
            dtype: gate.dtype,
            shape: vec![2 * HIDDEN, WIDTH],
            bytes: [gate.bytes, up.bytes].concat(),
        };
        folder.tensors.insert(name("shared_mlp.input_linear"), both);
        folder.tensors.insert(name("shared_mlp.output_linear"), down);
    }
    folder
}

#[test]
fn a_hybrid_without_experts_is_a_granite() {
    let (old, new) = (granite(), hybrid());
    let (old, _) = old.convert(&ConvertOptions::default());
    let (new, _) = new.convert(&ConvertOptions::default());
    let names = |file: &GgufFile| file.tensors().iter().map(|info| info.name.clone()).collect::<Vec<_>>();
    let (mut expected, mut found) = (names(&old), names(&new));
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    for name in &expected {
        let (a, b) = (old.tensor(name).unwrap(), new.tensor(name).unwrap());
        assert_eq!((&a.shape, a.block_type), (&b.shape, b.block_type), "{name}");
        assert!(old.data(a).unwrap() == new.data(b).unwrap(), "{name}");
    }
    let keys = |file: &GgufFile| {
        let keys = file.metadata().filter(|(key, _)| *key != "general.name");
        keys.map(|(key, value)| (key.to_owned(), value.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(keys(&new), keys(&old));
}

#[test]
fn hybrids_of_other_parts_are_refused() {
    let changes: [(&str, Value); 5] = [
        ("num_local_experts", 8.into()),
        ("num_local_experts", Value::Null),
        ("layer_types", json!(["attention", "mamba"])),
        ("layer_types", Value::Null),
        ("position_embedding_type", Value::Null),
    ];
    for (key, value) in changes {
        let mut folder = hybrid();
        folder.config[key] = value.clone();
        folder.write();
        let outcome = folder.command(&[]);
        assert_ne!(outcome.code, 0, "{key} {value}");
        assert!(outcome.stderr.contains(key), "{key} {value}: {}", outcome.stderr);
    }
}

#[test]
fn the_authors_sampling_is_kept_unless_nothing_is_drawn() {
    let convert = |generation: Value| {
        let folder = Folder::llama(Dtype::F16);
        folder.write_json("generation_config.json", &generation);
        folder.convert(&ConvertOptions::default()).0
    };
    let mut said =
        json!({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.1});
    let file = convert(said.clone());
    for (key, expected) in [("temp", 0.6), ("top_p", 0.95), ("penalty_repeat", 1.1)] {
        assert_eq!(file.f32(&format!("general.sampling.{key}")).unwrap(), Some(expected), "{key}");
    }
    assert_eq!(file.u32("general.sampling.top_k").unwrap(), Some(20));
    assert!(file.get("general.sampling.min_p").is_none());
    said["do_sample"] = false.into();
    assert!(convert(said).metadata().all(|(key, _)| !key.starts_with("general.sampling")));
}

#[test]
fn files_that_only_name_others_are_told() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        let folder = Folder::llama(Dtype::F16);
        folder.write();
        folder.scratch.file(name, pointer);
        let outcome = folder.command(&[]);
        assert_eq!(outcome.code, 3, "{name}: {}", outcome.stderr);
        for part in [name, "Git LFS pointer", "git lfs pull"] {
            assert!(outcome.stderr.contains(part), "{name}: no {part:?} in {}", outcome.stderr);
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_json() {
    let folder = Folder::llama(Dtype::F16);
    let (plain, _) = folder.convert(&ConvertOptions::default());
    for name in ["config.json", "tokenizer.json"] {
        let text = std::fs::read(folder.scratch.path(name)).unwrap();
        folder.scratch.file(name, &[b"\xef\xbb\xbf", &text[..]].concat());
    }
    let (marked, _) = folder.try_convert(&ConvertOptions::default()).unwrap();
    assert!(marked.metadata().eq(plain.metadata()));
}
