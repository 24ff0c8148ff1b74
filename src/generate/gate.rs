//! A rule for the answer that leaves the reasoning before it free. See [`Gate`].

use std::sync::Arc;

use crate::text::{EncodeOptions, ReasoningMarks, Tokenizer};

use super::layout::Opening;
use super::{FilterError, Layout, LogitFilter};

/// Line ends that may stand between reasoning and answer.
const MAX_LINE_ENDS: usize = 2;
/// Reasoning leaves the answer one of so many parts of the tokens that may come.
const ANSWER_PART: usize = 4;
/// Tokens that may open reasoning at most.
const MAX_OPENERS: usize = 256;

/// How far the model has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was said: reasoning may open, or the answer begin.
    Start,
    /// The mark that opens reasoning is under way.
    Opening,
    Inside,
    /// The reasoning is over; line ends may come before the answer.
    Between,
    Answer,
}

/// Holds back a filter until the reasoning is over. Until then the model may say what it likes, but not end; where it
/// goes in circles or would leave no room for the answer, the mark that ends it is put in.
pub(super) struct Gate<'a> {
    inner: Box<dyn LogitFilter + 'a>,
    shown: Arc<Shown>,
    marks: &'static ReasoningMarks,
    /// Tokens that end an answer; reasoning is no answer.
    ends: Vec<u32>,
    /// Tokens of the mark that ends reasoning.
    closing: Vec<u32>,
    /// How many of them were put in, where they are.
    closed: Option<usize>,
    /// Tokens that are kept for the answer; known with the first.
    kept: Option<usize>,
    phase: Phase,
    /// Line ends since the reasoning.
    line_ends: usize,
    /// The end of what was said, as far as marks need it.
    tail: String,
    /// Tokens that are allowed although the filter forbids them, with their logits.
    spared: Vec<(u32, f32)>,
}

/// How tokens look.
struct Shown {
    layout: Layout,
    tokenizer: Arc<Tokenizer>,
}

impl Shown {
    /// The text of a token; none for one that is no text.
    fn text(&self, id: u32) -> &[u8] {
        match self.layout.mark(&self.tokenizer, id) {
            Some(mark) => mark.as_bytes(),
            None if self.tokenizer.is_special(id) => &[],
            None => self.tokenizer.piece(id),
        }
    }
}

impl<'a> Gate<'a> {
    /// `marks` are those of the layout.
    pub(super) fn new(
        inner: Box<dyn LogitFilter + 'a>,
        layout: Layout,
        marks: &'static ReasoningMarks,
        tokenizer: Arc<Tokenizer>,
        ends: Vec<u32>,
    ) -> Gate<'a> {
        let capacity = marks.close.len().max(marks.open.len()) + tokenizer.longest_piece();
        let (tail, spared) = (String::with_capacity(4 * capacity), Vec::with_capacity(MAX_OPENERS));
        let mut closing = vec![];
        // Without them reasoning ends where the model ends it.
        let _ = tokenizer.encode(
            marks.close,
            EncodeOptions { add_special: false, parse_special: true },
            &mut closing,
        );
        Gate {
            inner,
            shown: Arc::new(Shown { layout, tokenizer }),
            marks,
            ends,
            closing,
            closed: None,
            kept: None,
            phase: Phase::Start,
            line_ends: 0,
            tail,
            spared,
        }
    }

    /// The next token of the mark that ends reasoning, if it is put in: `room` more may follow.
    fn next_closing(&mut self, room: usize) -> Option<u32> {
        let kept = self.kept?.max(self.inner.least_tokens());
        if room < kept.saturating_add(self.closing.len()) {
            self.closed.get_or_insert(0);
        }
        self.closing.get(self.closed?).copied()
    }

    fn forbid(&self, logits: &mut [f32], is_bad: impl Fn(&[u8]) -> bool) {
        for (id, logit) in (0u32..).zip(logits.iter_mut()) {
            if self.ends.contains(&id) || is_bad(self.shown.text(id)) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Applies the filter but leaves tokens alone that `is_free` holds for.
    fn apply_sparing(
        &mut self,
        logits: &mut [f32],
        is_free: impl Fn(&[u8]) -> bool,
    ) -> Result<(), FilterError> {
        self.spared.clear();
        for (id, logit) in (0u32..).zip(logits.iter()) {
            let text = self.shown.text(id);
            if !text.is_empty() && self.spared.len() < MAX_OPENERS && is_free(text) {
                self.spared.push((id, *logit));
            }
        }
        self.inner.apply(logits)?;
        // What the filter allows too belongs to the answer: both may begin with the same characters.
        self.spared.retain(|(id, _)| logits[*id as usize] == f32::NEG_INFINITY);
        self.spared.iter().for_each(|(id, logit)| logits[*id as usize] = *logit);
        Ok(())
    }

    /// What of the opening mark is still to come.
    fn rest_of_open(&self) -> &'static [u8] {
        &self.marks.open.as_bytes()[self.tail.len().min(self.marks.open.len())..]
    }
}

/// Whether a token goes on with a mark of which `rest` is to come.
fn goes_on(text: &[u8], rest: &[u8]) -> bool {
    !text.is_empty() && (rest.starts_with(text) || text.starts_with(rest))
}

