//! What was said since the last snapshot, at the end of its file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checksum::Checksum;
use super::{MAGIC, MAX_HEADER_BYTES, SavedError};
use crate::files::{Access, open_to_write};
use crate::generate::{Conversation, Turn};

/// Bytes around a step: length and checksum.
const FRAME_BYTES: u64 = 12;
/// Bytes of all steps after which a new snapshot is due.
const LONG_BYTES: u64 = 16 << 20;

/// How a conversation differs from that before.
#[derive(Serialize, Deserialize)]
struct Step<'a> {
    /// The oldest turns, which are forgotten.
    dropped: usize,
    /// Turns after these that stay.
    kept: usize,
    /// Turns that follow.
    turns: Cow<'a, [Turn]>,
    /// If it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<System<'a>>,
}

#[derive(Serialize, Deserialize)]
struct System<'a> {
    text: Option<Cow<'a, str>>,
}

impl<'a> Step<'a> {
    /// From the turns and system prompt `before` to `after`; `None` if they are equal.
    fn between(before: &Conversation, after: &'a Conversation) -> Option<Step<'a>> {
        let (old, new) = (&before.turns, &after.turns);
        let same = |dropped: usize| {
            let pairs = old[dropped..].iter().zip(new);
            pairs.take_while(|(a, b)| a == b).count()
        };
        // The first of those that keep the most.
        let (kept, dropped) = (0..old.len().max(1))
            .map(|dropped| (same(dropped), dropped))
            .max_by_key(|(kept, dropped)| (*kept, std::cmp::Reverse(*dropped)))
            .unwrap_or((0, 0));
        let dropped = if kept == 0 { 0 } else { dropped };
        let system = (before.system != after.system)
            .then(|| System { text: after.system.as_deref().map(Cow::Borrowed) });
        let is_same = system.is_none() && dropped == 0 && kept == old.len() && kept == new.len();
        (!is_same).then(|| Step { dropped, kept, turns: Cow::Borrowed(&new[kept..]), system })
    }

    /// Changes a conversation; `None` if it is not one that the step can follow.
    fn apply(self, conversation: &mut Conversation) -> Option<()> {
        let turns = &mut conversation.turns;
        if self.kept > turns.len().checked_sub(self.dropped)? {
            return None;
        }
        turns.drain(..self.dropped);
        turns.truncate(self.kept);
        turns.extend(self.turns.into_owned());
        if let Some(System { text }) = self.system {
            conversation.system = text.map(Cow::into_owned);
        }
        Some(())
    }
}

/// The file of a conversation that goes on: keeps it up to date turn by turn.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where the next step begins.
    bytes: u64,
    /// Where the first began.
    start: u64,
    /// What the file says.
    known: Conversation,
}

impl Journal {
    /// Goes on with a file of which `bytes` bytes say `conversation`; what follows them is cut off.
    ///
    /// # Errors
    /// If it cannot be opened, or its name is a symbolic link.
    pub fn open(path: &Path, bytes: u64, conversation: &Conversation) -> Result<Journal, SavedError> {
        let fail = |source| SavedError::Append { file: path.display().to_string(), source };
        let mut file = open_to_write(path, Access::Private)?;
        // Another file may have taken its place since it was read.
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).map_err(fail)?;
        if magic != MAGIC {
            return Err(SavedError::NotASession { file: path.display().to_string() });
        }
        file.set_len(bytes).map_err(fail)?;
        let known = Conversation {
            system: conversation.system.clone(),
            turns: conversation.turns.clone(),
            said: None,
        };
        Ok(Journal { path: path.to_owned(), file, bytes, start: bytes, known })
    }

    /// Adds what is new in the conversation, and returns whether anything is; it is on the disk then.
    ///
    /// # Errors
    /// If the disk refuses; the file then says what it said before, and the next call adds it all.
    pub fn record(&mut self, conversation: &Conversation) -> Result<bool, SavedError> {
        let Some(step) = Step::between(&self.known, conversation) else { return Ok(false) };
        let fail = |source| SavedError::Append { file: self.path.display().to_string(), source };
        let json = serde_json::to_vec(&step).map_err(|error| fail(error.into()))?;
        if json.len() > MAX_HEADER_BYTES {
            return Err(fail(io::Error::other("the turn is too long")));
        }
        let mut record = (json.len() as u32).to_le_bytes().to_vec();
        record.extend(json);
        let mut sum = Checksum::new();
        sum.add(&record);
        record.extend(sum.finish().to_le_bytes());
        let file = &mut self.file;
        let written = file.seek(SeekFrom::Start(self.bytes)).and_then(|_| file.write_all(&record));
        if let Err(error) = written.and_then(|()| file.sync_data()) {
            // What is left of it would be taken for a step that a killed process left.
            let _ = file.set_len(self.bytes);
            return Err(fail(error));
        }
        self.bytes += record.len() as u64;
        self.known.system.clone_from(&conversation.system);
        self.known.turns.clone_from(&conversation.turns);
        Ok(true)
    }

    /// Whether the steps have become so many that a new snapshot is due.
    pub fn is_long(&self) -> bool {
        self.bytes - self.start > LONG_BYTES
    }
}

/// Reads all steps of the `remaining` bytes into a conversation; returns how many bytes at the end are of none.
pub(super) fn read(
    path: &Path,
    from: &mut dyn Read,
    mut remaining: u64,
    conversation: &mut Conversation,
) -> Result<u64, SavedError> {
    let fail = |source| SavedError::Read { file: path.display().to_string(), source };
    let damaged = || SavedError::Damaged { file: path.display().to_string(), what: "record of a turn" };
    let limit = 2 * MAX_HEADER_BYTES as u64;
    if remaining > limit {
        let file = path.display().to_string();
        return Err(SavedError::TooLarge { file, what: "record of the turns", found: remaining, limit });
    }
    while remaining >= FRAME_BYTES {
        let mut length = [0; 4];
        from.read_exact(&mut length).map_err(fail)?;
        let bytes = u64::from(u32::from_le_bytes(length));
        if bytes + FRAME_BYTES > remaining {
            break;
        }
        let mut record = vec![0; bytes as usize];
        from.read_exact(&mut record).map_err(fail)?;
        let mut sum = [0; 8];
        from.read_exact(&mut sum).map_err(fail)?;
        let mut found = Checksum::new();
        found.add(&length);
        found.add(&record);
        if found.finish() != u64::from_le_bytes(sum) {
            // A file system may have given the file its length, but not all of its bytes.
            let mut rest = vec![];
            from.take(remaining).read_to_end(&mut rest).map_err(fail)?;
            if sum[7] == 0 && rest.iter().all(|byte| *byte == 0) {
                break;
            }
            return Err(damaged());
        }
        let step: Step<'_> = serde_json::from_slice(&record).map_err(|_| damaged())?;
        step.apply(conversation).ok_or_else(damaged)?;
        remaining -= bytes + FRAME_BYTES;
    }
    Ok(remaining)
}
