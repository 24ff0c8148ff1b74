//! The table of tokens: one row per id of the embedding.

use std::collections::HashMap;

use smolt::text::{MAX_MERGES, MAX_TOKENS, TokenKind};

use super::source::Source;
use crate::convert::ConvertError;
use crate::convert::json::cut;

/// Characters of a token that are shown in a message.
const SHOWN_CHARS: usize = 40;

/// Texts and kinds of all tokens.
pub(super) struct Vocab {
    pub(super) texts: Vec<String>,
    pub(super) kinds: Vec<TokenKind>,
    ids: HashMap<String, u32>,
}

impl Vocab {
    /// The table of a model with `size` rows of the embedding. Ids without a token are unused.
    pub(super) fn new(source: &Source, size: u64, notes: &mut Vec<String>) -> Result<Self, ConvertError> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_TOKENS {
            let reason = format!("config.json gives {size} tokens, at most {MAX_TOKENS} are accepted");
            return Err(source.refused("model.vocab", reason));
        }
        let mut rows: Vec<Option<(&str, TokenKind)>> = vec![None; size];
        for (text, &id) in &source.model.vocab {
            place(source, &mut rows, "model.vocab", (id, text), TokenKind::Normal)?;
        }
        for token in &source.added_tokens {
            let control = token.special || looks_like_control(&token.content);
            let kind = if control { TokenKind::Control } else { TokenKind::UserDefined };
            place(source, &mut rows, "added_tokens", (token.id, &token.content), kind)?;
            if token.single_word || (token.lstrip || token.rstrip) && kind == TokenKind::UserDefined {
                let text = cut(&token.content, SHOWN_CHARS);
                notes.push(format!("GGUF cannot say that the token {text:?} depends on the text around it"));
            }
        }
        let unused = rows.iter().filter(|row| row.is_none()).count();
        if unused > 0 {
            notes.push(format!("{unused} of {size} rows of the embedding have no token"));
        }
        let row = |(id, row): (usize, Option<(&str, TokenKind)>)| match row {
            Some((text, kind)) => (text.to_owned(), kind),
            None => (format!("[PAD{id}]"), TokenKind::Unused),
        };
        let (texts, kinds): (Vec<String>, Vec<TokenKind>) = rows.into_iter().enumerate().map(row).unzip();
        let ids = (0..).zip(&texts).map(|(id, text)| (text.clone(), id)).collect();
        Ok(Self { texts, kinds, ids })
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The id of a token.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(super) fn kind(&self, id: u32) -> TokenKind {
        self.kinds[id as usize]
    }

    /// Whether merging can make this token.
    pub(super) fn is_normal(&self, text: &str) -> bool {
        self.id(text).is_some_and(|id| self.kind(id) == TokenKind::Normal)
    }

    /// The merges in order of rank; each is of tokens and makes a token.
    pub(super) fn merges<'a>(&self, source: &'a Source) -> Result<Vec<(&'a str, &'a str)>, ConvertError> {
        let merges = &source.model.merges;
        if merges.len() > MAX_MERGES {
            let reason = format!("has {} entries, at most {MAX_MERGES} are accepted", merges.len());
            return Err(source.refused("model.merges", reason));
        }
        let vocab = &source.model.vocab;
        let mut joined = String::new();
        let mut merge = |index: usize| {
            let refused = |reason: &str| source.refused(&format!("model.merges[{index}]"), reason);
            let (left, right) =
                merges.parts(index).ok_or_else(|| refused("is not a pair of texts without spaces"))?;
            joined.clear();
            joined.extend([left, right]);
            let unknown = [left, right, &joined].into_iter().find(|text| !vocab.contains_key(*text));
            match unknown {
                Some(text) => Err(refused(&format!("{:?} is not in model.vocab", cut(text, SHOWN_CHARS)))),
                None => Ok((left, right)),
            }
        };
        (0..merges.len()).map(&mut merge).collect()
    }
}

fn place<'a>(
    source: &Source,
    rows: &mut [Option<(&'a str, TokenKind)>],
    key: &str,
    (id, text): (u32, &'a str),
    kind: TokenKind,
) -> Result<(), ConvertError> {
    let shown = cut(text, SHOWN_CHARS);
    let size = rows.len();
    let Some(row) = rows.get_mut(id as usize) else {
        let reason = format!("token {shown:?} has id {id}, config.json gives vocab_size {size}");
        return Err(source.refused(key, reason));
    };
    if let Some((other, _)) = row.filter(|(other, _)| *other != text) {
        let other = cut(other, SHOWN_CHARS);
        return Err(source.refused(key, format!("tokens {other:?} and {shown:?} have the same id {id}")));
    }
    *row = Some((text, kind));
    Ok(())
}

/// Turn marks and the like that some models add without calling them special. No text that users write should
/// become one.
fn looks_like_control(text: &str) -> bool {
    [("<|", "|>"), ("<｜", "｜>")]
        .into_iter()
        .any(|(start, end)| text.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)))
}
