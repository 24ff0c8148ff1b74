//! What the fuzz targets do with bytes: each reads them as what a stranger may have sent, and uses what was read.
//!
//! A target fails where the program would: by a panic, an abort, a signal, memory beyond `-malloc_limit_mb` or time
//! beyond `-timeout`. Errors are right answers. Each tells whether the input was taken, so that seeds that are refused at
//! the door are seen.

use std::fs::File;
use std::io::{BufReader, Cursor};
use std::sync::{Arc, LazyLock};

use smolt::eval::batch::{Journal, input, survey};
use smolt::eval::tasks::Task;
use smolt::generate::{Grammar, GrammarCompiler, Identity, LogitFilter, Session, open, origin};
use smolt::gguf::{GgufError, GgufFile, TensorInfo};
use smolt::kernels::{Kernels, KvType};
use smolt::model::{LanguageModel, Model, Plan, RunOptions, Runner};
use smolt::runtime::Secrecy;
use smolt::text::{ChatTemplate, Detokenizer, EncodeOptions, Message, Role, Tokenizer, TokenizerOptions};

use super::input::parts;
use super::models;
use super::scratch::Scratch;

/// Positions of the KV cache, and how it is kept.
const OPTIONS: RunOptions = RunOptions { context: 16, threads: 1, slots: 1, logit_rows: 1, kv: KvType::F32 };
/// Most that a run may plan, as `--max-memory` says it; the malloc limit of the fuzzer is above.
const MAX_MEMORY: u64 = 32 << 20;

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let file = models::base();
    Arc::new(
        Tokenizer::from_gguf(&file, TokenizerOptions::default()).expect("the base model has a tokenizer"),
    )
});

/// A number of an input, by which a part of all inputs is chosen, whatever is changed in them.
fn sum(data: &[u8]) -> u32 {
    data.iter().fold(0x811C_9DC5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)) >> 8
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Those of this processor: they are the unsafe ones.
fn kernels() -> &'static Kernels {
    Kernels::detect().expect("every processor has some")
}

