//! What is refused, and how: the message names what is wrong, and nothing is left under the output's name.

use safetensors::Dtype;
use serde_json::{Value, json};
use smolt_quantize::convert::ConvertOptions;

use super::folder::{Folder, Weights, noise, shard};

/// Runs the command; expects this exit code, these words, and no output.
#[track_caller]
fn refused(folder: &Folder, more: &[&str], code: i32, words: &[&str]) {
    let before = folder.scratch.names();
    let done = folder.command(more);
    assert_eq!(done.code, code, "{}", done.stderr);
    for word in words {
        assert!(done.stderr.contains(word), "{word:?} is not in: {}", done.stderr);
    }
    assert_eq!(folder.scratch.names(), before);
}

fn changed(change: impl FnOnce(&mut Folder)) -> Folder {
    let mut folder = Folder::llama(Dtype::F32);
    change(&mut folder);
    folder.write();
    folder
}

#[test]
fn the_command_converts() {
    let folder = changed(|_| {});
    let done = folder.command(&["--type", "bf16"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stderr, "warning: 5 of 270 rows of the embedding have no token\n");
    assert!(done.stdout.contains("21 tensors"), "{}", done.stdout);
}

#[test]
fn missing_files_are_named() {
    for (name, what) in [
        ("config.json", "config.json is missing"),
        ("tokenizer.json", "tokenizer.json (save the tokenizer"),
        ("model.safetensors", "model.safetensors (or model.safetensors.index.json"),
    ] {
        let folder = changed(|_| {});
        std::fs::remove_file(folder.scratch.path(name)).unwrap();
        refused(&folder, &[], 3, &[what]);
    }
}

#[test]
fn damaged_json_is_named() {
    for name in ["config.json", "tokenizer.json"] {
        let folder = changed(|_| {});
        for bytes in [&b"{\"architectures\": ["[..], b"[]", b"\xff", b""] {
            folder.scratch.file(name, bytes);
            refused(&folder, &[], 3, &[name]);
        }
        folder.scratch.file(name, "[".repeat(1 << 20).as_bytes());
        refused(&folder, &[], 3, &[name]);
    }
}

#[test]
fn values_that_do_not_fit_are_named_with_file_key_and_value() {
    let cases: [(&str, Value, &[&str]); 16] = [
        ("architectures", json!(["MambaForCausalLM"]), &["MambaForCausalLM", "known: LlamaForCausalLM"]),
        ("architectures", json!([]), &["config.json: num_hidden_layers: expected"]),
        ("architectures", json!("Llama"), &["architectures: expected a list", "found \"Llama\""]),
        ("num_hidden_layers", json!("2"), &["expected an integer from 1 to", "found \"2\""]),
        ("hidden_size", json!(0), &["hidden_size", "found 0"]),
        ("hidden_size", json!(1_u64 << 40), &["hidden_size", "found 1099511627776"]),
        ("hidden_size", json!(-64), &["hidden_size", "found -64"]),
        ("num_key_value_heads", json!(3), &["num_key_value_heads", "a divisor of the 4 heads"]),
        ("num_key_value_heads", json!(8), &["num_key_value_heads", "a divisor of the 4 heads"]),
        ("head_dim", json!(15), &["head_dim: expected an even number"]),
        ("hidden_act", json!("gelu"), &["hidden_act: expected \"silu\", found \"gelu\""]),
        ("rms_norm_eps", json!(-1.0), &["rms_norm_eps: expected a positive number"]),
        (
            "rope_scaling",
            json!({"type": "yarn", "factor": 2.0}),
            &["rope_scaling.type", "llama3", "\"yarn\""],
        ),
        ("rope_scaling", json!({"type": "linear"}), &["rope_scaling.factor: expected a positive number"]),
        (
            "rope_scaling",
            json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
                "original_max_position_embeddings": 32}),
            &["rope_scaling.high_freq_factor: expected more than"],
        ),
        ("partial_rotary_factor", json!(0.5), &["partial_rotary_factor", "found 0.5"]),
    ];
    for (key, value, words) in cases {
        let folder = changed(|folder| {
            folder.config[key] = value.clone();
            if value == json!([]) {
                // Without classes the type tells, and then all sizes are looked at.
                folder.config["num_hidden_layers"] = Value::Null;
            }
        });
        refused(&folder, &[], 1, words);
    }
}

