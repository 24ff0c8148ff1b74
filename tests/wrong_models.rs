//! What is given for a model and is none: each command says what it is and what to do.

use std::process::Stdio;

use smolt::blocks::BlockType;
use smolt::gguf::{GgufFile, GgufWriter};

use crate::shared::{Scratch, repository, smolt};

struct Done {
    code: i32,
    err: String,
}

fn run(scratch: &Scratch, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
    let mut command = smolt();
    command.args(arguments).current_dir(&scratch.folder).env("SMOLT_HOME", scratch.folder.join("home"));
    let done = command.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    Done { code: done.status.code().unwrap(), err: String::from_utf8(done.stderr).unwrap() }
}

/// Every command that takes a model, with one.
fn commands(model: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["run", "-m", model, "Hi"],
        vec!["chat", "-m", model],
        vec!["plan", "-m", model],
        vec!["show", model],
        vec!["pack", "-m", model],
        vec!["tokenize", "-m", model],
    ]
}

fn gguf(keys: &[(&str, &str)], tensor: &str) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    for (key, value) in keys {
        writer.set(*key, *value);
    }
    writer.add_tensor(tensor, &[8], BlockType::F32);
    writer.to_vec("file", |_, out| out.write_all(&[0; 32])).unwrap()
}

/// Files that are no models, by name, with parts of what is said of them.
fn others() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let safetensors = [&64u64.to_le_bytes()[..], b"{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}"].concat();
    let swapped = [&b"GGUF"[..], &3u32.to_be_bytes(), &[0; 16]].concat();
    vec![
        ("model.safetensors", safetensors, &["safetensors", "smolt-quantize convert ."]),
        (
            "pytorch_model.bin",
            b"PK\x03\x04\0\0\0\0archive/data.pkl".to_vec(),
            &["PyTorch", "smolt-quantize convert"],
        ),
        ("old.bin", b"\x80\x02ctorch._utils\n".to_vec(), &["PyTorch"]),
        ("m.gguf.gz", b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), &["compressed with gzip", "unpack it"]),
        ("m.zip", b"PK\x03\x04\x14\0\0\0\x08\0m.gguf".to_vec(), &["zip archive", "unpack it"]),
        ("m.zst", b"\x28\xb5\x2f\xfd\0\0".to_vec(), &["compressed with zstd"]),
        ("m.xz", b"\xfd7zXZ\0\0\x04".to_vec(), &["compressed with xz"]),
        (
            "lfs.gguf",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec(),
            &["Git LFS pointer", "git lfs pull"],
        ),
        ("page.gguf", b"<!doctype html>\n<html><body>Not found".to_vec(), &["web page", "/resolve/"]),
        ("json.gguf", b"{\"error\": \"Repository not found\"}".to_vec(), &["JSON file"]),
        ("ggjt.bin", b"tjgg\x03\0\0\0".to_vec(), &["GGML file from before GGUF"]),
        ("big.gguf", swapped, &["big-endian"]),
        ("empty.gguf", vec![], &["empty", "fetch it again"]),
        ("zeros.gguf", vec![0; 100], &["zeros", "fetch it again"]),
        (
            "cut.gguf",
            gguf(&[("general.architecture", "llama")], "w")[..60].to_vec(),
            &["cut short", "fetch it again"],
        ),
        (
            "imatrix.dat",
            [&2u32.to_le_bytes()[..], &19u32.to_le_bytes(), b"blk.0.attn_q.weight"].concat(),
            &["importance matrix"],
        ),
        (
            "lora.gguf",
            gguf(
                &[("general.type", "adapter"), ("general.architecture", "llama")],
                "blk.0.attn_q.weight.lora_a",
            ),
            &["LoRA adapter", "merge"],
        ),
        (
            "imatrix.gguf",
            gguf(&[("general.type", "imatrix")], "blk.0.attn_q.weight.in_sum2"),
            &["importance matrix"],
        ),
        ("mmproj.gguf", gguf(&[("general.architecture", "clip")], "v.patch_embd.weight"), &["mmproj"]),
        (
            "vector.gguf",
            gguf(&[("general.architecture", "controlvector")], "direction.1"),
            &["control vector"],
        ),
    ]
}

