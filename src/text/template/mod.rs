//! Chat templates: from messages to a prompt in which no message can place a control token.
//!
//! # Design
//!
//! ```text
//! engine   minijinja, set up as Jinja2 is for chat templates, within bounds
//!   tags     what minijinja reads otherwise, written so that it does not
//!   python   methods, filters and tests that differ
//!   json     tojson
//!   date     strftime_now
//!   cost     what looking into values costs
//!   guard    writes that into the template
//! arrival  in which form what is said arrives
//!   probe    finds out in which
//! trace    which characters of a prompt come from messages
//! message  turns of a conversation
//! variables what else a template may use
//! tools    how templates are told of functions
//! thinking how templates ask for reasoning
//!   marks    how models mark it
//! builtin  templates by name
//! document templates of evaluation tasks
//! error    what can be wrong with a template
//! ```
//!
//! A template is a Jinja program in the model file, and untrusted. Messages are untrusted too: the prompt says
//! which of its characters are theirs ([`Prompt::from_messages`]), and the encoder reads no control token that
//! has such a character. All else about the text and its ids is as if nobody had looked.

mod arrival;
mod builtin;
mod cost;
mod date;
mod document;
mod engine;
mod error;
mod guard;
mod json;
mod marks;
mod message;
mod probe;
mod python;
mod tags;
mod thinking;
mod tools;
mod trace;
mod variables;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::OnceLock;

use minijinja::Value;

use self::arrival::Arrival;
use self::date::Time;
use self::engine::Engine;
use self::trace::{Mask, Wanted};
use super::{EncodeOptions, TextError, Tokenizer};
use crate::files::Fnv;

pub use self::builtin::BUILTIN_TEMPLATES;
pub use self::document::DocumentTemplate;
pub use self::error::{MAX_MESSAGE_BYTES, MAX_TEMPLATE_BYTES, TemplateError};
pub use self::marks::ReasoningMarks;
use self::message::fold_system;
pub use self::message::{Message, Role, ToolCall};
pub use self::variables::{MAX_VARIABLES, TemplateVariables};

/// A rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The text, exactly as Jinja2 renders it.
    pub text: String,
    /// Byte ranges of `text` that come from messages or variables, ascending: all of their characters but white
    /// space, or, where the template looks into messages, at least one character of everything in them that looks
    /// like a control token. Empty if the text has nothing that does.
    pub from_messages: Vec<Range<usize>>,
}

impl Prompt {
    /// A text without template: all of it is a message.
    pub fn plain(text: impl Into<String>) -> Prompt {
        let text = text.into();
        let all = 0..text.len();
        Prompt { from_messages: if text.is_empty() { vec![] } else { vec![all] }, text }
    }

    /// The prompt with `text`, a message, after it.
    pub fn followed_by(&self, text: &str) -> Prompt {
        let mut whole = self.clone();
        let start = whole.text.len();
        whole.text.push_str(text);
        if !text.is_empty() {
            whole.from_messages.push(start..whole.text.len());
        }
        whole
    }

    /// The first `bytes` of the prompt, which must be whole characters.
    pub fn cut(&self, bytes: usize) -> Prompt {
        let kept = self.from_messages.iter().filter(|range| range.start < bytes);
        Prompt {
            text: self.text[..bytes].to_owned(),
            from_messages: kept.map(|range| range.start..range.end.min(bytes)).collect(),
        }
    }

    /// Appends the ids of the prompt to `out`, with the start token if the vocabulary asks for it and the template
    /// did not write it.
    ///
    /// # Errors
    /// If the vocabulary lacks a token for the text.
    pub fn encode(&self, tokenizer: &Tokenizer, out: &mut Vec<u32>) -> Result<(), TextError> {
        self.encode_within(usize::MAX, tokenizer, out)
    }

