//! What a calibration has finished, kept in a file beside the output, so that it can go on after a kill.
//!
//! ```text
//! magic, key: u64                                       the key tells which calibration this is
//! length of name: u32, of data: u64, loss: f64, nearest loss: f64, name, data, FNV-1a of all these: u64
//! ...
//! ```
//!
//! Numbers are little-endian. A record that is torn or damaged ends the file: what is behind it is dropped. A file
//! with another key is begun anew.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use smolt::files::{Access, Fnv, check_own, hold, leads_to};

use crate::error::QuantizeError;

const MAGIC: &[u8; 24] = b"smolt-calibration-v1\n\0\0\0";
const RECORD_HEAD: usize = 28;
/// Longest name of a record.
const MAX_NAME: usize = 1 << 10;

/// A finished tensor, or what else is to be remembered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Record {
    start: u64,
    len: u64,
    /// Squared error of the outputs over the text.
    pub(crate) loss: f64,
    /// The same if every weight had been rounded to nearest.
    pub(crate) nearest_loss: f64,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    end: u64,
    records: HashMap<String, Record>,
}

impl Journal {
    /// Opens the journal at `path`, or begins it if there is none for `key`. What is no journal stays as it is.
    pub(crate) fn open(path: &Path, key: u64) -> Result<Self, QuantizeError> {
        check_own(path, MAGIC.len(), |first| first == MAGIC)?;
        let file = hold(path, Access::Usual)?;
        Self::read(file, path, key).map_err(QuantizeError::Journal)
    }

    /// Whether there is a journal at `path`.
    pub(crate) fn holds(path: &Path) -> Result<bool, QuantizeError> {
        check_own(path, MAGIC.len(), |first| first == MAGIC)?;
        Ok(fs::metadata(path).is_ok_and(|found| found.len() > 0))
    }

    fn read(file: File, path: &Path, key: u64) -> io::Result<Self> {
        let mut journal = Self { file, path: path.to_owned(), end: 0, records: HashMap::new() };
        if !journal.read_all(key)? {
            journal.records.clear();
            journal.file.set_len(0)?;
            journal.file.seek(SeekFrom::Start(0))?;
            let written = journal.file.write_all(&[&MAGIC[..], &key.to_le_bytes()].concat());
            if let Err(error) = written {
                // A part of it would be taken for somebody else's file.
                let _ = journal.file.set_len(0);
                return Err(error);
            }
            journal.end = MAGIC.len() as u64 + 8;
        }
        journal.file.set_len(journal.end)?;
        Ok(journal)
    }

    /// Finds all whole records; false if the file is of another calibration.
    fn read_all(&mut self, key: u64) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        let mut reader = io::BufReader::new(&self.file);
        let mut head = [0; MAGIC.len() + 8];
        if length < head.len() as u64 {
            return Ok(false);
        }
        reader.read_exact(&mut head)?;
        if head[..MAGIC.len()] != MAGIC[..] || head[MAGIC.len()..] != key.to_le_bytes() {
            return Ok(false);
        }
        self.end = head.len() as u64;
        while let Some((name, record)) = read_record(&mut reader, self.end, length)? {
            self.end = record.start + record.len + 8;
            self.records.insert(name, record);
        }
        Ok(true)
    }

    /// What is remembered under a name.
    pub(crate) fn record(&self, name: &str) -> Option<Record> {
        self.records.get(name).copied()
    }

    /// The data of a name.
    pub(crate) fn data(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(record) = self.records.get(name) else { return Ok(None) };
        let mut data = vec![0; record.len as usize];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(record.start))?;
        file.read_exact(&mut data)?;
        Ok(Some(data))
    }

    /// Remembers data under a new name; it is on the disk when this returns.
    pub(crate) fn put(&mut self, name: &str, data: &[u8], loss: f64, nearest_loss: f64) -> io::Result<()> {
        let mut head = (name.len() as u32).to_le_bytes().to_vec();
        head.extend((data.len() as u64).to_le_bytes());
        head.extend(loss.to_le_bytes());
        head.extend(nearest_loss.to_le_bytes());
        head.extend(name.as_bytes());
        let mut hash = Fnv::default();
        hash.add(&head);
        hash.add(data);
        let (start, len) = (self.end + head.len() as u64, data.len() as u64);
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&head)?;
        self.file.write_all(data)?;
        self.file.write_all(&hash.finish().to_le_bytes())?;
        self.file.sync_data()?;
        self.end = start + len + 8;
        self.records.insert(name.to_owned(), Record { start, len, loss, nearest_loss });
        Ok(())
    }

    /// Deletes the file: the calibration has ended.
    pub(crate) fn remove(self) -> io::Result<()> {
        // Another file of this name is somebody else's.
        if leads_to(&self.file, &self.path) { fs::remove_file(&self.path) } else { Ok(()) }
    }
}

