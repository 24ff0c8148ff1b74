//! The grammar of calls: free text, then calls whose arguments their schemas allow.
//!
//! Objects have their properties in the order of the schema, those that are not required perhaps left out, and no
//! others, as with OpenAI's `strict`. What a format does not write as JSON is written out here as rules; its texts,
//! numbers and whatever is JSON in every format are left to the schemas' own compiler.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::definition::{Tool, ToolChoice, ToolError};
use super::format::{Body, CallFormat};
use crate::generate::{CallGrammar, GrammarError};
use crate::text::Tokenizer;

/// White space between the parts of the JSON of a call.
const SPACE: &str = r"\x20";
/// Free text.
const TEXT: &str = "TEXT: /(.|\\n)*/\n";
/// Nesting of a schema that is written out.
const MAX_DEPTH: usize = 32;
/// Rules of all functions.
const MAX_RULES: usize = 20_000;

/// Why a grammar cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants' errors say it")]
pub enum CallError {
    #[error("the model has no chat template that tells it of functions")]
    NoTemplate,
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("the parameters of the tool {name}: {source}")]
    Schema { name: String, source: GrammarError },
}

/// The grammar for `tools` in a format.
pub(super) fn grammar(
    format: &CallFormat,
    tools: &[&Tool],
    choice: &ToolChoice,
    tokenizer: &Tokenizer,
    prepare: fn(Value) -> Result<Value, GrammarError>,
) -> Result<CallGrammar, CallError> {
    let mut rules = Rules { format, tokenizer, prepare, tool: "", lark: String::new(), count: 0 };
    let mut names = vec![];
    for tool in tools {
        rules.tool = &tool.name;
        names.push(rules.call(tool)?);
    }
    let one = names.join(" | ");
    let start = rules.start(&one, choice);
    Ok(CallGrammar { lark: format!("{start}{}", rules.lark) })
}

/// Rules as they are written.
struct Rules<'a> {
    format: &'a CallFormat,
    tokenizer: &'a Tokenizer,
    /// Checks a schema and brings it into the form that is compiled.
    prepare: fn(Value) -> Result<Value, GrammarError>,
    /// The function whose call is written.
    tool: &'a str,
    lark: String,
    /// Rules so far, for their names.
    count: usize,
}

