//! How tokens are chosen: arguments, the model's own preferences, defaults.

use std::hash::{BuildHasher, Hasher, RandomState};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use crate::generate::SamplerOptions;

/// How tokens are chosen. What is not given comes from the file (general.sampling.*), else from the defaults.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(super) struct SamplingArgs {
    // Before `temp`, which is taken out of the matches.
    #[command(flatten)]
    is_typed: TempIsTyped,

    /// Temperature; 0 always takes the most likely token [default: 0.2, demo model 0]
    #[arg(long, value_name = "T", env = "SMOLT_TEMP", allow_negative_numbers = true)]
    temp: Option<f32>,

    /// Choose among the N most likely tokens; 0 for all [default: 40]
    #[arg(long, value_name = "N", env = "SMOLT_TOP_K")]
    top_k: Option<usize>,

    /// Choose among the most likely tokens that together have probability P [default: 0.95]
    #[arg(long, value_name = "P", env = "SMOLT_TOP_P", allow_negative_numbers = true)]
    top_p: Option<f32>,

    /// Drop tokens less likely than P times the most likely one [default: 0.05]
    #[arg(long, value_name = "P", env = "SMOLT_MIN_P", allow_negative_numbers = true)]
    min_p: Option<f32>,

    /// Divide the logits of recent tokens by this [default: 1]
    #[arg(long, value_name = "X", env = "SMOLT_REPEAT_PENALTY", allow_negative_numbers = true)]
    repeat_penalty: Option<f32>,

    /// Equal seeds give equal answers [default: random; 0 for batch]
    #[arg(long, value_name = "N", env = "SMOLT_SEED")]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// The seed that was asked for.
    pub(super) fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// The settings that were asked for, but for the seed.
    #[cfg(feature = "serve")]
    pub(super) fn asked(&self) -> impl Iterator<Item = &'static str> {
        let asked = [
            ("temp", self.temp.is_some()),
            ("top_k", self.top_k.is_some()),
            ("top_p", self.top_p.is_some()),
            ("min_p", self.min_p.is_some()),
            ("repeat_penalty", self.repeat_penalty.is_some()),
        ];
        asked.into_iter().filter_map(|(name, is_asked)| is_asked.then_some(name))
    }

    /// The temperature, if it was typed: what the environment, a file or the program prefers is for text.
    pub(super) fn typed_temp(&self) -> Option<f32> {
        self.temp.filter(|_| self.is_typed.0)
    }

    /// The options for a model that prefers `own`; the demo model is greedy.
    pub(super) fn resolve(&self, own: SamplerOptions, is_demo: bool) -> SamplerOptions {
        SamplerOptions {
            temperature: self.temp.unwrap_or(if is_demo { 0.0 } else { own.temperature }),
            top_k: self.top_k.unwrap_or(own.top_k),
            top_p: self.top_p.unwrap_or(own.top_p),
            min_p: self.min_p.unwrap_or(own.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(own.repeat_penalty),
            seed: self.seed.unwrap_or_else(random_seed),
            ..own
        }
    }
}

/// Whether the temperature comes from the command line.
#[derive(Clone, Copy, Debug)]
struct TempIsTyped(bool);

impl clap::FromArgMatches for TempIsTyped {
    fn from_arg_matches(matches: &ArgMatches) -> Result<TempIsTyped, clap::Error> {
        Ok(TempIsTyped(matches.value_source("temp") == Some(ValueSource::CommandLine)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = TempIsTyped::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for TempIsTyped {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// Below 2^32, so that it survives readers of JSON that know only doubles.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}
