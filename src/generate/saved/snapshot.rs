//! A conversation and the state of the cache.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::{Access, NewFile};
use crate::model::{MAX_CONTEXT, Resume};

use super::checksum::Summed;
use super::journal;
use super::{
    CHECKSUM_BYTES, Difference, FIXED_BYTES, Identity, MAGIC, MAX_HEADER_BYTES, OLD_VERSION, Opened, Origin,
    SavedError, VERSION,
};
use crate::generate::conversation::Said;
use crate::generate::{Conversation, Session, Turn};

/// Bytes read at a time of a state that is not used.
const CHUNK_BYTES: usize = 1 << 16;

#[derive(Serialize, Deserialize)]
struct Header {
    identity: Identity,
    /// As in [`Origin`].
    #[serde(default)]
    model: String,
    #[serde(default)]
    source: String,
    system: Option<String>,
    turns: Vec<Turn>,
    /// Text that the tokens, and then `unread`, stand for.
    text: String,
    /// As in [`Said`].
    marks: Vec<(usize, usize)>,
    /// Tokens that are not in the cache yet.
    unread: Vec<u32>,
}

impl Header {
    fn new(origin: &Origin, conversation: &Conversation, said: Said, unread: Vec<u32>) -> Header {
        Header {
            identity: origin.identity.clone(),
            model: origin.model.clone(),
            source: origin.source.clone(),
            system: conversation.system.clone(),
            turns: conversation.turns.clone(),
            text: said.text,
            marks: said.marks,
            unread,
        }
    }

    fn to_json(&self, path: &Path) -> Result<Vec<u8>, SavedError> {
        let file = || path.display().to_string();
        let json =
            serde_json::to_vec(self).map_err(|_| SavedError::Damaged { file: file(), what: "header" })?;
        check(path, "header", json.len() as u64, MAX_HEADER_BYTES as u64)?;
        Ok(json)
    }

    fn from_json(path: &Path, json: &[u8]) -> Result<Header, SavedError> {
        let damaged = |_| SavedError::Damaged { file: path.display().to_string(), what: "header" };
        serde_json::from_slice(json).map_err(damaged)
    }

    fn origin(&self) -> Origin {
        Origin { identity: self.identity.clone(), model: self.model.clone(), source: self.source.clone() }
    }
}

/// Saves a conversation with the state of the session's cache, or without one, and returns the size of the file in
/// bytes. Only the user may read the file.
///
/// # Errors
/// If the conversation is too long, or the disk refuses; then nothing is left behind.
pub fn save<M: Resume>(
    path: &Path,
    origin: &Origin,
    conversation: &Conversation,
    session: Option<&mut Session<M>>,
) -> Result<u64, SavedError> {
    let cached = session.as_ref().map_or(vec![], |session| session.cached().to_vec());
    let said = conversation.said.as_ref().filter(|said| said.tokens.starts_with(&cached));
    let said = said.filter(|_| !cached.is_empty()).cloned().unwrap_or_default();
    let unread = said.tokens.get(cached.len()..).unwrap_or_default().to_vec();
    let header = Header::new(origin, conversation, said, unread).to_json(path)?;
    let new = NewFile::create(path, Access::Private)?;
    let fail = |source| SavedError::Append { file: path.display().to_string(), source };
    // Also where others could read the file before.
    #[cfg(unix)]
    new.file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(fail)?;
    let mut out = BufWriter::new(new.file());
    let bytes = write(&mut out, &header, &cached, session.filter(|_| !cached.is_empty())).map_err(fail)?;
    out.flush().map_err(fail)?;
    drop(out);
    new.finish()?;
    Ok(bytes)
}

fn write<M: Resume>(
    out: &mut dyn Write,
    header: &[u8],
    cached: &[u32],
    session: Option<&mut Session<M>>,
) -> io::Result<u64> {
    let mut session = session;
    let state = session.as_mut().map_or(0, |session| session.state_bytes(cached.len()));
    let mut out = Summed::new(out);
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&(header.len() as u32).to_le_bytes())?;
    out.write_all(&(cached.len() as u64).to_le_bytes())?;
    out.write_all(&state.to_le_bytes())?;
    out.write_all(header)?;
    for id in cached {
        out.write_all(&id.to_le_bytes())?;
    }
    if let Some(session) = session {
        session.write_state(&mut out)?;
    }
    let sum = out.sum.finish();
    out.inner.write_all(&sum.to_le_bytes())?;
    Ok(FIXED_BYTES + header.len() as u64 + 4 * cached.len() as u64 + state + CHECKSUM_BYTES)
}

/// What a saved conversation was made with, from the head of its file.
///
/// # Errors
/// If the file cannot be read or is no saved conversation.
pub fn origin(path: &Path) -> Result<Origin, SavedError> {
    let (mut reader, length) = Reader::start(path)?;
    let (header, ..) = reader.lengths(length)?;
    let mut json = vec![0; header];
    reader.bytes(&mut json)?;
    Ok(Header::from_json(path, &json)?.origin())
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
    let (mut reader, length) = Reader::start(path)?;
    let opened = reader.open(length, identity, session);
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

impl<'a> Reader<'a, BufReader<File>> {
    /// Opens a regular file; its length.
    fn start(path: &'a Path) -> Result<(Self, u64), SavedError> {
        let fail = |source| SavedError::Read { file: path.display().to_string(), source };
        // Before it is opened, because opening a pipe would wait for its writer.
        if !fs::metadata(path).map_err(fail)?.is_file() {
            return Err(SavedError::NotASession { file: path.display().to_string() });
        }
        let file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        Ok((Reader { path, from: Summed::new(BufReader::new(file)) }, length))
    }
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
        let header = Header::from_json(self.path, &json);
        drop(json);
        let mut tokens = vec![0; positions];
        for id in &mut tokens {
            *id = self.u32()?;
        }
        let header = header?;
        let difference = match header.identity.difference(identity) {
            None if positions > session.context() => Some(Difference::Context),
            difference => difference,
        };
        match difference {
            None if positions > 0 || state > 0 => self.restore(&tokens, state, session)?,
            _ => self.skip(state)?,
        }
        let sum = self.from.sum.finish();
        if self.u64()? != sum {
            return Err(self.damaged("checksum"));
        }
        let (restored, origin) = (session.cached().len(), header.origin());
        let tokens = if difference.is_none() { tokens } else { vec![] };
        let mut conversation = self.conversation(header, tokens, session.tokenizer().vocab_size())?;
        let snapshot = FIXED_BYTES + header_bytes as u64 + 4 * positions as u64 + state + CHECKSUM_BYTES;
        let cut = journal::read(self.path, &mut self.from.inner, length - snapshot, &mut conversation)?;
        Ok(Opened { conversation, origin, restored, difference, bytes: length - cut, cut })
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
        let version = self.u32()?;
        if version != VERSION && version != OLD_VERSION {
            let (file, found) = (self.file(), version);
            return Err(SavedError::Version { file, expected: VERSION, found });
        }
        let (header, tokens, state) = (u64::from(self.u32()?), self.u64()?, self.u64()?);
        check(self.path, "header", header, MAX_HEADER_BYTES as u64)?;
        check(self.path, "number of tokens", tokens, MAX_CONTEXT as u64)?;
        let known = FIXED_BYTES + header + 4 * tokens + CHECKSUM_BYTES;
        let expected = known.saturating_add(state);
        if length < expected {
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
