//! Downloading a model: resumed, checked, then renamed into place.
//!
//! Bytes go to `.partial/KEY.part`, where the key is the SHA-256 that the file must have: whatever is there is the
//! beginning of that file, whoever fetched it. A process that ends at any point leaves it; the next one hashes it and
//! asks for the rest. The model gets its name only when it is complete, hashed and synced. One process downloads at a
//! time; others wait, and find what they want installed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::address::shown;
use super::hub::{Failure, Hub, HubFile, Stream, cut};
use super::installed::record_path;
use super::{HubName, Installed, Record, Store, StoreError, choose, files};
use crate::files::{Access, ReadError, open_to_write, sha256_hex, write_whole};

/// Attempts without a single new byte before it is given up.
const ATTEMPTS: u32 = 5;
/// Largest file, far above any that runs here: a server cannot fill the disk without an end.
const MAX_FILE: u64 = 1 << 36;
/// Largest file of which nobody tells the size: more than any model that runs here has.
const MAX_UNSIZED: u64 = 1 << 32;
/// Wait after the first failure; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What happens during a download.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants say what the fields are")]
pub enum Event<'a> {
    /// No file was named: this one is taken, these could be named.
    Chosen { file: &'a str, others: &'a [String] },
    /// Another process downloads.
    Waiting,
    /// An earlier download is gone on with.
    Resuming { bytes: u64 },
    /// A file of the hub's own client is taken.
    Cached { path: &'a Path },
    /// So much is there, of so much.
    Progress { bytes: u64, total: Option<u64> },
    /// It failed and is tried again after a while.
    Retry { error: &'a StoreError, wait: Duration },
    /// What an earlier download left was not the beginning of this file.
    Restart,
}

/// A model that is installed now.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The model.
    pub model: Installed,
    /// Bytes that came through the network.
    pub fetched: u64,
    /// Whether it was there before.
    pub was_installed: bool,
}

/// Fetches a model of the hub into the store. Without a file in the name, one is chosen; `revision` is a branch, tag or
/// commit.
///
/// # Errors
/// [`StoreError`]; what was downloaded is kept for the next time, except if its hash is wrong.
pub fn pull(
    (store, hub): (&Store, &Hub),
    name: &HubName,
    revision: &str,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Pulled, StoreError> {
    if let Some(variable) = hub.offline() {
        let model = store.find(&name.to_string()).map_err(|error| match error {
            StoreError::NotInstalled { name } => StoreError::Offline { variable, name },
            error => error,
        })?;
        return Ok(Pulled { model, fetched: 0, was_installed: true });
    }
    let found = retried(report, || hub.files(name, revision))?;
    let file = pick(name, &found.files, report)?;
    let name = name.with_file(&file.path)?;
    let _lock = store.lock(|| report(Event::Waiting))?;
    let mut target = store.models();
    target.extend(name.repository().split('/').chain(file.path.split('/')));
    let mut download = Download { hub, name: &name, commit: &found.commit, file, fetched: 0 };
    if let Some(record) = download.installed(&target)? {
        let model = download.install(&target, record)?;
        return Ok(Pulled { model, fetched: 0, was_installed: true });
    }
    files::make_folder(&store.partial())?;
    let part = store.partial().join(format!("{}.part", download.key()));
    let record = download.complete(&part, report)?;
    if let Some(folder) = target.parent() {
        files::make_folder(folder)?;
    }
    // Until its own is written, what is there must not be taken for the record of this file. Of one of another size it
    // never is: it stays, for the model that stays where the file cannot take its place.
    let is_in_the_way = match Record::read(&target) {
        // Nothing could be written there.
        Err(ReadError::Folder { .. }) => true,
        read => read?.is_some_and(|old| old.bytes == record.bytes),
    };
    if is_in_the_way {
        fs::remove_file(record_path(&target)).map_err(StoreError::io("replace", &target))?;
    }
    files::rename(&part, &target).map_err(StoreError::io("install", &target))?;
    let model = download.install(&target, record)?;
    Ok(Pulled { model, fetched: download.fetched, was_installed: false })
}

/// The file that is meant.
fn pick(name: &HubName, files: &[HubFile], report: &mut dyn FnMut(Event<'_>)) -> Result<HubFile, StoreError> {
    let models: Vec<&HubFile> = files.iter().filter(|file| choose::is_model(&file.path)).collect();
    let mut paths: Vec<String> = models.iter().map(|file| file.path.clone()).collect();
    let repository = name.repository();
    let at = match name.file() {
        Some(wanted) if choose::is_part(wanted) => {
            return Err(StoreError::OnlyParts { repository, files: vec![wanted.to_owned()] });
        }
        Some(wanted) => choose::named(&paths, wanted).ok_or_else(|| StoreError::NoFile {
            repository,
            file: wanted.to_owned(),
            files: paths.clone(),
        })?,
        None if paths.is_empty() => {
            let parts = files.iter().filter(|file| choose::is_part(&file.path));
            let parts: Vec<String> = parts.map(|file| file.path.clone()).collect();
            return Err(match parts.is_empty() {
                true => StoreError::NoModel { repository },
                false => StoreError::OnlyParts { repository, files: parts },
            });
        }
        None => {
            choose::best(&paths).ok_or_else(|| StoreError::NoChoice { repository, files: paths.clone() })?
        }
    };
    let file = models[at].clone();
    if name.file().is_none() {
        paths.remove(at);
        report(Event::Chosen { file: &file.path, others: &paths });
    }
    Ok(file)
}

/// Does something until it works, cannot work, or failed too often.
fn retried<T>(
    report: &mut dyn FnMut(Event<'_>),
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, StoreError> {
    let mut patience = Patience::default();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error) | Failure::PastEnd(error)) => return Err(error),
            Err(Failure::Later(error, wait)) => patience.wait(error, wait, report)?,
        }
    }
}

