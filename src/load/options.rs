//! What a session may take of the computer.

use std::num::NonZeroUsize;

use super::LoadError;
use crate::kernels::{Kernels, KvType};
use crate::model::{MAX_SLOTS, RunOptions, Spec, Verified};

/// Longest context taken without being asked for.
pub const USUAL_CONTEXT: usize = 2048;
/// Most threads taken without being asked for: small models gain little from more.
const USUAL_THREADS: usize = 4;
/// Most threads.
pub const MAX_THREADS: usize = 256;
/// Most tokens whose logits are computed together.
pub const MAX_LOGIT_ROWS: usize = 4096;

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Tokens that prompt and answer of a session have together at most; `None` for what the model was trained for, at
    /// most [`USUAL_CONTEXT`].
    pub context: Option<usize>,
    /// Threads of a session, 1 to [`MAX_THREADS`]; `None` for one per processor, at most 4.
    pub threads: Option<usize>,
    /// How keys and values are stored.
    pub kv: KvType,
    /// Sequences that [`Loaded::slots`](super::Loaded::slots) works on at once, 1 to [`MAX_SLOTS`].
    pub slots: usize,
    /// Tokens whose logits are computed together, 1 to [`MAX_LOGIT_ROWS`]: one more than
    /// [`Request::lookup`](crate::generate::Request::lookup) guesses.
    pub logit_rows: usize,
    /// Whether answers will be held to grammars, for which the plan then has memory.
    pub grammar: bool,
    /// Bytes that the plan may have in all; a model that needs more is refused before it is loaded.
    pub max_memory: Option<u64>,
    /// Bytes that the process takes for itself, to be counted too.
    pub program_bytes: u64,
    /// The pre-tokenizer, in place of the one that the file names.
    pub pre: Option<String>,
    /// What the pack of a model is bound to that was verified; `None` for one that was not, or has no pack.
    pub verified: Option<Verified>,
    /// The kernels; `None` for those of [`Kernels::detect`].
    pub kernels: Option<&'static Kernels>,
}

impl Default for LoadOptions {
    /// Plans for a session of the usual context and threads, keys and values in half precision, without a limit.
    fn default() -> LoadOptions {
        LoadOptions {
            context: None,
            threads: None,
            kv: KvType::default(),
            slots: 1,
            logit_rows: 1,
            grammar: false,
            max_memory: None,
            program_bytes: 0,
            pre: None,
            verified: None,
            kernels: None,
        }
    }
}

impl LoadOptions {
    /// Fills in what was not given, for a model of this shape.
    ///
    /// # Errors
    /// If an option is out of range.
    pub(super) fn resolve(&self, spec: &Spec) -> Result<RunOptions, LoadError> {
        let threads = self.threads.unwrap_or_else(usual_threads);
        check("the number of threads", threads, MAX_THREADS)?;
        check("the number of logit rows", self.logit_rows, MAX_LOGIT_ROWS)?;
        check("the number of slots", self.slots, MAX_SLOTS)?;
        Ok(RunOptions {
            context: self.context.unwrap_or(spec.trained_context.min(USUAL_CONTEXT)),
            threads,
            slots: self.slots,
            logit_rows: self.logit_rows,
            kv: self.kv,
        })
    }
}

fn check(what: &'static str, found: usize, most: usize) -> Result<(), LoadError> {
    if (1..=most).contains(&found) { Ok(()) } else { Err(LoadError::OutOfRange { what, found, most }) }
}

/// Returns the threads that are taken where none are asked for: one per processor, at most 4.
pub fn usual_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(USUAL_THREADS)
}
