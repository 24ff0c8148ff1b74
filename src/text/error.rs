//! What can be wrong with a tokenizer or with text given to it.

use crate::gguf::GgufError;

/// A tokenizer that cannot be built, or text it cannot encode.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The metadata cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// `tokenizer.ggml.model` names a kind of tokenizer that is not supported.
    #[error(
        "{file}: tokenizer.ggml.model is \"{found}\"; supported are \"gpt2\" (BPE) and \"llama\" (SentencePiece)"
    )]
    UnknownModel {
        /// The file.
        file: String,
        /// The value found.
        found: String,
    },
    /// A BPE file does not name its pre-tokenizer.
    #[error(
        "{file}: tokenizer.ggml.pre is missing, so the split of text into words is unknown; known ways are: {known}"
    )]
    MissingPre {
        /// The file.
        file: String,
        /// The known names.
        known: String,
    },
    /// The pre-tokenizer named by the file or by the caller is not known.
    #[error("{file}: pre-tokenizer \"{found}\" is not known; known are: {known}")]
    UnknownPre {
        /// The file.
        file: String,
        /// The name found.
        found: String,
        /// The known names.
        known: String,
    },
    /// An array has another length than the vocabulary.
    #[error("{file}: {key} has {found} elements, the vocabulary has {expected} tokens")]
    WrongLength {
        /// The file.
        file: String,
        /// The metadata key.
        key: &'static str,
        /// Elements found.
        found: usize,
        /// Tokens in the vocabulary.
        expected: usize,
    },
    /// A count or a size is zero or beyond what any real vocabulary has.
    #[error("{file}: {what} is {found}, 1 to {limit} are accepted")]
    OutOfBounds {
        /// The file.
        file: String,
        /// What was counted.
        what: &'static str,
        /// The value found.
        found: usize,
        /// The largest accepted value.
        limit: usize,
    },
    /// A text for which there is no room.
    #[error(
        "a text of {bytes} bytes has at least {tokens} tokens, there is room for {limit}; shorten it or give a larger context"
    )]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// Tokens that it has at least.
        tokens: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// The rules that make words of characters are not in the file.
    #[error(
        "{file}: tokenizer.ggml.merges is missing or empty, so that text would not become any of the {found} tokens of more than one character; convert the model again"
    )]
    NoMerges {
        /// The file.
        file: String,
        /// Tokens that merging would make.
        found: usize,
    },
    /// A special token's id is not in the vocabulary.
    #[error("{file}: {key} is {id}, the vocabulary has {tokens} tokens")]
    IdOutOfRange {
        /// The file.
        file: String,
        /// The metadata key.
        key: &'static str,
        /// The id found.
        id: u32,
        /// Tokens in the vocabulary.
        tokens: usize,
    },
    /// The file asks for a token at the start or end of every text but does not say which.
    #[error("{file}: {flag} is true but {key} is missing")]
    MissingId {
        /// The file.
        file: String,
        /// The flag that is set.
        flag: &'static str,
        /// The id that is missing.
        key: &'static str,
    },
    /// A byte token's text is not `<0xHH>`, or two stand for the same byte.
    #[error("{file}: byte token {id} has the text {text:?}, expected <0x00> to <0xFF>, each once")]
    BadByteToken {
        /// The file.
        file: String,
        /// The token.
        id: u32,
        /// Its text.
        text: String,
    },
    /// A merge is not two parts separated by a space, or names tokens that do not exist.
    #[error("{file}: merge {index} ({merge:?}) {problem}")]
    BadMerge {
        /// The file.
        file: String,
        /// Position in `tokenizer.ggml.merges`.
        index: usize,
        /// The merge as stored.
        merge: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A score is not a number.
    #[error("{file}: the score of token {id} is not a finite number")]
    BadScore {
        /// The file.
        file: String,
        /// The token.
        id: u32,
    },
    /// The text holds a byte for which the vocabulary has no token.
    #[error("the vocabulary has no token for the byte 0x{byte:02X} of the text")]
    NoTokenForByte {
        /// The byte.
        byte: u8,
    },
    /// The text holds a character for which the vocabulary has neither a token, byte tokens nor an unknown token.
    #[error("the vocabulary has no token for the character {character:?} of the text")]
    NoTokenForChar {
        /// The character.
        character: char,
    },
    /// A library this module builds on refused the data.
    #[error("cannot build the {what}: {message}")]
    Library {
        /// The part that was being built.
        what: &'static str,
        /// The library's message.
        message: String,
    },
}