impl Rules<'_> {
    /// The first rule: what an answer is.
    fn start(&self, one: &str, choice: &ToolChoice) -> String {
        let CallFormat { open, close, space, is_list, after, .. } = self.format;
        let is_auto = *choice == ToolChoice::Auto;
        let list = match (is_list, is_auto) {
            (false, _) => "call".to_owned(),
            (true, true) => "\"[\" call (\", \" call)* \"]\"".to_owned(),
            (true, false) => "\"[\" call \"]\"".to_owned(),
        };
        let closing = if close.is_empty() { String::new() } else { self.mark(close) };
        let space = if space.is_empty() { String::new() } else { text(space) };
        let rest = format!("{space} {list} {space} {closing}");
        let after = match *after {
            "" => String::new(),
            after => self.control(after).map_or(String::new(), |after| format!("({after})?")),
        };
        let tail = format!("call: {one}\n");
        match (*open, is_auto) {
            ("", false) => format!("start: call\n{tail}"),
            ("", true) => format!("start: call | OTHER\nOTHER: /([^{{\\[ \\n\\t](.|\\n)*)?/\n{tail}"),
            (open, false) => format!("start: {} {rest} {after}\n{tail}", self.mark(open)),
            (open, true) => {
                let begin = match self.control(open) {
                    Some(open) => format!("block: TEXT {open} {rest}"),
                    None => format!("block: begin {rest}\nbegin[lazy]: TEXT {}", text(open)),
                };
                format!("start: (block)* TEXT {after}\n{begin}\n{TEXT}{tail}")
            }
        }
    }

    /// A mark: a control token, or text.
    fn mark(&self, mark: &str) -> String {
        self.control(mark).unwrap_or_else(|| text(mark))
    }

    fn control(&self, mark: &str) -> Option<String> {
        let id = self.tokenizer.added_token(mark).filter(|id| self.tokenizer.is_special(*id))?;
        Some(format!("<[{id}]>"))
    }

    /// Adds a rule and returns its name.
    fn rule(&mut self, body: &str) -> String {
        self.count += 1;
        let name = format!("r{}", self.count);
        // Writing to a text does not fail.
        let _ = writeln!(self.lark, "{name}: {body}");
        name
    }

    /// The rule of a function's call.
    fn call(&mut self, tool: &Tool) -> Result<String, CallError> {
        let schema = closed(&tool.parameters);
        let name = &tool.name;
        let body = match self.format.body {
            Body::Json { id, name: key, arguments } => {
                let id = id.map_or(String::new(), |id| format!("\"{id}\": \"0\", "));
                let head = format!("{{{id}\"{key}\": \"{name}\", \"{arguments}\": ");
                format!("{} {} {}", text(&head), self.json(Value::Object(schema))?, text("}"))
            }
            Body::Named { mark } => {
                format!("{} {} {}", text(name), self.mark(mark), self.json(Value::Object(schema))?)
            }
            Body::Python => {
                let entries = self.entries(&schema, &|name| format!("{name}="), ", ", "#", 0)?;
                format!("{} {entries} {}", text(&format!("{name}(")), text(")"))
            }
            Body::Braces { .. } => {
                let entries = self.entries(&schema, &|name| format!("{name}:"), ",", "#", 0)?;
                format!("{} {entries} {}", text(&format!("call:{name}{{")), text("}"))
            }
        };
        Ok(self.rule(&body))
    }

    /// JSON that a schema allows.
    fn json(&self, schema: Value) -> Result<String, CallError> {
        let failed = |source| CallError::Schema { name: self.tool.to_owned(), source };
        let mut schema = (self.prepare)(schema).map_err(failed)?;
        if let Some(options) = schema.get_mut("x-guidance") {
            // As templates write calls: on one line.
            options["whitespace_pattern"] = Value::from(SPACE);
        }
        Ok(format!("%json {schema}"))
    }

    fn refuse(&self, keyword: &str, path: &str) -> CallError {
        let (keyword, path) = (keyword.chars().take(64).collect(), path.chars().take(200).collect());
        ToolError::Parameters { name: self.tool.to_owned(), keyword, path }.into()
    }

    /// The properties of an object, between separators; `key` writes a name with what follows it.
    fn entries(
        &mut self,
        schema: &Map<String, Value>,
        key: &dyn Fn(&str) -> String,
        separator: &str,
        path: &str,
        depth: usize,
    ) -> Result<String, CallError> {
        const KNOWN: [&str; 4] = ["type", "properties", "required", "additionalProperties"];
        if let Some(other) = schema.keys().find(|word| !KNOWN.contains(&word.as_str()) && !is_note(word)) {
            return Err(self.refuse(other, path));
        }
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
        // From the last property to the first: what may follow one that was written, and what may if none was.
        let (mut rest, mut first) = (String::new(), String::new());
        for (name, value) in properties.iter().rev() {
            let value = self.value(value, &format!("{path}/properties/{name}"), depth + 1)?;
            let entry = self.rule(&format!("{} {value}", text(&key(name))));
            let more = format!("{} {entry}", text(separator));
            let (started, begun) = (format!("{entry} {rest}"), first);
            if is_required(name) {
                rest = self.rule(&format!("{more} {rest}"));
                first = self.rule(&started);
            } else {
                rest = self.rule(&format!("({more})? {rest}"));
                first = match begun.as_str() {
                    "" => self.rule(&format!("({started})?")),
                    begun => self.rule(&format!("{started} | {begun}")),
                };
            }
        }
        Ok(first)
    }

    /// A value that a schema allows, in a format that is not JSON.
    fn value(&mut self, schema: &Value, path: &str, depth: usize) -> Result<String, CallError> {
        if depth > MAX_DEPTH || self.count > MAX_RULES {
            return Err(self.refuse("nesting", path));
        }
        let Some(map) = schema.as_object() else { return self.other(schema, path) };
        let has = |word: &str| map.contains_key(word);
        if has("enum") || has("const") {
            let one = map.get("const").map(std::slice::from_ref);
            let values = one.or(map.get("enum").and_then(Value::as_array).map(Vec::as_slice));
            let literals: Vec<String> =
                values.unwrap_or_default().iter().map(|value| self.literal(value)).collect();
            return Ok(self.rule(&literals.join(" | ")));
        }
        if let Some(options) = map.get("anyOf").or(map.get("oneOf")).and_then(Value::as_array) {
            let rules: Result<Vec<String>, _> =
                options.iter().map(|option| self.value(option, path, depth + 1)).collect();
            let rules = rules?.join(" | ");
            return Ok(self.rule(&rules));
        }
        match map.get("type") {
            Some(Value::Array(types)) => {
                let mut rules = vec![];
                for kind in types {
                    let mut one = map.clone();
                    one.insert("type".to_owned(), kind.clone());
                    rules.push(self.value(&Value::Object(one), path, depth + 1)?);
                }
                Ok(self.rule(&rules.join(" | ")))
            }
            Some(Value::String(kind)) => self.of_type(kind, map, path, depth),
            _ => self.other(schema, path),
        }
    }

    fn of_type(
        &mut self,
        kind: &str,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<String, CallError> {
        let is_python = self.format.body == Body::Python;
        let pick = |python: &str, other: &str| text(if is_python { python } else { other });
        match kind {
            "boolean" => Ok(self.rule(&format!("{} | {}", pick("True", "true"), pick("False", "false")))),
            "null" => Ok(self.rule(&pick("None", "null"))),
            "integer" | "number" => {
                let json = self.json(Value::Object(only(
                    map,
                    &["type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
                )))?;
                Ok(self.rule(&json))
            }
            "string" => self.string(map, path),
            "array" if !map.contains_key("prefixItems") => {
                let item = map.get("items").cloned().unwrap_or_else(|| json!({"type": "string"}));
                let item = self.value(&item, &format!("{path}/items"), depth + 1)?;
                let count = |word: &str| map.get(word).and_then(Value::as_u64);
                let (least, most) = (count("minItems").unwrap_or(0), count("maxItems"));
                Ok(self.array(&item, least, most))
            }
            "object" => {
                let schema = closed(map);
                let is_plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_');
                let quote = match self.format.body {
                    Body::Braces { quote } => quote,
                    _ => "\"",
                };
                let python = |name: &str| format!("{}: ", Value::from(name));
                let braces = |name: &str| {
                    if is_plain(name) { format!("{name}:") } else { format!("{quote}{name}{quote}:") }
                };
                let key: &dyn Fn(&str) -> String = if is_python { &python } else { &braces };
                let separator = if is_python { ", " } else { "," };
                let entries = match self.entries(&schema, key, separator, path, depth) {
                    Err(_) if is_python => return self.other(&Value::Object(map.clone()), path),
                    entries => entries?,
                };
                Ok(self.rule(&format!("{} {entries} {}", text("{"), text("}"))))
            }
            _ => self.other(&Value::Object(map.clone()), path),
        }
    }

    fn array(&mut self, item: &str, least: u64, most: Option<u64>) -> String {
        let comma = text(if self.format.body == Body::Python { ", " } else { "," });
        let more = |from: u64| match most {
            Some(most) => format!("({comma} {item}){{{},{}}}", from, most.max(1) - 1),
            None if from > 0 => format!("({comma} {item}){{{from}}} ({comma} {item})*"),
            None => format!("({comma} {item})*"),
        };
        let items = match (least, most) {
            (_, Some(0)) => String::new(),
            (0, _) => format!("({item} {})?", more(0)),
            (least, _) => format!("{item} {}", more(least - 1)),
        };
        self.rule(&format!("{} {items} {}", text("["), text("]")))
    }

    fn string(&mut self, map: &Map<String, Value>, path: &str) -> Result<String, CallError> {
        let Body::Braces { quote } = self.format.body else {
            let json = self.json(Value::Object(without_notes(map)))?;
            return Ok(self.rule(&json));
        };
        if let Some(other) = ["pattern", "format"].iter().find(|word| map.contains_key(**word)) {
            return Err(self.refuse(other, path));
        }
        let count = |word: &str| map.get(word).and_then(Value::as_u64);
        let least = count("minLength").unwrap_or(0);
        let most = count("maxLength").map_or(String::new(), |most| most.to_string());
        // Where the quote is text, texts may not begin one.
        let one = if self.control(quote).is_some() { "(.|\\n)" } else { "[^<]" };
        self.count += 1;
        let name = format!("T{}", self.count);
        let _ = writeln!(self.lark, "{name}: /{one}{{{least},{most}}}/");
        let quote = self.mark(quote);
        Ok(self.rule(&format!("{quote} {name} {quote}")))
    }

    /// A value of any other schema: JSON where that can be read.
    fn other(&mut self, schema: &Value, path: &str) -> Result<String, CallError> {
        if self.format.body == Body::Python {
            let json = self.json(schema.clone())?;
            return Ok(self.rule(&json));
        }
        let word = schema.as_object().and_then(|map| map.keys().find(|word| !is_note(word)).cloned());
        Err(self.refuse(&word.unwrap_or_else(|| "a value of any type".to_owned()), path))
    }

    /// A value as it is written.
    fn literal(&self, value: &Value) -> String {
        match (value, self.format.body) {
            (Value::String(value), Body::Braces { quote }) => {
                let quote = self.mark(quote);
                if value.is_empty() {
                    format!("({quote} {quote})")
                } else {
                    format!("({quote} {} {quote})", text(value))
                }
            }
            (Value::Bool(true), Body::Python) => text("True"),
            (Value::Bool(false), Body::Python) => text("False"),
            (Value::Null, Body::Python) => text("None"),
            (value, _) => text(&value.to_string()),
        }
    }
}

/// A literal of the grammar's language, which is a text of JSON that writes DEL with an escape.
fn text(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7F}', "\\u007f")
}

