//! The `tojson` filter as Hugging Face defines it for chat templates: Python's `json.dumps` with
//! `ensure_ascii=False`, nothing escaped for HTML, keys in their order.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::cost;

/// Nesting of values; Python's own limit is near 1000.
const MAX_DEPTH: usize = 200;
/// Spaces per level at most.
const MAX_INDENT: usize = 64;
/// Fuel for one byte written is one of this.
const BYTES_PER_FUEL: u64 = 16;

/// The layout `json.dumps` was asked for.
struct Writer<'s, 'env, 'template> {
    state: &'s State<'env, 'template>,
    ascii: bool,
    sort: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    out: String,
    /// Bytes of `out` that were paid for.
    paid: usize,
}

/// `value | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    ascii: Option<Value>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let or_named = |value: Option<Value>, name: &str| match value {
        Some(value) => Ok(value),
        None => kwargs.get::<Option<Value>>(name).map(Option::unwrap_or_default),
    };
    let ascii = or_named(ascii, "ensure_ascii")?.is_true();
    let indent = match or_named(indent, "indent")? {
        indent if indent.is_undefined() || indent.is_none() => None,
        indent => match (indent.as_str(), indent.as_i64()) {
            (Some(text), _) if text.len() <= MAX_INDENT => Some(text.to_owned()),
            (_, Some(width)) if width <= MAX_INDENT as i64 => Some(" ".repeat(width.max(0) as usize)),
            _ => return Err(invalid(format!("indent is a number up to {MAX_INDENT} or a short text"))),
        },
    };
    let separators: Option<Value> = kwargs.get("separators")?;
    let (item_separator, key_separator) = match separators.filter(|value| !value.is_none()) {
        Some(pair) => {
            let part = |index: usize| {
                let part = pair.get_item_by_index(index)?;
                part.as_str().map(str::to_owned).ok_or_else(|| invalid("separators are two texts".to_owned()))
            };
            (part(0)?, part(1)?)
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let sort = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut writer =
        Writer { state, ascii, sort, indent, item_separator, key_separator, out: String::new(), paid: 0 };
    writer.value(value, 0)?;
    Ok(writer.out)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("tojson: more than {MAX_DEPTH} levels")));
        }
        self.pay()?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => {
                let text = value.as_str().unwrap_or_default();
                string(text, self.ascii, &mut self.out);
            }
            _ if cost::is_list(value) => self.list(value, depth)?,
            ValueKind::Map => self.object(value, depth)?,
            kind => return Err(invalid(format!("an object of type {kind} is not JSON serializable"))),
        }
        self.pay()
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut is_empty = true;
        for item in value.try_iter()? {
            self.before_item(is_empty, depth);
            is_empty = false;
            self.value(&item, depth + 1)?;
        }
        self.close(is_empty, depth, ']');
        Ok(())
    }

    fn object(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort {
            keys.sort();
        }
        self.out.push('{');
        let mut is_empty = true;
        for key in keys {
            self.before_item(is_empty, depth);
            is_empty = false;
            match key.kind() {
                ValueKind::String => string(key.as_str().unwrap_or_default(), self.ascii, &mut self.out),
                ValueKind::None => self.out.push_str("\"null\""),
                ValueKind::Bool => self.out.push_str(if key.is_true() { "\"true\"" } else { "\"false\"" }),
                ValueKind::Number => {
                    let _ = write!(self.out, "\"{}\"", number(&key));
                }
                kind => return Err(invalid(format!("tojson: a key is of type {kind}"))),
            }
            self.out.push_str(&self.key_separator);
            self.value(&value.get_item(&key)?, depth + 1)?;
        }
        self.close(is_empty, depth, '}');
        Ok(())
    }

    fn before_item(&mut self, is_first: bool, depth: usize) {
        if !is_first {
            self.out.push_str(&self.item_separator);
        }
        self.line_break(depth + 1);
    }

    fn close(&mut self, is_empty: bool, depth: usize, end: char) {
        if !is_empty {
            self.line_break(depth);
        }
        self.out.push(end);
    }

    fn line_break(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn pay(&mut self) -> Result<(), Error> {
        let bytes = (self.out.len() - self.paid) as u64;
        self.paid = self.out.len();
        self.state.consume_fuel(1 + bytes / BYTES_PER_FUEL)
    }
}

fn string(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A number as `json.dumps` writes it.
fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => match float {
            float if float.is_nan() => "NaN".to_owned(),
            float if float.is_infinite() => if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
            float => python_float(float),
        },
        _ => value.to_string(),
    }
}

/// The shortest form that reads back as `float`, with an exponent below 1e-4 and from 1e16 on, as Python's `repr`.
pub(super) fn python_float(float: f64) -> String {
    if !float.is_finite() {
        let sign = if float.is_sign_negative() { "-" } else { "" };
        return if float.is_nan() { "nan".to_owned() } else { format!("{sign}inf") };
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{float:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_has_not_are_written_as_python_does() {
        for (float, text) in
            [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity"), (0.5, "0.5")]
        {
            assert_eq!(number(&Value::from(float)), text);
        }
    }

    #[test]
    fn an_indent_is_bounded() {
        let render = |source: &str| {
            let mut environment = minijinja::Environment::new();
            environment.set_fuel(Some(1 << 20));
            environment.add_filter("tojson", tojson);
            environment.render_str(source, ())
        };
        assert_eq!(render("{{ [1] | tojson(indent=2) }}").unwrap(), "[\n  1\n]");
        let widest = render("{{ [1] | tojson(indent=64) }}").unwrap();
        assert_eq!(widest.len(), "[\n1\n]".len() + 64);
        for refused in ["{{ [1] | tojson(indent=65) }}", "{{ [1] | tojson(indent=' ' * 65) }}"] {
            assert!(render(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn floats_are_written_as_python_does() {
        for (float, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (-2.5e300, "-2.5e+300"),
            (0.0, "0.0"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(python_float(float), text);
        }
    }
}
