//! From JSON to an item: our own keys, and the requests of OpenAI's interface.

use serde_json::{Map, Value, json};

use super::bias::MAX_BIASES;
use super::calls;
use super::item::Item;
use super::keys::{Field, KeyError, Keys, parse, shown};
use crate::generate::{OptionError, SamplerOptions};
use crate::text::{Message, Role};

/// What a line should look like.
const EXAMPLE: &str = r#"an object such as {"prompt": "..."}"#;
/// What a list of messages should look like.
const MESSAGES: &str = r#"a list such as [{"role": "user", "content": "..."}]"#;

/// Keys that change nothing here and are passed over.
const PASSED_OVER: [&str; 7] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
];

/// Keys of requests that are refused where they ask for something, and what is said then.
const REFUSED: [(&str, &str); 11] = [
    ("n", "1: an item has one answer; repeat the line for more"),
    ("best_of", "1: an item has one answer"),
    ("stream", "false: a line is written when its answer is complete"),
    ("logprobs", "false: the line has the sum, logprob"),
    ("top_logprobs", "0: the line has the sum of the chosen tokens, logprob"),
    ("echo", "false: the line has the answer alone"),
    ("suffix", "nothing: text cannot be filled in"),
    ("functions", "nothing: an item cannot call functions"),
    ("function_call", "none: an item cannot call functions"),
    ("modalities", "text alone"),
    ("audio", "nothing: the model writes text"),
];

/// Names from elsewhere, and what they are called here.
const HINTS: [(&str, &str); 15] = [
    ("max_new_tokens", "did you mean max_tokens?"),
    ("n_predict", "did you mean max_tokens?"),
    ("num_predict", "did you mean max_tokens?"),
    ("max_length", "did you mean max_tokens?"),
    ("stop_sequences", "did you mean stop?"),
    ("json_schema", "did you mean schema?"),
    ("guided_json", "did you mean schema?"),
    ("guided_regex", "did you mean regex?"),
    ("guided_choice", "did you mean choices?"),
    ("text", "expected prompt or messages"),
    ("input", "expected prompt or messages"),
    ("question", "expected prompt or messages"),
    ("instruction", "expected prompt or messages"),
    ("role", "expected messages, a list of role and content"),
    ("conversations", "expected messages, a list of role and content"),
];

/// Reads a line of a batch.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn item(line: &str) -> Result<Item, KeyError> {
    let map = match parse(line)? {
        Value::Object(map) => map,
        other => return Err(KeyError::Whole { found: shown(&other), expected: EXAMPLE }),
    };
    let mut keys = Keys::new(map);
    let id = keys.take_any(&["id", "custom_id"])?.map(|field| field.value);
    let Some(body) = keys.take("body") else {
        return content(keys, Item { id, ..Item::default() });
    };
    let method = keys.take("method").filter(|method| method.value != "POST");
    if let Some(method) = method {
        return Err(method.expected("\"POST\""));
    }
    let raw = match keys.take("url") {
        None => false,
        Some(url) => match url.value.as_str() {
            Some("/v1/chat/completions") => false,
            Some("/v1/completions") => true,
            _ => return Err(url.expected("\"/v1/chat/completions\" or \"/v1/completions\"")),
        },
    };
    keys.finish(&[])?;
    content(body.object("an object with messages")?, Item { id, raw, is_request: true, ..Item::default() })
}

