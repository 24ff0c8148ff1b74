//! Small vocabularies whose ids can be worked out by hand.

use crate::gguf::{GgufFile, GgufWriter};
use crate::text::bpe::BYTE_CHARS;
use crate::text::{Detokenizer, TextError, TokenKind, Tokenizer, TokenizerOptions, planned_bytes};
use crate::text::{MAX_ADDED_BYTES, MAX_TOKEN_BYTES};

use super::{MARKED, PARSED, PLAIN, Tokens, build, encode, file};

const NORMAL: i32 = TokenKind::Normal as i32;
const UNKNOWN: i32 = TokenKind::Unknown as i32;
const CONTROL: i32 = TokenKind::Control as i32;
const USER: i32 = TokenKind::UserDefined as i32;
const UNUSED: i32 = TokenKind::Unused as i32;
const BYTE: i32 = TokenKind::Byte as i32;

const IM_END: u32 = 260;
const DOUBLE_SPACE: u32 = 261;
const UNUSED_ID: u32 = 262;

/// Ids 0..256 are the bytes, then `he`, `ll`, `hell`, `hello` and added tokens.
fn bpe_tokens() -> Tokens {
    let mut tokens = Tokens::default();
    for character in BYTE_CHARS {
        tokens.add(&character.to_string(), NORMAL, 0.0);
    }
    for text in ["he", "ll", "hell", "hello"] {
        tokens.add(text, NORMAL, 0.0);
    }
    assert_eq!(tokens.add("<|im_end|>", CONTROL, 0.0), IM_END);
    assert_eq!(tokens.add("  ", USER, 0.0), DOUBLE_SPACE);
    assert_eq!(tokens.add("[PAD]", UNUSED, 0.0), UNUSED_ID);
    tokens
}

fn bpe_writer() -> GgufWriter {
    let mut writer = bpe_tokens().writer("gpt2");
    writer.set("tokenizer.ggml.pre", "gpt-2");
    let merges = ["h e", "l l", "he ll", "hell o"];
    writer.set("tokenizer.ggml.merges", merges.map(String::from).to_vec());
    writer.set("tokenizer.ggml.bos_token_id", IM_END);
    writer.set("tokenizer.ggml.eos_token_id", IM_END);
    writer
}

fn bpe() -> Tokenizer {
    build(&bpe_writer()).unwrap()
}

/// Ids 0..3 are `<unk> <s> </s>`, then 256 bytes, then text.
fn spm_tokens() -> Tokens {
    let mut tokens = Tokens::default();
    tokens.add("<unk>", UNKNOWN, 0.0);
    tokens.add("<s>", CONTROL, 0.0);
    tokens.add("</s>", CONTROL, 0.0);
    for byte in 0..=255u8 {
        tokens.add(&format!("<0x{byte:02X}>"), BYTE, 0.0);
    }
    // 259 "▁", 260 "a", 261 "b", 262 "ab", 263 "▁a", 264 "aa", 265.. the parts of "</s>"
    for (text, score) in [("▁", -9.0), ("a", -9.0), ("b", -9.0), ("ab", -1.0), ("▁a", -2.0), ("aa", -3.0)]
    {
        tokens.add(text, NORMAL, score);
    }
    for text in ["<", "/", "s", ">", "</", "s>"] {
        tokens.add(text, NORMAL, -20.0);
    }
    tokens
}

fn spm() -> Tokenizer {
    build(&spm_tokens().writer("llama")).unwrap()
}

#[test]
fn bpe_merges_by_rank() {
    let tokenizer = bpe();
    assert_eq!(encode(&tokenizer, "hello", PLAIN), [259]);
    assert_eq!(encode(&tokenizer, "hell", PLAIN), [258]);
    assert_eq!(encode(&tokenizer, "hhe", PLAIN), [u32::from(b'h'), 256]);
    assert_eq!(encode(&tokenizer, "é", PLAIN), [0xC3, 0xA9]);
    assert_eq!(encode(&tokenizer, "", PLAIN), [0u32; 0]);
}

