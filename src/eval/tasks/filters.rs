//! What becomes of an answer before it is judged, and the answers' regular expressions.
//!
//! Patterns are those of Python: most run in linear time; those with look-around and back-references go back and try again,
//! up to a limit.

use regex_automata::meta;
use serde_json::Value;

use super::TaskError;
use super::config::{FilterConfig, PatternConfig, PipelineConfig};
use super::documents::Document;

/// Bytes that a compiled pattern may take.
const MAX_REGEX_BYTES: usize = 16 << 20;
/// Times that a pattern may go back in one search.
const MAX_BACKTRACKS: usize = 1_000_000;
/// Letters of choices.
const LETTERS: usize = 26;

/// A regular expression of a task.
#[derive(Debug)]
pub(super) enum Pattern {
    Linear(Box<meta::Regex>),
    Backtracking(Box<fancy_regex::Regex>),
}

impl Pattern {
    /// Compiles a pattern of a task.
    pub(super) fn new(file: &str, key: &str, pattern: &str) -> Result<Pattern, TaskError> {
        let config = meta::Regex::config()
            .nfa_size_limit(Some(MAX_REGEX_BYTES))
            .hybrid_cache_capacity(MAX_REGEX_BYTES);
        let linear = meta::Regex::builder().configure(config).build(pattern);
        let backtracking = || {
            let mut builder = fancy_regex::RegexBuilder::new(pattern);
            builder.backtrack_limit(MAX_BACKTRACKS).delegate_size_limit(MAX_REGEX_BYTES).build()
        };
        match linear {
            Ok(regex) => Ok(Pattern::Linear(Box::new(regex))),
            // What is no syntax of linear patterns may be one of others; what is too large is too large for both.
            Err(error) => match backtracking().ok().filter(|_| error.syntax_error().is_some()) {
                Some(regex) => Ok(Pattern::Backtracking(Box::new(regex))),
                None => Err(TaskError::Key {
                    file: file.to_owned(),
                    key: key.to_owned(),
                    found: format!("{pattern:?}"),
                    expected: format!("a regular expression ({error})"),
                }),
            },
        }
    }

    /// What Python's `findall` gives: of each match the groups, or the whole if there are none.
    fn find_all(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        match self {
            Pattern::Linear(regex) => {
                let groups = |captures: regex_automata::util::captures::Captures| {
                    let count = captures.group_len();
                    let group =
                        |at: usize| captures.get_group(at).map_or("", |span| &text[span.start..span.end]);
                    let first = usize::from(count > 1);
                    (first..count).map(|at| group(at).to_owned()).collect()
                };
                Ok(regex.captures_iter(text).map(groups).collect())
            }
            Pattern::Backtracking(regex) => {
                let groups = |captures: fancy_regex::Captures<'_>| {
                    let group =
                        |at: usize| captures.get(at).map_or(String::new(), |found| found.as_str().to_owned());
                    let first = usize::from(captures.len() > 1);
                    (first..captures.len()).map(group).collect()
                };
                let found = regex.captures_iter(text).map(|found| found.map(groups));
                found.collect::<Result<_, _>>().map_err(|error| error.to_string())
            }
        }
    }

    /// The text without what matches.
    pub(super) fn remove(&self, text: &str) -> String {
        let mut kept = String::with_capacity(text.len());
        let mut done = 0;
        let mut skip = |start: usize, end: usize| {
            kept.push_str(&text[done..start]);
            done = end;
        };
        match self {
            Pattern::Linear(regex) => {
                regex.find_iter(text).for_each(|found| skip(found.start(), found.end()))
            }
            Pattern::Backtracking(regex) => {
                regex.find_iter(text).flatten().for_each(|found| skip(found.start(), found.end()));
            }
        }
        kept + &text[done..]
    }
}

/// A pattern with which of its matches counts.
#[derive(Debug)]
pub(super) struct Search {
    pattern: Pattern,
    /// From the end if negative.
    select: i64,
    fallback: String,
}

impl Search {
    fn new(file: &str, config: &PatternConfig) -> Result<Search, TaskError> {
        let pattern = Pattern::new(file, "regex_pattern", &config.pattern)?;
        Ok(Search { pattern, select: config.select, fallback: config.fallback.clone() })
    }

