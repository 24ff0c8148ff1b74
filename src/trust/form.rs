//! The form of a bundle's text.
//!
//! No signature covers whitespace and escapes, so that what is the same to JSON may be different bytes. Writers use
//! one style throughout; with that demanded, every byte is fixed by the others.

/// How values are kept apart.
struct Style<'a> {
    /// After a colon.
    colon: &'a str,
    /// After a comma, in one line.
    comma: &'a str,
    /// What a line begins with, once for each level; nothing if all is in one line.
    indent: Option<&'a str>,
}

/// Says what is unusual about a text, which is valid JSON: escapes, or whitespace that is not of one style.
pub(super) fn fault(text: &str) -> Option<&'static str> {
    const STYLE: &str = "its whitespace is not the same throughout";
    if text.contains('\\') {
        return Some("there is an escape in it");
    }
    if !text.starts_with('{') {
        return Some(STYLE);
    }
    let Some(style) = style(text) else { return Some(STYLE) };
    let mut depth = 0_usize;
    let mut rest = text;
    loop {
        let (token, after) = token(rest);
        let gap = &after[..after.len() - after.trim_start().len()];
        let is_right = match (token, after[gap.len()..].chars().next()) {
            (_, None) => return (!matches!(gap, "" | "\n")).then_some(STYLE),
            ("{" | "[", _) => {
                depth += 1;
                style.breaks(gap, depth, "")
            }
            (",", _) => style.breaks(gap, depth, style.comma),
            (":", _) => gap == style.colon,
            (_, Some('}' | ']')) => {
                depth = depth.saturating_sub(1);
                style.breaks(gap, depth, "")
            }
            _ => gap.is_empty(),
        };
        if !is_right {
            return Some(STYLE);
        }
        rest = &after[gap.len()..];
    }
}

impl Style<'_> {
    /// Whether whitespace is that between two values: a new line, or what stands there in one line.
    fn breaks(&self, gap: &str, depth: usize, in_line: &str) -> bool {
        match self.indent {
            None => gap == in_line,
            Some(indent) => gap.strip_prefix('\n').is_some_and(|gap| gap == indent.repeat(depth)),
        }
    }
}

/// The style that the first of each kind has.
fn style(text: &str) -> Option<Style<'_>> {
    let gap = |after: char| {
        let mut rest = text;
        while !rest.is_empty() {
            let (token, left) = token(rest);
            let gap = &left[..left.len() - left.trim_start().len()];
            if token.starts_with(after) {
                return gap;
            }
            rest = &left[gap.len()..];
        }
        ""
    };
    let first = gap('{');
    let indent = match first.strip_prefix('\n') {
        None if first.is_empty() => None,
        Some(indent) if !indent.is_empty() && !indent.contains(['\n', '\r']) => Some(indent),
        _ => return None,
    };
    let (colon, comma) = (gap(':'), gap(','));
    let is_usual = matches!(colon, "" | " " | "  ") && (indent.is_some() || matches!(comma, "" | " "));
    is_usual.then_some(Style { colon, comma, indent })
}

/// The first token of a text that begins with one, and what follows it.
fn token(text: &str) -> (&str, &str) {
    let end = match text.as_bytes().first() {
        None => 0,
        Some(b'"') => text[1..].find('"').map_or(text.len(), |end| end + 2),
        Some(b'{' | b'[') if text.starts_with("{}") || text.starts_with("[]") => 2,
        Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => 1,
        Some(_) => {
            text.find(|c: char| c.is_ascii_whitespace() || "{}[],:\"".contains(c)).unwrap_or(text.len())
        }
    };
    text.split_at(end.min(text.len()))
}
