//! The plain bytes of a model, on their way to who loads it.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::release::Blake3;
use super::{Refusal, archive};

/// A part of an open file that is read from its start, whoever else reads the file.
pub(super) struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Section {
    pub(super) fn new(file: Arc<File>, at: u64, bytes: u64) -> Self {
        Self { file, at, end: at.saturating_add(bytes) }
    }

    /// Returns the same part again, from its start.
    pub(super) fn again(&self) -> Self {
        Self { file: self.file.clone(), ..*self }
    }

    /// Returns what is behind so many bytes.
    pub(super) fn after(&self, bytes: u64) -> Self {
        Self { file: self.file.clone(), at: self.at.saturating_add(bytes).min(self.end), end: self.end }
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = read_at(&self.file, &mut buffer[..length], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
    file.read(buffer)
}

/// Hands out a known number of bytes with a known BLAKE3. Its last bytes are not handed out before all have been
/// compared, nor before what they come from has ended: who has as many bytes as were promised has the right ones.
pub(super) struct PlainReader<R> {
    from: R,
    name: String,
    left: u64,
    bytes: u64,
    hash: blake3::Hasher,
    expected: Blake3,
    is_refused: bool,
}

impl<R: Read> PlainReader<R> {
    pub(super) fn new(from: R, name: &str, bytes: u64, expected: Blake3) -> Self {
        Self {
            from,
            name: name.into(),
            left: bytes,
            bytes,
            hash: blake3::Hasher::new(),
            expected,
            is_refused: false,
        }
    }

    /// Refuses what goes on, and what is something else.
    fn judge(&mut self) -> Result<(), io::Error> {
        if archive::fill(&mut self.from, &mut [0])? != 0 {
            return Err(refuse(Refusal::Overlong { file: self.name.clone(), expected: self.bytes }));
        }
        match self.hash.finalize() == self.expected.0 {
            true => Ok(()),
            false => Err(refuse(Refusal::Changed { file: self.name.clone() })),
        }
    }
}

impl<R: Read> Read for PlainReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Who asks again after a refusal must not take what he has for the whole.
        if self.is_refused {
            return Err(refuse(Refusal::Changed { file: self.name.clone() }));
        }
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        let read = self.from.read(&mut buffer[..length])?;
        if read == 0 {
            let found = self.bytes - self.left;
            return Err(refuse(Refusal::Truncated { file: self.name.clone(), found, expected: self.bytes }));
        }
        self.hash.update(&buffer[..read]);
        self.left -= read as u64;
        if self.left == 0 {
            self.is_refused = true;
            self.judge()?;
            self.is_refused = false;
        }
        Ok(read)
    }
}

/// A refusal as an error of a reader.
pub(super) fn refuse(refusal: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, super::TrustError::from(refusal))
}
