//! The byte order mark of texts.

/// The byte order mark of UTF-8, which some editors put before a text.
const MARK: char = '\u{feff}';

/// Returns a text without the byte order mark at its start.
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches(MARK)
}
