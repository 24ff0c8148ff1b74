//! A conversation with the state of the cache in a file, so that it goes on where it was without reading its
//! tokens again.
//!
//! ```text
//! magic                8 bytes, "smoltses"
//! version              u32
//! bytes of the header  u32
//! tokens               u64
//! bytes of the state   u64
//! header               JSON: what the state was made with, and the conversation
//! tokens               u32 each: those in the cache
//! state                as the model writes it
//! checksum             u64, of all before
//! ```
//!
//! Numbers are little-endian. The file is written under another name and renamed. A file made with another model,
//! template or KV type still gives its conversation; the tokens are then read again. A file that is damaged gives an
//! error and leaves the cache empty. Lengths are checked against limits and the file's own length before anything
//! is allocated.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::{Access, WriteError, write_stream};
use crate::model::{MAX_CONTEXT, Resume};

use super::conversation::Said;
use super::{Conversation, Session, Turn};

const MAGIC: [u8; 8] = *b"smoltses";
const VERSION: u32 = 1;
/// Bytes before the header.
const FIXED_BYTES: u64 = 32;
const CHECKSUM_BYTES: u64 = 8;
/// Longest header: the text of a conversation, twice, as JSON.
pub const MAX_HEADER_BYTES: usize = 64 << 20;
/// Bytes read at a time of a state that is not used.
const CHUNK_BYTES: usize = 1 << 16;

/// What a state was made with. Only with the same it means the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`crate::gguf::GgufFile::fingerprint`] of the model.
    pub model: u64,
    /// Size of the model file.
    pub model_bytes: u64,
    /// [`crate::text::Tokenizer::fingerprint`].
    pub tokenizer: u64,
    /// A hash of the chat template.
    pub template: u64,
    /// [`Resume::state_key`].
    pub state: u64,
}

impl Identity {
    /// The first part in which two differ.
    fn difference(&self, other: &Identity) -> Option<&'static str> {
        let parts = [
            ("another model", (self.model, self.model_bytes) == (other.model, other.model_bytes)),
            ("another tokenizer", self.tokenizer == other.tokenizer),
            ("another chat template", self.template == other.template),
            ("another KV type or version of this program", self.state == other.state),
        ];
        parts.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }
}

/// A file that holds no conversation, or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SavedError {
    #[error("cannot read the session {file}")]
    Read { file: String, source: io::Error },
    #[error("{file} is not a saved session")]
    NotASession { file: String },
    #[error("{file} is a session of version {found}; this program reads version {expected}")]
    Version { file: String, expected: u32, found: u32 },
    #[error("{file}: the {what} takes {found}, allowed are {limit}; the file is damaged")]
    TooLarge { file: String, what: &'static str, found: u64, limit: u64 },
    #[error("{file} has {found} bytes, expected {expected}; the file is cut short or damaged")]
    Length { file: String, expected: u64, found: u64 },
    #[error("{file}: the {what} is wrong; the file is damaged")]
    Damaged { file: String, what: &'static str },
    #[error("cannot save the session")]
    Write(#[from] WriteError),
}

/// A conversation from a file.
#[derive(Debug)]
pub struct Opened {
    /// The conversation.
    pub conversation: Conversation,
    /// Tokens now in the cache.
    pub restored: usize,
    /// Why the state is not used, if it is not.
    pub refused: Option<&'static str>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    identity: Identity,
    system: Option<String>,
    turns: Vec<Turn>,
    /// Text that the tokens, and then `unread`, stand for.
    text: String,
    /// As in [`Said`].
    marks: Vec<(usize, usize)>,
    /// Tokens that are not in the cache yet.
    unread: Vec<u32>,
}

/// Saves a conversation with the state of the session's cache, and returns the size of the file in bytes.
///
/// # Errors
/// If the conversation is too long, or the disk refuses; then nothing is left behind.
pub fn save<M: Resume>(
    path: &Path,
    identity: &Identity,
    conversation: &Conversation,
    session: &mut Session<M>,
) -> Result<u64, SavedError> {
    let mut bytes = 0;
    let header = header(path, identity, conversation, session)?;
    write_stream(path, Access::Private, |out| {
        bytes = write(out, &header, session)?;
        Ok(())
    })?;
    Ok(bytes)
}

fn header<M: Resume>(
    path: &Path,
    identity: &Identity,
    conversation: &Conversation,
    session: &Session<M>,
) -> Result<Vec<u8>, SavedError> {
    let said = conversation.said.as_ref().filter(|said| said.tokens.starts_with(session.cached()));
    let said = said.cloned().unwrap_or_default();
    let header = Header {
        identity: identity.clone(),
        system: conversation.system.clone(),
        turns: conversation.turns.clone(),
        unread: said.tokens.get(session.cached().len()..).unwrap_or_default().to_vec(),
        text: said.text,
        marks: said.marks,
    };
    let file = || path.display().to_string();
    let json =
        serde_json::to_vec(&header).map_err(|_| SavedError::Damaged { file: file(), what: "header" })?;
    check(path, "header", json.len() as u64, MAX_HEADER_BYTES as u64)?;
    Ok(json)
}

fn write<M: Resume>(out: &mut dyn Write, header: &[u8], session: &mut Session<M>) -> io::Result<u64> {
    let positions = session.cached().len();
    let state = session.state_bytes(positions);
    let mut out = Summed::new(out);
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&(header.len() as u32).to_le_bytes())?;
    out.write_all(&(positions as u64).to_le_bytes())?;
    out.write_all(&state.to_le_bytes())?;
    out.write_all(header)?;
    for id in session.cached() {
        out.write_all(&id.to_le_bytes())?;
    }
    session.write_state(&mut out)?;
    let sum = out.sum.finish();
    out.inner.write_all(&sum.to_le_bytes())?;
    Ok(FIXED_BYTES + header.len() as u64 + 4 * positions as u64 + state + CHECKSUM_BYTES)
}

/// Opens a saved conversation and fills the session's cache with its state, if that was made with `identity` and
/// fits into the context.
///
/// # Errors
/// If the file cannot be read or is no saved conversation. The cache is empty then.
pub fn open<M: Resume>(
    path: &Path,
    identity: &Identity,
    session: &mut Session<M>,
) -> Result<Opened, SavedError> {
    session.clear();
    let fail = |source| SavedError::Read { file: path.display().to_string(), source };
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(SavedError::NotASession { file: path.display().to_string() });
    }
    let mut reader = Reader { path, from: Summed::new(BufReader::new(file)) };
    let opened = reader.open(metadata.len(), identity, session);
    if opened.is_err() {
        session.clear();
    }
    opened
}

