//! `smolt batch`: many prompts from a file, one load.

use std::cell::{OnceCell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::constrain::Form;
use super::error::{CliError, Exit};
use super::generation::GenerationArgs;
use super::input::{STDIN, STDIN_NAME};
use super::load::Planned;
use super::output::note;
use super::progress::Progress;
use super::{interrupt, session};
use crate::eval::batch::Progress as BatchProgress;
use crate::eval::batch::{
    Batch, BatchError, BatchOptions, EnergyMeter, Item, Journal, MAX_LINE_BYTES, Prepare, Rule,
};
use crate::files::{self, Fnv, Lines};
use crate::generate::{Constraint, Conversation, Format, Grammar, GrammarCompiler, Identity};
use crate::text::{Message, Role, TemplateVariables, Tokenizer};

/// Arguments of `smolt batch`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Each line of the input is a JSON object with prompt (text) or messages (a list of role and content), and perhaps id,
system, raw, template_vars, max_tokens, stop, temperature, top_k, top_p, min_p, repeat_penalty, seed, loop_guard, schema, regex, grammar, choices.
Each line of the output has index, id, input (a hash of the line and of all else that counts), text, tokens, prompt_tokens, finish_reason, seed,
logprob and timings, with choices their probabilities, or error. Of choices the likeliest is taken; with
temperature in the item, or --temp, one is drawn. With -o a batch that was stopped goes on where it was. Without --seed it is 0: equal
inputs give equal answers.

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
    generation: GenerationArgs,
}

/// Reads the I-th of N parts.
pub(super) fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts =
        text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    parts
        .filter(|(part, parts)| part < parts)
        .ok_or_else(|| "expected I/N with I from 0 to N - 1, e.g. 0/4".to_owned())
}

/// Turns items into prompts and rules.
struct Prompts {
    format: Format,
    system: Option<String>,
    /// Of items that have none.
    form: Option<Form>,
    tokenizer: Arc<Tokenizer>,
    compiler: OnceCell<GrammarCompiler>,
    /// Why there is no memory for a grammar.
    refusal: Option<String>,
    /// The last grammar, as items often share one.
    last: RefCell<Option<(Grammar, Constraint)>>,
}

impl Prompts {
    /// A hash of what answers depend on besides items and options.
    fn basis(&self, identity: &Identity, context: usize) -> u64 {
        let mut hash = Fnv::default();
        hash.add(format!("{identity:?} {context} {:?} {:?}", self.system, self.form).as_bytes());
        hash.finish()
    }

    fn messages(&self, item: &Item) -> Result<Vec<Message>, String> {
        let has_own = item.messages.iter().flatten().any(|message| message.role == "system");
        let system = item.system.as_ref().or(self.system.as_ref().filter(|_| !has_own));
        let system = system.filter(|text| !text.trim().is_empty());
        let mut messages: Vec<Message> =
            system.map(|text| Message::new(Role::System, text)).into_iter().collect();
        for message in item.messages.iter().flatten() {
            let role = match message.role.as_str() {
                "system" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                other => return Err(format!("unknown role {other:?}; there are system, user and assistant")),
            };
            messages.push(Message::new(role, &message.content));
        }
        messages.extend(item.prompt.as_ref().map(|prompt| Message::new(Role::User, prompt)));
        Ok(messages)
    }
}

impl Prompts {
    fn compiler(&self) -> Result<&GrammarCompiler, String> {
        if let Some(compiler) = self.compiler.get() {
            return Ok(compiler);
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let new = GrammarCompiler::new(Arc::clone(&self.tokenizer)).map_err(|error| error.to_string())?;
        Ok(self.compiler.get_or_init(|| new))
    }
}

/// The variables of an item.
fn variables(item: &Item) -> Result<TemplateVariables, String> {
    let Some(own) = &item.template_vars else { return Ok(TemplateVariables::default()) };
    let json = serde_json::to_string(own).map_err(|error| error.to_string())?;
    TemplateVariables::from_user_json(&json).map_err(|error| error.to_string())
}

impl Prepare for Prompts {
    fn encode(&self, item: &Item, tokens: &mut Vec<u32>) -> Result<(), String> {
        let is_raw = item.raw.unwrap_or(false);
        match &self.format {
            Format::Template(template) if !is_raw => template
                .encode_with(&self.tokenizer, &self.messages(item)?, &variables(item)?, tokens)
                .map_err(|error| error.to_string()),
            format => {
                let raw = Format::Raw { control: is_raw || matches!(format, Format::Raw { control: true }) };
                let prompt = item.prompt.as_ref().ok_or("messages need a chat template")?;
                let mut conversation = Conversation::new(item.system.as_deref().or(self.system.as_deref()));
                conversation.ask(prompt);
                let next = conversation.next(&raw, &self.tokenizer, usize::MAX, 0);
                tokens.extend(next.map_err(|error| error.to_string())?.tokens);
                Ok(())
            }
        }
    }

