//! The command line: arguments, what is printed where, progress.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use smolt::blocks::BlockType;
use smolt::console::{Screen, Stream, escaped};
use smolt::eval::synthetic::{Shape, Synthetic};
use smolt::files::is_same_file;
use smolt::gguf::{GgufFile, Recipe};

use crate::allocate::{Allocation, Budget, BudgetArgs};
use crate::calibrate::{
    CalibrateOptions, Calibrated, Draw, Method, calibrate, holds_calibration, remove_sensitivities,
};
use crate::compare::ReportArgs;
use crate::convert::cli::ConvertArgs;
use crate::files::MAX_TEXT_BYTES;
use crate::{Lattices, Plan, QuantizeError, QuantizeOptions, Report, TypeRule};

/// Converts and quantizes small language models to GGUF.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 model missing or unreadable.
#[derive(Debug, Parser)]
#[command(name = "smolt-quantize", bin_name = "smolt-quantize", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a model with random weights in the shape of a real one.
    Synth(SynthArgs),
    /// Turn the folder of a published model (config.json, safetensors, tokenizer.json) into a GGUF file.
    Convert(ConvertArgs),
    /// Store a model's weights in fewer bits: rounded to nearest, or calibrated on a text (GPTQ).
    Quantize(QuantizeArgs),
    /// Measure what quantization did to a model: perplexity and divergence from the original on a text.
    Report(ReportArgs),
}

#[derive(Debug, Args)]
struct SynthArgs {
    /// Shape: smollm2-135m, smollm2-360m, llama-160m, gpt2-124m or pythia-160m.
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
    #[arg(long = "type", value_name = "TYPE", required_unless_present_any = ["size", "bpw"])]
    #[arg(conflicts_with_all = ["size", "bpw"])]
    recipe: Option<Recipe>,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Type of the token embedding [default: the recipe's; Q6_K or Q8_0 where it is also the output head].
    #[arg(long, value_name = "TYPE", value_parser = BlockType::to_write)]
    embedding_type: Option<BlockType>,
    /// Type of a separate output head [default: Q6_K or Q8_0].
    #[arg(long, value_name = "TYPE", value_parser = BlockType::to_write)]
    head_type: Option<BlockType>,
    /// Type of the matrices whose name fits a regular expression, e.g. 'ffn_down=q5_0'; may be repeated, the last
    /// that fits counts.
    #[arg(long, value_name = "REGEX=TYPE")]
    tensor_type: Vec<TypeRule>,
    /// How weights are rounded [default: gptq with a calibration text, else rtn].
    #[arg(long, value_enum)]
    method: Option<MethodArg>,
    /// Text to calibrate on; may be repeated. Weights are then chosen so that the model's matrices give what they
    /// gave on this text (GPTQ), instead of each rounded to nearest. What is finished is kept in OUTPUT.calibration
    /// until the output is complete: the same command goes on where it was stopped.
    #[arg(long, value_name = "FILE")]
    calibration: Vec<PathBuf>,
    #[command(flatten)]
    tuning: TuningArgs,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum MethodArg {
    /// Each to nearest.
    Rtn,
    /// Scales weighted by the size of the inputs.
    Imatrix,
    /// Later weights make up for earlier ones.
    Gptq,
}

#[derive(Debug, Args)]
struct TuningArgs {
    /// Tokens of the calibration text to use.
    #[arg(long, value_name = "N", default_value_t = 32_768, requires = "calibration", value_parser = tokens)]
    calibration_tokens: usize,
    /// Read control tokens in the text, such as those of a chat format, as what they are.
    #[arg(long, requires = "calibration")]
    control_tokens: bool,
    /// Which parts of a longer text are used.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "calibration")]
    seed: u64,
    /// Ridge on the inputs' second moments, in units of their mean.
    #[arg(long, value_name = "X", default_value_t = 0.02, requires = "calibration", value_parser = damping, allow_negative_numbers = true)]
    damping: f64,
    /// The same for the token embedding and the output head.
    #[arg(long, value_name = "X", default_value_t = 0.05, requires = "calibration", value_parser = damping, allow_negative_numbers = true)]
    head_damping: f64,
    /// How much of the error in its inputs a matrix makes up for, from 0 to 1.
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "calibration", value_parser = share, allow_negative_numbers = true)]
    asymmetry: f32,
    /// Times the scale of a block is fitted again to the levels it gave.
    #[arg(long, value_name = "N", default_value_t = 2, requires = "calibration")]
    #[arg(value_parser = clap::value_parser!(u8).range(..=16))]
    refits: u8,
    /// Round columns in the order of the file, not those with the largest inputs first.
    #[arg(long, requires = "calibration")]
    file_order: bool,
    /// Leave the factors between adjacent matrices as they are.
    #[arg(long, requires = "calibration")]
    no_fold: bool,
}

