//! Texts from elsewhere, as far as messages show them.

/// Characters of the library's message that are shown.
const SHOWN_CHARS: usize = 400;

/// The first characters.
pub(in crate::generate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
