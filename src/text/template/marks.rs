//! How models mark reasoning, found by what a template mentions.

use crate::text::Tokenizer;

/// What stands around reasoning in an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct ReasoningMarks {
    /// What it starts with.
    pub open: &'static str,
    /// What ends it.
    pub close: &'static str,
    /// What stands around the answer after it; empty for nothing.
    pub answer: (&'static str, &'static str),
}

const fn marks(open: &'static str, close: &'static str) -> ReasoningMarks {
    ReasoningMarks { open, close, answer: ("", "") }
}

/// All marks. The first that a template mentions counts, else the first that are tokens of the vocabulary.
const MARKS: &[ReasoningMarks] = &[
    marks("<|START_THINKING|>", "<|END_THINKING|>"),
    marks("[THINK]", "[/THINK]"),
    marks("<seed:think>", "</seed:think>"),
    marks("<|channel>thought", "<channel|>"),
    ReasoningMarks { answer: ("<response>", "</response>"), ..marks("<think>", "</think>") },
    marks("<thinking>", "</thinking>"),
    marks("<thought>", "</thought>"),
    marks("<reasoning>", "</reasoning>"),
    marks("Here is my thought process:", "Here is my response:"),
];

/// The marks of a template, else of a vocabulary.
pub(super) fn find(source: &str, tokenizer: &Tokenizer) -> Option<&'static ReasoningMarks> {
    let is_mentioned = |marks: &&ReasoningMarks| source.contains(marks.open) || source.contains(marks.close);
    let is_known = |marks: &&ReasoningMarks| {
        [marks.open, marks.close].iter().all(|mark| tokenizer.added_token(mark).is_some())
    };
    MARKS.iter().find(is_mentioned).or_else(|| MARKS.iter().find(is_known))
}
