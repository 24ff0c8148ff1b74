//! JSON for people: see [`Indent`].

/// Spaces of a level.
const STEP: usize = 2;

/// Puts line breaks and spaces into JSON that has none, as it comes.
#[derive(Debug, Default)]
pub(super) struct Indent {
    depth: usize,
    is_text: bool,
    is_escaped: bool,
    /// The last character opened something.
    is_opened: bool,
}

impl Indent {
    /// The next part of the text.
    pub(super) fn push(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(2 * text.len());
        text.chars().for_each(|c| self.push_char(c, &mut out));
        out
    }

    fn push_char(&mut self, c: char, out: &mut String) {
        if self.is_text {
            self.is_text = c != '"' || self.is_escaped;
            self.is_escaped = c == '\\' && !self.is_escaped;
            return out.push(c);
        }
        let was_opened = std::mem::replace(&mut self.is_opened, matches!(c, '{' | '['));
        if matches!(c, '}' | ']') {
            self.depth = self.depth.saturating_sub(1);
        }
        if was_opened != matches!(c, '}' | ']') {
            self.break_line(out);
        }
        out.push(c);
        match c {
            '"' => self.is_text = true,
            '{' | '[' => self.depth += 1,
            ',' => self.break_line(out),
            ':' => out.push(' '),
            _ => {}
        }
    }

    fn break_line(&self, out: &mut String) {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', STEP * self.depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_however_it_comes() {
        let text = r#"{"a":[],"b":{},"c":[1,{"d":"{\"[,:\\"}],"e":null}"#;
        let expected = r#"{
  "a": [],
  "b": {},
  "c": [
    1,
    {
      "d": "{\"[,:\\"
    }
  ],
  "e": null
}"#;
        assert_eq!(Indent::default().push(text), expected);
        let mut indent = Indent::default();
        let parts: String = text.chars().map(|c| indent.push(&c.to_string())).collect();
        assert_eq!(parts, expected);
        assert_eq!(Indent::default().push("-1.5"), "-1.5");
        let (value, indented): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(text).unwrap(), serde_json::from_str(expected).unwrap());
        assert_eq!(value, indented);
    }
}
