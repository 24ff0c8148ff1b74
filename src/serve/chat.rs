//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ask::keys::{Field, Keys};
use crate::ask::{AnswerMessage, FunctionCall, Item, finish_reason, parse};
use crate::generate::{Format, Outcome, Thinking};
use crate::text::Role;

use super::body::{self, Opening, Usage};
use super::error::ApiError;
use super::job::{Answers, Ask, Event, Token};
use super::logprobs::ChatLogprobs;
use super::state::{Begun, State, random};
use super::stream;

/// Answers of a request at most.
const MAX_ANSWERS: usize = 16;
/// Alternatives of a token at most.
const MAX_ALTERNATIVES: usize = 20;

/// What is asked.
struct Asked {
    item: Item,
    answers: usize,
    stream: bool,
    has_usage: bool,
    /// Alternatives, if log-probabilities are wanted.
    logprobs: Option<usize>,
}

/// An answer as a whole.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChatCompletion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
}

#[derive(Serialize, JsonSchema)]
struct ChatChoice {
    index: usize,
    message: AnswerMessage,
    logprobs: Option<ChatLogprobs>,
    finish_reason: &'static str,
}

/// A part of a streamed answer.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChatChunk {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<DeltaChoice>,
    /// Null but in the last part, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize, JsonSchema)]
struct DeltaChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

/// What is new in an answer.
#[derive(Default, Serialize, JsonSchema)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<FunctionCall>,
}

/// Answers a conversation.
pub(super) async fn complete(
    extract::State(state): extract::State<Arc<State>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let begun = state.begin();
    let asked = read(&state, &body)?;
    let (answers, logprobs) = (asked.answers, asked.logprobs);
    let (stream, has_usage) = (asked.stream, asked.has_usage);
    let ignored = asked.item.ignored.clone();
    let (begun, requests) = prepare(begun, asked).await?;
    let answers = (Answers::start(begun, requests)?, answers);
    let head = Head { state, id: format!("chatcmpl-{:016x}", random()), created: body::now(), logprobs };
    if stream {
        let response = stream::response(move |events| tell(events, head, answers, has_usage));
        return Ok(body::with_ignored(response, &ignored));
    }
    Ok(body::with_ignored(Json(collect(&head, answers).await?).into_response(), &ignored))
}

/// Reads a request.
fn read(state: &State, body: &[u8]) -> Result<Asked, ApiError> {
    let Opening { mut keys, stream, has_usage } = Opening::read(state, body)?;
    if matches!(state.prompts.format(), Format::Raw { .. }) {
        let message = "the model has no chat template: /v1/completions continues texts, and whoever runs the server can name \
            a template";
        return Err(ApiError::invalid(message).with_param("messages").with_code("no_chat_template"));
    }
    let answers = body::count(&mut keys, "n", 1, MAX_ANSWERS)?.unwrap_or(1);
    let wants_logprobs = body::flag(&mut keys, "logprobs")?;
    let top = body::count(&mut keys, "top_logprobs", 0, MAX_ALTERNATIVES)?;
    if top.is_some_and(|top| top > 0) && !wants_logprobs {
        return Err(ApiError::invalid("top_logprobs needs logprobs: true").with_param("top_logprobs"));
    }
    let logprobs = wants_logprobs.then(|| top.unwrap_or(0));
    let thinking = thinking(&mut keys)?;
    let mut item = parse::content(keys, Item::default())?;
    item.think = item.think.or(thinking);
    let Some(messages) = &item.messages else {
        return Err(ApiError::invalid("messages is missing; expected a list of role and content")
            .with_param("messages"));
    };
    let has_system = item.system.is_some() || messages.iter().any(|message| message.role == Role::System);
    if state.is_locked && has_system {
        let message = "the operator of this server has set the system prompt; leave yours out";
        return Err(ApiError::invalid(message).with_param("messages").with_code("system_locked"));
    }
    if item.raw {
        return Err(ApiError::invalid("raw is for /v1/completions").with_param("raw"));
    }
    Ok(Asked { item, answers, stream, has_usage, logprobs })
}

/// Whether the model thinks, by the names that other servers have for it.
fn thinking(keys: &mut Keys) -> Result<Option<Thinking>, ApiError> {
    let enabled = keys.take("enable_thinking").map(Field::flag).transpose()?;
    let effort = keys.take("reasoning_effort").map(|field| match field.value.as_str() {
        Some("none") => Ok(false),
        Some("minimal" | "low" | "medium" | "high" | "xhigh") => Ok(true),
        _ => Err(field.expected("none, minimal, low, medium, high or xhigh")),
    });
    let asked = enabled.or(effort.transpose()?);
    Ok(asked.map(|asked| if asked { Thinking::On } else { Thinking::Off }))
}

