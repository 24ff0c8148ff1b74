//! What answers depend on, whichever command asks for them.

use super::args::{LookupArgs, ModelArgs, ResourceArgs};
use super::constrain::GrammarArgs;
use super::error::CliError;
use super::load::{self, Planned};
use super::prompt::PromptArgs;
use super::sampling::SamplingArgs;
use crate::generate::{GenerateError, SamplerOptions};

/// The model, what it may take, its prompt, and what its answers may be.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GenerationArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,

    #[command(flatten)]
    pub(super) prompting: PromptArgs,

    /// Tokens of an answer at most [default: as many as the context holds]
    #[arg(short = 'n', long, value_name = "N", env = "SMOLT_MAX_TOKENS")]
    pub(super) max_tokens: Option<usize>,

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

impl GenerationArgs {
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

    /// How tokens are chosen.
    ///
    /// # Errors
    /// If an option is out of its range, or what the model prefers is of a wrong type.
    pub(super) fn sampler(&self, planned: &Planned) -> Result<SamplerOptions, CliError> {
        let sampler = self.sampling.resolve(&planned.file, self.model.model.is_none())?;
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
