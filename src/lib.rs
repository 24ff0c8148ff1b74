//! smolt: a runner for small language models (100M-500M parameters) on small computers.
//!
//! To embed one, begin with [`load()`]; the folder `examples` has an answer as it comes, a conversation, an answer held to a
//! form, choices with their probabilities and a saved state.
//!
//! # Layers
//!
//! Each module uses only modules to its right; `tests/layering.rs` checks it.
//!
//! ```text
//! cli -> serve -> updates, load, eval, store, stats -> trust, ask -> generate -> model, text -> kernels, gguf -> runtime, blocks, files, console
//! ```
//!
//! * [`blocks`]: GGUF block formats, reference encode and decode.
//! * `console`: standard output and standard error, and what a terminal may be shown.
//! * `files`: texts read whole or by lines, files written whole or not at all, hashes.
//! * [`gguf`]: reading and writing the container.
//! * [`runtime`]: aligned buffers and the thread pool.
//! * [`kernels`]: packed weights and the arithmetic, chosen once per instruction set.
//! * [`model`]: families as data, memory plan, KV cache, the forward pass.
//! * [`text`]: tokenizer and streaming detokenizer.
//! * [`generate`]: sampling, the generation session, conversations and their files.
//! * `ask`: what is asked, from JSON to a job for the model.
//! * [`load`](mod@load): from a file to a model that answers, its memory planned before.
//! * [`eval`]: perplexity and benchmarks.
//! * `serve`: the local server, OpenAI's interface and the kiosk page.
//! * `store`: the models of this computer, and fetching them.
//! * `stats`: counts of what was done, in a file.
//! * [`trust`]: signatures of models, whose they are and what they cover.
//! * [`updates`]: the store with two slots, from which a model is updated and never lost.
//! * `cli`: the command line.
//!
//! # Features
//!
//! `default-features = false` leaves the library: files, kernels, models, texts, answers, and of [`eval`] perplexity and
//! divergence. `eval` adds batches, tasks and timings, `cli` the program `smolt`, `pull` its command that
//! fetches models, `serve` the local server, `trust` signed models and their store.

#[cfg(feature = "eval")]
#[doc(hidden)]
pub mod ask;
pub mod blocks;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod console;
pub mod eval;
#[doc(hidden)]
pub mod files;
pub mod generate;
pub mod gguf;
pub mod kernels;
pub mod load;
pub mod model;
pub mod runtime;
#[cfg(feature = "serve")]
pub mod serve;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod stats;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod store;
pub mod text;
#[cfg(feature = "trust")]
pub mod trust;
#[cfg(feature = "trust")]
pub mod updates;

pub use load::{LoadError, LoadOptions, Loaded, MemoryPlan, Prepared, load};