#[test]
fn other_files_are_named() {
    let scratch = Scratch::new("wrong", "files");
    for (name, bytes, parts) in &others() {
        scratch.write(name, bytes);
        let is_gguf = GgufFile::from_vec("file", bytes.clone()).is_ok();
        for command in commands(name) {
            // What is in a GGUF file of any kind can be shown; the table says what is wrong.
            if is_gguf && command[0] == "show" {
                continue;
            }
            let Done { code, err } = run(&scratch, &command, &[]);
            assert_eq!(code, 3, "{command:?}: {err}");
            parts.iter().for_each(|part| assert!(err.contains(part), "{command:?}: no {part:?} in {err}"));
        }
    }
}

#[test]
fn folders_are_looked_into() {
    let scratch = Scratch::new("wrong", "folders");
    let folder = |name: &str, files: &[&str]| {
        std::fs::create_dir(scratch.folder.join(name)).unwrap();
        files.iter().for_each(|file| scratch.write(&format!("{name}/{file}"), "{}"));
    };
    folder("published", &["config.json", "model.safetensors"]);
    folder("adapter", &["adapter_config.json", "config.json"]);
    folder("files", &["b.gguf", "a.gguf", "readme.md"]);
    folder("none", &[]);
    for (name, part) in [
        ("published", "smolt-quantize convert published model.gguf"),
        ("adapter", "LoRA adapter"),
        ("files", "it holds a.gguf, b.gguf; name one, e.g. -m files/a.gguf"),
        ("none", "name a GGUF file"),
        ("./published", "smolt-quantize convert ./published model.gguf"),
    ] {
        for command in commands(name) {
            let Done { code, err } = run(&scratch, &command, &[]);
            assert_eq!(code, 3, "{command:?}: {err}");
            assert!(err.contains(part), "{command:?}: {err}");
        }
    }
}

#[test]
fn names_of_no_model_are_answered_with_the_next_step() {
    let scratch = Scratch::new("wrong", "names");
    std::fs::create_dir_all(scratch.folder.join("home/models/some/repo-GGUF")).unwrap();
    std::fs::copy(
        repository("src/cli/demo.gguf"),
        scratch.folder.join("home/models/some/repo-GGUF/demo-Q4_0.gguf"),
    )
    .unwrap();
    std::fs::copy(repository("src/cli/demo.gguf"), scratch.folder.join("kiosk.gguf")).unwrap();
    let pull = if cfg!(feature = "pull") { "smolt pull" } else { "smolt list" };
    for (name, part) in [
        ("org/other", pull),
        ("hf.co/org/other", pull),
        ("https://huggingface.co/org/other", pull),
        ("https://huggingface.co/org/other/blob/main/x-Q8_0.gguf", pull),
        ("some/repo-GGUFF", "did you mean some/repo-GGUF?"),
        ("some/repo-GGUF:demo-Q4_1.gguf", "did you mean some/repo-GGUF:demo-Q4_0.gguf?"),
        ("demo-Q4_", "did you mean demo-Q4_0?"),
        ("kiosc.gguf", "did you mean kiosk.gguf?"),
        ("nothing-like-it-at-all", "smolt list"),
        ("", "expected a value, found nothing"),
    ] {
        let Done { code, err } = run(&scratch, &["plan", "-m", name], &[]);
        assert_eq!(code, if name.is_empty() { 2 } else { 3 }, "{name}: {err}");
        assert!(err.contains(part), "{name}: {err}");
    }
    if cfg!(feature = "pull") {
        let name = "https://huggingface.co/org/other/resolve/main/x-Q8_0.gguf?download=true";
        let Done { err, .. } = run(&scratch, &["plan", "-m", name], &[]);
        assert!(err.contains("smolt pull org/other:x-Q8_0.gguf"), "{err}");
    }
    for address in [
        "https://huggingface.co/some/repo-GGUF",
        "hf.co/some/repo-GGUF:Q4_0",
        "HTTPS://hf.co/some/repo-GGUF/tree/main",
    ] {
        let Done { code, err } = run(&scratch, &["plan", "-m", address], &[]);
        assert_eq!(code, 0, "{address}: {err}");
    }
}