/// Reads what is asked and how.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn content(mut keys: Keys, base: Item) -> Result<Item, KeyError> {
    let prompt = keys.take("prompt").map(prompt).transpose()?.or_else(|| base.prompt.clone());
    let messages = keys.take("messages").map(messages).transpose()?;
    let mut item = Item { prompt, messages, ..base };
    item.system = keys.take("system").map(Field::text).transpose()?;
    item.raw |= keys.take("raw").map(Field::flag).transpose()?.unwrap_or(false);
    let variables = keys.take_any(&["template_vars", "chat_template_kwargs"])?;
    item.template_vars = variables.map(|field| field.map("an object of names and values")).transpose()?;
    let max_tokens = keys.take_any(&["max_tokens", "max_completion_tokens"])?;
    item.max_tokens = max_tokens.map(Field::count).transpose()?;
    item.stop = keys.take("stop").map(Field::texts).transpose()?;
    item.temperature = keys.take("temperature").map(Field::number).transpose()?;
    item.top_k = keys.take("top_k").map(top_k).transpose()?;
    item.top_p = keys.take("top_p").map(Field::number).transpose()?;
    item.min_p = keys.take("min_p").map(Field::number).transpose()?;
    let penalty = keys.take_any(&["repeat_penalty", "repetition_penalty"])?;
    item.repeat_penalty = penalty.map(repeat_penalty).transpose()?;
    item.frequency_penalty = keys.take("frequency_penalty").map(penalty_of).transpose()?;
    item.presence_penalty = keys.take("presence_penalty").map(penalty_of).transpose()?;
    item.logit_bias = keys.take("logit_bias").map(biases).transpose()?.unwrap_or_default();
    item.seed = keys.take("seed").map(Field::whole).transpose()?;
    item.loop_guard = keys.take("loop_guard").map(Field::flag).transpose()?;
    calls::take(&mut keys, &mut item)?;
    form(&mut keys, &mut item)?;
    drop(keys.take("model"));
    item.ignored = PASSED_OVER.into_iter().filter(|key| keys.take(key).is_some()).collect();
    for (key, expected) in REFUSED {
        if let Some(field) = keys.take(key).filter(|field| !asks_for_nothing(key, &field.value)) {
            return Err(field.expected(expected));
        }
    }
    keys.finish(&HINTS)?;
    match (&item.prompt, &item.messages) {
        (None, None) if item.tokens.is_some() => Ok(item),
        (Some(_), Some(_)) => Err(KeyError::Both { key: "prompt".to_owned(), other: "messages".to_owned() }),
        (None, None) => {
            Err(KeyError::Missing { key: "prompt or messages".to_owned(), expected: "one of them" })
        }
        _ => Ok(item),
    }
}

fn prompt(field: Field) -> Result<String, KeyError> {
    match &field.value {
        Value::String(text) if text.trim().is_empty() => Err(field.expected("a text that is not empty")),
        Value::String(_) => field.text(),
        _ => Err(field.expected("one text; several prompts are several lines")),
    }
}

/// -1 is another runner's word for all.
fn top_k(field: Field) -> Result<usize, KeyError> {
    if field.value.as_i64() == Some(-1) { Ok(0) } else { field.count() }
}

/// A repetition penalty, by the name that was written.
fn repeat_penalty(field: Field) -> Result<f32, KeyError> {
    let (wrong, key) = (field.value.clone(), field.path.clone());
    let repeat_penalty = field.number()?;
    let options = SamplerOptions { repeat_penalty, ..SamplerOptions::greedy() };
    let expected = |error: OptionError| Field { path: key, value: wrong }.expected(error.allowed);
    options.validate().map(|()| repeat_penalty).map_err(expected)
}

/// A penalty of OpenAI's interface.
fn penalty_of(field: Field) -> Result<f32, KeyError> {
    let error = field.expected("a number from -2 to 2");
    field.number().ok().filter(|value| (-2.0..=2.0).contains(value)).ok_or(error)
}

/// Token ids as keys, biases as values.
fn biases(field: Field) -> Result<Vec<(u32, f32)>, KeyError> {
    let expected = "an object of at most 1024 token ids and numbers from -100 to 100, such as {\"42\": -100}";
    let error = field.expected(expected);
    let Value::Object(map) = field.value else { return Err(error) };
    if map.len() > MAX_BIASES {
        return Err(error);
    }
    let bias = |(id, value): (&String, &Value)| {
        let value = value.as_f64().filter(|value| (-100.0..=100.0).contains(value))?;
        Some((id.parse().ok()?, value as f32))
    };
    map.iter().map(bias).collect::<Option<_>>().ok_or(error)
}

fn messages(field: Field) -> Result<Vec<Message>, KeyError> {
    if field.value.as_array().is_some_and(Vec::is_empty) {
        return Err(field.expected(MESSAGES));
    }
    let mut messages: Vec<Message> =
        field.list(MESSAGES)?.into_iter().map(message).collect::<Result<_, _>>()?;
    calls::match_results(&mut messages);
    Ok(messages)
}

