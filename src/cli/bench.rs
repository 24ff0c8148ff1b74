//! `smolt bench`: how fast a model runs.

use super::{CliError, open};
use crate::eval::bench::{BenchOptions, Subject, Test, bench};
use crate::eval::report::Report;
use crate::eval::synthetic::Synthetic;
use crate::gguf::GgufFile;
use crate::kernels::Kernels;
use crate::model::Model;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Measures tokens per second, the memory's read bandwidth and the peak memory.
///
/// Like llama-bench: random tokens, neither tokenization nor sampling, logits of a prompt for its last token
/// only. Each test runs once to warm up. Every length, depth and number of threads is combined.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
pub struct Args {
    /// The model, a GGUF file.
    #[arg(short, long, value_name = "MODEL", group = "subject")]
    model: Option<PathBuf>,
    /// Random weights in the shape of a real model, e.g. smollm2-135m:q4_0.
    #[arg(long, value_name = "SHAPE:TYPE", group = "subject")]
    synthetic: Option<Synthetic>,
    /// Lengths of prompts to read; 0 for none.
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',', default_value = "128,512")]
    prompt: Vec<usize>,
    /// Numbers of tokens to write; 0 for none.
    #[arg(short = 'n', long, value_name = "TOKENS", value_delimiter = ',', default_value = "64")]
    generate: Vec<usize>,
    /// Tokens in the context before each test.
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Numbers of threads; all processors if not given.
    #[arg(short, long, value_name = "N", value_delimiter = ',')]
    threads: Vec<usize>,
    /// Timed runs of each test.
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Positions of the KV cache; as many as the tests need if not given.
    #[arg(short, long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Print the results as JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print the results as comma-separated values.
    #[arg(long)]
    csv: bool,
}

/// Runs the command. `started` is the earliest time the process knows.
///
/// # Errors
/// If the model cannot be read or run, or the options make no sense.
pub fn run(args: &Args, started: Instant) -> Result<(), CliError> {
    let synthetic = args.synthetic.as_ref().map(Temporary::write).transpose()?;
    // Building a model is no part of starting one.
    let started = if synthetic.is_some() { Instant::now() } else { started };
    let opened = Instant::now();
    let file = match (synthetic, &args.model) {
        (Some(temporary), _) => temporary.open()?,
        (None, Some(path)) => open(path)?,
        (None, None) => return Err(CliError::NoModel),
    };
    let model = Arc::new(Model::load(&file, Kernels::detect()?)?);
    let subject = Subject { file: &file, model, started, load: opened.elapsed() };
    let threads =
        if args.threads.is_empty() { vec![super::default_threads()] } else { args.threads.clone() };
    let options = BenchOptions {
        prompts: args.prompt.clone(),
        generate: args.generate.clone(),
        depths: args.depth.clone(),
        threads,
        repetitions: args.repetitions,
        context: args.context,
    };
    let is_watched = std::io::stderr().is_terminal();
    let mut progress = |test: &Test, threads: usize| {
        if is_watched {
            eprint!("\r\x1b[K{test} with {threads} threads");
        }
    };
    let report = bench(&subject, &options, &mut progress);
    if is_watched {
        eprint!("\r\x1b[K");
    }
    print(&report?, args)
}

fn print(report: &Report, args: &Args) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else if args.csv {
        write!(out, "{}", report.to_csv())?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

/// A file that is removed. A synthetic model is measured from a file as any other, so that its bytes do not
/// count as memory.
struct Temporary(PathBuf);

impl Temporary {
    fn write(model: &Synthetic) -> Result<Self, CliError> {
        let path = std::env::temp_dir().join(format!("smolt-bench-{}.gguf", std::process::id()));
        let temporary = Self(path);
        model.write_to(&temporary.0)?;
        Ok(temporary)
    }

    /// The file stays readable without its name.
    fn open(self) -> Result<GgufFile, CliError> {
        open(&self.0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_file(&self.0);
    }
}
