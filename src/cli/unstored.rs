//! Without the feature `trust` there are no stores.

use std::path::PathBuf;

use super::error::CliError;
use super::opened::Opened;
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

    pub(super) fn open(&self, _: Option<String>) -> Result<Option<Opened>, CliError> {
        Ok(None)
    }

    pub(super) fn load(
        &self,
        _: Option<String>,
        _: &LoadOptions,
    ) -> Result<Option<(Prepared, Loaded)>, CliError> {
        Ok(None)
    }
}

pub(super) fn note_command(_: Option<u64>) {}

pub(super) fn end() {}
