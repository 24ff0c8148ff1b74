//! `smolt eval`: questions with known answers, in the terms of lm-evaluation-harness.
//!
//! ```text
//! bound   what --min and --max ask for
//! check   which task files could be run
//! show    results as a table or JSON
//! page    results as one HTML page
//! report  the results
//! ```

mod bound;
mod check;
mod page;
mod report;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use self::bound::Bound;
use self::report::{ModelInfo, Report};
use super::args::{ModelArgs, ParallelArgs, ResourceArgs, USUAL_PARALLEL};
use super::batch::shard;
use super::constrain::GrammarArgs;
use super::error::{CliError, Exit};
use super::named::settle_demo;
use super::output::note;
use super::progress::Progress;
use super::prompt::PromptArgs;
use super::{interrupt, load};
use crate::eval::batch::{BatchError, Journal};
use crate::eval::tasks::{
    Chat, Comparison, Evaluation, EvaluationOptions, EvaluationProgress, Finished, LOGIT_ROWS, MAX_EXAMPLES,
    MergedLine, OutputType, Sample, Task, aggregate, compare, merge,
};
use crate::files::{Fnv, is_same_file, write_whole};
use crate::generate::{CancelHandle, Format};
use crate::text::ChatTemplate;

/// The seed of lm-evaluation-harness' examples.
const SEED: u64 = 1234;

/// Arguments of `smolt eval`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
A task is a YAML file as lm-evaluation-harness reads it, as far as it needs no Python (output types multiple_choice,
generate_until, loglikelihood, loglikelihood_rolling; documents in JSONL files), or a JSONL file of documents with
prompt, answer and perhaps choices, or with text. Figures are those of lm-evaluation-harness.

With --samples an evaluation that was stopped goes on where it was, and documents that failed are asked about again.
--min and --max give exit code 5 if a result is below or above. Exit code 1: some documents could not be asked about;
results are of the others.

--check says of task files, or of a folder of them, which could be run: all but those that need Python, a metric that is
not here, or documents that are not on this computer.

Examples:
  smolt eval --chat prompts/demo-actions.yaml
  smolt eval -m model.gguf prompts/common.yaml --samples samples.jsonl --report report.html
  smolt eval --chat prompts/demo-actions.yaml --compare float.gguf small.gguf
  smolt eval --chat prompts/demo-actions.yaml --min exact_match=0.9
  smolt eval --chat prompts/demo-actions.yaml --shard 0/4 --samples part0.jsonl
  smolt eval --merge part*.jsonl"
)]
pub struct EvalArgs {
    /// Task files (YAML), or documents (JSONL)
    #[arg(value_name = "TASK")]
    tasks: Vec<PathBuf>,

    /// File for what was asked, answered and judged, a line of JSON each; goes on with it if it is there
    #[arg(short = 'o', long, value_name = "FILE")]
    samples: Option<PathBuf>,

    /// Ask about the first N documents of each task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,

    /// Examples before each document, in place of the task's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=MAX_EXAMPLES as i64))]
    num_fewshot: Option<u32>,

    /// Which examples are drawn, and how answers are that are drawn at random
    #[arg(long, value_name = "N", default_value_t = SEED)]
    seed: u64,

    /// Ask only about the I-th of N parts of the documents, I from 0
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,

    /// Give prompts to the model as messages, by its chat template
    #[arg(long, conflicts_with = "raw")]
    chat: bool,

    /// Say which task files could be run here, and why not; folders are looked through. Nothing is run
    #[arg(long, conflicts_with_all = ["samples", "shard", "merge", "compare", "min", "max", "report"])]
    check: bool,

    /// How rolling likelihoods begin: as lm-evaluation-harness begins them, which scores the start token where the
    /// tokenizer adds one, or with one start token that is not scored
    #[arg(long, value_name = "HOW", default_value = "lm-eval", value_parser = ["lm-eval", "once"])]
    rolling_start: String,

