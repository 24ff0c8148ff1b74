//! From a prompt to text: sampling, stop rules and the session that every surface uses.
//!
//! # Design
//!
//! ```text
//! session      Session: one model and what is in its cache; the loop
//!   stream     Stream: an answer that its reader takes part by part
//!   sequence   prompt and answer while the answer grows
//!   lookup     tokens guessed ahead from the text so far
//!   sampler    Sampler: from logits to a token
//!     options      SamplerOptions and their ranges
//!     candidates   the most likely tokens, in order, and the filters that cut them
//!     logits       maximum, softmax sums, drawing
//!   filter     LogitFilter: a rule of the caller's on what may come next
//!     grammar      Constraint: answers that match a schema, a regular expression, a grammar
//!     gate         leaves the reasoning before an answer free
//!   layout     reasoning, answer and calls, told apart as they come
//!   tools      functions that a model may call
//!   choices    how likely each of some answers is, exactly
//!   likelihood what a model predicts at every position of a text
//!   logprobs   log-probabilities of the chosen and the most likely tokens
//!   stop       text held back while it may become a stop string
//!   repetition notices an answer that goes in circles
//!   cancel     CancelHandle: stops a session from another thread
//!   metrics    Timings
//!   tally      Tally: answers of this process, in numbers
//! slots        Slots: one model and several caches, all worked on in one pass
//!   engine     Engine: slots on a thread of their own, for callers on other threads
//! conversation turns of a chat, as the tokens of the next request
//!   format     Format: how messages become a prompt
//! saved        a conversation with the state of the cache in a file
//! error        everything that can go wrong
//! ```
//!
//! A token costs one call of [`LanguageModel::feed_rows`](crate::model::LanguageModel::feed_rows) at most and no
//! memory: every buffer is reserved when a session is made or a request starts. Text is detokenized as it comes; an
//! incomplete character and anything that may become a stop string is held back.
//!
//! Equal requests give equal tokens on every platform, given equal logits: random numbers come from ChaCha12
//! with the seed as its key, exponentials and sums are computed here in one fixed order, and ties go to the
//! lowest id. Guessing ahead changes nothing: each token is chosen from the same logits with the same random
//! number.

mod cancel;
mod candidates;
mod choices;
mod conversation;
mod engine;
mod error;
mod filter;
mod format;
mod gate;
mod generation;
mod grammar;
mod layout;
mod likelihood;
mod limits;
mod logits;
mod logprobs;
mod lookup;
mod metrics;
mod options;
mod repetition;
mod request;
mod sampler;
mod saved;
mod sequence;
mod session;
mod slots;
mod stop;
mod stream;
mod tally;
mod task;
mod tools;

#[cfg(test)]
mod tests;

pub use self::cancel::CancelHandle;
pub use self::choices::{Choice, Draw, MAX_CHOICES, check_choices};
pub use self::conversation::{Conversation, More, Next, Turn};
pub use self::engine::{Engine, Load, OnDone};
pub use self::error::GenerateError;
pub use self::filter::{FilterError, LogitFilter, Resumed};
pub use self::format::Format;
pub use self::grammar::{
    CallGrammar, Constraint, Grammar, GrammarCompiler, GrammarError, MAX_GRAMMAR_BYTES, MAX_LARK_BYTES,
    MAX_REGEX_BYTES, loaded_grammar_bytes, planned_grammar_bytes,
};
pub use self::layout::{Layout, Thinking};
pub use self::likelihood::{OnPrediction, Predicted};
pub use self::logprobs::{MAX_LOGPROBS, Scorer, TokenLogprob, TokenLogprobs};
pub use self::lookup::MAX_LOOKUP;
pub use self::metrics::Timings;
pub use self::options::{OptionError, SamplerOptions};
pub use self::request::{FinishReason, Outcome, Request, TokenEvent};
pub use self::sampler::Sampler;
pub use self::saved::{
    Difference, Identity, Journal, MAX_HEADER_BYTES, Opened, Origin, SavedError, open, origin, save,
};
pub use self::session::{Session, planned_bytes};
pub use self::slots::{Done, Job, OnEvent, Slots, Ticket};
pub use self::stop::{MAX_STOP_BYTES, MAX_STOPS};
pub use self::stream::{Part, Stream};
#[doc(hidden)]
pub use self::tally::{FIRST_TOKEN_MS, RATES, Tally, tally};
pub use self::tools::{
    CallError, CallFormat, Calling, MAX_TOOLS, MAX_TOOLS_BYTES, ToolChoice, ToolError, Tools,
};