#[test]
fn tensors_must_be_those_of_the_configuration() {
    const QUERY: &str = "model.layers.1.self_attn.q_proj.weight";
    let missing = changed(|folder| drop(folder.tensors.remove(QUERY)));
    refused(&missing, &[], 1, &[&format!("tensor {QUERY:?} is missing")]);
    let no_head = changed(|folder| drop(folder.tensors.remove("lm_head.weight")));
    refused(&no_head, &[], 1, &["tensor \"lm_head.weight\" is missing"]);
    let no_bias = changed(|folder| folder.config["attention_bias"] = true.into());
    refused(&no_bias, &[], 1, &["tensor \"model.layers.0.self_attn.k_proj.bias\" is missing"]);
    let extra = |name: &str| {
        changed(|folder| {
            folder.tensors.insert(name.to_owned(), Weights::floats(Dtype::F32, &[1], &[0.0]));
        })
    };
    for name in ["model.layers.2.input_layernorm.weight", "model.layers.0.self_attn.q_proj.bias", "x"] {
        refused(&extra(name), &[], 1, &[&format!("tensor {name:?} does not belong"), "model.safetensors"]);
    }
    for shape in [[64, 32], [32, 64]] {
        let folder = changed(|folder| {
            folder.tensors.insert(QUERY.to_owned(), Weights::floats(Dtype::F32, &shape, &[0.0; 2048]));
        });
        let found = format!("expected shape [64, 64] by config.json, found {shape:?}");
        refused(&folder, &[], 1, &[QUERY, &found]);
    }
    let integers = changed(|folder| {
        folder.tensors.insert(QUERY.to_owned(), Weights::integers(&[64, 64], &[0; 4096]));
    });
    refused(&integers, &[], 1, &[QUERY, "expected F32, F16 or BF16, found I32"]);
    let vocab = changed(|folder| folder.config["vocab_size"] = 300.into());
    refused(&vocab, &[], 1, &["model.embed_tokens.weight", "expected shape [300, 64]", "found [270, 64]"]);
}

#[test]
fn weights_that_cannot_be_stored_are_named() {
    const UP: &str = "model.layers.1.mlp.up_proj.weight";
    const KEY: &str = "model.layers.0.self_attn.k_proj.weight";
    for (name, at, value, kind, advice) in [
        (UP, 3 * 64 + 5, 70_000.0, "f16", "pass --type bf16 or --type f32"),
        (UP, 3 * 64 + 5, f32::NAN, "f32", "damaged"),
        (KEY, 3 * 64 + 5, f32::NEG_INFINITY, "bf16", "damaged"),
        ("model.norm.weight", 5, f32::INFINITY, "f16", "damaged"),
    ] {
        let folder = changed(|folder| {
            let weights = folder.tensors.get_mut(name).unwrap();
            weights.bytes[4 * at..][..4].copy_from_slice(&value.to_le_bytes());
        });
        let row = if at > 64 { "row 3, column 5" } else { "row 5, column 0" };
        refused(&folder, &["--type", kind], 1, &[name, row, &value.to_string(), advice]);
    }
    let folder = changed(|folder| {
        let weights = folder.tensors.get_mut(UP).unwrap();
        weights.bytes[..4].copy_from_slice(&70_000f32.to_le_bytes());
    });
    assert_eq!(folder.command(&["--type", "bf16"]).code, 0);
}