/// How often it failed in a row.
#[derive(Default)]
struct Patience {
    failures: u32,
}

impl Patience {
    /// Waits before the next attempt, at least as long as the server asked for.
    fn wait(
        &mut self,
        error: StoreError,
        least: Duration,
        report: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), StoreError> {
        self.failures += 1;
        if self.failures == ATTEMPTS {
            return Err(error);
        }
        let wait = (FIRST_WAIT * (1 << (self.failures - 1))).max(least);
        report(Event::Retry { error: &error, wait });
        std::thread::sleep(wait);
        Ok(())
    }
}

/// One file on its way.
struct Download<'a> {
    hub: &'a Hub,
    name: &'a HubName,
    commit: &'a str,
    file: HubFile,
    /// Bytes that came through the network.
    fetched: u64,
}

/// What there is of a file, and its hash so far.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
    hash: Sha256,
}

impl Part {
    /// Opens what an earlier download left.
    fn open(path: &Path) -> Result<Part, StoreError> {
        let mut file = open_to_write(path, Access::Usual)?;
        let mut hash = Sha256::new();
        let bytes = files::add(&mut hash, &mut file).map_err(StoreError::io("read", path))?;
        Ok(Part { path: path.to_owned(), file, bytes, hash })
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        let clear = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        clear.map_err(StoreError::io("empty", &self.path))?;
        (self.bytes, self.hash) = (0, Sha256::new());
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Download<'_> {
    /// What names the bytes: their hash, or where they are.
    fn key(&self) -> String {
        let place = || {
            let mut hash = Sha256::new();
            hash.update(format!("{}\n{}", self.name, self.commit));
            format!("at-{}", sha256_hex(hash))
        };
        self.file.sha256.clone().unwrap_or_else(place)
    }

    /// The record of the model if it is there already, read from its bytes if it has none.
    fn installed(&self, target: &Path) -> Result<Option<Record>, StoreError> {
        let Ok(data) = fs::metadata(target) else { return Ok(None) };
        let known = Record::beside(target);
        let Some(wanted) = &self.file.sha256 else {
            return Ok(known.filter(|record| record.commit == self.commit));
        };
        let sha256 = match known {
            Some(record) => record.sha256,
            None if self.file.bytes.is_none_or(|bytes| bytes == data.len()) => files::sha256(target)?,
            None => return Ok(None),
        };
        Ok((sha256 == *wanted).then(|| self.record(data.len(), sha256)))
    }

    fn record(&self, bytes: u64, sha256: String) -> Record {
        Record {
            repository: self.name.repository(),
            file: self.file.path.clone(),
            commit: self.commit.to_owned(),
            bytes,
            sha256,
            checked: self.file.sha256.is_some(),
        }
    }

    /// Writes the record of a model that is in its place.
    fn install(&self, target: &Path, new: Record) -> Result<Installed, StoreError> {
        if Record::beside(target).as_ref() != Some(&new) {
            let json = serde_json::to_vec_pretty(&new).map_err(|error| StoreError::BadRecord {
                file: record_path(target),
                problem: error.to_string(),
            })?;
            write_whole(&record_path(target), &json)?;
        }
        let (name, path, bytes) = (self.name.to_string(), target.to_owned(), new.bytes);
        Ok(Installed { name, path, bytes, record: Some(new) })
    }

    /// Fetches what is missing of the file, checks it and syncs it.
    fn complete(&mut self, path: &Path, report: &mut dyn FnMut(Event<'_>)) -> Result<Record, StoreError> {
        let mut part = Part::open(path)?;
        if part.bytes == 0 {
            self.take_cached(&mut part, report)?;
        } else {
            report(Event::Resuming { bytes: part.bytes });
        }
        let mut is_own = part.bytes == 0;
        loop {
            self.fetch(&mut part, report)?;
            let found = sha256_hex(part.hash.clone());
            if self.file.sha256.as_ref().is_none_or(|expected| *expected == found) {
                part.file.sync_all().map_err(StoreError::io("write", path))?;
                return Ok(self.record(part.bytes, found));
            }
            part.clear()?;
            if is_own {
                let _ = fs::remove_file(path);
                let (file, expected) = (self.name.to_string(), self.file.sha256.clone().unwrap_or_default());
                return Err(StoreError::WrongHash { file, expected, found });
            }
            is_own = true;
            report(Event::Restart);
        }
    }

    /// Takes the file from the folder of the hub's own client, if it is there.
    fn take_cached(&self, part: &mut Part, report: &mut dyn FnMut(Event<'_>)) -> Result<(), StoreError> {
        // Without a hash nothing would tell whether it is what the hub has.
        let Some(sha256) = &self.file.sha256 else { return Ok(()) };
        let cached = self.hub.cached(self.name, sha256, (self.commit, &self.file.path));
        let Some(path) = cached else { return Ok(()) };
        report(Event::Cached { path: &path });
        let Ok(mut from) = File::open(&path) else { return Ok(()) };
        let mut block = vec![0; files::BLOCK];
        while let Ok(count @ 1..) = from.read(&mut block) {
            part.push(&block[..count])?;
        }
        Ok(())
    }

    /// Fetches until all bytes are there.
    fn fetch(&mut self, part: &mut Part, report: &mut dyn FnMut(Event<'_>)) -> Result<(), StoreError> {
        let (mut patience, mut farthest) = (Patience::default(), part.bytes);
        if self.file.bytes.is_some_and(|total| part.bytes > total) {
            part.clear()?;
        }
        while self.file.bytes != Some(part.bytes) {
            let result = self.fetch_once(part, report);
            // A server that always begins anew is no progress.
            if part.bytes > farthest {
                (patience, farthest) = (Patience::default(), part.bytes);
            }
            match result {
                Ok(()) if self.file.bytes.is_none() => return Ok(()),
                Ok(()) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::PastEnd(_)) if part.bytes > 0 => part.clear()?,
                Err(Failure::PastEnd(error)) => return Err(error),
                Err(Failure::Later(error, wait)) => patience.wait(error, wait, report)?,
            }
        }
        Ok(())
    }

    /// One request, until its last byte or a failure.
    fn fetch_once(&mut self, part: &mut Part, report: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        let Stream { from, total, sha256, url, mut reader } =
            self.hub.open(self.name, self.commit, &self.file.path, part.bytes)?;
        if from != part.bytes {
            part.clear()?;
        }
        let expected = self.file.bytes;
        if let (Some(expected), Some(found)) = (self.file.bytes, total)
            && expected != found
        {
            let file = self.name.to_string();
            return Err(StoreError::WrongSize { file, expected, found }.into());
        }
        self.file.bytes = self.file.bytes.or(total);
        let response = |problem: String| StoreError::Response { url: shown(&url), problem };
        let limit = if self.file.bytes.is_some() { MAX_FILE } else { MAX_UNSIZED };
        match self.file.bytes {
            Some(total) if total > limit => {
                return Err(response(format!("{total} bytes are more than the {limit} allowed")).into());
            }
            // What is there is not the beginning of this file.
            Some(total) if total < part.bytes => {
                self.file.bytes = expected;
                return Err(Failure::PastEnd(response(format!("the file has only {total} bytes"))));
            }
            _ => {}
        }
        self.file.sha256 = self.file.sha256.take().or(sha256);
        let mut block = vec![0; files::BLOCK];
        loop {
            report(Event::Progress { bytes: part.bytes, total: self.file.bytes });
            let room = self.file.bytes.map_or(u64::MAX, |total| total - part.bytes).min(block.len() as u64);
            let count = match reader.read(&mut block[..room as usize]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cut(&url, error)),
            };
            if count == 0 {
                let is_short = self.file.bytes.is_some_and(|total| part.bytes < total);
                let early = || cut(&url, io::ErrorKind::UnexpectedEof.into());
                return if is_short { Err(early()) } else { Ok(()) };
            }
            if part.bytes + count as u64 > limit {
                return Err(response(format!("more than the {limit} bytes allowed")).into());
            }
            part.push(&block[..count])?;
            self.fetched += count as u64;
        }
    }
}
