//! What the fuzz targets do with bytes: each reads them as what a stranger may have sent, and uses what was read.
//!
//! A target fails where the program would: by a panic, an abort, a signal, memory beyond `-malloc_limit_mb` or time
//! beyond `-timeout`. Errors are right answers.

mod models;
mod scratch;

use std::fs::File;
use std::io::BufReader;
use std::sync::{Arc, LazyLock};

use smolt::eval::batch::{Journal, input, survey};
use smolt::eval::tasks::Task;
use smolt::generate::{Grammar, GrammarCompiler, Identity, LogitFilter, Session, open, origin};
use smolt::gguf::GgufFile;
use smolt::kernels::{Kernels, KvType};
use smolt::model::{LanguageModel, Model, Plan, RunOptions, Runner};
use smolt::text::{ChatTemplate, Detokenizer, EncodeOptions, Message, Role, Tokenizer, TokenizerOptions};

pub use self::models::mutated;
use self::scratch::Scratch;

/// Positions of the KV cache, and how it is kept.
const OPTIONS: RunOptions = RunOptions { context: 16, threads: 1, logit_rows: 1, kv: KvType::F32 };
/// Most that a run may plan, as `--max-memory` says it; the malloc limit of the fuzzer is above.
const MAX_MEMORY: u64 = 32 << 20;

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let file = models::base();
    Arc::new(
        Tokenizer::from_gguf(&file, TokenizerOptions::default()).expect("the base model has a tokenizer"),
    )
});

fn kernels() -> &'static Kernels {
    Kernels::named("scalar").expect("every processor has them")
}

