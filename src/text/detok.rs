//! From ids back to text, token by token, without ever splitting a character.

use super::Tokenizer;
use super::vocab::TokenKind;

/// Bytes of an incomplete UTF-8 character at most.
const MAX_PENDING: usize = 3;

/// Applies the rules for joining pieces: special tokens left out on request, and the space that the encoder
/// put before text taken off again.
#[derive(Clone, Debug)]
pub(super) struct Joiner {
    skip_special: bool,
    /// The next piece starts a text, so its leading space is the encoder's.
    strip: bool,
}

impl Joiner {
    /// For pieces that follow the tokens `before`.
    pub(super) fn new(tokenizer: &Tokenizer, before: &[u32], skip_special: bool) -> Joiner {
        let starts_text = before.last().is_none_or(|id| is_added(tokenizer.kind(*id)));
        Joiner { skip_special, strip: starts_text && tokenizer.space_prefix() }
    }

    pub(super) fn next<'t>(&mut self, tokenizer: &'t Tokenizer, id: u32) -> &'t [u8] {
        let kind = tokenizer.kind(id);
        let piece = tokenizer.piece(id);
        if is_added(kind) {
            self.strip = tokenizer.space_prefix();
        }
        if kind.is_some_and(TokenKind::is_special) && self.skip_special {
            return &[];
        }
        if is_added(kind) {
            return piece;
        }
        let strip = std::mem::take(&mut self.strip) && kind == Some(TokenKind::Normal);
        piece.strip_prefix(b" ").filter(|_| strip).unwrap_or(piece)
    }
}

/// Whether the encoder treats what follows such a token as the start of a text.
fn is_added(kind: Option<TokenKind>) -> bool {
    matches!(kind, Some(TokenKind::Control | TokenKind::UserDefined))
}

impl Tokenizer {
    /// The bytes of `ids`, joined. Ids outside the vocabulary give nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Vec<u8> {
        let mut joiner = Joiner::new(self, &[], skip_special);
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            bytes.extend_from_slice(joiner.next(self, id));
        }
        bytes
    }

    /// Like [`Tokenizer::decode`], with U+FFFD for bytes that are not UTF-8.
    pub fn decode_lossy(&self, ids: &[u32], skip_special: bool) -> String {
        String::from_utf8_lossy(&self.decode(ids, skip_special)).into_owned()
    }
}

/// Turns a stream of ids into a stream of text.
///
/// Bytes are held back while they may still become a character; bytes that cannot become one give U+FFFD.
/// All text of a stream joined equals [`Tokenizer::decode_lossy`] of its ids. Memory is allocated once.
///
/// The tokenizer is passed to each call, so that a session can own both; it must be the same each time.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    joiner: Joiner,
    /// Bytes not yet given out: an incomplete character.
    pending: Vec<u8>,
    /// The text last given out.
    text: String,
}

impl Detokenizer {
    /// For tokens that follow `before` (a prompt; empty at the start of a text).
    pub fn new(tokenizer: &Tokenizer, before: &[u32], skip_special: bool) -> Detokenizer {
        let longest = tokenizer.longest_piece() + MAX_PENDING;
        Detokenizer {
            joiner: Joiner::new(tokenizer, before, skip_special),
            pending: Vec::with_capacity(longest),
            // Each byte becomes at most the three bytes of U+FFFD.
            text: String::with_capacity(3 * longest),
        }
    }

    /// Starts again after `before`, keeping the memory.
    pub fn restart(&mut self, tokenizer: &Tokenizer, before: &[u32]) {
        self.joiner = Joiner::new(tokenizer, before, self.joiner.skip_special);
        self.pending.clear();
        self.text.clear();
    }

    /// Adds a token and returns the text that is now certain, possibly none.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> &str {
        self.pending.extend_from_slice(self.joiner.next(tokenizer, id));
        self.text.clear();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    self.text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    self.text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    rest = tail;
                    if let Some(invalid) = error.error_len() {
                        self.text.push(char::REPLACEMENT_CHARACTER);
                        rest = &rest[invalid..];
                        continue;
                    }
                }
            }
            break;
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        &self.text
    }

    /// Ends the stream: U+FFFD if it stopped inside a character, else nothing.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
        &self.text
    }
}
