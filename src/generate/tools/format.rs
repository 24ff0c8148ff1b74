//! How models write calls, as rows of data.

use crate::text::{ChatTemplate, Tokenizer};

/// How one call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// An object with these keys for the name and the arguments, and perhaps one for a number of the call.
    Json { id: Option<&'static str>, name: &'static str, arguments: &'static str },
    /// `name(key="text", other=[1, True])`
    Python,
    /// `call:name{key:"text",other:[1,true]}`, where texts stand between these marks.
    Braces { quote: &'static str },
    /// The name, this mark and an object of arguments.
    Named { mark: &'static str },
}

const JSON: Body = Body::Json { id: None, name: "name", arguments: "arguments" };

/// A format of calls.
#[derive(Debug, PartialEq, Eq)]
pub struct CallFormat {
    /// What it is called here.
    pub name: &'static str,
    /// Texts that only templates and vocabularies of this format have: one of them is enough.
    evidence: &'static [&'static str],
    /// What stands before and behind a call, or a list of calls. Without a first mark the answer is one call and
    /// begins with a brace; without a second, calls go on to the end.
    pub(in crate::generate) open: &'static str,
    pub(in crate::generate) close: &'static str,
    /// Between the marks and the call.
    pub(super) space: &'static str,
    /// Whether calls are a list in brackets.
    pub(super) is_list: bool,
    pub(super) body: Body,
    /// A mark that may end the answer after a call.
    pub(super) after: &'static str,
}

/// With one call between the marks.
const PLAIN: CallFormat = CallFormat {
    name: "json",
    evidence: &[],
    open: "",
    close: "",
    space: "",
    is_list: false,
    body: JSON,
    after: "",
};

/// All formats. The first that a template has evidence of counts, else the first whose marks are tokens of the
/// vocabulary, else the last.
static FORMATS: &[CallFormat] = &[
    CallFormat {
        name: "functiongemma",
        evidence: &["<start_function_call>"],
        open: "<start_function_call>",
        close: "<end_function_call>",
        body: Body::Braces { quote: "<escape>" },
        after: "<start_function_response>",
        ..PLAIN
    },
    CallFormat {
        name: "gemma4",
        evidence: &["<|tool_call>"],
        open: "<|tool_call>",
        close: "<tool_call|>",
        body: Body::Braces { quote: "<|\"|>" },
        after: "<|tool_response>",
        ..PLAIN
    },
    CallFormat {
        name: "lfm2",
        evidence: &["<|tool_call_start|>", "<|tool_list_start|>"],
        open: "<|tool_call_start|>",
        close: "<|tool_call_end|>",
        is_list: true,
        body: Body::Python,
        ..PLAIN
    },
    CallFormat {
        name: "command-r7b",
        evidence: &["<|START_ACTION|>"],
        open: "<|START_ACTION|>",
        close: "<|END_ACTION|>",
        is_list: true,
        body: Body::Json { id: Some("tool_call_id"), name: "tool_name", arguments: "parameters" },
        ..PLAIN
    },
    CallFormat {
        name: "mistral-args",
        evidence: &["[ARGS]"],
        open: "[TOOL_CALLS]",
        body: Body::Named { mark: "[ARGS]" },
        ..PLAIN
    },
    CallFormat { name: "mistral", evidence: &["[TOOL_CALLS]"], open: "[TOOL_CALLS]", is_list: true, ..PLAIN },
    CallFormat {
        name: "phi4",
        evidence: &["<|/tool_call|>"],
        open: "<|tool_call|>",
        close: "<|/tool_call|>",
        is_list: true,
        ..PLAIN
    },
    CallFormat {
        name: "hermes",
        evidence: &["<tool_call>"],
        open: "<tool_call>",
        close: "</tool_call>",
        space: "\n",
        ..PLAIN
    },
    CallFormat {
        name: "granite",
        evidence: &["<|tool_call|>"],
        open: "<|tool_call|>",
        is_list: true,
        ..PLAIN
    },
    CallFormat {
        name: "llama3",
        evidence: &["<|python_tag|>", ": dictionary of argument name", "\"parameters\": '"],
        body: Body::Json { id: None, name: "name", arguments: "parameters" },
        ..PLAIN
    },
    PLAIN,
];

impl CallFormat {
    /// The format of this name.
    pub fn named(name: &str) -> Option<&'static CallFormat> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// The names of all formats.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|format| format.name)
    }

    /// The format of a model with this template and vocabulary. One whose template takes no tools is told of them in
    /// the system message, and answers in JSON.
    pub fn find(template: &ChatTemplate, tokenizer: &Tokenizer) -> &'static CallFormat {
        let is_mentioned = |format: &&CallFormat| format.evidence.iter().any(|text| template.contains(text));
        let is_known = |format: &&CallFormat| {
            let marks = [format.open, format.close];
            let mut marks = marks.iter().filter(|mark| !mark.is_empty()).peekable();
            marks.peek().is_some() && marks.all(|mark| tokenizer.added_token(mark).is_some())
        };
        if !template.takes_tools() {
            return &PLAIN_FORMAT;
        }
        let found = FORMATS.iter().find(is_mentioned).or_else(|| FORMATS.iter().find(is_known));
        found.unwrap_or(&PLAIN_FORMAT)
    }

    /// All marks that may be control tokens.
    pub(in crate::generate) fn marks(&self) -> impl Iterator<Item = &'static str> {
        let inner = match self.body {
            Body::Braces { quote } => quote,
            Body::Named { mark } => mark,
            Body::Json { .. } | Body::Python => "",
        };
        [self.open, self.close, inner, self.after].into_iter().filter(|mark| !mark.is_empty())
    }
}

static PLAIN_FORMAT: CallFormat = PLAIN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for name in CallFormat::names() {
            assert_eq!(FORMATS.iter().filter(|format| format.name == name).count(), 1);
            assert_eq!(CallFormat::named(name).unwrap().name, name);
        }
        assert!(CallFormat::named("x").is_none());
    }
}
