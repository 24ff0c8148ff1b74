//! `smolt chat`: a conversation.
//!
//! # Design
//!
//! ```text
//! console      lines from a terminal or a pipe
//!   helper     completion, hints, messages of several lines
//!   message    what their quotes mean
//! commands     the commands, as data
//!   act        what they do
//!   settings   what /set changes
//!   load_settings  what it changes by loading the model anew
//!   report     what they tell
//!   editor     /edit
//! talk         asking and answering, saving and going on
//! engine       the loaded model
//! error        what can go wrong besides the model
//! ```
//!
//! Turns, prompts and the saved state are [`crate::generate`]'s. Answers go to standard output, all else to standard
//! error or the terminal. Where nobody types, a line is a message, and what goes wrong ends the process as it does
//! for every command.

mod act;
mod commands;
mod console;
mod editor;
mod engine;
mod error;
mod helper;
mod load_settings;
mod message;
mod report;
mod settings;
mod talk;

pub use self::error::ChatError;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::commands::{Action, Input};
use self::console::{Console, Read};
use self::engine::Engine;
use self::settings::Settings;
use self::talk::Talk;
use super::args::ModelArgs;
use super::error::{CliError, Exit};
use super::generation::GenerationArgs;
use super::interrupt::{Interrupts, Signals};
use super::line;
use super::output::{self, Event, complain, note};
use super::session::{SessionArgs, SessionFile};
use super::terminal::DisplayArgs;
use crate::ask::Form;
use crate::generate::CancelHandle;

/// Arguments of `smolt chat`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
On a terminal, /help lists the commands, Ctrl-C stops an answer and Ctrl-D leaves. Lines are kept in
$XDG_STATE_HOME/smolt/history (by default ~/.local/state/smolt/history), and what was said in sessions beside it, the last
20; --continue (or -c without a number) goes on with the last. --no-save keeps no session, --no-history neither.

From a pipe, every line is a message; lines between \"\"\" and \"\"\" are one. Only answers go to standard output.
A message that cannot be asked is said to be so, the next is answered; the exit code is then that of the first.

A session is on the disk before the line of an answer ends. SIGTERM and SIGHUP stop the answer, save, and end with
143 and 129.

With --json, a message is a line of text, a JSON string, or {\"message\": \"...\"}; {\"command\": \"/set temp 0\"} is a
command. Every line of the output is an object with \"event\": start (model, context, turns), text (a part of the
answer), answer (text, reasoning, tool_calls, finish_reason, tokens, prompt_tokens, cached_tokens), note, output (of a command; both: text),
or error (message, hint, exit_code), after which it goes on.

Examples:
  smolt chat
  smolt chat model.gguf --system \"Answer in one sentence.\"
  smolt chat -m model.gguf --session kiosk.session
  printf 'Turn on the kitchen lights\\nAnd the blinds down\\n' | smolt chat"
)]
pub struct ChatArgs {
    /// The model, as with -m
    #[arg(value_name = "MODEL")]
    pub(in crate::cli) named: Option<PathBuf>,

    #[command(flatten)]
    session: SessionArgs,

    /// Keep no session of what was said at this terminal
    #[arg(long, env = "SMOLT_NO_SAVE", value_parser = clap::builder::FalseyValueParser::new())]
    no_save: bool,

    /// Keep no history of lines typed, and no session of what was said
    #[arg(long, env = "SMOLT_NO_HISTORY", value_parser = clap::builder::FalseyValueParser::new())]
    no_history: bool,

    /// Report counts and times of each answer on standard error
    #[arg(long)]
    stats: bool,

    /// Talk with a program: events come as JSON objects, one a line, on standard output; messages may be JSON too
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(in crate::cli) generation: GenerationArgs,

    #[command(flatten)]
    display: DisplayArgs,
}

/// Who talks with whom, shared with the thread that saves it when the process is asked to end.
#[derive(Clone)]
struct Chat(Arc<Mutex<Parts>>);

struct Parts {
    /// Nothing while another one is loaded.
    engine: Option<Engine>,
    talk: Talk,
}

