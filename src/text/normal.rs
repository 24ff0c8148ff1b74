//! Composition of characters (Unicode NFC), for the families whose tokenizers start with it.

use std::borrow::Cow;

use tokenizers::normalizers::NFC;
use tokenizers::{NormalizedString, Normalizer};

use super::TextError;

/// The first character that may change: those below are composed and no marks.
const FIRST: char = '\u{300}';
/// Bytes composed at once, unless no character below [`FIRST`] comes by. The work needs memory for every byte.
const CHUNK_BYTES: usize = 1 << 14;

/// `text`, composed.
///
/// A character below U+0300 may join what follows it and never what is before it, so that the text can be cut in
/// front of it.
pub(super) fn nfc(text: &str) -> Result<Cow<'_, str>, TextError> {
    if text.chars().all(|c| c < FIRST) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let cut = rest.char_indices().find(|(at, c)| *at >= CHUNK_BYTES && *c < FIRST);
        let (chunk, after) = rest.split_at(cut.map_or(rest.len(), |(at, _)| at));
        let mut composed = NormalizedString::from(chunk);
        NFC.normalize(&mut composed)
            .map_err(|error| TextError::Library { what: "composed text", message: error.to_string() })?;
        out.push_str(composed.get());
        rest = after;
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_composed_across_and_within_chunks() {
        assert!(matches!(nfc("plain naïve"), Ok(Cow::Borrowed(_))));
        assert_eq!(nfc("e\u{301} \u{1100}\u{1161}\u{11a8} \u{2126}").unwrap(), "é \u{ac01} \u{3a9}");
        assert_eq!(nfc("a\u{323}\u{302}").unwrap(), nfc("a\u{302}\u{323}").unwrap());
        let long = "xe\u{301}".repeat(CHUNK_BYTES);
        assert_eq!(nfc(&long).unwrap(), "xé".repeat(CHUNK_BYTES));
        let once = nfc("\u{301}\u{1f600}日本o\u{308}").unwrap();
        assert_eq!(nfc(&once).unwrap(), once);
    }
}
