//! `smolt batch`: many prompts from a file, one load.

use std::cell::{OnceCell, RefCell};
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use super::args::{ParallelArgs, USUAL_PARALLEL};
use super::constrain::Form;
use super::error::{CliError, Exit};
use super::generation::GenerationArgs;
use super::input::{STDIN, STDIN_NAME};
use super::interrupt;
use super::load::Planned;
use super::output::{note, say};
use super::progress::Progress;
use crate::console::JsonLines;
use crate::eval::batch::{
    Batch, BatchError, BatchOptions, EnergyMeter, Finished, Input, Item, ItemError, Journal, Prepare,
    Progress as BatchProgress, Rule, input, survey,
};
use crate::files::{self, Fnv};
use crate::generate::{
    Calling, CancelHandle, Constraint, Conversation, Format, Grammar, GrammarCompiler, Identity, Layout,
    Thinking, ToolChoice,
};
use crate::text::{Message, Role, TemplateVariables, Tokenizer};

/// Arguments of `smolt batch`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Each line of the input is a JSON object with prompt (text) or messages (a list of role and content), and perhaps id,
system, raw, template_vars, think, tools, tool_choice, max_tokens, stop, temperature, top_k, top_p, min_p, repeat_penalty, seed, loop_guard,
schema, regex, grammar, choices, response_format; or a request of OpenAI's batch files (custom_id, method, url, body).
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

/// Turns items into prompts and rules.
struct Prompts {
    format: Format,
    system: Option<String>,
    /// Of items that do not say.
    think: Option<Thinking>,
    /// Of items that have none.
    form: Option<Form>,
    tokenizer: Arc<Tokenizer>,
    compiler: OnceCell<GrammarCompiler>,
    /// Why there is no memory for a grammar.
    refusal: Option<String>,
    /// The last grammar, as items often share one.
    last: RefCell<Option<(Grammar, Constraint)>>,
    cancel: CancelHandle,
}

impl Prompts {
    /// A hash of what answers depend on besides items and options.
    fn basis(&self, identity: &Identity, context: usize) -> u64 {
        let mut hash = Fnv::default();
        let Prompts { system, form, think, .. } = self;
        hash.add(format!("{identity:?} {context} {system:?} {form:?} {think:?}").as_bytes());
        hash.finish()
    }

    fn messages(&self, item: &Item) -> Vec<Message> {
        let has_own = item.messages.iter().flatten().any(|message| message.role == Role::System);
        let system = item.system.as_ref().or(self.system.as_ref().filter(|_| !has_own));
        let system =
            system.filter(|text| !text.trim().is_empty()).map(|text| Message::new(Role::System, text));
        let given = item.messages.iter().flatten().cloned();
        let prompt = item.prompt.as_ref().map(|prompt| Message::new(Role::User, prompt));
        system.into_iter().chain(given).chain(prompt).collect()
    }
}

impl Prompts {
    fn compiler(&self) -> Result<&GrammarCompiler, ItemError> {
        if let Some(compiler) = self.compiler.get() {
            return Ok(compiler);
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        let new =
            GrammarCompiler::new(Arc::clone(&self.tokenizer)).map_err(|error| ItemError::new(&error))?;
        Ok(self.compiler.get_or_init(|| new))
    }
}

impl Prompts {
    /// The functions that the item's answer may call.
    fn calling(&self, item: &Item) -> Result<Option<Calling>, ItemError> {
        let forms =
            [item.schema.is_some(), item.regex.is_some(), item.grammar.is_some(), item.choices.is_some()];
        let given = self.form.as_ref().and_then(Form::calling).filter(|_| !forms.contains(&true));
        if item.raw && item.tools.is_some() {
            return Err("tools need a chat template; leave raw out".into());
        }
        let calling = match (&item.tools, given, &item.tool_choice) {
            (Some(tools), _, choice) => {
                Calling::new(Arc::new(tools.clone()), choice.clone().unwrap_or_default()).map(Some)
            }
            (None, Some(given), Some(choice)) => given.with_choice(choice.clone()).map(Some),
            (None, None, Some(ToolChoice::Required | ToolChoice::Named(_))) => {
                return Err("tool_choice asks for a call; expected tools, a list of functions".into());
            }
            (None, given, _) => Ok(given.cloned()),
        };
        calling.map_err(|error| ItemError::new(&error))
    }

