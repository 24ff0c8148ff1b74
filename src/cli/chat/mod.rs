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
mod message;
mod report;
mod settings;
mod talk;

pub use self::error::ChatError;

use std::io::IsTerminal;
use std::path::PathBuf;

use self::commands::Input;
use self::console::{Console, Read};
use self::engine::Engine;
use self::settings::Settings;
use self::talk::Talk;
use super::args::ModelArgs;
use super::constrain::Form;
use super::error::{CliError, Exit};
use super::generation::GenerationArgs;
use super::interrupt::Interrupts;
use super::output::{complain, note};
use crate::generate::Conversation;

/// Arguments of `smolt chat`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
On a terminal, /help lists the commands, Ctrl-C stops an answer and Ctrl-D leaves. Lines are kept in
$XDG_STATE_HOME/smolt/history (by default ~/.local/state/smolt/history). From a pipe, every line is a message;
lines between \"\"\" and \"\"\" are one. Only answers go to standard output.

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

    /// Go on with the session in this file, with all that was computed, and save it there at the end
    #[arg(long, value_name = "FILE", env = "SMOLT_SESSION")]
    session: Option<PathBuf>,

    /// Keep no history of lines typed
    #[arg(long, env = "SMOLT_NO_HISTORY", value_parser = clap::builder::FalseyValueParser::new())]
    no_history: bool,

    /// Report counts and times of each answer on standard error
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    pub(in crate::cli) generation: GenerationArgs,
}

/// What to do after a line.
enum Flow {
    Continue,
    Leave(Exit),
    /// Go on with another model.
    Switch(PathBuf),
}

/// Loads the model and talks until there is no more to say.
pub(super) fn execute(args: &ChatArgs) -> Result<Exit, CliError> {
    let GenerationArgs { model, prompting, stop, lookup, sampling, .. } = &args.generation;
    let form = args.generation.grammar.read()?;
    let planned = args.generation.plan(model)?;
    let sampler = args.generation.sampler(&planned)?;
    let mut engine = Engine::load(model.clone(), planned, args)?;
    if let Some(calling) = form.as_ref().and_then(Form::calling) {
        engine.format.tell(calling);
    }
    // A wrong form is said before the first message.
    engine.constraint(form.as_ref())?;
    let interactive = std::io::stdin().is_terminal();
    let mut talk = Talk {
        conversation: Conversation::new(prompting.system()),
        settings: Settings {
            sampler,
            choice_temp: sampling.typed_temp(),
            length: args.generation.length(),
            stop: stop.clone(),
            form,
            variables: prompting.variables()?,
            think: prompting.think(),
            loop_guard: args.generation.loop_guard(),
            stats: args.stats,
        },
        interrupts: Interrupts::new(interactive)?,
        interactive,
        lookup: lookup.tokens(),
        answers: 0,
        last: None,
    };
    if let Some(path) = args.session.as_ref().filter(|path| path.exists()) {
        talk.load(&mut engine, path)?;
        if let Some(system) = prompting.system() {
            talk.conversation.set_system(Some(system));
        }
    }
    let mut console = Console::open(!args.no_history)?;
    if interactive {
        let (name, turns) = (engine.planned.name(), talk.conversation.turns().len());
        let gone_on = if turns > 0 { format!(", going on after {turns} turns") } else { String::new() };
        note(format_args!("talking with {name}{gone_on}; /help lists commands, Ctrl-D leaves"));
    }
    let (exit, mut engine) = converse(args, engine, &mut talk, &mut console)?;
    if let Some(path) = &args.session {
        talk.save(&mut engine, path)?;
        if interactive {
            note(format_args!("saved in {}", path.display()));
        }
    }
    Ok(exit)
}

/// Reads and answers lines; where a person is there, what goes wrong is said and the conversation goes on.
fn converse(
    args: &ChatArgs,
    mut engine: Engine,
    talk: &mut Talk,
    console: &mut Console,
) -> Result<(Exit, Engine), CliError> {
    let mut interrupted = false;
    loop {
        let read = console.read()?;
        let was_interrupted = std::mem::replace(&mut interrupted, matches!(read, Read::Interrupted));
        let line = match read {
            Read::Line(line) => line,
            Read::End => return Ok((Exit::Ok, engine)),
            Read::Interrupted => {
                if was_interrupted {
                    note("Ctrl-D leaves");
                }
                continue;
            }
        };
        let flow = match Input::parse(&line) {
            Ok(Input::Message(message)) => talk.ask(&mut engine, message).map(Flow::from),
            Ok(Input::Command(action, argument)) => act::act(action, argument, &mut engine, talk),
            Err(error) => Err(error.into()),
        };
        let failure = match flow {
            Ok(Flow::Continue) => None,
            Ok(Flow::Leave(exit)) => return Ok((exit, engine)),
            Ok(Flow::Switch(path)) => {
                let switched = switch(args, engine, path)?;
                engine = switched.0;
                engine.set_variables(&talk.settings);
                // Another tokenizer would read them as something else.
                talk.conversation.forget_tokens();
                talk.last = None;
                switched.1
            }
            Err(error) => Some(error),
        };
        match failure {
            None => {}
            Some(error) if talk.interactive && !matches!(error, CliError::Output(_)) => complain(&error),
            Some(error) => return Err(error),
        }
    }
}

/// Loads another model once the memory of this one is free; if that fails, this one again, and says why.
fn switch(args: &ChatArgs, engine: Engine, path: PathBuf) -> Result<(Engine, Option<CliError>), CliError> {
    let model = ModelArgs { model: Some(path), pre: engine.model.pre.clone() };
    let planned = match args.generation.plan(&model) {
        Ok(planned) => planned,
        Err(error) => return Ok((engine, Some(error))),
    };
    let before = engine.model.clone();
    drop(engine);
    match Engine::load(model, planned, args) {
        Ok(engine) => {
            note(format_args!("talking with {}", engine.planned.name()));
            Ok((engine, None))
        }
        Err(error) => {
            let planned = args.generation.plan(&before)?;
            Ok((Engine::load(before, planned, args)?, Some(error)))
        }
    }
}

impl From<Option<Exit>> for Flow {
    fn from(exit: Option<Exit>) -> Flow {
        exit.map_or(Flow::Continue, Flow::Leave)
    }
}
