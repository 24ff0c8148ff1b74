//! Installing a package into the slot that is not used.

use std::io::Read;

use super::books::{Books, Unreadable};
use super::disk::{Access, Disk, DiskFile, Reader, again, write_all};
use super::error::{Refused, UpdateError, fail};
use super::judge::{Head, HeadError, Judge, Purpose};
use super::record::{MAX_URL, Origin, PackageId, Slot, SlotName, State, TRIES};
use super::store::{InForce, Opened, Store};
use super::time::seconds;
use crate::trust::Time;

/// Bytes that are written at once.
const CHUNK: usize = 256 << 10;

/// A store that is locked to install a package.
pub struct Installer<'a, D: Disk, J: Judge> {
    store: &'a Store<D, J>,
    books: Books,
    trust: J::Trust,
    now: u64,
    _lock: D::Lock,
}

/// A package of which a part is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Which.
    pub package: PackageId,
    /// Where it came from.
    pub origin: Origin,
    /// Bytes that are there.
    pub bytes: u64,
    slot: SlotName,
}

impl<D: Disk, J: Judge> Store<D, J> {
    /// Locks the store to install a package.
    ///
    /// # Errors
    /// If another process changes it, or it cannot be read.
    pub fn installer(&self) -> Result<Installer<'_, D, J>, UpdateError> {
        let lock = self.lock()?;
        let books = self.books(Unreadable::Fails)?;
        let InForce { trust, at, .. } = self.trust(&books.record)?;
        let mut installer = Installer { store: self, books, trust, now: 0, _lock: lock };
        installer.books.record.trust = Some(at);
        installer.set_now(seconds(Time::now()));
        Ok(installer)
    }

    /// Installs a package from what can be read once.
    ///
    /// # Errors
    /// If it is refused, or something cannot be read or written. The slot that is used stays as it is.
    pub fn install(&self, package: &mut dyn Read) -> Result<PackageId, UpdateError> {
        self.installer()?.install(package)
    }
}

