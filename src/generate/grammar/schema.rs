//! JSON Schemas: what would not be enforced is refused, with its keyword and place.
//!
//! The library knows the keywords of [`KEYWORDS`]; of some it ignores values or combinations, which are refused
//! here too. Annotations are taken out, so that what reaches the library is what it enforces. What the library
//! allows and common readers of JSON do not hold or accept is narrowed: see [`narrow`].

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::GrammarError;
use super::error::shorten;

/// Between the parts of the JSON: a space, or a line break with an indentation.
const WHITESPACE: &str = r"\x20|\n[\x20\t]{0,32}";
/// Escapes in strings. Without `u`, so that a property's name can be written in one way only.
const ESCAPES: &str = "nrbtf\\\"";
/// Integers below this are exact in the library's numbers.
const MAX_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Seconds of a time other than 60: a leap second depends on the time zone.
const SECONDS: &str = ":[0-5][0-9]:[0-5]";
/// Dates without February 29 of other years than leap years.
const DATE: &str = concat!(
    "^(?:[0-9]{4}-(?:0[13-9]|1[0-2])|[0-9]{4}-02-(?:[01]|2[0-8])|",
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)",
);

/// What the value of a keyword is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Says nothing about what is valid.
    Annotation,
    Schema,
    SchemaOrList,
    List,
    /// Names with a schema each.
    Map,
    Reference,
    Types,
    Format,
    /// Values that are compared.
    Constant,
    Number,
    Count,
    Text,
    Names,
}

const KEYWORDS: &[(&str, Kind)] = &[
    ("$comment", Kind::Annotation),
    ("$anchor", Kind::Annotation),
    ("title", Kind::Annotation),
    ("description", Kind::Annotation),
    ("default", Kind::Annotation),
    ("examples", Kind::Annotation),
    ("deprecated", Kind::Annotation),
    ("readOnly", Kind::Annotation),
    ("writeOnly", Kind::Annotation),
    ("contentMediaType", Kind::Annotation),
    ("contentEncoding", Kind::Annotation),
    ("$defs", Kind::Map),
    ("definitions", Kind::Map),
    ("$ref", Kind::Reference),
    ("allOf", Kind::List),
    ("anyOf", Kind::List),
    ("oneOf", Kind::List),
    ("const", Kind::Constant),
    ("enum", Kind::Constant),
    ("type", Kind::Types),
    ("items", Kind::SchemaOrList),
    ("additionalItems", Kind::Schema),
    ("prefixItems", Kind::List),
    ("minItems", Kind::Count),
    ("maxItems", Kind::Count),
    ("properties", Kind::Map),
    ("patternProperties", Kind::Map),
    ("additionalProperties", Kind::Schema),
    ("required", Kind::Names),
    ("minProperties", Kind::Count),
    ("maxProperties", Kind::Count),
    ("minLength", Kind::Count),
    ("maxLength", Kind::Count),
    ("pattern", Kind::Text),
    ("format", Kind::Format),
    ("minimum", Kind::Number),
    ("maximum", Kind::Number),
    ("exclusiveMinimum", Kind::Number),
    ("exclusiveMaximum", Kind::Number),
    ("multipleOf", Kind::Number),
];

