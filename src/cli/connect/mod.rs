//! A connection to a server that speaks OpenAI's interface, such as `smolt serve`.
//!
//! # Design
//!
//! ```text
//! server    what it has, what is asked of it
//!   reply   a streamed answer, part by part
//!   sse     server-sent events
//!   http    one request and its response
//!   wire    bytes that come with time, until somebody has enough
//! address   where it is: a URL or a socket
//! ```
//!
//! What a server sends is not trusted: every part has a named limit, and ends within a time. Nothing is kept open between
//! answers; closing a connection is what stops the work on one. There is no TLS: it is meant for this computer, or one at
//! the end of a cable or a tunnel.

mod address;
mod http;
mod reply;
mod server;
mod sse;
mod wire;

pub(super) use self::address::Address;
pub(super) use self::reply::{Answering, Replied};
pub(super) use self::server::Server;
