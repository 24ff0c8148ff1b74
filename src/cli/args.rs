//! Arguments that commands share.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::eval::probe::available_bytes;
use crate::generate::MAX_LOOKUP;
use crate::kernels::KvType;
use crate::load::{LoadError, LoadOptions, MAX_THREADS, Prepared};
use crate::model::{MAX_CONTEXT, MAX_SLOTS};

use super::demo;
use super::memory::parse_bytes;
use super::stored::StoredArgs;
use super::trusted::TrustArgs;

/// Which model.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// Model: a GGUF file, a preset, an alias or an installed model [default: the one of smolt use, else the built-in demo model]
    #[arg(short, long, value_name = "MODEL", env = "SMOLT_MODEL")]
    pub(super) model: Option<PathBuf>,

    /// Pre-tokenizer, if the file names none or an unknown one
    #[arg(long, value_name = "NAME", env = "SMOLT_PRE")]
    pub(super) pre: Option<String>,

    #[command(flatten)]
    pub(super) trust: TrustArgs,

    #[command(flatten)]
    pub(super) stored: StoredArgs,

    /// Whether the built-in model was named: then there is nothing to say about it.
    #[arg(skip)]
    pub(super) is_demo: bool,
}

impl ModelArgs {
    /// What is named, as messages call it; nothing where no model is.
    pub(super) fn named(&self) -> Option<String> {
        match &self.model {
            Some(model) => Some(model.display().to_string()),
            None => self.is_demo.then(|| demo::NAME.to_owned()),
        }
    }

    /// The same with another model, of which the same is demanded.
    pub(super) fn of(&self, model: PathBuf) -> ModelArgs {
        ModelArgs { model: Some(model), is_demo: false, ..self.clone() }
    }
}

/// What a run may take of the computer.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ResourceArgs {
    /// Tokens that prompt and answer may have together [default: what the model was trained for, at most 2048]
    #[arg(short, long, value_name = "N", env = "SMOLT_CONTEXT", value_parser = context)]
    pub(super) context: Option<usize>,

    /// Threads [default: one per processor, at most 4]
    #[arg(short, long, value_name = "N", env = "SMOLT_THREADS",
          value_parser = clap::value_parser!(i64).range(1..=MAX_THREADS as i64))]
    pub(super) threads: Option<i64>,

    /// How keys and values of the context are stored; q8_0 takes about half the memory
    #[arg(long, value_name = "TYPE", env = "SMOLT_KV", default_value_t, value_parser = kv_type())]
    pub(super) kv: KvType,

    /// Refuse to start if more memory is needed, e.g. 200M (K, M, G: powers of 1024)
    #[arg(long, value_name = "SIZE", env = "SMOLT_MAX_MEMORY", value_parser = parse_bytes)]
    pub(super) max_memory: Option<u64>,
}

/// How many answers at once.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ParallelArgs {
    /// Work on N answers at once, each with a context of its own: the same answers, sooner [default: 4, fewer where
    /// memory is short, 1 for standard input, whose next line may wait for an answer]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_SLOTS as i64))]
    parallel: Option<u16>,
}

/// Answers at once where none is asked for: on the computers this is for, more gain little and take memory.
pub(super) const USUAL_PARALLEL: usize = 4;

impl ParallelArgs {
    #[cfg(feature = "serve")]
    /// As if so many were asked for.
    pub(super) fn of(parallel: Option<u16>) -> Self {
        Self { parallel }
    }

    /// As many as were asked for, else at most `most`, as many as the plan has memory for.
    ///
    /// # Errors
    /// If the plan cannot be made.
    pub(super) fn settle(&self, planned: &mut Prepared, most: usize) -> Result<(), LoadError> {
        if let Some(slots) = self.parallel {
            return planned.set_slots(usize::from(slots));
        }
        let available = available_bytes().map_or(u64::MAX, |bytes| bytes / 4 * 3);
        let mut slots = most;
        loop {
            planned.set_slots(slots)?;
            // An item may ask for a form, and must find the memory that it would find alone.
            let mut plan = *planned.plan();
            plan.add_grammar(planned.file());
            if slots == 1 || (planned.check_plan(&plan).is_ok() && plan.total <= available) {
                return Ok(());
            }
            slots /= 2;
        }
    }
}

