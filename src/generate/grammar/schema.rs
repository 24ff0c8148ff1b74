//! JSON Schemas: what would not be enforced is refused, with its keyword and place.
//!
//! The library knows the keywords of [`KEYWORDS`]; of some it ignores values or combinations, which are refused
//! here too. Annotations are taken out, so that what reaches the library is what it enforces. What the library
//! allows and common readers of JSON do not hold or accept is narrowed: see [`narrow`]. Objects have their declared
//! keys: see [`objects`].

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::shorten;
use super::{GrammarError, objects, pattern};

/// Escapes in strings. Without `u`, so that a property's name can be written in one way only.
const ESCAPES: &str = "nrbtf\\\"";
/// Integers below this are exact in the library's numbers.
const MAX_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Numbers have no more digits behind the point.
const LEAST: f64 = 1e-16;
/// Digits of a `multipleOf` as a whole number: the lexer has a state for each remainder.
const MAX_MULTIPLE: u64 = 8192;
/// All of them together, and what they have in common where schemas meet.
const MAX_MULTIPLES: u64 = 32_768;
/// Keywords by which schemas meet.
const MEETINGS: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];
/// Decimal places of it.
const MAX_PLACES: u32 = 8;

/// Durations, with at most nine digits in every number.
const DURATION: &str = concat!(
    "^P(?:",
    "(?:[0-9]{1,9}Y(?:[0-9]{1,9}M(?:[0-9]{1,9}D)?)?|[0-9]{1,9}M(?:[0-9]{1,9}D)?|[0-9]{1,9}D)(?:",
    "T(?:[0-9]{1,9}H(?:[0-9]{1,9}M(?:[0-9]{1,9}S)?)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?|[0-9]{1,9}S)",
    ")?|",
    "T(?:[0-9]{1,9}H(?:[0-9]{1,9}M(?:[0-9]{1,9}S)?)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?|[0-9]{1,9}S)",
    "|[0-9]{1,9}W)$",
);
/// Dates that exist.
const DATE: &str = concat!(
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|",
    "02-(?:0[1-9]|1[0-9]|2[0-8]))|",
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)",
);
/// Times without leap seconds, which depend on the time zone, and with at most nine digits of a second.
const TIME: &str = concat!(
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?",
    "(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
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
    Multiple,
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
    ("multipleOf", Kind::Multiple),
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
    let mut walk = Walk { draft: DRAFTS[0].to_owned(), meets: meets(&schema), ..Walk::default() };
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
    objects::complete(&mut schema);
    let mut map = match schema {
        Value::Object(map) => map,
        Value::Bool(false) => return Err(refuse("false", "#", "nothing is valid")),
        _ => Map::new(),
    };
    let options = json!({
        "whitespace_flexible": false,
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
    /// Of every `multipleOf`, its digits and decimal places.
    multiples: Vec<(u64, u32)>,
    /// Whether the schemas may meet, so that a value has to follow several.
    meets: bool,
}

/// Whether a schema has, anywhere, a keyword of [`MEETINGS`].
fn meets(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            MEETINGS.iter().any(|keyword| map.contains_key(*keyword)) || map.values().any(meets)
        }
        Value::Array(list) => list.iter().any(meets),
        _ => false,
    }
}

/// The least common multiple of numbers above 0.
fn common_multiple(numbers: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    let divisor = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    numbers.into_iter().try_fold(1u64, |all, number| {
        let number = number?;
        (all / divisor(all, number)).checked_mul(number)
    })
}

fn check_pattern(text: &str, keyword: &str, path: &str) -> Result<(), GrammarError> {
    pattern::problem(text).map_or(Ok(()), |problem| Err(refuse(keyword, path, problem)))
}

