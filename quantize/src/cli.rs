//! The command line: arguments, what is printed where, progress.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use smolt::blocks::BlockType;
use smolt::eval::synthetic::{Shape, Synthetic};
use smolt::gguf::{GgufFile, Recipe};

use crate::{Plan, QuantizeError, QuantizeOptions, Report};

/// Converts and quantizes small language models to GGUF.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 model missing or unreadable.
#[derive(Debug, Parser)]
#[command(name = "smolt-quantize", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a model with random weights in the shape of a real one.
    Synth(SynthArgs),
    /// Store a model's weights in fewer bits, each rounded to nearest.
    Quantize(QuantizeArgs),
}

#[derive(Debug, Args)]
struct SynthArgs {
    /// Shape: smollm2-135m, smollm2-360m or llama-160m.
    name: Shape,
    /// Type, e.g. q4_0, q8_0 or the mix q4_k_m.
    #[arg(value_name = "TYPE")]
    recipe: Recipe,
    /// File to write.
    output: PathBuf,
    /// Seed of the weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Args)]
struct QuantizeArgs {
    /// GGUF file with F32, F16 or BF16 weights.
    input: PathBuf,
    /// GGUF file to write; it appears when it is complete.
    #[arg(required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Type of the weights: a block format such as q4_0, or a mix as llama-quantize makes it, e.g. q4_k_m.
    #[arg(long = "type", value_name = "TYPE")]
    recipe: Recipe,
    /// Type of the token embedding [default: the recipe's; Q6_K or Q8_0 where it is also the output head].
    #[arg(long, value_name = "TYPE")]
    embedding_type: Option<BlockType>,
    /// Type of a separate output head [default: Q6_K or Q8_0].
    #[arg(long, value_name = "TYPE")]
    head_type: Option<BlockType>,
    /// Print what would be written, tensor by tensor, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Refuse to replace a type that does not fit a tensor's rows.
    #[arg(long)]
    strict: bool,
    /// Accept an input that is quantized already.
    #[arg(long)]
    allow_requantize: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Threads [default: all processors].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What the command reports; [`QuantizeError::exit_code`] tells the exit code.
    pub fn run(self) -> Result<(), QuantizeError> {
        match self.command {
            Command::Synth(args) => args.run(),
            Command::Quantize(args) => args.run(),
        }
    }
}

impl SynthArgs {
    fn run(self) -> Result<(), QuantizeError> {
        let model = Synthetic { shape: self.name, recipe: self.recipe, seed: self.seed };
        let bytes = model.write_to(&self.output).map_err(QuantizeError::Output)?;
        print_line(&format_args!("{}: {bytes} bytes", self.output.display()))
    }
}

impl QuantizeArgs {
    fn options(&self) -> QuantizeOptions {
        let mut recipe = self.recipe;
        if let Some(block_type) = self.embedding_type {
            recipe = recipe.with_embedding(block_type);
        }
        if let Some(block_type) = self.head_type {
            recipe = recipe.with_head(block_type);
        }
        QuantizeOptions { recipe, strict: self.strict, allow_requantize: self.allow_requantize }
    }

    fn run(self) -> Result<(), QuantizeError> {
        let input = GgufFile::open(&self.input).map_err(QuantizeError::Input)?;
        let plan = Plan::new(&input, &self.options())?;
        for substitution in plan.substitutions() {
            eprintln!("warning: {substitution}");
        }
        if let Some(output) = self.output.as_deref().filter(|_| !self.dry_run) {
            write_with_progress(&plan, output, self.threads())?;
        }
        let output = self.output.as_ref().map(|path| path.display().to_string());
        let report = Report::new(&plan, output, self.dry_run);
        if self.json {
            let json = serde_json::to_string_pretty(&report);
            return print_line(&json.map_err(|error| QuantizeError::Stdout(error.into()))?);
        }
        if self.dry_run {
            print_line(&report.table())?;
        }
        print_line(&report.summary())
    }

    fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(all, usize::from)
    }
}

/// Shows progress and the time left on standard error if that is a terminal.
fn write_with_progress(plan: &Plan<'_>, output: &Path, threads: usize) -> Result<(), QuantizeError> {
    let bar = ProgressBar::with_draw_target(Some(plan.source_bytes()), ProgressDrawTarget::stderr());
    let template = "{wide_bar} {bytes} of {total_bytes}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let result = plan.write(output, threads, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    result
}

/// Prints a line to standard output. A reader that has left is no error.
fn print_line(line: &dyn std::fmt::Display) -> Result<(), QuantizeError> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(QuantizeError::Stdout(error)),
        _ => Ok(()),
    }
}
