//! Why a file cannot be read.

use std::io;

use super::Kind;

/// Why a text cannot be read. Offsets are bytes from the start of the file, lines count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ReadError {
    #[error("{name}: no such file")]
    NotFound { name: String },
    #[error("{name}: is a folder, expected a file")]
    Folder { name: String },
    #[error("{name}: is {found}, expected a file; save it to a file first, or give it on standard input")]
    NotAFile { name: String, found: &'static str },
    #[error("cannot read {name}")]
    Io { name: String, source: io::Error },
    #[error("{name}: is longer than {limit} bytes, the most that is read of such a text")]
    TooLong { name: String, limit: u64 },
    #[error("{name}, line {line}: is longer than {limit} bytes, the most that is read of a line")]
    LineTooLong { name: String, line: usize, limit: u64 },
    #[error("{name}: is {found} text, expected UTF-8; convert it, e.g. with iconv -f {found} -t UTF-8")]
    Encoding { name: String, found: &'static str },
    #[error(
        "{name}, line {line}: expected UTF-8 text, found the byte 0x{found:02X} at offset {offset}; convert it first, e.g. with iconv -t UTF-8"
    )]
    NotUtf8 { name: String, line: usize, offset: u64, found: u8 },
    #[error("{name}: is {}, expected UTF-8 text", .found.what())]
    Kind { name: String, found: Kind },
    #[error("{name}, line {line}: expected text, found a NUL byte at offset {offset}; is it a binary file?")]
    Nul { name: String, line: usize, offset: u64 },
}

impl ReadError {
    /// Returns whether there is no such file, nor anything else of its name.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotADirectory,
            _ => false,
        }
    }
}