    /// [`Prompt::encode`] where there is only room for `limit` tokens.
    ///
    /// # Errors
    /// As [`Prompt::encode`], and as [`Tokenizer::encode_within`].
    pub fn encode_within(
        &self,
        limit: usize,
        tokenizer: &Tokenizer,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let start = out.len();
        self.encode_rest(0, limit, tokenizer, out)?;
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos())
            && out.get(start) != Some(&bos)
        {
            out.insert(start, bos);
        }
        Ok(())
    }

    /// Appends the ids of the text from byte `start` on to `out`. They are those of the whole prompt only if a
    /// control token starts there.
    ///
    /// # Errors
    /// As [`Prompt::encode`].
    pub fn encode_from(
        &self,
        start: usize,
        tokenizer: &Tokenizer,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        self.encode_rest(start, usize::MAX, tokenizer, out)
    }

    /// [`Prompt::encode_from`] where there is only room for `limit` tokens.
    pub(crate) fn encode_rest(
        &self,
        start: usize,
        limit: usize,
        tokenizer: &Tokenizer,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let rest = self.from_messages.iter().filter(|range| range.end > start);
        let guarded: Vec<Range<usize>> =
            rest.map(|range| range.start.saturating_sub(start)..range.end - start).collect();
        let options = EncodeOptions { add_special: false, parse_special: true };
        tokenizer.encode_within(&self.text[start..], &guarded, options, limit, out)
    }
}

/// The chat template of a model, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    engine: Engine,
    /// Jinja source.
    source: Box<str>,
    /// Words of the template's code.
    words: HashSet<String>,
    /// What stands around reasoning.
    marks: Option<&'static ReasoningMarks>,
    /// What every prompt is rendered with.
    variables: TemplateVariables,
    /// The written forms of all control tokens.
    controls: Vec<String>,
    /// What to try for telling messages from the template's text; empty if there are no control tokens.
    plans: Vec<Wanted>,
    /// Texts that the template may look for in messages.
    sought: Vec<String>,
    /// Private-use characters of the template.
    private: HashSet<char>,
    bos: String,
    eos: String,
    /// Found out where it is needed.
    arrival: OnceLock<Arrival>,
}

impl ChatTemplate {
    /// The template of the tokenizer's file; `None` where it has none, as base models do.
    ///
    /// # Errors
    /// As [`ChatTemplate::compile`].
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, TemplateError> {
        tokenizer.chat_template().map(|source| ChatTemplate::compile(source, tokenizer)).transpose()
    }

