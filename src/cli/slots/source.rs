//! Where packages come from, with how far it is.

use std::io::{self, Read};

use super::super::memory::show_bytes;
#[cfg(feature = "pull")]
use super::super::output::note;
use super::super::progress::Progress;
#[cfg(feature = "pull")]
use crate::updates::Partial;

/// Says that a part of a package is there and is gone on with.
#[cfg(feature = "pull")]
pub(super) fn tell_part(part: &Partial) {
    note(format_args!(
        "going on with {}, {} of {} are there",
        part.package,
        show_bytes(part.bytes),
        show_bytes(part.package.bytes)
    ));
}

/// A source whose progress is shown.
pub(super) struct Shown<R> {
    from: R,
    done: u64,
    total: Option<u64>,
    progress: Progress,
}

impl<R: Read> Shown<R> {
    pub(super) fn new(from: R, total: Option<u64>) -> Self {
        Self { from, done: 0, total, progress: Progress::new() }
    }

    #[cfg(feature = "pull")]
    pub(super) fn after(self, done: u64) -> Self {
        Self { done, ..self }
    }
}

impl<R: Read> Read for Shown<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.done += read as u64;
        if read == 0 {
            self.progress.clear();
        } else {
            self.progress.show(self.done, self.total, show_bytes);
        }
        Ok(read)
    }
}
