//! The commands with their arguments.

use std::path::PathBuf;

use super::args::ModelArgs;
use super::counting::Count;
#[cfg(feature = "pull")]
use super::pull;
#[cfg(feature = "serve")]
use super::serve;
use super::{
    batch, bench, chat, completions, config, default, eval, list, models, pack, perplexity, plan, preset,
    run, show, stats, tokenize,
};
#[cfg(feature = "trust")]
use super::{bundle, slots, trust};

/// Seconds that a server must have run for a version of a store to have proved itself.
#[cfg(feature = "serve")]
const SERVED: u64 = 60;

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
    pub(super) fn model(&mut self) -> Option<&mut ModelArgs> {
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
    pub(super) fn take_model(&mut self, word: &str) {
        if let Command::Run(args) = self {
            args.taken = Some(word.to_owned());
        }
    }

    /// The words of which the first may be the model.
    pub(super) fn words(&mut self) -> Option<Words<'_>> {
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

    /// The count of its starts, and its model, of a command that answers.
    pub(super) fn counted(&self) -> Option<(Count, &ModelArgs)> {
        let counted: (Count, _) = match self {
            Command::Run(args) => (|stats| &mut stats.starts.run, &args.generation.model),
            Command::Chat(args) => (|stats| &mut stats.starts.chat, &args.generation.model),
            Command::Batch(args) => (|stats| &mut stats.starts.batch, &args.generation.model),
            Command::Eval(args) => (|stats| &mut stats.starts.eval, &args.model),
            #[cfg(feature = "serve")]
            Command::Serve(args) => (|stats| &mut stats.starts.serve, &args.generation.model),
            _ => return None,
        };
        Some(counted)
    }

    /// Seconds after which an answer proves a version of a store; nothing for commands whose answers prove none.
    pub(super) fn proves_after(&self) -> Option<u64> {
        match self {
            Command::Run(_) | Command::Chat(_) | Command::Batch(_) | Command::Eval(_) => Some(0),
            #[cfg(feature = "serve")]
            Command::Serve(_) => Some(SERVED),
            _ => None,
        }
    }
}

/// The words of a command that are no options.
pub(super) enum Words<'a> {
    /// A text, perhaps behind the model.
    Text(&'a mut Vec<String>),
    /// The model alone.
    Model(&'a mut Option<PathBuf>),
}
