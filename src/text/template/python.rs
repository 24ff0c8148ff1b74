//! What chat templates use of Python and Jinja2 and minijinja does differently or not at all: methods of strings,
//! lists and dictionaries, some filters and tests.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use super::{cost, json};

/// Characters a text may be padded to.
const MAX_WIDTH: usize = 1 << 16;
/// Nesting of lists that are written.
const MAX_REPR_DEPTH: usize = 32;

/// Adds the filters, tests and methods to `environment`.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.set_formatter(write_value);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("trim", |state: &State<'_, '_>, value: &Value, chars: Option<&str>| {
        if value.is_undefined() && state.undefined_behavior() == UndefinedBehavior::Strict {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        let text = value.as_str().map_or_else(|| Cow::from(value.to_string()), Cow::from);
        Ok(strip(&text, chars, true, true).to_owned())
    });
    environment.add_filter("indent", indent);
    environment.add_filter("wordcount", |text: &str| split_spaces(text, usize::MAX).len());
    environment.add_test("sequence", |value: &Value| {
        value.is_undefined()
            || matches!(value.kind(), ValueKind::Map | ValueKind::String)
            || cost::is_list(value)
    });
    environment
        .add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_test("iterable", |value: &Value| {
        let kind = value.kind();
        value.is_undefined()
            || matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Iterable)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

/// Prints as Python's `str` does.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.kind() == ValueKind::Number
        && !value.is_integer()
        && let Ok(float) = f64::try_from(value.clone())
    {
        return out.write_str(&json::python_float(float)).map_err(Error::from);
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => cost::write(state, value, out),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// As [`write_value`], with lists and dictionaries as Python's `repr` writes them.
pub(super) fn write_repr(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.kind() {
        kind if kind == ValueKind::Map || cost::is_list(value) => {
            let mut text = String::new();
            repr(state, value, &mut text, 0)?;
            out.write_str(&text).map_err(Error::from)
        }
        ValueKind::Bool | ValueKind::None => {
            out.write_str(constant(value).unwrap_or_default()).map_err(Error::from)
        }
        _ => write_value(out, state, value),
    }
}

fn constant(value: &Value) -> Option<&'static str> {
    match value.kind() {
        ValueKind::None => Some("None"),
        ValueKind::Bool => Some(if value.is_true() { "True" } else { "False" }),
        _ => None,
    }
}

/// Appends Python's `repr` of a value.
fn repr(state: &mut State<'_, '_>, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > MAX_REPR_DEPTH {
        return Err(invalid("a list is too deep to be written"));
    }
    state.consume_fuel(1 + value.as_str().map_or(0, str::len) as u64 / 16)?;
    match value.kind() {
        _ if cost::is_list(value) => {
            out.push('[');
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                repr(state, &item, out, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                repr(state, &key, out, depth + 1)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(float) => out.push_str(&json::python_float(float)),
            Err(_) => out.push_str(&value.to_string()),
        },
        _ => match (value.as_str(), constant(value)) {
            (Some(text), _) => text_repr(text, out),
            (None, Some(word)) => out.push_str(word),
            (None, None) => out.push_str(&value.to_string()),
        },
    }
    Ok(())
}

/// Appends Python's `repr` of a text.
fn text_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// White space of Python's `str`: that of Unicode and four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

fn strip<'t>(text: &'t str, chars: Option<&str>, start: bool, end: bool) -> &'t str {
    let matches = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(matches) } else { text };
    if end { text.trim_end_matches(matches) } else { text }
}

/// A method of a Python value, which pays for its arguments. Those whose result may be much larger than their input
/// go through the filters of the same name, which count its bytes beforehand.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    args.iter().try_for_each(|argument| cost::weigh(state, argument))?;
    if let Some(text) = value.as_str() {
        state.consume_fuel(1 + text.len() as u64 / 64)?;
        if let Some(result) = text_method(state, value, text, name, args)? {
            return Ok(result);
        }
    }
    if matches!(name, "index" | "count") {
        cost::weigh(state, value)?;
    } else {
        cost::shallow(state, value)?;
    }
    let list = cost::is_list(value).then(|| cost::eager(state, value)).transpose()?;
    let value = list.as_ref().unwrap_or(value);
    if list.is_some() && name == "index" {
        let (wanted,): (&Value,) = from_args(args)?;
        for (index, item) in value.try_iter()?.enumerate() {
            if item == *wanted {
                return Ok(Value::from(index));
            }
        }
        return Err(invalid("list.index: the value is not in the list"));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// A method of a string that is done here, `None` for the others.
fn text_method(
    state: &mut State<'_, '_>,
    value: &Value,
    text: &str,
    name: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, chars, name != "rstrip", name != "lstrip"))
        }
        "replace" => return replace(state, value, text, args).map(Some),
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            state.apply_filter("join", &[items.clone(), value.clone()])?
        }
        "format" => {
            if has_long_number(text) {
                return Err(invalid("str.format: a width is too large"));
            }
            return Ok(None);
        }
        "split" | "rsplit" => split(text, name == "rsplit", args)?,
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, name == "rpartition")?
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "index" => {
            let (wanted,): (&str,) = from_args(args)?;
            let at = text.find(wanted).ok_or_else(|| invalid("str.index: the text is not in the string"))?;
            Value::from(text[..at].chars().count())
        }
        "title" => Value::from(title(text)),
        "casefold" => Value::from(text.to_lowercase()),
        "swapcase" => Value::from(swap_case(text)),
        "ljust" | "rjust" | "center" | "zfill" => pad(text, name, args)?,
        _ => return Ok(None),
    }))
}

