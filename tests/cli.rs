//! The built program from outside: exit codes, what goes where, signals and pipes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::shared;
use smolt::blocks::BlockType;
use smolt::gguf::GgufWriter;
use smolt::kernels::Kernels;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}\
                      {% endfor %}{{ '<|im_start|>assistant\n' }}";
/// Ids 0..256 are the bytes.
const IM_START: u32 = 256;
const IM_END: u32 = 257;
const VOCAB: usize = 258;
const DIM: usize = 32;
const HIDDEN: usize = 64;
const TRAINED_CONTEXT: u32 = 300;

/// A directory that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("smolt-cli-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A model of two layers with random weights that writes printable ASCII and never ends by itself.
struct Tiny {
    architecture: &'static str,
    template: Option<&'static str>,
    pre: &'static str,
    without: &'static str,
    /// Tensor whose every scale (Q4_0) or value (F32) is NaN.
    damaged: &'static str,
}

impl Default for Tiny {
    fn default() -> Tiny {
        Tiny { architecture: "llama", template: Some(CHATML), pre: "gpt-2", without: "", damaged: "" }
    }
}

impl Tiny {
    fn metadata(&self) -> GgufWriter {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", self.architecture).set("general.name", "tiny");
        let sizes = [
            ("context_length", TRAINED_CONTEXT),
            ("embedding_length", DIM as u32),
            ("block_count", 2),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("feed_forward_length", HIDDEN as u32),
        ];
        for (key, value) in sizes {
            writer.set(format!("{}.{key}", self.architecture), value);
        }
        let texts: Vec<String> = (0..=255)
            .map(|byte| byte_char(byte).to_string())
            .chain(["<|im_start|>", "<|im_end|>"].map(String::from))
            .collect();
        let kinds: Vec<i32> = (0..VOCAB).map(|id| if id < 256 { 1 } else { 3 }).collect();
        writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", self.pre);
        writer.set("tokenizer.ggml.tokens", texts).set("tokenizer.ggml.token_type", kinds);
        writer.set("tokenizer.ggml.merges", Vec::<String>::new());
        writer.set("tokenizer.ggml.bos_token_id", IM_START).set("tokenizer.ggml.eos_token_id", IM_END);
        if let Some(template) = self.template {
            writer.set("tokenizer.chat_template", template);
        }
        writer
    }

    fn tensors(&self) -> Vec<(String, [usize; 2])> {
        let mut tensors = vec![("token_embd.weight".to_owned(), [DIM, VOCAB])];
        for layer in 0..2 {
            for (name, shape) in [
                ("attn_norm", [DIM, 1]),
                ("attn_q", [DIM, DIM]),
                ("attn_k", [DIM, DIM / 2]),
                ("attn_v", [DIM, DIM / 2]),
                ("attn_output", [DIM, DIM]),
                ("ffn_norm", [DIM, 1]),
                ("ffn_gate", [DIM, HIDDEN]),
                ("ffn_up", [DIM, HIDDEN]),
                ("ffn_down", [HIDDEN, DIM]),
            ] {
                tensors.push((format!("blk.{layer}.{name}.weight"), shape));
            }
        }
        tensors.push(("output_norm.weight".to_owned(), [DIM, 1]));
        tensors.retain(|(name, _)| name != self.without);
        tensors
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = self.metadata();
        for (name, [cols, rows]) in self.tensors() {
            match rows {
                1 => writer.add_tensor(name, &[cols as u64], BlockType::F32),
                _ => writer.add_tensor(name, &[cols as u64, rows as u64], BlockType::Q4_0),
            };
        }
        let mut random = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let write = |tensor: &smolt::gguf::TensorInfo, out: &mut dyn Write| {
            let damaged = tensor.name == self.damaged;
            if tensor.block_type == BlockType::F32 {
                let value = if damaged { f32::NAN } else { 1.0f32 };
                return out.write_all(&value.to_le_bytes().repeat(DIM));
            }
            let mut values: Vec<f32> = (0..tensor.bytes / 18 * 32).map(|_| next()).collect();
            if tensor.name == "token_embd.weight" {
                for (id, row) in values.chunks_exact_mut(DIM).enumerate() {
                    row.iter_mut().for_each(|v| if (32..127).contains(&id) { *v *= 4.0 } else { *v = 0.0 });
                }
            }
            let mut bytes = vec![0; tensor.bytes as usize];
            BlockType::Q4_0.encode(&values, &mut bytes);
            if damaged {
                bytes.chunks_exact_mut(18).for_each(|block| block[..2].copy_from_slice(&[0, 0x7E]));
            }
            out.write_all(&bytes)
        };
        writer.to_vec("tiny", write).unwrap()
    }