/// Reads the command line. Asked for help, or if the line makes no sense, it ends the process as clap does.
pub fn parse() -> Cli {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    Cli::try_parse_from(&arguments).unwrap_or_else(|error| {
        // What clap says repeats arguments as they are: it is asked about arguments that may be shown.
        let shown = arguments.iter().map(|argument| escaped(&argument.to_string_lossy()).into_owned());
        if let Err(shown) = Cli::try_parse_from(shown) {
            shown.exit();
        }
        Screen::new().text(&error.render().to_string()).say();
        std::process::exit(error.exit_code())
    })
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What the command reports; [`QuantizeError::exit_code`] tells the exit code.
    pub fn run(self) -> Result<(), QuantizeError> {
        match self.command {
            Command::Synth(args) => args.run(),
            Command::Convert(args) => args.run(),
            Command::Quantize(args) => args.run(),
            Command::Report(args) => args.run(),
        }
    }
}

/// Most damping: with more the moments do not count.
const MAX_DAMPING: f64 = 100.0;
/// Most tokens of a calibration, beyond what any text that is read holds.
const MAX_TOKENS: usize = 1 << 28;

/// Reads a number within a range.
fn within<T: FromStr + PartialOrd + Display>(text: &str, range: RangeInclusive<T>) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("expected a number from {} to {}", range.start(), range.end()))
}

fn tokens(text: &str) -> Result<usize, String> {
    within(text, 1..=MAX_TOKENS)
}

fn damping(text: &str) -> Result<f64, String> {
    within(text, 0.0..=MAX_DAMPING)
}

fn share(text: &str) -> Result<f32, String> {
    within(text, 0.0..=1.0)
}

/// The name of a text's file and the text.
fn named_text(path: &Path) -> Result<(String, String), QuantizeError> {
    let file = path.display().to_string();
    match smolt::files::read_text(path, MAX_TEXT_BYTES) {
        Ok(text) => Ok((file, text)),
        Err(source) => Err(QuantizeError::ReadText { file, limit: MAX_TEXT_BYTES, source }),
    }
}

pub(crate) fn threads(asked: Option<u16>) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.map_or_else(all, usize::from)
}

impl SynthArgs {
    fn run(self) -> Result<(), QuantizeError> {
        let model = Synthetic { shape: self.name, recipe: self.recipe, seed: self.seed };
        let bytes = model.write_to(&self.output).map_err(QuantizeError::Output)?;
        print_line(&format_args!("{}: {bytes} bytes", self.output.display()))
    }
}

impl QuantizeArgs {
    fn options(&self, lattices: &Lattices) -> QuantizeOptions {
        // Where a size is asked for, it chooses the types.
        let mut recipe = self.recipe.unwrap_or_default();
        if let Some(block_type) = self.embedding_type {
            recipe = recipe.with_embedding(block_type);
        }
        if let Some(block_type) = self.head_type {
            recipe = recipe.with_head(block_type);
        }
        QuantizeOptions {
            recipe,
            rules: self.tensor_type.clone(),
            chosen: HashMap::new(),
            strict: self.strict,
            allow_requantize: self.allow_requantize,
            lattices: lattices.clone(),
        }
    }

    fn run(self) -> Result<(), QuantizeError> {
        let input = GgufFile::open(&self.input).map_err(QuantizeError::Input)?;
        let texts = self.calibration.iter().map(|path| named_text(path)).collect::<Result<Vec<_>, _>>()?;
        if let Some(output) = self.output.as_deref().filter(|_| !self.dry_run) {
            Plan::check_output(&input, output)?;
            if let Some(text) = self.calibration.iter().find(|text| is_same_file(text, output)) {
                return Err(QuantizeError::SameFile { path: text.display().to_string() });
            }
        }
        let lattices = self.lattices(&input)?;
        let plan = match self.budget.budget() {
            Some(budget) => self.allocated(&input, &texts, (budget, &lattices))?,
            None => Plan::new(&input, &self.options(&lattices))?,
        };
        for substitution in plan.substitutions() {
            say(format_args!("warning: {substitution}"));
        }
        let mut calibrated = Calibrated::none();
        if let Some(output) = self.output.as_deref().filter(|_| !self.dry_run) {
            calibrated = self.calibrate(&plan, &texts, output)?;
            write_with_progress(&plan, output, threads(self.threads), &calibrated)?;
        }
        let output = self.output.as_ref().map(|path| path.display().to_string());
        let report = Report::new(&plan, output, self.dry_run, &calibrated);
        self.clean_up(calibrated)?;
        if self.json {
            let json = serde_json::to_string_pretty(&report);
            return print_json(&json.map_err(|error| QuantizeError::Stdout(error.into()))?);
        }
        if self.dry_run {
            print_line(&report.table())?;
        }
        print_line(&report.summary())
    }

    /// The tensors on a 4-bit lattice, if any are to be quantized.
    fn lattices(&self, input: &GgufFile) -> Result<Lattices, QuantizeError> {
        // What the plan refuses is refused before anything is read.
        let plan = Plan::new(input, &self.options(&Lattices::default()))?;
        let is_needed = plan.tensors().iter().any(|tensor| tensor.choice.stored.is_quantized());
        if is_needed { Lattices::of(input, threads(self.threads)) } else { Ok(Lattices::default()) }
    }

