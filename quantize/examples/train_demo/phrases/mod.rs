//! What people say and what the demo answers: one row per intent. The notation is that of `dialogues`.

mod home;
mod kiosk;
mod slots;

pub(crate) use self::slots::SLOTS;

/// Every intent.
pub(crate) fn intents() -> impl Iterator<Item = &'static Intent> {
    home::HOME.iter().chain(kiosk::KIOSK)
}

/// One intent: a family of requests with the same form of answer.
pub(crate) struct Intent {
    pub(crate) name: &'static str,
    /// Relative frequency in training.
    pub(crate) weight: u32,
    /// Phrases to learn from.
    pub(crate) train: &'static [&'static str],
    /// Phrases kept out of training.
    pub(crate) held_out: &'static [&'static str],
    /// Answers; each request gets one of them.
    pub(crate) replies: &'static [&'static str],
    /// The action line, for commands.
    pub(crate) action: Option<&'static str>,
}
