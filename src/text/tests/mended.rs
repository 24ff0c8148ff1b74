//! Files whose converter lost or confused something.

use crate::gguf::GgufWriter;
use crate::text::bpe::BYTE_CHARS;
use crate::text::{TextError, TokenKind, Tokenizer};

use super::{PARSED, PLAIN, Tokens, build, encode};

const NORMAL: i32 = TokenKind::Normal as i32;
const CONTROL: i32 = TokenKind::Control as i32;
const USER: i32 = TokenKind::UserDefined as i32;

/// The bytes, a word that merging makes, and `more` from id 257 on.
fn writer(more: &[(&str, i32)]) -> GgufWriter {
    let mut tokens = Tokens::default();
    BYTE_CHARS.iter().for_each(|character| {
        tokens.add(&character.to_string(), NORMAL, 0.0);
    });
    tokens.add("he", NORMAL, 0.0);
    for (text, kind) in more {
        tokens.add(text, *kind, 0.0);
    }
    let mut writer = tokens.writer("gpt2");
    writer.set("tokenizer.ggml.pre", "gpt-2").set("tokenizer.ggml.merges", vec!["h e".to_owned()]);
    writer
}

/// The same without kinds, with further merges.
fn untyped(more: &[&str], template: &str, merges: &[&str]) -> Tokenizer {
    let mut tokens: Vec<String> = BYTE_CHARS.iter().map(char::to_string).collect();
    tokens.push("he".to_owned());
    tokens.extend(more.iter().map(|text| (*text).to_owned()));
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
    writer.set("tokenizer.ggml.tokens", tokens);
    let merges = ["h e"].iter().chain(merges).map(|merge| (*merge).to_owned());
    writer.set("tokenizer.ggml.merges", merges.collect::<Vec<String>>());
    writer.set("tokenizer.chat_template", template);
    build(&writer).unwrap()
}

fn said(tokenizer: &Tokenizer) -> String {
    tokenizer.warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn marks_of_turns_are_control_tokens_whatever_the_file_calls_them() {
    for text in
        ["<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<turn|>"]
    {
        for kind in [NORMAL, USER, TokenKind::Unused as i32] {
            let tokenizer = build(&writer(&[(text, kind), ("<think>", USER)])).unwrap();
            assert!(tokenizer.is_end(257) && tokenizer.is_special(257), "{text}, {kind}");
            assert!(!encode(&tokenizer, text, PLAIN).contains(&257), "users cannot write it: {text}");
            assert_eq!(encode(&tokenizer, text, PARSED), [257]);
            assert_eq!(tokenizer.kind(258), Some(TokenKind::UserDefined), "what is shown stays");
            assert!(said(&tokenizer).contains("token_type") && said(&tokenizer).contains(text), "{text}");
        }
        let right = build(&writer(&[(text, CONTROL)])).unwrap();
        assert!(right.is_end(257) && right.warnings().is_empty());
    }
    let start = build(&writer(&[("<|im_start|>", USER)])).unwrap();
    assert!(start.is_special(257) && !start.is_end(257));
}

#[test]
fn a_mark_that_may_be_text_is_one_where_the_file_means_it() {
    let html = writer(&[("</s>", USER), ("<eos>", CONTROL)]);
    let tokenizer = build(&html).unwrap();
    assert!(!tokenizer.is_end(257) && tokenizer.is_end(258) && tokenizer.warnings().is_empty());
    let mut named = html.clone();
    named.set("tokenizer.ggml.eos_token_id", 257u32);
    let mut written = html.clone();
    written.set("tokenizer.chat_template", "{{ messages[0].content }}</s>");
    for file in [named, written] {
        let tokenizer = build(&file).unwrap();
        assert!(tokenizer.is_end(257) && tokenizer.is_special(257));
        assert!(said(&tokenizer).contains("</s>"));
    }
    // What has not the form of a mark is text, be it named.
    let mut line = writer(&[("\n\n", USER)]);
    line.set("tokenizer.ggml.eos_token_id", 257u32);
    let tokenizer = build(&line).unwrap();
    assert!(tokenizer.is_end(257) && !tokenizer.is_special(257));
}

#[test]
fn without_kinds_control_tokens_are_those_of_the_template_and_known_ones() {
    let more = ["<|im_end|>", "<|mine|>", "[ASK]", "[OTHER]", "<think>", "<b>", "<b"];
    let template = "[ASK]{{ messages[0].content }}<|mine|><think><b>";
    let tokenizer = untyped(&more, template, &["< b", "<b >"]);
    let kinds: Vec<TokenKind> = (257..263).map(|id| tokenizer.kind(id).unwrap()).collect();
    use TokenKind::{Control, Normal, UserDefined};
    assert_eq!(kinds, [Control, Control, Control, Normal, UserDefined, Normal]);
    let said = said(&tokenizer);
    assert!(said.contains("is missing") && said.contains("<|im_end|> <|mine|> [ASK]"), "{said}");
    assert_eq!(encode(&tokenizer, "he", PLAIN), [256]);
    assert!(!encode(&tokenizer, "[ASK]", PLAIN).contains(&259));
    let plain = untyped(&[], "", &[]);
    assert!(plain.warnings()[0].to_string().ends_with("none"));
}

#[test]
fn without_kinds_a_sentencepiece_file_has_its_bytes_and_ends() {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    tokens.push("a".to_owned());
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "llama").set("tokenizer.ggml.scores", vec![0.0f32; tokens.len()]);
    writer.set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = build(&writer).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.is_end(2)), (Some(1), Some(2), true));
    assert_eq!(encode(&tokenizer, "ab", PLAIN), [259, 3 + u32::from(b'b')]);
    assert_eq!(tokenizer.decode(&[259, 3 + u32::from(b'b')], true), b"ab");
}