/// How far to guess ahead.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LookupArgs {
    /// Guess up to N tokens ahead from the text so far: the same answer, sooner where it repeats parts of the
    /// prompt or of itself [default: 0, without a number 7]
    #[arg(long, value_name = "N", env = "SMOLT_LOOKUP", num_args = 0..=1, require_equals = true,
          default_value = "0", default_missing_value = "7", hide_default_value = true,
          value_parser = clap::value_parser!(u16).range(0..=MAX_LOOKUP as i64))]
    lookup: u16,
}

impl LookupArgs {
    /// Reads a number of tokens.
    pub(super) fn parse(text: &str) -> Option<LookupArgs> {
        let lookup = text.parse().ok().filter(|lookup| usize::from(*lookup) <= MAX_LOOKUP)?;
        Some(LookupArgs { lookup })
    }

    /// Tokens to guess ahead at most.
    pub(super) fn tokens(&self) -> usize {
        usize::from(self.lookup)
    }

    /// As in [`LoadOptions`]: a guess and the token before it are read together.
    pub(super) fn logit_rows(&self) -> usize {
        1 + self.tokens()
    }
}

/// Reads a length of the context.
pub(super) fn context(text: &str) -> Result<usize, String> {
    let value = text.parse().ok().filter(|n| (1..=MAX_CONTEXT).contains(n));
    value.ok_or_else(|| format!("not a number from 1 to {MAX_CONTEXT}"))
}

/// Reads a number of threads.
pub(super) fn parse_threads(text: &str) -> Option<i64> {
    text.parse().ok().filter(|count| (1..=MAX_THREADS as i64).contains(count))
}

/// Reads the name of a [`KvType`].
pub(super) fn kv_type() -> impl TypedValueParser<Value = KvType> {
    let names = PossibleValuesParser::new(KvType::ALL.map(KvType::name));
    names.map(|name| KvType::named(&name).unwrap_or_default())
}

impl ResourceArgs {
    /// How a model is loaded with it.
    pub(super) fn options(&self) -> LoadOptions {
        LoadOptions {
            context: self.context,
            threads: self.threads.map(|n| n as usize),
            kv: self.kv,
            max_memory: self.max_memory,
            ..LoadOptions::default()
        }
    }
}

/// The words of a command line in which `-c` without a number is `--continue`, for commands that can go on with a session.
pub(super) fn with_continue(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    let command = words.iter().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    if !command.is_some_and(|command| command == "run" || command == "chat") {
        return words;
    }
    let is_number = |word: &OsString| {
        word.to_str().is_some_and(|word| word.parse::<f64>().is_ok() || word.starts_with("0x"))
    };
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    for at in 2..end {
        if words[at] == "-c" && !words.get(at + 1).is_some_and(is_number) {
            words[at] = "--continue".into();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_without_a_number_continues() {
        for (line, expected) in [
            ("smolt chat -c", "smolt chat --continue"),
            ("smolt -q run -c and then?", "smolt -q run --continue and then?"),
            ("smolt run -c -5 Hello", "smolt run -c -5 Hello"),
            ("smolt chat -c -m a.gguf", "smolt chat --continue -m a.gguf"),
            ("smolt run -c and then?", "smolt run --continue and then?"),
            ("smolt run -c 512 Hello", "smolt run -c 512 Hello"),
            ("smolt run -c512 -- -c", "smolt run -c512 -- -c"),
            ("smolt plan -c", "smolt plan -c"),
            ("smolt", "smolt"),
        ] {
            let words = with_continue(line.split(' ').map(OsString::from));
            assert_eq!(words.join(&OsString::from(" ")), expected);
        }
    }
}
