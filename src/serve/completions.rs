//! `/v1/completions`: prompts without chat template, their continuation, and how likely they are.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::ask::keys::{Field, Keys};
use crate::ask::{Item, Prepared, finish_reason, parse};
use crate::generate::Outcome;
use crate::text::Tokenizer;

use super::body::{self, Opening, Usage};
use super::error::ApiError;
use super::job::{Answers, Ask, Event, Scores, Token};
use super::logprobs::CompletionLogprobs;
use super::state::{Begun, State, random};
use super::{stream, tokens};

/// Prompts of a request at most, and answers.
const MAX_PROMPTS: usize = 256;
/// Answers to a prompt at most.
const MAX_ANSWERS: usize = 16;
/// Alternatives of a token at most.
const MAX_ALTERNATIVES: usize = 20;

/// A prompt as it was given.
#[derive(Clone)]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// What is asked.
struct Asked {
    prompts: Vec<Prompt>,
    /// All but the prompt.
    item: Item,
    answers: usize,
    echo: bool,
    logprobs: Option<usize>,
    stream: bool,
    has_usage: bool,
}

/// Answers as a whole, or a part of streamed ones.
#[derive(Serialize, JsonSchema)]
pub(super) struct Completion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<Choice>,
    /// Null or absent in parts but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize, JsonSchema)]
struct Choice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<&'static str>,
}

/// A prompt that is worked on.
struct Line {
    /// The text that an echo has.
    text: String,
    /// The tokens, without a beginning that was only added.
    tokens: Vec<u32>,
    /// Tokens that were added before them.
    added: usize,
    /// Its scores and the likeliest next token are the answer.
    is_scored: bool,
    scores: Vec<(u32, Scores)>,
    answers: Vec<(Vec<Token>, Option<Outcome>)>,
}

/// What an ask is for: a prompt, and which of its answers; its scores without.
type Place = (usize, Option<usize>);

/// Continues or scores prompts.
pub(super) async fn complete(
    extract::State(state): extract::State<Arc<State>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let begun = state.begin();
    let asked = read(&state, &body)?;
    let (stream, has_usage, echo, logprobs) = (asked.stream, asked.has_usage, asked.echo, asked.logprobs);
    let ignored = asked.item.ignored.clone();
    let (begun, asks, places, lines) = prepare(begun, asked).await?;
    let answers = Answers::start(begun, asks)?;
    let id = format!("cmpl-{:016x}", random());
    let head = Head { state, id, created: body::now(), echo, logprobs };
    let work = Work { answers, places, lines };
    if stream {
        let response = stream::response(move |events| tell(events, head, work, has_usage));
        return Ok(body::with_ignored(response, &ignored));
    }
    Ok(body::with_ignored(Json(collect(&head, work).await?).into_response(), &ignored))
}

/// Reads a request.
fn read(state: &State, body: &[u8]) -> Result<Asked, ApiError> {
    let Opening { mut keys, stream, has_usage } = Opening::read(state, body)?;
    let answers = body::count(&mut keys, "n", 1, MAX_ANSWERS)?.unwrap_or(1);
    let best_of = body::count(&mut keys, "best_of", 1, MAX_ANSWERS)?;
    if best_of.is_some_and(|best_of| best_of != answers) {
        return Err(ApiError::invalid("best_of has to be n: all answers are returned").with_param("best_of"));
    }
    let echo = body::flag(&mut keys, "echo")?;
    let logprobs = body::count(&mut keys, "logprobs", 0, MAX_ALTERNATIVES)?;
    if echo && stream && logprobs.is_some() {
        return Err(ApiError::invalid("logprobs of an echo cannot be streamed").with_param("stream"));
    }
    let prompts = prompts(&mut keys, state.engine.tokenizer())?;
    if prompts.len() * answers > MAX_PROMPTS {
        let message = format!(
            "{} prompts with {answers} answers each; expected at most {MAX_PROMPTS} answers",
            prompts.len()
        );
        return Err(ApiError::invalid(message).with_param("n"));
    }
    let base = Item { raw: true, tokens: Some(vec![]), ..Item::default() };
    let item = parse::content(keys, base)?;
    if item.messages.is_some() {
        return Err(ApiError::invalid("messages are for /v1/chat/completions").with_param("messages"));
    }
    if item.system.is_some() {
        return Err(ApiError::invalid("system is for /v1/chat/completions").with_param("system"));
    }
    Ok(Asked { prompts, item, answers, echo, logprobs, stream, has_usage })
}

/// Reads a prompt or several: texts, or lists of tokens.
fn prompts(keys: &mut Keys, tokenizer: &Tokenizer) -> Result<Vec<Prompt>, ApiError> {
    let Some(field) = keys.take("prompt") else {
        return Err(ApiError::invalid("prompt is missing; expected a text or a list").with_param("prompt"));
    };
    let one = |field: Field| match field.value {
        Value::String(text) if !text.is_empty() => Ok(Prompt::Text(text)),
        Value::Array(ref list) if !list.is_empty() => tokens::ids(field, tokenizer).map(Prompt::Tokens),
        _ => Err(field.expected("a text or a list of tokens, not empty").into()),
    };
    let is_list = |value: &Value| value.is_string() || value.is_array();
    let Value::Array(list) = &field.value else { return Ok(vec![one(field)?]) };
    if !list.first().is_some_and(is_list) {
        return Ok(vec![one(field)?]);
    }
    if list.len() > MAX_PROMPTS {
        return Err(field.expected(format!("at most {MAX_PROMPTS} prompts")).into());
    }
    field.list("texts or lists of tokens")?.into_iter().map(one).collect()
}

