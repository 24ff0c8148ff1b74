//! What becomes of an answer before it is judged, and the answers' regular expressions.
//!
//! Patterns are those of Rust's `regex`: as in Python but for look-around and back-references, which are refused, and
//! run in linear time.

use regex_automata::meta::Regex;
use serde_json::Value;

use super::TaskError;
use super::config::FilterConfig;

/// Bytes that a compiled pattern may take.
const MAX_REGEX_BYTES: usize = 16 << 20;

/// One step.
#[derive(Debug)]
pub(super) enum Filter {
    Regex { regex: Box<Regex>, select: i64, fallback: String },
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map { entries: Vec<(String, String)>, fallback: String },
}

/// Steps with the name they have in the results.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) name: String,
    pub(super) filters: Vec<Filter>,
}

/// Compiles a pattern of a task.
pub(super) fn regex(file: &str, key: &str, pattern: &str) -> Result<Regex, TaskError> {
    let config = Regex::config().nfa_size_limit(Some(MAX_REGEX_BYTES)).hybrid_cache_capacity(MAX_REGEX_BYTES);
    Regex::builder().configure(config).build(pattern).map_err(|error| TaskError::Key {
        file: file.to_owned(),
        key: key.to_owned(),
        found: format!("{pattern:?}"),
        expected: format!("a regular expression without look-around and back-references ({error})"),
    })
}

impl Filter {
    /// `None` for `take_first`, as there is one answer.
    pub(super) fn new(file: &str, config: &FilterConfig) -> Result<Option<Filter>, TaskError> {
        Ok(Some(match config {
            FilterConfig::Regex { regex_pattern, group_select, fallback } => Filter::Regex {
                regex: Box::new(regex(file, "regex_pattern", regex_pattern)?),
                select: *group_select,
                fallback: fallback.clone(),
            },
            FilterConfig::RemoveWhitespace => Filter::RemoveWhitespace,
            FilterConfig::Lowercase => Filter::Lowercase,
            FilterConfig::Uppercase => Filter::Uppercase,
            FilterConfig::Map { mapping_dict, default_value } => {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let entries = mapping_dict.iter().map(|(key, value)| (key.clone(), text(value))).collect();
                Filter::Map { entries, fallback: text(default_value) }
            }
            FilterConfig::TakeFirst => return Ok(None),
        }))
    }

    fn apply(&self, answer: &str) -> String {
        match self {
            Filter::Regex { regex, select, fallback } => {
                find(regex, *select, answer).unwrap_or_else(|| fallback.clone())
            }
            Filter::RemoveWhitespace => answer.trim().to_owned(),
            Filter::Lowercase => answer.to_lowercase(),
            Filter::Uppercase => answer.to_uppercase(),
            Filter::Map { entries, fallback } => {
                let found = entries.iter().find(|(key, _)| key == answer);
                found.map_or(fallback, |(_, value)| value).clone()
            }
        }
    }
}

impl Pipeline {
    pub(super) fn apply(&self, answer: &str) -> String {
        self.filters.iter().fold(answer.to_owned(), |answer, filter| filter.apply(&answer))
    }
}

/// What Python's `findall` finds at `select` (from the end if negative): the match, or its first group that is not
/// empty; without white space around it.
fn find(regex: &Regex, select: i64, text: &str) -> Option<String> {
    let found: Vec<_> = regex.captures_iter(text).collect();
    let at = if select < 0 { found.len() as i64 + select } else { select };
    let captures = found.get(usize::try_from(at).ok()?)?;
    let groups = captures.group_len();
    let text = |group: usize| captures.get_group(group).map_or("", |span| &text[span.start..span.end]);
    let matched = match groups {
        1 => text(0),
        2 => text(1),
        _ => (1..groups).map(text).find(|text| !text.is_empty())?,
    };
    Some(matched.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, select: i64, text: &str) -> Option<String> {
        find(&regex("task.yaml", "regex_pattern", pattern).unwrap(), select, text)
    }

    #[test]
    fn matches_are_selected_as_findall_does() {
        let text = "first 12, then #### -3.5 and x=7";
        assert_eq!(found(r"[0-9]+", 0, text).unwrap(), "12");
        assert_eq!(found(r"[0-9]+", -1, text).unwrap(), "7");
        assert_eq!(found(r"#### (\-?[0-9\.\,]+)", 0, text).unwrap(), "-3.5");
        assert_eq!(found(r"(y=(\d))|(x=(\d))", 0, text).unwrap(), "x=7");
        assert_eq!(found(r"z", 0, text), None);
        assert_eq!(found(r"[0-9]+", 9, text), None);
        assert_eq!(found(r"then(.*)and", 0, text).unwrap(), "#### -3.5");
    }

    #[test]
    fn patterns_that_need_more_are_refused() {
        for pattern in [r"(?=a)", r"(a)\1", "(", "a{1000}{1000}{1000}"] {
            let error = regex("task.yaml", "regex_pattern", pattern).unwrap_err();
            assert!(error.to_string().starts_with("task.yaml: regex_pattern is"), "{error}");
        }
    }
}