/// Whether `text` may ask for more than 999 characters, or for a width that is an argument.
fn has_long_number(text: &str) -> bool {
    let is_nested = text.split('{').skip(1).any(|field| field.contains(':') && !field.contains('}'));
    is_nested || text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 3)
}

fn replace(state: &mut State<'_, '_>, value: &Value, text: &str, args: &[Value]) -> Result<Value, Error> {
    let (old, new, count, kwargs): (&str, &str, Option<i64>, Kwargs) = from_args(args)?;
    let count = count.or(kwargs.get::<Option<i64>>("count")?);
    kwargs.assert_all_used()?;
    let Some(count) = count.and_then(|count| usize::try_from(count).ok()) else {
        return state.apply_filter("replace", &[value.clone(), Value::from(old), Value::from(new)]);
    };
    let matches = text.matches(old).take(count).count();
    state.consume_fuel((matches.saturating_mul(new.len()) / 64) as u64)?;
    Ok(Value::from(text.replacen(old, new, count)))
}

fn split(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(kwargs.get::<Option<&str>>("sep")?);
    let limit = limit.or(kwargs.get::<Option<i64>>("maxsplit")?);
    kwargs.assert_all_used()?;
    let parts =
        limit.and_then(|limit| usize::try_from(limit).ok()).map_or(usize::MAX, |n| n.saturating_add(1));
    let mut found: Vec<&str> = match (separator, from_end) {
        (Some(""), _) => return Err(invalid("str.split: the separator is empty")),
        (Some(separator), false) => text.splitn(parts, separator).collect(),
        (Some(separator), true) => text.rsplitn(parts, separator).collect(),
        (None, false) => split_spaces(text, parts),
        (None, true) => rsplit_spaces(text, parts),
    };
    if from_end {
        found.reverse();
    }
    Ok(found.into_iter().map(Value::from).collect())
}

/// The words of `text`; the last of `parts` takes the rest.
fn split_spaces(text: &str, parts: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(is_space).filter(|_| words.len() + 1 < parts).unwrap_or(rest.len());
        words.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    words
}

/// The words of `text`, the last first; the last of `parts` takes the rest.
fn rsplit_spaces(text: &str, parts: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        let last = rest.char_indices().rev().find(|(_, c)| is_space(*c)).filter(|_| words.len() + 1 < parts);
        let start = last.map_or(0, |(at, c)| at + c.len_utf8());
        words.push(&rest[start..]);
        rest = rest[..start].trim_end_matches(is_space);
    }
    words
}

fn partition(text: &str, separator: &str, from_end: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(invalid("str.partition: the separator is empty"));
    }
    let cut = if from_end { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match cut {
        Some((left, right)) => [left, separator, right],
        None if from_end => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// The `indent` filter: the lines but the first, and blank ones, moved by `width` spaces or by a text.
fn indent(
    state: &State<'_, '_>,
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = width.or(kwargs.get("width")?).unwrap_or(Value::from(4));
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = kwargs.get::<Option<bool>>("blank")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let by = match (width.as_str(), width.as_usize()) {
        (Some(text), _) if text.len() <= MAX_WIDTH => text.to_owned(),
        (_, Some(width)) if width <= MAX_WIDTH => " ".repeat(width),
        _ => return Err(invalid("indent: the width is too large")),
    };
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        state.consume_fuel(1 + (by.len() + line.len()) as u64 / 64)?;
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&by);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// A capital after everything that is not a letter.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_lowercase() || c.is_uppercase();
    }
    out
}

fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

fn pad(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let width = usize::try_from(width).unwrap_or(0);
    if width > MAX_WIDTH {
        return Err(invalid("the width is too large"));
    }
    let fill = if name == "zfill" { "0" } else { fill.unwrap_or(" ") };
    if fill.chars().count() != 1 {
        return Err(invalid("the fill is not one character"));
    }
    let missing = width.saturating_sub(text.chars().count());
    let (sign, text) = match text.strip_prefix(['+', '-']) {
        Some(digits) if name == "zfill" => text.split_at(text.len() - digits.len()),
        _ => ("", text),
    };
    let left = match name {
        "ljust" => 0,
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (before, after) = (fill.repeat(left), fill.repeat(missing - left));
    Ok(Value::from(format!("{sign}{before}{text}{after}")))
}
