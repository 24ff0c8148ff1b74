//! Files that are right but for what the fuzzer changes, so that it gets behind the first check.

use std::sync::LazyLock;

use smolt::blocks::BlockType;
use smolt::gguf::{GgufFile, GgufWriter};
use smolt::text::BYTE_CHARS;

const MAGIC: &[u8] = b"GGUF";
const DIM: u64 = 32;
const INNER: u64 = 64;

fn metadata() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "llama").set("general.name", "fuzz");
    for (key, value) in [
        ("context_length", 64),
        ("embedding_length", DIM as u32),
        ("block_count", 1),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("feed_forward_length", INNER as u32),
    ] {
        writer.set(format!("llama.{key}"), value);
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    writer
}

/// Every byte, two merged texts and two control tokens.
fn add_tokens(mut writer: GgufWriter) -> GgufWriter {
    let texts = BYTE_CHARS.iter().map(|c| c.to_string());
    let texts: Vec<String> =
        texts.chain(["th", "the", "<|im_start|>", "<|im_end|>"].map(String::from)).collect();
    let kinds: Vec<i32> = (0..texts.len()).map(|id| if id < 258 { 1 } else { 3 }).collect();
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
    writer.set("tokenizer.ggml.tokens", texts).set("tokenizer.ggml.token_type", kinds);
    writer.set("tokenizer.ggml.merges", vec!["t h".to_owned(), "th e".to_owned()]);
    writer.set("tokenizer.ggml.bos_token_id", 258_u32).set("tokenizer.ggml.eos_token_id", 259_u32);
    writer
}

fn written(mut writer: GgufWriter) -> Vec<u8> {
    let mut add = |name: &str, shape: &[u64]| {
        writer.add_tensor(name, shape, if shape.len() == 1 { BlockType::F32 } else { BlockType::Q4_0 });
    };
    add("token_embd.weight", &[DIM, 260]);
    add("output_norm.weight", &[DIM]);
    for (name, shape) in [
        ("attn_norm", &[DIM][..]),
        ("ffn_norm", &[DIM]),
        ("attn_q", &[DIM, DIM]),
        ("attn_k", &[DIM, DIM / 2]),
        ("attn_v", &[DIM, DIM / 2]),
        ("attn_output", &[DIM, DIM]),
        ("ffn_gate", &[DIM, INNER]),
        ("ffn_up", &[DIM, INNER]),
        ("ffn_down", &[INNER, DIM]),
    ] {
        add(&format!("blk.0.{name}.weight"), shape);
    }
    let bytes = writer.to_vec("fuzz", |tensor, out| match tensor.block_type {
        BlockType::F32 => (0..DIM).try_for_each(|_| out.write_all(&1_f32.to_le_bytes())),
        _ => out.write_all(&vec![0x22; tensor.bytes as usize]),
    });
    bytes.expect("it is written to memory")
}

static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| written(add_tokens(metadata())));

/// A model of one layer whose vocabulary has every byte.
pub(crate) fn base() -> GgufFile {
    GgufFile::from_vec("base.gguf", BASE.clone()).expect("the base model is right")
}

/// A file, or the base model with changes: each of four bytes, which say where in the header, or where at all, what is
/// done, and with which byte.
pub(crate) fn patched(data: &[u8]) -> Vec<u8> {
    if data.starts_with(MAGIC) {
        return data.to_vec();
    }
    let mut file = BASE.clone();
    for change in data.chunks_exact(4) {
        let [low, high, what, byte] = *change else { continue };
        let place = usize::from(u16::from_le_bytes([low, high])) % file.len();
        match what % 6 {
            0 => file[place] ^= byte,
            1 => file[place] = file[place].wrapping_add(byte),
            // A number of four bytes: small, large or negative.
            2 if place + 4 <= file.len() => {
                file[place..place + 4].copy_from_slice(&u32::from(byte).to_le_bytes())
            }
            3 if place + 4 <= file.len() => file[place..place + 4].fill(if byte < 128 { 0xFF } else { 0 }),
            4 => {
                // The end of the file, so that what remains is a model again only by other changes.
                file.truncate(place.max(64));
            }
            _ => file[place] = byte,
        }
    }
    file
}

