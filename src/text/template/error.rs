//! What can be wrong with a template, and how large it may be.

use super::super::TextError;

/// Longest template; the longest published ones have about 30 KB.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 17;
/// Most text in all messages together, and in all variables.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// A template that cannot be used, or messages it cannot render.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum TemplateError {
    #[error("the chat template has {found} bytes, the limit is {limit}")]
    TooLarge { found: usize, limit: usize },
    #[error("the messages have {found} bytes, the limit is {limit}")]
    MessagesTooLarge { found: usize, limit: usize },
    #[error("the chat template is not valid: {message}")]
    Syntax { message: String },
    #[error("the chat template failed: {message}")]
    Render { message: String },
    #[error("the chat template refused the messages: {message}")]
    Refused { message: String },
    #[error("the chat template was stopped: it takes more than {limit} steps")]
    OutOfFuel { limit: u64 },
    #[error("the chat template was stopped: it makes more than {limit} bytes")]
    OutputTooLarge { limit: usize },
    #[error("the chat template changes messages, so that user text cannot be told from its own")]
    Untraceable,
    #[error(
        "the chat template leaves out what the {role} says, as text and as a list of parts; another template is needed"
    )]
    Lost { role: &'static str },
    #[error("there is no built-in chat template \"{found}\"; there are: {known}")]
    UnknownName { found: String, known: String },
    #[error("the variables of the chat template are not a JSON object of names and values: {message}")]
    Variables { message: String },
    #[error("cannot start a thread for the chat template")]
    Thread {
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Text(#[from] TextError),
}
