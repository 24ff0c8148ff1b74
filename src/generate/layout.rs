//! The parts of an answer: what the model thinks, what it says and which functions it calls. See [`Layout`].

use crate::text::{ReasoningMarks, Tokenizer, ToolCall};

use super::CallFormat;
use super::stop::{Released, StopBuffer};

/// Tokens at the end of a prompt in which an opening mark is looked for.
const OPENING_TOKENS: usize = 64;

/// Whether a model thinks before it answers, and whether that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// It thinks, and says what.
    On,
    /// It answers at once.
    Off,
    /// It thinks, and only the answer is told.
    Hide,
}

impl Thinking {
    /// All, by their names.
    pub const NAMES: [(&'static str, Thinking); 3] =
        [("on", Thinking::On), ("off", Thinking::Off), ("hide", Thinking::Hide)];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Thinking> {
        Thinking::NAMES.iter().find(|(known, _)| *known == name).map(|(_, thinking)| *thinking)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Thinking::NAMES.iter().find(|(_, thinking)| *thinking == self).map_or("", |(name, _)| name)
    }

    /// Whether the model is asked to think.
    pub fn is_asked(self) -> bool {
        self != Thinking::Off
    }
}

/// What stands around calls in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallMarks {
    /// What a call starts with; empty where the answer as a whole is calls that start with a brace.
    pub(super) open: &'static str,
    /// What ends it; empty for the end of the answer.
    pub(super) close: &'static str,
}

/// The marks by which an answer is split while it is generated. Marks are text, or control tokens, which are text
/// here and nowhere else.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub(super) reasoning: Option<&'static ReasoningMarks>,
    pub(super) calls: Option<CallMarks>,
    format: Option<&'static CallFormat>,
    /// Control tokens that are marks.
    visible: Vec<u32>,
}

impl Layout {
    /// For the answers of a model with this vocabulary that thinks between these marks and calls functions so.
    pub fn new(
        tokenizer: &Tokenizer,
        reasoning: Option<&'static ReasoningMarks>,
        format: Option<&'static CallFormat>,
    ) -> Layout {
        let thoughts = reasoning.iter().flat_map(|marks| [marks.open, marks.close]);
        let marks = thoughts.chain(format.iter().flat_map(|format| format.marks()));
        let ids = marks.filter_map(|mark| tokenizer.added_token(mark));
        let visible = ids.filter(|id| tokenizer.is_special(*id) && !tokenizer.is_end(*id)).collect();
        let calls = format.map(|format| CallMarks { open: format.open, close: format.close });
        Layout { reasoning, calls, format, visible }
    }

    /// The calls that a text is; `None` if it is anything else.
    pub(super) fn parse_calls(&self, text: &str) -> Option<Vec<ToolCall>> {
        self.format?.parse(text)
    }

    /// Whether there is nothing to split.
    pub fn is_empty(&self) -> bool {
        self.reasoning.is_none() && self.calls.is_none()
    }

    /// The text of a token that is a mark.
    pub(super) fn mark<'t>(&self, tokenizer: &'t Tokenizer, id: u32) -> Option<&'t str> {
        let piece = self.visible.contains(&id).then(|| tokenizer.piece(id))?;
        std::str::from_utf8(piece).ok()
    }

    /// What a prompt leaves to the model.
    pub(super) fn opening(&self, tokenizer: &Tokenizer, prompt: &[u32]) -> Opening {
        let Some(marks) = self.reasoning else { return Opening::Done };
        let last = &prompt[prompt.len().saturating_sub(OPENING_TOKENS)..];
        let text = tokenizer.decode_lossy(last, false);
        match text.trim_end() {
            end if end.ends_with(marks.open) => Opening::Inside,
            end if end.ends_with(marks.close) => Opening::Done,
            _ => Opening::Free,
        }
    }
}

/// Where an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// The model may think or answer.
    Free,
    /// The prompt opened the reasoning.
    Inside,
    /// There is no reasoning, or the prompt ended it.
    Done,
}

/// Where in an answer the next text belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Reasoning may still open.
    #[default]
    Start,
    /// The mark was read, and nothing but white space since.
    ReasoningStart,
    Reasoning,
    /// The answer, of which nothing but white space was read.
    AnswerStart,
    Answer,
    Call,
}

/// Splits an answer as it comes. The outcome does not depend on how the text is cut into pieces.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    reasoning_marks: Option<&'static ReasoningMarks>,
    call_marks: Option<CallMarks>,
    format: Option<&'static CallFormat>,
    part: Part,
    /// There was reasoning, perhaps empty.
    thought: bool,
    /// Text whose part is not certain yet.
    held: String,
    reasoning: String,
    /// Bytes of the reasoning that were given out.
    given: usize,
    /// Calls with their marks.
    calls: String,
}

