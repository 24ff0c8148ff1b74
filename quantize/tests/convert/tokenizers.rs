//! Tokenizers: names from definitions, ids with a meaning, and real vocabularies where the shared data is present.

use std::path::PathBuf;

use safetensors::Dtype;
use serde_json::{Value, json};
use smolt::gguf::GgufFile;
use smolt::text::{EncodeOptions, Tokenizer, TokenizerOptions};
use smolt_quantize::convert::{ConvertError, ConvertOptions};

use super::folder::{Folder, Weights};

/// A path of the shared data: under `SMOLT_SHARED`, or a folder `shared` beside the project. Prints and returns
/// nothing where it is absent.
pub(super) fn shared(path: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let root = std::env::var_os("SMOLT_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED: no shared data at {} (set SMOLT_SHARED)", found.display());
    None
}

fn byte_level_end() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn sequence(steps: &[Value]) -> Value {
    json!({"type": "Sequence", "pretokenizers": steps})
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn gpt2() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
}

/// Pre-tokenizers as published, whether merges are ignored, and the name GGUF has for them.
fn definitions() -> Vec<(Value, bool, &'static str)> {
    let digits = |individual: bool| json!({"type": "Digits", "individual_digits": individual});
    let inverted =
        json!({"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Removed", "invert": true});
    let falcon = [
        json!({"type": "Punctuation", "behavior": "Contiguous"}),
        gpt2(),
        digits(false),
        split("[0-9][0-9][0-9]"),
    ];
    let deepseek = [
        split("[\r\n]"),
        split(r"\s?\p{L}+"),
        split(r"\s?\p{P}+"),
        split("[一-龥ࠀ-一가-퟿]+"),
        digits(true),
        byte_level_end(),
    ];
    vec![
        (gpt2(), false, "gpt-2"),
        (sequence(&[gpt2()]), false, "gpt-2"),
        (sequence(&[digits(true), gpt2()]), false, "smollm"),
        (sequence(&[split(LLAMA3), byte_level_end()]), true, "llama-bpe"),
        (sequence(&[split(LLAMA3), byte_level_end()]), false, "smaug-bpe"),
        (sequence(&[inverted, byte_level_end()]), true, "llama-bpe"),
        (sequence(&[split(QWEN2), byte_level_end()]), false, "qwen2"),
        (
            sequence(&[
                split(
                    &QWEN2
                        .replace(r"\p{L}+", r"[\p{L}\p{M}]+")
                        .replace(r"\s\p{L}\p{N}", r"\s\p{L}\p{M}\p{N}"),
                ),
                byte_level_end(),
            ]),
            false,
            "qwen35",
        ),
        (sequence(&[split(GPT4O), byte_level_end()]), false, "gpt-4o"),
        (
            sequence(&[
                split(&GPT4O.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")),
                byte_level_end(),
            ]),
            true,
            "tekken",
        ),
        (sequence(&falcon), false, "falcon"),
        (sequence(&deepseek), false, "deepseek-coder"),
        (sequence(&[split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), byte_level_end()]), false, "bloom"),
    ]
}

fn with_pre(definition: &Value, ignore_merges: bool) -> Folder {
    let mut folder = Folder::llama(Dtype::F16);
    folder.tokenizer["pre_tokenizer"] = definition.clone();
    folder.tokenizer["model"]["ignore_merges"] = ignore_merges.into();
    folder
}

/// Conversion itself compares the ids of both tokenizers.
#[test]
fn pre_tokenizers_are_recognised_by_what_they_do() {
    for (definition, ignore_merges, name) in definitions() {
        let mut folder = with_pre(&definition, ignore_merges);
        if name == "falcon" {
            // No vocabulary trained with this chain has the merge of a space and a digit.
            folder.tokenizer["model"]["merges"].as_array_mut().unwrap().pop();
        }
        let (file, _) = folder.convert(&ConvertOptions::default());
        assert_eq!(file.str("tokenizer.ggml.pre").unwrap(), Some(name), "{definition}");
        assert_eq!(file.str("tokenizer.ggml.model").unwrap(), Some("gpt2"));
    }
}

