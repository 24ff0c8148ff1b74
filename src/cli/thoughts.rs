//! What a model thinks before it answers, for people: on standard error, apart from the answer.

use super::output::{has_colours, has_events, is_quiet};
use crate::console::{Code, Pieces, Screen, Stream};
use crate::generate::Thinking;

/// Shows reasoning as it comes: on a terminal, or where it was asked for.
pub(super) struct Thoughts {
    is_shown: bool,
    is_dim: bool,
    /// Some was shown, and no answer since.
    is_open: bool,
    pieces: Pieces,
}

impl Thoughts {
    /// For an answer with what was said about thinking.
    pub(super) fn new(think: Option<Thinking>) -> Thoughts {
        let is_shown = match think {
            Some(Thinking::On) => true,
            Some(Thinking::Hide) => false,
            Some(Thinking::Off) | None => Stream::Err.is_terminal() && !is_quiet(),
        };
        // A program that reads events finds the reasoning in them.
        Thoughts {
            is_shown: is_shown && !has_events(),
            is_dim: has_colours(),
            is_open: false,
            pieces: Pieces::default(),
        }
    }

    /// Shows what came: reasoning, or an answer after it.
    pub(super) fn push(&mut self, reasoning: &str, answer: &str) {
        if self.is_shown && !reasoning.is_empty() {
            let begins = !std::mem::replace(&mut self.is_open, true);
            let screen = if self.is_dim && begins { Screen::new().code(Code::Dim) } else { Screen::new() };
            screen.answer(&self.pieces.push(reasoning)).say();
        }
        if !answer.is_empty() {
            self.finish();
        }
    }

    /// What follows looks as usual.
    fn plain(&self) -> Screen {
        if self.is_dim { Screen::new().code(Code::Plain) } else { Screen::new() }
    }

    /// Ends what is shown.
    pub(super) fn finish(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.plain().text("\n\n").say();
        }
    }
}

impl Drop for Thoughts {
    /// A terminal is left as it was also after an error.
    fn drop(&mut self) {
        if self.is_open {
            self.plain().say();
        }
    }
}
