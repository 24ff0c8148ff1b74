//! The output of a batch: one whole line at a time, on the disk before the next item is begun.
//!
//! After a power cut the file may end with part of a line. That part is cut off, the rest stays.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BatchError;

/// Where lines go.
enum Sink {
    File(File),
    Stream(Box<dyn Write>),
}

/// The output, with what was in it before.
pub struct Journal {
    name: String,
    sink: Sink,
    /// Lines that were there, in order, until they are asked for.
    before: VecDeque<Done>,
    /// Lines of `before` that were asked for.
    used: usize,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Done {
    index: usize,
    input: String,
}

impl Journal {
    /// An output that cannot be gone on with.
    pub fn stream(name: &str, sink: Box<dyn Write>) -> Self {
        Self { name: name.to_owned(), sink: Sink::Stream(sink), before: VecDeque::new(), used: 0 }
    }

    /// Opens the file of a batch, or begins it.
    ///
    /// # Errors
    /// If it cannot be read and written, another process writes it, or its lines are not those of a batch.
    pub fn open(path: &Path) -> Result<Self, BatchError> {
        let name = path.display().to_string();
        let fail = |source| BatchError::Write { file: name.clone(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BatchError::Locked { file: name }),
            // A file system without locks.
            Err(TryLockError::Error(_)) => {}
        }
        let (before, end) = read(&name, &file)?;
        file.set_len(end).map_err(fail)?;
        file.seek(SeekFrom::Start(end)).map_err(fail)?;
        Ok(Self { name, sink: Sink::File(file), before, used: 0 })
    }

    /// Whether the next line that was there before is that of item `index` with this hash. Items must be asked for in
    /// order.
    pub(in crate::eval) fn is_done(&mut self, index: usize, input: &str) -> Result<bool, BatchError> {
        let Some(done) = self.before.pop_front() else { return Ok(false) };
        self.used += 1;
        if done.index == index && done.input == input {
            return Ok(true);
        }
        Err(BatchError::OtherInput { file: self.name.clone(), line: self.used, index })
    }

    /// Refuses lines that no item was asked for.
    pub(in crate::eval) fn check_all_used(&self) -> Result<(), BatchError> {
        match self.before.len() {
            0 => Ok(()),
            extra => Err(BatchError::TooManyLines { file: self.name.clone(), extra }),
        }
    }

    /// Writes a line. It is on the disk when this returns.
    pub(in crate::eval) fn write(&mut self, line: &impl Serialize) -> Result<(), BatchError> {
        let fail = |source| BatchError::Write { file: self.name.clone(), source };
        let mut bytes = serde_json::to_vec(line).map_err(|error| fail(error.into()))?;
        bytes.push(b'\n');
        match &mut self.sink {
            Sink::File(file) => file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(fail),
            Sink::Stream(stream) => stream.write_all(&bytes).and_then(|()| stream.flush()).map_err(fail),
        }
    }
}

/// The whole lines of a file, and where they end.
fn read(name: &str, file: &File) -> Result<(VecDeque<Done>, u64), BatchError> {
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    let (mut before, mut end) = (VecDeque::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        let read = read.map_err(|source| BatchError::Write { file: name.to_owned(), source })?;
        if !line.ends_with(b"\n") {
            return Ok((before, end));
        }
        let foreign = |_| BatchError::Foreign { file: name.to_owned(), line: before.len() + 1 };
        let done = serde_json::from_slice(&line).map_err(foreign)?;
        before.push_back(done);
        end += read as u64;
    }
}
