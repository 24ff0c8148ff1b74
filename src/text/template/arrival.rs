//! Whether what is said arrives in a prompt.
//!
//! Most templates take the content of a message as text, some as a list of typed parts (`{"type": "text", "text":
//! ...}`), and one form is lost in templates of the other. Which it is shows a rendering of a made-up conversation:
//! nothing is guessed from names in the template.

use minijinja::Value;

use super::{Message, Role, TemplateError};

/// How the template takes the content of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    #[default]
    Text,
    Parts,
    /// It leaves it out in either form.
    Lost,
}

/// What a made-up conversation shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrival {
    pub(super) user: Form,
    pub(super) assistant: Form,
    pub(super) system: Form,
}

impl Arrival {
    pub(super) fn form(&self, role: Role) -> Form {
        match role {
            Role::System => self.system,
            Role::Assistant => self.assistant,
            // Templates that loop over parts do so for what they are told, whoever tells it.
            Role::User | Role::Tool => self.user,
        }
    }

    /// The content of a message in the form that the template takes.
    pub(super) fn content(&self, role: Role, content: &Value) -> Value {
        if self.form(role) != Form::Parts || content.as_str().is_none() {
            return content.clone();
        }
        let part = Value::from_pairs([("type", Value::from("text")), ("text", content.clone())]);
        Value::from(vec![part])
    }

    /// Refuses messages whose text would be lost.
    ///
    /// # Errors
    /// [`TemplateError::Lost`].
    pub(super) fn check(&self, messages: &[Message]) -> Result<(), TemplateError> {
        let is_lost =
            |message: &&Message| self.form(message.role) == Form::Lost && !message.content.trim().is_empty();
        match messages.iter().find(is_lost) {
            Some(message) => Err(TemplateError::Lost { role: message.role.name() }),
            None => Ok(()),
        }
    }
}
