//! What can go wrong in a store.

use std::io;

use super::names::{PackageId, SlotName};

/// Why a package or a trust file is not accepted. It would not be accepted the next time either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Why something could not be done with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum UpdateError {
    #[error("{folder}: is no store")]
    NotAStore { folder: String },
    #[error("{folder}: is a store already")]
    IsAStore { folder: String },
    #[error("another process changes the store")]
    Busy,
    #[error("{file}: is {found}, and a regular file of the store is expected")]
    NotAFile { file: String, found: &'static str },
    #[error("{file}: cannot {action}")]
    Io { file: String, action: &'static str, source: io::Error },
    #[error("{needed} bytes are needed on the disk of the store, and {free} are free")]
    NoSpace { needed: u64, free: u64 },
    #[error("the package is refused: {0}")]
    Package(#[source] Refused),
    #[error("the package is refused: {0}")]
    Unsuited(#[source] Refused),
    #[error("the package is refused: it is version {found}, and version {highest} was committed before")]
    NotNewer { found: u64, highest: u64 },
    #[error("version {version} is here already, and is on trial or failed it")]
    IsHere { version: u64 },
    #[error("the package is refused: it is version {found}, and nothing below version {floor} may run")]
    BelowFloor { found: u64, floor: u64 },
    #[error("the package is refused: it is a model called {found:?}, and this store has {expected:?}")]
    OtherName { found: String, expected: String },
    #[error(
        "the package is refused: it says that nothing below version {floor} may run, and is version {found}"
    )]
    FloorAboveVersion { found: u64, floor: u64 },
    #[error("the package is refused: it expired at {expires}, and it is at least {now}")]
    Expired { expires: String, now: String },
    #[error("the package is refused: {expected} bytes are announced, and {}", say_length(*.found))]
    Length { expected: u64, found: Option<u64> },
    #[error("the source of the package cannot be read")]
    Source(#[source] io::Error),
    #[error("what was written to {file} is not what was read: {reason}")]
    WrittenWrong { file: &'static str, reason: String },
    #[error("the trust file is refused: {0}")]
    Trust(#[source] Refused),
    #[error(
        "the trust file is refused: version {version} of the model, which runs, would not be trusted: {reason}"
    )]
    TrustLosesModel { version: u64, reason: Refused },
    #[error("the store has no trust file that can be read")]
    NoTrust,
    #[error("no model of the store may run: {}", say_all(.tried))]
    NoModel { tried: Vec<(String, String)> },
    #[error("there is no version on trial")]
    NoTrial,
    #[error("slot {slot} has another package now; {package} is not committed")]
    Superseded { slot: SlotName, package: PackageId },
    #[error("there is no other good version to go back to")]
    NoOther,
    #[error("version {found} is the only other one, and nothing below version {floor} may run")]
    OtherBelowFloor { found: u64, floor: u64 },
    #[error("{what} is longer than {most} bytes")]
    TooLong { what: &'static str, most: usize },
}

fn say_length(found: Option<u64>) -> String {
    found.map_or("there are more".to_owned(), |found| format!("{found} are there"))
}

fn say_all(tried: &[(String, String)]) -> String {
    if tried.is_empty() {
        return "nothing is installed".to_owned();
    }
    let said: Vec<String> = tried.iter().map(|(place, why)| format!("{place}: {why}")).collect();
    said.join("; ")
}

impl UpdateError {
    /// Whether the package or the trust file is at fault, so that to try again is of no use.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Package(_)
                | Self::Unsuited(_)
                | Self::NotNewer { .. }
                | Self::BelowFloor { .. }
                | Self::OtherName { .. }
                | Self::FloorAboveVersion { .. }
                | Self::Expired { .. }
                | Self::Length { found: None, .. }
                | Self::Trust(_)
                | Self::TrustLosesModel { .. }
                | Self::OtherBelowFloor { .. }
        )
    }

    /// Whether the disk is full.
    pub fn is_lack_of_space(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// Makes an error of what the disk says.
pub(super) fn fail<'a>(file: &'a str, action: &'static str) -> impl Fn(io::Error) -> UpdateError + 'a {
    move |source| match not_a_file(&source) {
        Some(found) => UpdateError::NotAFile { file: file.to_owned(), found },
        None => UpdateError::Io { file: file.to_owned(), action, source },
    }
}

/// What is there in place of a file: the content of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("it is {0}")]
pub struct NotAFile(pub &'static str);

fn not_a_file(error: &io::Error) -> Option<&'static str> {
    Some(error.get_ref()?.downcast_ref::<NotAFile>()?.0)
}