fn is_note(word: &str) -> bool {
    matches!(
        word,
        "title" | "description" | "default" | "examples" | "$comment" | "deprecated" | "$schema" | "$id"
    )
}

fn without_notes(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter().filter(|(word, _)| !is_note(word)).map(|(word, value)| (word.clone(), value.clone())).collect()
}

fn only(map: &Map<String, Value>, words: &[&str]) -> Map<String, Value> {
    let kept = map.iter().filter(|(word, _)| words.contains(&word.as_str()));
    kept.map(|(word, value)| (word.clone(), value.clone())).collect()
}

/// A schema of an object that has no other properties than those it names, nor have objects in it.
fn closed(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut schema = schema.clone();
    let is_bare =
        !["$ref", "anyOf", "oneOf", "allOf", "enum", "const"].iter().any(|word| schema.contains_key(*word));
    if is_bare {
        schema.entry("type").or_insert_with(|| Value::from("object"));
        schema.entry("properties").or_insert_with(|| json!({}));
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    let mut value = Value::Object(schema);
    close(&mut value, 0);
    match value {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// Closes the objects within a schema that name properties.
fn close(schema: &mut Value, depth: usize) {
    let Some(map) = schema.as_object_mut().filter(|_| depth <= MAX_DEPTH) else { return };
    if map.get("properties").is_some_and(Value::is_object) && !map.contains_key("additionalProperties") {
        map.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for (word, value) in map.iter_mut() {
        match (word.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.iter_mut().for_each(|(_, schema)| close(schema, depth + 1));
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| close(schema, depth + 1));
            }
            ("items", value) => close(value, depth + 1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::definition::Tools;
    use super::*;
    use crate::generate::grammar::prepare_value;
    use crate::generate::{Grammar, GrammarCompiler, LogitFilter};
    use crate::gguf::{GgufFile, GgufWriter};
    use crate::text::{BYTE_CHARS, TokenKind, TokenizerOptions};

    /// A token for every byte, then an end token and control tokens.
    fn tokenizer(controls: &[&str]) -> Arc<Tokenizer> {
        let texts = BYTE_CHARS.iter().map(char::to_string);
        let texts = texts.chain(["</s>"].iter().chain(controls).map(|text| (*text).to_owned()));
        let kinds = (0..257 + controls.len()).map(|id| if id < 256 { 1 } else { TokenKind::Control as i32 });
        let mut writer = GgufWriter::new();
        writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
        writer.set("tokenizer.ggml.tokens", texts.collect::<Vec<_>>());
        writer.set("tokenizer.ggml.token_type", kinds.collect::<Vec<i32>>());
        writer.set("tokenizer.ggml.merges", Vec::<String>::new());
        writer.set("tokenizer.ggml.eos_token_id", 256u32);
        let bytes = writer.to_vec("test", |_, _| Ok(())).unwrap();
        let file = GgufFile::from_vec("test", bytes).unwrap();
        Arc::new(Tokenizer::from_gguf(&file, TokenizerOptions::default()).unwrap())
    }

    const TOOLS: &str = r#"[
        {"name": "get_weather", "parameters": {"type": "object", "required": ["place"], "properties": {
            "unit": {"enum": ["c", "f"]}, "place": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2}, "now": {"type": "boolean"},
            "at": {"type": "object", "properties": {"x": {"type": ["number", "null"]}}, "required": ["x"]}}}},
        {"name": "clock"}]"#;

    /// Whether an answer is allowed in a format; `true` only if it may end there too.
    fn allows(tokenizer: &Arc<Tokenizer>, format: &str, choice: &str, answer: &str) -> bool {
        let tools = Tools::from_json(TOOLS).unwrap();
        let choice = ToolChoice::named(choice);
        let chosen = tools.chosen(&choice).unwrap();
        let format = CallFormat::named(format).unwrap();
        let grammar = grammar(format, &chosen, &choice, tokenizer, prepare_value).unwrap();
        let compiler = GrammarCompiler::new(Arc::clone(tokenizer)).unwrap();
        let mut rule = compiler.compile(&Grammar::Calls(grammar)).unwrap();
        let mut tokens = vec![];
        let options = crate::text::EncodeOptions { add_special: false, parse_special: true };
        tokenizer.encode(answer, options, &mut tokens).unwrap();
        rule.start(&[]);
        for token in tokens {
            if rule.is_done() {
                return false;
            }
            let mut logits = vec![0.0; tokenizer.vocab_size()];
            rule.apply(&mut logits).unwrap();
            if logits[token as usize] != 0.0 {
                return false;
            }
            rule.accept(token).unwrap();
        }
        rule.is_done() || rule.is_accepting()
    }

    /// The arguments in JSON, in Python and in braces.
    const GOOD: [[&str; 3]; 3] = [
        [r#"{"place": "Z\"x"}"#, r#"place="Z\"x""#, "place:<escape>Z\"x<escape>"],
        [
            r#"{"unit": "f", "place": "", "days": 3, "tags": ["a", "b"], "now": true, "at": {"x": null}}"#,
            r#"unit="f", place="", days=3, tags=["a", "b"], now=True, at={"x": None}"#,
            "unit:<escape>f<escape>,place:<escape><escape>,days:3,tags:[<escape>a<escape>,<escape>b<escape>],now:true,at:{x:null}",
        ],
        [r#"{"place": "a", "tags": []}"#, r#"place="a", tags=[]"#, "place:<escape>a<escape>,tags:[]"],
    ];
    const BAD: [[&str; 3]; 5] = [
        ["{}", "", ""],
        [r#"{"place": "a", "days": 8}"#, r#"place="a", days=8"#, "place:<escape>a<escape>,days:8"],
        [r#"{"place": "a", "more": 1}"#, r#"place="a", more=1"#, "place:<escape>a<escape>,more:1"],
        [
            r#"{"place": "a", "tags": ["a", "b", "c"]}"#,
            r#"place="a", tags=["a", "b", "c"]"#,
            "place:<escape>a<escape>,tags:[<escape>a<escape>,<escape>b<escape>,<escape>c<escape>]",
        ],
        [
            r#"{"unit": "k", "place": "a"}"#,
            r#"unit="k", place="a""#,
            "unit:<escape>k<escape>,place:<escape>a<escape>",
        ],
    ];

    /// The call of `get_weather` with these arguments, in a format.
    fn call(format: &str, [json, python, braces]: &[&str; 3]) -> String {
        let object = format!("{{\"name\": \"get_weather\", \"arguments\": {json}}}");
        match format {
            "hermes" => format!("<tool_call>\n{object}\n</tool_call>"),
            "granite" => format!("<|tool_call|>[{object}]"),
            "mistral" => format!("[TOOL_CALLS][{object}]"),
            "mistral-args" => format!("[TOOL_CALLS]get_weather[ARGS]{json}"),
            "llama3" => object.replace("arguments", "parameters"),
            "lfm2" => format!("<|tool_call_start|>[get_weather({python})]<|tool_call_end|>"),
            "functiongemma" => {
                format!("<start_function_call>call:get_weather{{{braces}}}<end_function_call>")
            }
            _ => object,
        }
    }

    #[test]
    fn calls_are_held_to_format_and_parameters() {
        let marks: Vec<&str> = ["hermes", "granite", "mistral-args", "lfm2", "functiongemma"]
            .iter()
            .flat_map(|name| CallFormat::named(name).unwrap().marks())
            .collect();
        for controls in [&[][..], &marks] {
            let tokenizer = tokenizer(controls);
            for format in
                ["hermes", "granite", "mistral", "mistral-args", "llama3", "lfm2", "functiongemma", "json"]
            {
                for arguments in &GOOD {
                    let call = call(format, arguments);
                    assert!(allows(&tokenizer, format, "required", &call), "{call}");
                    assert!(allows(&tokenizer, format, "get_weather", &call), "{call}");
                    assert!(allows(&tokenizer, format, "auto", &call), "{call}");
                    assert!(!allows(&tokenizer, format, "clock", &call), "{call}");
                    let parsed = CallFormat::named(format).unwrap().parse(&call).unwrap();
                    let expected: Value = serde_json::from_str(arguments[0]).unwrap();
                    assert_eq!(Value::Object(parsed[0].arguments.clone()), expected, "{call}");
                }
                for arguments in &BAD {
                    let call = call(format, arguments);
                    assert!(!allows(&tokenizer, format, "required", &call), "{call}");
                    assert!(!allows(&tokenizer, format, "auto", &call), "{call}");
                }
                assert!(allows(&tokenizer, format, "auto", "Hello, how are you?\nFine <3"), "{format}");
                assert!(!allows(&tokenizer, format, "required", "Hello"), "{format}");
            }
        }
    }

    #[test]
    fn text_and_several_calls_may_mix() {
        let tokenizer = tokenizer(&[]);
        let [a, b] = [call("hermes", &GOOD[0]), call("hermes", &GOOD[1])];
        assert!(allows(&tokenizer, "hermes", "auto", &format!("Let me see.\n{a}\n{b}")));
        assert!(allows(&tokenizer, "hermes", "auto", &format!("{a} Done.")));
        assert!(!allows(&tokenizer, "hermes", "auto", &format!("Hi <tool_call>{{}}{b}")));
        assert!(!allows(&tokenizer, "hermes", "required", &format!("{a}\n{b}")));
        let list = format!("<|tool_call_start|>[get_weather({}), clock()]<|tool_call_end|>", GOOD[0][1]);
        assert!(allows(&tokenizer, "lfm2", "auto", &list));
    }

    #[test]
    fn parameters_that_a_format_cannot_hold_are_refused_with_their_place() {
        let tools =
            r#"[{"name": "f", "parameters": {"properties": {"a": {"type": "string", "pattern": "x"}}}}]"#;
        let tools = Tools::from_json(tools).unwrap();
        let chosen = tools.chosen(&ToolChoice::Auto).unwrap();
        let tokenizer = tokenizer(&[]);
        let make = |format: &str| {
            let format = CallFormat::named(format).unwrap();
            grammar(format, &chosen, &ToolChoice::Auto, &tokenizer, prepare_value)
        };
        assert!(make("hermes").is_ok() && make("lfm2").is_ok());
        let error = make("functiongemma").unwrap_err().to_string();
        assert!(error.contains("pattern at #/properties/a"), "{error}");
    }

    #[test]
    fn schemas_that_multiply_are_refused_at_once() {
        let tokenizer = tokenizer(&[]);
        let mut schema = r#"{"type": "string"}"#.to_owned();
        for _ in 0..14 {
            schema = format!(r#"{{"type": ["array", "array", "array", "array"], "items": {schema}}}"#);
        }
        let tools = format!(
            r#"[{{"name": "f", "parameters": {{"type": "object", "properties": {{"a": {schema}}}}}}}]"#
        );
        let tools = Tools::from_json(&tools).unwrap();
        for format in ["functiongemma", "lfm2"] {
            let choice = ToolChoice::Required;
            let chosen = tools.chosen(&choice).unwrap();
            let start = std::time::Instant::now();
            let format = CallFormat::named(format).unwrap();
            let made = grammar(format, &chosen, &choice, &tokenizer, prepare_value);
            assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
            let error = made.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("nesting"), "{error}");
        }
    }
}
