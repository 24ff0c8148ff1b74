//! Sizes as people write them, and the plan of all memory.

use serde::Serialize;

use super::error::CliError;
use crate::eval::probe::program_bytes;
use crate::generate;
use crate::gguf::GgufFile;
use crate::kernels::Kernels;
use crate::model::{Plan, RunOptions, Spec};
use crate::text;

const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Reads `200M`: a whole number, then K, M or G for powers of 1024, then `iB` or `B` for who likes it.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let short = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(letter, unit)| Some((short.strip_suffix(*letter)?, *unit)))
        .unwrap_or((short, 1));
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    bytes.filter(|&n| n > 0).ok_or_else(|| "expected a size such as 200M or 1G".to_owned())
}

/// Shows a number of bytes to a tenth of its unit.
pub(super) fn show_bytes(bytes: u64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((letter, unit)) => format!("{:.1} {letter}iB", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// Bytes of everything the process keeps, by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MemoryPlan {
    pub(super) weights: u64,
    pub(super) kv_cache: u64,
    /// Working memory of the model, the sampler, the session and the tokenizer.
    pub(super) scratch: u64,
    pub(super) tokenizer: u64,
    /// To hold answers to a grammar; 0 without one.
    pub(super) grammar: u64,
    /// Code, constants and what the command line takes.
    pub(super) program: u64,
    pub(super) total: u64,
}

impl MemoryPlan {
    /// Plans a process with one session of the model in `file`, from its header.
    ///
    /// # Errors
    /// If the file does not hold a model that can be run.
    pub(super) fn new(file: &GgufFile, kernels: &Kernels, options: &RunOptions) -> Result<Self, CliError> {
        let plan = Plan::new(file, kernels, options)?;
        let texts = file.str_array(text::KEY_TOKENS)?;
        let longest = texts.and_then(|texts| texts.iter_str().map(str::len).max()).unwrap_or(0);
        let vocab = Spec::read(file)?.vocab;
        let session = generate::planned_bytes(options.context, vocab, longest)
            + text::planned_encoding_bytes(longest, options.context);
        let tokenizer = text::planned_bytes(file);
        let program = program_bytes();
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

    /// Adds what answers to a grammar take.
    pub(super) fn add_grammar(&mut self, file: &GgufFile) {
        if self.grammar == 0 {
            self.add_grammar_bytes(generate::planned_grammar_bytes(file));
        }
    }

    /// Adds what answers to a grammar take, which is known.
    pub(super) fn add_grammar_bytes(&mut self, bytes: u64) {
        if self.grammar == 0 {
            self.grammar = bytes;
            self.total += bytes;
        }
    }

    /// Refuses a plan above `limit`, and says which context would fit.
    ///
    /// # Errors
    /// [`CliError::DoesNotFit`].
    pub(super) fn check(
        &self,
        limit: Option<u64>,
        file: &GgufFile,
        kernels: &Kernels,
        options: &RunOptions,
    ) -> Result<(), CliError> {
        let Some(limit) = limit.filter(|limit| self.total > *limit) else { return Ok(()) };
        let largest = largest_context(options.context, |context| {
            let plan = Self::new(file, kernels, &RunOptions { context, ..*options });
            plan.is_ok_and(|plan| plan.total + self.grammar <= limit)
        });
        let (file, context, grammar) = (file.name().to_owned(), options.context, self.grammar > 0);
        Err(CliError::DoesNotFit { file, needed: self.total, limit, context, grammar, largest })
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
    fn sizes_are_read() {
        for (text, bytes) in
            [("200M", 200 << 20), ("1g", 1 << 30), ("64KiB", 64 << 10), ("5mb", 5 << 20), ("77", 77)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "0", "-1", "1.5G", "10X", "99999999999G", "1 M M"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1536), "1.5 KiB");
        assert_eq!(show_bytes(200 << 20), "200.0 MiB");
    }

    #[test]
    fn the_largest_fitting_context_is_found() {
        for most in 0..20 {
            let found = largest_context(20, |context| context <= most);
            assert_eq!(found, (most > 0).then_some(most));
        }
        assert_eq!(largest_context(1, |_| true), None);
    }
}
