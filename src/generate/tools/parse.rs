//! From the text of calls to names and arguments.

use serde_json::{Map, Number, Value};

use super::format::{Body, CallFormat};
use crate::text::ToolCall;

/// Nesting of arguments.
const MAX_DEPTH: usize = 64;

impl CallFormat {
    /// The calls that `text` is, marks included; `None` if it is anything else.
    pub(in crate::generate) fn parse(&self, text: &str) -> Option<Vec<ToolCall>> {
        let mut reader = Reader { text, quote: "\"", depth: 0 };
        if let Body::Braces { quote } = self.body {
            reader.quote = quote;
        }
        let mut found = vec![];
        loop {
            reader.space();
            if !self.after.is_empty() && reader.eat(self.after) {
                reader.space();
            }
            if reader.text.is_empty() {
                break;
            }
            if !reader.eat(self.open) {
                return None;
            }
            reader.space();
            if self.is_list && reader.eat("[") {
                reader.list("]", |reader| {
                    found.push(reader.call(self.body)?);
                    Some(())
                })?;
            } else {
                found.push(reader.call(self.body)?);
            }
            reader.space();
            if !self.close.is_empty() && !reader.eat(self.close) {
                return None;
            }
            if self.open.is_empty() {
                reader.space();
                if !reader.text.is_empty() {
                    return None;
                }
            }
        }
        let calls = found.into_iter().enumerate();
        let calls = calls.map(|(index, (name, arguments))| ToolCall {
            id: ToolCall::place_id(index),
            name,
            arguments,
        });
        Some(calls.collect()).filter(|calls: &Vec<ToolCall>| !calls.is_empty())
    }
}

