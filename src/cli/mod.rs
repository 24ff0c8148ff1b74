//! The command line.
//!
//! # Design
//!
//! A command is a module with its arguments (a [`clap::Args`] struct, raw values as typed) and a function
//! `execute(&Args) -> Result<Exit, CliError>`. It resolves the arguments against the model file, does the
//! work with the layers below and says how the process ends. To add one, copy `tokenize` and add a variant to
//! [`Command`] and a line to [`execute`].
//!
//! ```text
//! run, chat, batch, eval, serve, plan, show, tokenize, pack, bench, perplexity   one command each
//! bundle                packages: models that a store installs
//! pull, list, models    fetching models; listing them; rm and alias
//! default, preset       the model where none is named; models with settings
//! trust                 signatures: verify, sign
//! completions           files for shells and for man
//! config                settings that hold without being typed
//! line                  from what was typed to a command
//! args                  arguments that commands share
//! generation            those of commands that answer
//!   prompt, sampling    how messages become a prompt, and how tokens are chosen
//!   constrain           what an answer may be
//! session               saved sessions
//! slots, stored         a store with two slots, and commands that take its model
//! connect               a server that answers in place of a model
//! load                  from arguments to a memory plan, then to a session
//!   trusted             models that must be signed
//! memory                sizes as people write them, the plan of all memory
//! input, output         standard input and output
//!   wrap                lines broken between words
//! interrupt             Ctrl-C, and signals that end the process
//! terminal              what the terminal can and how it is
//! progress              how far long work is
//! demo                  the built-in model
//! error, hint           everything that can go wrong, with its exit code and what to do
//! nearest               what a misspelt word may have meant
//! ```
//!
//! # Exit codes
//!
//! See [`Exit`]. A reader that closes standard output early, as `head` does, is no error: the command ends at
//! once, says nothing and exits with 0.
//!
//! Answers go to standard output, everything else to standard error.

mod args;
mod batch;
mod bench;
#[cfg(feature = "trust")]
mod bundle;
mod chat;
mod completions;
mod config;
#[cfg(feature = "serve")]
mod connect;
mod constrain;
mod default;
mod demo;
mod error;
mod eval;
mod generation;
mod held;
mod hint;
mod input;
mod interrupt;
mod line;
mod list;
mod load;
mod memory;
mod models;
mod output;
mod pack;
mod perplexity;
mod plan;
mod preset;
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
mod wrap;

pub use chat::ChatError;
pub use config::ConfigError;
#[cfg(feature = "serve")]
pub use connect::ConnectError;
pub use error::{CliError, Exit};
pub use line::UsageError;
pub use output::complain;
pub use preset::PresetError;
pub use session::SessionError;
#[cfg(feature = "trust")]
pub use slots::SlotsError;

use self::args::ModelArgs;
use self::line::Words;

const EXAMPLES: &str = "\
Examples:
  smolt run \"Turn on the kitchen lights\"
  smolt run model.gguf \"Why is the sky blue?\"
  smolt chat model.gguf
  smolt run -m model.gguf --system \"Be brief.\" \"Why is the sky blue?\"
  smolt run -m model.gguf \"Summarize this:\" < letter.txt > summary.txt
  smolt plan -m model.gguf -c 2048 --max-memory 200M
  echo \"Hello world\" | smolt tokenize -m model.gguf

Exit codes:
  0 done    1 failed    2 wrong usage    3 model missing or unreadable
  4 does not fit into memory or context    5 a result misses --min or --max
  6 an answer did not reach the end of its form    129 hung up
  7 not signed as it has to be    8 to 12 of stores, see smolt help store
  130 interrupted    143 terminated

Options with a variable in brackets may be set in the environment, or in a file: see smolt help config.";

