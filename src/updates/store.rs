//! A store: its folder, its lock, its trust file.

use std::io::Read as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::books::{Books, RECORDS, Unreadable, read_whole, write_block, write_new};
use super::disk::{Disk, DiskFile, Reader, again};
use super::error::{Refused, UpdateError, fail};
use super::judge::{Head, HeadError, Judge, Purpose};
use super::record::{BLOCK, Hex, MAX_GOLDEN, PackageId, Record, SlotName, TrustAt, seal, unseal};

/// Longest trust file.
pub const MAX_TRUST: usize = 16 << 10;
/// Most bytes of a package before its model: eight signatures, the release, headers.
const MAX_HEAD: u64 = 10 << 20;
/// How long a short change waits for the lock, and how often it asks.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// The copies of the trust file: while one is written and another one is damaged, there is a third.
pub(super) const TRUST: [&str; 3] = ["trust.0", "trust.1", "trust.2"];
/// Where the golden package lies, for the case that both records are lost.
const GOLDEN: &str = "golden";
/// A secret of this device alone.
pub const DEVICE_KEY: &str = "device.key";

/// A folder with two slots, one of which is good and is never written.
#[derive(Debug)]
pub struct Store<D, J> {
    pub(super) disk: D,
    pub(super) judge: J,
    /// Its folder, as it is shown.
    pub(super) folder: String,
    patience: Duration,
}

/// Where a golden package lies.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    golden: String,
}

/// The trust file in force.
pub(super) struct InForce<T> {
    pub(super) trust: T,
    pub(super) at: TrustAt,
    pub(super) text: Vec<u8>,
    /// The file that it was read from.
    pub(super) name: &'static str,
}

/// A package that was opened, its head verified.
pub(super) struct Opened<O> {
    pub(super) head: Head,
    pub(super) rest: O,
    /// Bytes of the head.
    pub(super) length: u64,
}

impl<D: Disk, J: Judge> Store<D, J> {
    /// Uses the files of a folder, and what judges packages.
    pub fn new(disk: D, judge: J, folder: impl Into<String>) -> Self {
        Self { disk, judge, folder: folder.into(), patience: PATIENCE }
    }

    /// Sets how long a short change waits for another process.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Makes a store of a folder: a trust file, a secret key of the device, and records that take no more space later.
    ///
    /// # Errors
    /// If it is one already, or the trust file is none, or the disk refuses.
    pub fn init(&self, trust: &[u8], golden: Option<&str>, key: &[u8; 32]) -> Result<(), UpdateError> {
        let version = self.judge.version(&self.judge.trust(trust).map_err(UpdateError::Trust)?);
        if golden.is_some_and(|path| path.len() > MAX_GOLDEN) {
            return Err(UpdateError::TooLong { what: "the path of the golden package", most: MAX_GOLDEN });
        }
        let _lock = self.lock()?;
        match Books::read(&self.disk, &self.folder, Unreadable::Fails) {
            // A store that was being made when the process ended has neither a record nor a marker.
            Err(UpdateError::NotAStore { .. }) => {}
            Ok(books) if books.were_lost() && books.markers.iter().all(Option::is_none) => {}
            Ok(_) => return Err(UpdateError::IsAStore { folder: self.folder.clone() }),
            Err(error) => return Err(error),
        }
        let digest = Hex(*blake3::hash(trust).as_bytes());
        for name in TRUST {
            self.replace(name, trust)?;
        }
        self.replace(DEVICE_KEY, key)?;
        let block = golden.map(|path| seal(&Golden { golden: path.to_owned() })).transpose()?;
        write_block(&self.disk, GOLDEN, &block.unwrap_or([b' '; BLOCK]))?;
        for slot in SlotName::BOTH {
            write_block(&self.disk, slot.marker(), &[b' '; BLOCK])?;
        }
        write_block(&self.disk, RECORDS[1], &[b' '; BLOCK])?;
        let trust = Some(TrustAt { version, digest });
        let golden = golden.map(str::to_owned);
        Books::new(Record { trust, golden, ..Record::default() }).write(&self.disk)
    }