#[test]
fn special_tokens_are_added_only_where_the_vocabulary_asks() {
    assert_eq!(encode(&bpe(), "h", MARKED), [u32::from(b'h')]);
    let mut writer = bpe_writer();
    writer.set("tokenizer.ggml.add_bos_token", true).set("tokenizer.ggml.add_eos_token", true);
    assert_eq!(encode(&build(&writer).unwrap(), "h", MARKED), [IM_END, u32::from(b'h'), IM_END]);
    writer.set("tokenizer.ggml.pre", "llama-bpe").set("tokenizer.ggml.add_eos_token", false);
    assert_eq!(encode(&build(&writer).unwrap(), "", MARKED), [IM_END]);
    assert_eq!(encode(&spm(), "a", MARKED), [1, 263]);
    let mut both = spm_tokens().writer("llama");
    both.set("tokenizer.ggml.add_eos_token", true);
    assert_eq!(encode(&build(&both).unwrap(), "", MARKED), [1, 2]);
    let mut no_id = bpe_tokens().writer("gpt2");
    no_id.set("tokenizer.ggml.pre", "gpt-2").set("tokenizer.ggml.add_bos_token", true);
    assert!(matches!(build(&no_id), Err(TextError::MissingId { .. })));
}

#[test]
fn text_never_becomes_a_control_token() {
    let text = "hello<|im_end|>\nhello";
    let tokenizer = bpe();
    assert!(!encode(&tokenizer, text, PLAIN).contains(&IM_END));
    assert_eq!(encode(&tokenizer, text, PARSED), [259, IM_END, u32::from(b'\n'), 259]);
    // Merges of the file that lead to a control token are not used either.
    let mut writer = bpe_writer();
    let mut tokens = bpe_tokens();
    tokens.kinds[259] = CONTROL;
    writer.set("tokenizer.ggml.token_type", tokens.kinds.clone());
    assert_eq!(encode(&build(&writer).unwrap(), "hello", PLAIN), [258, u32::from(b'o')]);
    // Nor is a whole word that is written like one, in the families that look words up.
    writer.set("tokenizer.ggml.pre", "llama-bpe");
    assert_eq!(encode(&build(&writer).unwrap(), "hello", PLAIN), [258, u32::from(b'o')]);

    let tokenizer = spm();
    assert!(encode(&tokenizer, "a</s>", PLAIN).iter().all(|id| *id > 2));
    assert!(encode(&tokenizer, "<unk><s>", PLAIN).iter().all(|id| *id > 2));
    assert_eq!(encode(&tokenizer, "<unk><s>a</s>a", PARSED), [0, 1, 263, 2, 263]);
    for text in ["a</s>", "<unk><s>"] {
        assert_eq!(tokenizer.decode_lossy(&encode(&tokenizer, text, PLAIN), true), text);
    }
}

#[test]
fn user_defined_tokens_are_always_found_and_kept() {
    let tokenizer = bpe();
    let ids = encode(&tokenizer, "h  h", PLAIN);
    assert_eq!(ids, [u32::from(b'h'), DOUBLE_SPACE, u32::from(b'h')]);
    assert_eq!(tokenizer.decode(&ids, true), b"h  h");
    assert!(!tokenizer.is_special(DOUBLE_SPACE));
    assert!(!encode(&tokenizer, "[PAD]", PARSED).contains(&UNUSED_ID));
    assert_eq!(tokenizer.added_token("<|im_end|>"), Some(IM_END));
    assert_eq!(tokenizer.added_token("<|im_end|>x"), None);
    assert_eq!(tokenizer.added_token("hello"), None);
}

#[test]
fn spm_merges_by_score_and_falls_back_to_bytes() {
    let tokenizer = spm();
    // "▁aab": "ab" has the best score, then "▁a".
    assert_eq!(encode(&tokenizer, "aab", PLAIN), [263, 262]);
    // "▁aa": "▁a" before "aa".
    assert_eq!(encode(&tokenizer, "aa", PLAIN), [263, 260]);
    let smile = [0xF0, 0x9F, 0x98, 0x80].map(|byte: u32| byte + 3);
    assert_eq!(encode(&tokenizer, "\u{1F600}", PLAIN), [&[259][..], &smile[..]].concat());
    // A byte token's written form is ordinary text.
    assert!(!encode(&tokenizer, "<0x41>", PLAIN).contains(&(3 + 0x41)));
}

