//! The tokens of a model as bytes.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};

use crate::text::{TokenKind, Tokenizer};

use super::GrammarError;
use super::error::message;

/// Bytes of a token that may be part of an answer; longer ones are never allowed. A node of the trie counts its
/// ancestors in 10 bits.
const MAX_PIECE: usize = 512;
/// Bytes of all such tokens. A node of the trie counts its descendants in 22 bits.
const MAX_BYTES: usize = (1 << 22) - 1;

/// The factory of parsers over the tokens of `tokenizer`. It holds the trie and the slices of it that common
/// lexer states allow as a whole.
pub(super) fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, GrammarError> {
    let pieces: Vec<Vec<u8>> =
        (0..tokenizer.vocab_size() as u32).map(|id| text_piece(tokenizer, id)).collect();
    let bytes: usize = pieces.iter().map(Vec::len).sum();
    if bytes > MAX_BYTES {
        let text = format!("its tokens have {bytes} bytes, at most {MAX_BYTES} are allowed");
        return Err(GrammarError::Vocabulary(text));
    }
    if bytes == 0 {
        return Err(GrammarError::Vocabulary("it has no text tokens".to_owned()));
    }
    let ends = tokenizer.end_ids().to_vec();
    catch_unwind(std::panic::AssertUnwindSafe(|| {
        let end = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(pieces.len() as u32, end), &pieces);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        ParserFactory::new_simple(&env)
    }))
    .map_err(|error| GrammarError::Vocabulary(message(&error)))
}

/// The bytes a token adds to an answer; none for a token that is no text. Byte 0xFF is in no UTF-8 text and
/// marks control tokens in the trie.
fn text_piece(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let piece = tokenizer.piece(id);
    let is_text =
        matches!(tokenizer.kind(id), Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte));
    if is_text && !tokenizer.is_end(id) && piece.len() <= MAX_PIECE && !piece.contains(&0xFF) {
        piece.to_vec()
    } else {
        vec![]
    }
}