#[test]
fn unknown_pre_tokenizers_are_shown_and_can_be_named() {
    let digits = json!({"type": "Digits", "individual_digits": true});
    for (definition, ignore_merges) in [
        (sequence(&[split(&LLAMA3.replace("{1,3}", "{1,2}")), byte_level_end()]), true),
        (sequence(&[gpt2(), digits.clone()]), false),
        (gpt2(), true),
        (sequence(&[byte_level_end(), split(LLAMA3)]), true),
        (
            sequence(&[
                json!({"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Removed", "invert": false}),
                byte_level_end(),
            ]),
            true,
        ),
        (sequence(&[json!({"type": "Whitespace"}), byte_level_end()]), false),
        (byte_level_end(), false),
    ] {
        let folder = with_pre(&definition, ignore_merges);
        folder.write();
        let done = folder.command(&[]);
        assert_eq!(done.code, 1, "{definition}");
        for word in [
            "tokenizer.json: the pre-tokenizer is not known",
            "\"type\":\"ByteLevel\"",
            "--pre NAME",
            "smollm",
        ] {
            assert!(done.stderr.contains(word), "{word:?} is not in: {}", done.stderr);
        }
        assert!(!folder.output().exists());
        let named = folder.command(&["--pre", "smollm"]);
        assert_eq!(named.code, 0, "{}", named.stderr);
        assert!(named.stderr.contains("--pre smollm is not compared"), "{}", named.stderr);
        let file = GgufFile::open(&folder.output()).unwrap();
        assert_eq!(file.str("tokenizer.ggml.pre").unwrap(), Some("smollm"));
        let unknown = folder.command(&["--pre", "klingon"]);
        assert_eq!(unknown.code, 1, "{}", unknown.stderr);
        assert!(unknown.stderr.contains("\"klingon\" is not known"), "{}", unknown.stderr);
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Value), words: &[&str]) {
    let mut folder = Folder::llama(Dtype::F16);
    change(&mut folder.tokenizer);
    folder.write();
    let error = match folder.try_convert(&ConvertOptions::default()) {
        Ok(_) => panic!("converted, expected {words:?}"),
        Err(error) => error,
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        message.push_str(&format!(": {error}"));
        source = error.source();
    }
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert!(!folder.output().exists());
}

#[test]
fn what_gguf_cannot_say_is_refused() {
    refused(|t| t["model"]["type"] = "Unigram".into(), &["tokenizer.json: model.type: is \"Unigram\""]);
    refused(|t| t["model"] = json!({"type": "WordPiece", "vocab": {}}), &["\"WordPiece\""]);
    refused(|t| t["model"]["end_of_word_suffix"] = "</w>".into(), &["model.end_of_word_suffix"]);
    refused(|t| t["normalizer"] = json!({"type": "Lowercase"}), &["normalizer", "\"Lowercase\""]);
    refused(|t| t["pre_tokenizer"]["add_prefix_space"] = true.into(), &["add_prefix_space"]);
    refused(|t| t["pre_tokenizer"] = Value::Null, &["neither byte-level nor with byte_fallback"]);
    refused(
        |t| t["post_processor"] = json!({"type": "BertProcessing"}),
        &["post_processor", "BertProcessing"],
    );
    refused(
        |t| t["model"]["vocab"]["zz"] = 270.into(),
        &["model.vocab: token \"zz\" has id 270", "vocab_size 270"],
    );
    refused(|t| t["model"]["vocab"]["zz"] = 5.into(), &["model.vocab: tokens ", "have the same id 5"]);
    refused(|t| t["added_tokens"][0]["id"] = 5.into(), &["added_tokens: tokens ", "have the same id 5"]);
    refused(
        |t| t["model"]["merges"][1] = json!(["h", "x"]),
        &["model.merges[1]: \"hx\" is not in model.vocab"],
    );
    refused(|t| t["model"]["merges"][1] = json!(["h e", "x"]), &["model.merges[1]: is not a pair"]);
    refused(|t| t["model"]["merges"] = json!(["h e", "he"]), &["model.merges[1]: is not a pair"]);
    refused(
        |t| t["model"]["vocab"][&"x".repeat(2000)] = 269.into(),
        &["the length of the longest token is 2000"],
    );
}

