//! The integration tests, one module per surface, in one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
#[cfg(unix)]
mod chat;
mod cli;
mod demo;
mod layering;
mod pack;
mod perplexity;
mod readme;
mod shared;
mod trained;