/// A GGUF file: all of its metadata, and the bytes of all tensors.
pub fn gguf(data: &[u8]) -> bool {
    let Ok(file) = GgufFile::from_vec("input.gguf", data.to_vec()) else { return false };
    for (key, value) in file.metadata() {
        assert!(file.get(key).is_some());
        if let Some(array) = value.as_array() {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    let sum = file.tensors().iter().map(|tensor| {
        let bytes = file.data(tensor).expect("it is in memory");
        assert_eq!(bytes.len() as u64, tensor.bytes);
        bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    });
    let sum = sum.sum::<u64>();
    let streamed = stream(data.to_vec()).expect("what is right in memory is right as a stream");
    let mut passed = 0;
    let mut add = |_: &TensorInfo, _: usize, bytes: &[u8]| {
        passed += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        Ok::<_, GgufError>(())
    };
    streamed.read_tensors(&|_| true, &mut add).expect("nothing of it is missing");
    assert_eq!(passed, sum);
    assert_eq!(streamed.fingerprint().ok(), file.fingerprint().ok());
    true
}

/// A file that is read once.
fn stream(bytes: Vec<u8>) -> Result<GgufFile, GgufError> {
    let len = bytes.len() as u64;
    GgufFile::from_reader("input.gguf", Box::new(Cursor::new(bytes)), len, Secrecy::Plain)
}

/// A model: loaded from memory or as a stream, and fed two tokens. The input is either a file, or changes to a small one.
pub fn load(data: &[u8]) -> bool {
    let (bytes, is_streamed) = (models::patched(data), sum(data).is_multiple_of(2));
    let file = if is_streamed { stream(bytes) } else { GgufFile::from_vec("input.gguf", bytes) };
    let Ok(file) = file else { return false };
    let Ok(plan) = Plan::new(&file, kernels(), &OPTIONS) else { return false };
    if plan.total() > MAX_MEMORY {
        return false;
    }
    let Ok(model) = Model::load(&file, kernels()) else { return false };
    let Ok(mut runner) = Runner::new(Arc::new(model), &OPTIONS) else { return false };
    let tokens = [1, runner.vocab_size() as u32 - 1];
    let Ok(logits) = runner.feed(&tokens, &|| false) else { return false };
    std::hint::black_box(logits.iter().sum::<f32>());
    true
}

/// A vocabulary and a text in it.
pub fn tokenizer(data: &[u8]) -> bool {
    let [vocabulary, read] = parts(data);
    let file = models::vocabulary(vocabulary, sum(data));
    let Ok(tokenizer) = Tokenizer::from_gguf(&file, TokenizerOptions::default()) else { return false };
    let read = text(read);
    let mut encoded = 0;
    for parse_special in [false, true] {
        let mut ids = vec![];
        let options = EncodeOptions { add_special: parse_special, parse_special };
        if tokenizer.encode(&read, options, &mut ids).is_err() {
            continue;
        }
        encoded += 1;
        let mut detokenizer = Detokenizer::new(&tokenizer, &[], false);
        let mut shown = String::new();
        for id in &ids {
            shown += detokenizer.push(&tokenizer, *id);
        }
        shown += detokenizer.finish();
        assert_eq!(shown, tokenizer.decode_lossy(&ids, false), "pieces are the whole");
    }
    encoded > 0
}

/// A chat template and what is said.
pub fn template(data: &[u8]) -> bool {
    let [source, system, said] = parts(data).map(text);
    let Ok(template) = ChatTemplate::compile(&source, &TOKENIZER) else { return false };
    let messages = [
        (Role::System, system),
        (Role::User, said.clone()),
        (Role::Assistant, said.clone()),
        (Role::User, said),
    ];
    let messages = messages.map(|(role, text)| Message::new(role, text));
    // Each has a thread of its own, whose start takes longer than most templates.
    let messages = if sum(data).is_multiple_of(2) { &messages[1..2] } else { &messages };
    let Ok(prompt) = template.render(messages) else { return false };
    prompt.encode(&TOKENIZER, &mut vec![]).is_ok()
}

/// A grammar, and ids that are taken as far as it allows them.
pub fn grammar(data: &[u8]) -> bool {
    static COMPILER: LazyLock<GrammarCompiler> =
        LazyLock::new(|| GrammarCompiler::new(Arc::clone(&TOKENIZER)).expect("the base model has text"));
    let [source, ids] = parts(data);
    let Some((kind, source)) = source.split_first() else { return false };
    let source = text(source);
    let grammar = match kind {
        b'r' => Grammar::Regex(source),
        b'l' => Grammar::Lark(source),
        _ => Grammar::Schema(source),
    };
    let Ok(mut rule) = COMPILER.compile(&grammar) else { return false };
    rule.start(&[]);
    let mut logits = vec![0.0; TOKENIZER.vocab_size()];
    for id in ids.iter().take(32) {
        logits.fill(0.0);
        if rule.is_done() || rule.apply(&mut logits).is_err() {
            break;
        }
        let allowed: Vec<u32> =
            (0..).zip(&logits).filter(|(_, logit)| logit.is_finite()).map(|(id, _)| id).collect();
        assert!(!allowed.is_empty(), "some token may always follow");
        let Ok(token) = rule.settle(allowed[usize::from(*id) % allowed.len()], 64) else { break };
        rule.accept(token).expect("a token that is allowed is taken");
    }
    rule.is_whole();
    true
}

/// A saved session. Its checksum is made right, else nothing behind it would be read.
pub fn session(data: &[u8]) -> bool {
    type Shared = std::sync::Mutex<Session<Runner>>;
    static SESSION: LazyLock<Shared> = LazyLock::new(|| {
        let model = Model::load(&models::base(), kernels()).expect("the base model loads");
        let runner = Runner::new(Arc::new(model), &OPTIONS).expect("and runs");
        std::sync::Mutex::new(Session::new(runner, Arc::clone(&TOKENIZER)))
    });
    let mut session = SESSION.lock().expect("one thread");
    let scratch = Scratch::new("session");
    let file = models::session(data, session.state_key());
    let path = scratch.write("session", &file);
    let _ = origin(&path);
    let identity =
        Identity { model: 1, model_bytes: 2, tokenizer: 3, template: 4, state: session.state_key() };
    let Ok(opened) = open(&path, &identity, &mut *session) else { return false };
    smolt::generate::Journal::open(&path, file.len() as u64, &opened.conversation).is_ok()
}

/// A task with its documents.
pub fn task(data: &[u8]) -> bool {
    let [task, documents] = parts(data);
    let scratch = Scratch::new("task");
    scratch.write("documents.jsonl", documents);
    let path = scratch.write("task.yaml", task);
    let is_right = Task::check_file(&path).is_ok();
    Task::load(&path, None).is_ok() && is_right
}

/// A batch: its input, and an output that was begun.
pub fn batch(data: &[u8]) -> bool {
    let [items, journal] = parts(data);
    let scratch = Scratch::new("batch");
    let (items, path) = (scratch.write("items.jsonl", items), scratch.write("output.jsonl", journal));
    let Ok(journal) = Journal::open(&path) else { return false };
    let Ok(file) = File::open(items) else { return false };
    survey(input(BufReader::new(file), "items.jsonl"), &journal, (0, 1), None).is_ok()
}