/// The record at `start` of a file of `length` bytes; `None` if there is no whole one.
fn read_record(reader: &mut dyn Read, start: u64, length: u64) -> io::Result<Option<(String, Record)>> {
    let mut head = [0; RECORD_HEAD];
    if length.saturating_sub(start) < RECORD_HEAD as u64 {
        return Ok(None);
    }
    reader.read_exact(&mut head)?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    let name_len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let len = word(4);
    let left = length - start - RECORD_HEAD as u64;
    let needed = (name_len as u64).checked_add(len).and_then(|bytes| bytes.checked_add(8));
    if name_len > MAX_NAME || needed.is_none_or(|needed| needed > left) {
        return Ok(None);
    }
    let mut name = vec![0; name_len];
    reader.read_exact(&mut name)?;
    let mut hash = Fnv::default();
    hash.add(&head);
    hash.add(&name);
    let mut buffer = vec![0; 1 << 16];
    let mut rest = len;
    while rest > 0 {
        let part = &mut buffer[..rest.min(1 << 16) as usize];
        reader.read_exact(part)?;
        hash.add(part);
        rest -= part.len() as u64;
    }
    let mut found = [0; 8];
    reader.read_exact(&mut found)?;
    let record = Record {
        start: start + (RECORD_HEAD + name_len) as u64,
        len,
        loss: f64::from_bits(word(12)),
        nearest_loss: f64::from_bits(word(20)),
    };
    let name = String::from_utf8(name).ok().filter(|_| u64::from_le_bytes(found) == hash.finish());
    Ok(name.map(|name| (name, record)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("smolt-journal-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn what_was_put_is_found_again() {
        let place = Place::new("found");
        let mut journal = Journal::open(&place.0, 7).unwrap();
        journal.put("a", &[1, 2, 3], 0.5, 2.0).unwrap();
        journal.put("b", &[], 0.0, 0.0).unwrap();
        drop(journal);
        let journal = Journal::open(&place.0, 7).unwrap();
        assert_eq!(journal.data("a").unwrap().unwrap(), [1, 2, 3]);
        assert_eq!(journal.data("b").unwrap(), Some(Vec::new()));
        assert_eq!(journal.data("c").unwrap(), None);
        let record = journal.record("a").unwrap();
        assert_eq!((record.loss, record.nearest_loss), (0.5, 2.0));
        journal.remove().unwrap();
        assert!(!place.0.exists());
    }

    /// What this program did not begin is neither gone on with nor written through.
    #[test]
    fn what_is_no_journal_stays_as_it_is() {
        let place = Place::new("foreign");
        for content in [&b"my precious note"[..], b"s", &MAGIC[..10], &[0; 64]] {
            fs::write(&place.0, content).unwrap();
            let error = Journal::open(&place.0, 7).unwrap_err();
            assert!(error.to_string().contains("not written by this program"), "{error}");
            assert_eq!((fs::read(&place.0).unwrap(), error.exit_code()), (content.to_vec(), 2));
        }
        fs::remove_file(&place.0).unwrap();
        let journal = Journal::open(&place.0, 7).unwrap();
        let error = Journal::open(&place.0, 7).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        // Another file that took its place is not deleted.
        fs::remove_file(&place.0).unwrap();
        fs::write(&place.0, "a note").unwrap();
        journal.remove().unwrap();
        assert_eq!(fs::read(&place.0).unwrap(), b"a note");
        #[cfg(unix)]
        {
            let link = Place::new("link");
            std::os::unix::fs::symlink(&place.0, &link.0).unwrap();
            let error = Journal::open(&link.0, 7).unwrap_err();
            assert!(error.to_string().contains("symbolic link"), "{error}");
            assert_eq!(fs::read(&place.0).unwrap(), b"a note");
        }
    }

    #[test]
    fn another_calibration_begins_anew() {
        let place = Place::new("anew");
        Journal::open(&place.0, 7).unwrap().put("a", &[1], 0.0, 0.0).unwrap();
        assert_eq!(Journal::open(&place.0, 8).unwrap().record("a"), None);
        assert_eq!(Journal::open(&place.0, 7).unwrap().record("a"), None);
    }

    /// Wherever the file ends, whole records are kept and the next is written behind them.
    #[test]
    fn a_torn_end_is_dropped() {
        let place = Place::new("torn");
        let mut journal = Journal::open(&place.0, 7).unwrap();
        journal.put("a", &[1, 2, 3], 0.5, 2.0).unwrap();
        let whole = journal.end;
        journal.put("b", &[4; 100], 0.5, 2.0).unwrap();
        drop(journal);
        let bytes = fs::read(&place.0).unwrap();
        for end in (whole..bytes.len() as u64).step_by(7) {
            fs::write(&place.0, &bytes[..end as usize]).unwrap();
            let mut journal = Journal::open(&place.0, 7).unwrap();
            assert!(journal.record("a").is_some() && journal.record("b").is_none(), "{end}");
            journal.put("c", &[9], 0.0, 0.0).unwrap();
            drop(journal);
            assert_eq!(Journal::open(&place.0, 7).unwrap().data("c").unwrap().unwrap(), [9]);
        }
        let mut damaged = bytes.clone();
        let last = damaged.len() - 20;
        damaged[last] ^= 1;
        fs::write(&place.0, &damaged).unwrap();
        let journal = Journal::open(&place.0, 7).unwrap();
        assert!(journal.record("a").is_some() && journal.record("b").is_none());
    }

    #[test]
    fn absurd_lengths_are_no_records() {
        let place = Place::new("absurd");
        Journal::open(&place.0, 7).unwrap();
        let mut bytes = fs::read(&place.0).unwrap();
        bytes.extend([0xFF; 200]);
        fs::write(&place.0, &bytes).unwrap();
        assert!(Journal::open(&place.0, 7).unwrap().records.is_empty());
    }
}
