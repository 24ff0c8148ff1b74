//! `smolt perplexity`: how well a model predicts a text.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{ModelArgs, ResourceArgs, kv_type};
use super::constrain::GrammarArgs;
use super::error::{CliError, Exit};
use super::input::STDIN;
use super::{input, load, output};
use crate::console::{Code, Screen, Stream};
use crate::eval::bench::MAX_THREADS;
use crate::eval::perplexity::{CHUNK, Corpus, Perplexity, PerplexityOptions, perplexity};
use crate::generate::Session;
use crate::kernels::KvType;
use crate::model::{Model, Runner};

/// Tokens whose logits are computed together.
const LOGIT_ROWS: usize = 8;
/// Most bytes of text.
const MAX_TEXT_BYTES: usize = 256 << 20;

/// Arguments of `smolt perplexity`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Lower is better. The protocol is the default one of llama.cpp's
llama-perplexity: chunks of 512 tokens that do not overlap, of which the
second half is scored. Figures compare only for the same text, the same
chunks and the same vocabulary.

Example:
  smolt perplexity -m model.gguf wiki.test.raw --chunks 100"
)]
pub struct PerplexityArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Text file; - for standard input
    #[arg(value_name = "FILE")]
    text: PathBuf,

    /// Tokens of a chunk
    #[arg(short, long, value_name = "N", default_value_t = CHUNK)]
    context: usize,

    /// Read at most this many chunks
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,

    /// Threads [default: one per processor, at most 4]
    #[arg(short, long, value_name = "N", env = "SMOLT_THREADS",
          value_parser = clap::value_parser!(i64).range(1..=MAX_THREADS as i64))]
    threads: Option<i64>,

    /// How keys and values of the context are stored
    #[arg(long, value_name = "TYPE", env = "SMOLT_KV", default_value_t, value_parser = kv_type())]
    kv: KvType,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    result: Perplexity,
    seconds: f64,
    /// Tokens read per second.
    tokens_s: f64,
    threads: usize,
    isa: &'static str,
    kv: &'static str,
    model: ModelInfo<'a>,
}

#[derive(Serialize)]
struct ModelInfo<'a> {
    name: String,
    file: &'a str,
    bytes: u64,
}

/// Reads, measures, reports.
pub(super) fn execute(args: &PerplexityArgs) -> Result<Exit, CliError> {
    let resources =
        ResourceArgs { context: Some(args.context), threads: args.threads, kv: args.kv, max_memory: None };
    let planned = load::plan(&args.model, &resources, LOGIT_ROWS, &GrammarArgs::default())?;
    let options = PerplexityOptions { n_ctx: args.context, chunks: args.chunks };
    let tokenizer = Arc::new(load::tokenizer(planned.file(), &args.model)?);
    let corpus = Corpus::new(&tokenizer, &read_text(&args.text)?)?;
    options.check(corpus.tokens.len())?;
    let model = Arc::new(Model::load(planned.file(), planned.kernels())?);
    let mut session = Session::new(Runner::new(model, planned.options())?, tokenizer);
    let start = Instant::now();
    let progress = Progress { start, is_shown: Stream::Err.is_terminal() };
    let result =
        perplexity(&mut session, &corpus, &options, &mut |so_far, chunks| progress.show(so_far, chunks));
    progress.clear();
    let (result, seconds) = (result?, start.elapsed().as_secs_f64());
    let report = Report {
        result,
        seconds,
        tokens_s: (result.chunks * result.n_ctx) as f64 / seconds,
        threads: session.model().threads(),
        isa: planned.kernels().name,
        kv: args.kv.name(),
        model: ModelInfo {
            name: planned.name(),
            file: planned.file().name(),
            bytes: planned.file().file_bytes(),
        },
    };
    if args.json {
        output::write_json(&report)?
    } else {
        output::table(&show(&report))?
    }
    Ok(Exit::Ok)
}

fn show(report: &Report<'_>) -> String {
    let Perplexity { ppl, stderr, chunks, scored_tokens, n_ctx } = report.result;
    let stderr = stderr.map_or(String::new(), |stderr| format!(" +/- {stderr:.4}"));
    format!(
        "perplexity {ppl:.4}{stderr}\n{scored_tokens} tokens scored in {chunks} chunks of {n_ctx}, {:.1} s, {:.0} tokens/s\n",
        report.seconds, report.tokens_s
    )
}

fn read_text(path: &Path) -> Result<String, CliError> {
    if path == Path::new(STDIN) {
        return Ok(input::read_text(MAX_TEXT_BYTES)?);
    }
    Ok(crate::files::read_text(path, MAX_TEXT_BYTES as u64)?)
}

/// One line on standard error that is rewritten, if a person sees it.
struct Progress {
    start: Instant,
    is_shown: bool,
}

impl Progress {
    fn show(&self, so_far: &Perplexity, chunks: usize) {
        if self.is_shown {
            let left = remaining(self.start.elapsed(), so_far.chunks, chunks).as_secs();
            let (done, ppl) = (so_far.chunks, so_far.ppl);
            let line = format!("chunk {done} of {chunks}, perplexity {ppl:.3}, {left} s left");
            Screen::new().code(Code::ClearLine).text(&line).say();
        }
    }

    fn clear(&self) {
        if self.is_shown {
            Screen::new().code(Code::ClearLine).say();
        }
    }
}

/// Time for the rest if each chunk takes as long as those before.
fn remaining(elapsed: Duration, done: usize, all: usize) -> Duration {
    elapsed.mul_f64(all.saturating_sub(done) as f64 / done.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_is_in_proportion() {
        assert_eq!(remaining(Duration::from_secs(30), 10, 40), Duration::from_secs(90));
        assert_eq!(remaining(Duration::from_secs(30), 40, 40), Duration::ZERO);
        assert_eq!(remaining(Duration::from_secs(1), 0, 3), Duration::from_secs(3));
    }

    #[test]
    fn a_text_must_be_there_and_be_utf8() {
        let missing = read_text(Path::new("no/such/text")).unwrap_err();
        assert!(missing.to_string().contains("no/such/text"));
        let path = std::env::temp_dir().join(format!("smolt-perplexity-{}.txt", std::process::id()));
        std::fs::write(&path, b"caf\xe9").unwrap();
        let error = read_text(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(error.unwrap_err().to_string().contains("smolt-perplexity"));
    }
}
