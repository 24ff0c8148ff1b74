//! Texts that are read whole.

use std::io::{self, Read};
use std::path::Path;

use super::{Kind, ReadError, open, without_mark};

/// Bytes that are looked at to tell UTF-16 without a mark from other data.
const GUESSED_BYTES: usize = 1 << 10;
/// Fewer bytes tell nothing.
const LEAST_GUESSED_BYTES: usize = 4;

/// Reads a file of UTF-8 text of at most `limit` bytes. A byte order mark at its start is left out.
///
/// # Errors
/// If it is no file, is longer, or is not such text.
pub fn read_text(path: &Path, limit: u64) -> Result<String, ReadError> {
    read_text_from(open(path)?, &path.display().to_string(), limit)
}

/// Does the same as [`read_text`], but gives `None` where there is no file.
///
/// # Errors
/// As [`read_text`].
pub fn read_text_if_there(path: &Path, limit: u64) -> Result<Option<String>, ReadError> {
    match read_text(path, limit) {
        Err(error) if error.is_absence() => Ok(None),
        read => read.map(Some),
    }
}

/// Reads UTF-8 text from an open source, e.g. standard input, as [`read_text`] does. `name` is for messages.
///
/// # Errors
/// As [`read_text`].
pub fn read_text_from(from: impl Read, name: &str, limit: u64) -> Result<String, ReadError> {
    let name = || name.to_owned();
    let mut bytes = vec![];
    let read = from.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| match source.kind() {
        io::ErrorKind::IsADirectory => ReadError::Folder { name: name() },
        _ => ReadError::Io { name: name(), source },
    })?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLong { name: name(), limit });
    }
    if let Some(found) = encoding(&bytes) {
        return Err(ReadError::Encoding { name: name(), found });
    }
    let mut text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(wrong_byte(name(), error.as_bytes(), Start::default())),
    };
    if text.contains('\0') {
        return Err(wrong_byte(name(), text.as_bytes(), Start::default()));
    }
    text.drain(..text.len() - without_mark(&text).len());
    Ok(text)
}

/// Where a part of a text begins.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) line: usize,
    pub(super) offset: u64,
}

impl Default for Start {
    fn default() -> Self {
        Self { line: 1, offset: 0 }
    }
}

/// Says what is wrong with bytes that hold a NUL or are not UTF-8.
pub(super) fn wrong_byte(name: String, bytes: &[u8], start: Start) -> ReadError {
    if start.offset == 0
        && let Some(found) = Kind::of(bytes).filter(|kind| *kind != Kind::Text && *kind != Kind::Json)
    {
        return ReadError::Kind { name, found };
    }
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let nul = bytes[..valid].iter().position(|byte| *byte == 0);
    let at = nul.unwrap_or(valid);
    let line = start.line + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
    let offset = start.offset + at as u64;
    match (nul, bytes.get(at)) {
        (None, Some(&found)) => ReadError::NotUtf8 { name, line, offset, found },
        _ => ReadError::Nul { name, line, offset },
    }
}

/// Tells an encoding other than UTF-8 by its byte order mark, or by every other byte being zero.
pub(super) fn encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xFF, 0xFE, 0, 0, ..] => return Some("UTF-32LE"),
        [0, 0, 0xFE, 0xFF, ..] => return Some("UTF-32BE"),
        [0xFF, 0xFE, ..] => return Some("UTF-16LE"),
        [0xFE, 0xFF, ..] => return Some("UTF-16BE"),
        _ => {}
    }
    if bytes.len() < LEAST_GUESSED_BYTES {
        return None;
    }
    let looked_at = &bytes[..bytes.len().min(GUESSED_BYTES)];
    let zeros = |odd: usize| looked_at.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let is_most = |count: usize| count > 0 && count * 4 >= looked_at.len();
    match (zeros(0), zeros(1)) {
        (0, odd) if is_most(odd) => Some("UTF-16LE"),
        (even, 0) if is_most(even) => Some("UTF-16BE"),
        _ => None,
    }
}