/// The base model's metadata with another vocabulary: its kind, its pre-tokenizer, and a line for each token or merge.
/// Most inputs, by `number`, have the pre-tokenizer whose pattern is the shortest: to compile the others takes a hundred
/// times as long as all else.
pub(crate) fn vocabulary(data: &[u8], number: u32) -> GgufFile {
    const PRES: &[&str] = &["gpt-2", "llama-bpe", "qwen2", "smollm", "falcon", "default", "gpt-4o", "none"];
    let mut writer = metadata();
    let (kind, pre) = (data.first().copied().unwrap_or(0), data.get(1).copied().unwrap_or(0));
    let lines = String::from_utf8_lossy(data.get(2..).unwrap_or_default()).into_owned();
    let is_bpe = kind & 1 == 0;
    let bytes =
        |byte: u8| if is_bpe { BYTE_CHARS[usize::from(byte)].to_string() } else { format!("<0x{byte:02X}>") };
    // Without the bytes most texts could not be read.
    let mut tokens: Vec<String> = if kind & 2 == 0 { (0..=255).map(bytes).collect() } else { vec![] };
    let mut kinds: Vec<i32> = vec![if is_bpe { 1 } else { 6 }; tokens.len()];
    let (mut scores, mut merges) = (vec![0_f32; tokens.len()], vec![]);
    for (at, line) in lines.split('\n').take(500).enumerate() {
        if let Some(merge) = line.strip_prefix('+') {
            merges.push(merge.to_owned());
            continue;
        }
        let mut chars = line.chars();
        let kind = chars.next().and_then(|c| c.to_digit(10)).unwrap_or(1);
        tokens.push(chars.as_str().to_owned());
        kinds.push(kind as i32);
        scores.push(if kind == 9 { f32::NAN } else { -(at as f32) });
    }
    let last = tokens.len().saturating_sub(1) as u32;
    writer.set("tokenizer.ggml.model", if is_bpe { "gpt2" } else { "llama" });
    let named = PRES[usize::from(pre) % PRES.len()];
    writer.set(
        "tokenizer.ggml.pre",
        if number.is_multiple_of(32) || named == "none" { named } else { "bloom" },
    );
    writer.set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.token_type", kinds);
    writer.set("tokenizer.ggml.scores", scores).set("tokenizer.ggml.merges", merges);
    writer.set("tokenizer.ggml.bos_token_id", last).set("tokenizer.ggml.eos_token_id", last);
    writer.set("tokenizer.ggml.unknown_token_id", 0_u32);
    let bytes = writer.to_vec("fuzz", |_, _| Ok(())).expect("it is written to memory");
    GgufFile::from_vec("vocabulary.gguf", bytes).expect("the container is right")
}

/// A saved session: a file, or one made of the parts that the input holds (header, tokens, state, and a step a part), with
/// their lengths and checksums. `STATE` in the header stands for the key of the state.
pub(crate) fn session(data: &[u8], key: u64) -> Vec<u8> {
    if data.starts_with(b"smoltses") {
        return data.to_vec();
    }
    let mut parts = data.split(|byte| *byte == 0xFF);
    let mut part = || parts.next().unwrap_or_default();
    let header = String::from_utf8_lossy(part()).replace("STATE", &key.to_string()).into_bytes();
    let (tokens, state) = (part(), part());
    let tokens = &tokens[..tokens.len() / 4 * 4];
    let mut file = b"smoltses".to_vec();
    file.extend(2_u32.to_le_bytes());
    file.extend((header.len() as u32).to_le_bytes());
    file.extend((tokens.len() as u64 / 4).to_le_bytes());
    file.extend((state.len() as u64).to_le_bytes());
    file.extend([&header, tokens, state].concat());
    file.extend(checksum(&file).to_le_bytes());
    for step in parts {
        let mut record = (step.len() as u32).to_le_bytes().to_vec();
        record.extend(step);
        file.extend(&record);
        file.extend(checksum(&record).to_le_bytes());
    }
    file
}

/// The checksum of session files.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = words.iter().fold(0x5342_4c54_5345_5331, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    let sum = mix(mix(sum, u64::from_le_bytes(last)), bytes.len() as u64);
    sum ^ (sum >> 32)
}

/// Mostly makes the first bytes of a GGUF file right again: the magic, a version that is read, and counts that the file
/// could hold.
pub fn mend(data: &mut [u8], seed: u32) {
    if data.len() >= 24 && !seed.is_multiple_of(8) {
        data[..4].copy_from_slice(MAGIC);
        data[4..8].copy_from_slice(&3_u32.to_le_bytes());
        for count in [8, 16] {
            data[count + 1..count + 8].fill(0);
        }
    }
}
