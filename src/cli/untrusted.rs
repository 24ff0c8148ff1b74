//! Without the feature `trust` no signature can be demanded.

use std::path::Path;

use super::error::CliError;
use super::opened::Opened;

/// Whose models are taken: anybody's.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct TrustArgs {}

impl TrustArgs {
    pub(super) fn open(&self, _: &Path, _: Option<&str>) -> Result<Option<Opened>, CliError> {
        Ok(None)
    }

    pub(super) fn check_demo(&self) -> Result<(), CliError> {
        Ok(())
    }
}
