//! Messages of several lines.

/// What a message of several lines starts and ends with.
const QUOTES: &str = "\"\"\"";

/// Whether the lines so far are a whole message.
pub(super) fn is_complete(lines: &str) -> bool {
    match lines.trim_start().strip_prefix(QUOTES) {
        Some(rest) => rest.trim_end().ends_with(QUOTES),
        None => true,
    }
}

/// The message without its quotes and the line breaks beside them. One that was not ended is taken as it is.
pub(super) fn content(lines: &str) -> &str {
    let Some(rest) = lines.trim_start().strip_prefix(QUOTES) else { return lines };
    let text = rest.trim_end();
    let text = text.strip_suffix(QUOTES).unwrap_or(text);
    let text = text.strip_prefix('\n').unwrap_or(text);
    text.strip_suffix('\n').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_several_lines() {
        for (lines, complete, text) in [
            ("Hi", true, "Hi"),
            ("a \\", true, "a \\"),
            ("pasted\nlines", true, "pasted\nlines"),
            ("\"\"\"", false, ""),
            ("\"\"\"one", false, "one"),
            ("\"\"\"one\n", false, "one"),
            ("\"\"\"\none\n\ntwo\n\"\"\"", true, "one\n\ntwo"),
            ("\"\"\"one\"\"\" ", true, "one"),
            (" \"\"\"\n  one\n\"\"\"", true, "  one"),
            ("say \"\"\"", true, "say \"\"\""),
            ("\"\"\"\"\"\"", true, ""),
        ] {
            assert_eq!((is_complete(lines), content(lines)), (complete, text), "{lines:?}");
        }
    }
}