    fn write(&self, folder: &Folder) -> PathBuf {
        let path = folder.0.join("tiny.gguf");
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }
}

/// The character that stands for a byte in byte-level vocabularies.
fn byte_char(byte: u8) -> char {
    let is_shown = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
    let hidden_before = (0..byte).filter(|&byte| !is_shown(byte)).count() as u32;
    if is_shown(byte) { char::from(byte) } else { char::from_u32(256 + hidden_before).unwrap() }
}

/// How a process ended.
struct Ended {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ended {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        assert_eq!(self.out.iter().filter(|&&b| b == b'\n').count(), 1, "one line");
        serde_json::from_slice(&self.out).unwrap()
    }

    #[track_caller]
    fn ok(self) -> Ended {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }

    /// Failed with this code, a message that holds `parts` and nothing on standard output.
    #[track_caller]
    fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert!(self.out.is_empty());
        assert!(self.err.starts_with("smolt: ") || code == 2, "{}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = crate::shared::smolt();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The process may end without reading it.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Ended { code: output.status.code(), out: output.stdout, err }
}

fn smolt(args: &[&str], input: &[u8]) -> Ended {
    finish(&mut command(args), input)
}

fn run(model: &Path, args: &[&str]) -> Ended {
    smolt(&[&["run", "-m", model.to_str().unwrap(), "--temp", "0", "-n", "20"], args].concat(), b"")
}

#[test]
fn help_and_usage() {
    let help = smolt(&["--help"], b"").ok();
    assert!(help.text().contains("Examples:") && help.text().contains("130 interrupted"));
    assert!(smolt(&["run", "--help"], b"").ok().text().contains("SMOLT_MODEL"));
    assert!(smolt(&["--version"], b"").ok().text().starts_with("smolt "));
    for (args, part) in [
        (&[][..], "Usage"),
        (&["walk"][..], "walk"),
        (&["run", "--colour", "x"][..], "--colour"),
        (&["run", "-c", "0", "x"][..], "1 to 1048576"),
        (&["run", "-t", "0", "x"][..], "from 1 to 256"),
        (&["run", "--max-memory", "much", "x"][..], "200M"),
        (&["run", "--raw", "--system", "a", "x"][..], "--system"),
        (&["run"][..], "no prompt"),
        (&["run", " \n"][..], "no prompt"),
    ] {
        smolt(args, b"").failed(2, &[part]);
    }
}

/// A heading counts for all options after it, unless they have their own.
#[test]
fn the_model_is_among_the_first_options() {
    for command in ["run", "chat", "batch", "eval", "plan", "bench"] {
        for kind in ["-h", "--help"] {
            let help = smolt(&[command, kind], b"").ok();
            let before = help.text().split("--model ").next().unwrap();
            let heading = before.lines().rfind(|line| line.ends_with(':') && !line.starts_with(' '));
            assert_eq!(heading, Some("Options:"), "{command} {kind}");
        }
    }
}

#[test]
fn only_the_answer_goes_to_standard_output() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let ended = run(&model, &["Hi"]).ok();
    assert_eq!(ended.err, "");
    assert_eq!((ended.out.len(), ended.out[20]), (21, b'\n'), "one character per token and a line break");
    assert!(ended.out[..20].iter().all(|byte| (32..127).contains(byte)));
    let with_stats = run(&model, &["Hi", "--stats"]).ok();
    assert_eq!(with_stats.out, ended.out);
    for part in ["prompt", "tok/s", "first", "decode", "context", "planned", "kernels", "threads"] {
        assert!(with_stats.err.contains(part), "{part}");
    }
    assert_eq!(folder.files(), 1, "nothing is written");
}

