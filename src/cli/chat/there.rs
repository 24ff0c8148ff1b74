//! A server that answers in place of a model.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::super::answer::lock;
use super::super::connect::{Answering, Replied, Server};
use super::super::error::{CliError, Code, ConnectError};
use super::super::generation::{Length, USUAL_TOKENS, answer_room};
use super::super::output::note;
use super::super::session;
use super::super::thoughts::Thoughts;
use super::asking::Asking;
use super::reply::{Counts, Reply};
use super::settings::Settings;
use crate::ask::{Form, FunctionCall};
use crate::generate::{
    Calling, CancelHandle, Conversation, FinishReason, Grammar, Thinking, Timings, ToolChoice,
};
use crate::text::Message;

/// Tokens of an answer where as many as the context holds are asked for, and it is not known how many that is.
const MANY_TOKENS: usize = 1 << 20;

/// A server that answers.
pub(super) struct There {
    pub(super) server: Server,
    /// What the last answer took.
    last: Option<Size>,
}

/// How long a conversation is.
#[derive(Clone, Copy)]
struct Size {
    tokens: usize,
    /// Of its texts.
    bytes: usize,
}

/// What came of an answer until it ended, or was stopped.
struct Heard {
    text: String,
    reasoning: String,
    /// Nothing if it was stopped.
    replied: Option<Replied>,
    timings: Timings,
}

impl There {
    pub(super) fn new(server: Server) -> There {
        There { server, last: None }
    }

    /// Tokens of the context that are used, where the server counts them.
    pub(super) fn used(&self) -> Option<usize> {
        self.last.map(|size| size.tokens)
    }

    /// Makes sure that the server knows a form.
    ///
    /// # Errors
    /// If it is one of smolt's own.
    pub(super) fn check(&self, form: Option<&Form>) -> Result<(), ConnectError> {
        let what = match form {
            None | Some(Form::Calls(_) | Form::Grammar(Grammar::Schema(_) | Grammar::Calls(_))) => {
                return Ok(());
            }
            Some(Form::Grammar(Grammar::Regex(_))) => "regular expressions",
            Some(Form::Grammar(Grammar::Lark(_))) => "grammars",
            Some(Form::Choices(_)) => "choices",
        };
        if self.server.is_smolt { Ok(()) } else { Err(ConnectError::OnlySmolt { what }) }
    }

    /// As [`Engine::answer`](super::engine::Engine::answer).
    pub(super) fn answer(
        &mut self,
        conversation: &mut Conversation,
        asking: &Asking<'_>,
    ) -> Result<Reply, CliError> {
        self.check(asking.settings.form.as_ref())?;
        // Nothing is forgotten for a message that is not answered.
        let mut shorter = conversation.clone();
        let heard = asking.interrupts.during(|cancel| {
            let begun = Instant::now();
            match self.begin(&mut shorter, asking, cancel) {
                Ok(answering) => hear(answering, asking, begun),
                Err(CliError::Connect(ConnectError::Cancelled)) => Ok(Heard::nothing(begun)),
                Err(error) => Err(error),
            }
        })?;
        *conversation = shorter;
        let reply = self.reply(heard);
        conversation.answer_elsewhere(&reply.text, reply.reasoning.clone(), reply.tool_calls.clone());
        if let Some(counts) = reply.counts {
            let bytes = bytes_of(conversation);
            self.last = Some(Size { tokens: counts.prompt + counts.answer, bytes });
        }
        Ok(reply)
    }