fn check(path: &Path, what: &'static str, found: u64, limit: u64) -> Result<(), SavedError> {
    if found <= limit {
        return Ok(());
    }
    Err(SavedError::TooLarge { file: path.display().to_string(), what, found, limit })
}

struct Reader<'a, R> {
    path: &'a Path,
    from: Summed<R>,
}

impl<R: Read> Reader<'_, R> {
    fn file(&self) -> String {
        self.path.display().to_string()
    }

    fn damaged(&self, what: &'static str) -> SavedError {
        SavedError::Damaged { file: self.file(), what }
    }

    fn bytes(&mut self, out: &mut [u8]) -> Result<(), SavedError> {
        let read = self.from.read_exact(out);
        read.map_err(|source| SavedError::Read { file: self.file(), source })
    }

    fn u32(&mut self) -> Result<u32, SavedError> {
        let mut bytes = [0; 4];
        self.bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, SavedError> {
        let mut bytes = [0; 8];
        self.bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a file of `length` bytes.
    fn open<M: Resume>(
        &mut self,
        length: u64,
        identity: &Identity,
        session: &mut Session<M>,
    ) -> Result<Opened, SavedError> {
        let (header_bytes, positions, state) = self.lengths(length)?;
        let mut json = vec![0; header_bytes];
        self.bytes(&mut json)?;
        let header: Result<Header, _> = serde_json::from_slice(&json);
        drop(json);
        let mut tokens = vec![0; positions];
        for id in &mut tokens {
            *id = self.u32()?;
        }
        let header = header.map_err(|_| self.damaged("header"))?;
        let refused = match header.identity.difference(identity) {
            None if positions > session.context() => Some("a larger context"),
            difference => difference,
        };
        match refused {
            None => self.restore(&tokens, state, session)?,
            Some(_) => self.skip(state)?,
        }
        let sum = self.from.sum.finish();
        if self.u64()? != sum {
            return Err(self.damaged("checksum"));
        }
        let restored = session.cached().len();
        let tokens = if refused.is_none() { tokens } else { vec![] };
        let conversation = self.conversation(header, tokens, session.tokenizer().vocab_size())?;
        Ok(Opened { conversation, restored, refused })
    }

    /// Reads what is before the header: bytes of the header, tokens and bytes of the state.
    fn lengths(&mut self, length: u64) -> Result<(usize, usize, u64), SavedError> {
        let mut magic = [0; 8];
        if length < MAGIC.len() as u64 {
            return Err(SavedError::NotASession { file: self.file() });
        }
        self.bytes(&mut magic)?;
        if magic != MAGIC {
            return Err(SavedError::NotASession { file: self.file() });
        }
        if length < FIXED_BYTES {
            return Err(SavedError::Length { file: self.file(), expected: FIXED_BYTES, found: length });
        }
        let found = self.u32()?;
        if found != VERSION {
            return Err(SavedError::Version { file: self.file(), expected: VERSION, found });
        }
        let (header, tokens, state) = (u64::from(self.u32()?), self.u64()?, self.u64()?);
        check(self.path, "header", header, MAX_HEADER_BYTES as u64)?;
        check(self.path, "number of tokens", tokens, MAX_CONTEXT as u64)?;
        let known = FIXED_BYTES + header + 4 * tokens + CHECKSUM_BYTES;
        let expected = known.saturating_add(state);
        if length != expected {
            return Err(SavedError::Length { file: self.file(), expected, found: length });
        }
        Ok((header as usize, tokens as usize, state))
    }

    fn restore<M: Resume>(
        &mut self,
        tokens: &[u32],
        state: u64,
        session: &mut Session<M>,
    ) -> Result<(), SavedError> {
        let vocab = session.tokenizer().vocab_size();
        if tokens.iter().any(|id| *id as usize >= vocab) {
            return Err(self.damaged("list of tokens"));
        }
        if session.state_bytes(tokens.len()) != state {
            return Err(self.damaged("length of the state"));
        }
        session.read_state(tokens, &mut self.from).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => self.damaged("state"),
            _ => SavedError::Read { file: self.file(), source },
        })
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), SavedError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        while bytes > 0 {
            let part = bytes.min(CHUNK_BYTES as u64) as usize;
            self.bytes(&mut chunk[..part])?;
            bytes -= part as u64;
        }
        Ok(())
    }

    /// The conversation of a header; without `tokens`, nothing is known of how its text was read.
    fn conversation(
        &self,
        header: Header,
        mut tokens: Vec<u32>,
        vocab: usize,
    ) -> Result<Conversation, SavedError> {
        let Header { system, turns, text, marks, unread, .. } = header;
        if tokens.is_empty() || text.is_empty() {
            return Ok(Conversation { system, turns, said: None });
        }
        tokens.extend_from_slice(&unread);
        let is_mark = |mark: &(usize, usize)| text.is_char_boundary(mark.0) && mark.1 <= tokens.len();
        if !marks.iter().all(is_mark) || unread.iter().any(|id| *id as usize >= vocab) {
            return Err(self.damaged("header"));
        }
        Ok(Conversation { system, turns, said: Some(Said { text, tokens, marks }) })
    }
}

