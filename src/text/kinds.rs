//! Control tokens that a file does not call so: kinds that are missing or wrong are mended, and said.
//!
//! A converter that lost the kinds leaves a model that writes `<|im_end|>` as text and goes on as the user, and in
//! which users write control tokens. Tokens whose text is a mark of turns in some published vocabulary and nothing
//! that people write are control tokens whatever the file calls them; marks that may be text (`</s>` is HTML, too) are
//! so where the file names their id or its chat template writes them.

use std::collections::HashSet;
use std::fmt::Write;

use super::TextError;
use super::bpe::each_merge;
use super::vocab::{KEY_TYPES, TokenKind, TokenList};

/// Marks of turns and texts that nobody writes as text.
const MARKS: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|startoftext|>",
    "<|endoftext|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|turn>",
    "<turn|>",
    "<|start|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|eot|>",
    "<|EOT|>",
    "<|end_of_turn|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
];

/// Parts of marks that are shown to people or read by programs: what is between them is text of the answer.
const SHOWN: &[&str] = &["think", "reason", "tool", "function"];

/// Most tokens named in a warning.
const NAMED: usize = 6;

/// What may be wrong with a tokenizer, and what was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextWarning {
    /// What the file says of the tokens.
    problem: &'static str,
    /// Those that are control tokens all the same.
    tokens: Vec<String>,
}

impl std::fmt::Display for TextWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.tokens.iter().take(NAMED).map(|text| text.escape_debug().to_string());
        let mut names = shown.collect::<Vec<_>>().join(" ");
        if self.tokens.is_empty() {
            names.push_str("none");
        } else if let more @ 1.. = self.tokens.len().saturating_sub(NAMED) {
            write!(names, " and {more} more")?;
        }
        write!(f, "{KEY_TYPES} {}; control tokens by their text: {names}", self.problem)
    }
}

/// Whether a text has the form of a mark: one word in brackets.
fn has_form(text: &str) -> bool {
    let inner = [('<', '>'), ('[', ']')].into_iter().find_map(|(open, close)| {
        text.strip_prefix(open)?.strip_suffix(close).filter(|inner| !inner.is_empty())
    });
    inner.is_some_and(|inner| !inner.contains(char::is_whitespace))
}

/// Whether a text begins as marks do.
fn may_be_mark(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'<' | b'['))
}

/// Makes control tokens of those that are not called so.
///
/// `named` are the ids that the file gives a meaning, `template` its chat template.
pub(super) fn mend(
    tokens: &mut TokenList<'_>,
    named: &[u32],
    template: Option<&str>,
    is_bpe: bool,
) -> Result<Option<TextWarning>, TextError> {
    let writes = |text: &str| template.is_some_and(|template| template.contains(text));
    let is_mark = |id: u32, text: &str| {
        has_form(text)
            && (MARKS.contains(&text) || named.contains(&id) || super::special::is_end(text) && writes(text))
    };
    let found: Vec<(u32, &str)> = if tokens.has_types {
        let mistaken = |kind| matches!(kind, TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused);
        let found = tokens.iter_where(|kind, text| mistaken(kind) && may_be_mark(text));
        let found = found.filter(|(id, _, text)| is_mark(*id, text));
        found.map(|(id, _, text)| (id, text)).collect()
    } else {
        let form =
            |text: &str| has_form(text) && (text.starts_with("<|") && text.ends_with("|>") || writes(text));
        let found = tokens.iter_where(|_, text| may_be_mark(text));
        let found = found.filter(|(id, _, text)| is_mark(*id, text) || form(text));
        let mut found: Vec<(u32, &str)> = found.map(|(id, _, text)| (id, text)).collect();
        if is_bpe {
            let made = made_by_merging(tokens, &found)?;
            found.retain(|(id, text)| is_mark(*id, text) || !made.contains(text));
        }
        found
    };
    let problem = match (tokens.has_types, found.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => "calls marks of turns text",
        (false, _) => "is missing",
    };
    let has_types = tokens.has_types;
    let is_shown = |text: &str| !has_types && SHOWN.iter().any(|part| text.contains(part));
    for (id, text) in &found {
        let kind = if is_shown(text) { TokenKind::UserDefined } else { TokenKind::Control };
        tokens.kinds[*id as usize] = kind;
    }
    if !has_types && !is_bpe {
        mend_sentencepiece(tokens);
    }
    let control = found.iter().filter(|(_, text)| !is_shown(text));
    Ok(Some(TextWarning { problem, tokens: control.map(|(_, text)| (*text).to_owned()).collect() }))
}

/// The unknown, start and end token at their usual places, and the bytes.
fn mend_sentencepiece(tokens: &mut TokenList<'_>) {
    let usual = [("<unk>", TokenKind::Unknown), ("<s>", TokenKind::Control), ("</s>", TokenKind::Control)];
    let byte = |text: &str| super::spm::parse_byte(text).is_some();
    let found: Vec<(usize, TokenKind)> = tokens
        .iter()
        .filter_map(|(id, _, text)| {
            let usual = usual.get(id as usize).filter(|(known, _)| *known == text);
            Some((id as usize, usual.map(|(_, kind)| *kind).or(byte(text).then_some(TokenKind::Byte))?))
        })
        .collect();
    for (id, kind) in found {
        tokens.kinds[id] = kind;
    }
}

/// Those of `texts` that a merge makes: ordinary text.
fn made_by_merging<'a>(
    tokens: &TokenList<'a>,
    texts: &[(u32, &'a str)],
) -> Result<HashSet<&'a str>, TextError> {
    let wanted: HashSet<&str> = texts.iter().map(|(_, text)| *text).collect();
    let mut made = HashSet::new();
    let mut joined = String::new();
    each_merge(tokens, |_, left, right| {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        made.extend(wanted.get(joined.as_str()));
        Ok(())
    })?;
    Ok(made)
}