#[test]
fn json_holds_the_same_answer_and_all_keys() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let plain = run(&model, &["Hi"]).ok();
    let json = run(&model, &["Hi", "--json", "--seed", "7"]).ok().json();
    assert_eq!(json["text"], plain.text().trim_end_matches('\n'));
    assert_eq!(json["tokens"], 20);
    assert_eq!(json["prompt_tokens"], 1 + "user\nHi".len() + 1 + "\n".len() + 1 + "assistant\n".len());
    assert_eq!(json["finish_reason"], "length");
    assert_eq!(json["seed"], 7);
    for key in ["load_ms", "ttft_ms", "prompt_tok_s", "decode_tok_s"] {
        assert!(json["timings"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    let planned = json["memory"]["planned_bytes"].as_u64().unwrap();
    assert_eq!(smolt(&["plan", "--json", "-m", model.to_str().unwrap()], b"").ok().json()["total"], planned);
    if cfg!(target_os = "linux") {
        assert!(json["memory"]["peak_rss_bytes"].as_u64().unwrap() > 100_000);
    }
    assert_eq!(json["model"]["name"], "tiny");
}

#[test]
fn guessing_ahead_changes_no_answer() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let mut drafted = 0;
    for sampling in [&["--temp", "0"][..], &["--temp", "1", "--seed", "3"], &["--repeat-penalty", "1.3"]] {
        let args = [&["Hi hi hi hi", "-n", "60", "-c", "128", "--json", "--seed", "3"], sampling].concat();
        let ask = |extra: &[&str]| run(&model, &[&args[..], extra].concat()).ok().json();
        let plain = ask(&[]);
        assert!(plain["lookup"].is_null());
        for (lookup, rows) in [("--lookup", 8), ("--lookup=3", 4), ("--lookup=31", 32)] {
            let json = ask(&[lookup]);
            for key in ["text", "tokens", "finish_reason"] {
                assert_eq!(json[key], plain[key], "{lookup} {sampling:?}");
            }
            let count = |key: &str| json["lookup"][key].as_u64().unwrap();
            assert!(count("accepted_tokens") <= count("drafted_tokens"));
            drafted += count("drafted_tokens");
            let bytes = |rows: u64, row: usize| (rows * row as u64 * 4).next_multiple_of(4096);
            let pages = |rows: u64| bytes(rows, VOCAB) + bytes(rows, VOCAB.div_ceil(64));
            let planned = |json: &serde_json::Value| json["memory"]["planned_bytes"].as_u64().unwrap();
            assert_eq!(planned(&json), planned(&plain) + pages(rows) - pages(1));
            let plan = ["plan", "--json", "-c", "128", "-m", model.to_str().unwrap(), lookup];
            assert_eq!(smolt(&plan, b"").ok().json()["total"], planned(&json));
        }
    }
    assert!(drafted > 0);
    let stats = run(&model, &["Hi", "--lookup", "--stats"]).ok().err;
    assert!(stats.contains("guessed ahead"), "{stats}");
    run(&model, &["Hi", "--lookup=32"]).failed(2, &["--lookup", "31"]);
}

#[test]
fn prompts_come_from_argument_and_input() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let model = model.to_str().unwrap();
    let options = ["run", "-m", model, "--temp", "0", "-n", "20"];
    let expected = smolt(&[&options[..], &["Sum up:\n\none\ntwo"]].concat(), b"").ok().out;
    let joined = smolt(&[&options[..], &["Sum up:"]].concat(), b"one\ntwo\n").ok().out;
    assert_eq!(joined, expected);
    let input_only = smolt(&options, b"Sum up:\n\none\ntwo\n").ok().out;
    assert_eq!(input_only, expected);
    let dash = smolt(&[&options[..], &["-"]].concat(), b"Sum up:\n\none\ntwo").ok().out;
    assert_eq!(dash, expected);
    let other = smolt(&[&options[..], &["--system", "x", "-"]].concat(), b"Sum up:\n\none\ntwo").ok().out;
    assert_ne!(other, expected);
}

#[test]
fn variables_stand_for_options() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let expected = run(&model, &["Hi"]).ok().out;
    let mut from_variables = command(&["run", "Hi"]);
    from_variables.env("SMOLT_MODEL", &model).env("SMOLT_TEMP", "0").env("SMOLT_MAX_TOKENS", "20");
    assert_eq!(finish(&mut from_variables, b"").ok().out, expected);
    let mut unknown = command(&["run", "Hi", "-m", model.to_str().unwrap()]);
    finish(unknown.env("SMOLT_ISA", "abacus"), b"").failed(2, &["abacus", "scalar"]);
}

#[test]
fn threads_and_instruction_sets_do_not_change_the_answer() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let expected = run(&model, &["Hello there", "-t", "1"]).ok().out;
    for threads in ["2", "3", "4"] {
        assert_eq!(run(&model, &["Hello there", "-t", threads]).ok().out, expected, "{threads} threads");
    }
    for kernels in Kernels::available() {
        let mut command =
            command(&["run", "-m", model.to_str().unwrap(), "--temp", "0", "-n", "20", "Hello there"]);
        let ended = finish(command.env("SMOLT_ISA", kernels.name), b"").ok();
        assert_eq!(ended.out, expected, "{}", kernels.name);
    }
}

