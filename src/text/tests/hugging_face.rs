//! Equality with the `tokenizers` crate, the reference for byte-level families: for every kind of pre-tokenizer a
//! vocabulary is trained by the crate, written to GGUF, and both encode the same random texts.

use serde_json::{Value, json};
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::models::{TrainerWrapper, bpe::BPE};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Reference};

use crate::gguf::GgufWriter;
use crate::text::{TokenKind, Tokenizer};

use super::{PARSED, PLAIN, build, encode};

const TEXTS: usize = 10_000;
/// Texts that are decoded again and encoded as plain text too.
const DECODED_TEXTS: usize = 1000;
const TRAINING_TEXTS: usize = 600;
const CONTROL: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<s>"];
const USER: [&str; 3] = ["    ", "<think>", "\n\n\n"];

/// A pre-tokenizer by its definition in tokenizer.json. Sources: the published files of the families named.
struct Definition {
    pre: &'static str,
    /// Patterns of `Split`, then `ByteLevel` without its own.
    splits: &'static [&'static str],
    /// Steps before the splits or, without splits, before `ByteLevel` with its own pattern.
    digits: bool,
    nfc: bool,
    ignore_merges: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|[.,!?…。，、।۔،])]+";
const CODER: [&str; 5] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", r"\p{N}"];
const V3: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥\u{3040}-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
];

const fn row(pre: &'static str, splits: &'static [&'static str]) -> Definition {
    Definition { pre, splits, digits: false, nfc: false, ignore_merges: false }
}

const DEFINITIONS: [Definition; 13] = [
    row("gpt-2", &[]),
    Definition { nfc: true, ..row("mpt", &[]) },
    Definition { digits: true, ..row("smollm", &[]) },
    Definition { ignore_merges: true, ..row("llama-bpe", &[LLAMA3]) },
    row("smaug-bpe", &[LLAMA3]),
    Definition { nfc: true, ..row("qwen2", &[QWEN2]) },
    Definition { nfc: true, ..row("qwen35", &[QWEN35]) },
    row("gpt-4o", &[GPT4O]),
    Definition { ignore_merges: true, ..row("tekken", &[TEKKEN]) },
    row("seed-coder", &[SEED]),
    row("bloom", &[BLOOM]),
    row("deepseek-coder", &CODER),
    row("deepseek-v3", &V3),
];

impl Definition {
    fn json(&self) -> Value {
        let mut steps = Vec::new();
        if self.digits {
            steps.push(json!({"type": "Digits", "individual_digits": true}));
        }
        for pattern in self.splits {
            let pattern = json!({"Regex": pattern});
            steps.push(json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false}));
        }
        let own = self.splits.is_empty();
        steps.push(
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": own}),
        );
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
            "normalizer": if self.nfc { json!({"type": "NFC"}) } else { Value::Null },
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
            "post_processor": null,
            "decoder": null,
            "model": {"type": "BPE", "vocab": {}, "merges": [], "ignore_merges": self.ignore_merges},
        })
    }

    /// The reference with a vocabulary trained on random texts, and the same as a file.
    fn train(&self) -> (Reference, GgufWriter) {
        let mut reference: Reference = self.json().to_string().parse().unwrap();
        let mut random = Random(7);
        // Without added tokens, so that none is learnt as a word.
        let texts: Vec<String> = (0..TRAINING_TEXTS)
            .map(|_| {
                CONTROL.iter().chain(&USER[1..2]).fold(random.text(), |text, token| text.replace(token, ""))
            })
            .collect();
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let trainer = BpeTrainer::builder()
            .vocab_size(1500)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(alphabet.into_iter().collect())
            .build();
        reference.train(&mut TrainerWrapper::from(trainer), texts.into_iter()).unwrap();
        let model = serde_json::to_value(&reference).unwrap()["model"].clone();
        // Training makes a model of its own.
        let rebuilt: BPE = {
            let mut model = model.clone();
            model["ignore_merges"] = json!(self.ignore_merges);
            serde_json::from_str(&model.to_string()).unwrap()
        };
        reference.with_model(rebuilt);
        reference
            .add_special_tokens(CONTROL.map(|text| AddedToken::from(text, true).normalized(false)))
            .unwrap();
        reference.add_tokens(USER.map(|text| AddedToken::from(text, false).normalized(false))).unwrap();

        let vocab = model["vocab"].as_object().unwrap();
        assert!(!CONTROL.iter().chain(&USER).any(|token| vocab.contains_key(*token)), "{}", self.pre);
        let size = vocab.len() + CONTROL.len() + USER.len();
        let (mut texts, mut kinds) = (vec![String::new(); size], vec![TokenKind::Normal as i32; size]);
        for (text, id) in vocab {
            texts[id.as_u64().unwrap() as usize] = text.clone();
        }
        for (offset, text) in CONTROL.iter().chain(&USER).enumerate() {
            texts[vocab.len() + offset] = (*text).to_owned();
            let kind = if offset < CONTROL.len() { TokenKind::Control } else { TokenKind::UserDefined };
            kinds[vocab.len() + offset] = kind as i32;
        }
        let merges: Vec<String> = model["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        assert!(merges.len() > 500, "{}: {} merges", self.pre, merges.len());
        let mut writer = GgufWriter::new();
        writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", self.pre);
        writer.set("tokenizer.ggml.tokens", texts).set("tokenizer.ggml.token_type", kinds);
        writer.set("tokenizer.ggml.merges", merges);
        (reference, writer)
    }
}

