//! A loaded model with the format of its prompts.

use std::time::Instant;

use super::super::args::ModelArgs;
use super::super::error::CliError;
use super::super::load::{self, Loaded, Planned};
use super::ChatArgs;
use crate::generate::{Format, Identity};

/// A model that is ready to talk.
pub(super) struct Engine {
    /// What it was loaded from.
    pub(super) model: ModelArgs,
    pub(super) planned: Planned,
    pub(super) loaded: Loaded,
    pub(super) format: Format,
}

impl Engine {
    /// Opens a model and checks that it fits; nothing is loaded yet.
    ///
    /// # Errors
    /// If it is not there, not one that can be run, or too large.
    pub(super) fn plan(model: &ModelArgs, args: &ChatArgs) -> Result<Planned, CliError> {
        let planned = load::plan(model, &args.resources, args.lookup.logit_rows())?;
        planned.check(args.resources.max_memory)?;
        Ok(planned)
    }

    /// Loads a model that was planned.
    ///
    /// # Errors
    /// If the file is damaged, memory cannot be had or the chat template cannot be used.
    pub(super) fn load(model: ModelArgs, planned: Planned, args: &ChatArgs) -> Result<Engine, CliError> {
        let loaded = planned.load(&model, Instant::now())?;
        let format = args.prompting.format(loaded.session.tokenizer())?;
        Ok(Engine { model, planned, loaded, format })
    }

    /// What a saved state depends on.
    pub(super) fn identity(&self) -> Identity {
        let file = &self.planned.file;
        let identity = Identity {
            model: file.fingerprint(),
            model_bytes: file.file_bytes(),
            tokenizer: self.loaded.session.tokenizer().fingerprint(),
            template: self.format.fingerprint(),
            state: self.loaded.session.state_key(),
        };
        // Of the fingerprint's samples nothing need stay in memory.
        file.release_all();
        identity
    }
}
