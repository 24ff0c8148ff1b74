//! `smolt serve`: a local server.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::args::ParallelArgs;
use super::counting;
use super::error::{CliError, Exit};
use super::generation::GenerationArgs;
use super::interrupt::{self, Signals};
use super::load::{self, Planned};
use super::memory::show_bytes;
use super::output::{note, with_causes};
use crate::ask::Prompts;
use crate::generate::{Engine, Format, Origin, Slots};
use crate::serve::{Kiosk, Listen, ModelCard, ServeOptions, State, Warmth, check, serve, warm, watch_panics};

/// Answers at once where none is asked for.
const USUAL_SLOTS: usize = 2;
/// How often counts are kept.
const KEEPING: Duration = Duration::from_secs(300);
/// Ending of the file that keeps what the model made of the system prompt.
const WARM_ENDING: &str = "warm";

/// Arguments of `smolt serve`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Programs talk with it as with OpenAI's servers, at http://127.0.0.1:PORT/v1; people at http://127.0.0.1:PORT/. It listens
for this computer only, unless --allow-remote and --token-file say otherwise, and keeps nothing of what is said.

A system prompt (--system, or that of --kiosk) holds for every conversation: requests have none of their own then. What
the model made of it is kept beside the model, as MODEL.warm, so that after the next start nobody waits for it; --no-warm
keeps nothing. -n is the most that any answer may have.

SIGTERM and Ctrl-C let answers end, for ten seconds, and a second one ends at once; exit codes 143 and 130.

Examples:
  smolt serve
  smolt serve model.gguf --port 8080 --slots 4
  smolt serve model.gguf --kiosk kiosk.toml
  smolt serve model.gguf --socket /run/smolt.sock"
)]
pub struct ServeArgs {
    /// The model, as with -m
    #[arg(value_name = "MODEL")]
    pub(super) named: Option<PathBuf>,

    /// Address to listen at
    #[arg(long, value_name = "HOST", env = "SMOLT_HOST", default_value = "127.0.0.1")]
    host: String,

    /// Port to listen at; 0 for any that is free
    #[arg(long, value_name = "N", env = "SMOLT_PORT", default_value_t = 8080)]
    port: u16,

    /// Listen at a UNIX socket, which only this user may use, and at no port
    #[arg(long, value_name = "PATH", env = "SMOLT_SOCKET")]
    socket: Option<PathBuf>,

    /// Work on N answers at once, each with a context of its own [default: 2, 1 where memory is short]
    #[arg(long, value_name = "N", env = "SMOLT_SLOTS",
          value_parser = clap::value_parser!(u16).range(1..=crate::model::MAX_SLOTS as i64))]
    slots: Option<u16>,

    /// Answers that may wait for their turn; more are told to come back
    #[arg(long, value_name = "N", env = "SMOLT_QUEUE", default_value_t = 16)]
    queue: u16,

    /// Ask every program for one of the tokens in FILE, one a line, which nobody else may read
    #[arg(long, value_name = "FILE", env = "SMOLT_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Let --host be an address that other computers reach; takes --token-file
    #[arg(long, requires = "token_file")]
    allow_remote: bool,

    /// Another name of this computer that requests may have as Host; may be given several times
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// Show visitors the page as FILE says: title, languages, colours, logo and more, in TOML, with a system prompt
    #[arg(long, value_name = "FILE", env = "SMOLT_KIOSK")]
    kiosk: Option<PathBuf>,

    /// Keep nothing of the system prompt beside the model
    #[arg(long, env = "SMOLT_NO_WARM", value_parser = clap::builder::FalseyValueParser::new())]
    no_warm: bool,

    #[command(flatten)]
    pub(super) generation: GenerationArgs,
}