    /// One of [`BUILTIN_TEMPLATES`].
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn builtin(name: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, TemplateError> {
        match BUILTIN_TEMPLATES.iter().find(|(known, _)| *known == name) {
            Some((_, source)) => ChatTemplate::compile(source, tokenizer),
            None => Err(TemplateError::UnknownName {
                found: name.chars().take(64).collect(),
                known: BUILTIN_TEMPLATES.map(|(name, _)| name).join(", "),
            }),
        }
    }

    /// Compiles a template for use with `tokenizer`.
    ///
    /// # Errors
    /// If it is too large or not valid.
    pub fn compile(source: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, TemplateError> {
        let piece = |id: Option<u32>| id.map_or(String::new(), |id| tokenizer.decode_lossy(&[id], false));
        let controls: Vec<String> = tokenizer.control_texts().collect();
        let mut private = HashSet::new();
        trace::private(&Value::from(source), &mut private);
        Ok(ChatTemplate {
            engine: Engine::new(source)?,
            source: source.into(),
            words: tags::words(source),
            marks: marks::find(source, tokenizer),
            variables: TemplateVariables::default(),
            plans: if controls.is_empty() { vec![] } else { trace::plans(&strs(&controls)) },
            controls,
            sought: tags::texts(source).into_iter().filter(|text| is_mark(text)).collect(),
            private,
            bos: piece(tokenizer.bos()),
            eos: piece(tokenizer.eos()),
            arrival: OnceLock::new(),
        })
    }

    /// A number that differs (with high probability) between templates, and between variables that they may use.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.add(self.source.as_bytes());
        self.variables.add_to(&mut hash, |name| self.uses(name));
        hash.finish()
    }

    /// Renders every prompt with these variables from now on, unless a call brings others of their names.
    pub fn set_variables(&mut self, variables: TemplateVariables) {
        self.variables = variables;
        self.arrival = OnceLock::new();
    }

    /// Tells every prompt of functions from now on, as OpenAI's interface defines them, or of none.
    pub fn set_tools(&mut self, tools: Option<serde_json::Value>) {
        self.variables.set_tools(tools);
    }

    /// Whether a variable occurs in the template: one that does not changes nothing.
    pub fn uses(&self, name: &str) -> bool {
        self.words.contains(name)
    }

    /// Renders `messages`, followed by the start of the assistant's answer.
    ///
    /// # Errors
    /// As [`ChatTemplate::render_with`].
    pub fn render(&self, messages: &[Message]) -> Result<Prompt, TemplateError> {
        self.render_with(messages, &TemplateVariables::default())
    }

    /// Renders `messages` with further variables.
    ///
    /// A system message that the template refuses or leaves out is put in front of the first user message.
    ///
    /// # Errors
    /// If the messages are too large, or the template fails, refuses them, takes too long or changes them so that
    /// they cannot be told from its own text.
    pub fn render_with(
        &self,
        messages: &[Message],
        variables: &TemplateVariables,
    ) -> Result<Prompt, TemplateError> {
        let variables = self.variables.overlaid(variables);
        let thinking = variables.thinking;
        let (messages, variables) = self.asked(messages, variables);
        let (messages, variables) = self.told(messages, variables);
        Ok(self.closed(self.render_asked(&messages, &variables)?, thinking))
    }

    fn render_asked(
        &self,
        messages: &[Message],
        variables: &TemplateVariables,
    ) -> Result<Prompt, TemplateError> {
        let found = messages.iter().map(Message::bytes).sum();
        if found > MAX_MESSAGE_BYTES {
            return Err(TemplateError::MessagesTooLarge { found, limit: MAX_MESSAGE_BYTES });
        }
        let input = Input::new(messages, variables);
        let text = self.text(&input);
        if let Some(arrival) = self.arrival.get() {
            arrival.check(messages)?;
        }
        let Some(folded) = fold_system(messages) else { return self.trace(text?, &input) };
        let is_dropped = match &text {
            Ok(_) => self.drops_system(messages, variables, input.now)?,
            Err(TemplateError::Refused { .. } | TemplateError::Render { .. }) => true,
            Err(_) => false,
        };
        if !is_dropped {
            return self.trace(text?, &input);
        }
        let input = Input { now: input.now, ..Input::new(&folded, variables) };
        self.trace(self.text(&input)?, &input)
    }

    /// Appends the ids of the rendered `messages` to `out`, with the start token if the vocabulary asks for
    /// it and the template did not write it.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`], and if the vocabulary lacks a token for the text.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        out: &mut Vec<u32>,
    ) -> Result<(), TemplateError> {
        self.encode_with(tokenizer, messages, &TemplateVariables::default(), out)
    }