    fn rule(&self, item: &Item) -> Result<Rule, String> {
        let forms = [
            item.schema.as_ref().map(|schema| Form::Grammar(Grammar::Schema(schema.to_string()))),
            item.regex.clone().map(|regex| Form::Grammar(Grammar::Regex(regex))),
            item.grammar.clone().map(|grammar| Form::Grammar(Grammar::Lark(grammar))),
            item.choices.clone().map(Form::Choices),
        ];
        let mut forms = forms.into_iter().flatten();
        let form = forms.next().or_else(|| self.form.clone());
        if forms.next().is_some() {
            return Err("the item has more than one of schema, regex, grammar and choices".to_owned());
        }
        let grammar = match form {
            None => return Ok(Rule::Free),
            Some(Form::Choices(texts)) => return Ok(Rule::Choices(texts)),
            Some(Form::Grammar(grammar)) => grammar,
        };
        let mut last = self.last.borrow_mut();
        if let Some((_, constraint)) = last.as_ref().filter(|(known, _)| *known == grammar) {
            return Ok(Rule::Filter(Box::new(constraint.clone())));
        }
        let constraint = self.compiler()?.compile(&grammar).map_err(|error| error.to_string())?;
        *last = Some((grammar, constraint.clone()));
        Ok(Rule::Filter(Box::new(constraint)))
    }
}

/// Loads the model and answers the items.
pub(super) fn execute(args: &BatchArgs) -> Result<Exit, CliError> {
    let started = Instant::now();
    let mut input = open(args)?;
    let mut output = match &args.output {
        Some(path) => Journal::open(path)?,
        None => Journal::stream("standard output", Box::new(std::io::stdout())),
    };
    let GenerationArgs { prompting, max_tokens, stop, lookup, sampling, .. } = &args.generation;
    let form = args.generation.grammar.read()?;
    let mut planned = args.generation.plan(&args.generation.model)?;
    let mut sampler = args.generation.sampler(&planned)?;
    sampler.seed = sampling.seed().unwrap_or(0);
    let mut loaded = planned.load(&args.generation.model, started)?;
    // A batch that does not fit ends before its first item.
    loaded.session.touch();
    let tokenizer = Arc::clone(loaded.session.tokenizer());
    let prompts = Prompts {
        format: prompting.format(&tokenizer)?,
        system: prompting.system().map(str::to_owned),
        form,
        tokenizer,
        compiler: OnceCell::new(),
        refusal: refusal(args, &mut planned),
        last: RefCell::new(None),
    };
    let basis =
        prompts.basis(&session::identity(&planned, &loaded, &prompts.format), loaded.session.context());
    let options = BatchOptions {
        sampler,
        choice_temperature: sampling.typed_temp(),
        max_tokens: *max_tokens,
        stop: stop.clone(),
        lookup: lookup.tokens(),
        loop_guard: args.generation.loop_guard(),
        basis,
        shard: args.shard.unwrap_or_default(),
        limit: args.limit,
    };
    let cancel = interrupt::cancel_on_interrupt()?;
    let session = &mut loaded.session;
    let energy = EnergyMeter::find();
    let mut batch = Batch { session, prepare: &prompts, options: &options, cancel: &cancel, energy };
    let (mut progress, total) = (Progress::new(), count(args));
    let show = &mut |at: BatchProgress| progress.show(at.done as u64, total, |items| items.to_string());
    let done = batch.run(&mut input, &mut output, show);
    progress.clear();
    match done {
        Err(BatchError::Write { source, .. }) if args.output.is_none() => Err(CliError::Output(source)),
        done => Ok(finish(done?, args.output.is_some())),
    }
}

/// Why an item's grammar is refused, if it would take more memory than is allowed.
fn refusal(args: &BatchArgs, planned: &mut Planned) -> Option<String> {
    args.generation.resources.max_memory?;
    planned.allow_grammar().err().map(|error| error.to_string())
}

fn open(args: &BatchArgs) -> Result<Lines<Box<dyn BufRead>>, CliError> {
    let (input, name): (Box<dyn BufRead>, String) = match args.input.as_os_str() {
        name if name == STDIN => (Box::new(BufReader::new(std::io::stdin())), STDIN_NAME.to_owned()),
        _ => (Box::new(BufReader::new(files::open(&args.input)?)), args.input.display().to_string()),
    };
    Ok(Lines::new(input, name, MAX_LINE_BYTES as u64))
}

/// Items that the batch is about, if that can be known before the end.
fn count(args: &BatchArgs) -> Option<u64> {
    if !args.input.is_file() {
        return None;
    }
    let (mut items, mut is_blank) = (0, true);
    for byte in BufReader::new(File::open(&args.input).ok()?).bytes() {
        match byte.ok()? {
            b'\n' => is_blank = true,
            byte if is_blank && !byte.is_ascii_whitespace() => (items, is_blank) = (items + 1, false),
            _ => {}
        }
    }
    let (part, parts) = args.shard.unwrap_or((0, 1));
    let own = (items + parts - 1 - part) / parts;
    Some(args.limit.map_or(own, |limit| own.min(limit)) as u64)
}

/// Says how it ended.
fn finish(done: BatchProgress, can_go_on: bool) -> Exit {
    let BatchProgress { done, resumed, failed, cancelled } = done;
    let items = if done == 1 { "item" } else { "items" };
    note(format_args!("{done} {items}, {resumed} done before, {failed} failed"));
    if cancelled && can_go_on {
        note("stopped; the same command goes on from here");
    }
    match (cancelled, failed) {
        (true, _) => Exit::Interrupted,
        (_, 0) => Exit::Ok,
        _ => Exit::Runtime,
    }
}