    /// Writes a small file that nothing depends on yet.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), UpdateError> {
        again(|| self.disk.remove(name)).map_err(fail(name, "remove"))?;
        write_new(&self.disk, name, bytes)
    }

    /// Takes the lock at once, or says that the store is busy.
    pub(super) fn lock(&self) -> Result<D::Lock, UpdateError> {
        again(|| self.disk.lock()).map_err(fail("lock", "lock"))?.ok_or(UpdateError::Busy)
    }

    /// Takes the lock for a short change.
    pub(super) fn lock_patiently(&self) -> Result<D::Lock, UpdateError> {
        let start = Instant::now();
        loop {
            match self.lock() {
                Err(UpdateError::Busy) if start.elapsed() < self.patience => std::thread::sleep(PAUSE),
                result => return result,
            }
        }
    }

    /// Reads what the store knows.
    pub(super) fn books(&self, unreadable: Unreadable) -> Result<Books, UpdateError> {
        let mut books = Books::read(&self.disk, &self.folder, unreadable)?;
        if books.were_lost() {
            let kept = read_whole(&self.disk, GOLDEN, BLOCK).ok().flatten();
            books.record.golden = kept.and_then(|block| unseal::<Golden>(&block)).map(|kept| kept.golden);
        }
        Ok(books)
    }

    /// Reads the trust file in force, of which there are copies: the one that the record means, or, where no copy of
    /// it or no record is left, the newest that is whole. None was written before it was accepted.
    pub(super) fn trust(&self, record: &Record) -> Result<InForce<J::Trust>, UpdateError> {
        let mut best: Option<InForce<J::Trust>> = None;
        for name in TRUST {
            let Ok(Some(text)) = read_whole(&self.disk, name, MAX_TRUST) else { continue };
            let Ok(trust) = self.judge.trust(&text) else { continue };
            let digest = Hex(*blake3::hash(&text).as_bytes());
            let found =
                InForce { at: TrustAt { version: self.judge.version(&trust), digest }, trust, text, name };
            if record.trust == Some(found.at) {
                return Ok(found);
            }
            let newest = best.as_ref().map(|best| best.at).or(record.trust).map_or(0, |at| at.version);
            if found.at.version >= newest {
                best = Some(found);
            }
        }
        best.ok_or(UpdateError::NoTrust)
    }

    /// Reads and verifies the head of a package.
    pub(super) fn head(
        &self,
        trust: &J::Trust,
        purpose: Purpose,
        package: &mut dyn std::io::Read,
        kept: &mut Vec<u8>,
    ) -> Result<Opened<J::Opened>, HeadError> {
        let mut kept = Kept { source: package.take(MAX_HEAD), bytes: kept };
        let (mut head, rest) = self.judge.head(trust, purpose, &mut kept)?;
        head.package.head = Hex(*blake3::hash(kept.bytes).as_bytes());
        let length = kept.bytes.len() as u64;
        if head.package.bytes < length || head.package.name.len() > super::record::MAX_NAME {
            return Err(
                Refused("its head is longer than all of it, or its name than 128 bytes".into()).into()
            );
        }
        Ok(Opened { head, rest, length })
    }

    /// Opens the package of a slot and verifies its head.
    pub(super) fn open_slot(
        &self,
        trust: &J::Trust,
        slot: SlotName,
    ) -> Result<(D::File, Opened<J::Opened>), HeadError> {
        let open = again(|| self.disk.open(slot.file(), super::disk::Access::Read))?;
        let file = open.ok_or(Refused("there is no file".into()))?;
        let opened = self.head(trust, Purpose::Run, &mut Reader::new(&file), &mut vec![])?;
        if again(|| file.length())? != opened.head.package.bytes {
            return Err(Refused("the file is longer or shorter than the package".into()).into());
        }
        Ok((file, opened))
    }

    /// Opens a slot that is to hold a package.
    pub(super) fn open_expected(
        &self,
        trust: &J::Trust,
        slot: SlotName,
        expected: &PackageId,
    ) -> Result<(D::File, Opened<J::Opened>), HeadError> {
        let (file, opened) = self.open_slot(trust, slot)?;
        if opened.head.package != *expected {
            let found = &opened.head.package;
            return Err(Refused(format!("it holds another package than was installed, {found}")).into());
        }
        Ok((file, opened))
    }

    /// Verifies all of a package that is open.
    pub(super) fn verify_rest(&self, file: &D::File, opened: &Opened<J::Opened>) -> Result<(), HeadError> {
        let mut reader = Reader::at(file, opened.length);
        self.judge.rest(&opened.rest, &mut reader)
    }
}

/// Keeps what is read.
struct Kept<'a, R> {
    source: R,
    bytes: &'a mut Vec<u8>,
}

impl<R: std::io::Read> std::io::Read for Kept<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = again(|| self.source.read(buffer))?;
        self.bytes.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}
