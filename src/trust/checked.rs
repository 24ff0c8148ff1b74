//! A reader that hashes what it hands out.

use std::io::{self, Read};

use super::digest::{Digest, HashType, Hasher};
use super::error::TrustError;

/// A range of what is read, from the end of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The byte after its last.
    pub end: u64,
    /// What its bytes hash to.
    pub digest: Digest,
}

/// Reads bytes and hashes them on the way, so that what is checked is what is used.
///
/// The verdict comes with the end: where another reader would return 0 bytes, this one returns an error that holds a
/// [`TrustError`] unless all was as expected. Until then nothing that was read may be relied on.
pub struct CheckedReader<R> {
    from: R,
    name: String,
    parts: std::vec::IntoIter<Part>,
    part: Option<Part>,
    hasher: Hasher,
    at: u64,
    total: u64,
    verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Open,
    Good,
    Bad,
}

impl<R: Read> CheckedReader<R> {
    /// Reads a source that is expected to have these parts, one after another; `name` is for messages.
    pub fn new(from: R, name: String, parts: Vec<Part>) -> CheckedReader<R> {
        let total = parts.last().map_or(0, |part| part.end);
        let mut parts = parts.into_iter();
        let part = parts.next();
        let hasher = Hasher::new(part.as_ref().map_or(HashType::Sha256, |part| part.digest.hash()));
        CheckedReader { from, name, parts, part, hasher, at: 0, total, verdict: Verdict::Open }
    }

    /// Bytes that are expected in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns what is read, to go on with what follows the last part.
    pub(super) fn into_inner(self) -> R {
        self.from
    }

    /// Ends the part that is read to its end, and begins the next.
    fn close_parts(&mut self) -> Result<(), TrustError> {
        while let Some(part) = self.part.take_if(|part| part.end == self.at) {
            let next = self.parts.next();
            let hash = next.as_ref().map_or(HashType::Sha256, |part| part.digest.hash());
            let found = std::mem::replace(&mut self.hasher, Hasher::new(hash)).finish();
            self.part = next;
            if found != part.digest {
                return Err(self.other(part, found));
            }
        }
        Ok(())
    }

    fn other(&self, part: Part, found: Digest) -> TrustError {
        let is_whole = part.end == self.total && self.parts.len() == 0;
        let which = if is_whole { "the end".to_owned() } else { format!("byte {}", part.end) };
        let part_name = format!("what ends at {which}");
        TrustError::Digest { file: self.name.clone(), part: part_name, expected: part.digest, found }
    }

    /// Whether there is nothing behind the last part.
    fn check_end(&mut self) -> io::Result<()> {
        let mut more = [0];
        loop {
            match self.from.read(&mut more) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    let (file, expected) = (self.name.clone(), self.total);
                    let found = expected.saturating_add(1);
                    return Err(io::Error::other(TrustError::Length { file, expected, found }));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read_part(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.close_parts().map_err(io::Error::other)?;
        let Some(part) = &self.part else {
            self.check_end()?;
            self.verdict = Verdict::Good;
            return Ok(0);
        };
        let left = usize::try_from(part.end - self.at).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let count = self.from.read(&mut buffer[..most])?;
        if count == 0 {
            let (file, expected) = (self.name.clone(), self.total);
            return Err(io::Error::other(TrustError::Length { file, expected, found: self.at }));
        }
        self.hasher.update(&buffer[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: Read> Read for CheckedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.verdict {
            Verdict::Good => return Ok(0),
            Verdict::Bad => return Err(io::Error::other("it was refused already")),
            Verdict::Open if buffer.is_empty() => return Ok(0),
            Verdict::Open => {}
        }
        let result = self.read_part(buffer);
        if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.verdict = Verdict::Bad;
        }
        result
    }
}
