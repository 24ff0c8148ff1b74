//! Functions that a model may call.
//!
//! # Design
//!
//! ```text
//! definition   Tools: names, descriptions and parameters, as their caller wrote them
//! format       CallFormat: how models write calls, as rows of data
//! grammar      holds calls to a format and to the parameters' schemas
//! parse        from the text of calls to names and arguments
//! ```
//!
//! Which format a model uses is found by what its template mentions and its vocabulary has. The template tells the
//! model of the functions; one that cannot has them told in the system message. An answer is text, then calls: the
//! grammar leaves text free until a call begins, and then allows only what names a function with arguments that its
//! schema allows. [`Layout`](super::Layout) tells text and calls apart as they come.

mod definition;
mod format;
mod grammar;
mod parse;

use std::sync::Arc;

use crate::text::{ChatTemplate, TemplateVariables, Tokenizer};

use super::Grammar;
use super::grammar::prepare_value;

pub use self::definition::{MAX_TOOLS, MAX_TOOLS_BYTES, ToolChoice, ToolError, Tools};
pub use self::format::CallFormat;
pub use self::grammar::CallError;

/// Functions, with what is said about calling them.
#[derive(Clone, Debug, PartialEq)]
pub struct Calling {
    tools: Arc<Tools>,
    choice: ToolChoice,
}

impl Calling {
    /// Calls of `tools`.
    ///
    /// # Errors
    /// If the choice names one that is not there.
    pub fn new(tools: Arc<Tools>, choice: ToolChoice) -> Result<Calling, ToolError> {
        tools.chosen(&choice)?;
        Ok(Calling { tools, choice })
    }

    /// The same functions with another choice.
    ///
    /// # Errors
    /// As [`Calling::new`].
    pub fn with_choice(&self, choice: ToolChoice) -> Result<Calling, ToolError> {
        Calling::new(Arc::clone(&self.tools), choice)
    }

    /// Whether to call one, and which.
    pub fn choice(&self) -> &ToolChoice {
        &self.choice
    }

    /// Whether there is nothing to call.
    pub fn is_off(&self) -> bool {
        self.choice == ToolChoice::None
    }

    /// The functions as templates take them, unless there is nothing to call.
    pub fn to_json(&self) -> Option<serde_json::Value> {
        Some(self.tools.to_json()).filter(|_| !self.is_off())
    }

    /// Tells a template of the functions by its variables.
    pub fn tell(&self, variables: &mut TemplateVariables) {
        variables.set_tools(self.to_json());
    }

    /// What answers of a model with this template and vocabulary may be.
    ///
    /// # Errors
    /// If parameters cannot be enforced in its format.
    pub fn grammar(
        &self,
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Grammar>, CallError> {
        if self.is_off() {
            return Ok(None);
        }
        let format = CallFormat::find(template, tokenizer);
        let tools = self.tools.chosen(&self.choice)?;
        let grammar = grammar::grammar(format, &tools, &self.choice, tokenizer, prepare_value)?;
        Ok(Some(Grammar::Calls(grammar)))
    }
}