fn message(field: Field) -> Result<Message, KeyError> {
    let mut keys = field.object(r#"an object such as {"role": "user", "content": "..."}"#)?;
    let role = keys.need("role", "system, user or assistant")?;
    let role = match role.value.as_str() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        _ => return Err(role.expected("system, developer, user, assistant or tool")),
    };
    let tool_calls = if role == Role::Assistant { keys.take("tool_calls") } else { None };
    let tool_calls = tool_calls.map(calls::calls).transpose()?.unwrap_or_default();
    let reasoning = if role == Role::Assistant { keys.take("reasoning_content") } else { None };
    let reasoning = reasoning.map(Field::text).transpose()?;
    let result_of = match role {
        Role::Tool => {
            let mut text = |key| keys.take(key).map(Field::text).transpose().map(Option::unwrap_or_default);
            Some((text("tool_call_id")?, text("name")?))
        }
        _ => None,
    };
    let base = Message { reasoning, tool_calls, result_of, ..Message::new(role, "") };
    if !base.tool_calls.is_empty() && !keys.has("content") {
        drop(keys.take("content"));
        keys.finish(&[])?;
        return Ok(base);
    }
    let content = keys.need("content", "a text")?;
    let content = match content.value {
        Value::Array(_) => content.list("")?.into_iter().map(part).collect::<Result<String, _>>()?,
        _ => content.text()?,
    };
    for (key, expected) in
        [("name", "nothing: chat templates have no names of speakers"), ("refusal", "nothing")]
    {
        if let Some(field) = keys.take(key) {
            return Err(field.expected(expected));
        }
    }
    keys.finish(&[])?;
    Ok(Message { content, ..base })
}

