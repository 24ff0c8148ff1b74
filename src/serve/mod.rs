//! A local server: OpenAI's interface for programs, a page for visitors.
//!
//! # Design
//!
//! ```text
//! listen       accepts connections until the end
//!   options    where a server listens, what it lets in, when it ends
//!   bind       a TCP port or a UNIX socket
//!   connection one request: its head, a place, the answer
//!     socket   what is read and written
//!     head     the first bytes, judged before hyper sees them
//!     crowd    connections that are waited for; the oldest makes room
//!   notify     systemd is told
//!   guard      who may ask what: tokens, content types, bodies
//!     hosts    Host and Origin
//!     bearer   tokens
//!     headers  what every response says
//! warm         a start at which the system prompt was read before
//! state        what all requests share: engine, prompts, defaults, metrics
//!   metrics    counters and histograms
//!   machine    memory, time, temperature
//!   panics     failures of the program
//! routes       which handler answers what
//!   chat, completions, tokens, models   the handlers
//!   body       what requests and responses have in common
//!   logprobs   log-probabilities in the shapes of both interfaces
//!   job        from an item to the engine and back
//!   stream     server-sent events
//!   error      ApiError, in the shape that OpenAI's clients know
//!   openapi    the document of all this
//!   page       where the files of the kiosk page are
//! kiosk        the kiosk page, and what its operator says of it
//! ```
//!
//! The model is worked on by the thread of an [`Engine`](crate::generate::Engine); one more thread serves the sockets.
//! What a request says is in no log and no file.

mod bearer;
mod bind;
mod body;
mod chat;
mod completions;
mod connection;
mod crowd;
mod error;
mod guard;
mod head;
mod headers;
mod hosts;
mod job;
mod kiosk;
mod listen;
mod logprobs;
mod machine;
mod metrics;
mod models;
mod notify;
mod openapi;
mod options;
mod page;
mod panics;
mod routes;
mod socket;
mod state;
mod stream;
mod tokens;
mod warm;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod transport;

pub use self::bearer::read_tokens;
pub use self::kiosk::{Asset, Kiosk, KioskError};
pub use self::listen::{check, serve};
pub use self::options::{Address, Limits, Listen, ServeError, ServeOptions, Stop};
pub use self::panics::watch_panics;
pub use self::state::{ModelCard, State};
pub use self::warm::{WarmError, Warmth, warm};