const TYPES: &[&str] = &["null", "boolean", "integer", "number", "string", "array", "object"];
const FORMATS: &[&str] =
    &["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
/// Drafts in which the keywords above mean the same; older ones have fewer keywords.
const DRAFTS: &[&str] = &[
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
];

/// Checks a schema and returns what the library is given.
pub(super) fn prepare(text: &str) -> Result<Value, GrammarError> {
    prepare_value(serde_json::from_str(text).map_err(GrammarError::NotJson)?)
}

/// As [`prepare`], of a schema that is JSON already.
pub(in crate::generate) fn prepare_value(mut schema: Value) -> Result<Value, GrammarError> {
    let mut walk = Walk { draft: DRAFTS[0].to_owned(), ..Walk::default() };
    if let Value::Object(map) = &mut schema {
        map.remove("$id");
        if let Some(draft) = map.remove("$schema") {
            walk.draft = known_draft(&draft)?;
        }
    }
    walk.schema(&mut schema, "#")?;
    if let Some((path, target)) = walk.references.iter().find(|(_, target)| !walk.seen.contains(target)) {
        return Err(refuse("$ref", path, format!("there is no schema at {}", shorten(target))));
    }
    let mut map = match schema {
        Value::Object(map) => map,
        Value::Bool(false) => return Err(refuse("false", "#", "nothing is valid")),
        _ => Map::new(),
    };
    let options = json!({
        "whitespace_pattern": WHITESPACE,
        "json_allowed_escapes": ESCAPES,
    });
    map.insert("x-guidance".to_owned(), options);
    Ok(Value::Object(map))
}

fn known_draft(value: &Value) -> Result<String, GrammarError> {
    let name = value.as_str().unwrap_or_default().trim_end_matches('#');
    if DRAFTS.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(refuse("$schema", "#", format!("known are {}", DRAFTS.join(", "))))
}

fn refuse(keyword: &str, path: &str, reason: impl Into<String>) -> GrammarError {
    GrammarError::Keyword { keyword: shorten(keyword), path: shorten(path), reason: reason.into() }
}

/// A path below `path`, as a JSON pointer (RFC 6901).
fn below(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[derive(Default)]
struct Walk {
    draft: String,
    /// Paths of all schemas.
    seen: HashSet<String>,
    /// Where a reference is, and the path it names.
    references: Vec<(String, String)>,
}

impl Walk {
    fn schema(&mut self, schema: &mut Value, path: &str) -> Result<(), GrammarError> {
        self.seen.insert(path.to_owned());
        let map = match schema {
            Value::Object(map) => map,
            Value::Bool(_) => return Ok(()),
            _ => return Err(refuse("schema", path, "it must be an object or a boolean")),
        };
        // Saying that items may be equal says nothing.
        if map.get("uniqueItems") == Some(&Value::Bool(false)) {
            map.remove("uniqueItems");
        }
        map.retain(|keyword, _| !KEYWORDS.contains(&(keyword, Kind::Annotation)));
        self.combinations(map, path)?;
        for (keyword, value) in map.iter_mut() {
            let Some((_, kind)) = KEYWORDS.iter().find(|(known, _)| known == keyword) else {
                return Err(refuse(keyword, path, "it would not be enforced"));
            };
            self.keyword(keyword, *kind, value, path)?;
        }
        narrow(map);
        Ok(())
    }

    /// Keywords that the library gives another meaning, or none, beside each other.
    fn combinations(&self, map: &Map<String, Value>, path: &str) -> Result<(), GrammarError> {
        let is_old = self.draft != DRAFTS[0];
        let has_old = map.contains_key("additionalItems") || map.get("items").is_some_and(Value::is_array);
        if map.contains_key("prefixItems") && (is_old || has_old) {
            return Err(refuse("prefixItems", path, "it is not used with lists of items or in older drafts"));
        }
        let required = map.get("required").and_then(Value::as_array).map_or(0, Vec::len);
        match map.get("minProperties").and_then(Value::as_u64) {
            Some(least) if least > 1.max(required as u64) => {
                Err(refuse("minProperties", path, "at most the number of required properties can be counted"))
            }
            _ => Ok(()),
        }
    }

    fn keyword(
        &mut self,
        keyword: &str,
        kind: Kind,
        value: &mut Value,
        path: &str,
    ) -> Result<(), GrammarError> {
        let wrong = |expected: &str| Err(refuse(keyword, path, format!("it must be {expected}")));
        let place = below(path, keyword);
        match (kind, value) {
            (Kind::Schema, value) => self.schema(value, &place),
            (Kind::SchemaOrList | Kind::List, Value::Array(list)) => {
                let mut schemas = list.iter_mut().enumerate();
                schemas.try_for_each(|(index, schema)| self.schema(schema, &format!("{place}/{index}")))
            }
            (Kind::SchemaOrList, value) => self.schema(value, &place),
            (Kind::Map, Value::Object(map)) => {
                map.iter_mut().try_for_each(|(name, schema)| self.schema(schema, &below(&place, name)))
            }
            (Kind::Reference, Value::String(target)) => self.reference(target, path),
            (Kind::Types, Value::String(name)) if TYPES.contains(&name.as_str()) => Ok(()),
            (Kind::Types, Value::Array(names))
                if names.iter().all(|name| name.as_str().is_some_and(|name| TYPES.contains(&name))) =>
            {
                Ok(())
            }
            (Kind::Types, _) => wrong(&format!("of {}", TYPES.join(", "))),
            (Kind::Format, Value::String(name)) if FORMATS.contains(&name.as_str()) => Ok(()),
            (Kind::Format, _) => wrong(&format!("one of {}", FORMATS.join(", "))),
            (Kind::Constant, value) if is_exact(value) => Ok(()),
            (Kind::Constant, _) => wrong("without integers from 2^53 on"),
            (Kind::Number, Value::Number(number)) if is_exact(&Value::Number(number.clone())) => Ok(()),
            (Kind::Number, _) => wrong("a number, if an integer below 2^53"),
            (Kind::Count, value) if value.as_u64().is_some_and(|n| n <= u64::from(u32::MAX)) => Ok(()),
            (Kind::Count, _) => wrong("a whole number below 2^32"),
            (Kind::Text, Value::String(_)) => Ok(()),
            (Kind::Text, _) => wrong("a string"),
            (Kind::Names, Value::Array(names)) if names.iter().all(Value::is_string) => Ok(()),
            (Kind::Names, _) => wrong("a list of strings"),
            (Kind::List, _) => wrong("a list of schemas"),
            (Kind::Map, _) => wrong("an object of schemas"),
            (Kind::Reference, _) => wrong("a string"),
            (Kind::Annotation, _) => Ok(()),
        }
    }

    /// The library finds only plain paths from the root.
    fn reference(&mut self, target: &str, path: &str) -> Result<(), GrammarError> {
        if target != "#" && !target.starts_with("#/") {
            return Err(refuse("$ref", path, "only paths within this schema (#/...) can be followed"));
        }
        if target.contains(['~', '%']) {
            return Err(refuse("$ref", path, "names with escapes in them cannot be followed"));
        }
        self.references.push((path.to_owned(), target.to_owned()));
        Ok(())
    }
}

/// Adds what makes numbers and times safe to read: numbers without other bounds stay where all integers are exact
/// (I-JSON, RFC 7493), and have no exponents; dates exist, and no time has a leap second.
fn narrow(map: &mut Map<String, Value>) {
    let named = |value: &Value| ["integer", "number"].iter().any(|name| value == name);
    let is_numeric = map.get("type").is_some_and(|types| match types {
        Value::Array(names) => names.iter().any(named),
        name => named(name),
    });
    let bounds =
        [("minimum", "exclusiveMinimum", -MAX_INTEGER), ("maximum", "exclusiveMaximum", MAX_INTEGER)];
    let has_bound =
        bounds.iter().any(|(bound, exclusive, _)| map.contains_key(*bound) || map.contains_key(*exclusive));
    if is_numeric || has_bound || map.contains_key("multipleOf") {
        for (bound, exclusive, limit) in bounds {
            if !map.contains_key(bound) && !map.contains_key(exclusive) {
                map.insert(exclusive.to_owned(), json!(limit));
            }
        }
    }
    let patterns: &[&str] = match map.get("format").and_then(Value::as_str) {
        Some("date") => &[DATE],
        Some("time") => &[SECONDS],
        Some("date-time") => &[DATE, SECONDS],
        _ => return,
    };
    let all = map.entry("allOf").or_insert_with(|| json!([]));
    if let Value::Array(all) = all {
        all.extend(patterns.iter().map(|pattern| json!({"pattern": pattern})));
    }
}

/// Whether all integers in a value are exact as 64-bit floating-point numbers.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let is_integer = number.is_i64() || number.is_u64();
            number.as_f64().is_some_and(|n| n.is_finite() && (!is_integer || n.abs() < MAX_INTEGER))
        }
        Value::Array(list) => list.iter().all(is_exact),
        Value::Object(map) => map.values().all(is_exact),
        _ => true,
    }
}
