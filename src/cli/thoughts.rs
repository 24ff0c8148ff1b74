//! What a model thinks before it answers, for people: on standard error, apart from the answer.

use std::io::{IsTerminal, Write};

use super::output::{has_colours, has_events, is_quiet, printable};
use crate::generate::Thinking;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Shows reasoning as it comes: on a terminal, or where it was asked for.
pub(super) struct Thoughts {
    is_shown: bool,
    is_dim: bool,
    /// Some was shown, and no answer since.
    is_open: bool,
}

impl Thoughts {
    /// For an answer with what was said about thinking.
    pub(super) fn new(think: Option<Thinking>) -> Thoughts {
        let is_shown = match think {
            Some(Thinking::On) => true,
            Some(Thinking::Hide) => false,
            Some(Thinking::Off) | None => std::io::stderr().is_terminal() && !is_quiet(),
        };
        // A program that reads events finds the reasoning in them.
        Thoughts { is_shown: is_shown && !has_events(), is_dim: has_colours(), is_open: false }
    }

    /// Shows what came: reasoning, or an answer after it.
    pub(super) fn push(&mut self, reasoning: &str, answer: &str) {
        if self.is_shown && !reasoning.is_empty() {
            let style = if self.is_dim && !self.is_open { DIM } else { "" };
            self.is_open = true;
            say(&format!("{style}{}", printable(reasoning)));
        }
        if !answer.is_empty() {
            self.finish();
        }
    }

    /// Ends what is shown.
    pub(super) fn finish(&mut self) {
        if std::mem::take(&mut self.is_open) {
            say(if self.is_dim { "\x1b[0m\n\n" } else { "\n\n" });
        }
    }
}

impl Drop for Thoughts {
    /// A terminal is left as it was also after an error.
    fn drop(&mut self) {
        if self.is_open && self.is_dim {
            say(PLAIN);
        }
    }
}

/// If nobody listens, nothing is lost.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
