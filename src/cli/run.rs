//! `smolt run`: one prompt, one answer.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::{LookupArgs, ModelArgs, ResourceArgs};
use super::constrain::{self, ChoiceReport, GrammarArgs};
use super::error::{CliError, Exit};
use super::load::{self, Loaded, Planned};
use super::memory::show_bytes;
use super::output::{self, Answer, note};
use super::prompt::PromptArgs;
use super::sampling::SamplingArgs;
use super::{input, interrupt};
use crate::eval::probe::peak_rss;
use crate::generate::{
    Choice, Conversation, FinishReason, GenerateError, Grammar, LogitFilter, Outcome, Request,
    SamplerOptions, Timings,
};
use crate::model::LanguageModel;
use crate::text::{MAX_MESSAGE_BYTES, Tokenizer};

/// Arguments of `smolt run`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
The prompt is the argument followed by standard input; standard input is read unless it is a terminal. Only
the answer goes to standard output.

Examples:
  smolt run \"Turn on the kitchen lights\"
  smolt run -m model.gguf \"Summarize this:\" < letter.txt > summary.txt
  smolt run -m model.gguf --schema person.json \"Invent a person\" | jq .name
  smolt run -m model.gguf --choices yes,no --logprobs \"Is water wet?\"
  smolt run -m base.gguf --raw -n 50 --temp 0 \"Once upon a time\"
  smolt run -m model.gguf --json \"Why is the sky blue?\" | jq -r .text"
)]
pub struct RunArgs {
    /// What to answer; - for standard input
    prompt: Option<String>,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    resources: ResourceArgs,

    #[command(flatten)]
    prompting: PromptArgs,

    /// Tokens to generate at most [default: as many as the context holds]
    #[arg(short = 'n', long, value_name = "N", env = "SMOLT_MAX_TOKENS")]
    max_tokens: Option<usize>,

    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    #[command(flatten)]
    lookup: LookupArgs,

    /// Report times and memory on standard error
    #[arg(long)]
    stats: bool,

