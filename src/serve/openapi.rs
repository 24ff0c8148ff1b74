//! `/openapi.json`: what the server understands and answers, from the types of the handlers.
//!
//! Requests are read key by key, so that each mistake is named; their types here are their description, which a test
//! holds against what is read.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::Json;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::chat::{ChatChunk, ChatCompletion};
use super::completions::Completion;
use super::error::ErrorBody;
use super::models::{ModelList, ModelObject};
use super::tokens::{Detokenized, Tokenized, TokenizerInfo};

/// A conversation to be answered.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is read key by key")]
pub(super) struct ChatRequest {
    /// The messages, the oldest first.
    #[schemars(length(min = 1))]
    messages: Vec<RequestMessage>,
    #[schemars(flatten)]
    options: Options,
    /// Number of answers.
    #[schemars(range(min = 1, max = 16))]
    n: Option<u8>,
    /// Log-probabilities of the answer's tokens.
    logprobs: Option<bool>,
    /// Alternatives of each token; needs logprobs.
    #[schemars(range(min = 0, max = 20))]
    top_logprobs: Option<u8>,
    /// Most tokens of the answer; the same as max_tokens.
    max_completion_tokens: Option<u32>,
    /// Functions that the model may call.
    tools: Option<Vec<Map<String, Value>>>,
    /// auto, none, required, or which function.
    tool_choice: Option<Value>,
    /// Whether the model thinks: on, off, hide, true or false.
    think: Option<Value>,
    /// Whether the model thinks.
    enable_thinking: Option<bool>,
    /// none for no thinking.
    reasoning_effort: Option<Effort>,
    /// Variables of the chat template.
    chat_template_kwargs: Option<Map<String, Value>>,
    /// The same as chat_template_kwargs.
    template_vars: Option<Map<String, Value>>,
    /// What the model is told before the messages.
    system: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "see ChatRequest")]
enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
}

/// A message.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "see ChatRequest")]
struct RequestMessage {
    role: RequestRole,
    /// A text, or a list of parts of type text.
    content: Option<Value>,
    /// Of an assistant: what it thought.
    reasoning_content: Option<String>,
    /// Of an assistant: the functions it called.
    tool_calls: Option<Vec<Map<String, Value>>>,
    /// Of a tool: the call that this is the result of.
    tool_call_id: Option<String>,
    /// Of a tool: its name.
    name: Option<String>,
    /// Null.
    refusal: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "see ChatRequest")]
enum RequestRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// Texts to be continued or scored.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "see ChatRequest")]
pub(super) struct CompletionRequest {
    /// A text, a list of tokens, or a list of these.
    prompt: Value,
    #[schemars(flatten)]
    options: Options,
    /// Answers to each prompt.
    #[schemars(range(min = 1, max = 16))]
    n: Option<u8>,
    /// The same as n.
    #[schemars(range(min = 1, max = 16))]
    best_of: Option<u8>,
    /// Repeat the prompt before the answer; with logprobs its tokens are scored too.
    echo: Option<bool>,
    /// Log-probabilities, with so many alternatives.
    #[schemars(range(min = 0, max = 20))]
    logprobs: Option<u8>,
    /// Most tokens of the answer; the same as max_tokens.
    max_completion_tokens: Option<u32>,
}

/// How answers are made.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "see ChatRequest")]
struct Options {
    /// The model's name.
    model: Option<String>,
    /// Most tokens of the answer.
    max_tokens: Option<u32>,
    /// A text, or several, that end the answer.
    stop: Option<Value>,
    #[schemars(range(min = 0.0, max = 10.0))]
    temperature: Option<f32>,
    /// Most likely tokens that are drawn from; 0 or -1 for all.
    #[schemars(range(min = -1))]
    top_k: Option<i32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    top_p: Option<f32>,
    #[schemars(range(min = 0.0, max = 1.0))]
    min_p: Option<f32>,
    #[schemars(range(min = 0.01, max = 100.0))]
    repeat_penalty: Option<f32>,
    /// The same as repeat_penalty.
    #[schemars(range(min = 0.01, max = 100.0))]
    repetition_penalty: Option<f32>,
    #[schemars(range(min = -2.0, max = 2.0))]
    frequency_penalty: Option<f32>,
    #[schemars(range(min = -2.0, max = 2.0))]
    presence_penalty: Option<f32>,
    /// Added to the logits of tokens, by their ids.
    logit_bias: Option<BTreeMap<String, f32>>,
    /// Equal seeds give equal answers.
    seed: Option<u64>,
    /// Whether the answer is ended if it goes in circles.
    loop_guard: Option<bool>,
    /// Whether the answer is sent as it comes.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// What the answer must look like.
    response_format: Option<Map<String, Value>>,
    /// A JSON Schema that the answer matches.
    schema: Option<Value>,
    /// A regular expression that the answer matches.
    regex: Option<String>,
    /// A Lark grammar that the answer matches.
    grammar: Option<String>,
    /// Texts of which the answer is one.
    choices: Option<Vec<String>>,
    /// Changes nothing, as the keys below.
    user: Option<String>,
    metadata: Option<Map<String, Value>>,
    store: Option<bool>,
    service_tier: Option<String>,
    parallel_tool_calls: Option<bool>,
    safety_identifier: Option<String>,
    prompt_cache_key: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "see ChatRequest")]
