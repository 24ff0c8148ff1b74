//! Jobs that a model works on side by side, and whose results are wanted in order.

use std::collections::VecDeque;

use crate::generate::{Done, GenerateError, Job, Slots, Ticket};

/// Results that wait for one before them, per slot.
const AHEAD: usize = 8;

/// What came of a job.
pub(super) type Answer = Result<Done, GenerateError>;

/// Jobs under way with what is to be done with their results, in order.
pub(super) struct Ordered<T> {
    entries: VecDeque<Entry<T>>,
}

struct Entry<T> {
    what: T,
    /// Of a job that has not ended.
    ticket: Option<Ticket>,
    answer: Option<Answer>,
}

impl<T> Ordered<T> {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether another job should be begun now.
    pub(super) fn has_room(&self, slots: &Slots<'_>) -> bool {
        slots.jobs() < slots.len() && self.entries.len() < AHEAD * slots.len()
    }

    /// Whether the first has ended.
    pub(super) fn is_ready(&self) -> bool {
        self.entries.front().is_some_and(|entry| entry.ticket.is_none())
    }

    /// Adds what needs no model.
    pub(super) fn push(&mut self, what: T) {
        self.entries.push_back(Entry { what, ticket: None, answer: None });
    }

    /// Begins a job.
    ///
    /// # Errors
    /// As [`Slots::submit`]; not if there is room.
    pub(super) fn begin<'a>(
        &mut self,
        what: T,
        job: Job<'a>,
        slots: &mut Slots<'a>,
    ) -> Result<(), GenerateError> {
        let ticket = Some(slots.submit(job)?);
        self.entries.push_back(Entry { what, ticket, answer: None });
        Ok(())
    }

    /// Takes the first, if it has ended, with what came of it, if it was a job.
    pub(super) fn pop(&mut self) -> Option<(T, Option<Answer>)> {
        if !self.is_ready() {
            return None;
        }
        self.entries.pop_front().map(|entry| (entry.what, entry.answer))
    }

    /// Goes one step further.
    pub(super) fn step(&mut self, slots: &mut Slots<'_>) {
        slots.step(&mut |ticket, answer| {
            if let Some(entry) = self.entries.iter_mut().find(|entry| entry.ticket == Some(ticket)) {
                (entry.ticket, entry.answer) = (None, Some(answer));
            }
        });
    }
}