/// A checksum of 64 bits, eight bytes a step. It resists accidents, not attackers; it does not depend on how the
/// bytes are cut into calls.
#[derive(Clone, Debug)]
pub(super) struct Checksum {
    sum: u64,
    /// Bytes that do not fill a word yet.
    rest: [u8; 8],
    filled: usize,
    bytes: u64,
}

impl Checksum {
    pub(super) fn new() -> Checksum {
        Checksum { sum: 0x5342_4c54_5345_5331, rest: [0; 8], filled: 0, bytes: 0 }
    }

    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.filled > 0 {
            let part = bytes.len().min(8 - self.filled);
            self.rest[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
            self.filled += part;
            bytes = &bytes[part..];
            if self.filled < 8 {
                return;
            }
            self.sum = mix(self.sum, u64::from_le_bytes(self.rest));
            self.filled = 0;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        self.sum = words.iter().fold(self.sum, |sum, word| mix(sum, u64::from_le_bytes(*word)));
        self.rest[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    pub(super) fn finish(&self) -> u64 {
        let mut last = [0; 8];
        last[..self.filled].copy_from_slice(&self.rest[..self.filled]);
        let sum = mix(mix(self.sum, u64::from_le_bytes(last)), self.bytes);
        sum ^ (sum >> 32)
    }
}

/// The multiplier is odd and the rotation a bijection, so that no single changed word goes unnoticed.
fn mix(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Passes bytes on and sums them.
struct Summed<T> {
    inner: T,
    sum: Checksum,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Summed<T> {
        Summed { inner, sum: Checksum::new() }
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.sum.add(&out[..read]);
        Ok(read)
    }
}
