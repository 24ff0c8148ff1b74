//! Which characters a terminal may be shown, and what stands for the others.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character does something to a terminal, or turns the direction of what follows. Line feed and tab do not
/// count.
pub fn is_unsafe(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{206F}'
    );
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && c != '\n' && c != '\t') || turns || breaks
}

/// Whether a character takes no room and joins nothing: two names that differ by it look alike. The joiners of emoji and
/// of Persian, Hindi and other scripts do not count.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{180E}' | '\u{200B}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
    )
}

/// A text with something in place of each character that a terminal may not be shown. Carriage returns at the end of a
/// line are left out.
fn replaced(text: &str, replace: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let is_safe = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().all(is_safe) || !text.chars().any(|c| is_unsafe(c) || is_hidden(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            c if is_unsafe(c) || is_hidden(c) => replace(&mut out, c),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Returns a text in which what a terminal may not be shown is written as escapes: messages and tables take it from
/// files, names and models.
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |out, c| out.extend(c.escape_unicode()))
}

/// Returns a text in which what a terminal obeys is U+FFFD, and what takes no room is left out: what a model writes may
/// not move the cursor or worse.
pub fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, |out, c| {
        if is_unsafe(c) {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    })
}

/// What a model writes, piece by piece, as [`printable`] shows it: a carriage return waits for what follows.
#[derive(Debug, Default)]
pub struct Pieces {
    is_returned: bool,
}

impl Pieces {
    /// Returns what can be shown with this piece.
    pub fn push<'a>(&mut self, piece: &'a str) -> Cow<'a, str> {
        let shown = piece.strip_suffix('\r');
        let was_returned = std::mem::replace(&mut self.is_returned, shown.is_some());
        let shown = shown.unwrap_or(piece);
        if was_returned {
            Cow::Owned(printable(&format!("\r{shown}")).into_owned())
        } else {
            printable(shown)
        }
    }
}

/// JSON that is the same value, with the escapes of JSON for what a terminal may not be shown.
pub(super) fn json(json: &[u8]) -> Cow<'_, [u8]> {
    let text = String::from_utf8_lossy(json);
    let shown = replaced(&text, |out, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    });
    Cow::Owned(shown.into_owned().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Controls of both sets, delete, marks of direction, line separators.
    const HOSTILE: &str =
        "a\x1b]0;title\x07b\r\u{9b}31m\u{202e}c\u{2066}\u{200f}\u{61c}\u{7f}\u{85}\u{2028}\u{206e}";

    fn count(text: &str) -> usize {
        text.chars().filter(|c| is_unsafe(*c) || is_hidden(*c)).count()
    }

    #[test]
    fn nothing_reaches_a_terminal_that_moves_it_or_turns_text() {
        let text = format!("{HOSTILE}\n\td\u{301}\u{200d}\u{5d0}");
        assert_eq!(count(&text), 12);
        assert_eq!((count(&printable(&text)), count(&escaped(&text))), (0, 0));
        assert_eq!(printable(&text).chars().count(), text.chars().count());
        assert!(
            escaped(&text).starts_with(r"a\u{1b}]0;title\u{7}b\u{d}\u{9b}31m\u{202e}c\u{2066}"),
            "{}",
            escaped(&text)
        );
        assert!(escaped(&text).ends_with("\n\td\u{301}\u{200d}\u{5d0}"), "what is text stays");
    }

    /// Of every character of Unicode: nothing that is text is touched, and what is written once is left as it is.
    #[test]
    fn what_is_written_is_left_as_it_is() {
        for c in '\0'..=char::MAX {
            let text = format!("x{c}y");
            let (shown, answer) = (escaped(&text), printable(&text));
            assert_eq!((count(&shown), count(&answer)), (0, 0), "{c:?}");
            assert_eq!(escaped(&shown), shown);
            assert_eq!(printable(&answer), answer);
            assert_eq!(shown == text, !is_unsafe(c) && !is_hidden(c), "{c:?}");
            assert!(!c.is_alphanumeric() || shown == text, "{c:?} is text");
        }
    }

    #[test]
    fn ends_of_lines_are_no_escapes() {
        assert_eq!(escaped("a\r\nb\r\n"), "a\nb\n");
        assert_eq!(escaped("a\rb\r"), r"a\u{d}b\u{d}");
        assert_eq!(printable("a\r\n\rb"), "a\n\u{FFFD}b");
    }

    #[test]
    fn pieces_are_shown_as_the_whole() {
        for text in ["a\r\nb", "a\rb", "\r\r\n\n", "a\x1bb\r\r\nc"] {
            let mut pieces = Pieces::default();
            let shown: String =
                text.split_inclusive(|_| true).map(|piece| pieces.push(piece).into_owned()).collect();
            assert_eq!(shown, printable(text), "{text:?}");
        }
    }

    #[test]
    fn names_that_look_alike_are_told_apart() {
        let text = "pass\u{200b}word\u{feff}\u{e0041}";
        assert_eq!(escaped(text), r"pass\u{200b}word\u{feff}\u{e0041}");
        assert_eq!(printable(text), "password");
        let family = "\u{1F468}\u{200D}\u{1F469}\u{FE0F} \u{645}\u{6CC}\u{200C}\u{62E}\u{648}";
        assert_eq!((escaped(family), printable(family)), (family.into(), family.into()));
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"text": format!("{HOSTILE}\u{e0041}\r\n"), "other": [1, "\u{1F600}"]});
        let line = format!("{value}\n").into_bytes();
        let shown = json(&line);
        assert_eq!(count(std::str::from_utf8(&shown).unwrap()), 0);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&shown).unwrap(), value);
    }
}