impl Splitter {
    /// Starts an answer; texts of up to `capacity` bytes will need no memory.
    pub(super) fn start(&mut self, layout: &Layout, opening: Opening, capacity: usize) {
        self.reasoning_marks = layout.reasoning;
        self.call_marks = layout.calls;
        self.format = layout.format;
        self.part = match opening {
            Opening::Inside => Part::ReasoningStart,
            Opening::Free => Part::Start,
            Opening::Done => Part::AnswerStart,
        };
        self.thought = opening == Opening::Inside;
        self.given = 0;
        for text in [&mut self.held, &mut self.reasoning, &mut self.calls] {
            text.clear();
        }
        self.held.reserve(capacity);
        self.reasoning.reserve(if layout.reasoning.is_some() { capacity } else { 0 });
        self.calls.reserve(if layout.calls.is_some() { capacity } else { 0 });
    }

    /// The reasoning.
    pub(super) fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// The calls, with their marks.
    pub(super) fn calls(&self) -> &str {
        &self.calls
    }

    /// The reasoning that came since the last call.
    pub(super) fn take_reasoning(&mut self) -> &str {
        let from = std::mem::replace(&mut self.given, self.reasoning.len());
        &self.reasoning[from..]
    }

    /// Adds a piece; what is certainly part of the answer goes to `answer`.
    pub(super) fn push(&mut self, piece: &str, answer: &mut StopBuffer, stops: &[String]) -> Released {
        self.held.push_str(piece);
        let mut all = answer.push("", stops);
        while all.stopped.is_none() && !self.held.is_empty() {
            let Step { to, taken, dropped, next } = self.step();
            let done = taken == 0 && dropped == 0 && next == self.part;
            if taken > 0 {
                let text = &self.held[..taken];
                match to {
                    Part::Answer => {
                        let released = answer.push(text, stops);
                        all.range.end = released.range.end;
                        all.stopped = released.stopped;
                    }
                    Part::Call => self.calls.push_str(text),
                    _ => self.reasoning.push_str(text),
                }
            }
            self.held.drain(..taken + dropped);
            self.part = next;
            self.thought |= next == Part::ReasoningStart;
            if done {
                break;
            }
        }
        all
    }

    /// Ends the answer: what was held back belongs to the part it came in.
    pub(super) fn finish(&mut self, answer: &mut StopBuffer) {
        let held = std::mem::take(&mut self.held);
        match self.part {
            Part::Start | Part::AnswerStart | Part::Answer => {
                let is_blank = self.part == Part::AnswerStart || !self.calls.is_empty();
                answer.push(if is_blank { held.trim_end() } else { &held }, &[]);
            }
            Part::ReasoningStart | Part::Reasoning => self.reasoning.push_str(held.trim_end()),
            Part::Call => self.calls.push_str(&held),
        }
        self.held = held;
        self.held.clear();
    }

    /// What is certain about the text that is held.
    fn step(&self) -> Step {
        let held = self.held.as_str();
        let blank = held.len() - held.trim_start().len();
        match (self.part, self.reasoning_marks) {
            (Part::Start, Some(marks)) => match starts(&held[blank..], marks.open) {
                Some(true) => Step::skip(blank + marks.open.len(), Part::ReasoningStart),
                Some(false) => Step::wait(self.part),
                None => Step::skip(0, Part::AnswerStart),
            },
            (Part::ReasoningStart, _) if blank == held.len() => Step::skip(blank, self.part),
            (Part::ReasoningStart, _) => Step::skip(blank, Part::Reasoning),
            (Part::Reasoning, Some(marks)) => match held.find(marks.close) {
                Some(at) => {
                    let kept = held[..at].trim_end().len();
                    let dropped = at + marks.close.len() - kept;
                    Step { to: self.part, taken: kept, dropped, next: Part::AnswerStart }
                }
                None => Step::take(self.part, certain(held, marks.close, true)),
            },
            (Part::AnswerStart, marks) => self.answer_start(held, blank, marks),
            (Part::Answer, marks) => self.answer(held, marks),
            (Part::Call, _) => match self.call_marks.map_or("", |marks| marks.close) {
                "" => Step::take(Part::Call, held.len()),
                close => match held.find(close) {
                    Some(at) => {
                        let taken = at + close.len();
                        let next =
                            if self.ends_call(&held[..taken]) { Part::AnswerStart } else { Part::Call };
                        Step { to: Part::Call, taken, dropped: 0, next }
                    }
                    None => Step::take(Part::Call, certain(held, close, false)),
                },
            },
            (Part::Start | Part::Reasoning, None) => Step::skip(0, Part::AnswerStart),
        }
    }