#[test]
fn damaged_weight_files_are_told_from_others() {
    let folder = changed(|_| {});
    let whole = std::fs::read(folder.scratch.path("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut long = whole.clone();
    long.extend([0; 4]);
    let mut wide = whole.clone();
    wide[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let mut text = whole.clone();
    text[8] = b'[';
    for (bytes, word) in [
        (&whole[..0], "expected 8 bytes, found 0"),
        (&whole[..100], &format!("expected {} bytes, found 100", header + 8)),
        (&whole[..whole.len() - 1], &format!("found {}", whole.len() - 1)),
        (&long, &format!("expected {} bytes, found {}", whole.len(), long.len())),
        (&wide, "not a valid safetensors file"),
        (&text, "not valid JSON"),
    ] {
        folder.scratch.file("model.safetensors", bytes);
        refused(&folder, &[], 3, &["model.safetensors", word]);
    }
    // A header whose offsets lie.
    let lie = br#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}}"#;
    let mut bytes = (lie.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(lie);
    folder.scratch.file("model.safetensors", &bytes);
    refused(&folder, &[], 3, &["model.safetensors"]);
}

#[test]
fn an_index_stays_in_its_folder_and_tells_the_truth() {
    let sharded = || {
        let folder = Folder::llama(Dtype::F32);
        folder.write_sharded();
        folder
    };
    const INDEX: &str = "model.safetensors.index.json";
    for name in ["../out.safetensors", "/etc/passwd", "a/b", "..", "", "a\\b"] {
        let folder = sharded();
        folder.write_json(INDEX, &json!({"weight_map": {"model.norm.weight": name}}));
        refused(&folder, &[], 1, &[INDEX, "model.norm.weight", "not a plain file name"]);
    }
    let folder = sharded();
    folder.write_json(INDEX, &json!({"weight_map": {"model.norm.weight": 3}}));
    refused(&folder, &[], 1, &["not a plain file name"]);
    folder.write_json(INDEX, &json!({"weight_map": []}));
    refused(&folder, &[], 1, &["weight_map: expected an object"]);
    folder.write_json(INDEX, &json!({"weight_map": {"model.norm.weight": "absent.safetensors"}}));
    refused(&folder, &[], 3, &["absent.safetensors"]);
    folder.write_json(INDEX, &json!({"weight_map": {"model.none.weight": shard(0)}}));
    refused(&folder, &[], 1, &["model.none.weight", "does not have it"]);
    let folder = sharded();
    let first = std::fs::read(folder.scratch.path(&shard(0))).unwrap();
    folder.scratch.file(&shard(1), &first);
    refused(&folder, &[], 1, &["is both in", &shard(0), &shard(1)]);
    folder.scratch.file(&shard(1), &first[..first.len() - 8]);
    refused(&folder, &[], 3, &[&shard(1), "cut short"]);
}

#[test]
fn outputs_that_are_inputs_or_cannot_be_written_are_refused() {
    let folder = changed(|_| {});
    let model = folder.scratch.path("model.safetensors");
    let before = std::fs::read(&model).unwrap();
    let done = crate::fixture::run(&["convert", folder.path().to_str().unwrap(), model.to_str().unwrap()]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(std::fs::read(&model).unwrap() == before);
    let missing = folder.scratch.path("missing/out.gguf");
    let done = crate::fixture::run(&["convert", folder.path().to_str().unwrap(), missing.to_str().unwrap()]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert_eq!(crate::fixture::run(&["convert", "x", "y", "--type", "q4_0"]).code, 2);
}

#[test]
fn an_output_that_exists_is_kept_when_the_conversion_fails() {
    let folder = changed(|folder| {
        let weights = folder.tensors.get_mut("model.norm.weight").unwrap();
        weights.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    folder.scratch.file("out.gguf", b"GGUF of before");
    refused(&folder, &[], 1, &["model.norm.weight"]);
    assert_eq!(std::fs::read(folder.output()).unwrap(), b"GGUF of before");
    folder.scratch.file("out.gguf", b"a letter");
    refused(&folder, &[], 1, &["out.gguf", "not written by this program"]);
    assert_eq!(std::fs::read(folder.output()).unwrap(), b"a letter");
    assert!(folder.try_convert(&ConvertOptions::default()).is_err());
}

/// Bytes changed at random: an error or a file, never a panic.
#[test]
fn damaged_folders_never_panic() {
    let folder = changed(|_| {});
    let mut outcomes = [0, 0];
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let whole = std::fs::read(folder.scratch.path(name)).unwrap();
        // The header is what can lie; weights are any numbers.
        let reach = whole.len().min(8_000) as f32;
        for round in 0..150 {
            let mut bytes = whole.clone();
            for pair in noise(round, 6).chunks_exact(2) {
                let at = ((pair[0] + 1.0) / 2.0 * reach) as usize;
                bytes[at.min(whole.len() - 1)] =
                    b"0129-e\"[]{}:,x\0\xff"[((pair[1] + 1.0) * 8.0) as usize & 15];
            }
            folder.scratch.file(name, &bytes);
            outcomes[usize::from(folder.try_convert(&ConvertOptions::default()).is_ok())] += 1;
        }
        folder.scratch.file(name, &whole);
    }
    assert!(outcomes[0] > 50, "{outcomes:?}");
}