    /// [`ChatTemplate::encode`] with further variables.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn encode_with(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        variables: &TemplateVariables,
        out: &mut Vec<u32>,
    ) -> Result<(), TemplateError> {
        Ok(self.render_with(messages, variables)?.encode(tokenizer, out)?)
    }

    /// What the template sees.
    fn root(&self, input: &Input, arrival: &Arrival) -> Value {
        let entry = |key: &str, value: Value| (Value::from(key), value);
        let messages = input.roles.iter().zip(&input.contents).zip(&input.further);
        let messages = messages.map(|((role, content), further)| {
            let own =
                [entry("role", Value::from(role.name())), entry("content", arrival.content(*role, content))];
            let further = further.iter().map(|(key, value)| entry(key, value.clone()));
            Value::from_pairs(own.into_iter().chain(further))
        });
        let own = [
            entry("messages", messages.collect()),
            entry("add_generation_prompt", Value::from(true)),
            entry("bos_token", Value::from(self.bos.as_str())),
            entry("eos_token", Value::from(self.eos.as_str())),
            entry("strftime_now", engine::strftime_now(input.now)),
        ];
        let names = input.names.iter().map(|name| Value::from(name.as_str()));
        Value::from_pairs(own.into_iter().chain(names.zip(input.variables.iter().cloned())))
    }

    /// The prompt `text` with the places of messages in it.
    fn trace(&self, text: String, input: &Input) -> Result<Prompt, TemplateError> {
        if self.plans.is_empty() {
            return Ok(Prompt { text, from_messages: vec![] });
        }
        let mut used = self.private.clone();
        input.values().for_each(|value| trace::private(value, &mut used));
        let last = std::iter::once_with(|| self.sparing(input)).flatten();
        for wanted in self.plans.iter().map(Cow::Borrowed).chain(last.map(Cow::Owned)) {
            let mut mask = Mask::new(&wanted, &used);
            let Some(masked) = input.masked(&mut mask) else { continue };
            let marked = match self.text(&masked) {
                Ok(marked) => marked,
                Err(TemplateError::Refused { .. } | TemplateError::Render { .. }) => continue,
                Err(error) => return Err(error),
            };
            if let Some(from_messages) = mask.compare(&text, &marked) {
                return Ok(Prompt { text, from_messages });
            }
        }
        Err(TemplateError::Untraceable)
    }

    /// What to try last: characters of none of the texts that the template may look for and these messages have.
    fn sparing(&self, input: &Input) -> Option<Wanted> {
        let texts: Vec<&str> = input.values().filter_map(Value::as_str).collect();
        let is_there = |sought: &&String| texts.iter().any(|text| text.contains(sought.as_str()));
        // Of these some characters must be replaced.
        let is_free = |sought: &&String| !self.controls.iter().any(|control| sought.contains(control));
        let sought = self.sought.iter().filter(is_there).filter(is_free);
        let sought: BTreeSet<char> = sought.flat_map(|text| text.chars()).collect();
        (!sought.is_empty()).then(|| trace::sparing(&strs(&self.controls), &sought))
    }

    /// Whether the template leaves the system message, the first of `messages`, out.
    fn drops_system(
        &self,
        messages: &[Message],
        variables: &TemplateVariables,
        now: Time,
    ) -> Result<bool, TemplateError> {
        let mut input = Input { now, ..Input::new(messages, variables) };
        let mut used = self.private.clone();
        input.values().for_each(|value| trace::private(value, &mut used));
        let Some(mark) = trace::unused(&used) else { return Ok(false) };
        let Some((system, content)) = messages.first().zip(input.contents.first_mut()) else {
            return Ok(false);
        };
        if system.content.trim().is_empty() {
            return Ok(false);
        }
        *content = Value::from(format!("{}{mark}", system.content));
        match self.text(&input) {
            Ok(text) => Ok(!text.contains(mark)),
            Err(TemplateError::Refused { .. } | TemplateError::Render { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Whether a text is more than a word: one that messages do not have by chance.
fn is_mark(text: &str) -> bool {
    let text = text.trim();
    text.chars().count() > 1 && text.chars().any(|c| !c.is_alphanumeric())
}

/// One set of messages and variables, as values.
struct Input {
    roles: Vec<Role>,
    /// One per role.
    contents: Vec<Value>,
    /// What messages have beside role and content, one list per role.
    further: Vec<Vec<(&'static str, Value)>>,
    names: Vec<String>,
    /// One per name.
    variables: Vec<Value>,
    now: Time,
}

impl Input {
    fn new(messages: &[Message], variables: &TemplateVariables) -> Input {
        let (names, variables) = variables.entries.iter().cloned().unzip();
        Input {
            roles: messages.iter().map(|message| message.role).collect(),
            contents: messages.iter().map(|message| Value::from(message.content.as_str())).collect(),
            further: messages.iter().map(Message::further).collect(),
            names,
            variables,
            now: Time::now(),
        }
    }

    /// All that is not the template's: what users, tools and models wrote.
    fn values(&self) -> impl Iterator<Item = &Value> {
        let further = self.further.iter().flatten().map(|(_, value)| value);
        self.contents.iter().chain(further).chain(&self.variables)
    }

    /// The same with stand-ins; `None` if there are not enough of them.
    fn masked(&self, mask: &mut Mask<'_>) -> Option<Input> {
        let mut all = |values: &[Value]| values.iter().map(|value| mask.put(value)).collect();
        let (contents, variables): (Option<Vec<Value>>, Option<Vec<Value>>) =
            (all(&self.contents), all(&self.variables));
        let mut entries = |entries: &Vec<(&'static str, Value)>| {
            entries.iter().map(|(key, value)| Some((*key, mask.put(value)?))).collect::<Option<Vec<_>>>()
        };
        let further: Option<Vec<Vec<_>>> = self.further.iter().map(&mut entries).collect();
        Some(Input {
            roles: self.roles.clone(),
            contents: contents?,
            further: further?,
            names: self.names.clone(),
            variables: variables?,
            now: self.now,
        })
    }
}