/// Merges in the older notation give the same file.
#[test]
fn merges_are_read_in_both_notations() {
    let mut folder = Folder::llama(Dtype::F16);
    let (pairs, _) = folder.convert(&ConvertOptions::default());
    let lines: Vec<Value> = folder.tokenizer["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()).into())
        .collect();
    folder.tokenizer["model"]["merges"] = lines.into();
    let (lines, _) = folder.convert(&ConvertOptions::default());
    assert!(pairs.as_bytes().unwrap() == lines.as_bytes().unwrap());
}

fn ids(file: &GgufFile) -> Vec<Option<u32>> {
    let key = |name| file.u32(&format!("tokenizer.ggml.{name}_token_id")).unwrap();
    ["bos", "eos", "eot", "eom", "unknown", "padding"].map(key).to_vec()
}

/// The first layout is of a chat model: several ends, turn marks that are not called special.
#[test]
fn special_ids_and_kinds_are_those_of_the_files() {
    let mut folder = Folder::llama(Dtype::F16);
    let token = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false})
    };
    let added = [("<s>", true), ("<|turn|>", false), ("<call>", false), ("<pad>", true)];
    for (id, (content, special)) in (265..).zip(added) {
        folder.tokenizer["added_tokens"].as_array_mut().unwrap().push(token(id, content, special));
    }
    folder.tokenizer["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [265], "tokens": ["<s>"]}}}]});
    folder.config["pad_token_id"] = (-1).into();
    folder.config["bos_token_id"] = 0.into();
    folder.write_json(
        "tokenizer_config.json",
        &json!({"bos_token": "<s>", "eos_token": {"content": "<|turn|>"},
        "pad_token": "<pad>", "chat_template": "{{ messages[0].content }}", "add_bos_token": false}),
    );
    folder.write_json("generation_config.json", &json!({"eos_token_id": [0, 266]}));
    let (file, notes) = folder.convert(&ConvertOptions::default());
    assert_eq!(ids(&file), [Some(265), Some(266), Some(0), None, None, Some(268)]);
    assert_eq!(file.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    assert_eq!(file.bool("tokenizer.ggml.add_eos_token").unwrap(), Some(false));
    assert!(notes.iter().any(|note| note.contains("add_bos_token is false")), "{notes:?}");
    let kinds: Vec<i64> =
        file.integer_array("tokenizer.ggml.token_type").unwrap().unwrap().iter_i64().collect();
    assert_eq!((kinds[0], kinds[1], &kinds[264..]), (3, 1, &[1i64, 3, 3, 4, 3, 5][..]));
    assert_eq!(file.str("tokenizer.chat_template").unwrap(), Some("{{ messages[0].content }}"));
    let tokenizer = Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap();
    assert_eq!((tokenizer.end_ids(), tokenizer.adds_bos()), (&[0u32, 266][..], true));
    // This class makes the post-processor anew.
    folder.write_json(
        "tokenizer_config.json",
        &json!({"bos_token": "<s>", "tokenizer_class": "LlamaTokenizerFast",
        "add_bos_token": false, "chat_template": "not used"}),
    );
    folder.scratch.file("chat_template.jinja", "from its file".as_bytes());
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_eq!(file.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    assert_eq!(file.str("tokenizer.chat_template").unwrap(), Some("from its file"));
    assert_eq!(ids(&file), [Some(265), Some(0), Some(266), None, None, None]);
}

#[test]
fn special_ids_that_contradict_each_other_are_refused() {
    let mut folder = Folder::llama(Dtype::F16);
    folder.write_json("tokenizer_config.json", &json!({"bos_token": "<s>"}));
    folder.write();
    let message =
        |folder: &Folder| folder.try_convert(&ConvertOptions::default()).map(drop).unwrap_err().to_string();
    let found = message(&folder);
    assert!(found.contains("bos_token: expected a token of tokenizer.json, found \"<s>\""), "{found}");
    folder.write_json("tokenizer_config.json", &json!({"bos_token": "h", "eos_token": "h"}));
    folder.tokenizer["post_processor"] = json!({"type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|end|>", "type_id": 0}}],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [0], "tokens": ["<|end|>"]}}});
    folder.write();
    let found = message(&folder);
    assert!(found.contains("post_processor: adds tokens None and Some(0)"), "{found}");
    folder.write_json("tokenizer_config.json", &json!({"bos_token": "h"}));
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_eq!(file.bool("tokenizer.ggml.add_eos_token").unwrap(), Some(true));
    folder.tokenizer["post_processor"]["special_tokens"]["<|end|>"]["ids"] = json!([0, 1]);
    folder.write();
    let found = message(&folder);
    assert!(found.contains("GGUF can add one of the vocabulary each"), "{found}");
}

