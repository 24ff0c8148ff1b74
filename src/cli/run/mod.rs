//! `smolt run`: one prompt, one answer.

mod report;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::report::{Report, TokenReport};
use super::answer::{Answer, DisplayArgs, lock};
use super::constrain;
use super::error::{CliError, Exit};
use super::generation::{GenerationArgs, USUAL_TOKENS, answer_room};
use super::input::PromptParts;
use super::interrupt::{Interrupts, Signals};
use super::load::{Loaded, Planned};
use super::output::{self, note};
use super::pretty::Indent;
use super::session::{self, SessionArgs, SessionFile};
use super::terminal::Quiet;
use super::thoughts::Thoughts;
use crate::ask::Form;
use crate::generate::{
    CancelHandle, Choice, Conversation, FinishReason, Format, LogitFilter, MAX_LOGPROBS, Origin, Outcome,
    Request, SamplerOptions, Thinking,
};
use crate::text::MAX_MESSAGE_BYTES;

/// Arguments of `smolt run`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
The prompt is the words, with spaces between, followed by the files, followed by standard input, which is read unless it is a terminal.
A first word that names a model (a GGUF file, a preset, an alias, an installed model, or demo) is the model, unless -m is
typed; after -- every word is the prompt.
A byte order mark is no part of a text, and CR LF counts as LF (not with --raw). Only the answer goes to standard
output; it ends with a line break, which is printed if the model wrote none.

In a loop over lines give run other input, or it takes the lines that the loop would read:
  while read -r line; do smolt run --no-stdin \"$line\"; done < questions.txt

Examples:
  smolt run \"Turn on the kitchen lights\"
  smolt run model.gguf \"Why is the sky blue?\"
  smolt run -m model.gguf \"Summarize this:\" -f letter.txt > summary.txt
  git diff | smolt run -m model.gguf \"Explain these changes:\"
  smolt run --session kiosk.session \"And now the blinds\"
  smolt run -m model.gguf --schema person.json \"Invent a person\" | jq .name
  smolt run -m model.gguf --choices yes,no --logprobs \"Is water wet?\"
  smolt run -m base.gguf --raw -n 50 --temp 0 \"Once upon a time\"
  smolt run -m model.gguf --json \"Why is the sky blue?\" | jq -r .text"
)]
pub struct RunArgs {
    /// What to answer, perhaps behind the model; - for standard input
    #[arg(value_name = "PROMPT", allow_negative_numbers = true)]
    pub(in crate::cli) words: Vec<String>,

    /// What to answer
    #[arg(short, long, value_name = "TEXT", hide = true)]
    prompt: Option<String>,

    /// The word that was taken for the model.
    #[arg(skip)]
    pub(in crate::cli) taken: Option<String>,

    /// Files that follow the prompt; may be given several times
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,

    /// Leave standard input alone, e.g. in a loop that reads it
    #[arg(long)]
    no_stdin: bool,

    #[command(flatten)]
    session: SessionArgs,

    /// Report times and memory on standard error
    #[arg(long)]
    stats: bool,

    /// Print the JSON of --schema over several lines, indented
    #[arg(long, requires = "schema", conflicts_with = "json")]
    pretty: bool,

    /// Print one line of JSON at the end instead of the answer
    #[arg(long)]
    json: bool,

    /// Report the log-probability of every token, with its N likeliest alternatives, or the probabilities of all
    /// choices: in the JSON, else on standard error [default without a number: 0]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "0",
          value_parser = clap::value_parser!(u16).range(0..=MAX_LOGPROBS as i64))]
    logprobs: Option<u16>,

    #[command(flatten)]
    pub(in crate::cli) generation: GenerationArgs,

    #[command(flatten)]
    display: DisplayArgs,
}

impl RunArgs {
    /// The prompt: what was typed, the files, standard input.
    fn read_prompt(&self) -> Result<String, CliError> {
        let words = Some(self.words.join(" ")).filter(|_| !self.words.is_empty());
        let typed = match (&self.prompt, words) {
            (Some(_), Some(words)) => return Err(CliError::TwoPrompts { words }),
            (prompt, words) => prompt.clone().or(words),
        };
        let parts = PromptParts {
            argument: typed.as_deref(),
            files: &self.file,
            reads_input: !self.no_stdin,
            is_raw: self.generation.prompting.is_raw(),
        };
        parts.read(MAX_MESSAGE_BYTES).map_err(|error| match (error, &self.taken) {
            (CliError::NoPrompt, Some(model)) => CliError::OnlyModel { model: model.clone() },
            (error, _) => error,
        })
    }
}

