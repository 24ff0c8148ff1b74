//! `smolt batch`: many prompts from a file, one load.

use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use super::args::{ParallelArgs, USUAL_PARALLEL};
use super::error::{CliError, Exit};
use super::generation::GenerationArgs;
use super::input::{STDIN, STDIN_NAME};
use super::interrupt;
use super::load::Planned;
use super::output::{note, say};
use super::progress::Progress;
use crate::ask::Prompts;
use crate::console::JsonLines;
use crate::eval::batch::{
    Batch, BatchError, BatchOptions, EnergyMeter, Finished, Input, Journal, Progress as BatchProgress, input,
    survey,
};
use crate::files;

/// Arguments of `smolt batch`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Each line of the input is a JSON object with prompt (text) or messages (a list of role and content), and perhaps id,
system, raw, template_vars, think, tools, tool_choice, max_tokens, stop, temperature, top_k, top_p, min_p, repeat_penalty,
frequency_penalty, presence_penalty, logit_bias, seed, loop_guard, schema, regex, grammar, choices, response_format; or a request of OpenAI's batch files (custom_id, method, url, body).
What cannot be done is refused with the key's name.
Each line of the output has index and line (the item's place), input and run (hashes of the item, of the model and the
options), id, text, tokens, prompt_tokens, finish_reason, complete (with a form: whether the answer reached its end), seed,
logprob and timings, with choices their probabilities, or error; that of a request has custom_id, response and error
too. Of choices the likeliest is taken; with temperature in the item, or --temp, one is drawn. Without --seed it is 0:
equal inputs give equal answers.

With -o the same command goes on with a batch that was stopped, and asks again what failed and lines that were changed.
Exit code 1: some items have no answer; the line of each says why.

Examples:
  smolt batch prompts.jsonl -o answers.jsonl
  smolt batch prompts.jsonl --shard 0/4 -o part0.jsonl
  smolt batch - < prompts.jsonl | jq -r .text"
)]
pub struct BatchArgs {
    /// Lines of JSON, one item each; - for standard input
    input: PathBuf,

    /// File for the answers [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Answer only the I-th of N parts of the items, I from 0
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,

    /// Answer at most this many items, those of earlier runs included
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    #[command(flatten)]
    parallel: ParallelArgs,

    #[command(flatten)]
    pub(super) generation: GenerationArgs,
}

/// Reads the I-th of N parts.
pub(super) fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts =
        text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    parts
        .filter(|(part, parts)| part < parts)
        .ok_or_else(|| "expected I/N with I from 0 to N - 1, e.g. 0/4".to_owned())
}

/// Loads the model and answers the items.
pub(super) fn execute(args: &BatchArgs) -> Result<Exit, CliError> {
    let items = open(args)?;
    let mut output = output(args)?;
    let shard = args.shard.unwrap_or_default();
    let total = match args.input.is_file() {
        true => Some(survey(open(args)?, &output, shard, args.limit)? as u64),
        false => None,
    };
    let GenerationArgs { prompting, sampling, .. } = &args.generation;
    let form = args.generation.grammar.read()?;
    let mut planned = args.generation.plan(&args.generation.model)?;
    // The next line of standard input may not come before an answer.
    let most = if args.input.is_file() { USUAL_PARALLEL } else { 1 };
    args.parallel.settle(&mut planned, most)?;
    planned.check()?;
    let mut sampler = args.generation.sampler(&planned)?;
    sampler.seed = sampling.seed().unwrap_or(0);
    let mut loaded = planned.load_slots()?;
    let tokenizer = Arc::clone(loaded.slots.tokenizer());
    let cancel = interrupt::cancel_on_interrupt()?;
    let prompts = Prompts::new(loaded.format(prompting)?, tokenizer)
        .with_system(prompting.system())
        .with_thinking(prompting.think())
        .with_form(form)
        .without_grammars(refusal(args, &mut planned));
    let identity = planned.slots_identity(&loaded.slots, prompts.format())?;
    let basis = prompts.basis(&identity, loaded.slots.context());
    let options = BatchOptions {
        defaults: args.generation.defaults(sampler),
        basis,
        shard,
        limit: args.limit,
        model: planned.name(),
    };
    let slots = &mut loaded.slots;
    let energy = EnergyMeter::find();
    let mut batch = Batch { slots, prepare: &prompts, options: &options, cancel: &cancel, energy };
    let mut progress = Progress::new();
    let show = &mut |at: BatchProgress| progress.show(at.done as u64, total, |items| items.to_string());
    let done = batch.run(items, &mut output, show);
    progress.clear();
    match done {
        Err(BatchError::Write { source, .. }) if args.output.is_none() => Err(CliError::Output(source)),
        done => Ok(finish(&done?, args.output.is_some())),
    }
}

/// Why an item's grammar is refused, if it would take more memory than is allowed.
fn refusal(args: &BatchArgs, planned: &mut Planned) -> Option<String> {
    args.generation.resources.max_memory?;
    planned.allow_grammar().err().map(|error| error.to_string())
}

fn open(args: &BatchArgs) -> Result<Input<'static>, CliError> {
    if args.input.as_os_str() == STDIN {
        return Ok(input(BufReader::new(std::io::stdin()), STDIN_NAME));
    }
    let file = files::open(&args.input)?;
    Ok(input(BufReader::new(file), &args.input.display().to_string()))
}

fn output(args: &BatchArgs) -> Result<Journal, CliError> {
    let is_input = match &args.output {
        None => files::is_standard_output(&args.input),
        Some(path) => files::is_same_file(&args.input, path),
    };
    if is_input {
        let file = args.output.as_ref().unwrap_or(&args.input).display().to_string();
        return Err(BatchError::InputIsOutput { file }.into());
    }
    match &args.output {
        None => Ok(Journal::stream("standard output", Box::new(JsonLines::of_output()))),
        Some(path) => Ok(Journal::open(path)?),
    }
}

/// Says how it ended.
fn finish(finished: &Finished, can_go_on: bool) -> Exit {
    let BatchProgress { done, resumed, failed, cancelled } = finished.progress;
    let items = if done == 1 { "item" } else { "items" };
    finished.failures.iter().for_each(|failure| say(&format!("smolt: {failure}")));
    if failed > finished.failures.len() {
        note(format_args!("and {} more; see error in the output", failed - finished.failures.len()));
    }
    note(format_args!("{done} {items}, {resumed} done before, {failed} failed"));
    if failed > 0 && can_go_on {
        note("the same command asks again what failed");
    }
    if cancelled && can_go_on {
        note("stopped; the same command goes on from here");
    }
    match (cancelled, failed) {
        (true, _) => Exit::Interrupted,
        (_, 0) => Exit::Ok,
        _ => Exit::Runtime,
    }
}