    /// Results of finished shards, by their files of samples; nothing is run
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["tasks", "model", "compare", "shard"])]
    merge: Vec<PathBuf>,

    /// Compare two models, or two files of samples: is the second one worse?
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["model", "samples", "shard", "min", "max"])]
    compare: Vec<PathBuf>,

    /// Exit with code 5 if a result is below, e.g. acc=0.9, task/acc=0.9 or exact_match,filter=0.5
    #[arg(long, value_name = "METRIC=VALUE")]
    min: Vec<Bound>,

    /// Exit with code 5 if a result is above, e.g. word_perplexity=30
    #[arg(long, value_name = "METRIC=VALUE")]
    max: Vec<Bound>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Write one HTML page with charts
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,

    #[command(flatten)]
    parallel: ParallelArgs,

    #[command(flatten)]
    resources: ResourceArgs,

    #[command(flatten)]
    prompting: PromptArgs,
}

/// Runs, merges or compares, and reports.
pub(super) fn execute(args: &EvalArgs) -> Result<Exit, CliError> {
    if args.check {
        return check::execute(&args.tasks, args.json);
    }
    // Before anything is asked, which may take hours.
    args.report.as_deref().map_or(Ok(()), page::check)?;
    if !args.compare.is_empty() {
        return compare_two(args);
    }
    let (report, cancelled) = if args.merge.is_empty() { run(args)? } else { (merged(args)?, false) };
    report.write(args.json, args.report.as_deref())?;
    if cancelled {
        return Ok(Exit::Interrupted);
    }
    report.note_failures();
    let results = report.results.as_slice();
    let mut missed = false;
    for (bounds, is_min) in [(&args.min, true), (&args.max, false)] {
        for bound in bounds {
            for miss in bound.misses(results, is_min)? {
                note(miss);
                missed = true;
            }
        }
    }
    Ok(match (missed, report.failed) {
        (true, _) => Exit::Threshold,
        (false, 0) => Exit::Ok,
        (false, _) => Exit::Runtime,
    })
}

fn run(args: &EvalArgs) -> Result<(Report, bool), CliError> {
    let tasks = tasks(args)?;
    let mut output = match &args.samples {
        Some(path) => Journal::open(path)?,
        None => Journal::stream("the samples", Box::new(std::io::sink())),
    };
    let mut cancel = None;
    let (finished, model) = ask(args, &args.model, &tasks, &mut output, &mut cancel)?;
    let cancelled = finished.cancelled;
    Ok((Report::new(&finished.samples, vec![model]), cancelled))
}

fn tasks(args: &EvalArgs) -> Result<Vec<Task>, CliError> {
    if args.tasks.is_empty() {
        return Err(CliError::NoTask);
    }
    let examples = args.num_fewshot.map(|count| count as usize);
    let tasks = args.tasks.iter().map(|path| Task::load(path, examples));
    Ok(tasks.collect::<Result<_, _>>()?)
}

