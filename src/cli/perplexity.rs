//! `smolt perplexity`: how well a model predicts a text.

use super::{CliError, open};
use crate::eval::perplexity::{CHUNK, Corpus, Perplexity, PerplexityOptions, perplexity};
use crate::kernels::Kernels;
use crate::model::{Model, RunOptions, Runner};
use crate::text::{Tokenizer, TokenizerOptions};
use serde::Serialize;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens whose logits are computed together.
const LOGIT_ROWS: usize = 8;
/// Longest text.
const MAX_TEXT_BYTES: u64 = 1 << 30;

/// Measures how well a model predicts a text; lower is better.
///
/// The protocol is llama-perplexity's default one: chunks of 512 tokens that do not overlap, of which the
/// second half is scored. Perplexities compare only between files with the same vocabulary, on the same
/// text and with the same chunks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model, a GGUF file.
    #[arg(short, long, value_name = "MODEL")]
    model: PathBuf,
    /// The text, in UTF-8; - reads standard input.
    #[arg(value_name = "FILE")]
    text: PathBuf,
    /// Tokens of a chunk.
    #[arg(short, long, value_name = "TOKENS", default_value_t = CHUNK)]
    context: usize,
    /// Read at most this many chunks.
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Threads; all processors if not given.
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Pre-tokenizer, where the file names none or an unknown one.
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    /// Print the result as JSON.
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
    model: ModelInfo<'a>,
    text: String,
}

#[derive(Serialize)]
struct ModelInfo<'a> {
    name: &'a str,
    bytes: u64,
}

/// Runs the command.
///
/// # Errors
/// If the model or the text cannot be read, or the text is too short.
pub fn run(args: &Args) -> Result<(), CliError> {
    let file = open(&args.model)?;
    let text = read_text(&args.text)?;
    let tokenizer = Tokenizer::from_gguf(&file, TokenizerOptions { pre: args.pre.clone() })?;
    let corpus = Corpus::new(&tokenizer, &text)?;
    drop((tokenizer, text));
    let options = PerplexityOptions { n_ctx: args.context, chunks: args.chunks };
    options.check(corpus.tokens.len())?;
    let model = Arc::new(Model::load(&file, Kernels::detect()?)?);
    let threads = args.threads.unwrap_or_else(super::default_threads);
    let run = RunOptions { context: args.context, threads, logit_rows: LOGIT_ROWS };
    let mut runner = Runner::new(model, &run)?;
    let start = Instant::now();
    let mut progress = Progress::new(start);
    let result =
        perplexity(&mut runner, &corpus, &options, &mut |so_far, chunks| progress.show(so_far, chunks));
    progress.clear();
    let (result, seconds) = (result?, start.elapsed().as_secs_f64());
    let report = Report {
        result,
        seconds,
        tokens_s: (result.chunks * result.n_ctx) as f64 / seconds,
        threads: runner.threads(),
        isa: runner.model().kernels().name,
        model: ModelInfo { name: file.name(), bytes: file.file_bytes() },
        text: args.text.display().to_string(),
    };
    print(&report, args.json)
}

fn print(report: &Report<'_>, json: bool) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        let Perplexity { ppl, stderr, chunks, scored_tokens, n_ctx } = report.result;
        let stderr = stderr.map_or(String::new(), |stderr| format!(" +/- {stderr:.4}"));
        writeln!(out, "PPL {ppl:.4}{stderr}, {scored_tokens} tokens scored in {chunks} chunks of {n_ctx}")?;
        writeln!(out, "{:.1} s, {:.0} tokens/s with {} threads", report.seconds, report.tokens_s, report.threads)?;
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String, CliError> {
    let fail = |source| CliError::ReadText { path: path.display().to_string(), source };
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(fail)?)
    };
    let mut text = String::new();
    let bytes = reader.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text).map_err(fail)?;
    if bytes as u64 > MAX_TEXT_BYTES {
        return Err(fail(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

/// One line on standard error that is rewritten, if a person is watching.
struct Progress {
    start: Instant,
    is_shown: bool,
}

impl Progress {
    fn new(start: Instant) -> Self {
        Self { start, is_shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, so_far: &Perplexity, chunks: usize) {
        if self.is_shown {
            let left = remaining(self.start.elapsed(), so_far.chunks, chunks).as_secs();
            eprint!("\r\x1b[Kchunk {} of {chunks}, PPL {:.3}, {left} s left", so_far.chunks, so_far.ppl);
        }
    }

    fn clear(&mut self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
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