#[test]
fn spm_space_prefix_comes_and_goes() {
    let tokenizer = spm();
    for text in ["a", " a", "  a b ", "", " ", "\n", "日本 a"] {
        assert_eq!(tokenizer.decode(&encode(&tokenizer, text, PLAIN), false), text.as_bytes(), "{text:?}");
    }
    let parsed = encode(&tokenizer, "<s>a</s>b", PARSED);
    assert_eq!(tokenizer.decode_lossy(&parsed, false), "<s>a</s>b");
    assert_eq!(tokenizer.decode_lossy(&parsed, true), "ab");
    // Text that continues a prompt keeps the space of its first word.
    let mut stream = Detokenizer::new(&tokenizer, &[1, 263], true);
    assert_eq!(stream.push(&tokenizer, 263), " a");
    let mut stream = Detokenizer::new(&tokenizer, &[1], true);
    assert_eq!(stream.push(&tokenizer, 263), "a");
    let mut plain = spm_tokens().writer("llama");
    plain.set("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = build(&plain).unwrap();
    assert_eq!(encode(&tokenizer, "a", PLAIN), [260]);
    assert_eq!(tokenizer.decode_lossy(&[263], false), " a");
}

#[test]
fn a_split_character_is_held_back() {
    let tokenizer = bpe();
    let mut stream = Detokenizer::new(&tokenizer, &[], true);
    let mut shown = Vec::new();
    for byte in "a\u{1F600}é".bytes() {
        shown.push(stream.push(&tokenizer, u32::from(byte)).to_owned());
    }
    assert_eq!(shown, ["a", "", "", "", "\u{1F600}", "", "é"]);
    assert_eq!(stream.finish(), "");
}

#[test]
fn invalid_bytes_become_one_replacement_each() {
    let tokenizer = bpe();
    let mut stream = Detokenizer::new(&tokenizer, &[], true);
    assert_eq!(stream.push(&tokenizer, 0xFF), "\u{FFFD}");
    assert_eq!(stream.push(&tokenizer, 0xF0), "");
    assert_eq!(stream.push(&tokenizer, u32::from(b'x')), "\u{FFFD}x");
    assert_eq!(stream.push(&tokenizer, 0xE2), "");
    assert_eq!(stream.finish(), "\u{FFFD}");
    assert_eq!(stream.finish(), "");
}

#[test]
fn streaming_equals_decoding_at_once() {
    let tokenizer = bpe();
    // Deterministic ids of every kind, most of them invalid UTF-8 when joined.
    let mut state = 1u32;
    for _ in 0..200 {
        let ids: Vec<u32> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) % 270
            })
            .collect();
        for skip in [false, true] {
            let mut stream = Detokenizer::new(&tokenizer, &[], skip);
            let mut text = String::new();
            for id in &ids {
                text.push_str(stream.push(&tokenizer, *id));
            }
            text.push_str(stream.finish());
            assert_eq!(text, tokenizer.decode_lossy(&ids, skip));
        }
    }
}

#[test]
fn generation_ends_at_named_and_known_ids() {
    let tokenizer = bpe();
    assert!(tokenizer.is_end(IM_END));
    assert!(!tokenizer.is_end(0));
    assert_eq!(spm().end_ids(), [2]);
    let mut writer = bpe_writer();
    writer.set("tokenizer.ggml.eos_token_id", 5u32).set("tokenizer.ggml.eot_token_id", 7u32);
    assert_eq!(build(&writer).unwrap().end_ids(), [5, 7, IM_END]);
    // Ordinary text that looks like an end does not end anything.
    let mut tokens = bpe_tokens();
    let fake = tokens.add("</s>", NORMAL, 0.0);
    let mut writer = tokens.writer("gpt2");
    writer.set("tokenizer.ggml.pre", "gpt-2");
    assert!(!build(&writer).unwrap().is_end(fake));
}

#[test]
fn the_pre_tokenizer_is_never_guessed() {
    let mut writer = bpe_tokens().writer("gpt2");
    let message = |result: Result<Tokenizer, TextError>| result.err().unwrap().to_string();
    let missing = message(build(&writer));
    assert!(missing.contains("tokenizer.ggml.pre") && missing.contains("llama-bpe"), "{missing}");
    writer.set("tokenizer.ggml.pre", "made-up");
    let unknown = message(build(&writer));
    assert!(unknown.contains("made-up") && unknown.contains("llama-bpe"), "{unknown}");
    let pre = |name: &str| TokenizerOptions { pre: Some(name.to_owned()) };
    assert!(Tokenizer::from_gguf(&file(&writer), pre("smollm")).is_ok());
    let own = Tokenizer::from_gguf(&file(&writer), pre("nor-this"));
    assert!(message(own).contains("nor-this"));
    writer.set("tokenizer.ggml.model", "bert");
    assert!(matches!(build(&writer), Err(TextError::UnknownModel { .. })));
}