struct StreamOptions {
    /// Whether the last part has the tokens that were used.
    include_usage: Option<bool>,
    /// Changes nothing.
    include_obfuscation: Option<bool>,
}

/// A text to be turned into tokens.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "see ChatRequest")]
struct TokenizeRequest {
    model: Option<String>,
    /// The text.
    prompt: Option<String>,
    /// The same as prompt.
    content: Option<String>,
    /// Whether the token that begins texts is added.
    add_special_tokens: Option<bool>,
    /// The same as add_special_tokens.
    add_special: Option<bool>,
    /// Whether the text of a control token is that token.
    parse_special: Option<bool>,
    /// Changes nothing.
    with_pieces: Option<bool>,
}

/// Tokens to be turned into a text.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "see ChatRequest")]
struct DetokenizeRequest {
    model: Option<String>,
    /// The tokens.
    tokens: Vec<u32>,
}

/// What a path answers.
struct Operation {
    path: &'static str,
    summary: &'static str,
    /// With a body.
    request: Option<Value>,
    /// What 200 has; null for text.
    response: Value,
    /// Of a stream.
    part: Option<Value>,
}

/// The document.
pub(super) async fn show() -> Json<&'static Value> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    Json(DOCUMENT.get_or_init(document))
}

fn document() -> Value {
    let settings = |mut settings: SchemaSettings| {
        settings.definitions_path = "/components/schemas".into();
        settings.into_generator()
    };
    let requests = settings(SchemaSettings::draft2020_12().for_deserialize());
    let responses = settings(SchemaSettings::draft2020_12().for_serialize());
    let mut schemas = Schemas { requests, responses };
    let mut paths = Map::new();
    let errors = schemas.response::<ErrorBody>();
    for operation in operations(&mut schemas) {
        let Operation { path, .. } = operation;
        let method = if operation.request.is_some() { "post" } else { "get" };
        paths.insert(path.to_owned(), json!({method: described(operation, &errors)}));
    }
    let mut definitions = schemas.requests.take_definitions(true);
    definitions.extend(schemas.responses.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "smolt",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A small language model on this computer, as OpenAI's interface has it.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    })
}

/// What may be left out differs: a response has a key with null where a request may have none.
struct Schemas {
    requests: SchemaGenerator,
    responses: SchemaGenerator,
}

impl Schemas {
    fn request<T: JsonSchema>(&mut self) -> Option<Value> {
        Some(self.requests.subschema_for::<T>().to_value())
    }

    fn response<T: JsonSchema>(&mut self) -> Value {
        self.responses.subschema_for::<T>().to_value()
    }
}

fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let get = |path, summary, response| Operation { path, summary, request: None, response, part: None };
    let status =
        json!({"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]});
    vec![
        get("/health", "Whether the server lives", status.clone()),
        get("/ready", "Whether the model can be asked", status),
        get("/metrics", "What was counted, in Prometheus' format", Value::Null),
        get("/v1/models", "Lists the model", schemas.response::<ModelList>()),
        get("/v1/models/{name}", "Shows the model", schemas.response::<ModelObject>()),
        Operation {
            request: schemas.request::<ChatRequest>(),
            part: Some(schemas.response::<ChatChunk>()),
            ..get("/v1/chat/completions", "Answers a conversation", schemas.response::<ChatCompletion>())
        },
        Operation {
            request: schemas.request::<CompletionRequest>(),
            part: Some(schemas.response::<Completion>()),
            ..get("/v1/completions", "Continues or scores texts", schemas.response::<Completion>())
        },
        Operation {
            request: schemas.request::<TokenizeRequest>(),
            ..get("/tokenize", "Turns a text into tokens", schemas.response::<Tokenized>())
        },
        Operation {
            request: schemas.request::<DetokenizeRequest>(),
            ..get("/detokenize", "Turns tokens into a text", schemas.response::<Detokenized>())
        },
        get("/tokenizer_info", "Shows what the vocabulary has", schemas.response::<TokenizerInfo>()),
    ]
}

fn described(operation: Operation, errors: &Value) -> Value {
    let Operation { path, summary, request, response, part } = operation;
    let json_of = |schema: &Value| json!({"application/json": {"schema": schema}});
    let mut content = match response {
        Value::Null => json!({"application/openmetrics-text": {"schema": {"type": "string"}}}),
        response => json_of(&response),
    };
    if let Some(part) = part {
        content["text/event-stream"] = json!({"schema": part});
    }
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({"description": "Done", "content": content}));
    let failures = [
        (400, "The request is wrong: param names the key", request.is_some()),
        (401, "A token is needed", true),
        (403, "The host or origin is not allowed", true),
        (404, "There is no such model", true),
        (408, "The request took too long", true),
        (413, "The body is too long", request.is_some()),
        (415, "The body is not application/json", request.is_some()),
        (429, "Too many requests wait: come back after Retry-After seconds", request.is_some()),
        (431, "The headers are too long", true),
        (500, "The program failed at this request", true),
        (503, "Nothing is answered at the moment", true),
    ];
    for (status, description, applies) in failures {
        if applies {
            let failure = json!({"description": description, "content": json_of(errors)});
            responses.insert(status.to_string(), failure);
        }
    }
    let mut described = json!({"summary": summary, "responses": responses});
    if let Some(request) = request {
        described["requestBody"] = json!({"required": true, "content": json_of(&request)});
    }
    if path.contains('{') {
        described["parameters"] =
            json!([{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}]);
    }
    described
}
