//! A local server: OpenAI's interface for programs, a page for visitors.
//!
//! # Design
//!
//! ```text
//! listen       sockets, connections and their limits, the end
//!   guard      who may ask what: Host, Origin, tokens, content types, headers of every response
//! warm         a start at which the system prompt was read before
//! state        what all requests share: engine, prompts, defaults, metrics
//!   metrics    counters and histograms
//! routes       which handler answers what
//!   chat, completions, tokens, models   the handlers
//!   body       what requests and responses have in common
//!   logprobs   log-probabilities in the shapes of both interfaces
//!   job        from an item to the engine and back
//!   stream     server-sent events
//!   error      ApiError, in the shape that OpenAI's clients know
//!   openapi    the document of all this
//!   page       the kiosk page
//! ```
//!
//! The model is worked on by the thread of an [`Engine`](crate::generate::Engine); one more thread serves the sockets.
//! What a request says is in no log and no file.

mod body;
mod chat;
mod completions;
mod error;
mod job;
mod listen;
mod logprobs;
mod models;
mod openapi;
mod routes;
mod state;
mod stream;
mod tokens;
mod warm;

#[cfg(test)]
mod tests;

pub use self::listen::{Limits, Listen, ServeError, serve};
pub use self::state::{ModelCard, State};
pub use self::warm::{WarmError, Warmth, warm};
