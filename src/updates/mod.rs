//! The store: two slots for a model, of which one is good and is never written.
//!
//! # Design
//!
//! ```text
//! install -> Writing -> Staged -> Trial(2) -> start -> healthy -> commit -> Good
//!                                    start counted -> fails or ends early -> Bad, and the other slot runs
//! ```
//!
//! * What is written is always the slot that is not used, and a package is verified again whenever it is read to be run.
//!   So no power cut, no damage and no bad version takes the last good one.
//! * Two records in turn say what the slots are. Each is one block that is written in its place and synced; one that is
//!   torn does not count. Markers of good slots tell the same where both records are lost.
//! * No step needs space but the package itself, for which space is reserved before its first byte.
//!
//! ```text
//! disk     what is asked of a file system; real: a folder of one
//! judge    what is asked about packages, which a store does not know; packages: signed ones, of releases
//! names    what packages and slots are called
//! record   records and markers; books: reading and writing them
//! store    the folder, its lock, its trust file
//! install, start, check, trust, status    what is done with it
//! ```

mod books;
mod check;
mod disk;
mod error;
mod install;
mod judge;
mod names;
mod packages;
mod real;
mod record;
mod start;
mod status;
mod store;
mod time;
mod trust;

#[cfg(test)]
mod tests;

pub use self::check::{Check, Finding};
pub use self::disk::{Access, Disk, DiskFile, Reader};
pub use self::error::{NotAFile, Refused, UpdateError};
pub use self::install::{Installer, Partial};
pub use self::judge::{Head, HeadError, Judge, Purpose};
pub use self::names::{Hex, PackageId, SlotName};
pub use self::packages::{Packages, trust_text};
pub use self::real::Folder;
pub use self::record::{BLOCK, Origin, Record, Slot, State, TRIES, TrustAt};
pub use self::start::{Candidate, Failure, Place, StartError, Started};
pub use self::status::{GoldenStatus, Next, SlotStatus, Status};
pub use self::store::{DEVICE_KEY, MAX_TRUST, Store};