    /// Whether a call ends with `end`: it goes on where that is within a text of its arguments.
    fn ends_call(&self, end: &str) -> bool {
        self.format.is_none_or(|format| format.parse(&[&self.calls, end].concat()).is_some())
    }

    fn answer_start(&self, held: &str, blank: usize, marks: Option<&ReasoningMarks>) -> Step {
        let text = &held[blank..];
        // Of an answer without reasoning and calls before it every character counts.
        let is_first = !self.thought && self.calls.is_empty();
        if let Some((open, _)) = marks.map(|marks| marks.answer).filter(|(open, _)| !open.is_empty()) {
            match starts(text, open).filter(|_| self.thought) {
                Some(true) => return Step::skip(blank + open.len(), Part::AnswerStart),
                Some(false) => return Step::wait(self.part),
                None => {}
            }
        }
        let opening = self.call_marks.map(|marks| marks.open);
        if text.is_empty() {
            return if is_first && opening.is_none() {
                Step::skip(0, Part::Answer)
            } else {
                Step::wait(self.part)
            };
        }
        match opening {
            Some("") if text.starts_with(['{', '[']) => Step::skip(blank, Part::Call),
            Some(open) if !open.is_empty() && starts(text, open) == Some(true) => {
                Step::skip(blank, Part::Call)
            }
            _ if is_first => Step::skip(0, Part::Answer),
            _ => Step::skip(blank, Part::Answer),
        }
    }

    fn answer(&self, held: &str, marks: Option<&ReasoningMarks>) -> Step {
        let closing = marks.map_or("", |marks| marks.answer.1);
        let closing = if self.thought { closing } else { "" };
        let opening = self.call_marks.map_or("", |marks| marks.open);
        let find = |mark: &str| if mark.is_empty() { None } else { held.find(mark) };
        match (find(opening), find(closing)) {
            (Some(at), end) if end.is_none_or(|end| at < end) => {
                let kept = held[..at].trim_end().len();
                Step { to: Part::Answer, taken: kept, dropped: at - kept, next: Part::Call }
            }
            (_, Some(at)) => {
                Step { to: Part::Answer, taken: at, dropped: closing.len(), next: Part::AnswerStart }
            }
            _ => {
                let opened = if opening.is_empty() { held.len() } else { certain(held, opening, true) };
                let closed = if closing.is_empty() { held.len() } else { certain(held, closing, false) };
                Step::take(Part::Answer, opened.min(closed))
            }
        }
    }
}

/// What to do with the text that is held.
struct Step {
    /// Where the first bytes belong.
    to: Part,
    taken: usize,
    /// Bytes after them that belong nowhere.
    dropped: usize,
    next: Part,
}

impl Step {
    fn wait(part: Part) -> Step {
        Step { to: part, taken: 0, dropped: 0, next: part }
    }

    fn take(part: Part, taken: usize) -> Step {
        Step { to: part, taken, dropped: 0, next: part }
    }

    fn skip(dropped: usize, next: Part) -> Step {
        Step { to: next, taken: 0, dropped, next }
    }
}

/// Whether `text` starts with `mark`; `Some(false)` if it may once there is more of it.
fn starts(text: &str, mark: &str) -> Option<bool> {
    if text.starts_with(mark) { Some(true) } else { mark.starts_with(text).then_some(false) }
}

