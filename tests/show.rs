//! `smolt show` from outside.

use crate::shared::{Scratch, repository};
use smolt::blocks::BlockType;
use smolt::gguf::{GgufFile, GgufWriter};
use std::path::Path;
use std::process::Output;

fn show(args: &[&str]) -> Output {
    let mut command = crate::shared::smolt();
    command.arg("show").args(args).output().unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    let output = show(&[path.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What it says of the demo model is what the file holds.
#[test]
fn numbers_are_those_of_the_file() {
    let path = repository("src/cli/demo.gguf");
    let shown = json(&path);
    let file = GgufFile::open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(shown["sha256"].is_null(), "not read unless asked for");
    let hashed = show(&[path.to_str().unwrap(), "--hash", "--json"]);
    let hashed: serde_json::Value = serde_json::from_slice(&hashed.stdout).unwrap();
    let parts = bytes.chunks(1000);
    assert_eq!(hashed["sha256"], smolt::files::sha256_of(parts));
    assert!(hashed["source"].is_null());
    assert_eq!(shown["file_bytes"], bytes.len());
    assert_eq!(shown["architecture"], "llama");
    assert_eq!(shown["license"], file.str("general.license").unwrap().unwrap());
    let weights: usize = file.tensors().iter().map(|tensor| tensor.elements()).sum();
    let stored: u64 = file.tensors().iter().map(|tensor| tensor.bytes).sum();
    assert_eq!(shown["parameters"], weights);
    let bits = shown["bits_per_weight"].as_f64().unwrap();
    assert!((bits - stored as f64 * 8.0 / weights as f64).abs() < 1e-9);
    let groups = shown["tensors"].as_array().unwrap();
    let sum = |key: &str| groups.iter().map(|group| group[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("parameters"), sum("bytes")), (weights as u64, stored));
    assert_eq!(sum("tensors") as usize, file.tensors().len());
    let kinds: Vec<&str> = groups.iter().map(|group| group["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["embedding", "attention", "feed-forward", "norms"]);
    assert_eq!(shown["tied"], true);
    let tokenizer = &shown["tokenizer"];
    assert_eq!((&tokenizer["model"], &tokenizer["tokens"]), (&"gpt2".into(), &1536.into()));
    assert!(tokenizer["ends"].as_array().unwrap().iter().any(|end| end["text"] == "<|im_end|>"));
    assert!(shown["template"]["first_line"].as_str().unwrap().starts_with('{'));
    assert_eq!(shown["problems"].as_array().unwrap().len(), 0);
}

/// Memory is what `smolt plan` says for the same context.
#[test]
fn memory_is_that_of_the_plan() {
    let path = repository("src/cli/demo.gguf");
    let shown = json(&path);
    let needs = shown["memory"].as_array().unwrap();
    assert_eq!(needs.last().unwrap()["context"], shown["trained_context"]);
    for need in needs {
        let (context, kv) = (need["context"].to_string(), need["kv"].as_str().unwrap());
        let args = ["plan", "-m", path.to_str().unwrap(), "-c", &context, "--kv", kv, "--json"];
        let plan = crate::shared::smolt().args(args).output().unwrap();
        let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        assert_eq!((&need["total_bytes"], &need["kv_cache_bytes"]), (&plan["total"], &plan["kv_cache"]));
    }
}

/// Types that are packed in another form are named with the memory that they take.
#[test]
fn how_weights_are_held_is_said() {
    let scratch = Scratch::new("show", "held");
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "none");
    for (name, block_type) in [("a", BlockType::IQ2XXS), ("b", BlockType::Q3K), ("c", BlockType::F16)] {
        writer.add_tensor(name, &[256, 2], block_type);
    }
    let bytes = writer.to_vec("held", |info, out| out.write_all(&vec![0; info.bytes as usize])).unwrap();
    let path = scratch.folder.join("held.gguf");
    std::fs::write(&path, bytes).unwrap();
    let held = &json(&path)["held"];
    let names: Vec<&str> = held.as_array().unwrap().iter().map(|row| row["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["Q3_K", "IQ2_XXS"]);
    assert_eq!((&held[1]["code_bits"], &held[1]["table"]), (&3.into(), &true.into()));
    assert_eq!(
        (&held[0]["file_bits_per_weight"], &held[0]["bits_per_weight"]),
        (&3.4375.into(), &3.5625.into())
    );
    let table = String::from_utf8(show(&[path.to_str().unwrap()]).stdout).unwrap();
    assert!(
        table.contains("held       IQ2_XXS as 3-bit codes of a table, 3.56 bits per weight (2.06"),
        "{table}"
    );
}

#[test]
fn the_table_names_everything() {
    let output = show(&[repository("src/cli/demo.gguf").to_str().unwrap()]);
    let table = String::from_utf8(output.stdout).unwrap();
    for part in
        ["model", "licence", "hash", "bits per weight", "tokenizer", "template", "attention", "KV cache"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(output.stderr.is_empty());
    // Without a file it is the built-in model, and says so.
    let output = show(&[]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), table);
    assert!(String::from_utf8(output.stderr).unwrap().contains("-m FILE"));
}

/// A model that cannot be run is shown as far as it goes; texts of the file cannot move the cursor.
#[test]
fn what_cannot_be_run_is_shown_with_the_reason() {
    let path = std::env::temp_dir().join(format!("smolt-show-{}.gguf", std::process::id()));
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "made\u{1B}[2Jup").set("general.name", "a\u{1B}b");
    let licence = format!("\u{1B}[31m{}", "long ".repeat(100));
    writer.set("general.file_type", "two").set("general.license", licence.as_str());
    std::fs::write(&path, writer.to_vec("made-up", |_, _| Ok(())).unwrap()).unwrap();
    let shown = json(&path);
    let output = show(&[path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(shown["parameters"], 0);
    assert!(
        shown["tokenizer"].is_null() && shown["template"].is_null() && shown["trained_context"].is_null()
    );
    let problems = shown["problems"].as_array().unwrap();
    let names = |part: &str| problems.iter().any(|problem| problem.as_str().unwrap().contains(part));
    assert!(problems.len() == 3 && names("not supported") && names("general.file_type"), "{problems:?}");
    assert_eq!(shown["license"], licence, "JSON has the whole text");
    assert!(output.status.success() && !output.stdout.contains(&0x1B));
}

#[test]
fn a_missing_file_and_two_files_are_errors() {
    assert_eq!(show(&["no-such-file.gguf"]).status.code(), Some(3));
    assert_eq!(show(&["a.gguf", "-m", "b.gguf"]).status.code(), Some(2));
    assert_eq!(show(&[repository("README.md").to_str().unwrap()]).status.code(), Some(3));
}
