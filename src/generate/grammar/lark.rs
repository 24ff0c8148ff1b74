//! Lark grammars: what the library would read but not enforce here is refused.
//!
//! A scan over the text that knows strings, regular expressions and comments, and nothing else of the syntax.

use serde_json::Value;

use super::{GrammarError, schema};

/// Attributes of a rule that change how text is sampled or hide parts of it.
const REFUSED_ATTRIBUTES: &[&str] = &["temperature", "stop", "stop_capture"];

/// Checks a grammar; schemas in it are checked and prepared as those of their own.
pub(super) fn prepare(text: &str) -> Result<String, GrammarError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let refuse = |reason| GrammarError::Lark { line: 1 + text[..at].matches('\n').count(), reason };
        let taken = match first {
            '"' => quoted_len(rest, b'"'),
            '/' if !rest.starts_with("//") => quoted_len(rest, b'/'),
            '/' | '#' => rest.find('\n').unwrap_or(rest.len()),
            '<' => return Err(refuse("control tokens cannot be part of an answer".to_owned())),
            '=' => {
                if let Some(name) = REFUSED_ATTRIBUTES.iter().find(|name| *name == &last_word(&out)) {
                    return Err(refuse(format!("the attribute {name} would not be followed")));
                }
                1
            }
            '%' => match directive(rest).map_err(|error| refuse(error.to_string()))? {
                Some((prepared, taken)) => {
                    out.push_str(&prepared);
                    rest = &rest[taken..];
                    continue;
                }
                None => 1,
            },
            other => other.len_utf8(),
        };
        let (done, next) = rest.split_at(taken);
        out.push_str(done);
        rest = next;
    }
    Ok(out)
}

/// Length of what starts with a quote, to its second one or the end of the text.
fn quoted_len(text: &str, quote: u8) -> usize {
    let mut escaped = true;
    let end = text.bytes().position(|byte| {
        let is_end = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 1)
}

/// The word that `text` ends with, spaces left out.
fn last_word(text: &str) -> &str {
    let text = text.trim_end_matches([' ', '\t']);
    let start = text.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    text.get(start..).unwrap_or_default()
}

/// A `%json` or `%llguidance` with its value, as it is given to the library, and its length here.
fn directive(text: &str) -> Result<Option<(String, usize)>, GrammarError> {
    let Some(name) = ["%json", "%llguidance"].into_iter().find(|name| text.starts_with(name)) else {
        return Ok(None);
    };
    let mut values = serde_json::Deserializer::from_str(&text[name.len()..]).into_iter::<Value>();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.map_err(GrammarError::NotJson)?;
    let taken = name.len() + values.byte_offset();
    let value = if name == "%json" {
        schema::prepare_value(value)?
    } else if value.get("allow_invalid_utf8").is_some_and(|flag| flag != &Value::Bool(false)) {
        let reason = "answers are UTF-8".to_owned();
        return Err(GrammarError::Refused { what: "option allow_invalid_utf8", reason });
    } else {
        value
    };
    Ok(Some((format!("{name} {value}"), taken)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_stays_as_it_is() {
        let text = "start: \"<a\\\"=\" /[<=%]\\/x/ // stop=\nB[capture=\"x\"]: \"%json {\" # <x>\n";
        assert_eq!(prepare(text).unwrap(), text);
    }

    #[test]
    fn what_would_not_be_followed_is_refused_with_its_line() {
        for (text, part) in [
            ("start: \"a\"\n <|im_end|>", "line 2"),
            ("start: <[1-9]>", "control tokens"),
            ("start[stop=\"x\"]: /a/", "attribute stop"),
            ("start: a\na[temperature = 0.5]: /a/", "line 2"),
            ("start: %json {\"not\": {}}", "not at # is not supported"),
            ("%llguidance {\"allow_invalid_utf8\": true}\nstart: /a/", "UTF-8"),
            ("start: %json {", "not JSON"),
        ] {
            let error = prepare(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn schemas_are_prepared() {
        let text = prepare("start: %json {\"type\": \"null\", \"title\": \"=\"} \"<\"").unwrap();
        assert!(text.starts_with("start: %json {\"type\":\"null\",\"x-guidance\":{"), "{text}");
        assert!(text.ends_with("} \"<\""), "{text}");
    }
}