struct Reader<'a> {
    text: &'a str,
    /// What stands around texts, beside the quotes of JSON and Python.
    quote: &'static str,
    depth: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.text = self.text.trim_start();
    }

    fn eat(&mut self, expected: &str) -> bool {
        let rest = self.text.strip_prefix(expected);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    /// Items between commas up to `end`.
    fn list(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.space();
        if self.eat(end) {
            return Some(());
        }
        loop {
            self.space();
            item(self)?;
            self.space();
            if self.eat(end) {
                return Some(());
            }
            self.eat(",").then_some(())?;
        }
    }

    fn call(&mut self, body: Body) -> Option<(String, Map<String, Value>)> {
        match body {
            Body::Json { name, arguments, .. } => {
                let Value::Object(mut call) = self.json()? else { return None };
                let Value::String(name) = call.remove(name)? else { return None };
                Some((name, object(call.remove(arguments)?)?))
            }
            Body::Python => {
                let name = self.name()?;
                self.eat("(").then_some(())?;
                Some((name, self.entries(")", "=")?))
            }
            Body::Braces { .. } => {
                self.eat("call:").then_some(())?;
                let name = self.name()?;
                self.eat("{").then_some(())?;
                Some((name, self.entries("}", ":")?))
            }
            Body::Named { mark } => {
                let name = self.name()?;
                self.eat(mark).then_some(())?;
                Some((name, object(self.json()?)?))
            }
        }
    }

    fn json(&mut self) -> Option<Value> {
        let mut values = serde_json::Deserializer::from_str(self.text).into_iter::<Value>();
        let value = values.next()?.ok()?;
        self.text = &self.text[values.byte_offset()..];
        Some(value)
    }

    /// A name: letters, digits and `_`, `-`, `.`.
    fn name(&mut self) -> Option<String> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let end = self.text.find(|c| !is_part(c)).unwrap_or(self.text.len());
        let (name, rest) = self.text.split_at(end);
        self.text = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// Keys and values up to `end`.
    fn entries(&mut self, end: &str, between: &str) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        self.list(end, |reader| {
            let key = match reader.quoted() {
                Some(key) => key?,
                None => reader.key(between)?,
            };
            reader.space();
            reader.eat(between).then_some(())?;
            let value = reader.value()?;
            map.insert(key, value).is_none().then_some(())
        })?;
        Some(map)
    }

    /// A key without quotes.
    fn key(&mut self, between: &str) -> Option<String> {
        let (key, _) = self.text.split_once(between)?;
        self.text = &self.text[key.len()..];
        Some(key.trim().to_owned()).filter(|key| !key.is_empty())
    }

    /// A text in quotes, if one comes next; nothing within if it does not end.
    fn quoted(&mut self) -> Option<Option<String>> {
        if self.quote != "\"" && self.eat(self.quote) {
            let parts = self.text.split_once(self.quote);
            self.text = parts.map_or("", |(_, rest)| rest);
            return Some(parts.map(|(text, _)| text.to_owned()));
        }
        let quote = self.text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        self.text = &self.text[1..];
        Some(self.escaped(quote))
    }

    /// The rest of a text with escapes, up to its quote.
    fn escaped(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.text = &self.text[at + 1..];
                    return Some(text);
                }
                '\\' => {
                    let (_, c) = chars.next()?;
                    text.push(match c {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'u' => {
                            let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                            char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                        }
                        other => other,
                    });
                }
                c => text.push(c),
            }
        }
        None
    }

    fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        self.space();
        let value = match self.quoted() {
            Some(text) => Value::String(text?),
            None if self.eat("[") => {
                let mut items = vec![];
                self.list("]", |reader| {
                    items.push(reader.value()?);
                    Some(())
                })?;
                Value::Array(items)
            }
            None if self.eat("{") => Value::Object(self.entries("}", ":")?),
            None => self.word()?,
        };
        self.depth -= 1;
        Some(value)
    }

    /// A number or a name of a value.
    fn word(&mut self) -> Option<Value> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        let end = self.text.find(|c| !is_part(c)).unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        self.text = rest;
        Some(match word {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            "null" | "None" => Value::Null,
            number => Value::Number(serde_json::from_str::<Number>(number).ok()?),
        })
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        // Some models write the object as a text.
        Value::String(text) => serde_json::from_str(&text).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(format: &str, text: &str) -> Option<Vec<(String, Value)>> {
        let calls = CallFormat::named(format).unwrap().parse(text)?;
        Some(calls.into_iter().map(|call| (call.name, Value::Object(call.arguments))).collect())
    }

    #[test]
    fn calls_of_every_format_are_read() {
        let one = json!({"place": "Z\u{fc}rich", "days": 2});
        let json = r#"{"name": "f", "arguments": {"place": "Zürich", "days": 2}}"#;
        let parameters = json.replace("arguments", "parameters");
        for (format, text) in [
            ("hermes", format!("<tool_call>\n{json}\n</tool_call>")),
            ("granite", format!("<|tool_call|>[{json}]")),
            ("phi4", format!("<|tool_call|>[{json}]<|/tool_call|>")),
            ("mistral", format!("[TOOL_CALLS] [{json}]")),
            ("mistral-args", "[TOOL_CALLS]f[ARGS]{\"place\": \"Zürich\", \"days\": 2}".to_owned()),
            ("llama3", parameters.clone()),
            ("json", format!("{json}\n")),
            (
                "command-r7b",
                format!(
                    "<|START_ACTION|>[{}]<|END_ACTION|>",
                    parameters.replace("\"name\"", "\"tool_call_id\": \"0\", \"tool_name\"")
                ),
            ),
            ("lfm2", "<|tool_call_start|>[f(place='Zürich', days=2)]<|tool_call_end|>".to_owned()),
            (
                "functiongemma",
                "<start_function_call>call:f{place:<escape>Zürich<escape>,days:2}\
                <end_function_call><start_function_response>"
                    .to_owned(),
            ),
            ("gemma4", "<|tool_call>call:f{place:<|\"|>Zürich<|\"|>,days:2}<tool_call|>".to_owned()),
        ] {
            assert_eq!(parse(format, &text), Some(vec![("f".to_owned(), one.clone())]), "{text}");
        }
    }

    #[test]
    fn values_of_every_kind_are_read() {
        let expected = json!({"a": [1, -2.5, true, null], "b": {"k": "v", "l": []}, "c": "x\n\"'", "d": {}});
        let python = r#"[f(a=[1, -2.5, True, None], b={"k": 'v', "l": []}, c="x\n\"'", d={}), g()]"#;
        let calls = parse("lfm2", &format!("<|tool_call_start|>{python}<|tool_call_end|>")).unwrap();
        assert_eq!(calls, [("f".to_owned(), expected.clone()), ("g".to_owned(), json!({}))]);
        let e = "<escape>";
        let braces =
            format!("call:f{{a:[1,-2.5,true,null],b:{{k:{e}v{e},{e}l{e}:[]}},c:{e}x\n\"'{e},d:{{}}}}");
        let calls = parse("functiongemma", &format!("<start_function_call>{braces}<end_function_call>"));
        assert_eq!(calls, Some(vec![("f".to_owned(), expected)]));
    }

    #[test]
    fn several_calls_are_read_and_anything_else_is_none() {
        let call =
            |name: &str| format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{}}}}\n</tool_call>");
        let calls =
            CallFormat::named("hermes").unwrap().parse(&format!("{}\n{}", call("a"), call("b"))).unwrap();
        let ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["call00000", "call00001"]);
        let deep = format!("<|tool_call_start|>[f(a={}{})]<|tool_call_end|>", "[".repeat(99), "]".repeat(99));
        for (format, text) in [
            ("hermes", ""),
            ("hermes", "Hi"),
            ("hermes", "<tool_call>\n{\"name\": \"a\""),
            ("hermes", "<tool_call>{\"name\": 1, \"arguments\": {}}</tool_call>"),
            ("hermes", "<tool_call>{\"name\": \"a\", \"arguments\": []}</tool_call>"),
            ("hermes", "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call> and more"),
            ("json", "{\"name\": \"a\", \"arguments\": {}} {}"),
            ("lfm2", "<|tool_call_start|>[f(a=1, a=2)]<|tool_call_end|>"),
            ("lfm2", "<|tool_call_start|>[f(a=1]<|tool_call_end|>"),
            ("lfm2", "<|tool_call_start|>[f(a=one)]<|tool_call_end|>"),
            ("lfm2", &deep),
            ("functiongemma", "<start_function_call>call:f{a:<escape>x}<end_function_call>"),
        ] {
            assert_eq!(parse(format, text), None, "{text}");
        }
    }
}
