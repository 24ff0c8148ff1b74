//! Recognises a byte-level tokenizer's pre-tokenizer by what it does, and tells the name GGUF has for it.
//!
//! tokenizer.json describes a chain of steps; GGUF holds a name that stands for a chain. Steps that do the same in
//! different words (a digit by digit cut, the pattern of GPT-2 built into `ByteLevel`) are written alike first.
//! A chain that is not in the table is refused: the nearest name would change ids without any error.

use serde_json::Value;

use super::source::{Source, kind, steps};
use crate::convert::ConvertError;
use crate::convert::json::cut;

/// Characters of an unknown definition that are shown.
const SHOWN_CHARS: usize = 1000;

/// One step of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut<'a> {
    /// Every match of a pattern is a piece, and so is the text between matches.
    Pattern(&'a str),
    /// Every run of punctuation is a piece.
    Punctuation,
}

impl Cut<'_> {
    /// Whether both do the same. Line ends in a pattern may be written as they are or as escapes.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pattern(a), Self::Pattern(b)) => {
                a == b || a.replace('\r', r"\r").replace('\n', r"\n") == *b
            }
            (a, b) => a == b,
        }
    }
}

/// A name and the chain it stands for.
struct Row {
    name: &'static str,
    /// A word that is a token is that token, whatever the merges say.
    ignore_merges: bool,
    cuts: &'static [Cut<'static>],
}

const fn row(name: &'static str, ignore_merges: bool, cuts: &'static [Cut<'static>]) -> Row {
    Row { name, ignore_merges, cuts }
}

const GPT2: Cut<'_> =
    Cut::Pattern(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+");
const DIGIT: Cut<'_> = Cut::Pattern(r"\p{N}");
const DIGITS: Cut<'_> = Cut::Pattern(r"\p{N}+");
const LLAMA3: Cut<'_> = Cut::Pattern(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
));
const QWEN2: Cut<'_> = Cut::Pattern(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
));
const QWEN35: Cut<'_> = Cut::Pattern(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
));
const GPT4O: Cut<'_> = Cut::Pattern(concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
));
const TEKKEN: Cut<'_> = Cut::Pattern(concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
));

/// Every known chain. Sources: published tokenizer.json files, and the names and rules of llama.cpp
/// (`llama-vocab.cpp`). The runner's table (`smolt::text`) has a rule for each name.
const ROWS: &[Row] = &[
    row("gpt-2", false, &[GPT2]),
    row("smollm", false, &[DIGIT, GPT2]),
    row("llama-bpe", true, &[LLAMA3]),
    row("smaug-bpe", false, &[LLAMA3]),
    row("qwen2", false, &[QWEN2]),
    row("qwen35", false, &[QWEN35]),
    row("gpt-4o", false, &[GPT4O]),
    row("tekken", true, &[TEKKEN]),
    row("falcon", false, &[Cut::Punctuation, GPT2, DIGITS, Cut::Pattern("[0-9][0-9][0-9]")]),
    row(
        "deepseek-coder",
        false,
        &[
            Cut::Pattern(r"[\r\n]"),
            Cut::Pattern(r"\s?\p{L}+"),
            Cut::Pattern(r"\s?\p{P}+"),
            Cut::Pattern("[一-龥ࠀ-一가-퟿]+"),
            DIGIT,
        ],
    ),
    row("bloom", false, &[Cut::Pattern(r" ?[^(\s|[.,!?…。，、।۔،])]+")]),
];

/// Whether the tokenizer works on bytes.
pub(super) fn is_byte_level(source: &Source) -> bool {
    steps(source.pre_tokenizer.as_ref(), "pretokenizers").into_iter().any(|step| kind(step) == "ByteLevel")
}

/// The name of the pre-tokenizer.
pub(super) fn recognise(source: &Source) -> Result<&'static str, ConvertError> {
    let steps = steps(source.pre_tokenizer.as_ref(), "pretokenizers");
    for step in steps.iter().filter(|step| kind(step) == "ByteLevel") {
        // The crate's default is true.
        if flag(step, "add_prefix_space", true) {
            let reason =
                "adds a space before the text (add_prefix_space), which GGUF cannot say of byte-level BPE";
            return Err(source.refused("pre_tokenizer", reason));
        }
    }
    let found = cuts(&steps);
    let ignore_merges = source.model.ignore_merges;
    let same = |cuts: &[Cut<'_>], row: &Row| {
        cuts.len() == row.cuts.len() && cuts.iter().zip(row.cuts).all(|(a, b)| a.same(b))
    };
    let known =
        |row: &&Row| row.ignore_merges == ignore_merges && found.as_ref().is_some_and(|cuts| same(cuts, row));
    ROWS.iter().find(known).map(|row| row.name).ok_or_else(|| ConvertError::UnknownPre {
        file: source.file.clone(),
        definition: definition(source),
        known: ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", "),
    })
}

/// The definition as it is shown to people.
pub(super) fn definition(source: &Source) -> String {
    let steps = source.pre_tokenizer.as_ref().unwrap_or(&Value::Null).to_string();
    let ignore_merges = source.model.ignore_merges;
    format!("pre_tokenizer {}, ignore_merges {ignore_merges}", cut(&steps, SHOWN_CHARS))
}

/// The chain of steps, or `None` if one does something else.
fn cuts<'a>(steps: &[&'a Value]) -> Option<Vec<Cut<'a>>> {
    let mut cuts = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        match kind(step) {
            "ByteLevel" if flag(step, "use_regex", true) => cuts.push(GPT2),
            // Steps after it would see the byte alphabet instead of the text.
            "ByteLevel" if i + 1 < steps.len() => return None,
            "ByteLevel" => {}
            "Digits" => cuts.push(if flag(step, "individual_digits", false) { DIGIT } else { DIGITS }),
            "Punctuation" if step.get("behavior")? == "Contiguous" => cuts.push(Cut::Punctuation),
            "Split" => cuts.push(Cut::Pattern(split(step)?)),
            _ => return None,
        }
    }
    Some(cuts)
}

/// The pattern of a step that makes pieces of matches and of what is between them.
fn split(step: &Value) -> Option<&str> {
    let pattern = step.get("pattern")?.get("Regex")?.as_str()?;
    let inverted = flag(step, "invert", false);
    match step.get("behavior")?.as_str()? {
        "Isolated" if !inverted => Some(pattern),
        // What is between matches is left out: nothing, where the pattern matches any text.
        "Removed" if inverted && pattern.ends_with(r"|\s+") => Some(pattern),
        _ => None,
    }
}

fn flag(step: &Value, key: &str, absent: bool) -> bool {
    step.get(key).and_then(Value::as_bool).unwrap_or(absent)
}