/// Bytes of `text` that are no part of a mark that may be coming, nor of white space before one if that is `wide`.
fn certain(text: &str, mark: &str, wide: bool) -> usize {
    let from = text.len().saturating_sub(mark.len());
    let is_open = |at: &usize| text.get(*at..).is_some_and(|end| mark.starts_with(end));
    let end = (from..text.len()).find(is_open).unwrap_or(text.len());
    if wide { text[..end].trim_end().len() } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THINK: ReasoningMarks = ReasoningMarks { open: "<think>", close: "</think>", answer: ("", "") };
    const GRANITE: ReasoningMarks = ReasoningMarks { answer: ("<response>", "</response>"), ..THINK };
    const CALL: CallMarks = CallMarks { open: "<call>", close: "</call>" };
    const BARE: CallMarks = CallMarks { open: "", close: "" };

    /// Reasoning, answer and calls of a text that comes in the given pieces.
    fn split<'a>(
        layout: &Layout,
        is_open: bool,
        pieces: impl Iterator<Item = &'a str>,
        stops: &[String],
    ) -> [String; 3] {
        let opening = if is_open { Opening::Inside } else { Opening::Free };
        let opening = if layout.reasoning.is_some() { opening } else { Opening::Done };
        let (mut splitter, mut answer) = (Splitter::default(), StopBuffer::new(8));
        splitter.start(layout, opening, 8);
        let (mut given, mut said) = (String::new(), String::new());
        for piece in pieces {
            let released = splitter.push(piece, &mut answer, stops);
            given.push_str(splitter.take_reasoning());
            let is_stopped = released.stopped.is_some();
            said.push_str(&answer.text()[released.range]);
            if is_stopped {
                break;
            }
        }
        splitter.finish(&mut answer);
        given.push_str(splitter.take_reasoning());
        assert_eq!(given, splitter.reasoning());
        assert!(answer.text().starts_with(&said), "{said:?} {:?}", answer.text());
        [given, answer.text().to_owned(), splitter.calls().to_owned()]
    }

    fn layout(reasoning: Option<&'static ReasoningMarks>, calls: Option<CallMarks>) -> Layout {
        Layout { reasoning, calls, format: None, visible: vec![] }
    }

    #[test]
    fn parts_do_not_depend_on_how_the_text_is_cut() {
        let both = || layout(Some(&THINK), Some(CALL));
        for (layout, is_open, text, expected) in [
            (both(), false, "<think>\nA \u{e4}\nB\n</think>\n\nHi!\n", ["A \u{e4}\nB", "Hi!\n", ""]),
            (both(), false, " \n<think></think>Hi", ["", "Hi", ""]),
            (both(), false, "<think>\n\n</think>\n\nHi", ["", "Hi", ""]),
            (both(), true, "\nA</think>\n Hi", ["A", "Hi", ""]),
            (both(), true, "A </thin </think", ["A </thin </think", "", ""]),
            (both(), false, "<thin", ["", "<thin", ""]),
            (both(), false, "\n Hi <think>A</think>", ["", "\n Hi <think>A</think>", ""]),
            (
                both(),
                false,
                "Hi <call>{}</call>\n<call>1</call> \n",
                ["", "Hi", "<call>{}</call><call>1</call>"],
            ),
            (both(), false, "<think>A</think>\n<call>x</call>Bye <cal", ["A", "Bye <cal", "<call>x</call>"]),
            (both(), false, "a\n\n<call>x", ["", "a", "<call>x"]),
            (
                layout(Some(&GRANITE), None),
                false,
                "<think>A</think>\n<response>Hi</response>",
                ["A", "Hi", ""],
            ),
            (
                layout(Some(&GRANITE), None),
                false,
                "<response>Hi</response>",
                ["", "<response>Hi</response>", ""],
            ),
            (layout(None, Some(BARE)), false, "\n{\"name\":1}", ["", "", "{\"name\":1}"]),
            (layout(None, Some(BARE)), false, " Hi {}", ["", " Hi {}", ""]),
        ] {
            let chars = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
            assert_eq!(split(&layout, is_open, chars, &[]), expected, "{text:?} by character");
            assert_eq!(split(&layout, is_open, std::iter::once(text), &[]), expected, "{text:?}");
            for cut in text.char_indices().map(|(at, _)| at) {
                let pieces = [&text[..cut], &text[cut..]];
                assert_eq!(split(&layout, is_open, pieces.into_iter(), &[]), expected, "{text:?} at {cut}");
            }
        }
    }

    #[test]
    fn a_mark_within_a_text_ends_no_call() {
        let format = CallFormat::named("hermes").unwrap();
        let calls = Some(CallMarks { open: format.open, close: format.close });
        let layout = Layout { calls, format: Some(format), ..layout(None, None) };
        let call = |text: &str| {
            format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {{\"a\": \"{text}\"}}}}\n</tool_call>")
        };
        let (one, two) = (call("x</tool_call>\\\"}}\\n</tool_call>"), call("<tool_call>"));
        let broken = "<tool_call>x</tool_call> Hi";
        for (text, expected) in [
            (format!("Hi\n{one}\n{two}\nHo"), ["", "HiHo", &format!("{one}{two}")]),
            (one.clone(), ["", "", &one]),
            (broken.to_owned(), ["", "", broken]),
        ] {
            let chars = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
            assert_eq!(split(&layout, false, chars, &[]), expected, "{text:?} by character");
            assert_eq!(split(&layout, false, std::iter::once(text.as_str()), &[]), expected, "{text:?}");
        }
        let parsed = layout.parse_calls(&format!("{one}{two}")).unwrap();
        assert_eq!(parsed[0].arguments["a"], "x</tool_call>\"}}\n</tool_call>");
    }

    #[test]
    fn stop_strings_are_those_of_the_answer() {
        let text = "<think>one\n\ntwo</think>\n\nthree\n\nfour";
        let stops = ["\n\n".to_owned()];
        let parts = split(&layout(Some(&THINK), None), false, text.split_inclusive(' '), &stops);
        assert_eq!(parts, ["one\n\ntwo", "three", ""]);
    }
}
