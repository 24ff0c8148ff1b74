//! What answers depend on, whichever command asks for them.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use super::args::{LookupArgs, ModelArgs, ResourceArgs};
use super::constrain::GrammarArgs;
use super::error::CliError;
use super::load::{self, Planned};
use super::prompt::PromptArgs;
use super::sampling::SamplingArgs;
use crate::ask::Defaults;
use crate::generate::{FinishReason, GenerateError, SamplerOptions};

/// The model, what it may take, its prompt, and what its answers may be.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GenerationArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,

    #[command(flatten)]
    pub(super) prompting: PromptArgs,

    /// Tokens of an answer at most; none for as many as the context holds [default: 256, none for answers held to a
    /// form]
    #[arg(short = 'n', long, value_name = "N", env = "SMOLT_MAX_TOKENS", value_parser = length)]
    max_tokens: Option<u64>,

    /// End an answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(super) stop: Vec<String>,

    /// Let answers go in circles, as --raw does; without it, one that says the same over and over is ended
    #[arg(long, env = "SMOLT_NO_LOOP_GUARD", value_parser = clap::builder::FalseyValueParser::new())]
    no_loop_guard: bool,

    #[command(flatten)]
    pub(super) sampling: SamplingArgs,

    #[command(flatten)]
    pub(super) grammar: GrammarArgs,

    #[command(flatten)]
    pub(super) resources: ResourceArgs,

    #[command(flatten)]
    pub(super) lookup: LookupArgs,
}

/// How long an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Nothing was asked for: [`USUAL_TOKENS`], but for forms, which end by themselves.
    Usual,
    /// Tokens at most.
    AtMost(usize),
    /// As many as the context holds.
    Full,
}

/// Tokens of an answer at most where nothing is asked for: a small model that goes on and on has nothing more to say,
/// and a small computer takes minutes for it.
pub(super) const USUAL_TOKENS: usize = 256;

impl Length {
    /// Tokens of an answer at most, which is held to a form or not.
    pub(super) fn tokens(self, has_form: bool) -> Option<usize> {
        match self {
            Length::Usual => (!has_form).then_some(USUAL_TOKENS),
            Length::AtMost(count) => Some(count),
            Length::Full => None,
        }
    }

    /// Whether an answer that ended so was cut off where nobody asked for it.
    pub(super) fn is_unasked(self, finish: FinishReason) -> bool {
        self == Length::Usual && finish == FinishReason::Length
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Length, String> {
        match text {
            "none" => Ok(Length::Full),
            _ => text.parse().map(Length::AtMost).map_err(|_| "not a whole number or none".to_owned()),
        }
    }
}

impl Display for Length {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Length::Usual => write!(f, "{USUAL_TOKENS}"),
            Length::AtMost(count) => write!(f, "{count}"),
            Length::Full => f.write_str("none"),
        }
    }
}

/// Reads a [`Length`] as a number, as configuration files know options; the largest stands for none.
fn length(text: &str) -> Result<u64, String> {
    Ok(match text.parse()? {
        Length::AtMost(count) => count as u64,
        Length::Usual | Length::Full => u64::MAX,
    })
}

impl GenerationArgs {
    /// Tokens of an answer at most.
    pub(super) fn max_tokens(&self) -> Option<usize> {
        self.length().tokens(self.grammar.is_given())
    }

    #[cfg(feature = "serve")]
    /// Tokens that no answer may have more of, if that was asked for.
    pub(super) fn most_tokens(&self) -> Option<usize> {
        match self.length() {
            Length::AtMost(count) => Some(count),
            Length::Usual | Length::Full => None,
        }
    }

    /// How long answers may be.
    pub(super) fn length(&self) -> Length {
        match self.max_tokens {
            None => Length::Usual,
            Some(u64::MAX) => Length::Full,
            Some(count) => Length::AtMost(usize::try_from(count).unwrap_or(usize::MAX)),
        }
    }

    /// Opens `model` and checks that it fits; nothing is loaded yet.
    ///
    /// # Errors
    /// If it is not there, not one that can be run, or too large.
    pub(super) fn plan(&self, model: &ModelArgs) -> Result<Planned, CliError> {
        let planned = load::plan(model, &self.resources, self.lookup.logit_rows(), &self.grammar)?;
        planned.check()?;
        Ok(planned)
    }

    /// Whether answers that go in circles are ended.
    pub(super) fn loop_guard(&self) -> bool {
        !self.no_loop_guard && !self.prompting.is_raw()
    }

    /// The settings of a chat that were asked for, and that a server has its own of where they were not.
    #[cfg(feature = "serve")]
    pub(super) fn asked(&self) -> impl Iterator<Item = &'static str> {
        let asked = [
            ("max_tokens", self.max_tokens.is_some()),
            ("stop", !self.stop.is_empty()),
            ("loop_guard", self.no_loop_guard),
        ];
        let asked = asked.into_iter().filter_map(|(name, is_asked)| is_asked.then_some(name));
        asked.chain(self.sampling.asked())
    }

    /// How tokens are chosen by a server, as far as it was asked for; the seed in any case.
    ///
    /// # Errors
    /// If an option is out of its range.
    #[cfg(feature = "serve")]
    pub(super) fn sampler_elsewhere(&self) -> Result<SamplerOptions, CliError> {
        let sampler = self.sampling.resolve(SamplerOptions::default(), false);
        sampler.validate().map_err(GenerateError::from)?;
        Ok(sampler)
    }

    /// What answers are made with where nothing else is asked for.
    pub(super) fn defaults(&self, sampler: SamplerOptions) -> Defaults {
        Defaults {
            sampler,
            choice_temperature: self.sampling.typed_temp(),
            max_tokens: self.length().tokens(true),
            usual_tokens: self.length().tokens(false),
            stop: self.stop.clone(),
            lookup: self.lookup.tokens(),
            loop_guard: self.loop_guard(),
        }
    }

    /// How tokens are chosen.
    ///
    /// # Errors
    /// If an option is out of its range, or what the model prefers is of a wrong type.
    pub(super) fn sampler(&self, planned: &Planned) -> Result<SamplerOptions, CliError> {
        let sampler = self
            .sampling
            .resolve(planned.sampling()?, self.model.model.is_none() && !self.model.stored.is_some());
        sampler.validate().map_err(GenerateError::from)?;
        Ok(sampler)
    }
}

/// Part of the context that is kept free for an answer.
const ANSWER_SHARE: usize = 4;

/// Tokens of the context that are kept free for an answer of at most `max_tokens`.
pub(super) fn answer_room(max_tokens: Option<usize>, context: usize) -> usize {
    let share = context / ANSWER_SHARE;
    max_tokens.map_or(share, |count| count.min(share)).max(1)
}