    /// The variables of an item's template.
    fn variables(&self, item: &Item) -> Result<TemplateVariables, ItemError> {
        let mut variables = match &item.template_vars {
            None => TemplateVariables::default(),
            Some(own) => {
                let json = serde_json::to_string(own).map_err(|error| ItemError::new(&error))?;
                TemplateVariables::from_user_json(&json).map_err(|error| ItemError::new(&error))?
            }
        };
        variables.set_thinking(item.think.map(Thinking::is_asked));
        if let Some(calling) = self.calling(item)? {
            calling.tell(&mut variables);
        }
        Ok(variables)
    }
}

impl Prepare for Prompts {
    fn encode(&self, item: &Item, context: usize, tokens: &mut Vec<u32>) -> Result<(), ItemError> {
        let is_raw = item.raw;
        match &self.format {
            Format::Template(template) if !is_raw => {
                let messages = self.messages(item);
                let longest = messages.iter().map(|message| message.content.len()).max().unwrap_or(0);
                self.tokenizer.check_length(longest, context).map_err(|error| ItemError::new(&error))?;
                let prompt = template.render_with(&messages, &self.variables(item)?);
                let prompt = prompt.map_err(|error| ItemError::new(&error))?;
                prompt.encode_within(context, &self.tokenizer, tokens).map_err(|error| ItemError::new(&error))
            }
            format => {
                let raw = Format::Raw { control: is_raw || matches!(format, Format::Raw { control: true }) };
                let prompt = item.prompt.as_ref().ok_or("messages need a chat template")?;
                let mut conversation = Conversation::new(item.system.as_deref().or(self.system.as_deref()));
                conversation.ask(prompt);
                let next = conversation.next(&raw, &self.tokenizer, context, 0);
                tokens.extend(next.map_err(|error| ItemError::new(&error))?.tokens);
                Ok(())
            }
        }
    }

    fn layout(&self, item: &Item) -> Result<Option<Layout>, ItemError> {
        let calling = self.calling(item)?;
        Ok(self.format.layout(&self.tokenizer, calling.as_ref()).filter(|_| !item.raw))
    }

    fn hides_reasoning(&self, item: &Item) -> bool {
        item.think.or(self.think) == Some(Thinking::Hide)
    }

    fn rule(&self, item: &Item) -> Result<Rule, ItemError> {
        let forms = [
            item.schema.as_ref().map(|schema| Form::Grammar(Grammar::Schema(schema.to_string()))),
            item.regex.clone().map(|regex| Form::Grammar(Grammar::Regex(regex))),
            item.grammar.clone().map(|grammar| Form::Grammar(Grammar::Lark(grammar))),
            item.choices.clone().map(Form::Choices),
        ];
        let own = forms.into_iter().flatten().next();
        let given = self.form.clone().filter(|form| form.calling().is_none() && item.tools.is_none());
        let form = own.or(given);
        let grammar = match form {
            Some(Form::Choices(texts)) => return Ok(Rule::Choices(texts)),
            Some(Form::Grammar(grammar)) => grammar,
            Some(Form::Calls(_)) | None => {
                let calling = self.calling(item)?.filter(|_| !item.raw);
                let grammar = calling.map(|calling| self.format.calls(&calling, &self.tokenizer));
                let grammar = grammar.transpose().map_err(|error| ItemError::new(&error))?.flatten();
                let Some(grammar) = grammar else { return Ok(Rule::Free) };
                grammar
            }
        };
        let mut last = self.last.borrow_mut();
        if let Some((_, constraint)) = last.as_ref().filter(|(known, _)| *known == grammar) {
            return Ok(Rule::Filter(Box::new(constraint.clone())));
        }
        let constraint = self.compiler()?.compile_unless(&grammar, &self.cancel);
        let constraint = constraint.map_err(|error| ItemError::new(&error))?;
        *last = Some((grammar, constraint.clone()));
        Ok(Rule::Filter(Box::new(constraint)))
    }
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
    let GenerationArgs { prompting, stop, lookup, sampling, .. } = &args.generation;
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
    let prompts = Prompts {
        format: loaded.format(prompting)?,
        system: prompting.system().map(str::to_owned),
        think: prompting.think(),
        form,
        tokenizer,
        compiler: OnceCell::new(),
        refusal: refusal(args, &mut planned),
        last: RefCell::new(None),
        cancel: cancel.clone(),
    };
    let identity = planned.slots_identity(&loaded.slots, &prompts.format);
    let basis = prompts.basis(&identity, loaded.slots.context());
    let options = BatchOptions {
        sampler,
        choice_temperature: sampling.typed_temp(),
        max_tokens: args.generation.length().tokens(true),
        usual_tokens: args.generation.length().tokens(false),
        stop: stop.clone(),
        lookup: lookup.tokens(),
        loop_guard: args.generation.loop_guard(),
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