/// Loads the model and answers the prompt.
pub(super) fn execute(args: &RunArgs) -> Result<Exit, CliError> {
    let mut args = args.clone();
    args.session.choose_model(&mut args.generation.model);
    let args = &args;
    args.display.apply();
    let form = args.generation.grammar.read()?;
    let prompt = args.read_prompt()?;
    let interrupts = Interrupts::new(false, Signals::block())?;
    let started = Instant::now();
    let planned = args.generation.plan(&args.generation.model)?;
    let sampler = args.generation.sampler(&planned)?;
    let mut loaded = planned.load(started)?;
    let mut talk = Talk::open(args, &planned, form.as_ref(), &mut loaded)?;
    let tokens = talk.ask(args, prompt, &loaded)?;
    let seed = sampler.seed;
    let answer = interrupts.during(|cancel| {
        answer(args, &tokens, sampler, (form.as_ref(), &talk.format), &mut loaded, cancel)
    })?;
    let outcome = &answer.outcome;
    let saved = talk.save(outcome, &mut loaded);
    let mut report = Report::new(&planned, &loaded, outcome, seed);
    if args.generation.prompting.think() == Some(Thinking::Hide) {
        report.reasoning = None;
    }
    report.complete = form.is_some().then_some(outcome.whole);
    report.choices = answer.choices.as_deref();
    report.logprobs = args.logprobs.filter(|_| answer.choices.is_none()).map(|_| answer.tokens.as_slice());
    if args.json {
        output::write_json(&report)?;
    }
    note_end(args, outcome, form.as_ref());
    if args.logprobs.is_some() && !args.json {
        match &answer.choices {
            Some(choices) => constrain::note_choices(choices),
            None => report::note_tokens(&answer.tokens),
        }
    }
    if args.stats {
        output::report(format_args!("statistics\n{}", report::stats(&report, &planned, &loaded)));
    }
    saved?;
    let exit = match (outcome.finish, outcome.whole) {
        (FinishReason::Cancelled, _) => Exit::Interrupted,
        (_, false) => Exit::Unfinished,
        _ => Exit::Ok,
    };
    Ok(interrupts.ending().unwrap_or(exit))
}

/// What was said, and how it becomes a prompt.
struct Talk {
    format: Format,
    conversation: Conversation,
    /// Where it is kept, and what it is of.
    file: Option<(SessionFile, Origin)>,
}

impl Talk {
    /// Begins a conversation, or goes on with the saved one.
    fn open(
        args: &RunArgs,
        planned: &Planned,
        form: Option<&Form>,
        loaded: &mut Loaded,
    ) -> Result<Talk, CliError> {
        let prompting = &args.generation.prompting;
        let mut format = loaded.format(prompting)?;
        if let Some(calling) = form.and_then(Form::calling) {
            format.tell(calling);
        }
        if !args.session.is_some() {
            return Ok(Talk { format, conversation: Conversation::new(prompting.system()), file: None });
        }
        let origin = session::origin_of(&args.generation.model, planned, loaded, &format)?;
        let (file, conversation) = args.session.open(&origin, &mut loaded.session)?;
        let mut conversation = conversation.unwrap_or_default();
        if prompting.system().is_some() {
            conversation.set_system(prompting.system());
        }
        Ok(Talk { format, conversation, file: file.map(|file| (file, origin)) })
    }

    /// Keeps the answer, where a session was asked for.
    fn save(&mut self, outcome: &Outcome, loaded: &mut Loaded) -> Result<(), CliError> {
        let Some((mut file, origin)) = self.file.take() else { return Ok(()) };
        self.conversation.answer(outcome, &Arc::clone(loaded.session.tokenizer()))?;
        file.record(&self.conversation)?;
        file.finish(&origin, &self.conversation, &mut loaded.session)
    }

    /// The tokens that ask.
    fn ask(&mut self, args: &RunArgs, prompt: String, loaded: &Loaded) -> Result<Vec<u32>, CliError> {
        self.conversation.ask(prompt);
        let context = loaded.session.context();
        let reserve = answer_room(args.generation.max_tokens(), context);
        let next = self.conversation.next(&self.format, loaded.session.tokenizer(), context, reserve)?;
        session::note_dropped(next.dropped, self.conversation.system().is_some());
        Ok(next.tokens)
    }
}