/// Reads a part of a message's content.
fn part(field: Field) -> Result<String, KeyError> {
    let mut keys = field.object(r#"an object such as {"type": "text", "text": "..."}"#)?;
    let kind = keys.need("type", "\"text\"")?;
    if kind.value != "text" {
        return Err(kind.expected("\"text\": the model reads nothing else"));
    }
    let text = keys.need("text", "a text")?.text()?;
    keys.finish(&[])?;
    Ok(text)
}

/// Reads what the answer must look like.
fn form(keys: &mut Keys, item: &mut Item) -> Result<(), KeyError> {
    item.schema = keys.take("schema").map(schema).transpose()?;
    item.regex = keys.take("regex").map(Field::text).transpose()?;
    item.grammar = keys.take("grammar").map(Field::text).transpose()?;
    let texts = |field: Field| field.list("a list of texts")?.into_iter().map(Field::text).collect();
    item.choices = keys.take("choices").map(texts).transpose()?;
    let Some(format) = keys.take("response_format") else { return two_forms(item) };
    let path = format.path.clone();
    let asked = response_schema(format)?;
    if asked.is_some() && item.schema.is_some() {
        return Err(KeyError::Both { key: "schema".to_owned(), other: path });
    }
    item.schema = asked.or(item.schema.take());
    two_forms(item)
}

fn two_forms(item: &Item) -> Result<(), KeyError> {
    let given = [
        ("schema", item.schema.is_some()),
        ("regex", item.regex.is_some()),
        ("grammar", item.grammar.is_some()),
        ("choices", item.choices.is_some()),
        ("tools", item.tools.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name.to_owned());
    match (given.next(), given.next()) {
        (Some(key), Some(other)) => Err(KeyError::Both { key, other }),
        _ => Ok(()),
    }
}

fn schema(field: Field) -> Result<Value, KeyError> {
    match field.value {
        Value::Object(_) | Value::Bool(_) => Ok(field.value),
        _ => Err(field.expected("a JSON Schema, an object")),
    }
}

/// Reads `response_format`.
fn response_schema(field: Field) -> Result<Option<Value>, KeyError> {
    let mut keys = field.object(r#"an object such as {"type": "json_object"}"#)?;
    let kind = keys.need("type", "text, json_object or json_schema")?;
    match kind.value.as_str() {
        Some("text") => keys.finish(&[]).map(|()| None),
        Some("json_object") => {
            let given = keys.take("schema").map(schema).transpose()?;
            keys.finish(&[])?;
            Ok(Some(given.unwrap_or_else(|| json!({"type": "object"}))))
        }
        Some("json_schema") => {
            let mut inner = match keys.take("json_schema") {
                Some(inner) => {
                    keys.finish(&[])?;
                    inner.object("an object with name and schema")?
                }
                None => keys,
            };
            let found = schema(inner.need("schema", "a JSON Schema, an object")?)?;
            for key in ["name", "description", "strict"] {
                drop(inner.take(key));
            }
            inner.finish(&[])?;
            Ok(Some(found))
        }
        _ => Err(kind.expected("text, json_object or json_schema")),
    }
}

/// Whether a key of [`REFUSED`] has a value that changes nothing.
fn asks_for_nothing(key: &str, value: &Value) -> bool {
    match value {
        Value::Bool(asks) => !asks,
        Value::Number(number) => {
            number.as_f64() == Some(if matches!(key, "n" | "best_of") { 1.0 } else { 0.0 })
        }
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(items) => items.is_empty() || (key == "modalities" && items == &[json!("text")]),
        Value::Object(map) => map.is_empty(),
        Value::Null => true,
    }
}

/// Finds the id of a line that is no item, perhaps no JSON.
pub(crate) fn find_id(line: &str) -> Option<Value> {
    if let Ok(map) = serde_json::from_str::<Map<String, Value>>(line) {
        return ["id", "custom_id"].iter().find_map(|key| map.get(*key).filter(|id| !id.is_null()).cloned());
    }
    ["\"id\"", "\"custom_id\""].iter().find_map(|key| {
        let after = &line[line.find(key)? + key.len()..];
        let value = after.trim_start().strip_prefix(':')?;
        let value = serde_json::Deserializer::from_str(value).into_iter::<Value>().next()?.ok()?;
        (value.is_string() || value.is_number()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Thinking, ToolChoice};

    #[test]
    fn requests_of_openai_are_understood() {
        let found = item(
            r#"{"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "any",
            "messages": [{"role": "developer", "content": "Be kind."},
                {"role": "user", "content": [{"type": "text", "text": "How "}, {"type": "text", "text": "far?"}]}],
            "max_completion_tokens": 5.0, "stop": null, "temperature": null, "top_k": -1, "seed": 18446744073709551615,
            "n": 1, "tools": [], "tool_choice": "auto", "think": "hide", "stream": false, "metadata": {"a": 1},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "string"}}}}}"#,
        );
        let found = found.unwrap();
        let messages = found.messages.unwrap();
        let said: Vec<_> = messages.iter().map(|message| (message.role, message.content.as_str())).collect();
        assert_eq!(said, [(Role::System, "Be kind."), (Role::User, "How far?")]);
        assert_eq!((found.id.unwrap(), found.is_request, found.raw), (json!("r1"), true, false));
        assert_eq!((found.max_tokens, found.top_k, found.stop), (Some(5), Some(0), None));
        assert_eq!((found.seed, found.schema), (Some(u64::MAX), Some(json!({"type": "string"}))));
        let completion =
            item(r#"{"custom_id": 1, "url": "/v1/completions", "body": {"prompt": "a", "stop": "b"}}"#);
        let completion = completion.unwrap();
        assert_eq!((completion.raw, completion.stop), (true, Some(vec!["b".to_owned()])));
        let object = item(r#"{"prompt": "a", "response_format": {"type": "json_object"}}"#).unwrap();
        assert_eq!(object.schema, Some(json!({"type": "object"})));
        assert_eq!(item(r#"{"prompt": "a", "response_format": {"type": "text"}}"#).unwrap().schema, None);
    }

    #[test]
    fn functions_calls_and_results_are_read() {
        let found = item(
            r#"{"tools": [{"type": "function", "function": {"name": "f"}}], "think": false,
            "tool_choice": {"type": "function", "function": {"name": "f"}}, "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                    {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1}"}},
                    {"name": "g", "arguments": {}}]},
                {"role": "tool", "tool_call_id": "x", "content": "1"}, {"role": "tool", "content": "2"}]}"#,
        );
        let found = found.unwrap();
        assert_eq!((found.think, found.tool_choice), (Some(Thinking::Off), Some(ToolChoice::named("f"))));
        assert!(found.tools.is_some());
        let messages = found.messages.unwrap();
        let call = &messages[1].tool_calls[0];
        assert_eq!(
            (call.id.as_str(), &call.arguments["b"], messages[1].reasoning.as_deref()),
            ("x", &json!(1), Some("hm"))
        );
        let of = |at: usize| messages[at].result_of.clone().unwrap();
        assert_eq!(of(2), ("x".to_owned(), "f".to_owned()));
        assert_eq!(of(3), ("call00001".to_owned(), "g".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (line, expected) in [
            (r#"{"prompt": "a", "think": 1}"#, "think is 1; expected on, off, hide"),
            (r#"{"prompt": "a", "tool_choice": 1}"#, "tool_choice is 1; expected auto"),
            (r#"{"prompt": "a", "tools": [{"name": "f"}], "regex": "a"}"#, "regex and tools"),
            (
                r#"{"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "x"}]}]}"#,
                "messages[0].tool_calls[0] is",
            ),
            (
                r#"{"prompt": "a", "max_new_tokens": 4}"#,
                r#"unknown key "max_new_tokens"; did you mean max_tokens?"#,
            ),
            (
                r#"{"prompt": "a", "max_tokens": "5"}"#,
                r#"max_tokens is "5"; expected a whole number from 0 on"#,
            ),
            (
                r#"{"prompt": "a", "max_tokens": 1, "max_completion_tokens": 1}"#,
                "max_tokens and max_completion_tokens",
            ),
            (r#"{"prompt": "a", "seed": -1}"#, "seed is -1"),
            (r#"{"prompt": ["a", "b"]}"#, "several prompts are several lines"),
            (r#"{"prompt": " "}"#, "not empty"),
            (r#"{"prompt": "a", "n": 2}"#, "n is 2; expected 1"),
            (r#"{"prompt": "a", "tools": [{"type": "function"}]}"#, "tools is"),
            (r#"{"prompt": "a", "schema": "file.json"}"#, r#"schema is "file.json"; expected a JSON Schema"#),
            (r#"{"prompt": "a", "regex": "a", "choices": ["a"]}"#, "regex and choices"),
            (r#"{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}"#, "prompt and messages"),
            (r#"{"messages": []}"#, "messages is []"),
            (
                r#"{"messages": [{"role": "User", "content": "a"}]}"#,
                r#"messages[0].role is "User"; expected system"#,
            ),
            (r#"{"messages": [{"role": "user", "content": null}]}"#, "messages[0].content is missing"),
            (
                r#"{"url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}}"#,
                r#"body.messages[0].content[0].type is "image_url""#,
            ),
            (r#"{"url": "/v1/embeddings", "body": {}}"#, "url is"),
            (r#"{"body": {"max_tokens": 1}}"#, "prompt or messages is missing"),
            (
                r#"{"body": {"messages": [{"role": "user", "content": "a"}], "temprature": 1}}"#,
                r#"body."temprature""#,
            ),
            (r#"{"prompt": "a", "id": 1, "id": 2}"#, r#"the key "id" is there twice"#),
            (r#"{"conversations": []}"#, "expected messages"),
            ("[1, 2]", "found [1,2], expected an object such as"),
            ("\"text\"", "found \"text\""),
            ("hello", "wrong JSON at column 1"),
        ] {
            let error = item(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn ids_are_found_in_lines_that_are_no_items() {
        for (line, id) in [
            (r#"{"id": "a", "temprature": 1}"#, Some(json!("a"))),
            (r#"{"custom_id": 7, "body": {}}"#, Some(json!(7))),
            (r#"{"id": "b", "prompt": "not closed"#, Some(json!("b"))),
            (r#"{"prompt": "\ud83d", "custom_id":"c"}"#, Some(json!("c"))),
            (r#"{"id": "cut"#, None),
            ("[1]", None),
        ] {
            assert_eq!(find_id(line), id, "{line}");
        }
    }
}
