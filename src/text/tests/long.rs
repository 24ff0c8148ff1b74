//! Texts for which there is no room.

use super::*;

/// Bytes, and words of at most eight.
fn tokenizer(nfc: bool) -> Tokenizer {
    let mut texts: Vec<String> = crate::text::BYTE_CHARS.iter().map(char::to_string).collect();
    texts.extend(["xx", "xxxx", "xxxxxxxx"].map(str::to_owned));
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
    writer.set("tokenizer.ggml.token_type", vec![1i32; texts.len()]);
    writer.set("tokenizer.ggml.tokens", texts);
    writer.set("tokenizer.ggml.merges", ["x x", "xx xx", "xxxx xxxx"].map(str::to_owned).to_vec());
    writer.set("smolt.tokenizer.nfc", nfc);
    build(&writer).unwrap()
}

fn within(tokenizer: &Tokenizer, text: &str, limit: usize) -> Result<usize, TextError> {
    let mut ids = vec![];
    tokenizer.encode_within(text, &[], PLAIN, limit, &mut ids).map(|()| ids.len())
}

#[test]
fn a_text_is_refused_from_its_length() {
    let tokenizer = tokenizer(false);
    assert_eq!(within(&tokenizer, &"x".repeat(800), 100).unwrap(), 100);
    let error = within(&tokenizer, &"x".repeat(801), 100);
    assert!(matches!(error, Err(TextError::TooLong { bytes: 801, tokens: 101, limit: 100 })), "{error:?}");
    // As many tokens as can be counted, and then no more.
    assert_eq!(within(&tokenizer, &"y".repeat(400), 100).unwrap(), 400);
    let error = within(&tokenizer, &"y".repeat(800), 100);
    assert!(matches!(error, Err(TextError::TooLong { bytes: 800, limit: 100, .. })), "{error:?}");
}

#[test]
fn a_text_that_is_composed_is_measured_composed() {
    // Three letters of three bytes each become one of three, so that 36 bytes are as long as 12.
    let text = "\u{1112}\u{1161}\u{11ab}".repeat(4);
    assert_eq!(within(&tokenizer(true), &text, 4).unwrap(), 12);
    assert!(matches!(within(&tokenizer(false), &text, 4), Err(TextError::TooLong { .. })));
}
