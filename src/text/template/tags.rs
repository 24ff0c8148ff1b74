//! The tags of a template, for what is done to its text before it is compiled.

use std::collections::HashSet;
use std::ops::Range;

/// Every `{{ }}` and `{% %}` of a template, in order; none that stands in a comment or between `{% raw %}` and
/// `{% endraw %}`.
pub(super) struct Tags<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Tags<'a> {
    pub(super) fn of(source: &'a str) -> Tags<'a> {
        Tags { source, at: 0 }
    }
}

impl Iterator for Tags<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let bytes = self.source.as_bytes();
        loop {
            let start = self.at + self.source[self.at..].find('{')?;
            let end = match bytes.get(start + 1) {
                Some(b'{') => tag_end(bytes, start + 2, b"}}"),
                Some(b'%') => tag_end(bytes, start + 2, b"%}"),
                Some(b'#') => {
                    let rest = &self.source[start + 2..];
                    self.at = rest.find("#}").map_or(bytes.len(), |end| start + 4 + end);
                    continue;
                }
                _ => {
                    self.at = start + 1;
                    continue;
                }
            };
            self.at = match simple(&self.source[start..], "raw") {
                Some((length, _)) => raw_end(self.source, start + length),
                None => end,
            };
            return Some(start..end);
        }
    }
}

/// Length of the tag `{% name %}` that `text` starts with, and the sign at its end.
fn simple(text: &str, name: &str) -> Option<(usize, Option<char>)> {
    let rest = text.strip_prefix("{%")?;
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let rest = rest.trim_ascii_start().strip_prefix(name)?.trim_ascii_start();
    let sign = rest.chars().next().filter(|c| matches!(c, '-' | '+'));
    let rest = rest[usize::from(sign.is_some())..].strip_prefix("%}")?;
    Some((text.len() - rest.len(), sign))
}

/// Where the next `{% endraw %}` ends.
fn raw_end(source: &str, from: usize) -> usize {
    let starts = source[from..].match_indices("{%").map(|(at, _)| from + at);
    let mut ends = starts.filter_map(|at| Some(at + simple(&source[at..], "endraw")?.0));
    ends.next().unwrap_or(source.len())
}

/// Where the tag that is open at `at` ends: at `close` outside of texts and brackets.
fn tag_end(bytes: &[u8], mut at: usize, close: &[u8]) -> usize {
    let mut depth = 0usize;
    while at < bytes.len() {
        match bytes[at] {
            _ if depth == 0 && bytes[at..].starts_with(close) => return at + close.len(),
            b'"' | b'\'' => at = text_end(bytes, at),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Where the text ends whose first quote is at `start`: at the second, or behind everything.
fn text_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != bytes[start] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// The texts in quotes in all tags, as they are written.
pub(super) fn texts(source: &str) -> Vec<String> {
    let mut texts = vec![];
    for tag in Tags::of(source) {
        let tag = &source[tag];
        let mut at = 0;
        while let Some(start) = tag[at..].find(['"', '\'']).map(|start| at + start) {
            let end = text_end(tag.as_bytes(), start);
            texts.extend(tag.get(start + 1..end).map(str::to_owned));
            at = (end + 1).min(tag.len());
        }
    }
    texts
}

/// The names in all tags outside of texts, those of attributes (after a dot) excepted.
pub(super) fn words(source: &str) -> HashSet<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = HashSet::new();
    for tag in Tags::of(source) {
        let tag = &source[tag];
        let mut at = 0;
        while let Some(first) = tag[at..].chars().next() {
            let end = match first {
                '"' | '\'' => (text_end(tag.as_bytes(), at) + 1).min(tag.len()),
                first if is_part(first) => tag[at..].find(|c| !is_part(c)).map_or(tag.len(), |len| at + len),
                other => at + other.len_utf8(),
            };
            if is_part(first) && !tag[..at].trim_end().ends_with('.') {
                words.insert(tag[at..end].to_owned());
            }
            at = end;
        }
    }
    words
}

/// The template as minijinja has to read it to give what Jinja2 gives: line ends are `\n`, blocks that only training
/// uses are blocks of their own scope, and the line end after `{% raw %}` stays (`+`).
pub(super) fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let (mut out, mut done) = (String::with_capacity(source.len()), 0);
    for tag in Tags::of(&source) {
        let text = &source[tag.start..];
        let mut replace = |range: Range<usize>, new: &str| {
            out.push_str(&source[done..tag.start + range.start]);
            out.push_str(new);
            done = tag.start + range.end;
        };
        for (name, new) in [("generation", "with"), ("endgeneration", "endwith")] {
            if let (Some(_), Some(at)) = (simple(text, name), text.find(name)) {
                replace(at..at + name.len(), new);
            }
        }
        if let Some((length, None)) = simple(text, "raw") {
            replace(length - 2..length, "+%}");
        }
    }
    out.push_str(&source[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(source: &str) -> Vec<&str> {
        Tags::of(source).map(|range| &source[range]).collect()
    }

    #[test]
    fn tags_end_where_they_end() {
        assert_eq!(
            tags("a{{ '}}' ~ {'b': {}} }}c{%- if x -%}{d"),
            ["{{ '}}' ~ {'b': {}} }}", "{%- if x -%}"]
        );
        assert_eq!(tags("{# {{ a }} #}{{ b }}{# {% c"), ["{{ b }}"]);
        assert_eq!(tags("{% raw %}{{ a }}{%raw%}{%- endraw +%}{{ b }}"), ["{% raw %}", "{{ b }}"]);
        assert_eq!(tags("{%- raw -%} {{ a }}"), ["{%- raw -%}"], "without an end");
        assert_eq!(tags("{{ a"), ["{{ a"]);
        assert!(tags("{").is_empty() && tags("").is_empty());
    }

    #[test]
    fn texts_are_those_in_tags() {
        let found = texts("it's {{ 'a' ~ \"b'\" }}{% if '\\'c' in x %}\"d\"{# 'e' #}{{ '' ~ 'f");
        assert_eq!(found, ["a", "b'", "\\'c", "", "f"]);
    }

    #[test]
    fn only_tags_are_changed() {
        let same = [
            "{# {% generation %} #}",
            "{{ '{% raw %}' }}",
            "{% raw -%}{% generation %}{% endraw %}",
            "{% rawer %}",
        ];
        for source in same {
            assert_eq!(prepare(source), source);
        }
        assert_eq!(prepare("{%- generation -%}\r\n{%+endgeneration%}\r"), "{%- with -%}\n{%+endwith%}\n");
        assert_eq!(prepare("{% raw %}{% raw %}{% endraw %}"), "{% raw +%}{% raw %}{% endraw %}");
    }
}