    /// The selected match, or its first group that is not empty; without white space around it.
    fn find(&self, text: &str) -> Result<Option<String>, String> {
        let found = self.pattern.find_all(text)?;
        Ok(select(&found, self.select).and_then(|groups| match groups {
            [whole] => Some(whole.trim().to_owned()),
            groups => groups.iter().find(|group| !group.is_empty()).map(|group| group.trim().to_owned()),
        }))
    }
}

fn select(found: &[Vec<String>], at: i64) -> Option<&[String]> {
    let at = if at < 0 { found.len() as i64 + at } else { at };
    found.get(usize::try_from(at).ok()?).map(Vec::as_slice)
}

/// One step.
#[derive(Debug)]
pub(super) enum Filter {
    Regex(Search),
    MultiChoice(Box<MultiChoice>),
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map { entries: Vec<(String, String)>, fallback: String },
}

/// Finds the letter of a choice: by a pattern, else by the text of the choice, else after a colon.
#[derive(Debug)]
pub(super) struct MultiChoice {
    search: Search,
    ignored: Vec<Pattern>,
    case: bool,
    punctuation: Option<Pattern>,
}

impl MultiChoice {
    fn find(&self, answer: &str, document: &Document) -> Result<Option<String>, String> {
        if let Some(found) = self.search.find(answer)?.filter(|found| !found.is_empty()) {
            return Ok(Some(found));
        }
        let choices = document.get("choices").and_then(Value::as_array).ok_or("it has no list choices")?;
        let choices = choices.iter().map(|choice| choice.as_str().map(|text| self.plain(text.trim())));
        let choices: Vec<String> = choices.collect::<Option<_>>().ok_or("a choice is not a text")?;
        let letter = |at: usize| char::from(b'A' + at.min(LETTERS - 1) as u8);
        let found = literals(&choices, &self.plain(answer));
        if let Some([text]) = select(&found, self.search.select) {
            let text = text.trim();
            // Of equal choices the last counts, as in a dictionary.
            let at = choices.iter().rposition(|choice| choice == text);
            if !text.is_empty() {
                return Ok(Some(at.map_or_else(|| text.to_owned(), |at| format!("({})", letter(at)))));
            }
        }
        let letters: Vec<String> = (0..choices.len().min(LETTERS)).map(|at| letter(at).to_string()).collect();
        let pattern = Pattern::new("", "choices", &format!(r":[\s]*({})", letters.join("|")));
        let found = pattern.map_err(|error| error.to_string())?.find_all(answer)?;
        Ok(select(&found, self.search.select).map(|groups| format!("({})", groups[0])))
    }

    fn plain(&self, text: &str) -> String {
        let mut text = self.ignored.iter().fold(text.to_owned(), |text, pattern| pattern.remove(&text));
        if self.case {
            text = text.to_lowercase();
        }
        self.punctuation.as_ref().map_or(text.clone(), |pattern| pattern.remove(&text))
    }
}

/// All places of some texts in another, from the left; of texts that begin alike the longest.
fn literals(texts: &[String], within: &str) -> Vec<Vec<String>> {
    // As long as they are with the backslashes that a pattern needs.
    let length = |text: &&String| {
        text.chars()
            .map(|c| 1 + usize::from("()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}".contains(c)))
            .sum::<usize>()
    };
    let mut ordered: Vec<&String> = texts.iter().collect();
    ordered.sort_by_key(|text| std::cmp::Reverse(length(text)));
    let (mut found, mut rest) = (vec![], within);
    while let Some(c) = rest.chars().next() {
        let next = match ordered.iter().find(|text| rest.starts_with(text.as_str())) {
            Some(text) => {
                found.push(vec![(*text).clone()]);
                text.len()
            }
            None => 0,
        };
        rest = &rest[if next == 0 { c.len_utf8() } else { next }..];
    }
    found
}

/// Steps with the name they have in the results.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) name: String,
    pub(super) filters: Vec<Filter>,
}