/// Turns what is asked into requests, away from the thread of the sockets.
async fn prepare(begun: Begun, asked: Asked) -> Result<(Begun, Vec<Ask>, Vec<Place>, Vec<Line>), ApiError> {
    body::apart(move || {
        let (mut asks, mut places, mut lines) = (vec![], vec![], vec![]);
        for (index, prompt) in asked.prompts.iter().enumerate() {
            let mut first = request(&begun, &asked, prompt, 0)?;
            let line = line(&begun.state, &asked, prompt, &first);
            let tokens = first.request.prompt.to_vec();
            if line.is_scored || (asked.echo && asked.logprobs.is_some() && tokens.len() > 1) {
                let alternatives = asked.logprobs.unwrap_or(0);
                let filter = if line.is_scored { first.request.filter.take() } else { None };
                asks.push(Ask::Score { tokens, next: line.is_scored, alternatives, filter });
                places.push((index, None));
            }
            if !line.is_scored {
                asks.push(Ask::Answer(Box::new(first)));
                places.push((index, Some(0)));
                for answer in 1..asked.answers {
                    asks.push(Ask::Answer(Box::new(request(&begun, &asked, prompt, answer)?)));
                    places.push((index, Some(answer)));
                }
            }
            lines.push(line);
        }
        Ok((begun, asks, places, lines))
    })
    .await
}

/// The request for an answer to a prompt.
fn request(begun: &Begun, asked: &Asked, prompt: &Prompt, answer: usize) -> Result<Prepared, ApiError> {
    let mut item = asked.item.clone();
    match prompt {
        Prompt::Text(text) => (item.prompt, item.tokens) = (Some(text.clone()), None),
        Prompt::Tokens(tokens) => item.tokens = Some(tokens.clone()),
    }
    item.seed = item.seed.map(|seed| seed.wrapping_add(answer as u64));
    let mut prepared = begun.state.prepare(&item, &begun.cancel)?;
    prepared.request.logprobs = asked.logprobs;
    Ok(prepared)
}

fn line(state: &State, asked: &Asked, prompt: &Prompt, first: &Prepared) -> Line {
    let tokenizer = state.engine.tokenizer();
    let request = &first.request;
    let text = match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Tokens(tokens) => pieces(tokens, tokenizer),
    };
    let bos = tokenizer.bos().filter(|bos| request.prompt.first() == Some(bos));
    let is_own = |bos: u32| match prompt {
        Prompt::Text(text) => text.as_bytes().starts_with(tokenizer.piece(bos)),
        Prompt::Tokens(_) => true,
    };
    let added = usize::from(bos.is_some_and(|bos| !is_own(bos)));
    // A scoring client wants the token that ends the text too, which no answer has.
    let is_likeliest = request.sampler.temperature == 0.0 && first.choices.is_none();
    let is_scored = asked.echo
        && asked.logprobs.is_some()
        && asked.answers == 1
        && request.max_tokens == Some(1)
        && is_likeliest;
    let tokens = request.prompt[added..].to_vec();
    let answers = (0..asked.answers).map(|_| (vec![], None)).collect();
    Line { text, tokens, added, is_scored, scores: vec![], answers }
}

fn pieces(tokens: &[u32], tokenizer: &Tokenizer) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|id| tokenizer.piece(*id)).copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What all parts of a response have.
struct Head {
    state: Arc<State>,
    id: String,
    created: u64,
    echo: bool,
    logprobs: Option<usize>,
}

/// Answers under way.
struct Work {
    answers: Answers,
    /// Of each ask.
    places: Vec<Place>,
    lines: Vec<Line>,
}

/// Characters of a text, by the pieces it is made of.
struct Offsets {
    begun: usize,
    /// Characters that the tokens have before the text.
    lead: usize,
}

impl Offsets {
    /// Where the next piece begins.
    fn next(&mut self, piece: &[u8]) -> usize {
        let offset = self.begun.saturating_sub(self.lead);
        self.begun += piece.iter().filter(|byte| *byte & 0xC0 != 0x80).count();
        offset
    }
}

impl Head {
    fn whole(&self, choices: Vec<Choice>, usage: Option<Option<Usage>>) -> Completion {
        let (created, model) = (self.created, self.state.model.id.clone());
        Completion { id: self.id.clone(), object: "text_completion", created, model, choices, usage }
    }