/// Says what may be wrong with an answer because of where it ended.
fn note_end(args: &RunArgs, outcome: &Outcome, form: Option<&Form>) {
    match outcome.finish {
        finish if args.generation.length().is_unasked(finish) => {
            note(format_args!("the answer was cut at {USUAL_TOKENS} tokens; -n N allows more"));
        }
        FinishReason::Context => note("the context is full; -c N gives a larger one"),
        FinishReason::Loop => note("the answer went in circles and was ended; --no-loop-guard lets it"),
        FinishReason::Length if output::is_terminal() => {
            note(format_args!(
                "the answer was cut off after {} tokens; -n N allows more",
                outcome.tokens.len()
            ));
        }
        _ => {}
    }
    constrain::note_unfinished(outcome.whole, form);
}

/// What was answered.
struct Answered {
    outcome: Outcome,
    /// With `--choices`.
    choices: Option<Vec<Choice>>,
    /// With `--logprobs`.
    tokens: Vec<TokenReport>,
}

/// Generates; without `--json` the answer is printed as it comes.
fn answer(
    args: &RunArgs,
    tokens: &[u32],
    sampler: SamplerOptions,
    (form, format): (Option<&Form>, &Format),
    loaded: &mut Loaded,
    cancel: &CancelHandle,
) -> Result<Answered, CliError> {
    let tokenizer = Arc::clone(loaded.session.tokenizer());
    let layout = format.layout(&tokenizer, form.and_then(Form::calling));
    let grammar = form.map(|form| form.grammar(format, &tokenizer)).transpose()?.flatten();
    let constraint = match grammar {
        Some(grammar) => Some(constrain::compile(&grammar, &tokenizer, cancel)?),
        None => None,
    };
    let draw = constrain::draw(args.generation.sampling.typed_temp(), sampler.seed);
    let _quiet = (!args.json).then(|| Quiet::new(false));
    let printed = Mutex::new(Answer::new(args.display.wraps()));
    let request = Request {
        max_tokens: args.generation.max_tokens(),
        sampler,
        stop: Cow::Borrowed(&args.generation.stop),
        logprobs: args.logprobs.map(usize::from),
        cancel: Some(cancel.clone()),
        lookup: args.generation.lookup.tokens(),
        loop_guard: args.generation.loop_guard(),
        progress: Some(Box::new(|read, of| lock(&printed).read(read, of))),
        filter: constraint.map(|constraint| Box::new(constraint) as Box<dyn LogitFilter>),
        layout: layout.as_ref().map(Cow::Borrowed),
        ..Request::new(tokens)
    };
    if let Some(Form::Choices(texts)) = form {
        let (outcome, choices) = loaded.session.choose(&request, texts, draw)?;
        if !args.json {
            let mut printed = lock(&printed);
            printed.push(&outcome.text)?;
            printed.end_line()?;
        }
        return Ok(Answered { outcome, choices: Some(choices), tokens: vec![] });
    }
    let (outcome, tokens) = stream(args, request, loaded, &printed)?;
    if !args.json {
        output::write_calls(&outcome.tool_calls)?;
    }
    Ok(Answered { outcome, choices: None, tokens })
}

fn stream(
    args: &RunArgs,
    request: Request<'_>,
    loaded: &mut Loaded,
    printed: &Mutex<Answer>,
) -> Result<(Outcome, Vec<TokenReport>), CliError> {
    let tokenizer = Arc::clone(loaded.session.tokenizer());
    let mut thoughts = Thoughts::new(args.generation.prompting.think());
    let (mut failure, mut tokens) = (None, vec![]);
    let mut indent = args.pretty.then(Indent::default);
    let outcome = loaded.session.generate(request, &mut |event| {
        tokens.extend(TokenReport::new(event, &tokenizer));
        if !args.json {
            if !event.reasoning.is_empty() {
                lock(printed).end_reading();
            }
            thoughts.push(event.reasoning, event.text);
            failure = match &mut indent {
                Some(indent) => lock(printed).push(&indent.push(event.text)).err(),
                None => lock(printed).push(event.text).err(),
            };
        }
        if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    thoughts.finish();
    // An error before the answer has begun leaves standard output empty.
    let mut printed = lock(printed);
    let has_text = outcome.as_ref().is_ok_and(|outcome| outcome.tool_calls.is_empty());
    if !args.json && (has_text || printed.is_begun()) {
        printed.end_line()?;
    }
    Ok((outcome?, tokens))
}
