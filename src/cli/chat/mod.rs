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
//! engine       what answers
//!   here       a model that is loaded here
//!   there      a server
//!   asking     what an answer depends on
//!   reply      an answer that has ended
//! connection   which of the two, as arguments say it
//! ```
//!
//! Turns, prompts and the saved state are [`crate::generate`]'s. Answers go to standard output, all else to standard
//! error or the terminal. Where nobody types, a line is a message, and what goes wrong ends the process as it does
//! for every command.

mod act;
mod asking;
mod commands;
#[cfg(feature = "serve")]
mod connection;
mod console;
mod editor;
mod engine;
mod helper;
mod here;
mod load_settings;
mod message;
mod reply;
mod report;
mod settings;
mod talk;
#[cfg(feature = "serve")]
mod there;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::act::Flow;
use self::commands::{Action, Input};
use self::console::{Console, Read};
use self::engine::Engine;
use self::here::Here;
use self::settings::{Asked, Settings};
use self::talk::Talk;
use super::answer::DisplayArgs;
use super::args::ModelArgs;
#[cfg(feature = "serve")]
use super::connect;
use super::error::{CliError, Exit};
use super::generation::GenerationArgs;
use super::interrupt::{Interrupts, Signals};
use super::named::settle_demo;
use super::output::{self, Event, complain, note};
use super::session::{SessionArgs, SessionFile};
use crate::ask::Form;
use crate::generate::{CancelHandle, Conversation, SamplerOptions};

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

With --connect a server answers, such as smolt serve, and no model is loaded here. Ctrl-C stops its work too. What depends
on the model's file (/model, /tokens, /save, /load, /continue) is for a model that is here.