    /// Print one line of JSON at the end instead of the answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    grammar: GrammarArgs,

    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Loads the model and answers the prompt.
pub(super) fn execute(args: &RunArgs) -> Result<Exit, CliError> {
    let grammar = args.grammar.read()?;
    let prompt = input::prompt(args.prompt.as_deref(), MAX_MESSAGE_BYTES)?;
    let started = Instant::now();
    let planned = load::plan(&args.model, &args.resources, args.lookup.logit_rows())?;
    let sampler = args.sampling.resolve(&planned.file, args.model.model.is_none())?;
    sampler.validate().map_err(GenerateError::from)?;
    planned.check(args.resources.max_memory)?;
    let mut loaded = planned.load(&args.model, started)?;
    let tokens = encode(args, prompt, loaded.session.tokenizer())?;
    let seed = sampler.seed;
    let (outcome, choices) = answer(args, &tokens, sampler, grammar.as_ref(), &mut loaded)?;
    let mut report = Report::new(&planned, &loaded, &outcome, seed);
    report.choices = choices.as_ref().map(|choices| choices.iter().map(ChoiceReport::new).collect());
    if args.json {
        output::write_json(&report)?;
    }
    note_end(&outcome, grammar.as_ref());
    if let Some(choices) = choices.as_ref().filter(|_| args.grammar.logprobs) {
        constrain::note_choices(choices);
    }
    if args.stats {
        note(format_args!("statistics\n{}", stats(&report, &planned, &loaded)));
    }
    Ok(if outcome.finish == FinishReason::Cancelled { Exit::Interrupted } else { Exit::Ok })
}

/// Says what may be wrong with an answer because of where it ended.
fn note_end(outcome: &Outcome, grammar: Option<&Grammar>) {
    if outcome.finish == FinishReason::Context {
        note("the context is full; -c N gives a larger one");
    }
    if let Some(grammar) = grammar
        && !matches!(outcome.finish, FinishReason::EndToken(_) | FinishReason::Complete)
    {
        note(format_args!("the answer was cut off and may not match the {}", grammar.what()));
    }
}

/// The prompt as token ids.
fn encode(args: &RunArgs, prompt: String, tokenizer: &Tokenizer) -> Result<Vec<u32>, CliError> {
    let format = args.prompting.format(tokenizer)?;
    let mut conversation = Conversation::new(args.prompting.system());
    conversation.ask(prompt);
    Ok(conversation.next(&format, tokenizer, usize::MAX, 0)?.tokens)
}

/// Generates; without `--json` the answer is printed as it comes. Choices come with their probabilities.
fn answer(
    args: &RunArgs,
    tokens: &[u32],
    sampler: SamplerOptions,
    grammar: Option<&Grammar>,
    loaded: &mut Loaded,
) -> Result<(Outcome, Option<Vec<Choice>>), CliError> {
    let cancel = interrupt::cancel_on_interrupt()?;
    let mut constraint = match grammar {
        None | Some(Grammar::Choices(_)) => None,
        Some(grammar) => Some(constrain::compile(grammar, loaded.session.tokenizer())?),
    };
    let request = Request {
        max_tokens: args.max_tokens,
        sampler,
        stop: &args.stop,
        cancel: Some(&cancel),
        lookup: args.lookup.tokens(),
        filter: constraint.as_mut().map(|constraint| constraint as &mut dyn LogitFilter),
        ..Request::new(tokens)
    };
    if let Some(Grammar::Choices(texts)) = grammar {
        let (outcome, choices) = loaded.session.choose(&request, texts)?;
        if !args.json {
            let mut printed = Answer::new();
            printed.push(&outcome.text)?;
            printed.finish()?;
        }
        return Ok((outcome, Some(choices)));
    }
    Ok((stream(args, request, loaded)?, None))
}

fn stream(args: &RunArgs, request: Request<'_>, loaded: &mut Loaded) -> Result<Outcome, CliError> {
    let mut printed = Answer::new();
    let mut failure = None;
    let outcome = loaded.session.generate(request, &mut |event| {
        if args.json {
            return ControlFlow::Continue(());
        }
        match printed.push(event.text) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    printed.finish()?;
    Ok(outcome?)
}

/// The answer in machine-readable form.
#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    tokens: usize,
    prompt_tokens: usize,
    finish_reason: &'static str,
    seed: u64,
    /// Without `--choices`, null.
    choices: Option<Vec<ChoiceReport<'a>>>,
    /// Without `--lookup`, null.
    lookup: Option<LookupReport>,
    timings: TimingReport,
    memory: MemoryReport,
    model: ModelReport,
}

#[derive(Serialize)]
struct LookupReport {
    /// Tokens that were guessed ahead.
    drafted_tokens: usize,
    /// Those of them that were right.
    accepted_tokens: usize,
}

#[derive(Serialize)]
struct TimingReport {
    load_ms: f64,
    /// From the start of the request, the model being loaded.
    ttft_ms: Option<f64>,
    prompt_tok_s: Option<f64>,
    decode_tok_s: Option<f64>,
}

#[derive(Serialize)]
struct MemoryReport {
    planned_bytes: u64,
    /// How keys and values are stored.
    kv: &'static str,
    peak_rss_bytes: Option<u64>,
}

#[derive(Serialize)]
struct ModelReport {
    name: String,
}

impl<'a> Report<'a> {
    fn new(planned: &Planned, loaded: &Loaded, outcome: &'a Outcome, seed: u64) -> Report<'a> {
        let timings: &Timings = &outcome.timings;
        Report {
            text: &outcome.text,
            tokens: outcome.tokens.len(),
            prompt_tokens: outcome.prompt_tokens,
            finish_reason: outcome.finish.name(),
            seed,
            choices: None,
            lookup: (planned.options.logit_rows > 1).then_some(LookupReport {
                drafted_tokens: timings.drafted_tokens,
                accepted_tokens: timings.accepted_tokens,
            }),
            timings: TimingReport {
                load_ms: milliseconds(loaded.time),
                ttft_ms: timings.first_token.map(milliseconds),
                prompt_tok_s: timings.prompt_tokens_per_second(),
                decode_tok_s: timings.decode_tokens_per_second(),
            },
            memory: MemoryReport {
                planned_bytes: planned.memory.total,
                kv: planned.options.kv.name(),
                peak_rss_bytes: peak_rss(),
            },
            model: ModelReport { name: planned.name() },
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The report for people.
fn stats(report: &Report<'_>, planned: &Planned, loaded: &Loaded) -> String {
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1} tok/s"));
    let Report { timings, memory, lookup, .. } = report;
    let peak = memory.peak_rss_bytes.map_or("unknown".to_owned(), show_bytes);
    let guessed = lookup.as_ref().map_or(String::new(), |lookup| {
        format!(", {} of {} guessed ahead were right", lookup.accepted_tokens, lookup.drafted_tokens)
    });
    let runner = loaded.session.model();
    [
        format!("  model    {}, loaded in {:.0} ms", report.model.name, timings.load_ms),
        format!("  prompt   {} tokens, {}", report.prompt_tokens, rate(timings.prompt_tok_s)),
        format!(
            "  first    {}",
            timings.ttft_ms.map_or("-".to_owned(), |ms| format!("token after {ms:.0} ms"))
        ),
        format!("  decode   {} tokens, {}{guessed}", report.tokens, rate(timings.decode_tok_s)),
        format!("  context  {} of {} used, {}", runner.position(), runner.context(), planned.options.kv),
        format!("  memory   {} planned, {peak} peak", show_bytes(memory.planned_bytes)),
        format!("  kernels  {}, {} threads", planned.kernels.name, runner.threads()),
        format!("  ended    {}, seed {}", report.finish_reason, report.seed),
    ]
    .join("\n")
}