#[test]
fn named_chat_templates_are_kept() {
    let folder = Folder::llama(Dtype::F16);
    let templates = |name: &str| json!({"chat_template": [{"name": "default", "template": "a"}, {"name": name, "template": "b"}]});
    folder.write_json("tokenizer_config.json", &templates("tool_use"));
    let (file, _) = folder.convert(&ConvertOptions::default());
    assert_eq!(file.str("tokenizer.chat_template").unwrap(), Some("a"));
    assert_eq!(file.str("tokenizer.chat_template.tool_use").unwrap(), Some("b"));
    let names = file.str_array("tokenizer.chat_templates").unwrap().unwrap();
    assert_eq!(names.iter_str().collect::<Vec<_>>(), ["tool_use"]);
    folder.write_json("tokenizer_config.json", &templates("x.y"));
    let error = folder.try_convert(&ConvertOptions::default()).map(drop).unwrap_err();
    assert!(error.to_string().contains("tokenizer_config.json: chat_template"), "{error}");
}

/// A SentencePiece vocabulary: `<unk>`, `<s>`, `</s>`, bytes, characters, and words in order of score.
fn sentence_piece() -> Value {
    let mut texts: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    texts.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let words = ["he", "▁t", "▁th", "▁the", "th"];
    texts.extend(words.map(String::from));
    texts.extend(["h", "e", "t", "▁", "l"].map(String::from));
    let has = |text: &str| texts.iter().any(|token| token == text);
    let mut merges = vec![];
    for word in words {
        for (at, _) in word.char_indices().skip(1) {
            let (left, right) = word.split_at(at);
            if has(left) && has(right) {
                merges.push(json!([left, right]));
            }
        }
    }
    let vocab: serde_json::Map<_, _> =
        texts.into_iter().enumerate().map(|(id, text)| (text, id.into())).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false})
    };
    json!({
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": merges},
    })
}

