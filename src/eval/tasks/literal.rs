//! Literals of Python, as `ast.literal_eval` reads them: lists, texts, numbers, `True`, `False` and `None`.

use serde_json::Value;

/// Nesting of lists.
const MAX_DEPTH: usize = 16;

/// Reads a literal; `None` if `text` is none of these.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(0)?;
    parser.rest.trim().is_empty().then_some(value)
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '[' => self.list(']', depth),
            '(' => self.list(')', depth),
            quote @ ('"' | '\'') => self.text(quote).map(Value::from),
            _ => self.word(),
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Option<Value> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.rest = &self.rest[1..];
        let mut items = vec![];
        loop {
            if self.take(end) {
                return Some(Value::from(items));
            }
            items.push(self.value(depth + 1)?);
            if !self.take(',') {
                return self.take(end).then(|| Value::from(items));
            }
        }
    }

    fn text(&mut self, quote: char) -> Option<String> {
        let mut chars = self.rest[1..].chars();
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\n' => return None,
                '\\' => escape(&mut chars, &mut text)?,
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find([',', ']', ')']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word.trim() {
            "True" => Some(Value::from(true)),
            "False" => Some(Value::from(false)),
            "None" => Some(Value::Null),
            number => match number.parse::<i64>() {
                Ok(number) => Some(Value::from(number)),
                Err(_) => number.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
            },
        }
    }
}

/// Reads what follows a backslash.
fn escape(chars: &mut std::str::Chars<'_>, text: &mut String) -> Option<()> {
    let code = |chars: &mut std::str::Chars<'_>, digits| {
        let code: String = chars.by_ref().take(digits).collect();
        char::from_u32(u32::from_str_radix(&code, 16).ok()?)
    };
    let c = match chars.next()? {
        '\n' => return Some(()),
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        c @ ('\\' | '\'' | '"') => c,
        'x' => code(chars, 2)?,
        'u' => code(chars, 4)?,
        'U' => code(chars, 8)?,
        c => {
            text.push('\\');
            c
        }
    };
    text.push(c);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_are_read_as_python_does() {
        for (text, value) in [
            (
                r#"['a', "it's", 'b\'c', 'x\ny', '\u00e9\x41']"#,
                json!(["a", "it's", "b'c", "x\ny", "\u{e9}A"]),
            ),
            (" [1, -2, 0.5, True, None, ['x', ], ()] ", json!([1, -2, 0.5, true, null, ["x"], []])),
            ("'one'", json!("one")),
            ("12", json!(12)),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in ["[a]", "['a' 'b']", "['a", "[1,,2]", "", "[1] x", "{'a': 1}", &"[".repeat(100_000)] {
            assert_eq!(parse(text), None, "{}", &text[..text.len().min(20)]);
        }
    }
}
