//! Texts that are read a line at a time.

use std::io::{self, BufRead, Read};

use super::text::{Start, encoding, wrong_byte};
use super::{ReadError, without_mark};

/// A line of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number, from 1.
    pub number: usize,
    /// Offset of its first byte in the text.
    pub offset: u64,
    /// What it says, without line end (LF or CR LF) and byte order mark.
    pub text: &'a str,
    /// Whether a line end follows. What a power cut leaves of a last line has none.
    pub has_end: bool,
}

/// Reads UTF-8 text by lines. Memory is bounded by the longest line, which is bounded by a limit.
///
/// After an error other than [`ReadError::Io`] reading may go on: the next line is the one after the wrong one.
pub struct Lines<R> {
    from: R,
    name: String,
    limit: u64,
    buffer: Vec<u8>,
    next: Start,
}

impl<R: BufRead> Lines<R> {
    /// Begins to read lines of at most `limit` bytes each. `name` is for messages.
    pub fn new(from: R, name: impl Into<String>, limit: u64) -> Self {
        Self { from, name: name.into(), limit, buffer: vec![], next: Start::default() }
    }

    /// What messages call the source.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.next.offset
    }

    /// Reads the next line; `None` at the end.
    ///
    /// # Errors
    /// If the source fails, or the line is too long or not UTF-8 text.
    #[expect(clippy::should_implement_trait, reason = "a line borrows the buffer, an iterator's item cannot")]
    pub fn next(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        Ok(self.fill()?.map(|start| self.line(start)))
    }

    /// Reads the next line that is not blank; `None` at the end.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_filled(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        while let Some(start) = self.fill()? {
            if !self.line(start).text.trim().is_empty() {
                return Ok(Some(self.line(start)));
            }
        }
        Ok(None)
    }

    /// Reads a line that is text into the buffer, and returns where it begins.
    fn fill(&mut self) -> Result<Option<Start>, ReadError> {
        let start = self.next;
        self.buffer.clear();
        let mut limited = (&mut self.from).take(self.limit.saturating_add(1));
        let read = limited.read_until(b'\n', &mut self.buffer).map_err(|source| self.failed(source))?;
        if read == 0 {
            return Ok(None);
        }
        self.next = Start { line: start.line + 1, offset: start.offset + read as u64 };
        if start.offset == 0
            && let Some(found) = encoding(&self.buffer)
        {
            return Err(ReadError::Encoding { name: self.name.clone(), found });
        }
        if read as u64 > self.limit {
            if self.buffer.last() != Some(&b'\n') {
                self.skip_line()?;
            }
            let (name, limit) = (self.name.clone(), self.limit);
            return Err(ReadError::LineTooLong { name, line: start.line, limit });
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) if !text.contains('\0') => Ok(Some(start)),
            _ => Err(wrong_byte(self.name.clone(), &self.buffer, start)),
        }
    }

    /// The line in the buffer.
    fn line(&self, start: Start) -> Line<'_> {
        let text = std::str::from_utf8(&self.buffer).unwrap_or_default();
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        // Files with marks may have been joined, so that one stands before a later line.
        let (text, has_end) = (without_mark(text), self.buffer.last() == Some(&b'\n'));
        Line { number: start.line, offset: start.offset, text, has_end }
    }

    /// Passes over the rest of a line that is too long.
    fn skip_line(&mut self) -> Result<(), ReadError> {
        loop {
            let bytes = match self.from.fill_buf() {
                Ok(bytes) => bytes,
                Err(source) if source.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.failed(source)),
            };
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(bytes.len(), |at| at + 1);
            self.from.consume(used);
            self.next.offset += used as u64;
            if end.is_some() || used == 0 {
                return Ok(());
            }
        }
    }

    fn failed(&self, source: io::Error) -> ReadError {
        match source.kind() {
            io::ErrorKind::IsADirectory => ReadError::Folder { name: self.name.clone() },
            _ => ReadError::Io { name: self.name.clone(), source },
        }
    }
}
