//! What an answer depends on.

use std::sync::Mutex;

use super::super::answer::Answer;
use super::super::interrupt::Interrupts;
use super::settings::Settings;

/// What an answer depends on besides the conversation, and where it goes.
pub(super) struct Asking<'a> {
    pub(super) settings: &'a Settings,
    pub(super) interrupts: &'a Interrupts,
    /// Of this answer.
    pub(super) seed: u64,
    /// Tokens to guess ahead.
    pub(super) lookup: usize,
    pub(super) printed: &'a Mutex<Answer>,
    /// Whether it is more of the last answer.
    pub(super) goes_on: bool,
}