    /// The plan of least divergence within a budget.
    fn allocated<'a>(
        &self,
        input: &'a GgufFile,
        texts: &[(String, String)],
        (budget, lattices): (Budget, &Lattices),
    ) -> Result<Plan<'a>, QuantizeError> {
        let kept = self.output.as_deref().filter(|_| !self.dry_run).map(|output| beside(output, SENSITIVITY));
        let allocation = Allocation {
            input,
            texts,
            calibrate: self.calibrate_options(Method::Gptq),
            budget,
            menu: self.budget.menu(),
            journal: kept.as_deref(),
        };
        let bar = bar(allocation.units()?, "{wide_bar} measuring sensitivities, {percent} %, {eta} left");
        let plan = allocation.plan(&self.options(lattices), &mut |units| bar.inc(units));
        bar.finish_and_clear();
        plan
    }

    fn calibrate_options(&self, method: Method) -> CalibrateOptions {
        let tuning = &self.tuning;
        CalibrateOptions {
            draw: Draw {
                tokens: tuning.calibration_tokens,
                seed: tuning.seed,
                control_tokens: tuning.control_tokens,
                ..Draw::default()
            },
            method,
            damping: tuning.damping,
            head_damping: tuning.head_damping,
            // What follows needs to know how inputs vary together.
            asymmetry: if method == Method::Gptq { tuning.asymmetry } else { 0.0 },
            fold: method == Method::Gptq && !tuning.no_fold,
            refits: tuning.refits,
            file_order: tuning.file_order,
            threads: threads(self.threads),
        }
    }

    fn calibrate(
        &self,
        plan: &Plan<'_>,
        texts: &[(String, String)],
        output: &Path,
    ) -> Result<Calibrated, QuantizeError> {
        let method = match self.method {
            Some(MethodArg::Rtn) => return Ok(Calibrated::none()),
            Some(method) if texts.is_empty() => {
                let method = if method == MethodArg::Gptq { "gptq" } else { "imatrix" };
                return Err(QuantizeError::NoText { method });
            }
            None if texts.is_empty() => return Ok(Calibrated::none()),
            Some(MethodArg::Imatrix) => Method::Imatrix,
            _ => Method::Gptq,
        };
        let weights = plan.tensors().iter().filter(|tensor| tensor.choice.stored.is_quantized());
        let weights = weights.map(|tensor| tensor.source.elements() as u64).sum();
        let journal = beside(output, CALIBRATION);
        if holds_calibration(&journal)? {
            say(format_args!(
                "note: {} is there: what it holds of this calibration is not done again",
                journal.display()
            ));
        }
        let bar = bar(weights, "{wide_bar} calibrating, {percent} %, {eta} left");
        let options = self.calibrate_options(method);
        let result = calibrate(plan, texts, &options, &journal, &mut |weights| bar.inc(weights));
        bar.finish_and_clear();
        result
    }

    /// Deletes what was kept beside the output while it was not complete.
    fn clean_up(&self, calibrated: Calibrated) -> Result<(), QuantizeError> {
        calibrated.remove().map_err(QuantizeError::Journal)?;
        let kept = self.output.as_deref().filter(|_| !self.dry_run && self.budget.budget().is_some());
        kept.map_or(Ok(()), |output| remove_sensitivities(&beside(output, SENSITIVITY)))
    }
}

/// What is appended to an output's name for the files that keep what is finished.
const CALIBRATION: &str = ".calibration";
const SENSITIVITY: &str = ".sensitivity";

/// A file beside an output.
fn beside(output: &Path, suffix: &str) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// A bar on standard error if that is a terminal.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn write_with_progress(
    plan: &Plan<'_>,
    output: &Path,
    threads: usize,
    calibrated: &Calibrated,
) -> Result<(), QuantizeError> {
    let bar = bar(plan.source_bytes(), "{wide_bar} {bytes} of {total_bytes}, {eta} left");
    let result = plan.write(output, threads, calibrated, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    result
}

/// Says a line on standard error.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    Screen::new().text(&format!("{line}\n")).say();
}

/// Prints a line for people to standard output, escaped: names in it come from files. A reader that has left is no error.
pub(crate) fn print_line(line: &dyn std::fmt::Display) -> Result<(), QuantizeError> {
    printed(Screen::new().text(&format!("{line}\n")).write(Stream::Out))
}

/// Prints JSON to standard output. A reader that has left is no error.
pub(crate) fn print_json(json: &str) -> Result<(), QuantizeError> {
    printed(Stream::Out.write_json(format!("{json}\n").as_bytes()))
}

fn printed(written: io::Result<()>) -> Result<(), QuantizeError> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(QuantizeError::Stdout(error)),
        _ => Ok(()),
    }
}
