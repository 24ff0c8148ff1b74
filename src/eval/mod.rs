//! Measuring models: how well they predict a text and how fast they run.
//!
//! # Design
//!
//! ```text
//! perplexity   how well a model predicts a text, by llama.cpp's protocol; Score: logits of many positions
//! divergence   how far a model's predictions are from another's
//! batch        many prompts from lines of JSON to lines of JSON
//! bench        tests of reading a prompt and writing tokens, timed
//!   report     what was measured, as a table, JSON or CSV
//!   probe      read bandwidth of the memory, peak memory of the process
//! synthetic    models with random weights in the shapes of real ones
//! tasks        questions with known answers: accuracy, perplexity, BLEU; comparisons
//! stats        median, spread, log-softmax, mean with its standard error
//! html         text in pages of results
//! error        everything that can go wrong
//! ```
//!
//! Batches, tasks and timings are there with the feature `eval`.
//!
//! Nothing here prints: results are values, progress goes to a callback.

#[cfg(feature = "eval")]
pub mod batch;
#[cfg(feature = "eval")]
pub mod bench;
pub mod divergence;
mod error;
#[doc(hidden)]
pub mod html;
#[cfg(feature = "eval")]
mod ordered;
pub mod perplexity;
#[cfg(feature = "eval")]
#[doc(hidden)]
pub mod probe;
#[cfg(feature = "eval")]
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod stats;
#[doc(hidden)]
pub mod synthetic;
#[cfg(feature = "eval")]
pub mod tasks;

pub use error::EvalError;
