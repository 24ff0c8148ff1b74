//! The models of this computer: where they are, what they are called, and how one is fetched.
//!
//! # Design
//!
//! ```text
//! HOME/models/ORG/REPO/FILE.gguf        a model
//! HOME/models/ORG/REPO/FILE.gguf.json   where it is from, its SHA-256 ([`Record`])
//! HOME/models/FILE.gguf                 a model that somebody put there
//! HOME/aliases/NAME                     what a short name stands for
//! HOME/default                          the model that is meant where none is named
//! HOME/models/.partial/KEY.part         what there is of an unfinished download
//! HOME/pull.lock                        held by the one process that downloads
//! ```
//!
//! `HOME` is `$SMOLT_HOME`, else `$XDG_DATA_HOME/smolt`, else `~/.local/share/smolt`. The folder is the database:
//! there is no index to go wrong, a file copied into it is installed, one deleted is not.
//!
//! ```text
//! name         ORG/REPO:FILE, checked
//! choose       which of a repository's files
//! installed    finding, listing and removing models; aliases
//! default      the model that is meant where none is named
//! files        whole files or none, locks, SHA-256
//! environment  what variables say of the hub and its user
//! address      addresses and headers
//! hub          what the Hugging Face hub is asked, and where tokens go
//! pull         downloading: resumed, checked, then renamed into place
//! ```
//!
//! Only `pull` uses the network, and only with the feature `pull`.
//!
//! The crate `hf-hub` says where the hub's own client keeps files, which are then not fetched again. It does not fetch
//! any: since 1.0 it cannot resume a download and brings an asynchronous runtime, before that it checks no hash. What is
//! needed of the hub is two requests; `ureq`, on which `hf-hub` was built, makes them.

mod choose;
mod default;
mod error;
mod files;
mod installed;
mod name;

#[cfg(feature = "pull")]
mod address;
#[cfg(feature = "pull")]
mod environment;
#[cfg(feature = "pull")]
mod hub;
#[cfg(feature = "pull")]
mod pull;

pub use self::error::StoreError;
pub use self::installed::{Alias, Installed, Record, Store, Survey, check_alias};
pub use self::name::HubName;

#[cfg(feature = "pull")]
pub use self::hub::{Hub, web_agent};
#[cfg(feature = "pull")]
pub use self::pull::{Event, Pulled, pull};

#[cfg(test)]
mod tests;