/// The longest end of `text` that `mark` starts with.
fn partial(text: &str, mark: &str) -> usize {
    let longest = text.len().min(mark.len() - 1);
    (1..=longest).rev().find(|len| text.as_bytes().ends_with(&mark.as_bytes()[..*len])).unwrap_or(0)
}

impl LogitFilter for Gate<'_> {
    fn start(&mut self, prompt: &[u32]) {
        self.tail.clear();
        self.line_ends = 0;
        (self.closed, self.kept) = (None, None);
        self.inner.start(prompt);
        self.phase = match self.shown.layout.opening(&self.shown.tokenizer, prompt) {
            _ if self.inner.has_part() => Phase::Answer,
            Opening::Free => Phase::Start,
            Opening::Inside => Phase::Inside,
            Opening::Done => Phase::Answer,
        };
    }

    fn apply(&mut self, logits: &mut [f32]) -> Result<(), FilterError> {
        let rest = self.rest_of_open();
        match self.phase {
            Phase::Start => self.apply_sparing(logits, |text| goes_on(text.trim_ascii_start(), rest)),
            Phase::Opening => {
                self.forbid(logits, |text| !goes_on(text, rest));
                Ok(())
            }
            Phase::Inside => {
                let close = self.marks.close;
                // A token that ends the mark and begins the answer would do so unseen by the filter.
                let rest = &close.as_bytes()[partial(&self.tail, close)..];
                if rest.len() < close.len() {
                    self.forbid(logits, |text| {
                        text.strip_prefix(rest).is_some_and(|after| !after.trim_ascii().is_empty())
                    });
                }
                for id in &self.ends {
                    if let Some(logit) = logits.get_mut(*id as usize) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
                Ok(())
            }
            Phase::Between => {
                let room = MAX_LINE_ENDS - self.line_ends;
                self.apply_sparing(logits, |text| {
                    text.len() <= room && text.iter().all(|byte| *byte == b'\n')
                })
            }
            Phase::Answer => self.inner.apply(logits),
        }
    }

    /// Within the reasoning every token is taken while there is room for the answer.
    fn settle(&mut self, token: u32, room: usize) -> Result<u32, FilterError> {
        self.kept.get_or_insert(room / ANSWER_PART);
        if self.phase == Phase::Inside {
            return Ok(self.next_closing(room).unwrap_or(token));
        }
        let shown = Arc::clone(&self.shown);
        let text = String::from_utf8_lossy(shown.text(token));
        let is_answer = match self.phase {
            Phase::Start => !goes_on(text.trim_start().as_bytes(), self.rest_of_open()),
            Phase::Opening => !goes_on(text.as_bytes(), self.rest_of_open()),
            Phase::Between => text.is_empty() || text.bytes().any(|byte| byte != b'\n'),
            Phase::Inside | Phase::Answer => true,
        };
        if is_answer { self.inner.settle(token, room) } else { Ok(token) }
    }

    fn is_free(&self) -> bool {
        self.phase == Phase::Inside
    }

    fn end_reasoning(&mut self) -> bool {
        let is_inside = self.phase == Phase::Inside && !self.closing.is_empty();
        if is_inside {
            self.closed.get_or_insert(0);
        }
        is_inside
    }

    fn is_whole(&mut self) -> bool {
        self.phase == Phase::Answer && self.inner.is_whole()
    }

    fn least_tokens(&self) -> usize {
        let closing = if self.phase == Phase::Inside { self.closing.len() } else { 0 };
        self.inner.least_tokens().saturating_add(closing)
    }

    fn accept(&mut self, token: u32) -> Result<(), FilterError> {
        let shown = Arc::clone(&self.shown);
        let text = String::from_utf8_lossy(shown.text(token));
        match self.phase {
            Phase::Start | Phase::Opening => {
                let begun = if self.phase == Phase::Start { text.trim_start() } else { &text };
                let is_spared = self.spared.iter().any(|(id, _)| *id == token);
                let is_opening = self.phase == Phase::Opening || is_spared;
                if !is_opening {
                    self.phase = Phase::Answer;
                    return self.inner.accept(token);
                }
                self.tail.push_str(begun);
                let is_whole = self.tail.len() >= self.marks.open.len();
                self.phase = if is_whole { Phase::Inside } else { Phase::Opening };
                if is_whole {
                    self.tail.clear();
                }
            }
            Phase::Inside => {
                if let Some(closed) = &mut self.closed {
                    *closed += 1;
                }
                self.tail.push_str(&text);
                if self.tail.contains(self.marks.close) {
                    self.phase = Phase::Between;
                    self.inner.start(&[token]);
                    return Ok(());
                }
                let kept = partial(&self.tail, self.marks.close);
                self.tail.drain(..self.tail.len() - kept);
            }
            Phase::Between => {
                let room = MAX_LINE_ENDS - self.line_ends;
                let is_spared = self.spared.iter().any(|(id, _)| *id == token);
                if !is_spared || text.len() > room {
                    self.phase = Phase::Answer;
                    return self.inner.accept(token);
                }
                self.line_ends += text.len();
                self.inner.start(&[token]);
            }
            Phase::Answer => return self.inner.accept(token),
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.phase == Phase::Answer && self.inner.is_done()
    }
}