impl Filter {
    /// `None` for `take_first`, as there is one answer.
    fn new(file: &str, config: &FilterConfig) -> Result<Option<Filter>, TaskError> {
        Ok(Some(match config {
            FilterConfig::Regex(pattern) => Filter::Regex(Search::new(file, pattern)?),
            FilterConfig::MultiChoiceRegex { pattern, ignore_case, ignore_punctuation, ignored } => {
                let ignored = ignored.iter().map(|text| Pattern::new(file, "regexes_to_ignore", text));
                let punctuation = ignore_punctuation.then(|| Pattern::new(file, "punctuation", r"\p{P}"));
                Filter::MultiChoice(Box::new(MultiChoice {
                    search: Search::new(file, pattern)?,
                    ignored: ignored.collect::<Result<_, _>>()?,
                    case: *ignore_case,
                    punctuation: punctuation.transpose()?,
                }))
            }
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

    fn apply(&self, answer: &str, document: &Document) -> Result<String, String> {
        Ok(match self {
            Filter::Regex(search) => search.find(answer)?.unwrap_or_else(|| search.fallback.clone()),
            Filter::MultiChoice(choice) => {
                choice.find(answer, document)?.unwrap_or_else(|| choice.search.fallback.clone())
            }
            Filter::RemoveWhitespace => answer.trim().to_owned(),
            Filter::Lowercase => answer.to_lowercase(),
            Filter::Uppercase => answer.to_uppercase(),
            Filter::Map { entries, fallback } => {
                let found = entries.iter().find(|(key, _)| key == answer);
                found.map_or(fallback, |(_, value)| value).clone()
            }
        })
    }
}

impl Pipeline {
    pub(super) fn new(file: &str, config: &PipelineConfig) -> Result<Pipeline, TaskError> {
        let filters = config.filters.iter().map(|filter| Filter::new(file, filter));
        let filters = filters.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(Pipeline { name: config.name.clone(), filters })
    }

    /// What is judged of an answer.
    ///
    /// # Errors
    /// If a pattern goes back too often, or the document lacks what a filter needs.
    pub(super) fn apply(&self, answer: &str, document: &Document) -> Result<String, String> {
        self.filters.iter().try_fold(answer.to_owned(), |answer, filter| filter.apply(&answer, document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(pattern: &str, select: i64) -> Search {
        let pattern = Pattern::new("task.yaml", "regex_pattern", pattern).unwrap();
        Search { pattern, select, fallback: String::new() }
    }

    fn found(pattern: &str, select: i64, text: &str) -> Option<String> {
        search(pattern, select).find(text).unwrap()
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

    /// Expected values are those of Python's `re`.
    #[test]
    fn patterns_may_look_around_and_back() {
        assert_eq!(found(r"(?<=answer is )(.*)(?=.)", 0, "The answer is (B).").unwrap(), "(B)");
        assert_eq!(found(r"^(.*?)(?=\n|$)", 0, "first\nsecond").unwrap(), "first");
        assert_eq!(found(r"(\w)\1", 0, "hello").unwrap(), "l");
        assert!(search(r"^(?:(a|aa)\1?)+$", 0).find(&("a".repeat(64) + "b")).is_err(), "bounded");
    }

    #[test]
    fn patterns_that_are_none_are_refused() {
        for pattern in ["(", "a{1000}{1000}{1000}", "(?<name"] {
            let error = Pattern::new("task.yaml", "regex_pattern", pattern).unwrap_err();
            assert!(error.to_string().starts_with("task.yaml: regex_pattern is"), "{error}");
        }
    }

    /// Expected values are those of lm-evaluation-harness 0.4.13.
    #[test]
    fn choices_are_found_by_letter_text_and_colon() {
        let pattern =
            PatternConfig { pattern: r"(\([A-Z]\))".to_owned(), select: 0, fallback: "[invalid]".to_owned() };
        let config = FilterConfig::MultiChoiceRegex {
            pattern,
            ignore_case: true,
            ignore_punctuation: true,
            ignored: vec![],
        };
        let filter = Filter::new("task.yaml", &config).unwrap().unwrap();
        let document = serde_json::json!({"choices": ["Guilty", "Guilty of romance", "Not me!"]});
        let document = document.as_object().unwrap();
        for (answer, expected) in [
            ("It is (C), I think", "(C)"),
            ("guilty of Romance.", "(B)"),
            ("He was guilty", "(A)"),
            ("Not me", "(C)"),
            ("Answer: B", "(B)"),
            ("nothing", "[invalid]"),
        ] {
            assert_eq!(filter.apply(answer, document).unwrap(), expected, "{answer}");
        }
    }
}
