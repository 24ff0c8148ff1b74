//! Models whose numbers and weights lie: each is refused by its key or tensor, or runs, and ends in time.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use smolt::blocks::BlockType;
use smolt::gguf::{GgufFile, GgufWriter};

use crate::chat::{Chain, Folder};
use crate::shared::smolt;

/// Small, with rows that blocks of 256 fit.
const CHAIN: Chain = Chain { ends: true, template: true, hidden: 256 };
/// A second on a machine that does nothing else; tests share it, and are not optimised.
const PATIENCE: Duration = Duration::from_secs(20);

/// Exit code and messages of one token of a model.
fn answer(model: &Path) -> (i32, String) {
    let start = Instant::now();
    let mut command = smolt();
    command.args(["run", "-t", "1", "-n", "1", "--raw", "--no-stdin", "-m"]).arg(model).arg("Hi");
    let done = command.stdin(Stdio::null()).output().unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert!(start.elapsed() < PATIENCE, "{err}");
    let code = done.status.code();
    assert!(code.is_some() && !err.contains("panicked"), "{code:?} {err}");
    (code.unwrap(), err)
}

/// Asserts that a model with other metadata is refused, with these parts of a message.
fn refused(change: impl Fn(&mut GgufWriter), parts: &[&str]) {
    let folder = Folder::new();
    let (code, err) = answer(&CHAIN.write_with(&folder.path("m.gguf"), change));
    assert_eq!(code, 3, "{parts:?}: {err}");
    parts.iter().for_each(|part| assert!(err.contains(part), "no {part:?} in {err}"));
}

#[test]
fn numbers_of_a_header_are_refused_by_name() {
    refused(|w| _ = w.set("llama.embedding_length", 64.0f32), &["llama.embedding_length", "f32 64"]);
    for (key, value) in [
        ("block_count", 0u32),
        ("block_count", 3),
        ("attention.head_count", 0),
        ("attention.head_count", 3),
        ("attention.head_count_kv", 3),
        ("context_length", 0),
        ("rope.dimension_count", 31),
        ("feed_forward_length", 0),
    ] {
        let part = match (key, value) {
            ("block_count", 3) => "blk.2.",
            // So many heads have no whole width.
            ("attention.head_count", 3) => "rope.dimension_count is 21",
            _ => key,
        };
        refused(|w| _ = w.set(format!("llama.{key}"), value), &[part]);
    }
    for key in ["rope.freq_base", "attention.layer_norm_rms_epsilon"] {
        for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            refused(|w| _ = w.set(format!("llama.{key}"), value), &[key, "a positive number"]);
        }
    }
    for counts in [vec![], vec![1u32], vec![1, 2]] {
        refused(|w| _ = w.set("llama.attention.head_count_kv", counts.clone()), &["attention.head_count_kv"]);
    }
}

/// What a mixture has in place of one feed-forward is not read as one.
#[test]
fn a_mixture_of_experts_is_refused() {
    for experts in [0, 8, u32::MAX] {
        let folder = Folder::new();
        let path = CHAIN.write_with(&folder.path("m.gguf"), |w| _ = w.set("llama.expert_count", experts));
        let (code, err) = renamed(&folder, &path, |name| name.replace("ffn_gate.", "ffn_gate_exps."));
        assert!(code == 3 && err.contains("blk.0.ffn_gate.weight is missing"), "{experts}: {err}");
    }
}

#[test]
fn a_tensor_nobody_asks_for_is_refused() {
    let folder = Folder::new();
    let path = CHAIN.write(&folder);
    let file = GgufFile::open(&path).unwrap();
    let mut writer = GgufWriter::new();
    writer.copy_metadata(&file, |_| true);
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, info.block_type);
    }
    writer.add_tensor("blk.0.backdoor.weight", &[64], BlockType::F32);
    let bytes = writer.to_vec("more", |info, out| match file.tensor(&info.name) {
        Some(info) => out.write_all(file.data(info).unwrap()),
        None => out.write_all(&vec![0xFF; info.bytes as usize]),
    });
    std::fs::write(folder.path("more.gguf"), bytes.unwrap()).unwrap();
    let (code, err) = answer(&folder.path("more.gguf"));
    assert!(code == 3 && err.contains("blk.0.backdoor.weight has no part"), "{err}");
}

