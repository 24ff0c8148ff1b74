//! Messages of several lines.

use super::super::error::ChatError;

/// What a message of several lines starts and ends with.
const QUOTES: &str = "\"\"\"";

/// Whether the lines so far are a whole message.
pub(super) fn is_complete(lines: &str) -> bool {
    match lines.trim_start().strip_prefix(QUOTES) {
        Some(rest) => rest.trim_end().ends_with(QUOTES),
        None => true,
    }
}

/// Whether a line ends a message that was begun before it.
pub(super) fn ends(line: &str) -> bool {
    line.trim_end().ends_with(QUOTES)
}

/// What a program may send in place of a line of text.
#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Sent {
    /// For the model, whatever it begins with.
    Message(String),
    /// A command, with or without its slash.
    Command(String),
}

/// Whether a line is JSON rather than text: a string or an object.
pub(super) fn is_json(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('{') || (line.starts_with('"') && !line.starts_with(QUOTES))
}

/// The line that a JSON string, or an object `{"message": ...}` or `{"command": ...}`, stands for.
///
/// # Errors
/// If it is none of these.
pub(super) fn from_json(line: &str) -> Result<String, ChatError> {
    let wrong = |error: serde_json::Error| ChatError::NotAMessage { reason: error.to_string() };
    let sent = match line.trim_start().starts_with('"') {
        true => Sent::Message(serde_json::from_str(line).map_err(wrong)?),
        false => serde_json::from_str(line).map_err(wrong)?,
    };
    Ok(match sent {
        Sent::Message(text) if text.starts_with('/') => format!("/{text}"),
        Sent::Message(text) => text,
        Sent::Command(text) => format!("/{}", text.strip_prefix('/').unwrap_or(&text)),
    })
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
    fn programs_send_json() {
        for (line, text) in [
            (r#""Hi\nthere""#, "Hi\nthere"),
            (r#" "/etc" "#, "//etc"),
            (r#"{"message": "/etc"}"#, "//etc"),
            (r#"{"command": "/set temp 0"}"#, "/set temp 0"),
            (r#"{"command": "reset"}"#, "/reset"),
        ] {
            assert!(is_json(line));
            assert_eq!(from_json(line).unwrap(), text);
        }
        for wrong in [r#"{"message": 1}"#, r#"{"text": "Hi"}"#, r#""Hi"#, "{}", r#"{"message": "a", "b": 1}"#]
        {
            assert!(matches!(from_json(wrong), Err(ChatError::NotAMessage { .. })), "{wrong}");
        }
        assert!(!is_json("\"\"\"one") && !is_json("Hi"));
    }

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