/// Changes one thing in a valid file and gives the error.
fn broken(change: impl Fn(&mut Tokens), set: impl Fn(&mut GgufWriter), model: &str) -> TextError {
    let mut tokens = if model == "gpt2" { bpe_tokens() } else { spm_tokens() };
    change(&mut tokens);
    let mut writer = tokens.writer(model);
    writer.set("tokenizer.ggml.pre", "gpt-2");
    set(&mut writer);
    match build(&writer) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    }
}

fn unchanged(_: &mut Tokens) {}

fn as_is(_: &mut GgufWriter) {}

#[test]
fn merges_must_name_tokens() {
    for merge in ["h", "h ", " ", "", "h  ", "h zz", "h h"] {
        let set = |writer: &mut GgufWriter| {
            writer.set("tokenizer.ggml.merges", vec![merge.to_owned()]);
        };
        let error = broken(unchanged, set, "gpt2");
        assert!(matches!(error, TextError::BadMerge { index: 0, .. }), "{merge:?}: {error}");
    }
}

#[test]
fn special_ids_must_be_in_the_vocabulary() {
    for name in ["bos", "eos", "eot", "eom", "unknown"] {
        let set = |writer: &mut GgufWriter| {
            writer.set(format!("tokenizer.ggml.{name}_token_id"), 9999u32);
        };
        let error = broken(unchanged, set, "gpt2");
        assert!(matches!(error, TextError::IdOutOfRange { id: 9999, .. }), "{name}: {error}");
    }
}

#[test]
fn token_lists_must_be_consistent() {
    let short = |tokens: &mut Tokens| {
        tokens.kinds.pop();
    };
    assert!(matches!(broken(short, as_is, "gpt2"), TextError::WrongLength { .. }));
    let nan = |tokens: &mut Tokens| tokens.scores[7] = f32::NAN;
    assert!(matches!(broken(nan, as_is, "llama"), TextError::BadScore { id: 7, .. }));
    for text in ["<0xZZ>", "<0x-1>", "<0x00>", "<0xab>", "<0x+1>"] {
        let byte = |tokens: &mut Tokens| {
            tokens.add(text, BYTE, 0.0);
        };
        let error = broken(byte, as_is, "llama");
        assert!(matches!(error, TextError::BadByteToken { .. }), "{text}: {error}");
    }
}

#[test]
fn sizes_are_capped() {
    let empty = |tokens: &mut Tokens| *tokens = Tokens::default();
    assert!(matches!(broken(empty, as_is, "gpt2"), TextError::OutOfBounds { .. }));
    let long = |tokens: &mut Tokens| {
        tokens.add(&"x".repeat(MAX_TOKEN_BYTES + 1), NORMAL, 0.0);
    };
    assert!(matches!(broken(long, as_is, "gpt2"), TextError::OutOfBounds { .. }));
    let added = |tokens: &mut Tokens| {
        for index in 0..=MAX_ADDED_BYTES / 1000 {
            tokens.add(&format!("{index:01000}"), USER, 0.0);
        }
    };
    assert!(matches!(broken(added, as_is, "gpt2"), TextError::OutOfBounds { .. }));
}

/// Tokens without text, and merges in circles or in masses, give what the others give.
#[test]
fn odd_vocabularies_take_no_longer() {
    let mut tokens = bpe_tokens();
    tokens.add("", NORMAL, 0.0);
    let mut writer = tokens.writer("gpt2");
    writer.set("tokenizer.ggml.pre", "gpt-2");
    let merges = ["h e", "l l", "he ll", "hell o", "h e", "he ll", "l l"];
    writer.set("tokenizer.ggml.merges", merges.map(String::from).to_vec());
    let tokenizer = build(&writer).unwrap();
    assert_eq!(encode(&tokenizer, "hello", PLAIN), [259]);
    assert_eq!(tokenizer.decode(&[259, 263, 259], false), b"hellohello");
    let masses: Vec<String> = (0..1_000_000).map(|i| merges[i % merges.len()].to_owned()).collect();
    let mut many = bpe_writer();
    many.set("tokenizer.ggml.merges", masses);
    match build(&many) {
        Ok(tokenizer) => assert_eq!(encode(&tokenizer, "hello", PLAIN), [259]),
        Err(error) => assert!(matches!(error, TextError::OutOfBounds { .. }), "{error}"),
    }
}

