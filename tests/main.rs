//! The integration tests, one module per surface, in one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(unix)]
mod answers;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod baseline;
mod batch;
mod bench;
#[cfg(feature = "trust")]
mod bundle;
#[cfg(unix)]
mod chat;
mod checklist;
mod choices;
mod cli;
mod config;
#[cfg(all(unix, feature = "serve"))]
mod connect;
mod console;
mod constrain;
mod demo;
#[cfg(unix)]
mod escapes;
mod eval;
mod eval_tasks;
mod examples;
#[cfg(target_os = "linux")]
mod faults;
mod forms;
mod grammar;
#[cfg(unix)]
mod hostile_models;
mod inputs;
mod layering;
mod limits;
mod line;
#[cfg(unix)]
mod load;
mod memory;
mod messages;
#[cfg(all(unix, feature = "trust"))]
mod oms;
#[cfg(all(unix, feature = "trust"))]
mod oms_line;
#[cfg(unix)]
mod own_files;
mod pack;
mod perplexity;
mod preset;
#[cfg(unix)]
mod readme;
#[cfg(unix)]
mod real;
#[cfg(target_os = "linux")]
mod refusals;
mod run;
#[cfg(all(unix, feature = "trust"))]
mod sealed;
#[cfg(all(unix, feature = "serve"))]
mod serve_guard;
#[cfg(all(unix, feature = "serve"))]
mod serve_line;
#[cfg(unix)]
mod sessions;
mod shared;
mod show;
#[cfg(target_os = "linux")]
mod signals;
#[cfg(all(unix, feature = "trust"))]
mod signed;
#[cfg(all(target_os = "linux", feature = "trust"))]
mod slots;
mod sound;
#[cfg(unix)]
mod stats;
#[cfg(all(unix, feature = "pull"))]
mod store;
#[cfg(unix)]
mod terminal;
mod texts;
mod tools;
mod trained;
mod unsafe_list;
mod wrong_models;