impl<D: Disk, J: Judge> Installer<'_, D, J> {
    /// What was there when the source was asked last, unless only a part of it is here.
    pub fn known(&self) -> Option<&Origin> {
        let is_whole =
            SlotName::BOTH.iter().all(|slot| self.books.record.slot(*slot).state != State::Writing);
        self.books.record.origin.as_ref().filter(|_| is_whole)
    }

    /// Takes a time as the time that it is, if it is not before what a release told.
    pub fn set_now(&mut self, now: u64) {
        self.now = now.max(self.books.record.time).max(self.store.judge.not_before());
    }

    /// The package of which a part was written before, if it would be accepted.
    pub fn partial(&self) -> Option<Partial> {
        let slot = self.target();
        let Slot { state: State::Writing, package: Some(package) } = self.books.record.slot(slot) else {
            return None;
        };
        let origin = self.books.record.origin.clone()?;
        let file = again(|| self.store.disk.open(slot.file(), Access::Read)).ok()??;
        let bytes = again(|| file.length()).ok()?;
        let opened =
            self.store.head(&self.trust, Purpose::Install, &mut Reader::new(&file), &mut vec![]).ok()?;
        self.check(&opened).ok()?;
        let is_part = opened.head.package == *package && bytes < package.bytes;
        is_part.then(|| Partial { package: package.clone(), origin, bytes, slot })
    }

    /// The slot that is written: never the one that is used.
    fn target(&self) -> SlotName {
        self.books.record.active.map_or(SlotName::A, SlotName::other)
    }

    /// Installs a package, which is then on trial.
    ///
    /// # Errors
    /// As [`Store::install`].
    pub fn install(self, package: &mut dyn Read) -> Result<PackageId, UpdateError> {
        let slot = self.target();
        self.install_into(slot, package, None)
    }

    /// Installs a package from where it can be had again: if it is cut off, what came of it is kept, and of where it is
    /// from the record keeps what it is given. That is also kept where it is the version that is committed; one that is
    /// here already is not installed again.
    ///
    /// # Errors
    /// As [`Store::install`].
    pub fn install_from(mut self, package: &mut dyn Read, origin: Origin) -> Result<PackageId, UpdateError> {
        if origin.url.len() > MAX_URL {
            return Err(UpdateError::TooLong { what: "the address", most: MAX_URL });
        }
        let slot = self.target();
        let mut first = vec![];
        let opened = self.open(package, &mut first)?;
        let checked = self.check(&opened);
        let is_same = matches!(checked, Err(UpdateError::NotNewer { found, highest }) if found == highest);
        if is_same && self.books.record.origin.as_ref() != Some(&origin) {
            self.books.record.origin = Some(origin.clone());
            self.books.write(&self.store.disk)?;
        }
        checked?;
        let Slot { state, package: here } = self.books.record.slot(slot);
        if here.as_ref() == Some(&opened.head.package) && *state != State::Writing {
            return Err(UpdateError::IsHere { version: opened.head.package.version });
        }
        self.write(slot, package, (opened, first), Some(origin))
    }

    pub(super) fn install_into(
        self,
        slot: SlotName,
        package: &mut dyn Read,
        origin: Option<Origin>,
    ) -> Result<PackageId, UpdateError> {
        let mut first = vec![];
        let opened = self.open(package, &mut first)?;
        self.check(&opened)?;
        self.write(slot, package, (opened, first), origin)
    }

    fn open(&self, package: &mut dyn Read, first: &mut Vec<u8>) -> Result<Opened<J::Opened>, UpdateError> {
        self.store.head(&self.trust, Purpose::Install, package, first).map_err(source_error)
    }

    /// Writes a package that is accepted, of which the head was read.
    fn write(
        mut self,
        slot: SlotName,
        package: &mut dyn Read,
        (opened, first): (Opened<J::Opened>, Vec<u8>),
        origin: Option<Origin>,
    ) -> Result<PackageId, UpdateError> {
        self.has_space(slot, opened.head.package.bytes)?;
        self.claim(slot, &opened.head, origin)?;
        let written = self
            .begin_slot(slot, &first, opened.head.package.bytes)
            .and_then(|file| self.write_rest(slot, &file, opened.length, opened.head.package.bytes, package));
        self.finish(slot, opened.head.package, written)
    }

    /// Goes on with a package of which a part is there; `rest` begins where the part ends.
    ///
    /// # Errors
    /// As [`Store::install`].
    pub fn go_on(mut self, partial: &Partial, rest: &mut dyn Read) -> Result<PackageId, UpdateError> {
        let name = partial.slot.file();
        let open = again(|| self.store.disk.open(name, Access::Write)).map_err(fail(name, "open"))?;
        let file = open.ok_or(UpdateError::NoTrial)?;
        let written = self.write_rest(partial.slot, &file, partial.bytes, partial.package.bytes, rest);
        self.finish(partial.slot, partial.package.clone(), written)
    }

    /// Says whether a package may be installed.
    fn check(&self, opened: &Opened<J::Opened>) -> Result<(), UpdateError> {
        let (record, Head { package, expires }) = (&self.books.record, &opened.head);
        let (found, floor) = (package.version, record.floor);
        if package.floor > found {
            return Err(UpdateError::FloorAboveVersion { found, floor: package.floor });
        }
        if found < floor {
            return Err(UpdateError::BelowFloor { found, floor });
        }
        if found <= record.highest {
            return Err(UpdateError::NotNewer { found, highest: record.highest });
        }
        if let Some(expected) = self.books.name().filter(|name| *name != package.name) {
            return Err(UpdateError::OtherName {
                found: package.name.clone(),
                expected: expected.to_owned(),
            });
        }
        if let Some(expires) = expires.filter(|expires| *expires <= self.now) {
            let (expires, now) = (super::time::show(expires), super::time::show(self.now));
            return Err(UpdateError::Expired { expires, now });
        }
        self.store.judge.suits(&self.trust, &opened.rest, self.now).map_err(UpdateError::Unsuited)
    }

    /// Says whether there is space, with that of the slot that is given up.
    fn has_space(&self, slot: SlotName, needed: u64) -> Result<(), UpdateError> {
        let disk = &self.store.disk;
        let Some(free) = again(|| disk.free()).map_err(fail("the disk", "read what is free"))? else {
            return Ok(());
        };
        let open = again(|| disk.open(slot.file(), Access::Read)).map_err(fail(slot.file(), "open"))?;
        let own = open.map_or(Ok(0), |file| again(|| file.length())).map_err(fail(slot.file(), "read"))?;
        let free = free.saturating_add(own);
        if needed > free { Err(UpdateError::NoSpace { needed, free }) } else { Ok(()) }
    }

    /// Takes the slot for a package, before a byte of it is written.
    fn claim(&mut self, slot: SlotName, head: &Head, origin: Option<Origin>) -> Result<(), UpdateError> {
        let record = &mut self.books.record;
        *record.slot_mut(slot) = Slot { state: State::Writing, package: Some(head.package.clone()) };
        record.origin = origin;
        self.books.write(&self.store.disk)?;
        self.books.unmark(&self.store.disk, slot)
    }

    /// Makes a new file of the slot, with space for all of it and the head in it.
    fn begin_slot(&self, slot: SlotName, first: &[u8], bytes: u64) -> Result<D::File, UpdateError> {
        let (disk, name) = (&self.store.disk, slot.file());
        again(|| disk.remove(name)).map_err(fail(name, "remove"))?;
        let file = again(|| disk.create(name)).map_err(fail(name, "create"))?;
        again(|| file.reserve(bytes)).map_err(fail(name, "reserve space"))?;
        again(|| disk.sync_folder()).map_err(fail(name, "sync the folder"))?;
        write_all(&file, 0, first).map_err(fail(name, "write"))?;
        Ok(file)
    }

    /// Writes what follows, which must be as long as was announced.
    fn write_rest(
        &self,
        slot: SlotName,
        file: &D::File,
        mut at: u64,
        bytes: u64,
        rest: &mut dyn Read,
    ) -> Result<(), UpdateError> {
        let mut chunk = vec![0; CHUNK];
        while at < bytes {
            let most = usize::try_from(bytes - at).map_or(CHUNK, |left| left.min(CHUNK));
            let read = again(|| rest.read(&mut chunk[..most])).map_err(UpdateError::Source)?;
            if read == 0 {
                return Err(UpdateError::Length { expected: bytes, found: Some(at) });
            }
            write_all(file, at, &chunk[..read]).map_err(fail(slot.file(), "write"))?;
            at += read as u64;
        }
        // An endless source is left at its first byte too many.
        match again(|| rest.read(&mut chunk[..1])).map_err(UpdateError::Source)? {
            0 => again(|| file.sync()).map_err(fail(slot.file(), "write")),
            _ => Err(UpdateError::Length { expected: bytes, found: None }),
        }
    }

    /// Reads again what was written, and puts it on trial; or gives back the space.
    fn finish(
        &mut self,
        slot: SlotName,
        package: PackageId,
        written: Result<(), UpdateError>,
    ) -> Result<PackageId, UpdateError> {
        let is_cut =
            matches!(written, Err(UpdateError::Source(_) | UpdateError::Length { found: Some(_), .. }));
        let done = written.and_then(|()| self.verify(slot, &package)).and_then(|()| {
            self.put(slot, State::Staged, Some(&package))?;
            self.put(slot, State::Trial { left: TRIES }, Some(&package))
        });
        match done {
            Ok(()) => Ok(package),
            // Of a source that can be asked again what is there is kept.
            Err(error) if is_cut && self.books.record.origin.is_some() => Err(error),
            Err(error) => {
                self.give_up(slot);
                Err(error)
            }
        }
    }

    /// Reads all of a slot from the disk and verifies it.
    fn verify(&self, slot: SlotName, package: &PackageId) -> Result<(), UpdateError> {
        let wrong = |error: HeadError| match error {
            HeadError::Io(source) => fail(slot.file(), "read again")(source),
            HeadError::Refused(refused) => UpdateError::Package(refused),
        };
        let open = again(|| self.store.disk.open(slot.file(), Access::Read));
        if let Some(file) = open.map_err(fail(slot.file(), "open"))? {
            file.forget();
        }
        let (file, opened) = self.store.open_expected(&self.trust, slot, package).map_err(wrong)?;
        self.store.verify_rest(&file, &opened).map_err(wrong)
    }

    fn put(&mut self, slot: SlotName, state: State, package: Option<&PackageId>) -> Result<(), UpdateError> {
        *self.books.record.slot_mut(slot) = Slot { state, package: package.cloned() };
        self.books.write(&self.store.disk)
    }

    /// Keeps nothing of what was refused. If the disk refuses this too, the slot stays one that is being written.
    fn give_up(&mut self, slot: SlotName) {
        let removed = again(|| self.store.disk.remove(slot.file()));
        self.books.record.origin = None;
        if removed.is_ok() && self.put(slot, State::Empty, None).is_ok() {
            let _ = again(|| self.store.disk.sync_folder());
        }
    }
}

/// What a source says that was given up.
fn source_error(error: HeadError) -> UpdateError {
    match error {
        HeadError::Refused(refused) => UpdateError::Package(refused),
        HeadError::Io(source) => match source.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            Some(refused) => UpdateError::Package(refused.clone()),
            None => UpdateError::Source(source),
        },
    }
}
