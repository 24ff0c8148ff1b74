//! Files of every kind: texts read whole or by lines, files written whole or not at all, and hashes.
//!
//! # Design
//!
//! ```text
//! open   a regular file, a pipe that the shell made, or a typed refusal
//! text   UTF-8 text up to a named limit, without byte order mark
//! lines  the same, a line at a time
//! write  a new file beside its place, synced and renamed
//! held   a file that is gone on with, by one process at a time
//! kind   what a file is that was not expected
//! mark   the byte order mark
//! error  why a file cannot be read
//! hash   FNV-1a and a fast checksum
//! sha256 SHA-256, with the feature `eval`
//! ```
//!
//! Every text that a person gives, from a file or from standard input, comes through [`read_text`], [`read_text_from`]
//! or [`Lines`]; every file that must never be seen half written goes through [`NewFile`], and every
//! file that is added to through [`hold`]. Neither writes through a symbolic link.

mod error;
mod hash;
mod held;
mod kind;
mod lines;
mod mark;
mod open;
#[cfg(feature = "eval")]
mod sha256;
mod text;
mod write;

#[cfg(test)]
mod tests;

pub use self::error::ReadError;
pub use self::hash::{Fnv, checksum};
pub use self::held::{Stream, check_own, hold, is_same_file, is_standard_output, open_to_write, stream};
pub use self::kind::{KIND_BYTES, Kind};
pub use self::lines::{Line, Lines};
pub use self::mark::without_mark;
#[cfg(unix)]
pub use self::open::mode_for_others;
pub use self::open::{first_bytes, is_there, open};
#[cfg(feature = "eval")]
pub use self::sha256::{Sha256Hex, sha256_hex, sha256_of};
pub use self::text::{read_text, read_text_from, read_text_if_there};
pub use self::write::{Access, NewFile, WriteError, leads_to, sync_name, write_stream, write_whole};
