//! Work on a sequence that needs a model: it says what is to be read next, and takes the logits.
//!
//! Who has the model drives it: a session one task, an engine many.

use std::ops::Range;

use crate::model::LogitRows;

use super::GenerateError;
pub(super) use super::limits::{Limits, Rewind};
use super::sequence::{OnToken, Sequence};

/// Tokens that one step has room for, and rows of logits that a task gets at once, at least one of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) tokens: usize,
    pub(super) rows: usize,
}

/// What the model is to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The tokens, of [`Sequence::all`]: those that follow the cache.
    pub(super) range: Range<usize>,
    /// How many of them, the last ones, want logits: not more than there is room for, unless the task takes them some at a
    /// time.
    pub(super) rows: usize,
}

pub(super) trait Task {
    /// What the model is to read next; nothing if the task has come to its end.
    fn next(&mut self, sequence: &mut Sequence, cache: &mut dyn Rewind, room: Room) -> Option<Read>;

    /// Takes the logits of what [`Self::next`] said.
    ///
    /// # Errors
    /// Ends the task; what the cache holds is in doubt.
    fn take(
        &mut self,
        sequence: &mut Sequence,
        logits: LogitRows<'_>,
        on_token: OnToken<'_>,
    ) -> Result<(), GenerateError>;

    /// Whether it has come to its end, and wants nothing read.
    fn is_over(&self) -> bool;

    /// Whether it was asked to stop.
    fn is_cancelled(&self) -> bool;

    /// Ends it where it is: what it said last was not read, or not to the end.
    fn interrupt(&mut self);
}
