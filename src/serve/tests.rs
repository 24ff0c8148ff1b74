//! The handlers, without sockets, on the demo model.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use http_body::Body as _;
use serde_json::{Value, json};
use tower_service::Service;

use crate::ask::{Defaults, Item, Prompts, prepare};
use crate::generate::{CancelHandle, Done, Engine, Job, Origin, SamplerOptions, Slots};
use crate::load::{LoadOptions, Prepared};

use super::routes::router;
use super::state::{ModelCard, State};
use super::warm::{Warmth, warm};

const SLOTS: usize = 3;
const QUEUE: usize = 4;

fn prepared() -> Prepared {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo.gguf");
    let options =
        LoadOptions { slots: SLOTS, threads: Some(1), context: Some(256), ..LoadOptions::default() };
    Prepared::open(path, &options).unwrap()
}

fn state() -> State {
    let loaded = prepared().load().unwrap();
    let prompts = Prompts::new(loaded.format().unwrap(), Arc::clone(loaded.tokenizer()));
    // The queue of the slots is shorter than the engine's.
    let engine = Engine::start(loaded.slots(1).unwrap(), QUEUE).unwrap();
    let sampler = SamplerOptions::greedy();
    let defaults = Defaults { sampler, usual_tokens: Some(24), loop_guard: true, ..Defaults::default() };
    let card = ModelCard { id: "demo".to_owned(), aliases: vec!["file".to_owned()], ..ModelCard::default() };
    State::new(engine, prompts, defaults, card)
}

/// One server for all tests, as they run at once.
fn shared() -> Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    ROUTER.get_or_init(|| router(Arc::new(state()))).clone()
}

