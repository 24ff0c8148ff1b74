//! A document with the examples before it, as one text or as messages.

use serde_json::Value;

use super::documents::Document;
use super::field::Place;
use super::random::PythonRandom;
use super::{Task, TaskError};
use crate::generate::Layout;
use crate::text::{ChatTemplate, Message, Prompt, Role};

/// How prompts become messages: the description is the system message, every example a turn of user and assistant.
#[derive(Clone, Copy, Debug)]
pub struct Chat<'a> {
    /// The model's format.
    pub template: &'a ChatTemplate,
    /// The parts of answers, if only what is said after reasoning is judged.
    pub layout: Option<&'a Layout>,
}

/// A part of a prompt.
struct Part {
    role: Role,
    text: String,
    /// What follows in a text; not in messages.
    delimiter: String,
}

/// Makes the prompts of a task, in the order of its documents.
pub(super) struct Prompter<'a> {
    task: &'a Task,
    chat: Option<Chat<'a>>,
    system: Option<&'a str>,
    random: PythonRandom,
}

impl<'a> Prompter<'a> {
    pub(super) fn new(
        task: &'a Task,
        chat: Option<Chat<'a>>,
        system: Option<&'a str>,
        seed: u64,
    ) -> Prompter<'a> {
        Prompter { task, chat, system, random: PythonRandom::new(seed) }
    }

    /// The examples before the next document, by index. Every document must be asked for, as each takes random numbers.
    pub(super) fn examples(&mut self, document: usize) -> Result<Vec<usize>, TaskError> {
        let (task, count) = (self.task, self.task.examples.count);
        if count == 0 {
            return Ok(vec![]);
        }
        let pool = &task.examples.documents;
        let own = Some(&task.documents[document]).filter(|_| task.examples.same_split);
        let is_other = |index: &usize| Some(&pool[*index]) != own;
        let others = || (0..pool.len()).filter(is_other);
        let too_few = |wanted: usize| TaskError::TooFewExamples {
            task: task.name.clone(),
            wanted,
            found: others().count(),
        };
        if task.examples.first {
            let first: Vec<usize> = others().take(count).collect();
            return if first.len() == count { Ok(first) } else { Err(too_few(count)) };
        }
        // One more, in case the document itself is drawn.
        let drawn = count + usize::from(own.is_some());
        if drawn > pool.len() {
            return Err(too_few(count));
        }
        let sampled = self.random.sample(pool.len(), drawn);
        let taken: Vec<usize> = sampled.into_iter().filter(is_other).take(count).collect();
        if taken.len() == count {
            return Ok(taken);
        }
        let others: Vec<usize> = others().collect();
        if others.len() < count {
            return Err(too_few(count));
        }
        Ok(self.random.sample(others.len(), count).into_iter().map(|index| others[index]).collect())
    }

    /// The prompt of a document after `examples`.
    pub(super) fn prompt(&self, document: usize, examples: &[usize]) -> Result<Prompt, TaskError> {
        let task = self.task;
        let Some(text) = &task.text else { return Ok(Prompt::plain("")) };
        let place = task.place(document);
        let mut parts = vec![];
        let description = task.description.as_ref().map(|field| field.text(place)).transpose()?;
        let system = delimited(
            self.system.unwrap_or(""),
            description.as_deref().unwrap_or(""),
            &task.example_delimiter,
        );
        if !system.is_empty() {
            parts.push(Part { role: Role::System, text: system, delimiter: String::new() });
        }
        for &index in examples {
            let document: &Document = &task.examples.documents[index];
            let place = Place { document, index, ..place };
            let (asked, answer) = (text.text(place)?, self.answer(place)?);
            let prefix = self.prefix(place)?;
            let is_delimited = match &prefix {
                Some(prefix) => touches(&asked, prefix),
                None => !answer.is_empty(),
            };
            let delimiter = if is_delimited { task.target_delimiter.clone() } else { String::new() };
            parts.push(Part { role: Role::User, text: asked, delimiter });
            if !answer.is_empty() {
                let text = delimited(prefix.as_deref().unwrap_or(""), &answer, " ");
                let delimiter = task.example_delimiter.clone();
                parts.push(Part { role: Role::Assistant, text, delimiter });
            } else if let Some(text) = prefix {
                parts.push(Part { role: Role::Assistant, text, delimiter: String::new() });
            }
        }
        let (asked, prefix) = (text.text(place)?, self.prefix(place)?);
        let is_delimited = prefix.as_ref().is_some_and(|prefix| touches(&asked, prefix));
        let delimiter = if is_delimited { task.target_delimiter.clone() } else { String::new() };
        parts.push(Part { role: Role::User, text: asked, delimiter });
        let prefix = prefix.unwrap_or_default();
        match self.chat {
            None => Ok(Prompt::plain(
                parts.into_iter().map(|part| part.text + &part.delimiter).collect::<String>() + &prefix,
            )),
            Some(chat) => {
                let messages: Vec<Message> =
                    parts.into_iter().map(|part| Message::new(part.role, part.text)).collect();
                Ok(chat.template.render(&messages)?.followed_by(&prefix))
            }
        }
    }

    /// What the answer to a document begins with.
    fn prefix(&self, place: Place<'_>) -> Result<Option<String>, TaskError> {
        let prefix = self.task.prefix.as_ref().map(|prefix| prefix.text(place)).transpose()?;
        Ok(prefix.filter(|prefix| !prefix.is_empty()))
    }

    /// The answer that an example shows.
    fn answer(&self, place: Place<'_>) -> Result<String, TaskError> {
        let task = self.task;
        let target = task.target.target(place, task.choices.is_some())?;
        let first = target.get(0).cloned().unwrap_or(target);
        match (&task.choices, first) {
            (_, Value::String(text)) => Ok(text),
            (Some(choices), Value::Number(index)) => {
                let choices = choices.choices(place)?;
                let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
                index.and_then(|index| choices.get(index).cloned()).ok_or_else(|| bad_answer(place))
            }
            _ => Err(bad_answer(place)),
        }
    }

    /// What stands between the prompt and a choice.
    pub(super) fn target_delimiter(&self) -> &str {
        let is_open = self.task.prefix.as_ref().is_some_and(|prefix| !prefix.ends_with_space());
        if self.chat.is_some() && !is_open { "" } else { &self.task.target_delimiter }
    }
}

fn bad_answer(place: Place<'_>) -> TaskError {
    TaskError::Field {
        task: place.task.to_owned(),
        key: "doc_to_target",
        document: place.index,
        message: "the answer of this example is neither a text nor one of the choices".to_owned(),
    }
}

/// Whether two texts would stand together without white space between.
fn touches(before: &str, after: &str) -> bool {
    !before.is_empty() && !before.ends_with(char::is_whitespace) && !after.starts_with(char::is_whitespace)
}

/// Joins two texts, with a delimiter where neither has white space there.
fn delimited(before: &str, after: &str, delimiter: &str) -> String {
    let touches = before.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace);
    let delimiter = if before.is_empty() || after.is_empty() || touches { "" } else { delimiter };
    format!("{before}{delimiter}{after}")
}
