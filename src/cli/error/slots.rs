//! What can go wrong with `smolt store` and `--store`, beside what the store itself says.

use std::io;

use super::exit::Exit;
use crate::updates::UpdateError;

/// Why something cannot be done with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SlotsError {
    #[error("{store} is a store, which lets no other model run, and {model} is named")]
    OtherModel { store: String, model: String },
    #[error("version {version} failed its trial: {reason}")]
    Failed { version: u64, reason: String },
    #[error("{url}: there is no newer version")]
    NothingNew { url: String },
    #[error("{url}: expected http:// or https://")]
    NotUrl { url: String },
    #[error("{url}: this program was built without the network")]
    WithoutNetwork { url: String },
    #[error("{url}: status {status}")]
    Status { url: String, status: u16 },
    #[error("{url}: sends a part of a file that was not asked for")]
    OtherPart { url: String },
    #[error("cannot reach {url}")]
    Network { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("there are no bytes that nobody can foresee, which a key takes")]
    Random(#[source] io::Error),
    #[error("cannot tell the path of the golden package")]
    Golden(#[source] io::Error),
    #[error("{store}: the key of the device is missing or damaged")]
    DeviceKey { store: String },
}

impl SlotsError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::OtherModel { .. } => Exit::Untrusted,
            Self::Failed { .. } => Exit::TrialFailed,
            Self::NothingNew { .. } => Exit::Refused,
            Self::NotUrl { .. } | Self::WithoutNetwork { .. } => Exit::Usage,
            _ => Exit::Runtime,
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::OtherModel { .. } => "name no model, or leave --store and SMOLT_STORE out",
            Self::Failed { .. } => "the former version is in place; install a newer one",
            Self::WithoutNetwork { .. } => "curl -L URL | smolt store install - installs it",
            Self::Network { .. } => "what was written is kept; the same command goes on from there",
            Self::DeviceKey { .. } => "head -c 32 /dev/urandom > DIR/device.key, mode 600, makes a new one",
            _ => return None,
        })
    }
}

/// The exit code of what a store says.
pub(super) fn exit_of(error: &UpdateError) -> Exit {
    match error {
        UpdateError::Busy => Exit::Busy,
        UpdateError::NoModel { .. } | UpdateError::NoOther => Exit::NoVersion,
        error if error.is_lack_of_space() => Exit::NoSpace,
        UpdateError::Package(_)
        | UpdateError::Trust(_)
        | UpdateError::Length { found: None, .. }
        | UpdateError::NoTrust
        | UpdateError::NotAFile { .. } => Exit::Untrusted,
        error if error.is_refusal() => Exit::Refused,
        UpdateError::NotAStore { .. }
        | UpdateError::IsAStore { .. }
        | UpdateError::NoTrial
        | UpdateError::TooLong { .. } => Exit::Usage,
        _ => Exit::Runtime,
    }
}

/// What to do about what a store says.
pub(super) fn hint_of(error: &UpdateError) -> Option<&'static str> {
    Some(match error {
        UpdateError::NotAStore { .. } => "smolt store init --store DIR --trust FILE makes one",
        UpdateError::Busy => "try again when it is done",
        UpdateError::NoModel { .. } => {
            "smolt store fsck says what is there; smolt store install installs a package"
        }
        UpdateError::Source(_) | UpdateError::Length { found: Some(_), .. } => {
            "of a server what is there is kept: the same command goes on from there"
        }
        UpdateError::TrustLosesModel { .. } => {
            "first install a version that is signed by keys of both trust files"
        }
        UpdateError::NotNewer { .. } => "old weights come back under a higher version",
        error if error.is_lack_of_space() => "free some space; the version in use is unharmed",
        _ => return None,
    })
}
