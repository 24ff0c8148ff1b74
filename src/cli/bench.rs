//! `smolt bench`: how fast a model runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::args::{ModelArgs, kv_type};
use super::error::{CliError, Exit};
use super::{load, output};
use crate::console::{Code, Screen, Stream};
use crate::eval::bench::{BenchOptions, MAX_THREADS, Subject, Test, bench};
use crate::eval::synthetic::Synthetic;
use crate::gguf::GgufFile;
use crate::kernels::{Kernels, KvType};
use crate::load::usual_threads;
use crate::model::Model;

/// Arguments of `smolt bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
As in llama-bench, tokens are random, neither tokenization nor sampling is
included, and a prompt gets logits for its last token only. Each test runs once
to warm up. Every length is combined with every depth and number of threads.
The bandwidth column is the share of what the memory gives to a plain sum over
as many bytes as the weights have.

The start is that of the command; what the system takes to start the program
is not included. With --synthetic, peak memory includes making up the model.

Examples:
  smolt bench -m model.gguf -p 128,512 -n 64 -t 1,2 -r 7
  smolt bench --synthetic smollm2-135m:q4_0 -p 0 -n 32 -d 0,1024 --json"
)]
pub struct BenchArgs {
    /// The model, as with -m
    #[arg(value_name = "MODEL", conflicts_with = "synthetic")]
    pub(super) named: Option<PathBuf>,

    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Random weights in the shape of a known model
    #[arg(long, value_name = "SHAPE:TYPE", overrides_with = "model")]
    synthetic: Option<Synthetic>,

    /// Lengths of prompts to read; 0 for none
    #[arg(short, long, value_name = "N", value_delimiter = ',', default_value = "128,512")]
    prompt: Vec<usize>,

    /// Numbers of tokens to generate; 0 for none
    #[arg(short = 'n', long, value_name = "N", value_delimiter = ',', default_value = "64")]
    tokens: Vec<usize>,

    /// Tokens in the context before each test
    #[arg(short, long, value_name = "N", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,

    /// Numbers of threads [default: one per processor, at most 4]
    #[arg(short, long, value_name = "N", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=MAX_THREADS as i64))]
    threads: Vec<u32>,

    /// Timed runs of each test
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    repetitions: usize,

    /// Tokens that the context holds [default: what the tests need]
    #[arg(short, long, value_name = "N")]
    context: Option<usize>,

    /// How keys and values of the context are stored
    #[arg(long, value_name = "TYPE", env = "SMOLT_KV", default_value_t, value_parser = kv_type())]
    kv: KvType,

    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

/// Loads, measures, reports.
pub(super) fn execute(args: &BenchArgs) -> Result<Exit, CliError> {
    let kernels = Kernels::detect()?;
    let temporary = args.synthetic.as_ref().map(Temporary::write).transpose()?;
    // Making up a model is no part of starting one.
    let started = Instant::now();
    let file = match &temporary {
        Some(temporary) => GgufFile::open(&temporary.0)?,
        None => load::open(&args.model)?.file,
    };
    let options = options(args);
    options.check()?;
    let model = Arc::new(Model::load(&file, kernels)?);
    let name = args
        .synthetic
        .map_or(file.name().to_owned(), |model| format!("{}:{}", model.shape.name, model.recipe));
    let subject = Subject { file: &file, name, model, started, load: started.elapsed() };
    let is_watched = Stream::Err.is_terminal();
    let report = bench(&subject, &options, &mut |test: &Test, threads| {
        if is_watched {
            Screen::new().code(Code::ClearLine).text(&format!("{test}, threads: {threads}")).say();
        }
    });
    if is_watched {
        Screen::new().code(Code::ClearLine).say();
    }
    let report = report?;
    if args.json {
        output::write_json(&report)?;
    } else {
        if args.csv {
            output::write(report.to_csv().as_bytes())?
        } else {
            output::table(&report.to_string())?
        }
    }
    Ok(Exit::Ok)
}

fn options(args: &BenchArgs) -> BenchOptions {
    let mut threads: Vec<usize> = args.threads.iter().map(|&n| n as usize).collect();
    if threads.is_empty() {
        threads.push(usual_threads());
    }
    BenchOptions {
        prompts: args.prompt.clone(),
        generate: args.tokens.clone(),
        depths: args.depth.clone(),
        threads,
        repetitions: args.repetitions,
        context: args.context,
        kv: args.kv,
    }
}

/// A file that is removed in the end. A made-up model is measured from a file like any other, so that its
/// bytes do not count as the program's memory.
struct Temporary(PathBuf);

impl Temporary {
    fn write(model: &Synthetic) -> Result<Self, CliError> {
        let name = format!("smolt-bench-{}.gguf", std::process::id());
        let temporary = Self(std::env::temp_dir().join(name));
        model.write_to(&temporary.0)?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(args: &[&str]) -> BenchArgs {
        match Cli::try_parse_from([&["smolt", "bench"], args].concat()).unwrap().command {
            Command::Bench(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_later_of_model_and_synthetic_wins() {
        let args = parse(&["-m", "x", "--synthetic", "smollm2-135m:q4_0"]);
        assert_eq!(args.synthetic.unwrap().shape.name, "smollm2-135m");
        let args = parse(&["--synthetic", "smollm2-135m:q4_0", "-m", "x"]);
        assert!(args.synthetic.is_none() && args.model.model.is_some());
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let args = parse(&["-p", "128,512", "-n", "64", "-d", "0,1024", "-t", "1,2", "-r", "7"]);
        assert_eq!((args.prompt, args.tokens, args.depth), (vec![128, 512], vec![64], vec![0, 1024]));
        assert_eq!((args.threads, args.repetitions), (vec![1, 2], 7));
    }
}
