//! Text to token ids and back, with the tokenizer rebuilt from the metadata of a GGUF file.
//!
//! # Design
//!
//! ```text
//! tokenizer   Tokenizer: encode, decode, ids with a meaning
//!   vocab     token list checked against the file; the bytes of every token in one table
//!   kinds     control tokens that the file does not call so
//!   special   start, end, unknown and all end-of-generation ids
//!   added     control and user-defined tokens, found before anything else
//!   pre       pre-tokenizers of BPE families, as rows of data
//!   split     cuts text into words by such a row
//!   classes   Unicode classes of characters
//!   bpe       byte-level BPE: vocabulary and merges as stored
//!   spm       SentencePiece: merges by score
//!   scores    scores of tokens
//!   index     tokens by their bytes
//!   joints    where text falls apart, whatever is merged
//!   words     text as words that no merge can cross
//!   merge     merging of a word
//!   windows   merging of long words in parts
//! detok       Detokenizer: streaming, never splits a character
//! stored      the chat templates of a file
//! template    chat templates, in which user text stays text
//! nearest     what a misspelt word may have meant
//! plan        memory of a tokenizer, from the header
//! error       everything that can be wrong
//! ```
//!
//! Encoding takes three steps: added tokens are cut out, the text between them is cut into words, and each word is
//! merged. A long word keeps a queue of candidate merges, so that any text takes n log n steps, and is merged in windows
//! of bounded memory. Decoding joins the pieces of the table.
//!
//! The texts of the tokens are held once, as the bytes that they stand for: merging works on the bytes of a text, not on
//! the characters by which a file spells them. The file is not needed after loading.
//!
//! Control tokens are not part of the merging vocabulary. With `parse_special` off there is no path from
//! text to their ids.
//!
//! What is never guessed: the pre-tokenizer of a BPE file. The wrong one changes ids without any error, so a
//! missing or unknown name is refused and the caller may give one.

mod added;
mod bpe;
mod classes;
mod detok;
mod error;
mod index;
mod joints;
mod kinds;
mod merge;
mod nearest;
mod normal;
mod plan;
mod pre;
mod scores;
mod special;
mod split;
mod spm;
mod stored;
mod template;
mod tokenizer;
mod vocab;
mod windows;
mod words;

#[cfg(test)]
mod tests;

pub use self::bpe::BYTE_CHARS;
pub use self::detok::Detokenizer;
pub use self::error::TextError;
pub use self::kinds::TextWarning;
#[doc(hidden)]
pub use self::nearest::nearest;
#[doc(hidden)]
pub use self::plan::{planned_bytes, planned_encoding_bytes};
pub use self::template::{
    BUILTIN_TEMPLATES, ChatTemplate, DocumentTemplate, MAX_MESSAGE_BYTES, MAX_TEMPLATE_BYTES, MAX_VARIABLES,
    Message, Prompt, ReasoningMarks, Role, TemplateError, TemplateVariables, ToolCall,
};
pub use self::tokenizer::{EncodeOptions, Tokenizer, TokenizerOptions};
pub(crate) use self::vocab::KEY_TOKENS;
pub use self::vocab::{MAX_ADDED_BYTES, MAX_MERGES, MAX_TOKEN_BYTES, MAX_TOKENS, TokenKind};