/// Seeded texts.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % below
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.next(from.len() as u32) as usize]
    }

    /// A few runs of characters of one kind each.
    pub(super) fn text(&mut self) -> String {
        const WORDS: [&str; 14] = [
            "hello",
            "World",
            "I'm",
            "we'LL",
            "don't",
            "naïve",
            "straße",
            "Привет",
            "日本語",
            "한국어",
            "العربية",
            "हिन्दी",
            "x1y2",
            "camelCaseHTML",
        ];
        const SPACES: [&str; 9] = [" ", "  ", "\n", "\r\n", "\t", "\u{a0}", "\u{3000}", "\u{2003}", "\u{85}"];
        const EMOJI: [&str; 5] =
            ["\u{1F600}", "\u{1F468}\u{200D}\u{1F469}", "\u{2764}\u{FE0F}", "\u{1F1E9}\u{1F1EA}", "\u{263A}"];
        const MARKS: [&str; 6] =
            ["e\u{301}", "\u{301}", "o\u{323}\u{302}", "\u{1100}\u{1161}", "\u{212b}", "\u{94d}"];
        const NUMBERS: [&str; 5] = ["\u{664}", "\u{bd}", "\u{2167}", "\u{b2}", "\u{ff11}"];
        let mut text = String::new();
        for _ in 0..=self.next(8) {
            let kind = self.next(11);
            for _ in 0..=self.next(5) {
                match kind {
                    0 | 1 => text.push_str(self.pick(&WORDS)),
                    2 => text.push(char::from(self.next(128) as u8)),
                    3 => text.push_str(self.pick(&SPACES)),
                    4 => text.push(char::from(b'0' + self.next(10) as u8)),
                    5 => text.push_str(self.pick(&EMOJI)),
                    6 => text.push_str(self.pick(&MARKS)),
                    7 => text.push_str(self.pick(&NUMBERS)),
                    8 => text.push(char::from_u32(self.next(0x11_0000)).unwrap_or('\u{FFFD}')),
                    9 => text.push(char::from_u32(0x80 + self.next(0x2f00)).unwrap_or('x')),
                    _ => {
                        text.push_str(self.pick(&CONTROL));
                        text.push_str(self.pick(&USER));
                    }
                }
            }
            if self.next(2) == 0 {
                text.push(' ');
            }
        }
        text
    }
}

fn compare(definition: &Definition) {
    let (reference, writer) = definition.train();
    let tokenizer: Tokenizer = build(&writer).unwrap();
    let mut random = Random(42);
    let mut merged = 0;
    for index in 0..TEXTS {
        let text = random.text();
        let expected = reference.encode_fast(text.as_str(), false).unwrap();
        let found = encode(&tokenizer, &text, PARSED);
        assert_eq!(found, expected.get_ids(), "{}: {text:?}", definition.pre);
        merged += text.len() - found.len();
        if index >= DECODED_TEXTS {
            continue;
        }
        let composed = if definition.nfc { super::super::normal::nfc(&text) } else { text.as_str().into() };
        // Composition does not reach across added tokens.
        if !definition.nfc || !CONTROL.iter().chain(&USER).any(|token| text.contains(token)) {
            assert_eq!(tokenizer.decode(&found, false), composed.as_bytes(), "{}", definition.pre);
            let plain = encode(&tokenizer, &text, PLAIN);
            assert_eq!(tokenizer.decode(&plain, true), composed.as_bytes(), "{}", definition.pre);
        }
    }
    assert!(merged > TEXTS * 5, "{}: {merged}", definition.pre);
}

