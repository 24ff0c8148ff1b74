//! What can go wrong while text is generated.

use crate::model::ModelError;

use super::{FilterError, GrammarError, OptionError};

/// A request that cannot be served. The session stays usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message explains its fields")]
pub enum GenerateError {
    #[error(transparent)]
    Option(#[from] OptionError),
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    #[error(
        "the prompt has {tokens} tokens, the context holds {context}; shorten it or give a larger context"
    )]
    PromptTooLong { tokens: usize, context: usize },
    #[error("the shortest answer of this form takes {needed} tokens, {allowed} are allowed")]
    FormTooLong { needed: usize, allowed: usize },
    /// NaN or positive infinity.
    #[error("the logits are not finite (token {token}): the model file may be damaged, fetch it again")]
    NotFinite { token: u32 },
    /// Every logit is negative infinity.
    #[error("no token is allowed here: the constraint cannot be continued with this vocabulary")]
    NoTokenAllowed,
    #[error("the constraint on the output failed: {0}")]
    Filter(#[source] FilterError),
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{limit} requests wait already; try again later")]
    QueueFull { limit: usize },
    #[error("the model failed: {0}")]
    Step(String),
    /// A bug in this library, or in a callback or filter of the caller's.
    #[error("the program failed at this request; others are not affected")]
    Panicked,
    #[error("the engine has stopped; it takes no more requests")]
    Stopped,
}
