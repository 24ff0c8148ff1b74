//! Composition of characters (Unicode NFC), for the families whose tokenizers start with it.

use std::borrow::Cow;

use unicode_normalization_alignments::UnicodeNormalization;

/// The first character that may change: those below are composed and no marks.
const FIRST: char = '\u{300}';

/// `text`, composed.
pub(super) fn nfc(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c < FIRST) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    out.extend(text.nfc().map(|(c, _)| c));
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_composed() {
        assert!(matches!(nfc("plain naïve"), Cow::Borrowed(_)));
        assert_eq!(nfc("e\u{301} \u{1100}\u{1161}\u{11a8} \u{2126}"), "é \u{ac01} \u{3a9}");
        assert_eq!(nfc("a\u{323}\u{302}"), nfc("a\u{302}\u{323}"));
        let long = "xe\u{301}".repeat(1 << 14);
        assert_eq!(nfc(&long), "xé".repeat(1 << 14));
        let once = nfc("\u{301}\u{1f600}日本o\u{308}");
        assert_eq!(nfc(&once), once);
    }
}
