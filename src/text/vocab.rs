//! The vocabulary: what the file says about each token, checked, and the bytes each token stands for.

use crate::gguf::{Array, GgufError, GgufFile, checked_text};

use super::TextError;

/// Tokens of a vocabulary; the largest published ones have about 260 000.
pub const MAX_TOKENS: usize = 1 << 20;
/// Merges of a BPE vocabulary, stored or derived from scores.
pub const MAX_MERGES: usize = 1 << 22;
/// Bytes of one token's text.
pub const MAX_TOKEN_BYTES: usize = 1024;
/// Bytes of the texts of all tokens that are matched before merging (control and user-defined).
pub const MAX_ADDED_BYTES: usize = 1 << 20;

/// Key of the texts of all tokens.
pub(crate) const KEY_TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const KEY_TYPES: &str = "tokenizer.ggml.token_type";
pub(super) const KEY_SCORES: &str = "tokenizer.ggml.scores";
pub(super) const KEY_MERGES: &str = "tokenizer.ggml.merges";

/// `tokenizer.ggml.token_type` of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// Made by merging.
    Normal = 1,
    /// Stands for text that has no token.
    Unknown = 2,
    /// Structure (start, end, turn marks); found in text only on request.
    Control = 3,
    /// Added to the vocabulary as ordinary text; always found in text, before merging.
    UserDefined = 4,
    /// Padding of the table; never found in text.
    Unused = 5,
    /// One byte, written `<0xHH>`; used where a character has no token.
    Byte = 6,
}

impl TokenKind {
    /// Types that are not known are ordinary tokens, as in llama.cpp.
    fn from_id(id: i64) -> TokenKind {
        match id {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        }
    }

    /// Whether the token is structure rather than text.
    pub(super) fn is_special(self) -> bool {
        matches!(self, TokenKind::Control | TokenKind::Unknown)
    }

    /// Whether text can become this token by merging.
    pub(super) fn is_mergeable(self) -> bool {
        matches!(self, TokenKind::Normal | TokenKind::UserDefined)
    }
}

/// The token list of a file: texts still in the file, kinds read and checked.
pub(super) struct TokenList<'a> {
    pub(super) file: &'a GgufFile,
    texts: Array<'a>,
    /// Length of all texts.
    bytes: usize,
    pub(super) kinds: Box<[TokenKind]>,
    /// Whether the file says what kinds they are.
    pub(super) has_types: bool,
}

impl<'a> TokenList<'a> {
    pub(super) fn read(file: &'a GgufFile) -> Result<TokenList<'a>, TextError> {
        let texts = file.require_str_array(KEY_TOKENS)?;
        let limit = |what, found, limit| {
            if (1..=limit).contains(&found) {
                return Ok(());
            }
            let file = file.name().to_owned();
            Err(TextError::OutOfBounds { file, what, found, limit })
        };
        limit("the number of tokens", texts.len(), MAX_TOKENS)?;
        let (longest, bytes) = texts
            .iter_bytes()
            .fold((0, 0), |(longest, sum), text| (text.len().max(longest), sum + text.len()));
        limit("the length of the longest token", longest, MAX_TOKEN_BYTES)?;
        let types = file.integer_array(KEY_TYPES)?;
        let has_types = types.is_some();
        let kinds = match types {
            Some(types) => {
                check_len(file, KEY_TYPES, types.len(), texts.len())?;
                types.iter_i64().map(TokenKind::from_id).collect()
            }
            None => vec![TokenKind::Normal; texts.len()].into(),
        };
        Ok(TokenList { file, texts, bytes, kinds, has_types })
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Id, kind and text of every token, in order.
    /// Of tokens with the same text the first is the one that text becomes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, TokenKind, &'a str)> + '_ {
        self.iter_where(|_, _| true)
    }

    /// Those tokens for which `wants(kind, bytes of the text)` holds.
    pub(super) fn iter_where(
        &self,
        wants: impl Fn(TokenKind, &[u8]) -> bool,
    ) -> impl Iterator<Item = (u32, TokenKind, &'a str)> {
        (0u32..)
            .zip(self.kinds.iter().copied())
            .zip(self.texts.iter_bytes())
            .filter(move |((_, kind), bytes)| wants(*kind, bytes))
            .map(|((id, kind), bytes)| (id, kind, checked_text(bytes)))
    }

    /// The scores of a SentencePiece vocabulary, one finite number per token.
    pub(super) fn scores(&self) -> Result<impl Iterator<Item = f32> + Clone + use<'a>, TextError> {
        let name = self.file.name();
        let Some(scores) = self.file.f32_array(KEY_SCORES)? else {
            return Err(GgufError::MissingKey { file: name.to_owned(), key: KEY_SCORES.to_owned() }.into());
        };
        check_len(self.file, KEY_SCORES, scores.len(), self.len())?;
        match (0u32..).zip(scores.iter_f32()).find(|(_, score)| !score.is_finite()) {
            Some((id, _)) => Err(TextError::BadScore { file: name.to_owned(), id }),
            None => Ok(scores.iter_f32()),
        }
    }