/// A model whose tensors are called otherwise.
fn renamed(folder: &Folder, path: &Path, rename: impl Fn(&str) -> String) -> (i32, String) {
    let file = GgufFile::open(path).unwrap();
    let mut writer = GgufWriter::new();
    writer.copy_metadata(&file, |_| true);
    for info in file.tensors() {
        writer.add_tensor(rename(&info.name), &info.shape, info.block_type);
    }
    let bytes = writer.to_vec("renamed", |info, out| {
        let old = file.tensors().iter().find(|old| rename(&old.name) == info.name);
        out.write_all(file.data(old.unwrap()).unwrap())
    });
    std::fs::write(folder.path("renamed.gguf"), bytes.unwrap()).unwrap();
    answer(&folder.path("renamed.gguf"))
}

#[test]
fn a_context_that_fits_no_memory_is_exit_code_4_or_less_context() {
    let folder = Folder::new();
    for length in [u32::MAX, 1 << 30] {
        let model = CHAIN.write_with(&folder.path("m.gguf"), |w| _ = w.set("llama.context_length", length));
        let (code, err) = answer(&model);
        assert!(code == 0 || code == 4, "{length}: {code} {err}");
    }
}

#[test]
fn vocabularies_must_fit_the_weights_and_themselves() {
    let texts = |count: usize| (0..count).map(|id| format!("t{id}")).collect::<Vec<_>>();
    for count in [1, 257, 259] {
        let change = |w: &mut GgufWriter| {
            w.set("tokenizer.ggml.tokens", texts(count)).set("tokenizer.ggml.token_type", vec![1i32; count]);
            w.set("tokenizer.ggml.bos_token_id", 0u32).set("tokenizer.ggml.eos_token_id", 0u32);
        };
        refused(change, &["token"]);
    }
    refused(|w| _ = w.set("tokenizer.ggml.token_type", vec![1i32; 9]), &["tokenizer.ggml.token_type"]);
    refused(|w| _ = w.set("tokenizer.ggml.bos_token_id", 9999u32), &["bos_token_id"]);
    // Kinds that are not supported are refused by name, with whatever tables they bring.
    let change = |w: &mut GgufWriter| {
        w.set("tokenizer.ggml.model", "t5").set("tokenizer.ggml.precompiled_charsmap", vec![-1i32; 7]);
    };
    refused(change, &["t5"]);
}

/// A model with one tensor changed: its name, shape, type, and what its bytes are.
fn rewritten(folder: &Folder, name: &str, shape: &[u64], kind: BlockType, bytes: &[u8]) -> (i32, String) {
    let path = CHAIN.write(folder);
    let file = GgufFile::open(&path).unwrap();
    let mut writer = GgufWriter::new();
    writer.copy_metadata(&file, |_| true);
    for info in file.tensors() {
        let is_changed = info.name == name;
        let (shape, kind) = if is_changed { (shape, kind) } else { (&info.shape[..], info.block_type) };
        writer.add_tensor(&info.name, shape, kind);
    }
    let changed = writer.to_vec("changed", |info, out| {
        if info.name == name {
            let whole: Vec<u8> = bytes.iter().copied().cycle().take(info.bytes as usize).collect();
            return out.write_all(&whole);
        }
        out.write_all(file.data(file.tensor(&info.name).unwrap()).unwrap())
    });
    let path = folder.path("changed.gguf");
    std::fs::write(&path, changed.unwrap()).unwrap();
    answer(&path)
}

