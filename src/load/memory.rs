//! The plan of all memory.

use serde::Serialize;

use super::{DoesNotFit, LoadError};
use crate::generate;
use crate::gguf::GgufFile;
use crate::kernels::Kernels;
use crate::model::{Plan, RunOptions, Spec};
use crate::text;

/// What a process takes for itself is this many times the code that only grammars run.
const GRAMMAR_CODE: u64 = 5;

/// Bytes of everything that a model and its sessions or slots keep, by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Weights, norms and biases.
    pub weights: u64,
    /// Keys and values of the context, and what states remember, of all slots.
    pub kv_cache: u64,
    /// Working memory of the model, the sampler, the session and the tokenizer.
    pub scratch: u64,
    /// The vocabulary and what finds its tokens.
    pub tokenizer: u64,
    /// To hold answers to a grammar, code included; 0 without one.
    pub grammar: u64,
    /// The process for itself: code, constants, what else it keeps.
    pub program: u64,
    /// All of it.
    pub total: u64,
}

impl MemoryPlan {
    /// Plans the slots of the model in `file`, from its header, in a process that takes `program` bytes for itself.
    ///
    /// # Errors
    /// If the file does not hold a model that can be run.
    pub fn new(
        file: &GgufFile,
        kernels: &Kernels,
        options: &RunOptions,
        program: u64,
    ) -> Result<Self, LoadError> {
        let plan = Plan::new(file, kernels, options)?;
        let texts = file.str_array(text::KEY_TOKENS)?;
        let longest = texts.and_then(|texts| texts.iter_bytes().map(<[u8]>::len).max()).unwrap_or(0);
        let vocab = Spec::read(file)?.vocab;
        let session = options.slots as u64 * generate::planned_bytes(options.context, vocab, longest)
            + text::planned_encoding_bytes(longest, options.context);
        // A header that is held is for the most part vocabulary.
        let tokenizer = text::planned_bytes(file) + file.held_bytes();
        Ok(Self {
            weights: plan.weights,
            kv_cache: plan.kv_cache,
            scratch: plan.scratch + session,
            tokenizer,
            grammar: 0,
            program,
            total: plan.total() + session + tokenizer + program,
        })
    }

    /// Returns what each session takes beside the first.
    pub fn of_session(&self) -> u64 {
        self.kv_cache + self.scratch
    }

    /// Adds what answers to a grammar take.
    pub fn add_grammar(&mut self, file: &GgufFile) {
        if self.grammar == 0 {
            self.add_grammar_bytes(generate::planned_grammar_bytes(file));
        }
    }

    /// Adds what answers to a grammar take, of which the heap is known.
    pub fn add_grammar_bytes(&mut self, heap: u64) {
        self.set_grammar(heap + self.program / GRAMMAR_CODE);
    }

    /// Sets all that answers to a grammar take, if that is not done.
    pub(super) fn set_grammar(&mut self, bytes: u64) {
        if self.grammar == 0 {
            self.grammar = bytes;
            self.total += bytes;
        }
    }

    /// Refuses a plan above `limit`, and says which context would fit.
    ///
    /// # Errors
    /// If it is above.
    pub fn check(
        &self,
        limit: Option<u64>,
        file: &GgufFile,
        kernels: &Kernels,
        options: &RunOptions,
    ) -> Result<(), DoesNotFit> {
        let Some(limit) = limit.filter(|limit| self.total > *limit) else { return Ok(()) };
        let largest = largest_context(options.context, |context| {
            let plan = Self::new(file, kernels, &RunOptions { context, ..*options }, self.program);
            plan.is_ok_and(|plan| plan.total + self.grammar <= limit)
        });
        let (file, context, grammar) = (file.name().to_owned(), options.context, self.grammar > 0);
        let slots = options.slots;
        Err(DoesNotFit { file, needed: self.total, limit, context, slots, grammar, largest })
    }
}

/// The largest context below `context` that fits; `fits` is true up to some context.
fn largest_context(context: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut fitting, mut failing) = (0, context);
    while failing - fitting > 1 {
        let middle = fitting + (failing - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            failing = middle;
        }
    }
    (fitting > 0).then_some(fitting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_fitting_context_is_found() {
        for most in 0..20 {
            let found = largest_context(20, |context| context <= most);
            assert_eq!(found, (most > 0).then_some(most));
        }
        assert_eq!(largest_context(1, |_| true), None);
    }
}