#[test]
fn sampling_and_stopping() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let greedy = run(&model, &["Hi"]).ok();
    let hot =
        |seed| run(&model, &["Hi", "--temp", "2", "--top-k", "0", "--top-p", "1", "--seed", seed]).ok().out;
    assert_eq!(hot("1"), hot("1"));
    assert_ne!(hot("1"), hot("2"));
    assert_ne!(hot("1"), greedy.out);
    let end = &greedy.text()[5..8];
    let stopped = run(&model, &["Hi", "--json", "--stop", "\u{1}", "--stop", end]).ok().json();
    assert_eq!(stopped["finish_reason"], "stop_string");
    let before = greedy.text().split(end).next().unwrap();
    assert_eq!(stopped["text"], before);
    assert_eq!(run(&model, &["Hi", "-n", "0"]).ok().text(), "\n");
    for wrong in
        [["--temp", "nan"], ["--temp", "-1"], ["--top-p", "2"], ["--repeat-penalty", "0"], ["--stop", ""]]
    {
        let name = wrong[0].trim_start_matches("--").replace('-', "_");
        run(&model, &[&["Hi"][..], &wrong].concat()).failed(2, &[&name]);
    }
}

#[test]
fn a_full_context_ends_the_answer() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let ended = run(&model, &["Hi", "-n", "1000", "-c", "50", "--json"]).ok();
    let json = ended.json();
    assert_eq!(json["finish_reason"], "context");
    // The last token chosen needs no place.
    assert_eq!(json["tokens"].as_u64().unwrap() + json["prompt_tokens"].as_u64().unwrap(), 51);
    assert!(ended.err.contains("-c"));
    let long = "x".repeat(TRAINED_CONTEXT as usize);
    run(&model, &[&long]).failed(4, &["300", "tokens", "-c"]);
    assert!(run(&model, &[&long, "-c", "400"]).ok().err.contains("300"), "beyond the training is noted");
}

#[test]
fn base_models_continue_the_prompt_and_say_so() {
    let folder = Folder::new();
    let model = Tiny { template: None, ..Tiny::default() }.write(&folder);
    let noted = run(&model, &["Once"]).ok();
    assert!(noted.err.contains("no chat template"));
    let raw = run(&model, &["Once", "--raw"]).ok();
    assert_eq!(raw.err, "");
    assert_eq!(raw.out, noted.out);
    let count = |args: &[&str]| run(&model, args).ok().json()["prompt_tokens"].as_u64().unwrap();
    assert_eq!(count(&["a<|im_end|>", "--json"]), 1 + "<|im_end|>".len() as u64, "text stays text");
    assert_eq!(count(&["a<|im_end|>", "--json", "--raw"]), 2, "raw prompts may hold control tokens");
}

#[test]
fn broken_templates_name_the_way_out() {
    let folder = Folder::new();
    for template in
        ["{% for %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ raise_exception('no') }}"]
    {
        let model = Tiny { template: Some(template), ..Tiny::default() }.write(&folder);
        run(&model, &["Hi"]).failed(1, &["chat template", "--raw"]);
        run(&model, &["Hi", "--raw"]).ok();
    }
}

#[test]
fn the_cache_can_be_kept_in_8_bits() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let plan = |args: &[&str]| smolt(&[&["plan", "-m", model.to_str().unwrap()], args].concat(), b"");
    let eight = ["-c", "1024", "--kv", "q8_0"];
    let json = plan(&[&eight[..], &["--json"]].concat()).ok().json();
    assert_eq!(json["kv"], "q8_0");
    // Keys and values of two layers at 1024 positions: 32 codes, of which the model needs 16, and a scale.
    assert_eq!(json["kv_cache"], 2 * 2 * 1024 * (32 + 2));
    assert!(plan(&eight).ok().text().contains("KV cache in q8_0"));
    assert_eq!(plan(&["--json"]).ok().json()["kv"], "f16");
    let answer = run(&model, &["Hi", "--kv", "q8_0", "--json"]).ok().json();
    assert_eq!((&answer["memory"]["kv"], &answer["tokens"]), (&"q8_0".into(), &20.into()));
    assert_eq!(run(&model, &["Hi", "--json"]).ok().json()["memory"]["kv"], "f16");
    run(&model, &["Hi", "--kv", "q4_0"]).failed(2, &["q4_0", "f16", "q8_0"]);
}

