//! Without the feature `trust` there are no stores.

use std::path::PathBuf;

use super::Command;
use super::args::ModelArgs;
use super::error::CliError;
use super::load::Opened;
use crate::load::{LoadOptions, Loaded, Prepared};

/// The store whose model is used: none.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct StoredArgs {}

impl StoredArgs {
    pub(super) fn is_some(&self) -> bool {
        false
    }

    pub(super) fn identity(&self) -> Option<&str> {
        None
    }

    pub(super) fn counts(&self) -> Option<PathBuf> {
        None
    }

    pub(super) fn open(&self, _: &ModelArgs) -> Result<Option<Opened>, CliError> {
        Ok(None)
    }

    pub(super) fn load(
        &self,
        _: &ModelArgs,
        _: &LoadOptions,
    ) -> Result<Option<(Prepared, Loaded)>, CliError> {
        Ok(None)
    }
}

pub(super) fn note_command(_: &Command) {}

pub(super) fn end() {}