    /// An answer of a prompt, with the prompt where that is wanted.
    fn choice(&self, line: &Line, index: usize, answer: usize) -> Option<(Choice, Usage)> {
        let tokenizer = self.state.engine.tokenizer();
        let (tokens, outcome) = &line.answers[answer];
        let mut usage = Usage::default();
        let (said, finish) = if line.is_scored {
            let (id, _) = line.scores.last()?;
            usage.completion_tokens = 1;
            usage.prompt_tokens = line.tokens.len() + line.added;
            usage.total_tokens = usage.prompt_tokens + 1;
            let is_end = tokenizer.is_end(*id);
            let said = if is_end { String::new() } else { pieces(&[*id], tokenizer) };
            (said, if is_end { "stop" } else { "length" })
        } else {
            let outcome = outcome.as_ref()?;
            usage.add(outcome, answer == 0);
            (outcome.text.clone(), finish_reason(outcome))
        };
        let text = if self.echo { format!("{}{said}", line.text) } else { said };
        let logprobs = self.logprobs.map(|count| self.measure(line, tokens, count));
        Some((Choice { index, text, logprobs, finish_reason: Some(finish) }, usage))
    }

    fn measure(&self, line: &Line, tokens: &[Token], count: usize) -> CompletionLogprobs {
        let tokenizer = self.state.engine.tokenizer();
        let mut found = CompletionLogprobs::default();
        let first = line.tokens.first().filter(|_| self.echo);
        let is_led = |id: &u32| tokenizer.piece(*id).starts_with(b" ") && !line.text.starts_with(' ');
        let mut offsets = Offsets { begun: 0, lead: usize::from(first.is_some_and(is_led)) };
        if let Some(first) = first {
            found.push((*first, None), count, offsets.next(tokenizer.piece(*first)), tokenizer);
            for (id, scores) in line.scores.iter().skip(line.added) {
                found.push((*id, Some(scores)), count, offsets.next(tokenizer.piece(*id)), tokenizer);
            }
        }
        for token in tokens {
            if let (Some(id), Some(scores)) = (token.id, &token.logprobs) {
                found.push((id, Some(scores)), count, offsets.next(tokenizer.piece(id)), tokenizer);
            }
        }
        found
    }
}

/// Waits for all answers.
async fn collect(head: &Head, work: Work) -> Result<Completion, ApiError> {
    let Work { mut answers, places, mut lines } = work;
    while let Some(event) = answers.next().await {
        let (ask, event) = event?;
        let (line, answer) = places[ask];
        match (event, answer) {
            (Event::Scored(scores), _) => lines[line].scores = scores,
            (Event::Token(token), Some(answer)) if head.logprobs.is_some() => {
                lines[line].answers[answer].0.push(token);
            }
            (Event::End(outcome), Some(answer)) => lines[line].answers[answer].1 = Some(outcome),
            _ => {}
        }
    }
    let (mut usage, mut choices) = (Usage::default(), vec![]);
    for line in &lines {
        for answer in 0..line.answers.len() {
            if let Some((choice, used)) = head.choice(line, choices.len(), answer) {
                choices.push(choice);
                usage.merge(&used);
            }
        }
    }
    Ok(head.whole(choices, Some(Some(usage))))
}

/// Sends the answers as they come.
async fn tell(events: stream::Events, head: Head, work: Work, has_usage: bool) {
    let Work { mut answers, places, lines } = work;
    let per_line = lines.first().map_or(1, |line| line.answers.len());
    let null = has_usage.then_some(None);
    let mut usage = Usage::default();
    if head.echo {
        let echo = |(at, line): (usize, &Line)| {
            let (first, text) = (at * per_line, line.text.clone());
            (first..first + per_line).map(move |index| Choice {
                index,
                text: text.clone(),
                logprobs: None,
                finish_reason: None,
            })
        };
        let choices = lines.iter().enumerate().flat_map(echo).collect();
        if !events.send(&head.whole(choices, null.clone())).await {
            return;
        }
    }
    loop {
        let Some(event) = events.during(answers.next()).await else { return };
        let (ask, event) = match event {
            None => break,
            Some(Err(error)) => return events.fail(error).await,
            Some(Ok(event)) => event,
        };
        let (line, Some(answer)) = places[ask] else { continue };
        let index = line * per_line + answer;
        let choice = match event {
            Event::Token(token) if !token.text.is_empty() || head.logprobs.is_some() => {
                let logprobs = head.logprobs.map(|count| {
                    let mut found = CompletionLogprobs::default();
                    if let (Some(id), Some(scores)) = (token.id, &token.logprobs) {
                        found.push((id, Some(scores)), count, 0, head.state.engine.tokenizer());
                    }
                    found
                });
                Choice { index, text: token.text, logprobs, finish_reason: None }
            }
            Event::End(outcome) => {
                usage.add(&outcome, answer == 0);
                let finish_reason = Some(finish_reason(&outcome));
                Choice { index, text: String::new(), logprobs: None, finish_reason }
            }
            Event::Token(_) | Event::Scored(_) => continue,
        };
        if !events.send(&head.whole(vec![choice], null.clone())).await {
            return;
        }
    }
    if has_usage && !events.send(&head.whole(vec![], Some(Some(usage)))).await {
        return;
    }
    events.done().await;
}