    /// The special token an optional key names.
    pub(super) fn special_id(&self, key: &'static str) -> Result<Option<u32>, TextError> {
        let Some(id) = self.file.u32(key)? else { return Ok(None) };
        if (id as usize) < self.len() {
            return Ok(Some(id));
        }
        let file = self.file.name().to_owned();
        Err(TextError::IdOutOfRange { file, key, id, tokens: self.len() })
    }
}

fn check_len(file: &GgufFile, key: &'static str, found: usize, expected: usize) -> Result<(), TextError> {
    if found == expected {
        return Ok(());
    }
    Err(TextError::WrongLength { file: file.name().to_owned(), key, found, expected })
}

/// How merging spells a token.
pub(super) enum Spelling {
    /// As its piece.
    Piece,
    Other(Box<[u8]>),
    /// No text becomes this token by merging.
    Never,
}

/// How merging spells every token.
pub(super) struct Spellings {
    /// Whether it is the piece, by id.
    as_piece: Box<[bool]>,
    /// Others, of ascending ids.
    pub(super) others: Vec<(Box<[u8]>, u32)>,
}

impl Spellings {
    /// The tokens that are spelt as their piece, which is not empty.
    pub(super) fn pieces<'t>(&self, pieces: &'t PieceTable) -> impl Iterator<Item = (u32, &'t [u8])> {
        let spelt = (0u32..).zip(&self.as_piece).filter(|(_, is_spelt)| **is_spelt);
        spelt.map(|(id, _)| (id, pieces.get(id))).filter(|(_, piece)| !piece.is_empty())
    }
}

/// The bytes of every token, one after the other in one buffer.
pub(super) struct PieceTable {
    bytes: Box<[u8]>,
    /// `ends[id]` is the offset in `bytes` where the piece of `id` ends and that of `id + 1` starts.
    ends: Box<[u32]>,
    longest: usize,
}

impl PieceTable {
    /// Heap bytes for so many tokens with texts of so many bytes in all: no piece is longer than its text.
    pub(super) const fn planned_bytes(tokens: u64, text_bytes: u64) -> u64 {
        tokens * size_of::<u32>() as u64 + text_bytes
    }

    /// Builds the table; `decode` appends the bytes of one token, of whose text it gets the bytes, and says how merging
    /// spells it.
    pub(super) fn new(
        tokens: &TokenList<'_>,
        mut decode: impl FnMut(u32, TokenKind, &[u8], &mut Vec<u8>) -> Result<Spelling, TextError>,
    ) -> Result<(PieceTable, Spellings), TextError> {
        let mut bytes = Vec::with_capacity(tokens.bytes);
        let mut ends = Vec::with_capacity(tokens.len());
        let (mut as_piece, mut others) = (Vec::with_capacity(tokens.len()), vec![]);
        let mut longest = 0;
        for ((id, kind), text) in (0u32..).zip(tokens.kinds.iter().copied()).zip(tokens.texts.iter_bytes()) {
            let start = bytes.len();
            let spelling = decode(id, kind, text, &mut bytes)?;
            as_piece.push(matches!(spelling, Spelling::Piece));
            if let Spelling::Other(spelt) = spelling {
                others.push((spelt, id));
            }
            longest = longest.max(bytes.len() - start);
            // MAX_TOKENS * MAX_TOKEN_BYTES fits in 32 bits: no piece is longer than its text.
            ends.push(bytes.len() as u32);
        }
        let table = PieceTable { bytes: bytes.into(), ends: ends.into(), longest };
        Ok((table, Spellings { as_piece: as_piece.into(), others }))
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of the longest piece.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The bytes of a token; empty for an id that is not in the vocabulary.
    pub(super) fn get(&self, id: u32) -> &[u8] {
        let index = id as usize;
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..end as usize]
    }
}