/// Loads the model and serves until it is told to stop.
pub(super) fn execute(args: &ServeArgs) -> Result<Exit, CliError> {
    let signals = Signals::block();
    let options = options(args);
    check(&options)?;
    let exit = Arc::new(AtomicI32::new(0));
    let begun = Arc::new(OnceLock::<()>::new());
    let (stop, asked, is_begun) = (options.stop.clone(), Arc::clone(&exit), Arc::clone(&begun));
    interrupt::on_signals(signals, move |exit| {
        let is_second = asked.swap(exit as i32, Ordering::SeqCst) != 0;
        if is_second || is_begun.get().is_none() {
            interrupt::end(exit);
        }
        stop.stop();
    })?;
    watch_panics(|failure| note(failure));
    let kiosk = args.kiosk.as_deref().map(Kiosk::read).transpose()?.unwrap_or_default();
    let system = args.generation.prompting.system().or(kiosk.system());
    let form = args.generation.grammar.read()?;
    let mut planned = args.generation.plan(&args.generation.model)?;
    let slots = ParallelArgs::of(args.slots);
    slots.settle(&mut planned, USUAL_SLOTS)?;
    planned.check()?;
    let refusal = refusal(args, &mut planned);
    let mut sampler = args.generation.sampler(&planned)?;
    sampler.seed = args.generation.sampling.seed().unwrap_or(sampler.seed);
    let mut loaded = planned.load_slots()?;
    let format = loaded.format(&args.generation.prompting)?;
    if args.kiosk.is_some() && matches!(format, Format::Raw { .. }) {
        return Err(CliError::KioskTemplate);
    }
    let queue = usize::from(args.queue);
    let slots = warm_up(args, &planned, loaded.slots, (&format, system))?;
    note_plan(&planned, slots.len());
    let tokenizer = Arc::clone(slots.tokenizer());
    let engine = Engine::start(slots, queue).map_err(CliError::Thread)?;
    let prompts = Prompts::new(format, tokenizer)
        .with_system(system)
        .with_thinking(args.generation.prompting.think())
        .with_form(form)
        .without_grammars(refusal);
    let state = State::new(engine, prompts, args.generation.defaults(sampler), card(&planned))
        .with_locked_system(system.is_some())
        .with_most_tokens(args.generation.most_tokens())
        .with_kiosk(kiosk);
    let keeper = Keeper::start();
    serve(state, &options, |address| {
        _ = begun.set(());
        note(format_args!("listening at {address}"));
    })?;
    drop(keeper);
    let asked = exit.load(Ordering::SeqCst);
    let ends = [Exit::Interrupted, Exit::Terminated, Exit::HungUp];
    Ok(ends.into_iter().find(|exit| *exit as i32 == asked).unwrap_or(Exit::Ok))
}

/// Keeps what was counted, now and again; ends when it is dropped.
struct Keeper(#[expect(dead_code, reason = "the thread ends when it is gone")] Sender<()>);

impl Keeper {
    fn start() -> Keeper {
        let (end, ended) = channel::<()>();
        // Without a thread everything is kept at the end.
        _ = std::thread::Builder::new().spawn(move || {
            counting::keep();
            while ended.recv_timeout(KEEPING) == Err(RecvTimeoutError::Timeout) {
                counting::keep();
            }
        });
        Keeper(end)
    }
}

fn options(args: &ServeArgs) -> ServeOptions {
    let listen = match &args.socket {
        Some(path) => Listen::Unix(path.clone()),
        None => Listen::Tcp(args.host.clone(), args.port),
    };
    let mut options = ServeOptions::new(listen);
    options.allow_remote = args.allow_remote;
    options.hosts.clone_from(&args.allow_host);
    options.token_file.clone_from(&args.token_file);
    options
}

/// Why grammars of requests are refused, if they would take more memory than is allowed.
fn refusal(args: &ServeArgs, planned: &mut Planned) -> Option<String> {
    args.generation.resources.max_memory?;
    planned.allow_grammar().err().map(|error| error.to_string())
}

/// Lets the model read the system prompt, or takes what it made of it before.
fn warm_up(
    args: &ServeArgs,
    planned: &Planned,
    slots: Slots<'static>,
    (format, system): (&Format, Option<&str>),
) -> Result<Slots<'static>, CliError> {
    let identity = planned.slots_identity(&slots, format)?;
    let file = args.generation.model.model.as_deref().map(load::file).transpose()?;
    let path = file.as_deref().filter(|_| !args.no_warm).map(warm_path);
    let source = file.as_deref().map_or(String::new(), |file| file.display().to_string());
    let origin = Origin { identity, model: planned.name(), source };
    let (slots, warmth) = warm(slots, system, format, &origin, path.as_deref())?;
    match warmth {
        Warmth::Cold => {}
        Warmth::Restored(tokens) => note(format_args!("the system prompt, {tokens} tokens, was read before")),
        Warmth::Read(tokens, None) => note(format_args!("read the system prompt, {tokens} tokens")),
        Warmth::Read(tokens, Some(error)) => note(format_args!(
            "read the system prompt, {tokens} tokens; it will be read again at the next start: {}",
            with_causes(&error)
        )),
    }
    Ok(slots)
}

fn warm_path(model: &Path) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".");
    name.push(WARM_ENDING);
    PathBuf::from(name)
}

fn note_plan(planned: &Planned, slots: usize) {
    let answers = if slots == 1 { "one answer" } else { "answers" };
    let count = if slots == 1 { String::new() } else { format!("{slots} ") };
    note(format_args!(
        "{}, {count}{answers} at once of {} tokens with their prompts, {} planned",
        planned.name(),
        planned.options().context,
        show_bytes(planned.plan().total)
    ));
}

/// What the server says of its model.
fn card(planned: &Planned) -> ModelCard {
    let stem = Path::new(planned.file().name()).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    ModelCard {
        id: planned.name(),
        aliases: stem.into_iter().collect(),
        architecture: planned.spec().family.architecture.to_owned(),
        trained_context: planned.spec().trained_context,
        file_bytes: planned.file().file_bytes(),
    }
}
