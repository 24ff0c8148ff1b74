//! Grammars compiled for one vocabulary. See [`GrammarCompiler`].

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{ParserFactory, TokenParser};
use regex_automata::util::syntax;

use crate::generate::CancelHandle;
use crate::text::Tokenizer;

use super::error::message;
use super::scan::{Scan, Suspects};
use super::shorten;
use super::{Constraint, GrammarError, lark, objects, pattern, schema, vocabulary};

/// Bytes of a schema, or of all choices.
pub const MAX_GRAMMAR_BYTES: usize = 256 << 10;
/// Bytes of a Lark grammar.
pub const MAX_LARK_BYTES: usize = 64 << 10;
/// Bytes of a regular expression.
pub const MAX_REGEX_BYTES: usize = 16 << 10;

/// Stack of the thread that compiles: references and rules are followed by recursion.
const STACK_BYTES: usize = 128 << 20;
/// A grammar that is not ready then is refused; with the limits here none is known that takes a tenth of it.
const MAX_SECONDS: u64 = 10;
/// How often it is looked whether a grammar is still wanted.
const LOOK: Duration = Duration::from_millis(10);

/// What an answer may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// JSON that a JSON Schema allows (2020-12, 2019-09, draft 7 or 6), on one line without spaces. Properties come in
    /// the order of the schema, and no key twice. Where the schema does not say otherwise, an object has all keys of
    /// its `properties` and no others. Numbers that the schema names stay within ±(2^53 - 1) unless it bounds them,
    /// without exponents; every number has at most 16 digits before and 16 behind the point and 2 in an exponent,
    /// unless its bounds need more.
    Schema(String),
    /// Text that a regular expression (syntax of the `regex` crate, without look-around) matches as a whole.
    Regex(String),
    /// Text of a grammar in Lark's syntax, as `llguidance` reads it.
    Lark(String),
    /// Text, or calls of functions.
    Calls(CallGrammar),
}

/// The grammar of answers with calls, as [`Calling`](crate::generate::Calling) makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallGrammar {
    /// In the library's syntax; it names control tokens, and its schemas are prepared.
    pub(in crate::generate) lark: String,
}

impl Grammar {
    /// What it is, for messages.
    pub fn what(&self) -> &'static str {
        match self {
            Grammar::Schema(_) => "schema",
            Grammar::Regex(_) => "regular expression",
            Grammar::Lark(_) => "grammar",
            Grammar::Calls(_) => "tools",
        }
    }

    /// Checks what can be checked without a vocabulary and brings it into the library's form. Says too whether it is
    /// of JSON objects whose keys are free.
    fn prepare(&self) -> Result<(TopLevelGrammar, bool), GrammarError> {
        let limited = |text: &str, limit: usize| match text.len() {
            found if found > limit => Err(GrammarError::TooLong { what: self.what(), found, limit }),
            _ => Ok(()),
        };
        let prepared = match self {
            Grammar::Schema(text) => {
                limited(text, MAX_GRAMMAR_BYTES)?;
                let schema = schema::prepare(text)?;
                let has_free_keys = objects::has_free_keys(&schema);
                return Ok((TopLevelGrammar::from_json_schema(schema), has_free_keys));
            }
            Grammar::Regex(text) => {
                limited(text, MAX_REGEX_BYTES)?;
                // The library would read an empty one as a comment.
                if text.is_empty() {
                    return Err(GrammarError::Regex("it is empty".to_owned()));
                }
                if let Some(problem) = pattern::look_around(text) {
                    return Err(GrammarError::Regex(problem));
                }
                let read = syntax::parse(text);
                read.map_err(|error| GrammarError::Regex(pattern::describe(&error.to_string())))?;
                TopLevelGrammar::from_regex(text)
            }
            Grammar::Calls(calls) => TopLevelGrammar::from_lark(calls.lark.clone()),
            Grammar::Lark(text) => {
                limited(text, MAX_LARK_BYTES)?;
                TopLevelGrammar::from_lark(lark::prepare(text)?)
            }
        };
        Ok((prepared, false))
    }
}

/// Compiles grammars for one vocabulary. Making one takes a walk over all tokens; keep it with the model.
pub struct GrammarCompiler {
    factory: Arc<ParserFactory>,
    suspects: Arc<Suspects>,
    tokenizer: Arc<Tokenizer>,
}

