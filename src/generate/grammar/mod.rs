//! Constrained output: answers that match a JSON Schema, a regular expression or a Lark grammar.
//!
//! # Design
//!
//! ```text
//! Grammar            what an answer may be, as the user wrote it
//!   schema           refuses JSON Schema keywords that would not be enforced
//!     objects        which keys objects have where a schema does not say it
//!   lark             the same for Lark grammars
//!   pattern          what is wrong with a regular expression
//! vocabulary         the tokens of a model as bytes
//! GrammarCompiler    grammars for one vocabulary
//! Constraint         one grammar being followed: a LogitFilter
//!   scan             rules for JSON that no grammar holds: digits, keys
//!   ending           keeps the answer where an end of it fits into what may follow
//!     closing        finds such an end
//! error              everything that can be wrong with a grammar
//! ```
//!
//! The `llguidance` crate does the matching: a lexer of regular-expression derivatives below an Earley parser
//! walks the trie of all tokens and gives the set of those that may come next. Here is what it leaves open:
//! which tokens are text, where an answer may end, and the limits that a hostile grammar runs into.
//!
//! A [`Constraint`] is a [`LogitFilter`](super::LogitFilter), so it works with every sampler, with stop strings
//! and with tokens guessed ahead, each of which is chosen under the mask of its own position. Only text tokens
//! are ever allowed: control tokens are not in the trie, and end tokens exactly where the grammar may end. An
//! answer that the grammar cannot continue ends without asking the model again.
//!
//! Any split of the text into tokens is allowed; the model decides. Nothing is forced, but near the limit: there a
//! token is taken only if an end of the text that is known fits after it, else the next token of the end known before.
//! So an answer that is cut off is whole all the same. Far from the limit this costs a look at every sixteenth token.
//!
//! # Memory
//!
//! [`planned_grammar_bytes`] is what the tries of a vocabulary take while they are built, and part of the plan of
//! a run. The session itself allocates nothing per token under a constraint either, but `llguidance` does: a mask
//! of one bit per token, parser rows, and lexer states as they are met, about 2 KiB each. [`ParserLimits`] bound
//! the last two. What was learned of the lexer is shared by all clones of a constraint.

mod closing;
mod compiler;
mod constraint;
mod ending;
mod error;
mod lark;
mod objects;
mod pattern;
mod scan;
mod schema;
mod shorten;
mod vocabulary;

#[cfg(doc)]
use llguidance::api::ParserLimits;

pub use self::compiler::{
    CallGrammar, Grammar, GrammarCompiler, MAX_GRAMMAR_BYTES, MAX_LARK_BYTES, MAX_REGEX_BYTES,
};
pub use self::constraint::Constraint;
pub use self::error::GrammarError;
pub(super) use self::schema::prepare_value;
pub(super) use self::shorten::shorten;
pub use self::vocabulary::{loaded_grammar_bytes, planned_grammar_bytes};
