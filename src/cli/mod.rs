//! The command line.
//!
//! # Design
//!
//! A command is a module with its arguments (a [`clap::Args`] struct, raw values as typed) and a function
//! `execute(&Args) -> Result<Exit, CliError>`. It resolves the arguments against the model file, does the
//! work with the layers below and says how the process ends. To add one, copy `tokenize` and add a variant to
//! [`Command`] and a line to [`execute`].
//!
//! The modules form layers: each uses those below it, and none above it (`tests/layering/circles.rs` checks that they form no
//! circle). A module that needs something from above gets it as a parameter, as commands get the declarations of all
//! commands; what two modules need of each other lies in a third below both.
//!
//! ```text
//! line                  from what was typed to a command
//! commands              all commands, with what is told apart about them
//!
//! run, chat, batch, eval, serve, plan, show, tokenize, pack, bench, perplexity   one command each
//! bundle                packages: models that a store installs
//! pull, list, models    fetching models; listing them; rm and alias
//! default, preset       the model where none is named; models with settings
//! trust                 signatures: verify, sign
//! slots                 a store with two slots
//! stats, config         what was counted; each setting, and where it came from
//! completions           files for shells and for man
//!
//! generation            arguments of commands that answer
//! session               saved sessions
//! interrupt             Ctrl-C, and signals that end the process
//! load                  from arguments to a memory plan, then to a session
//! named                 what the name of a model stands for
//! counting              counts that the user wants kept
//! args                  arguments that commands share
//!   stored, trusted     the model of a store; models that must be signed
//!   opened              a model file that was opened
//! presets               the presets that there are
//!   settings            settings that hold without being typed
//! prompt, sampling      how messages become a prompt, and how tokens are chosen
//! constrain             what an answer may be
//! connect               a server that answers in place of a model
//! input                 standard input
//! memory                sizes as people write them, the plan of all memory
//!
//! answer                an answer as it comes
//! thoughts, progress    what a model thinks; how far long work is
//! output                standard output and standard error
//!
//! error                 everything that can go wrong, with its exit code and what to do
//!
//! terminal              what the terminal can and how it is
//! wrap, pretty          lines broken between words; JSON with line breaks
//! value                 what an option's value may be
//! held                  how weights are held
//! demo                  the built-in model
//! ```
//!
//! # Exit codes
//!
//! See [`Exit`]. A reader that closes standard output early, as `head` does, is no error: the command ends at
//! once, says nothing and exits with 0.
//!
//! Answers go to standard output, everything else to standard error.

mod answer;
mod args;
mod batch;
mod bench;
#[cfg(feature = "trust")]
mod bundle;
mod chat;
mod commands;
mod completions;
mod config;
#[cfg(feature = "serve")]
mod connect;
mod constrain;
mod counting;
mod default;
mod demo;
mod error;
mod eval;
mod generation;
mod held;
mod input;
mod interrupt;
mod line;
mod list;
mod load;
mod memory;
mod models;
mod named;
mod opened;
mod output;
mod pack;
mod perplexity;
mod plan;
mod preset;
mod presets;
mod pretty;
mod progress;
mod prompt;
#[cfg(feature = "pull")]
mod pull;
mod run;
mod sampling;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod settings;
mod show;
#[cfg(feature = "trust")]
mod slots;
mod stats;
#[cfg_attr(not(feature = "trust"), path = "unstored.rs")]
mod stored;
mod terminal;
mod thoughts;
mod tokenize;
#[cfg(feature = "trust")]
mod trust;
#[cfg(feature = "trust")]
mod trusted;
#[cfg(not(feature = "trust"))]
#[path = "untrusted.rs"]
mod trusted;
mod value;
mod wrap;

pub use commands::{Cli, Command};
#[cfg(feature = "serve")]
pub use error::ConnectError;
#[cfg(feature = "trust")]
pub use error::SlotsError;
pub use error::{ChatError, CliError, ConfigError, Exit, PresetError, SessionError, UsageError};
pub use output::complain;

/// Reads the command line, with configuration files below it; asked for help, it ends the process as clap does.
///
/// # Errors
/// If a configuration file cannot be used, or the line makes no sense.
pub fn parse() -> Result<Cli, CliError> {
    line::parse()
}

/// Runs a command.
///
/// # Errors
/// Whatever kept the command from its end.
pub fn execute(cli: &Cli) -> Result<Exit, CliError> {
    if let Some((start, model)) = cli.command.counted() {
        counting::count_start(start, model);
    }
    stored::note_command(cli.command.proves_after());
    let result = match &cli.command {
        Command::Run(args) => run::execute(args),
        Command::Chat(args) => chat::execute(args),
        Command::Batch(args) => batch::execute(args),
        Command::Eval(args) => eval::execute(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::execute(args),
        Command::Plan(args) => plan::execute(args),
        Command::Show(args) => show::execute(args),
        #[cfg(feature = "pull")]
        Command::Pull(args) => pull::execute(args, &line::command()),
        Command::List(args) => list::execute(args, &line::command()),
        Command::Use(args) => default::execute(args, &line::command()),
        Command::Preset(args) => preset::execute(args, &line::command()),
        Command::Rm(args) => models::remove(args),
        Command::Alias(args) => models::alias(args),
        Command::Stats(args) => stats::execute(args),
        #[cfg(feature = "trust")]
        Command::Store(args) => slots::execute(args),
        Command::Tokenize(args) => tokenize::execute(args),
        Command::Perplexity(args) => perplexity::execute(args),
        Command::Pack(args) => pack::execute(args),
        #[cfg(feature = "trust")]
        Command::Verify(args) => trust::verify::execute(args),
        #[cfg(feature = "trust")]
        Command::Sign(args) => trust::sign::execute(args),
        #[cfg(feature = "trust")]
        Command::Bundle(args) => bundle::execute(args),
        Command::Bench(args) => bench::execute(args),
        Command::Config(args) => config::execute(args, &line::command()),
        Command::Completions(args) => completions::completions(args, line::command()),
        Command::Man(args) => completions::man(args, line::command()),
    };
    let result = match result {
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
        result => result,
    };
    stored::end();
    counting::count_end(result.as_ref().map_or_else(CliError::exit, |exit| *exit));
    result
}