/// What to do after a line.
enum Flow {
    Continue,
    Leave(Exit),
    /// Go on with another model.
    Switch(PathBuf),
    /// Go on with the model loaded anew: this setting has this value.
    Reload(&'static str, String),
}

/// Loads the model and talks until there is no more to say.
pub(super) fn execute(args: &ChatArgs) -> Result<Exit, CliError> {
    let signals = Signals::block();
    let interactive = std::io::stdin().is_terminal() || args.json;
    args.display.apply();
    output::events(args.json);
    let interrupts = Interrupts::new(interactive, signals)?;
    let mut args = args.clone();
    args.session.choose_model(&mut args.generation.model);
    let args = &args;
    let GenerationArgs { model, sampling, .. } = &args.generation;
    let form = args.generation.grammar.read()?;
    let planned = args.generation.plan(model)?;
    let sampler = args.generation.sampler(&planned)?;
    let mut engine = Engine::load(model.clone(), planned, args.generation.clone())?;
    if let Some(calling) = form.as_ref().and_then(Form::calling) {
        engine.format.tell(calling);
        engine.origin.identity.template = engine.format.fingerprint();
    }
    // A wrong form is said before the first message.
    engine.constraint(form.as_ref(), &CancelHandle::new())?;
    let settings = Settings {
        sampler,
        choice_temp: sampling.typed_temp(),
        length: args.generation.length(),
        stop: args.generation.stop.clone(),
        form,
        variables: args.generation.prompting.variables()?,
        think: args.generation.prompting.think(),
        loop_guard: args.generation.loop_guard(),
        stats: args.stats,
        wrap: args.display.wraps(),
    };
    let talk = begin(args, settings, &mut engine, interrupts, interactive)?;
    let mut console = Console::open(!args.no_history, args.json, args.display.has_colours())?;
    if args.json {
        output::event(&Event::Start {
            model: &engine.planned.name(),
            context: engine.loaded.session.context(),
            turns: talk.conversation.turns().len(),
        })?;
    } else if interactive {
        let (name, turns) = (engine.planned.name(), talk.conversation.turns().len());
        let gone_on =
            if turns > 0 { format!(", going on after {}", report::turns(turns)) } else { String::new() };
        note(format_args!("talking with {name}{gone_on}; /help lists commands, Ctrl-D leaves"));
    }
    let chat = Chat(Arc::new(Mutex::new(Parts { engine: Some(engine), talk })));
    let (last, waiting) = (chat.clone(), console.waiting());
    chat.parts().talk.interrupts.at_end(move || {
        waiting.end_line();
        if let Err(error) = last.parts().finish() {
            complain(&error);
        }
    });
    let exit = converse(args, &chat, &mut console);
    let mut parts = chat.parts_to_talk();
    // What was said is saved however it ends.
    let finished = parts.finish();
    let exit = exit?;
    finished?;
    Ok(if exit == Exit::Ok { parts.talk.failed.unwrap_or(Exit::Ok) } else { exit })
}

/// A talk that begins, or goes on where its session was.
fn begin(
    args: &ChatArgs,
    settings: Settings,
    engine: &mut Engine,
    interrupts: Interrupts,
    interactive: bool,
) -> Result<Talk, CliError> {
    let system = args.generation.prompting.system();
    let session = &mut engine.loaded.session;
    let (file, conversation) = match args.session.open(&engine.origin, session)? {
        (None, _) if interactive && !args.json && !args.no_save && !args.no_history => {
            (SessionFile::keep(&engine.origin)?, None)
        }
        opened => opened,
    };
    let mut conversation = conversation.unwrap_or_default();
    if system.is_some() {
        conversation.set_system(system);
    }
    Ok(Talk {
        conversation,
        start: settings.clone(),
        settings,
        interrupts,
        interactive,
        lookup: args.generation.lookup.tokens(),
        answers: 0,
        last: None,
        file,
        copies: vec![],
        failed: None,
    })
}

impl Chat {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parts, for more talk. Once the process was asked to end there is none: who saves has them, and ends it.
    fn parts_to_talk(&self) -> MutexGuard<'_, Parts> {
        let parts = self.parts();
        if parts.talk.interrupts.ending().is_none() {
            return parts;
        }
        drop(parts);
        loop {
            std::thread::park();
        }
    }
}

