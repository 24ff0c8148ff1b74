//! What is asked, by whoever asks it: from JSON to a job for the model.
//!
//! # Design
//!
//! ```text
//! item      a prompt or messages, with parameters of its own
//!   parse   from JSON to an item: our own keys, and the requests of OpenAI's interface
//!   calls   functions, calls and their results
//! keys      JSON objects that a person wrote, read key by key
//! form      what an answer may be
//! prompts   from an item to its prompt, its layout and the rule its answer follows
//! prepare   from an item to a request
//!   bias    biases of single tokens, and penalties
//! response  an answer, as OpenAI's clients know it
//! trouble   why an item has no answer
//! ```
//!
//! Batches and the server ask this way: equal items give equal answers.

pub(crate) mod bias;
mod calls;
mod form;
mod item;
pub(crate) mod keys;
pub(crate) mod parse;
mod prepare;
mod prompts;
mod response;
mod trouble;

pub use self::form::Form;
pub use self::item::Item;
pub use self::keys::KeyError;
pub use self::prepare::{Defaults, Prepare, Prepared, Rule, check_form, prepare};
pub use self::prompts::Prompts;
pub use self::response::{AnswerMessage, CalledFunction, FunctionCall, finish_reason};
pub use self::trouble::{ItemError, Trouble};