/// Asks one model. Ctrl-C is caught from its first call on, by `cancel`.
fn ask(
    args: &EvalArgs,
    model: &ModelArgs,
    tasks: &[Task],
    output: &mut Journal,
    cancel: &mut Option<CancelHandle>,
) -> Result<(Finished, ModelInfo), CliError> {
    let mut planned = load::plan(model, &args.resources, LOGIT_ROWS, &GrammarArgs::default())?;
    args.parallel.settle(&mut planned, USUAL_PARALLEL)?;
    planned.check()?;
    let mut loaded = planned.load_slots()?;
    let tokenizer = Arc::clone(loaded.slots.tokenizer());
    let format = if args.chat { args.prompting.format(&tokenizer)? } else { Format::Raw { control: false } };
    // lm-evaluation-harness judges the reasoning too, unless it is told what ends it.
    let layout = args.prompting.think().and_then(|_| format.layout(&tokenizer, None));
    let chat = match &format {
        Format::Template(template) => Some(Chat { template, layout: layout.as_ref() }),
        Format::Raw { .. } if args.chat => return Err(CliError::NoTemplate),
        Format::Raw { .. } => None,
    };
    let is_generated = tasks.iter().any(|task| task.output == OutputType::GenerateUntil);
    if !args.chat
        && is_generated
        && cancel.is_none()
        && ChatTemplate::of(&tokenizer).is_ok_and(|found| found.is_some())
    {
        note("the model has a chat template; --chat asks by it, as the model was trained");
    }
    let mut hash = Fnv::default();
    planned.slots_identity(&loaded.slots, &format)?.add_to(&mut hash);
    let options = EvaluationOptions {
        limit: args.limit.map(|limit| limit as usize),
        seed: args.seed,
        shard: args.shard.unwrap_or_default(),
        system: args.prompting.system().map(str::to_owned),
        rolling_once: args.rolling_start == "once",
        key: hash.finish(),
    };
    if cancel.is_none() {
        *cancel = Some(interrupt::cancel_on_interrupt()?);
    }
    let cancel = cancel.clone().unwrap_or_default();
    let slots = &mut loaded.slots;
    let begun = Instant::now();
    let mut evaluation = Evaluation { slots, tasks, chat, options: &options, cancel: &cancel };
    let mut progress = Progress::new();
    let show = &mut |at: EvaluationProgress| {
        progress.show(at.done as u64, Some(at.of as u64), |documents| documents.to_string());
    };
    let finished = evaluation.run(output, show);
    progress.clear();
    let finished = finished?;
    let seconds = begun.elapsed().as_secs_f64();
    let EvaluationProgress { done, of, resumed, .. } = finished.progress;
    note(format_args!("{done} of {of} documents, {resumed} of them done before, {seconds:.1} s"));
    if finished.cancelled && args.samples.is_some() {
        note("stopped; the same command goes on from here");
    }
    Ok((finished, ModelInfo { name: planned.name(), file: planned.file().name().to_owned(), seconds }))
}

/// The results of shards.
fn merged(args: &EvalArgs) -> Result<Report, CliError> {
    let merged = merge(&args.merge)?;
    if let Some(path) = &args.samples {
        if args.merge.iter().any(|merged| is_same_file(merged, path)) {
            return Err(BatchError::InputIsOutput { file: path.display().to_string() }.into());
        }
        // Refuses what is no file of samples, and keeps other processes from writing it.
        let _held = Journal::open(path)?;
        let text: String = merged.iter().flat_map(|line| [line.line.as_str(), "\n"]).collect();
        write_whole(path, text.as_bytes())?;
    }
    let samples: Vec<Sample> = merged.into_iter().map(|line: MergedLine| line.sample).collect();
    Ok(Report::new(&samples, vec![]))
}

/// Is the second worse than the first?
fn compare_two(args: &EvalArgs) -> Result<Exit, CliError> {
    let is_samples = |path: &Path| path.extension().is_some_and(|extension| extension == "jsonl");
    let tasks = if args.compare.iter().all(|path| is_samples(path)) { vec![] } else { tasks(args)? };
    let (mut runs, mut models, mut cancel) = (vec![], vec![], None);
    for path in &args.compare {
        if is_samples(path) {
            let merged = merge(std::slice::from_ref(path))?;
            runs.push(merged.into_iter().map(|line| line.sample).collect::<Vec<_>>());
            let file = path.display().to_string();
            models.push(ModelInfo { name: file.clone(), file, seconds: 0.0 });
            continue;
        }
        let mut model = args.model.of(path.clone());
        settle_demo(&mut model);
        let mut output = Journal::stream("the samples", Box::new(std::io::sink()));
        let (finished, info) = ask(args, &model, &tasks, &mut output, &mut cancel)?;
        if finished.cancelled {
            return Ok(Exit::Interrupted);
        }
        runs.push(finished.samples);
        models.push(info);
    }
    let comparisons: Vec<Comparison> = compare(&runs[0], &runs[1])?;
    let mut report = Report::new(&runs[1], models);
    report.others = aggregate(&runs[0]);
    report.comparisons = comparisons;
    report.failed += runs[0].iter().filter(|sample| sample.error.is_some()).count();
    report.write(args.json, args.report.as_deref())?;
    report.note_failures();
    Ok(if report.failed > 0 { Exit::Runtime } else { Exit::Ok })
}
