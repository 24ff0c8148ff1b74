//! What the store asks about packages and trust files; what they are it does not know.

use std::io::Read;

use super::error::Refused;
use super::record::PackageId;

/// The signed head of a package, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which package.
    pub package: PackageId,
    /// When it may be installed no longer, in seconds since 1970.
    pub expires: Option<u64>,
}

/// What a package is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be installed: the time counts.
    Install,
    /// To be run, or checked again: what was installed once runs whatever the time is.
    Run,
}

/// Says which packages and trust files are to be accepted.
pub trait Judge {
    /// A trust file that was read.
    type Trust;
    /// What is kept of a package whose head was read, to read the rest.
    type Opened;

    /// Reads a trust file that is in force.
    ///
    /// # Errors
    /// If it is none.
    fn trust(&self, text: &[u8]) -> Result<Self::Trust, Refused>;

    /// Its version.
    fn version(&self, trust: &Self::Trust) -> u64;

    /// Reads a package to where its model begins, and verifies what it read. `PackageId::head` is left to the caller.
    ///
    /// # Errors
    /// If it is not to be accepted, or cannot be read.
    fn head(
        &self,
        trust: &Self::Trust,
        purpose: Purpose,
        package: &mut dyn Read,
    ) -> Result<(Head, Self::Opened), HeadError>;

    /// Reads the rest, to the end of what is given, and verifies it.
    ///
    /// # Errors
    /// If it is not what the head announces, or cannot be read.
    fn rest(&self, opened: &Self::Opened, rest: &mut dyn Read) -> Result<(), HeadError>;

    /// Opens the package of last resort, which lies outside of the store.
    ///
    /// # Errors
    /// If it cannot be opened.
    fn golden(&self, path: &str) -> Result<Box<dyn Read>, HeadError>;

    /// Says whether a package may be installed on this device, and at this time, in seconds since 1970.
    ///
    /// # Errors
    /// If it may not.
    fn suits(&self, trust: &Self::Trust, opened: &Self::Opened, now: u64) -> Result<(), Refused>;

    /// No earlier can it be, in seconds since 1970, for all that the judge knows.
    fn not_before(&self) -> u64;
}

/// Why a package was not read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum HeadError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("it cannot be read")]
    Io(#[from] std::io::Error),
}