Examples:
  smolt chat
  smolt chat model.gguf --system \"Answer in one sentence.\"
  smolt chat --connect http://127.0.0.1:8080
  smolt chat -m model.gguf --session kiosk.session
  printf 'Turn on the kitchen lights\\nAnd the blinds down\\n' | smolt chat"
)]
pub struct ChatArgs {
    // Before the others: it looks at what was typed.
    #[cfg(feature = "serve")]
    #[command(flatten)]
    connection: connection::ConnectArgs,

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
    let (mut engine, settings) = open(args)?;
    let talk = begin(args, settings, &mut engine, interrupts, interactive)?;
    let mut console = Console::open(!args.no_history, args.json, args.display.has_colours())?;
    if args.json {
        output::event(&Event::Start {
            model: &engine.name(),
            context: engine.context(),
            turns: talk.conversation.turns().len(),
        })?;
    } else if interactive {
        let (name, turns) = (engine.name(), talk.conversation.turns().len());
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

/// What answers, with the settings that it begins with.
fn open(args: &ChatArgs) -> Result<(Engine, Settings), CliError> {
    let form = args.generation.grammar.read()?;
    #[cfg(feature = "serve")]
    {
        args.connection.typed.check(args.connection.connect.is_some())?;
        if let Some(address) = &args.connection.connect {
            return open_there(args, address, form);
        }
    }
    let GenerationArgs { model, .. } = &args.generation;
    let planned = args.generation.plan(model)?;
    let sampler = args.generation.sampler(&planned)?;
    let mut here = Here::load(model.clone(), planned, args.generation.clone())?;
    if let Some(calling) = form.as_ref().and_then(Form::calling) {
        here.format.tell(calling);
        here.origin.identity.template = here.format.fingerprint();
    }
    // A wrong form is said before the first message.
    here.constraint(form.as_ref(), &CancelHandle::new())?;
    Ok((Engine::Here(Box::new(here)), settings(args, sampler, Asked::default(), form)?))
}

/// A server, with the settings that were asked for.
#[cfg(feature = "serve")]
fn open_there(
    args: &ChatArgs,
    address: &connect::Address,
    form: Option<Form>,
) -> Result<(Engine, Settings), CliError> {
    let file = args.connection.token_file.as_deref();
    let tokens = file.map(crate::serve::read_tokens).transpose()?;
    let token = tokens.and_then(|tokens| tokens.into_iter().next());
    let sampler = args.generation.sampler_elsewhere()?;
    let settings = settings(args, sampler, Asked::only(args.generation.asked()), form)?;
    let model = args.generation.model.model.as_deref().filter(|_| args.connection.typed.has_model);
    let model = model.map(|model| model.to_string_lossy());
    let there = there::There::new(connect::Server::open(address.clone(), token, model.as_deref())?);
    there.check(settings.form.as_ref())?;
    if !address.is_local() {
        note("what is said goes over the network unencrypted");
    }
    Ok((Engine::There(Box::new(there)), settings))
}

fn settings(
    args: &ChatArgs,
    sampler: SamplerOptions,
    asked: Asked,
    form: Option<Form>,
) -> Result<Settings, CliError> {
    Ok(Settings {
        sampler,
        choice_temp: args.generation.sampling.typed_temp(),
        length: args.generation.length(),
        stop: args.generation.stop.clone(),
        form,
        variables: args.generation.prompting.variables()?,
        think: args.generation.prompting.think(),
        loop_guard: args.generation.loop_guard(),
        stats: args.stats,
        wrap: args.display.wraps(),
        asked,
    })
}

/// Where the conversation is kept, and what it begins with.
fn session(
    args: &ChatArgs,
    engine: &mut Engine,
    interactive: bool,
) -> Result<(Option<SessionFile>, Conversation), CliError> {
    // What was said with a server is kept nowhere: it is of no model that is here.
    let Ok(Here { loaded, origin, .. }) = engine.here("") else { return Ok((None, Conversation::default())) };
    Ok(match args.session.open(origin, &mut loaded.session)? {
        (None, _) if interactive && !args.json && !args.no_save && !args.no_history => {
            (SessionFile::keep(origin)?, Conversation::default())
        }
        (file, conversation) => (file, conversation.unwrap_or_default()),
    })
}

/// A talk that begins, or goes on where its session was.
fn begin(
    args: &ChatArgs,
    settings: Settings,
    engine: &mut Engine,
    interrupts: Interrupts,
    interactive: bool,
) -> Result<Talk, CliError> {
    let (file, mut conversation) = session(args, engine, interactive)?;
    let system = args.generation.prompting.system();
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
        let Some(Ok(here)) = self.engine.as_mut().map(|engine| engine.here("")) else { return Ok(()) };
        if let Some(path) = self.talk.finish(here)?
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
        let Some(Engine::Here(here)) = &self.engine else { return Ok(()) };
        let mut model = here.model.of(path);
        settle_demo(&mut model);
        let generation = here.generation.clone();
        self.load(model, generation)?;
        if let Parts { engine: Some(Engine::Here(here)), talk } = self {
            if let Some(file) = &mut talk.file {
                file.switch(&here.origin);
            }
            note(format_args!("talking with {}", here.planned.name()));
        }
        Ok(())
    }

    /// Goes on with the model loaded anew.
    fn reload(&mut self, args: &ChatArgs, name: &'static str, value: &str) -> Result<(), CliError> {
        let Some(Engine::Here(here)) = &self.engine else { return Ok(()) };
        let (model, mut generation) = (here.model.clone(), here.generation.clone());
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
        let Some(Engine::Here(here)) = self.engine.take() else { return Ok(()) };
        let before = (here.model.clone(), here.generation.clone());
        drop(here);
        let (mut here, failure) = match Here::load(model, planned, generation) {
            Ok(here) => (here, None),
            Err(error) => {
                let (model, generation) = before;
                let planned = generation.plan(&model)?;
                (Here::load(model, planned, generation)?, Some(error))
            }
        };
        here.set_variables(&self.talk.settings);
        self.engine = Some(Engine::Here(Box::new(here)));
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