impl Parts {
    /// Saves what was said, and says where if a person asked for it.
    fn finish(&mut self) -> Result<(), CliError> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        if let Some(path) = self.talk.finish(engine)?
            && self.talk.interactive
        {
            note(format_args!("saved in {}", path.display()));
        }
        Ok(())
    }

    /// Does what a line says.
    fn answer(&mut self, args: &ChatArgs, input: Input<'_>) -> Result<Flow, CliError> {
        let Parts { engine: Some(engine), talk } = self else { return Ok(Flow::Leave(Exit::Runtime)) };
        let flow = match input {
            Input::Message(message) => talk.ask(engine, message).map(Flow::from)?,
            Input::Command(action, argument) => act::act(action, argument, engine, talk)?,
        };
        match flow {
            Flow::Switch(path) => self.switch(path).map(|()| Flow::Continue),
            Flow::Reload(name, value) => self.reload(args, name, &value).map(|()| Flow::Continue),
            flow => {
                talk.record();
                Ok(flow)
            }
        }
    }

    /// Goes on with another model.
    fn switch(&mut self, path: PathBuf) -> Result<(), CliError> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let mut model = engine.model.of(path);
        line::settle_demo(&mut model);
        let generation = engine.generation.clone();
        self.load(model, generation)?;
        if let Parts { engine: Some(engine), talk } = self {
            if let Some(file) = &mut talk.file {
                file.switch(&engine.origin);
            }
            note(format_args!("talking with {}", engine.planned.name()));
        }
        Ok(())
    }

    /// Goes on with the model loaded anew.
    fn reload(&mut self, args: &ChatArgs, name: &'static str, value: &str) -> Result<(), CliError> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let (model, mut generation) = (engine.model.clone(), engine.generation.clone());
        load_settings::set(&mut generation, &args.generation, name, value)?;
        let lookup = generation.lookup.tokens();
        self.load(model, generation)?;
        self.talk.lookup = lookup;
        Ok(())
    }

    /// Loads a model once the memory of this one is free; if that fails, this one again, and says why.
    fn load(&mut self, model: ModelArgs, generation: GenerationArgs) -> Result<(), CliError> {
        let planned = generation.plan(&model)?;
        self.talk.record();
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let before = (engine.model.clone(), engine.generation.clone());
        drop(engine);
        let (engine, failure) = match Engine::load(model, planned, generation) {
            Ok(engine) => (engine, None),
            Err(error) => {
                let (model, generation) = before;
                let planned = generation.plan(&model)?;
                (Engine::load(model, planned, generation)?, Some(error))
            }
        };
        let engine = self.engine.insert(engine);
        engine.set_variables(&self.talk.settings);
        // Another tokenizer would read them as something else.
        self.talk.conversation.forget_tokens();
        self.talk.last = None;
        failure.map_or(Ok(()), Err)
    }
}

/// Reads and answers lines. Where a person is there, what goes wrong is said and the conversation goes on; else it goes
/// on after messages that cannot be asked, but not after commands that cannot be done.
fn converse(args: &ChatArgs, chat: &Chat, console: &mut Console) -> Result<Exit, CliError> {
    let mut interrupted = false;
    loop {
        // A process that ends shows no prompt.
        drop(chat.parts_to_talk());
        let read = console.read();
        let mut parts = chat.parts_to_talk();
        let was_interrupted = std::mem::replace(&mut interrupted, matches!(read, Ok(Read::Interrupted)));
        let (result, is_message) = match read {
            Ok(Read::End) => return Ok(Exit::Ok),
            Ok(Read::Interrupted) => {
                if was_interrupted {
                    note("Ctrl-D leaves");
                }
                continue;
            }
            Ok(Read::Line(line)) => {
                let input = Input::parse(&line);
                if matches!(input, Ok(Input::Command(Action::Edit, _))) {
                    console.release();
                }
                let is_message = matches!(input, Ok(Input::Message(_)));
                (input.map_err(CliError::from).and_then(|input| parts.answer(args, input)), is_message)
            }
            Err(error) => {
                let can_go_on = console::is_about_a_line(&error);
                if !can_go_on {
                    return Err(error);
                }
                (Err(error), true)
            }
        };
        match result {
            Ok(Flow::Leave(exit)) => return Ok(exit),
            Ok(_) => {}
            Err(error @ CliError::Output(_)) => return Err(error),
            Err(error) if parts.talk.interactive => complain(&error),
            Err(error) if is_message => {
                complain(&error);
                parts.talk.failed = parts.talk.failed.or(Some(error.exit()));
            }
            Err(error) => return Err(error),
        }
    }
}

impl From<Option<Exit>> for Flow {
    fn from(exit: Option<Exit>) -> Flow {
        exit.map_or(Flow::Continue, Flow::Leave)
    }
}