#[test]
fn plans_add_up_and_are_kept_to() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let plan = |args: &[&str]| smolt(&[&["plan", "-m", model.to_str().unwrap()], args].concat(), b"");
    let json = plan(&["-c", "128", "--json"]).ok().json();
    let part = |key: &str| json[key].as_u64().unwrap();
    let parts = ["weights", "kv_cache", "scratch", "tokenizer", "grammar", "program"];
    assert_eq!(parts.map(part).iter().sum::<u64>(), part("total"));
    // Two layers of keys and values, 128 positions of 16 values in 16 bits.
    assert_eq!(part("kv_cache"), 2 * 2 * 128 * 16 * 2);
    assert_eq!(json["context"], 128);
    let table = plan(&["-c", "128"]).ok();
    for key in ["weights", "kv_cache", "scratch", "tokenizer", "program", "total"] {
        assert!(table.text().contains(&json[key].to_string()), "{key}");
    }
    let limit = part("total").to_string();
    plan(&["-c", "128", "--max-memory", &limit]).ok();
    let refused = plan(&["-c", "256", "--max-memory", &limit]);
    assert_eq!(refused.code, Some(4));
    assert!(refused.text().contains("total"), "the plan is shown all the same");
    let fitting: usize = refused.err.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(fitting >= 128, "{}", refused.err);
    plan(&["-c", &fitting.to_string(), "--max-memory", &limit]).ok();
    assert_eq!(plan(&["-c", &(fitting + 1).to_string(), "--max-memory", &limit]).code, Some(4));
    run(&model, &["Hi", "--max-memory", "64K"]).failed(4, &["64.0 KiB"]);
    run(&model, &["Hi", "-c", "128", "--max-memory", &limit]).ok();
}

#[test]
fn tokenize_and_back() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let tokenize = |args: &[&str], input: &[u8]| {
        smolt(&[&["tokenize", "-m", model.to_str().unwrap()], args].concat(), input)
    };
    assert_eq!(tokenize(&[], b"Hi!\n").ok().text(), "72 105 33 10\n");
    assert_eq!(tokenize(&["--json"], b"Hi").ok().text(), "[72,105]\n");
    assert_eq!(tokenize(&["--json"], b"").ok().text(), "[]\n");
    let text = "Tab\t, émoji 😀, <|im_end|>\r\n\n";
    for json in [&[][..], &["--json"][..]] {
        let ids = tokenize(json, text.as_bytes()).ok().out;
        assert_eq!(tokenize(&["--decode"], &ids).ok().text(), text);
    }
    assert_eq!(tokenize(&["--special"], b"a<|im_end|>").ok().text(), "97 257\n");
    assert_eq!(tokenize(&["--decode"], b"97, 257").ok().text(), "a");
    assert_eq!(tokenize(&["--decode", "--special"], b"97 257").ok().text(), "a<|im_end|>");
    assert_eq!(tokenize(&["--decode", "--json"], b"97 10").ok().text(), "\"a\\n\"\n");
    assert_eq!(tokenize(&["--decode"], b"240 159").ok().out, [240, 159], "bytes, not characters");
    for wrong in ["258", "-1", "x", "1.5"] {
        tokenize(&["--decode"], wrong.as_bytes()).failed(2, &[wrong, "258"]);
    }
}

#[test]
fn input_that_is_not_text_is_refused() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let model = model.to_str().unwrap();
    smolt(&["run", "-m", model], b"abc\xFFdef").failed(2, &["UTF-8", "offset 3"]);
    smolt(&["tokenize", "-m", model], b"abc\xC3").failed(2, &["UTF-8", "offset 3"]);
    let long = vec![b'x'; (4 << 20) + 1];
    smolt(&["run", "-m", model], &long).failed(2, &["4194304"]);
}

