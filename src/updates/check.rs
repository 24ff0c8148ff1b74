//! Checking a store, and mending what can be mended without a model.

use super::books::{Books, RECORDS, Unreadable, read_whole};
use super::disk::{Disk, again};
use super::error::{UpdateError, fail};
use super::judge::{HeadError, Judge, Purpose};
use super::record::{BLOCK, Marker, Record, Slot, SlotName, State, TRIES, short, unseal};
use super::store::{InForce, MAX_TRUST, Store, TRUST};

/// Something that was not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub what: String,
    /// Whether it was mended.
    pub is_mended: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// All that was not as it should be.
    pub findings: Vec<Finding>,
    /// Packages whose every byte was verified.
    pub verified: Vec<String>,
}

impl Check {
    fn found(&mut self, file: &str, what: impl Into<String>, is_mended: bool) {
        self.findings.push(Finding { file: file.to_owned(), what: what.into(), is_mended });
    }
}

impl<D: Disk, J: Judge> Store<D, J> {
    /// Reads all of a store, verifies every package in it, and mends records, markers and what an end of the process
    /// left behind.
    ///
    /// # Errors
    /// If it is no store, another process changes it, or the disk refuses.
    pub fn check(&self) -> Result<Check, UpdateError> {
        let _lock = self.lock()?;
        let mut check = Check::default();
        let mut books = self.books(Unreadable::Fails)?;
        self.check_blocks(&books, &mut check);
        let InForce { trust, at, text, .. } = self.trust(&books.record)?;
        books.record.trust = Some(at);
        for name in TRUST {
            if read_whole(&self.disk, name, MAX_TRUST)?.as_ref() != Some(&text) {
                check.found(name, "is not the trust file in force", true);
                self.replace(name, &text)?;
            }
        }
        for slot in SlotName::BOTH {
            self.check_slot(&trust, &mut books, slot, &mut check)?;
        }
        if books.record.active.is_none_or(|active| books.record.good(active).is_none()) {
            books.record.active = SlotName::BOTH.into_iter().find(|slot| books.record.good(*slot).is_some());
        }
        // Twice, so that both records are whole; the first is the one that may be torn by it.
        for _ in RECORDS {
            books.write(&self.disk)?;
        }
        for slot in SlotName::BOTH {
            let is_marked = books.markers[slot as usize].is_some();
            if books.record.good(slot).is_some() && !is_marked {
                books.mark(&self.disk, slot)?;
            }
        }
        // The newest marker is the active slot's.
        if let Some(active) = books.record.active {
            books.mark(&self.disk, active)?;
        }
        self.check_golden(&trust, &books, &mut check);
        Ok(check)
    }

    fn check_blocks(&self, books: &Books, check: &mut Check) {
        let block = |name| read_whole(&self.disk, name, BLOCK).ok().flatten().unwrap_or_default();
        for name in RECORDS {
            if unseal::<Record>(&block(name)).is_none() {
                check.found(name, "is torn or missing", true);
            }
        }
        for slot in SlotName::BOTH {
            let is_whole = unseal::<Marker>(&block(slot.marker())).is_some_and(|marker| marker.slot == slot);
            if !is_whole && books.record.good(slot).is_some() {
                check.found(slot.marker(), "is torn or missing", true);
            }
        }
    }

    fn check_slot(
        &self,
        trust: &J::Trust,
        books: &mut Books,
        slot: SlotName,
        check: &mut Check,
    ) -> Result<(), UpdateError> {
        let state = books.record.slot(slot).state.clone();
        let opened = self.open_slot(trust, slot);
        let whole = opened.and_then(|(file, opened)| {
            self.verify_rest(&file, &opened)?;
            Ok(opened.head.package)
        });
        let package = match whole {
            Ok(package) => package,
            Err(HeadError::Io(source)) => return Err(fail(slot.file(), "read")(source)),
            Err(HeadError::Refused(reason)) => return self.check_bad(books, slot, &reason.0, check),
        };
        check.verified.push(format!("{package}, slot {slot}"));
        let expected = books.record.slot(slot).package.as_ref() == Some(&package);
        match state {
            State::Good | State::Trial { .. } | State::Staged if expected => return Ok(()),
            State::Bad { .. } if expected => return Ok(()),
            _ => {}
        }
        let was_good = books.once_good(slot) == Some(&package) && package.version >= books.record.floor;
        let is_newer = package.version > books.record.highest && package.version >= books.record.floor;
        let next = match () {
            () if was_good => State::Good,
            () if is_newer && books.record.trial().is_none() => State::Trial { left: TRIES },
            () => {
                check.found(slot.file(), format!("holds {package}, which may not run"), true);
                return self.empty(books, slot);
            }
        };
        check.found(slot.file(), format!("holds {package}, of which the record knows nothing"), true);
        *books.record.slot_mut(slot) = Slot { state: next, package: Some(package) };
        Ok(())
    }

    /// A slot whose package is not whole.
    fn check_bad(
        &self,
        books: &mut Books,
        slot: SlotName,
        reason: &str,
        check: &mut Check,
    ) -> Result<(), UpdateError> {
        let open = again(|| self.disk.open(slot.file(), super::disk::Access::Read));
        let is_there = open.map_err(fail(slot.file(), "open"))?.is_some();
        match books.record.slot(slot).state {
            State::Empty | State::Bad { .. } if !is_there => Ok(()),
            // What is there of it may be gone on with.
            State::Writing if books.record.origin.is_some() && is_there => {
                check.found(slot.file(), "holds a part of a package", false);
                Ok(())
            }
            State::Empty | State::Writing => {
                check.found(slot.file(), "was not written to its end; its space is given back", true);
                self.empty(books, slot)
            }
            State::Bad { .. } => {
                check.found(slot.file(), format!("is bad; its space is given back: {reason}"), true);
                again(|| self.disk.remove(slot.file())).map_err(fail(slot.file(), "remove"))
            }
            State::Staged | State::Trial { .. } | State::Good => {
                check.found(slot.file(), reason, false);
                books.record.slot_mut(slot).state = State::Bad { reason: short(reason) };
                books.unmark(&self.disk, slot)
            }
        }
    }

    fn empty(&self, books: &mut Books, slot: SlotName) -> Result<(), UpdateError> {
        again(|| self.disk.remove(slot.file())).map_err(fail(slot.file(), "remove"))?;
        *books.record.slot_mut(slot) = Slot::default();
        Ok(())
    }

    fn check_golden(&self, trust: &J::Trust, books: &Books, check: &mut Check) {
        let Some(path) = &books.record.golden else { return };
        let whole = self.judge.golden(path).and_then(|mut golden| {
            let opened = self.head(trust, Purpose::Run, &mut golden, &mut vec![])?;
            self.judge.rest(&opened.rest, &mut golden)?;
            Ok(opened.head.package)
        });
        match whole {
            Ok(package) if package.version < books.record.floor => {
                check.found(
                    path,
                    format!("holds {package}, which is below the floor and may not run"),
                    false,
                );
            }
            Ok(package) => check.verified.push(format!("{package}, golden package")),
            Err(error) => check.found(path, error.to_string(), false),
        }
    }
}