/// The program's arguments.
#[derive(Debug, clap::Parser)]
#[command(name = "smolt", bin_name = "smolt", version, about = "Runs small language models on small computers", after_help = EXAMPLES)]
pub struct Cli {
    /// Say nothing but answers and errors
    #[arg(short, long, global = true, display_order = 99)]
    pub quiet: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Answer a prompt
    Run(Box<run::RunArgs>),
    /// Talk with a model
    Chat(Box<chat::ChatArgs>),
    /// Answer many prompts from a file, one JSON object per line
    Batch(Box<batch::BatchArgs>),
    /// Ask a model questions with known answers, and judge what it says
    Eval(Box<eval::EvalArgs>),
    /// Serve a model to programs and visitors of this computer
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
    /// Show how much memory a model needs, before loading it
    Plan(plan::PlanArgs),
    /// Show what is in a model file
    Show(show::ShowArgs),
    /// Fetch a model from the Hugging Face hub
    #[cfg(feature = "pull")]
    Pull(pull::PullArgs),
    /// List models, aliases and presets
    #[command(alias = "ls")]
    List(list::ListArgs),
    /// Choose the model that is used where none is named
    Use(default::UseArgs),
    /// Remove models, aliases or presets
    #[command(aliases = ["remove", "delete", "uninstall"])]
    Rm(models::RmArgs),
    /// Give a model a short name
    Alias(models::AliasArgs),
    /// Keep a model with settings under a name
    Preset(preset::PresetArgs),
    /// Keep a signed model in a store with two slots, and update it
    #[cfg(feature = "trust")]
    Store(Box<slots::SlotsArgs>),
    /// Show what was counted of earlier runs
    Stats(stats::StatsArgs),
    /// Turn text into token ids, or back
    Tokenize(tokenize::TokenizeArgs),
    /// Measure how well a model predicts a text
    Perplexity(perplexity::PerplexityArgs),
    /// Store a model's weights in a form that loads faster
    Pack(pack::PackArgs),
    /// Check that a model is what somebody signed
    #[cfg(feature = "trust")]
    Verify(trust::verify::VerifyArgs),
    /// Make what a store installs: a model, what it is, and signatures
    #[cfg(feature = "trust")]
    Bundle(bundle::BundleArgs),
    /// Sign a model
    #[cfg(feature = "trust")]
    Sign(trust::sign::SignArgs),
    /// Measure speed and memory
    Bench(bench::BenchArgs),
    /// Show each setting, and where it came from
    Config(config::ConfigArgs),
    /// Print what a shell needs to complete arguments
    Completions(completions::CompletionsArgs),
    /// Write manual pages
    Man(completions::ManArgs),
}

impl Command {
    /// What says which model.
    fn model(&mut self) -> Option<&mut ModelArgs> {
        Some(match self {
            Command::Run(args) => &mut args.generation.model,
            Command::Chat(args) => &mut args.generation.model,
            Command::Batch(args) => &mut args.generation.model,
            Command::Eval(args) => &mut args.model,
            #[cfg(feature = "serve")]
            Command::Serve(args) => &mut args.generation.model,
            Command::Plan(args) => &mut args.model,
            Command::Show(args) => &mut args.model,
            Command::Tokenize(args) => &mut args.model,
            Command::Perplexity(args) => &mut args.model,
            Command::Pack(args) => &mut args.model,
            Command::Bench(args) => &mut args.model,
            _ => return None,
        })
    }

    /// Keeps the word that was taken for the model, for what is said if there is nothing else.
    fn take_model(&mut self, word: &str) {
        if let Command::Run(args) = self {
            args.taken = Some(word.to_owned());
        }
    }

    /// The words of which the first may be the model.
    fn words(&mut self) -> Option<Words<'_>> {
        Some(match self {
            Command::Run(args) => Words::Text(&mut args.words),
            Command::Tokenize(args) => Words::Text(&mut args.words),
            Command::Chat(args) => Words::Model(&mut args.named),
            #[cfg(feature = "serve")]
            Command::Serve(args) => Words::Model(&mut args.named),
            Command::Plan(args) => Words::Model(&mut args.named),
            Command::Show(args) => Words::Model(&mut args.named),
            Command::Pack(args) => Words::Model(&mut args.named),
            Command::Bench(args) => Words::Model(&mut args.named),
            _ => return None,
        })
    }
}

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
    stats::count_start(&cli.command);
    stored::note_command(&cli.command);
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
        Command::Pull(args) => pull::execute(args),
        Command::List(args) => list::execute(args),
        Command::Use(args) => default::execute(args),
        Command::Preset(args) => preset::execute(args),
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
    stats::count_end(result.as_ref().map_or_else(CliError::exit, |exit| *exit));
    result
}