#[test]
fn unreadable_models() {
    let folder = Folder::new();
    let path = folder.0.join("tiny.gguf");
    let missing = folder.0.join("missing.gguf");
    for command in [&["run", "Hi", "-m"][..], &["plan", "-m"][..], &["tokenize", "-m"][..]] {
        let with = |path: &Path| smolt(&[command, &[path.to_str().unwrap()]].concat(), b"");
        with(&missing).failed(3, &["missing.gguf", "no such file"]);
        with(&folder.0).failed(3, &["is a folder"]);
        std::fs::write(&path, b"").unwrap();
        with(&path).failed(3, &["empty"]);
        std::fs::write(&path, b"MZ\x90\x00 this is something else").unwrap();
        with(&path).failed(3, &["tiny.gguf", "not a GGUF file"]);
    }
    for (tiny, part) in [
        (Tiny { architecture: "rwkv", ..Tiny::default() }, "\"rwkv\""),
        (Tiny { without: "blk.1.ffn_up.weight", ..Tiny::default() }, "blk.1.ffn_up.weight"),
        (Tiny { without: "token_embd.weight", ..Tiny::default() }, "token_embd.weight"),
        (Tiny { pre: "klingon", ..Tiny::default() }, "--pre"),
    ] {
        run(&tiny.write(&folder), &["Hi"]).failed(3, &["tiny.gguf", part]);
    }
    run(&path, &["Hi", "--pre", "gpt-2"]).ok();
    assert_eq!(folder.files(), 1, "nothing is written");
}

#[test]
fn truncated_models() {
    let folder = Folder::new();
    let whole = Tiny::default().bytes();
    let path = folder.0.join("tiny.gguf");
    for part in [4, 8, 23, 24, 100, 2000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..part]).unwrap();
        run(&path, &["Hi"]).failed(3, &["tiny.gguf", "cut short"]);
    }
}

fn refuses_damaged(names: &[&'static str]) {
    let folder = Folder::new();
    for &damaged in names {
        let model = Tiny { damaged, ..Tiny::default() }.write(&folder);
        run(&model, &["Hi"]).failed(3, &["not finite", "damaged"]);
    }
}

#[test]
fn damaged_norms() {
    refuses_damaged(&["blk.0.attn_norm.weight", "output_norm.weight"]);
}

#[test]
fn damaged_block_scales() {
    refuses_damaged(&["blk.1.ffn_down.weight", "blk.0.attn_q.weight", "token_embd.weight"]);
}

/// Starts an answer that takes long and reads its first bytes.
fn long_answer(model: &Path) -> (Child, Vec<u8>) {
    let model = model.to_str().unwrap();
    let mut child = command(&[
        "run",
        "-m",
        model,
        "--temp",
        "0",
        "-c",
        "300000",
        "-n",
        "none",
        "-t",
        "1",
        "--no-loop-guard",
        "Hi",
    ])
    .spawn()
    .unwrap();
    let mut first = vec![0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    (child, first)
}

#[cfg(unix)]
#[test]
fn an_interrupted_answer_keeps_what_was_printed() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let (child, mut text) = long_answer(&model);
    let started = Instant::now();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(5));
    text.extend(output.stdout);
    assert_eq!(text.pop(), Some(b'\n'), "the line is ended");
    let mut expected = run(&model, &["Hi"]).ok().out;
    expected.pop();
    let common = text.len().min(expected.len());
    assert_eq!(text[..common], expected[..common]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("error"));
}

#[test]
fn a_closed_pipe_ends_silently() {
    let folder = Folder::new();
    let model = Tiny::default().write(&folder);
    let (mut child, _) = long_answer(&model);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.lines().all(|line| line.contains("trained")), "{errors}");
}

#[test]
fn the_demo_model_is_used_and_named() {
    let ended = smolt(&["run", "-n", "3", "Turn on the kitchen lights"], b"").ok();
    assert!(ended.err.contains("demo model") && ended.err.contains("-m FILE"));
    assert!(!ended.out.is_empty());
    assert!(smolt(&["plan", "--json"], b"").ok().json()["total"].as_u64().unwrap() > 0);
}

/// More than the plan: code, stacks and the allocator. The code of an unoptimized program is several times as large.
const UNPLANNED: u64 = if cfg!(debug_assertions) { 16 << 20 } else { 8 << 20 };

#[test]
fn memory_stays_within_the_plan() {
    for name in ["s288-Q4_0", "s288-Q8_0", "s288-f16"] {
        let Some(model) = shared::file(&format!("models/s288/gguf/{name}.gguf")) else { return };
        let prompt = "Once upon a time there was a dog. ".repeat(20);
        let json = run(&model, &["--json", "-c", "512", "--raw", &prompt]).ok().json();
        let bytes = |key: &str| json["memory"][key].as_u64().unwrap();
        let (planned, peak) = (bytes("planned_bytes"), bytes("peak_rss_bytes"));
        eprintln!("{name}: planned {planned}, peak {peak}");
        assert!(peak <= planned + UNPLANNED, "{name}: planned {planned}, peak {peak}");
    }
}
