//! What answers: a model that is loaded here, or a server.

use super::super::error::{ChatError, CliError};
use super::asking::Asking;
use super::here::Here;
use super::reply::Reply;
use super::settings::Settings;
#[cfg(feature = "serve")]
use super::there::There;
use crate::ask::Form;
use crate::generate::{CancelHandle, Conversation};

/// What answers.
pub(super) enum Engine {
    Here(Box<Here>),
    #[cfg(feature = "serve")]
    There(Box<There>),
}

impl Engine {
    /// The model, where it is here.
    ///
    /// # Errors
    /// If it is elsewhere, and `command` can do nothing.
    #[cfg_attr(not(feature = "serve"), expect(unused_variables, reason = "every model is here"))]
    pub(super) fn here(&mut self, command: &'static str) -> Result<&mut Here, ChatError> {
        match self {
            Engine::Here(here) => Ok(here),
            #[cfg(feature = "serve")]
            Engine::There(_) => Err(ChatError::Elsewhere { command }),
        }
    }

    /// Whether the model is here.
    pub(super) fn is_here(&self) -> bool {
        matches!(self, Engine::Here(_))
    }

    /// What the model is called.
    pub(super) fn name(&self) -> String {
        match self {
            Engine::Here(here) => here.planned.name(),
            #[cfg(feature = "serve")]
            Engine::There(there) => there.server.name(),
        }
    }

    /// Tokens that prompt and answer may have together, where that is known.
    pub(super) fn context(&self) -> Option<usize> {
        match self {
            Engine::Here(here) => Some(here.loaded.session.context()),
            #[cfg(feature = "serve")]
            Engine::There(there) => there.server.context,
        }
    }

    /// Tokens of the context that are used, where that is known.
    pub(super) fn used(&self) -> Option<usize> {
        match self {
            Engine::Here(here) => Some(here.used()),
            #[cfg(feature = "serve")]
            Engine::There(there) => there.used(),
        }
    }

    /// Makes sure that answers can have a form.
    ///
    /// # Errors
    /// If it is wrong, cannot be followed, or takes what is not allowed.
    pub(super) fn check(&mut self, form: Option<&Form>, cancel: &CancelHandle) -> Result<(), CliError> {
        match self {
            Engine::Here(here) => here.constraint(form, cancel).map(drop),
            #[cfg(feature = "serve")]
            Engine::There(there) => Ok(there.check(form)?),
        }
    }

    /// Makes prompts with the variables of the settings.
    pub(super) fn set_variables(&mut self, settings: &Settings) {
        match self {
            Engine::Here(here) => here.set_variables(settings),
            // They go with every message.
            #[cfg(feature = "serve")]
            Engine::There(_) => {}
        }
    }

    /// Answers the last message, and prints the answer as it comes, but for the end of its line.
    ///
    /// # Errors
    /// If it cannot be asked, or the answer cannot be printed.
    pub(super) fn answer(
        &mut self,
        conversation: &mut Conversation,
        asking: &Asking<'_>,
    ) -> Result<Reply, CliError> {
        match self {
            Engine::Here(here) => here.answer(conversation, asking),
            #[cfg(feature = "serve")]
            Engine::There(there) => there.answer(conversation, asking),
        }
    }
}