/// The digits of a number as a whole number, and how many of them are behind the point.
fn decimal(value: &Value) -> Option<(u64, u32)> {
    let text = format!("{}", value.as_f64()?);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = format!("{whole}{fraction}");
    Some((digits.parse().ok()?, u32::try_from(fraction.len()).ok()?))
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
                for name in map.keys().filter(|_| keyword == "patternProperties") {
                    check_pattern(name, keyword, &below(path, keyword))?;
                }
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
            (Kind::Multiple, value) => self.multiple(value, path),
            (Kind::Number, Value::Number(number)) if is_exact(&Value::Number(number.clone())) => Ok(()),
            (Kind::Number, _) => wrong("a number, if an integer below 2^53"),
            (Kind::Count, value) if value.as_u64().is_some_and(|n| n <= u64::from(u32::MAX)) => Ok(()),
            (Kind::Count, _) => wrong("a whole number below 2^32"),
            (Kind::Text, Value::String(text)) => check_pattern(text, keyword, path),
            (Kind::Text, _) => wrong("a string"),
            (Kind::Names, Value::Array(names)) if names.iter().all(Value::is_string) => Ok(()),
            (Kind::Names, _) => wrong("a list of strings"),
            (Kind::List, _) => wrong("a list of schemas"),
            (Kind::Map, _) => wrong("an object of schemas"),
            (Kind::Reference, _) => wrong("a string"),
            (Kind::Annotation, _) => Ok(()),
        }
    }

    /// The library computes with 32 bits, and has a state of the lexer for every remainder.
    fn multiple(&mut self, value: &Value, path: &str) -> Result<(), GrammarError> {
        let wrong = |reason: String| Err(refuse("multipleOf", path, reason));
        let Some((digits, places)) = decimal(value).filter(|(digits, _)| *digits > 0) else {
            return wrong("it must be a number above 0".to_owned());
        };
        if digits > MAX_MULTIPLE || places > MAX_PLACES {
            return wrong(format!(
                "at most {MAX_MULTIPLE} can be counted, with at most {MAX_PLACES} decimal places"
            ));
        }
        if !self.multiples.contains(&(digits, places)) {
            self.multiples.push((digits, places));
        }
        if self.multiples.iter().map(|(digits, _)| digits).sum::<u64>() > MAX_MULTIPLES {
            return wrong(format!("with the others it is more than {MAX_MULTIPLES}, which can be counted"));
        }
        // Where schemas meet, the library takes the least common multiple, as a number of the smallest place.
        let most = self.multiples.iter().map(|(_, places)| *places).max().unwrap_or(0);
        let scaled =
            self.multiples.iter().map(|(digits, places)| digits.checked_mul(10u64.pow(most - places)));
        if self.meets && common_multiple(scaled).is_none_or(|common| common > MAX_MULTIPLES) {
            return wrong("it has no common multiple with the others that could be counted".to_owned());
        }
        Ok(())
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
    part_from_bounds(map);
    // In place of the library's own, which a pattern beside it would have to be compared with.
    let pattern = match map.get("format").and_then(Value::as_str) {
        Some("date") => format!("^{DATE}$"),
        Some("time") => format!("^{TIME}$"),
        Some("date-time") => format!("^{DATE}[tT]{TIME}$"),
        Some("duration") => DURATION.to_owned(),
        _ => return,
    };
    map.remove("format");
    let all = map.entry("allOf").or_insert_with(|| json!([]));
    if let Value::Array(all) = all {
        all.push(json!({"pattern": pattern}));
    }
}

/// The library lets a number be a whole one that is excluded, where the bounds share it as their whole part: between
/// 0 and 0.5, 0. The next number that a reader holds is the bound instead.
fn part_from_bounds(map: &mut Map<String, Value>) {
    let bound = |key: &str| map.get(key).and_then(Value::as_f64);
    let (least, most) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
    let above = bound("maximum").or(most).zip(least).filter(|(most, least)| most.trunc() == *least);
    let below = bound("minimum").or(least).zip(most).filter(|(least, most)| least.trunc() == *most);
    if let Some((_, least)) = above {
        map.remove("exclusiveMinimum");
        map.insert("minimum".to_owned(), json!(least.next_up().max(least + LEAST)));
    }
    if let Some((_, most)) = below {
        map.remove("exclusiveMaximum");
        map.insert("maximum".to_owned(), json!(most.next_down().min(most - LEAST)));
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