impl GrammarCompiler {
    /// For the tokens of `tokenizer`.
    ///
    /// # Errors
    /// If the vocabulary has no text or too much of it.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<GrammarCompiler, GrammarError> {
        let mut factory = vocabulary::factory(&tokenizer)?;
        *factory.limits_mut() = limits();
        factory.quiet();
        let suspects = Arc::new(Suspects::of(&tokenizer));
        Ok(GrammarCompiler { factory: Arc::new(factory), suspects, tokenizer })
    }

    /// Compiles a grammar, in a thread of its own: a hostile one may need much stack or time, but not more than
    /// the limits.
    ///
    /// # Errors
    /// If the grammar is wrong, too large, has parts that could not be enforced, or allows no text at all.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, GrammarError> {
        self.compile_unless(grammar, &CancelHandle::new())
    }

    /// [`GrammarCompiler::compile`], until it is cancelled. The thread ends with its next step.
    ///
    /// # Errors
    /// As [`GrammarCompiler::compile`], and if it was cancelled.
    pub fn compile_unless(
        &self,
        grammar: &Grammar,
        cancel: &CancelHandle,
    ) -> Result<Constraint, GrammarError> {
        let what = grammar.what();
        let (grammar, factory) = (grammar.clone(), Arc::clone(&self.factory));
        let (tokenizer, suspects) = (Arc::clone(&self.tokenizer), Arc::clone(&self.suspects));
        in_thread(what, cancel, move |stop| {
            let unless_stopped = || match stop.is_cancelled() {
                true => Err(GrammarError::Cancelled { what }),
                false => Ok(()),
            };
            let (prepared, has_free_keys) = grammar.prepare()?;
            let scan = matches!(grammar, Grammar::Schema(_)).then(|| Scan::new(suspects, has_free_keys));
            unless_stopped()?;
            let parser = parser(&factory, what, prepared)?;
            unless_stopped()?;
            Constraint::new(what, parser, scan, tokenizer)
        })
    }
}

fn parser(
    factory: &ParserFactory,
    what: &'static str,
    grammar: TopLevelGrammar,
) -> Result<TokenParser, GrammarError> {
    let refused = |reason| GrammarError::Refused { what, reason };
    let mut parser =
        factory.create_parser(grammar).map_err(|error| refused(message(&format!("{error:#}"))))?;
    match parser.grammar_warnings().first() {
        Some(warning) => Err(refused(shorten(warning))),
        None => Ok(parser),
    }
}

/// Bounds on what a grammar may cost: about 50 ms to compile, 15 ms per mask and 64 MiB of lexer states.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 1000,
        max_lexer_states: 32_768,
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Runs `work` with a large stack, and not for ever: after [`MAX_SECONDS`], or when it is cancelled, it is told to stop and left
/// alone.
fn in_thread<T: Send + 'static>(
    what: &'static str,
    cancel: &CancelHandle,
    work: impl FnOnce(CancelHandle) -> Result<T, GrammarError> + Send + 'static,
) -> Result<T, GrammarError> {
    let (sender, receiver) = sync_channel(1);
    let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK_BYTES);
    let stop = CancelHandle::new();
    let run = {
        let stop = stop.clone();
        move || {
            // Nobody listens if it took too long.
            let _ = sender.send(work(stop));
        }
    };
    let thread = thread.spawn(run).map_err(GrammarError::Thread)?;
    let started = Instant::now();
    let error = loop {
        match receiver.recv_timeout(LOOK) {
            Ok(result) => {
                // It has nothing more to do, and is gone when this returns.
                let _ = thread.join();
                return result;
            }
            Err(RecvTimeoutError::Disconnected) => {
                let reason = "the library failed; please report the grammar".to_owned();
                break GrammarError::Refused { what, reason };
            }
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                break GrammarError::Cancelled { what };
            }
            Err(RecvTimeoutError::Timeout) if started.elapsed() > Duration::from_secs(MAX_SECONDS) => {
                break GrammarError::TooSlow { what, seconds: MAX_SECONDS };
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    stop.cancel();
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_stopped_and_its_thread_ends() {
        let cancel = CancelHandle::new();
        let (sender, receiver) = sync_channel(1);
        cancel.cancel();
        let result = in_thread::<()>("test", &cancel, move |stop| {
            while !stop.is_cancelled() {
                std::thread::sleep(LOOK);
            }
            let _ = sender.send(());
            Err(GrammarError::Cancelled { what: "test" })
        });
        assert!(matches!(result, Err(GrammarError::Cancelled { .. })), "{result:?}");
        assert!(receiver.recv_timeout(Duration::from_secs(20)).is_ok(), "the thread goes on");
        assert!(matches!(in_thread("test", &CancelHandle::new(), |_| Ok(7)), Ok(7)));
    }
}