#[test]
fn a_tensor_of_another_shape_is_refused() {
    let folder = Folder::new();
    for (name, shape) in [
        ("output.weight", &[64, 257][..]),
        ("output.weight", &[32, 258]),
        ("token_embd.weight", &[32, 258]),
        ("blk.0.attn_q.weight", &[64, 32]),
        ("blk.1.ffn_down.weight", &[64, 256]),
        ("output_norm.weight", &[64, 2]),
    ] {
        let (code, err) = rewritten(&folder, name, shape, BlockType::F32, &[0]);
        assert!(code == 3 && err.contains(name), "{name} {shape:?}: {err}");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let folder = Folder::new();
    let nothing: [(&str, &[u8]); 2] = [("NaN", &[0xFF]), ("infinity", &[0x00, 0x7C])];
    for kind in [
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q8_0,
        BlockType::Q4K,
        BlockType::Q5K,
        BlockType::Q6K,
        BlockType::IQ4NL,
        BlockType::F16,
        BlockType::Q2K,
        BlockType::Q3K,
        BlockType::IQ2XXS,
        BlockType::IQ2XS,
        BlockType::IQ3XXS,
        BlockType::IQ1S,
        BlockType::IQ3S,
        BlockType::IQ2S,
        BlockType::IQ4XS,
        BlockType::IQ1M,
        BlockType::TQ1_0,
        BlockType::TQ2_0,
        BlockType::MXFP4,
        BlockType::NVFP4,
        BlockType::Q1_0,
        BlockType::Q2_0,
    ] {
        // Scales of these have no infinity, or the second bytes are no whole scale.
        let kinds = if matches!(kind, BlockType::IQ1M | BlockType::MXFP4 | BlockType::NVFP4) { 1 } else { 2 };
        for (what, bytes) in nothing.into_iter().take(kinds) {
            // Blocks have lengths of two kinds; a scale at an odd place is read from two of these.
            let (code, err) = rewritten(&folder, "blk.0.ffn_down.weight", &[256, 64], kind, bytes);
            assert!(code == 3 && err.contains("not finite"), "{what} in {kind}: {code} {err}");
            assert!(err.contains("blk.0.ffn_down.weight"), "{what} in {kind}: {err}");
        }
    }
    for name in ["blk.1.attn_norm.weight", "output_norm.weight"] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (code, err) = rewritten(&folder, name, &[64], BlockType::F32, &value.to_le_bytes());
            assert!(code == 3 && err.contains("not finite") && err.contains(name), "{name} {value}: {err}");
        }
    }
}

#[test]
fn weights_of_every_type_are_read_and_negative_minifloats_refused() {
    let folder = Folder::new();
    for kind in BlockType::ALL.iter().copied() {
        let (code, err) = rewritten(&folder, "blk.0.ffn_down.weight", &[256, 64], kind, &[0x22]);
        assert_eq!(code, 0, "{kind}: {err}");
    }
    for scale in [0x7F, 0x80, 0xB8] {
        let name = "blk.0.ffn_down.weight";
        let (code, err) = rewritten(&folder, name, &[256, 64], BlockType::NVFP4, &[scale]);
        assert!(code == 3 && err.contains(name) && err.contains("not one of its type"), "{scale:#x}: {err}");
    }
}

/// Weights may be finite and what is computed from them not: no token is chosen from it.
#[test]
fn what_overflows_is_an_error_and_no_token() {
    let folder = Folder::new();
    let huge = f32::MAX.to_le_bytes();
    let (code, err) = rewritten(&folder, "output.weight", &[64, 258], BlockType::F32, &huge);
    assert!(matches!(code, 1 | 3) && err.contains("not finite"), "{code} {err}");
    let tiny = f32::from_bits(1).to_le_bytes();
    let (code, err) = rewritten(&folder, "output.weight", &[64, 258], BlockType::F32, &tiny);
    assert_eq!(code, 0, "{err}");
}