/// Tokens that are looked for in the text, each the beginning of the next.
#[test]
fn beginnings_of_each_other_are_found_in_linear_time() {
    let mut tokens = bpe_tokens();
    for length in 1..=1000 {
        tokens.add(&"a".repeat(length), USER, 0.0);
    }
    let mut writer = tokens.writer("gpt2");
    writer.set("tokenizer.ggml.pre", "gpt-2");
    let tokenizer = build(&writer).unwrap();
    let text = "a".repeat(999) + "b";
    let text = text.repeat(300);
    let started = std::time::Instant::now();
    let ids = encode(&tokenizer, &text, PLAIN);
    assert_eq!(ids.len(), 600);
    // Each place looked at by each token would be 300 million looks.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

/// A megabyte of one kind of character, in words without an end: twice the text is twice the work.
#[test]
fn long_words_take_linear_time() {
    for tokenizer in [bpe(), spm()] {
        for unit in ["A", "a", " ", ".", "\n", "7", "日", "\u{1F468}\u{200D}\u{1F469}", "e\u{301}"] {
            let text = unit.repeat((1 << 20) / unit.len());
            let started = std::time::Instant::now();
            let ids = encode(&tokenizer, &text, PLAIN);
            // Quadratic work would take hours.
            assert!(started.elapsed().as_secs() < 40, "{unit:?}: {:?}", started.elapsed());
            assert!(tokenizer.decode(&ids, false).ends_with(text.as_bytes()), "{unit:?}");
        }
    }
}

#[test]
fn text_without_a_token_is_an_error_and_not_lost() {
    let mut tokens = Tokens::default();
    tokens.add("a", NORMAL, 0.0);
    let mut writer = tokens.writer("gpt2");
    writer.set("tokenizer.ggml.pre", "gpt-2");
    let tokenizer = build(&writer).unwrap();
    let error = tokenizer.encode("aab", PLAIN, &mut Vec::new());
    assert!(matches!(error, Err(TextError::NoTokenForByte { byte: b'b' })));

    let mut tokens = Tokens::default();
    tokens.add("a", NORMAL, 0.0);
    let mut writer = tokens.writer("llama");
    writer.set("tokenizer.ggml.add_space_prefix", false);
    let error = build(&writer).unwrap().encode("日", PLAIN, &mut Vec::new());
    assert!(matches!(error, Err(TextError::NoTokenForChar { character: '日' })));
    let unknown = tokens.add("<unk>", UNKNOWN, 0.0);
    let mut writer = tokens.writer("llama");
    writer.set("tokenizer.ggml.add_space_prefix", false).set("tokenizer.ggml.unknown_token_id", unknown);
    assert_eq!(encode(&build(&writer).unwrap(), "a日", PLAIN), [0, unknown]);
}

#[test]
fn corrupt_files_never_panic() {
    let templates = [bpe_writer(), spm_tokens().writer("llama")];
    let mut state = 7u64;
    for writer in templates {
        let clean = writer.to_vec("tiny", |_, _| Ok(())).unwrap();
        for _ in 0..500 {
            let mut bytes = clean.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] ^= (state >> 20) as u8 | 1;
            }
            let Ok(file) = GgufFile::from_vec("flipped", bytes) else { continue };
            planned_bytes(&file);
            if let Ok(tokenizer) = Tokenizer::from_gguf(&file, TokenizerOptions::default()) {
                let mut ids = Vec::new();
                let _ = tokenizer.encode("hello  <|im_end|> aab 日本\u{1F600}", PARSED, &mut ids);
                tokenizer.decode(&ids, true);
            }
        }
    }
}

#[test]
fn fingerprints_tell_vocabularies_apart() {
    assert_eq!(bpe().fingerprint(), bpe().fingerprint());
    assert_ne!(bpe().fingerprint(), spm().fingerprint());
    let mut writer = bpe_writer();
    writer.set("tokenizer.ggml.pre", "qwen2");
    assert_ne!(bpe().fingerprint(), build(&writer).unwrap().fingerprint());
}

#[test]
fn ids_outside_the_vocabulary_are_empty() {
    let tokenizer = bpe();
    assert_eq!(tokenizer.piece(u32::MAX), b"");
    assert_eq!(tokenizer.piece(tokenizer.vocab_size() as u32), b"");
    assert_eq!(tokenizer.piece(259), b"hello");
    assert_eq!(tokenizer.decode(&[u32::MAX, 259], false), b"hello");
    assert_eq!(tokenizer.kind(u32::MAX), None);
}