    /// Asks. Where the context is full, the oldest turns are dropped, as for a model that is here.
    fn begin(
        &self,
        conversation: &mut Conversation,
        asking: &Asking<'_>,
        cancel: &CancelHandle,
    ) -> Result<Answering, CliError> {
        let wait = |seconds| note(format_args!("the server is busy; it is asked again in {seconds} s"));
        let mut dropped =
            if self.is_full(conversation, asking.settings) { conversation.shorten() } else { 0 };
        loop {
            let body = self.body(conversation, asking)?;
            match self.server.ask(&body, cancel, wait) {
                Ok(answering) => {
                    session::note_dropped(dropped, conversation.system().is_some());
                    return Ok(answering);
                }
                Err(error @ ConnectError::Refused { code: Code::TooLong, .. }) => {
                    match conversation.shorten() {
                        0 => return Err(error.into()),
                        more => dropped += more,
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether there is likely no room for an answer: only the server can count.
    fn is_full(&self, conversation: &Conversation, settings: &Settings) -> bool {
        let (Some(context), Some(last)) = (self.server.context, self.last) else { return false };
        let tokens = last.tokens.saturating_mul(bytes_of(conversation)) / last.bytes.max(1);
        let room = answer_room(settings.length.tokens(settings.form.is_some()), context);
        tokens.saturating_add(room) > context
    }

    fn reply(&self, heard: Heard) -> Reply {
        let Heard { text, reasoning, replied, timings } = heard;
        let is_stopped = replied.is_none();
        let Replied { calls, is_cut, usage } = replied.unwrap_or_default();
        let counts = usage.map(|usage| Counts {
            answer: usage.completion_tokens,
            prompt: usage.prompt_tokens,
            cached: usage.cached_tokens(),
        });
        let is_full = counts
            .zip(self.server.context)
            .is_some_and(|(Counts { answer, prompt, .. }, context)| prompt.saturating_add(answer) >= context);
        let finish = match is_cut {
            _ if is_stopped => FinishReason::Cancelled,
            true if is_full => FinishReason::Context,
            true => FinishReason::Length,
            false => FinishReason::Complete,
        };
        let timings = Timings {
            fed_tokens: counts.map_or(0, |counts| counts.prompt.saturating_sub(counts.cached)),
            sampled_tokens: counts.map_or(0, |counts| counts.answer),
            ..timings
        };
        let reasoning = Some(reasoning).filter(|reasoning| !reasoning.is_empty());
        let whole = finish == FinishReason::Complete;
        Reply { text, reasoning, tool_calls: calls, finish, whole, counts, tokens: vec![], timings }
    }

    /// What is asked, in OpenAI's interface and what smolt's servers know besides.
    fn body(&self, conversation: &Conversation, asking: &Asking<'_>) -> Result<Value, CliError> {
        let settings = asking.settings;
        let messages: Vec<Value> = conversation.messages().iter().map(message).collect();
        let mut body = Map::new();
        let mut add = |key: &str, value: Value| _ = body.insert(key.to_owned(), value);
        add("model", json!(self.server.model));
        add("messages", json!(messages));
        add("stream", json!(true));
        add("stream_options", json!({"include_usage": true}));
        add("seed", json!(asking.seed));
        let (sampler, holds) = (&settings.sampler, |name| settings.asked.holds(name));
        let temperature = match settings.form {
            Some(Form::Choices(_)) => settings.choice_temp,
            _ => holds("temp").then_some(sampler.temperature),
        };
        for (key, value) in [
            ("temperature", temperature.map(Value::from)),
            ("top_k", holds("top_k").then(|| json!(sampler.top_k))),
            ("top_p", holds("top_p").then(|| json!(sampler.top_p))),
            ("min_p", holds("min_p").then(|| json!(sampler.min_p))),
            ("repeat_penalty", holds("repeat_penalty").then(|| json!(sampler.repeat_penalty))),
            ("stop", holds("stop").then(|| json!(settings.stop))),
            ("loop_guard", (self.server.is_smolt && holds("loop_guard")).then(|| json!(settings.loop_guard))),
            ("max_tokens", self.max_tokens(settings).map(Value::from)),
        ] {
            if let Some(value) = value {
                add(key, value);
            }
        }
        let mut variables = settings.variables.to_json();
        match settings.think {
            Some(think) if self.server.is_smolt => add("think", json!(think.is_asked())),
            Some(think) => {
                _ = variables.insert("enable_thinking".to_owned(), json!(Thinking::is_asked(think)))
            }
            None => {}
        }
        if !variables.is_empty() {
            add("chat_template_kwargs", Value::Object(variables));
        }
        if let Some(form) = &settings.form {
            form_of(form)?.into_iter().for_each(|(key, value)| add(key, value));
        }
        Ok(Value::Object(body))
    }

    /// Tokens of an answer at most, where the server is to be told: one of smolt's has the same usual number, or its
    /// operator's.
    fn max_tokens(&self, settings: &Settings) -> Option<usize> {
        match settings.length {
            Length::AtMost(count) => Some(count),
            Length::Full if self.server.is_smolt => Some(self.server.context.unwrap_or(MANY_TOKENS)),
            Length::Usual if !self.server.is_smolt && settings.form.is_none() => Some(USUAL_TOKENS),
            Length::Full | Length::Usual => None,
        }
    }
}

impl Heard {
    fn nothing(begun: Instant) -> Heard {
        let timings = Timings { total: begun.elapsed(), ..Timings::default() };
        Heard { text: String::new(), reasoning: String::new(), replied: None, timings }
    }
}

/// Prints an answer as it comes.
fn hear(mut answering: Answering, asking: &Asking<'_>, begun: Instant) -> Result<Heard, CliError> {
    let mut thoughts = Thoughts::new(asking.settings.think);
    let (mut heard, mut first, mut last) = (Heard::nothing(begun), None, Duration::ZERO);
    let ended = loop {
        let part = match answering.next() {
            Ok(Some(part)) => part,
            Ok(None) => break Ok(true),
            Err(ConnectError::Cancelled) => break Ok(false),
            Err(error) => break Err(error),
        };
        if part.text.is_empty() && part.reasoning.is_empty() {
            continue;
        }
        last = begun.elapsed();
        first.get_or_insert(last);
        heard.text.push_str(&part.text);
        heard.reasoning.push_str(&part.reasoning);
        thoughts.push(&part.reasoning, &part.text);
        lock(asking.printed).push(&part.text)?;
    };
    thoughts.finish();
    let replied = ended.and_then(|is_whole| is_whole.then(|| answering.finish()).transpose());
    if replied.is_err() && lock(asking.printed).is_begun() {
        lock(asking.printed).end_line()?;
    }
    heard.replied = replied?;
    let decode = last.saturating_sub(first.unwrap_or(last));
    heard.timings = Timings { first_token: first, decode, total: begun.elapsed(), ..Timings::default() };
    Ok(heard)
}

fn bytes_of(conversation: &Conversation) -> usize {
    conversation.messages().iter().map(|message| message.content.len()).sum()
}

/// A message as OpenAI's interface has it.
fn message(message: &Message) -> Value {
    let mut json = json!({"role": message.role.name(), "content": message.content});
    if let Some(reasoning) = &message.reasoning {
        json["reasoning_content"] = json!(reasoning);
    }
    if !message.tool_calls.is_empty() {
        let calls: Vec<FunctionCall> = message.tool_calls.iter().map(FunctionCall::new).collect();
        json["tool_calls"] = json!(calls);
    }
    if let Some((id, _)) = &message.result_of {
        json["tool_call_id"] = json!(id);
    }
    json
}

/// What the answer may be, by the keys of a request.
fn form_of(form: &Form) -> Result<Vec<(&'static str, Value)>, CliError> {
    Ok(match form {
        Form::Grammar(Grammar::Schema(text)) => {
            let schema: Value = serde_json::from_str(text).map_err(crate::generate::GrammarError::NotJson)?;
            let format = json!({"name": "answer", "strict": true, "schema": schema});
            vec![("response_format", json!({"type": "json_schema", "json_schema": format}))]
        }
        Form::Grammar(Grammar::Regex(regex)) => vec![("regex", json!(regex))],
        Form::Grammar(Grammar::Lark(grammar)) => vec![("grammar", json!(grammar))],
        Form::Grammar(Grammar::Calls(_)) => vec![],
        Form::Choices(texts) => vec![("choices", json!(texts))],
        Form::Calls(calling) => tools_of(calling),
    })
}

fn tools_of(calling: &Calling) -> Vec<(&'static str, Value)> {
    let Some(tools) = calling.to_json() else { return vec![] };
    let choice = match calling.choice() {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    };
    vec![("tools", tools), ("tool_choice", choice)]
}
