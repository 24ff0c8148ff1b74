//! Text held back while it may become a stop string.

use std::ops::Range;

use super::OptionError;

/// Stop strings per request.
pub const MAX_STOPS: usize = 64;
/// Bytes of a stop string.
pub const MAX_STOP_BYTES: usize = 1024;

/// Checks the number of stop strings and that each has 1 to [`MAX_STOP_BYTES`] bytes.
pub(super) fn validate(stops: &[String]) -> Result<(), OptionError> {
    if stops.len() > MAX_STOPS {
        let found = format_args!("{} strings", stops.len());
        return Err(OptionError::new("stop", found, format_args!("0 to {MAX_STOPS} strings")));
    }
    match stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
        None => Ok(()),
        Some(bad) => {
            let found = format_args!("a string of {} bytes", bad.len());
            Err(OptionError::new("stop", found, format_args!("strings of 1 to {MAX_STOP_BYTES} bytes")))
        }
    }
}

/// What a piece of text brought about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// The part of [`StopBuffer::text`] that may now be given out.
    pub(super) range: Range<usize>,
    /// The stop string that was completed, by its index.
    pub(super) stopped: Option<usize>,
}

/// The text of an answer, of which the end may be held back.
///
/// The stop string that is completed first counts; of those completed by the same byte, the longest. The
/// outcome does not depend on how the text is cut into pieces.
#[derive(Debug)]
pub(super) struct StopBuffer {
    text: String,
    /// Bytes given out. No stop string can start before them and still be completed.
    released: usize,
}

impl StopBuffer {
    pub(super) fn new(capacity: usize) -> StopBuffer {
        StopBuffer { text: String::with_capacity(capacity), released: 0 }
    }

    /// Forgets the text, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.released = 0;
    }

    /// All text so far, without the stop string that ended it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &str, stops: &[String]) -> Released {
        self.text.push_str(piece);
        let held = &self.text[self.released..];
        let found = stops.iter().enumerate().filter_map(|(index, stop)| {
            let start = held.find(stop.as_str())?;
            Some((start + stop.len(), start, index))
        });
        if let Some((_, start, index)) = found.min() {
            self.text.truncate(self.released + start);
            return Released { stopped: Some(index), ..self.release_all() };
        }
        self.release_to(self.first_open(stops))
    }

    /// Releases what is held back.
    pub(super) fn release_all(&mut self) -> Released {
        self.release_to(self.text.len())
    }

    fn release_to(&mut self, end: usize) -> Released {
        let range = self.released..end;
        self.released = end;
        Released { range, stopped: None }
    }

    /// Where the first text starts that may become a stop string; the end of the text if none does.
    fn first_open(&self, stops: &[String]) -> usize {
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.released.max(self.text.len().saturating_sub(longest));
        let is_open = |at: &usize| {
            self.text.get(*at..).is_some_and(|end| stops.iter().any(|stop| stop.starts_with(end)))
        };
        (from..self.text.len()).find(is_open).unwrap_or(self.text.len())
    }
}
