//! What can go wrong, the exit code it gives and what to do about it.
//!
//! # Design
//!
//! ```text
//! exits, hints   the exit code of each error, and what to do about it
//! all            every error of a command: CliError
//! chat, config, connect, demand, preset, session, slots, usage
//!                errors that modules of the command line raise, and no other room
//! serve, trust   what becomes of errors of two rooms below
//! exit           how a process ends
//! ```
//!
//! What is below is used by what is above. All modules of the command line that raise errors stand over this one, so that
//! an error is declared here, beside its exit code and its hint, and not in the module that raises it.

mod all;
mod chat;
mod config;
#[cfg(feature = "serve")]
mod connect;
#[cfg(feature = "trust")]
mod demand;
mod exit;
mod exits;
mod hints;
mod preset;
#[cfg(feature = "serve")]
mod serve;
mod session;
#[cfg(feature = "trust")]
mod slots;
#[cfg(feature = "trust")]
mod trust;
mod usage;

pub use self::all::CliError;
pub use self::chat::ChatError;
pub use self::config::ConfigError;
#[cfg(feature = "serve")]
pub(super) use self::connect::Code;
#[cfg(feature = "serve")]
pub use self::connect::ConnectError;
#[cfg(feature = "trust")]
pub(super) use self::demand::{DemandError, PACK_KEY_BYTES};
pub use self::exit::Exit;
pub(super) use self::preset::MODEL;
pub use self::preset::PresetError;
pub use self::session::SessionError;
#[cfg(feature = "trust")]
pub use self::slots::SlotsError;
pub use self::usage::UsageError;
pub(super) use self::usage::shown;