/// Tokens of SentencePiece by merges, learnt from `random`, and the number of those before the learnt.
fn learnt_tokens(random: &mut Random) -> (super::Tokens, usize) {
    let texts: Vec<String> = (0..TRAINING_TEXTS).map(|_| random.text().replace(' ', "▁")).collect();
    let mut trained: Reference = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    })
    .to_string()
    .parse()
    .unwrap();
    let trainer = BpeTrainer::builder().vocab_size(1500).limit_alphabet(200).show_progress(false).build();
    trained.train(&mut TrainerWrapper::from(trainer), texts.into_iter()).unwrap();
    let mut learnt: Vec<(u32, String)> =
        trained.get_vocab(false).into_iter().map(|(text, id)| (id, text)).collect();
    learnt.sort_unstable();
    let is_mark = |text: &str| CONTROL.contains(&text) || USER.contains(&text) || text == "<unk>";
    let mut tokens = super::Tokens::default();
    tokens.add("<unk>", TokenKind::Unknown as i32, 0.0);
    for text in CONTROL {
        tokens.add(text, TokenKind::Control as i32, 0.0);
    }
    for text in USER {
        tokens.add(text, TokenKind::UserDefined as i32, 0.0);
    }
    for byte in 0..=255u8 {
        tokens.add(&format!("<0x{byte:02X}>"), TokenKind::Byte as i32, 0.0);
    }
    let first = tokens.texts.len();
    for (rank, (_, text)) in learnt.iter().filter(|(_, text)| !is_mark(text)).enumerate() {
        tokens.add(text, TokenKind::Normal as i32, -(rank as f32));
    }
    (tokens, first)
}

/// The same tokens in the reference.
fn sentence_piece_reference(tokens: &super::Tokens, first: usize, space_prefix: bool) -> Reference {
    let known: std::collections::HashSet<&str> = tokens.texts[first..].iter().map(String::as_str).collect();
    let merges: Vec<[&str; 2]> = tokens.texts[first..]
        .iter()
        .flat_map(|text| text.char_indices().skip(1).map(move |(at, _)| text.split_at(at)))
        .filter(|(left, right)| known.contains(left) && known.contains(right))
        .map(|(left, right)| [left, right])
        .collect();
    let vocab: serde_json::Map<String, Value> =
        tokens.texts.iter().enumerate().map(|(id, text)| (text.clone(), json!(id))).collect();
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let steps = if space_prefix {
        vec![json!({"type": "Prepend", "prepend": "▁"}), replace]
    } else {
        vec![replace]
    };
    let mut reference: Reference = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {
            "type": "BPE", "vocab": vocab, "merges": merges, "unk_token": "<unk>", "fuse_unk": true,
            "byte_fallback": true,
        },
    })
    .to_string()
    .parse()
    .unwrap();
    let special = CONTROL.iter().chain(&["<unk>"]);
    reference
        .add_special_tokens(special.map(|text| AddedToken::from(*text, true).normalized(false)))
        .unwrap();
    reference.add_tokens(USER.map(|text| AddedToken::from(text, false).normalized(false))).unwrap();
    reference
}

/// SentencePiece by merges, as Llama (with a space in front) and Gemma (without) have it.
fn compare_sentence_piece(space_prefix: bool) {
    let mut random = Random(11);
    let (tokens, first) = learnt_tokens(&mut random);
    let mut writer = tokens.writer("llama");
    writer.set("tokenizer.ggml.add_space_prefix", space_prefix).set("tokenizer.ggml.unknown_token_id", 0u32);
    let tokenizer = build(&writer).unwrap();

    let reference = sentence_piece_reference(&tokens, first, space_prefix);
    for _ in 0..TEXTS {
        let text = random.text();
        let found = encode(&tokenizer, &text, PARSED);
        let expected = reference.encode_fast(text.as_str(), false).unwrap();
        assert_eq!(found, expected.get_ids(), "{space_prefix}: {text:?}");
        assert_eq!(tokenizer.decode(&found, false), text.as_bytes(), "{text:?}");
    }
}

#[test]
fn sentence_piece_ids_equal_the_reference() {
    compare_sentence_piece(true);
    compare_sentence_piece(false);
}

/// One test for each quarter, so that they share the cores.
fn compare_every(start: usize) {
    for definition in DEFINITIONS.iter().skip(start).step_by(4) {
        compare(definition);
    }
}

#[test]
fn ids_equal_the_reference_1() {
    compare_every(0);
}

#[test]
fn ids_equal_the_reference_2() {
    compare_every(1);
}

#[test]
fn ids_equal_the_reference_3() {
    compare_every(2);
}

#[test]
fn ids_equal_the_reference_4() {
    compare_every(3);
}
