//! Arguments that commands share.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::kernels::KvType;
use crate::model::{MAX_CONTEXT, RunOptions, Spec};

use super::memory::parse_bytes;

/// Longest context taken without being asked for.
const DEFAULT_CONTEXT: usize = 2048;
/// Most threads taken without being asked for: small models gain little from more.
const DEFAULT_THREADS: usize = 4;
/// Most threads.
const MAX_THREADS: i64 = 256;

/// Which model.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// Model in GGUF format; without it, the built-in demo model
    #[arg(short, long, value_name = "FILE", env = "SMOLT_MODEL")]
    pub(super) model: Option<PathBuf>,

    /// Pre-tokenizer, if the file names none or an unknown one
    #[arg(long, value_name = "NAME", env = "SMOLT_PRE")]
    pub(super) pre: Option<String>,
}

/// What a run may take of the computer.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ResourceArgs {
    /// Tokens that prompt and answer may have together [default: what the model was trained for, at most 2048]
    #[arg(short, long, value_name = "N", env = "SMOLT_CONTEXT", value_parser = context)]
    pub(super) context: Option<usize>,

    /// Threads [default: one per processor, at most 4]
    #[arg(short, long, value_name = "N", env = "SMOLT_THREADS",
          value_parser = clap::value_parser!(i64).range(1..=MAX_THREADS))]
    pub(super) threads: Option<i64>,

    /// How keys and values of the context are stored; q8_0 takes about half the memory
    #[arg(long, value_name = "TYPE", env = "SMOLT_KV", default_value_t, value_parser = kv_type())]
    pub(super) kv: KvType,

    /// Refuse to start if more memory is needed, e.g. 200M (K, M, G: powers of 1024)
    #[arg(long, value_name = "SIZE", env = "SMOLT_MAX_MEMORY", value_parser = parse_bytes)]
    pub(super) max_memory: Option<u64>,
}

fn context(text: &str) -> Result<usize, String> {
    let value = text.parse().ok().filter(|n| (1..=MAX_CONTEXT).contains(n));
    value.ok_or_else(|| format!("not a number from 1 to {MAX_CONTEXT}"))
}

/// Reads the name of a [`KvType`].
pub(super) fn kv_type() -> impl TypedValueParser<Value = KvType> {
    let names = PossibleValuesParser::new(KvType::ALL.map(KvType::name));
    names.map(|name| KvType::named(&name).unwrap_or_default())
}

impl ResourceArgs {
    /// Fills in what was not given. `logit_rows` as in [`RunOptions`].
    pub(super) fn resolve(&self, spec: &Spec, logit_rows: usize) -> RunOptions {
        let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        RunOptions {
            context: self.context.unwrap_or(spec.trained_context.min(DEFAULT_CONTEXT)),
            threads: self.threads.map_or_else(|| processors().min(DEFAULT_THREADS), |n| n as usize),
            logit_rows,
            kv: self.kv,
        }
    }
}