/// What came back, as it was sent.
async fn raw(mut router: Router, method: Method, path: &str, body: String) -> (StatusCode, String) {
    let request =
        Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let response = router.call(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (parts, mut body) = response.into_parts();
    let mut text = vec![];
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    (parts.status, String::from_utf8(text).unwrap())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn post(path: &str, body: Value) -> (StatusCode, Value) {
    let (status, text) = run(raw(shared(), Method::POST, path, body.to_string()));
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn chat(extra: Value) -> (StatusCode, Value) {
    let mut body = json!({"messages": [{"role": "user", "content": "Turn on the kitchen lights"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    post("/v1/chat/completions", body)
}

/// The events of a stream, without the last, which says that this was all.
fn events(text: &str) -> Vec<Value> {
    let mut lines: Vec<&str> = text.split("\n\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.pop(), Some("data: [DONE]"), "{text}");
    lines.iter().map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

#[test]
fn a_chat_is_answered_whole_and_in_parts_alike() {
    let (status, whole) = chat(json!({"model": "demo", "logprobs": true, "top_logprobs": 2}));
    assert_eq!(status, StatusCode::OK, "{whole}");
    let choice = &whole["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    assert_eq!(choice["finish_reason"], "stop");
    let usage = &whole["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    let scored = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(scored.len() as u64, usage["completion_tokens"].as_u64().unwrap());
    assert!(scored.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    let said: Vec<u8> = scored
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8))
        .collect();
    assert_eq!(String::from_utf8(said).unwrap(), text);

    let body = json!({"messages": [{"role": "user", "content": "Turn on the kitchen lights"}], "stream": true,
        "stream_options": {"include_usage": true}});
    let (status, streamed) = run(raw(shared(), Method::POST, "/v1/chat/completions", body.to_string()));
    assert_eq!(status, StatusCode::OK);
    let events = events(&streamed);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let parts = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(parts.collect::<String>(), text);
    let last = events.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(sum)));
    assert!(
        events[..events.len() - 1].iter().all(|event| event["usage"].is_null() && event["id"] == last["id"])
    );
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn several_answers_have_seeds_of_their_own() {
    let ask = || chat(json!({"n": 3, "temperature": 2.0, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 5})).1;
    let texts = |answer: &Value| -> Vec<String> {
        let choices = answer["choices"].as_array().unwrap();
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let (first, again) = (ask(), ask());
    assert_eq!(texts(&first), texts(&again));
    assert!(texts(&first)[0] != texts(&first)[1]);
}

#[test]
fn what_is_asked_for_and_cannot_be_done_is_named() {
    for (body, param, code) in [
        (json!({"temprature": 1}), "temprature", Value::Null),
        (json!({"temperature": "hot"}), "temperature", Value::Null),
        (json!({"n": 0}), "n", Value::Null),
        (json!({"n": 99}), "n", Value::Null),
        (json!({"top_logprobs": 3}), "top_logprobs", Value::Null),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", Value::Null),
        (json!({"stream_options": {"include_usage": true}}), "stream_options", Value::Null),
        (json!({"audio": {"voice": "a"}}), "audio", Value::Null),
        (json!({"function_call": "auto"}), "function_call", Value::Null),
        (json!({"temperature": -1}), "temperature", Value::Null),
        (json!({"top_p": 1.5}), "top_p", Value::Null),
        (json!({"max_tokens": -1}), "max_tokens", Value::Null),
        (json!({"seed": -1}), "seed", Value::Null),
        (json!({"tool_choice": "required"}), "tool_choice", Value::Null),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": "b"}),
            "tool_choice",
            Value::Null,
        ),
        (
            json!({"response_format": {"type": "json_object", "schema": {"type": "nothing"}}}),
            "response_format",
            Value::Null,
        ),
        (json!({"regex": "("}), "regex", Value::Null),
        (json!({"regex": "[a-z]{40,50}", "max_tokens": 3, "stream": true}), "max_tokens", Value::Null),
        (json!({"logit_bias": {"a": 1}}), "logit_bias", Value::Null),
        (json!({"frequency_penalty": 3}), "frequency_penalty", Value::Null),
        (json!({"model": "other"}), "model", json!("model_not_found")),
        (json!({"messages": []}), "messages", Value::Null),
        (
            json!({"messages": [{"role": "user", "content": "long ".repeat(900)}]}),
            "messages",
            json!("context_length_exceeded"),
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]}),
            "messages[0].content[0].type",
            Value::Null,
        ),
    ] {
        let (status, answer) = chat(body.clone());
        let error = &answer["error"];
        let expected = if code == json!("model_not_found") { 404 } else { 400 };
        assert_eq!(
            (status.as_u16(), &error["param"], &error["code"]),
            (expected, &json!(param), &code),
            "{body} {answer}"
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    for body in
        ["", "[1]", "{\"messages\": 1", "{\"n\": 1, \"n\": 2}", &"[".repeat(100_000), "{\"seed\": 1e999}"]
    {
        let (status, text) = run(raw(shared(), Method::POST, "/v1/chat/completions", body.to_owned()));
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    }
}

#[test]
fn a_text_is_scored_as_lm_eval_sums_it() {
    let (_, encoded) =
        post("/tokenize", json!({"prompt": "Turn on the lights", "add_special_tokens": false}));
    let tokens = encoded["tokens"].as_array().unwrap().clone();
    let (_, decoded) = post("/detokenize", json!({"tokens": tokens}));
    assert_eq!(decoded["prompt"], "Turn on the lights");
    let short = &tokens[..tokens.len() - 1];
    let body = |prompts: Value| json!({"model": "demo", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true});
    let (status, both) = post("/v1/completions", body(json!([tokens, short])));
    assert_eq!(status, StatusCode::OK, "{both}");
    let lists = |answer: &Value, index: usize| answer["choices"][index]["logprobs"].clone();
    for (index, prompt) in [tokens.as_slice(), short].iter().enumerate() {
        let (_, alone) = post("/v1/completions", body(json!([prompt])));
        let found = lists(&both, index);
        assert_eq!(lists(&alone, 0), found);
        for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(found[key].as_array().unwrap().len(), prompt.len() + 1, "{key}");
        }
        assert!(found["token_logprobs"][0].is_null() && found["top_logprobs"][0].is_null());
        for at in 1..=prompt.len() {
            let name = found["tokens"][at].as_str().unwrap();
            let top = found["top_logprobs"][at].as_object().unwrap();
            assert_eq!(top[name], found["token_logprobs"][at]);
            let most = top.values().map(|value| value.as_f64().unwrap()).fold(f64::NEG_INFINITY, f64::max);
            assert!(at < prompt.len() || top[name].as_f64() == Some(most), "the last is the likeliest");
        }
        let text: Vec<char> = both["choices"][index]["text"].as_str().unwrap().chars().collect();
        for at in 1..prompt.len() {
            let offset = |at: usize| found["text_offset"][at].as_u64().unwrap() as usize;
            let piece: String = text[offset(at)..offset(at + 1)].iter().collect();
            assert_eq!(piece, found["tokens"][at].as_str().unwrap());
        }
    }
    assert_eq!(both["usage"]["prompt_tokens"], 2 * tokens.len() - 1);
    // An end token that comes next is there too.
    let end = loaded_end();
    let mut ended = body(json!([tokens]));
    ended["logit_bias"] = json!({end.to_string(): 100});
    let (_, ended) = post("/v1/completions", ended);
    let found = lists(&ended, 0);
    assert_eq!(found["tokens"].as_array().unwrap().len(), tokens.len() + 1, "{ended}");
    assert_eq!(
        (&ended["choices"][0]["finish_reason"], &ended["choices"][0]["text"]),
        (&json!("stop"), &json!("Turn on the lights"))
    );
}

fn loaded_end() -> u32 {
    prepared().tokenizer().unwrap().end_ids()[0]
}

#[test]
fn prompts_go_on_with_and_without_their_beginning() {
    let (_, plain) = post("/v1/completions", json!({"prompt": "Turn on", "max_tokens": 4, "logprobs": 2}));
    let choice = &plain["choices"][0];
    assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), 4);
    assert_eq!(choice["finish_reason"], "length");
    let (_, echoed) = post(
        "/v1/completions",
        json!({"prompt": ["Turn on", "Open"], "max_tokens": 4, "echo": true, "n": 2}),
    );
    let texts: Vec<&str> =
        echoed["choices"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap()).collect();
    assert_eq!(texts.len(), 4);
    assert_eq!(texts[0], format!("Turn on{}", choice["text"].as_str().unwrap()));
    assert!(texts[2].starts_with("Open") && texts[0] == texts[1]);
    let body = json!({"prompt": "Turn on", "max_tokens": 4, "stream": true, "echo": true});
    let (_, text) = run(raw(shared(), Method::POST, "/v1/completions", body.to_string()));
    let parts = events(&text);
    let joined: String = parts.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(joined, texts[0]);
}

#[test]
fn a_prompt_that_is_too_long_is_told_so() {
    for prompt in [json!("long ".repeat(400)), json!("long ".repeat(9000)), json!(vec![30; 300])] {
        let (status, answer) = post("/v1/completions", json!({"prompt": prompt}));
        let error = &answer["error"];
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!("context_length_exceeded"), &json!("prompt")),
            "{error}"
        );
    }
}

#[test]
fn forms_and_functions_hold() {
    let schema = json!({"type": "object", "properties": {"room": {"enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}}, "required": ["room", "on"]});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    let (status, answer) = chat(json!({"response_format": format}));
    assert_eq!(status, StatusCode::OK, "{answer}");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    assert!(value["on"].is_boolean() && ["kitchen", "hall"].contains(&value["room"].as_str().unwrap()));
    let tools = json!([{"type": "function", "function": {"name": "set_light", "parameters": {"type": "object",
        "properties": {"on": {"type": "boolean"}}, "required": ["on"]}}}]);
    let asked = json!({"tools": tools, "tool_choice": "required"});
    let (status, answer) = chat(asked.clone());
    assert_eq!(status, StatusCode::OK, "{answer}");
    let message = &answer["choices"][0]["message"];
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
    assert!(message["content"].is_null());
    let call = &message["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("set_light")));
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["on"].is_boolean());
    let mut body =
        json!({"messages": [{"role": "user", "content": "Turn on the kitchen lights"}], "stream": true});
    body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
    let (_, text) = run(raw(shared(), Method::POST, "/v1/chat/completions", body.to_string()));
    let events = events(&text);
    let calls: Vec<&Value> =
        events.iter().map(|e| &e["choices"][0]["delta"]["tool_calls"]).filter(|c| c.is_array()).collect();
    assert_eq!(calls.len(), 1);
    assert_eq!((&calls[0][0]["index"], &calls[0][0]["function"]), (&json!(0), &call["function"]));
}

#[test]
fn a_request_that_nobody_waits_for_is_given_up() {
    let state = Arc::new(state());
    let router = router(Arc::clone(&state));
    run(async {
        let body = json!({"prompt": "Once", "regex": "[a-z ]{190,200}", "n": 4});
        let work = raw(router, Method::POST, "/v1/completions", body.to_string());
        let early = tokio::time::timeout(std::time::Duration::from_millis(30), work).await;
        assert!(early.is_err(), "200 tokens take longer: {early:?}");
        let start = std::time::Instant::now();
        while state.engine.load().running > 0 || state.engine.load().waiting > 0 {
            assert!(start.elapsed().as_millis() < 500, "{:?}", state.engine.load());
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(state.requests(), 0);
    });
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let state = Arc::new(state());
    let router = router(Arc::clone(&state));
    run(async {
        let body = || json!({"prompt": "Once", "regex": "[a-z ]{190,200}"}).to_string();
        let all: Vec<_> = (0..SLOTS + QUEUE + 2)
            .map(|_| tokio::spawn(raw(router.clone(), Method::POST, "/v1/completions", body())))
            .collect();
        let mut statuses = vec![];
        for one in all {
            let (status, text) = one.await.unwrap();
            assert!(status.is_success() || text.contains("rate_limit_exceeded"), "{text}");
            statuses.push(status.as_u16());
        }
        // All that were taken are answered, however short the queue of the slots is.
        let answered = statuses.iter().filter(|status| **status == 200).count();
        assert!(answered >= SLOTS + QUEUE && statuses.contains(&429), "{statuses:?}");
    });
}

/// The document's keys of requests are those that are read.
#[test]
fn the_document_describes_what_is_read() {
    let (status, text) = run(raw(shared(), Method::GET, "/openapi.json", String::new()));
    assert_eq!(status, StatusCode::OK);
    let document: Value = serde_json::from_str(&text).unwrap();
    let schemas = &document["components"]["schemas"];
    for (path, name) in [
        ("/v1/chat/completions", "ChatRequest"),
        ("/v1/completions", "CompletionRequest"),
        ("/tokenize", "TokenizeRequest"),
        ("/detokenize", "DetokenizeRequest"),
    ] {
        let reference =
            &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(reference["$ref"], format!("#/components/schemas/{name}"));
        let properties = schemas[name]["properties"].as_object().unwrap();
        assert!(properties.len() >= 2, "{properties:?}");
        for key in properties.keys() {
            // A wrong value is named as wrong, an unknown key as unknown.
            let (_, answer) = post(path, json!({key: {"no": ["such", "value"]}}));
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            assert!(!message.contains("unknown key"), "{path} {key}: {message}");
        }
        let (_, answer) = post(
            path,
            json!({"no_such_key": 1, "prompt": "a", "messages": [{"role": "user", "content": "a"}]}),
        );
        assert!(answer["error"].is_object(), "{path}");
    }
    let references = text.matches("\"$ref\":\"#/components/schemas/").count();
    let known = text.match_indices("\"$ref\":\"#/components/schemas/").filter(|(at, found)| {
        let name: String = text[at + found.len()..].chars().take_while(|c| *c != '"').collect();
        schemas.get(&name).is_some()
    });
    assert_eq!(known.count(), references);
}

/// A file that is removed with its value.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_system_prompt_is_read_once_for_all_starts() {
    let file = Scratch(std::env::temp_dir().join(format!("smolt-warm-{}", std::process::id())));
    let prepared = prepared();
    let loaded = prepared.load().unwrap();
    let format = loaded.format().unwrap();
    let start = |system: Option<&str>| {
        let slots = loaded.slots(QUEUE).unwrap();
        let identity = prepared.slots_identity(&slots, &format).unwrap();
        let origin = Origin { identity, model: "demo".to_owned(), source: String::new() };
        warm(slots, system, &format, &origin, Some(&file.0)).unwrap()
    };
    let system = Some("You are the guide of a museum, and answer in one sentence.");
    assert!(matches!(start(None).1, Warmth::Cold));
    let (_, first) = start(system);
    let Warmth::Read(tokens, None) = first else { panic!("{first:?}") };
    assert!(tokens > 10);
    let (slots, again) = start(system);
    assert!(matches!(again, Warmth::Restored(found) if found == tokens), "{again:?}");
    // What was restored is used, and gives what is computed without.
    let answer = |mut slots: Slots<'static>| {
        let prompts =
            Prompts::new(loaded.format().unwrap(), Arc::clone(loaded.tokenizer())).with_system(system);
        let item = Item { prompt: Some("When do you open?".to_owned()), ..Item::default() };
        let defaults = Defaults { sampler: SamplerOptions::greedy(), ..Defaults::default() };
        let asked = prepare(&prompts, &item, (256, 1), &defaults, &CancelHandle::new()).unwrap();
        slots.submit(Job::Generate(asked.request, Box::new(|_| ControlFlow::Continue(())))).unwrap();
        let mut found = None;
        while slots.step(&mut |_, done| found = done.ok()) {}
        match found {
            Some(Done::Generated(outcome)) => outcome,
            other => panic!("{other:?}"),
        }
    };
    let (warm, cold) = (answer(slots), answer(loaded.slots(QUEUE).unwrap()));
    assert_eq!((warm.cached_tokens, cold.cached_tokens), (tokens, 0));
    assert_eq!((warm.tokens, warm.logprob.map(f64::to_bits)), (cold.tokens, cold.logprob.map(f64::to_bits)));
    // Another system prompt, a damaged file, and one that is something else.
    let (_, other) = start(Some("Be brief, and say what the weather is like today."));
    assert!(matches!(other, Warmth::Read(_, None)), "{other:?}");
    assert!(matches!(start(system).1, Warmth::Read(..)));
    let mut bytes = std::fs::read(&file.0).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file.0, &bytes).unwrap();
    assert!(matches!(start(system).1, Warmth::Read(_, None)));
    assert!(matches!(start(system).1, Warmth::Restored(_)));
    std::fs::write(&file.0, "a letter").unwrap();
    assert!(matches!(start(system).1, Warmth::Read(_, Some(_))));
    assert_eq!(std::fs::read(&file.0).unwrap(), b"a letter");
}

#[test]
fn the_page_has_its_files() {
    let get = |path: &str| run(raw(shared(), Method::GET, path, String::new()));
    for path in ["/", "/kiosk.css", "/kiosk.js", "/kiosk-writing.js", "/kiosk.json", "/kiosk-theme.css"] {
        assert_eq!(get(path).0, StatusCode::OK, "{path}");
    }
    assert!(get("/").1.contains("<!doctype html>"));
    assert_eq!(get("/kiosk-logo").0, StatusCode::NOT_FOUND);
    assert_eq!(get("/texts.json").0, StatusCode::NOT_FOUND);
    assert_eq!(post("/kiosk.json", json!({})).0, StatusCode::METHOD_NOT_ALLOWED);
}