#[test]
fn an_empty_variable_counts_as_none() {
    let scratch = Scratch::new("wrong", "variables");
    let empty = [("SMOLT_MODEL", ""), ("SMOLT_THREADS", ""), ("SMOLT_KV", ""), ("SMOLT_SYSTEM", "")];
    let Done { code, err } = run(&scratch, &["run", "-n", "3", "Hi"], &empty);
    assert_eq!(code, 0, "{err}");
    let mut command = smolt();
    let done = command.args(["config"]).envs(empty).current_dir(&scratch.folder).output().unwrap();
    let table = String::from_utf8(done.stdout).unwrap();
    let places = table.lines().filter(|line| line.trim_end().ends_with("SMOLT_THREADS"));
    assert_eq!((done.status.code(), places.count()), (Some(0), 0), "{table}");
}

#[test]
fn numbers_below_zero_are_refused_as_values() {
    let scratch = Scratch::new("wrong", "numbers");
    for (option, value, part) in [
        ("-n", "-1", "expected a whole number or none"),
        ("--max-tokens", "-1", "expected a whole number or none"),
        ("-n", "x", "expected a whole number"),
        ("-n", "99999999999999999999999", "99999999999999999999999"),
        ("-c", "-5", "\"-5\""),
        ("-t", "-2", "\"-2\""),
        ("--temp", "-1", "-1"),
        ("--seed", "-1", "expected a whole number, 0 or more"),
        ("--top-p", "much", "expected a number"),
    ] {
        let Done { code, err } = run(&scratch, &["run", option, value, "Hi"], &[]);
        assert_eq!(code, 2, "{option} {value}: {err}");
        assert!(err.contains(part) && !err.contains("unexpected argument"), "{option} {value}: {err}");
    }
}

#[test]
fn a_split_model_answers_as_the_whole() {
    let scratch = Scratch::new("wrong", "split");
    let whole = repository("src/cli/demo.gguf");
    let file = GgufFile::open(&whole).unwrap();
    let half = file.tensors().len() / 2;
    for (number, tensors) in [&file.tensors()[..half], &file.tensors()[half..]].into_iter().enumerate() {
        let mut writer = GgufWriter::new();
        if number == 0 {
            writer.copy_metadata(&file, |_| true);
        }
        writer.set("split.no", number as u32).set("split.count", 2u32);
        writer.set("split.tensors.count", file.tensors().len() as u32);
        for info in tensors {
            writer.add_tensor(&info.name, &info.shape, info.block_type);
        }
        let path = scratch.folder.join(format!("demo-0000{}-of-00002.gguf", number + 1));
        writer
            .write_to(&path, |info, out| out.write_all(file.data(file.tensor(&info.name).unwrap()).unwrap()))
            .unwrap();
    }
    let out = |arguments: &[&str]| {
        let done =
            smolt().args(arguments).current_dir(&scratch.folder).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let ask = ["Turn on the kitchen lights", "--temp", "0"];
    let expected = out(&[&["run"], &ask[..]].concat());
    for part in ["demo-00001-of-00002.gguf", "demo-00002-of-00002.gguf"] {
        assert_eq!(out(&[&["run", "-m", part], &ask[..]].concat()), expected, "{part}");
    }
    let first = "demo-00001-of-00002.gguf";
    out(&["pack", "-m", first]);
    assert_eq!(out(&[&["run", "-m", "demo-00002-of-00002.gguf"], &ask[..]].concat()), expected, "packed");
    let report: serde_json::Value = serde_json::from_str(&out(&["show", first, "--hash", "--json"])).unwrap();
    assert_eq!((report["parts"].as_array().unwrap().len(), report["sha256"].is_null()), (2, true));
    scratch.remove("demo-00002-of-00002.gguf");
    let Done { code, err } = run(&scratch, &["run", "-m", first, "Hi"], &[]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("demo-00002-of-00002.gguf: part 2 of 2 of the model is missing"), "{err}");
}