/// Parts of an input, by separators of four bytes that text does not hold.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = data;
    std::array::from_fn(|_| {
        let at = rest.windows(4).position(|window| window == models::SEPARATOR);
        let part = at.map_or(rest, |at| &rest[..at]);
        rest = at.map_or(&[], |at| &rest[at + 4..]);
        part
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A GGUF file: all of its metadata, and the bytes of all tensors.
pub fn gguf(data: &[u8]) {
    let Ok(file) = GgufFile::from_vec("input.gguf", data.to_vec()) else { return };
    for (key, value) in file.metadata() {
        assert!(file.get(key).is_some());
        if let Some(array) = value.as_array() {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    let sum = file.tensors().iter().map(|tensor| {
        let bytes = file.data(tensor);
        assert_eq!(bytes.len() as u64, tensor.bytes);
        bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    });
    std::hint::black_box((sum.sum::<u64>(), file.fingerprint()));
}

/// A model: loaded, and fed two tokens. The input is either a file, or changes to a small one.
pub fn load(data: &[u8]) {
    let Ok(file) = GgufFile::from_vec("input.gguf", models::patched(data)) else { return };
    let Ok(plan) = Plan::new(&file, kernels(), &OPTIONS) else { return };
    if plan.total() > MAX_MEMORY {
        return;
    }
    let Ok(model) = Model::load(&file, kernels()) else { return };
    let Ok(mut runner) = Runner::new(Arc::new(model), &OPTIONS) else { return };
    for token in [1, runner.vocab_size() as u32 - 1] {
        if let Ok(logits) = runner.feed(&[token], &|| false) {
            std::hint::black_box(logits.iter().sum::<f32>());
        }
    }
}

/// A vocabulary and a text in it.
pub fn tokenizer(data: &[u8]) {
    let [vocabulary, read] = parts(data);
    let file = models::vocabulary(vocabulary);
    let Ok(tokenizer) = Tokenizer::from_gguf(&file, TokenizerOptions::default()) else { return };
    let read = text(read);
    for parse_special in [false, true] {
        let mut ids = vec![];
        let options = EncodeOptions { add_special: parse_special, parse_special };
        if tokenizer.encode(&read, options, &mut ids).is_err() {
            continue;
        }
        let mut detokenizer = Detokenizer::new(&tokenizer, &[], false);
        let mut shown = String::new();
        for id in &ids {
            shown += detokenizer.push(&tokenizer, *id);
        }
        shown += detokenizer.finish();
        assert_eq!(shown, tokenizer.decode_lossy(&ids, false), "pieces are the whole");
    }
}

/// A chat template and what is said.
pub fn template(data: &[u8]) {
    let [source, system, said] = parts(data).map(text);
    let Ok(template) = ChatTemplate::compile(&source, &TOKENIZER) else { return };
    let messages = [
        (Role::System, system),
        (Role::User, said.clone()),
        (Role::Assistant, said.clone()),
        (Role::User, said),
    ];
    let messages = messages.map(|(role, text)| Message::new(role, text));
    for messages in [&messages[1..2], &messages] {
        if let Ok(prompt) = template.render(messages) {
            let _ = prompt.encode(&TOKENIZER, &mut vec![]);
        }
    }
}

/// A grammar, and ids that are taken as far as it allows them.
pub fn grammar(data: &[u8]) {
    static COMPILER: LazyLock<GrammarCompiler> =
        LazyLock::new(|| GrammarCompiler::new(Arc::clone(&TOKENIZER)).expect("the base model has text"));
    let [source, ids] = parts(data);
    let Some((kind, source)) = source.split_first() else { return };
    let source = text(source);
    let grammar = match kind {
        b'r' => Grammar::Regex(source),
        b'l' => Grammar::Lark(source),
        _ => Grammar::Schema(source),
    };
    let Ok(mut rule) = COMPILER.compile(&grammar) else { return };
    rule.start(&[]);
    let mut logits = vec![0.0; TOKENIZER.vocab_size()];
    for id in ids.iter().take(64) {
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
}

/// A saved session. Its checksum is made right, else nothing behind it would be read.
pub fn session(data: &[u8]) {
    type Shared = std::sync::Mutex<Session<Runner>>;
    static SESSION: LazyLock<Shared> = LazyLock::new(|| {
        let model = Model::load(&models::base(), kernels()).expect("the base model loads");
        let runner = Runner::new(Arc::new(model), &OPTIONS).expect("and runs");
        std::sync::Mutex::new(Session::new(runner, Arc::clone(&TOKENIZER)))
    });
    let mut session = SESSION.lock().expect("one thread");
    let scratch = Scratch::new();
    let file = models::session(data, session.state_key());
    let path = scratch.write("session", &file);
    let _ = origin(&path);
    let identity =
        Identity { model: 1, model_bytes: 2, tokenizer: 3, template: 4, state: session.state_key() };
    if let Ok(opened) = open(&path, &identity, &mut *session) {
        let opened = opened.conversation;
        let _ = smolt::generate::Journal::open(&path, file.len() as u64, &opened);
    }
}

/// A task with its documents.
pub fn task(data: &[u8]) {
    let [task, documents] = parts(data);
    let scratch = Scratch::new();
    scratch.write("documents.jsonl", documents);
    let path = scratch.write("task.yaml", task);
    let _ = Task::check_file(&path);
    let _ = Task::load(&path, None);
}

/// A batch: its input, and an output that was begun.
pub fn batch(data: &[u8]) {
    let [items, journal] = parts(data);
    let scratch = Scratch::new();
    let (items, path) = (scratch.write("items.jsonl", items), scratch.write("output.jsonl", journal));
    let Ok(journal) = Journal::open(&path) else { return };
    let Ok(file) = File::open(items) else { return };
    let _ = survey(input(BufReader::new(file), "items.jsonl"), &journal, (0, 1), None);
}

/// The folder of a published model.
#[cfg(feature = "convert")]
pub fn convert(data: &[u8]) {
    use smolt_quantize::convert::{Conversion, ConvertOptions};
    let [config, tokenizer, settings, weights] = parts(data);
    let scratch = Scratch::new();
    scratch.write("config.json", config);
    scratch.write("tokenizer.json", tokenizer);
    scratch.write("tokenizer_config.json", settings);
    scratch.write("model.safetensors", weights);
    let Ok(conversion) = Conversion::open(scratch.path(), &ConvertOptions::default()) else { return };
    if conversion.file_bytes() < MAX_MEMORY {
        let _ = conversion.write(&scratch.path().join("out.gguf"), &mut |_| {});
    }
}
