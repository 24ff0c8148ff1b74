//! The lines of an input as items, each with its place and a hash that tells whether it was answered before.

use std::io::BufRead;

use super::journal::Counts;
use super::seen::Seen;
use super::{BatchError, Journal, Place};
use crate::files::{Fnv, Lines, ReadError};

/// Longest line of the input.
pub const MAX_LINE_BYTES: u64 = 8 << 20;

/// Reads an input by lines. `name` is for messages.
pub fn input<'a>(from: impl BufRead + 'a, name: &str) -> Input<'a> {
    Lines::new(Box::new(from), name, MAX_LINE_BYTES)
}

/// An input, by lines.
pub type Input<'a> = Lines<Box<dyn BufRead + 'a>>;

/// An item's line.
pub(super) struct Entry<'a> {
    pub(super) place: Place,
    /// Of the line, and of how many equal ones were before it.
    pub(super) input: u64,
    /// Whether it is of the part of the items to be answered.
    pub(super) is_mine: bool,
    /// What it says, or why it cannot be read.
    pub(super) text: Result<&'a str, String>,
}

/// The lines that are not blank.
pub(super) struct Items<'a> {
    lines: Input<'a>,
    shard: (usize, usize),
    /// How often each line was there.
    seen: Seen,
    index: usize,
    text: String,
}

impl<'a> Items<'a> {
    pub(super) fn new(lines: Input<'a>, shard: (usize, usize)) -> Self {
        Self { lines, shard, seen: Seen::new(), index: 0, text: String::new() }
    }

    /// What messages call the input.
    pub(super) fn name(&self) -> &str {
        self.lines.name()
    }

    /// Reads the next item. A line that is not text is an item that fails; if the first is none, the file is refused.
    pub(super) fn next(&mut self) -> Result<Option<Entry<'_>>, BatchError> {
        let (line, problem) = match self.lines.next_filled() {
            Ok(None) => return Ok(None),
            Ok(Some(line)) => {
                self.text.clear();
                self.text.push_str(line.text.trim());
                (line.number, None)
            }
            Err(error) => match error {
                ReadError::NotUtf8 { line, .. }
                | ReadError::Nul { line, .. }
                | ReadError::LineTooLong { line, .. }
                    if self.index > 0 =>
                {
                    (line, Some(error.to_string()))
                }
                error => return Err(error.into()),
            },
        };
        let place = Place { index: self.index, line: Some(line) };
        self.index += 1;
        let (part, parts) = self.shard;
        let is_mine = parts == 0 || place.index % parts == part;
        let input = self.input(problem.as_deref());
        let text = problem.map_or(Ok(self.text.as_str()), Err);
        Ok(Some(Entry { place, input, is_mine, text }))
    }

    fn input(&mut self, problem: Option<&str>) -> u64 {
        let mut hash = Fnv::default();
        hash.add(problem.unwrap_or(&self.text).as_bytes());
        let seen = self.seen.add(hash.finish());
        hash.add(&seen.to_le_bytes());
        hash.finish()
    }
}

/// Reads an input before it is answered: counts its items and refuses an output that was begun with others, so that no
/// answer in it is lost.
///
/// # Errors
/// If the input cannot be read, or the output cannot be gone on with.
pub fn survey(
    lines: Input<'_>,
    output: &Journal,
    shard: (usize, usize),
    limit: Option<usize>,
) -> Result<usize, BatchError> {
    let mut items = Items::new(lines, shard);
    let mut counts = Counts::default();
    while let Some(Entry { input, is_mine, .. }) = items.next()? {
        if is_mine {
            output.count(input, &mut counts);
        } else {
            output.check_other_shard(input)?;
        }
    }
    output.check_kept(counts)?;
    let all = counts.kept + counts.again + counts.new;
    Ok(limit.map_or(all, |limit| limit.max(counts.kept).min(all)))
}