#[test]
fn a_file_without_merges_is_refused() {
    let mut empty = writer(&[]);
    empty.set("tokenizer.ggml.merges", Vec::<String>::new());
    let error = build(&empty).err().unwrap();
    assert!(matches!(error, TextError::NoMerges { found: 1, .. }), "{error}");
    assert!(error.to_string().contains("tokenizer.ggml.merges"));
}

#[test]
fn of_tokens_with_one_text_the_first_is_written_and_all_are_read() {
    let mut bpe = writer(&[("he", NORMAL), ("<|a|>", CONTROL), ("<|a|>", CONTROL)]);
    let tokenizer = build(&bpe).unwrap();
    assert_eq!(encode(&tokenizer, "he", PLAIN), [256]);
    assert_eq!(encode(&tokenizer, "<|a|>", PARSED), [258]);
    assert_eq!(tokenizer.decode(&[257, 256], true), b"hehe");
    assert!(tokenizer.is_special(259));
    // The second token's own text is lost, but its merge is there.
    bpe.set("tokenizer.ggml.merges", vec!["h e".to_owned(), "e l".to_owned()]);
    assert_eq!(encode(&build(&bpe).unwrap(), "hel", PLAIN), [256, u32::from(b'l')]);
    bpe.set("tokenizer.ggml.pre", "llama-bpe");
    assert_eq!(encode(&build(&bpe).unwrap(), "he", PLAIN), [256]);

    let mut tokens = Tokens::default();
    tokens.add("<unk>", TokenKind::Unknown as i32, 0.0);
    // The better score of the second changes nothing.
    for (text, score) in [("a", -1.0), ("b", -1.0), ("c", -1.0), ("ab", -3.0), ("bc", -2.0), ("ab", -1.0)] {
        tokens.add(text, NORMAL, score);
    }
    let mut spm = tokens.writer("llama");
    spm.set("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = build(&spm).unwrap();
    assert_eq!(encode(&tokenizer, "abc", PLAIN), [1, 5]);
    assert_eq!(encode(&tokenizer, "ab", PLAIN), [4]);
    assert_eq!(tokenizer.decode(&[4, 6], true), b"abab");
}

#[test]
fn an_empty_template_is_none() {
    for template in ["", " \n"] {
        let mut file = writer(&[]);
        file.set("tokenizer.chat_template", template).set("tokenizer.chat_template.tool_use", template);
        let tokenizer = build(&file).unwrap();
        assert_eq!((tokenizer.chat_template(), tokenizer.chat_template_names().count()), (None, 0));
    }
}