/// Turns what is asked into requests, away from the thread of the sockets.
async fn prepare(begun: Begun, asked: Asked) -> Result<(Begun, Vec<Ask>), ApiError> {
    body::apart(move || {
        let requests = (0..asked.answers).map(|at| {
            let mut item = asked.item.clone();
            item.seed = item.seed.map(|seed| seed.wrapping_add(at as u64));
            let mut prepared = begun.state.prepare(&item, &begun.cancel)?;
            prepared.request.logprobs = asked.logprobs;
            Ok(Ask::Answer(Box::new(prepared)))
        });
        let requests = requests.collect::<Result<_, ApiError>>()?;
        Ok((begun, requests))
    })
    .await
}

/// What all parts of a response have.
struct Head {
    state: Arc<State>,
    id: String,
    created: u64,
    logprobs: Option<usize>,
}

impl Head {
    fn logprobs(&self, tokens: &[Token]) -> Option<ChatLogprobs> {
        self.logprobs.map(|count| ChatLogprobs::new(tokens, count, self.state.engine.tokenizer()))
    }

    fn chunk(&self, choices: Vec<DeltaChoice>, usage: Option<Option<Usage>>) -> ChatChunk {
        let (created, model) = (self.created, self.state.model.id.clone());
        ChatChunk { id: self.id.clone(), object: "chat.completion.chunk", created, model, choices, usage }
    }
}

/// Waits for all answers.
async fn collect(head: &Head, (mut answers, count): (Answers, usize)) -> Result<ChatCompletion, ApiError> {
    let mut parts: Vec<(Vec<Token>, Option<Outcome>)> = (0..count).map(|_| (vec![], None)).collect();
    while let Some(event) = answers.next().await {
        match event? {
            (place, Event::Token(token)) if head.logprobs.is_some() => parts[place].0.push(token),
            (place, Event::End(outcome)) => parts[place].1 = Some(outcome),
            _ => {}
        }
    }
    let mut usage = Usage::default();
    let choices = parts.into_iter().enumerate().filter_map(|(index, (tokens, outcome))| {
        let outcome = outcome?;
        usage.add(&outcome, index == 0);
        let (message, finish_reason) = (message(&outcome), finish_reason(&outcome));
        Some(ChatChoice { index, message, logprobs: head.logprobs(&tokens), finish_reason })
    });
    let (choices, created, model) = (choices.collect(), head.created, head.state.model.id.clone());
    Ok(ChatCompletion { id: head.id.clone(), object: "chat.completion", created, model, choices, usage })
}

fn message(outcome: &Outcome) -> AnswerMessage {
    let mut message = AnswerMessage::new(outcome);
    message.tool_calls = message.tool_calls.into_iter().map(named).collect();
    message
}

/// Gives a call a name of its own, where the model's format has none: nine letters and digits, which is what formats
/// that have one expect.
fn named(call: FunctionCall) -> FunctionCall {
    let is_place = call.id.strip_prefix("call").is_some_and(|place| place.parse::<usize>().is_ok());
    if !is_place {
        return call;
    }
    let mut rest = random();
    let letters = (0..9).map(|_| {
        let letter = b"abcdefghijklmnopqrstuvwxyz0123456789"[(rest % 36) as usize];
        rest /= 36;
        char::from(letter)
    });
    FunctionCall { id: letters.collect(), ..call }
}

/// Sends the answers as they come.
async fn tell(events: stream::Events, head: Head, (mut answers, count): (Answers, usize), has_usage: bool) {
    let null = has_usage.then_some(None);
    let mut usage = Usage::default();
    let choice = |index, delta, finish_reason| DeltaChoice { index, delta, logprobs: None, finish_reason };
    let opening = || Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
    let first = (0..count).map(|index| choice(index, opening(), None)).collect();
    if !events.send(&head.chunk(first, null.clone())).await {
        return;
    }
    loop {
        let Some(event) = events.during(answers.next()).await else { return };
        let choices = match event {
            None => break,
            Some(Err(error)) => return events.fail(error).await,
            Some(Ok((_, Event::Scored(_)))) => continue,
            Some(Ok((index, Event::Token(token)))) => {
                let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
                let (content, reasoning_content) = (text(&token.text), text(&token.reasoning));
                if content.is_none() && reasoning_content.is_none() && head.logprobs.is_none() {
                    continue;
                }
                let delta = Delta { content, reasoning_content, ..Delta::default() };
                let logprobs = head.logprobs(std::slice::from_ref(&token));
                vec![DeltaChoice { logprobs, ..choice(index, delta, None) }]
            }
            Some(Ok((index, Event::End(outcome)))) => {
                usage.add(&outcome, index == 0);
                let calls = outcome.tool_calls.iter().enumerate().map(|(at, call)| {
                    choice(
                        index,
                        Delta {
                            tool_calls: vec![FunctionCall {
                                index: Some(at),
                                ..named(FunctionCall::new(call))
                            }],
                            ..Delta::default()
                        },
                        None,
                    )
                });
                for call in calls {
                    if !events.send(&head.chunk(vec![call], null.clone())).await {
                        return;
                    }
                }
                vec![choice(index, Delta::default(), Some(finish_reason(&outcome)))]
            }
        };
        if !events.send(&head.chunk(choices, null.clone())).await {
            return;
        }
    }
    if has_usage && !events.send(&head.chunk(vec![], Some(Some(usage)))).await {
        return;
    }
    events.done().await;
}