#[test]
fn sentence_piece_merges_become_scores() {
    let mut folder = Folder::llama(Dtype::F16);
    folder.tokenizer = sentence_piece();
    for (normalizer, pre, prefix) in [
        (folder.tokenizer["normalizer"].clone(), Value::Null, true),
        (
            Value::Null,
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}),
            true,
        ),
        (
            Value::Null,
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true}),
            false,
        ),
    ] {
        folder.tokenizer["normalizer"] = normalizer;
        folder.tokenizer["pre_tokenizer"] = pre;
        let (file, _) = folder.convert(&ConvertOptions::default());
        assert_eq!(file.str("tokenizer.ggml.model").unwrap(), Some("llama"));
        assert_eq!(file.bool("tokenizer.ggml.add_space_prefix").unwrap(), Some(prefix));
        // The post-processor before config.json, which is followed for the end.
        assert_eq!(ids(&file)[..2], [Some(1), Some(0)]);
        let kinds: Vec<i64> =
            file.integer_array("tokenizer.ggml.token_type").unwrap().unwrap().iter_i64().collect();
        assert_eq!(kinds[..4], [2, 3, 3, 6]);
        let scores: Vec<f32> = file.f32_array("tokenizer.ggml.scores").unwrap().unwrap().iter_f32().collect();
        let words = &scores[259..264];
        assert!(words.windows(2).all(|pair| pair[0] > pair[1]) && words[4] > scores[264], "{words:?}");
        let tokenizer = Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap();
        let mut found = vec![];
        tokenizer.encode("the thé", EncodeOptions::default(), &mut found).unwrap();
        // ▁the, ▁th, é as two bytes; without a space before: t, he.
        let tail = [261, 3 + 0xC3, 3 + 0xA9];
        assert_eq!(
            found,
            if prefix { [&[262], &tail[..]].concat() } else { [&[266, 259], &tail[..]].concat() }
        );
    }
}

#[test]
fn merges_that_are_no_scores_are_refused() {
    let spm = |change: fn(&mut Value)| {
        move |tokenizer: &mut Value| {
            *tokenizer = sentence_piece();
            change(tokenizer);
        }
    };
    refused(
        spm(|t| drop(t["model"]["merges"].as_array_mut().unwrap().remove(2))),
        &["would make", "no merge"],
    );
    refused(
        spm(|t| {
            let merges = t["model"]["merges"].as_array_mut().unwrap();
            let last = merges.len() - 1;
            merges.swap(2, last);
        }),
        &["is made in several places"],
    );
    refused(
        spm(|t| drop(t["model"]["vocab"].as_object_mut().unwrap().remove("<0x41>"))),
        &["no token <0x41>"],
    );
    refused(
        spm(|t| t["model"]["byte_fallback"] = false.into()),
        &["neither byte-level nor with byte_fallback"],
    );
    refused(spm(|t| t["normalizer"] = json!({"type": "NFKC"})), &["normalizer: the step", "NFKC"]);
    refused(spm(|t| t["normalizer"] = Value::Null), &["neither byte-level nor with ▁"]);
    refused(
        spm(|t| {
            t["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"});
        }),
        &["pre_tokenizer: the step"],
    );
}

/// The tokenizer.json from which a GGUF vocabulary might have been made.
fn published(file: &GgufFile, pre: &Value, ignore_merges: bool) -> Value {
    let texts: Vec<String> =
        file.str_array("tokenizer.ggml.tokens").unwrap().unwrap().iter_str().map(str::to_owned).collect();
    let kinds: Vec<i64> =
        file.integer_array("tokenizer.ggml.token_type").unwrap().unwrap().iter_i64().collect();
    let is_added = |id: usize| !matches!(kinds[id], 1 | 6);
    let added: Vec<Value> = (0..texts.len())
        .filter(|&id| is_added(id) && kinds[id] != 5)
        .map(|id| {
            json!({"id": id, "content": texts[id], "special": kinds[id] != 4, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false})
        })
        .collect();
    let vocab: serde_json::Map<_, _> = texts
        .iter()
        .enumerate()
        .filter(|(id, _)| kinds[*id] != 5)
        .map(|(id, text)| (text.clone(), id.into()))
        .collect();
    let is_spm = file.str("tokenizer.ggml.model").unwrap() == Some("llama");
    let mut tokenizer = if is_spm { sentence_piece() } else { super::folder::byte_level() };
    tokenizer["added_tokens"] = added.into();
    tokenizer["model"]["ignore_merges"] = ignore_merges.into();
    if is_spm {
        let scores: Vec<f32> = file.f32_array("tokenizer.ggml.scores").unwrap().unwrap().iter_f32().collect();
        tokenizer["model"]["merges"] = merges(&texts, &scores, &vocab).into();
    } else {
        tokenizer["pre_tokenizer"] = pre.clone();
        let merges = file.str_array("tokenizer.ggml.merges").unwrap().unwrap();
        tokenizer["model"]["merges"] = merges.iter_str().map(Value::from).collect();
    }
    tokenizer["model"]["vocab"] = vocab.into();
    tokenizer
}

/// All ways to cut a token in two, best score first; of one token by the ids of the parts: as `transformers` does.
fn merges(texts: &[String], scores: &[f32], vocab: &serde_json::Map<String, Value>) -> Vec<Value> {
    let mut all = vec![];
    for (text, score) in texts.iter().zip(scores) {
        let mut cuts = vec![];
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(a), Some(b)) = (vocab.get(left), vocab.get(right)) {
                cuts.push((a.as_u64(), b.as_u64(), json!([left, right])));
            }
        }
        cuts.sort_by_key(|(a, b, _)| (*a, *b));
        all.extend(cuts.into_iter().map(|(_, _, pair)| (*score, pair)));
    }
    all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    all.into_iter().map(|(_, pair)| pair).collect()
}

/// Real vocabularies there and back: the ids of the llama.cpp project's test strings.
#[test]
fn real_vocabularies_keep_their_ids() {
    let llama3 = sequence(&[split(LLAMA3), byte_level_end()]);
    let qwen2 = sequence(&[split(QWEN2), byte_level_end()]);
    for (name, pre, ignore_merges) in [
        ("gpt-2", gpt2(), false),
        ("llama-bpe", llama3, true),
        ("qwen2", qwen2, false),
        ("llama-spm", Value::Null, false),
    ] {
        let Some(path) = shared(&format!("data/vocab/ggml-vocab-{name}.gguf")) else { return };
        let original = GgufFile::open(&path).unwrap();
        let mut folder = Folder::llama(Dtype::F16);
        folder.tokenizer = published(&original, &pre, ignore_merges);
        if name == "qwen2" {
            folder.tokenizer["normalizer"] = json!({"type": "NFC"});
        }
        let vocab = original.str_array("tokenizer.ggml.tokens").unwrap().unwrap().len();
        folder.config["vocab_size"] = vocab.into();
        for matrix in ["model.embed_tokens.weight", "lm_head.weight"] {
            let weights = Weights::floats(Dtype::F16, &[vocab, 64], &vec![0.5; vocab * 64]);
            folder.tensors.insert(matrix.to_owned(), weights);
        }
        let (file, _) = folder.convert(&ConvertOptions::default());
        let tokenizer = Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap();
        let beside = |ending: &str| std::fs::read_to_string(format!("{}.{ending}", path.display())).unwrap();
        let (inputs, outputs) = (beside("inp"), beside("out"));
        let texts: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        assert_eq!(texts.len(), outputs.split('\n').count());
        for (text, line) in texts.into_iter().zip(outputs.split('\n')) {
            let expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let mut found = vec![];
            tokenizer.encode(text, EncodeOptions::default(), &mut found).unwrap();
            assert_eq!(found, expected, "{name}: {text:?}");
        }
    }
}

/// The check of ids is no formality. Falcon's chain takes digits from the space before them, which GGUF's name for
/// it leaves to the merges: a vocabulary with a merge across that place is not the one the name was made for.
#[test]
fn other_ids_are_noticed() {
    let falcon = definitions().into_iter().find(|(.., name)| *name == "falcon").unwrap().0;
    let folder = with_pre(&falcon, false);
    folder.write();
    let error = folder.try_convert(&ConvertOptions::default()).map(drop).unwrap_err();
    assert!(matches!(error, ConvertError::OtherIds { .. }), "{error}");
    assert!(error.to_string().contains("tokenizer.json: the converted tokenizer encodes"), "{error}");
    assert!(!folder.output().exists());
}
