//! Starting a model of the store, and what follows of how it went.

use super::books::{Books, Unreadable};
use super::disk::Disk;
use super::error::UpdateError;
use super::judge::{Head, HeadError, Judge, Purpose};
use super::record::{PackageId, Slot, SlotName, State, TRIES, short};
use super::store::Store;

/// What a caller does with what may run: it loads and tests it.
type StartWith<'a, D, J, T, E> = dyn FnMut(Candidate<'_, D, J>) -> Result<T, Failure<E>> + 'a;

/// Where a package lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a slot.
    Slot(SlotName),
    /// Outside of the store, where nothing writes.
    Golden,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Slot(slot) => write!(f, "slot {slot}"),
            Place::Golden => f.write_str("golden package"),
        }
    }
}

/// A package that may be started: its head is verified, its model is yet to be, while it is read.
pub struct Candidate<'a, D: Disk, J: Judge> {
    /// Where it lies.
    pub place: Place,
    /// Which it is.
    pub package: PackageId,
    /// Whether it is to prove itself.
    pub is_on_trial: bool,
    /// What was read of it, and who was trusted for it.
    pub opened: J::Opened,
    /// The trust file in force.
    pub trust: &'a J::Trust,
    /// The open file, for a slot.
    pub file: Option<D::File>,
    /// The path, for a golden package.
    pub golden: Option<&'a str>,
}

/// Why a package was not started.
#[derive(Debug)]
pub enum Failure<E> {
    /// It is at fault: what was read is not what was signed, or it did not answer as it must.
    Package(String),
    /// The device is: something could not be read, or memory is short.
    Device(String),
    /// Neither, and no other package would do better.
    Caller(E),
}

impl<E: std::fmt::Display> std::fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Package(why) | Failure::Device(why) => f.write_str(why),
            Failure::Caller(error) => error.fmt(f),
        }
    }
}

/// What started.
#[derive(Debug)]
pub struct Started<T> {
    /// What the caller made of it.
    pub value: T,
    /// Where it lies.
    pub place: Place,
    /// Which it is.
    pub package: PackageId,
    /// Whether it is on trial; it is then to be committed.
    pub is_on_trial: bool,
    /// Packages before it that did not start, and why.
    pub failed: Vec<(String, String)>,
}

/// Why nothing started.
#[derive(Debug)]
pub enum StartError<E> {
    /// The store has nothing that may run.
    Store(UpdateError),
    /// What the caller says.
    Caller(E),
}

impl<E> From<UpdateError> for StartError<E> {
    fn from(error: UpdateError) -> Self {
        Self::Store(error)
    }
}

/// A package to be tried.
#[derive(Clone, Debug)]
struct Planned {
    place: Place,
    expected: Option<PackageId>,
    is_on_trial: bool,
}

impl<D: Disk, J: Judge> Store<D, J> {
    /// Starts the version on trial, if there is one; else, or if it fails, the one that is used; then the other good one;
    /// then the golden one. A start of a version on trial is counted before it is touched, so that one that ends the
    /// process is not tried without end.
    ///
    /// # Errors
    /// If none may run, or the caller gives up.
    pub fn begin<T, E>(&self, start: &mut StartWith<'_, D, J, T, E>) -> Result<Started<T>, StartError<E>> {
        let (books, trial) = self.count_attempt()?;
        self.start(&books, trial, start)
    }

    /// Starts a version that is good, and leaves one on trial as it is.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_good<T, E>(
        &self,
        start: &mut StartWith<'_, D, J, T, E>,
    ) -> Result<Started<T>, StartError<E>> {
        self.start(&self.books(Unreadable::IsPassedOver)?, None, start)
    }

    fn start<T, E>(
        &self,
        books: &Books,
        trial: Option<SlotName>,
        start: &mut StartWith<'_, D, J, T, E>,
    ) -> Result<Started<T>, StartError<E>> {
        let trust = self.trust(&books.record)?.trust;
        let mut failed = vec![];
        for planned in plan(books, trial) {
            let result = self.open_planned(&trust, books, &planned).and_then(|candidate| {
                let package = candidate.package.clone();
                start(candidate).map(|value| (value, package))
            });
            match result {
                Ok((value, package)) => {
                    let Planned { place, is_on_trial, .. } = planned;
                    return Ok(Started { value, place, package, is_on_trial, failed });
                }
                Err(Failure::Caller(error)) => {
                    if let (true, Some(expected)) = (planned.is_on_trial, &planned.expected) {
                        self.give_back(expected);
                    }
                    return Err(StartError::Caller(error));
                }
                Err(Failure::Package(why)) => {
                    self.tell(&planned, &why, true);
                    failed.push((planned.place.to_string(), why));
                }
                Err(Failure::Device(why)) => {
                    self.tell(&planned, &why, false);
                    failed.push((planned.place.to_string(), why));
                }
            }
        }
        Err(UpdateError::NoModel { tried: failed }.into())
    }

    /// Counts a start of the version on trial, and names it if it may be tried. What cannot be counted is not tried.
    fn count_attempt(&self) -> Result<(Books, Option<SlotName>), UpdateError> {
        let books = self.books(Unreadable::IsPassedOver)?;
        // An installer may hold the lock for long, and then nothing is on trial.
        if books.record.trial().is_none() {
            return Ok((books, None));
        }
        let lock = self.lock_patiently();
        let mut books = self.books(Unreadable::IsPassedOver)?;
        let Some(slot) = books.record.trial().filter(|_| lock.is_ok()) else { return Ok((books, None)) };
        let was = books.record.slot(slot).state.clone();
        let left = if let State::Trial { left } = was { left } else { TRIES };
        let next = match left.checked_sub(1) {
            Some(left) => State::Trial { left },
            None => {
                books.note(&format!("slot {slot} was started {TRIES} times and never committed"));
                State::Bad { reason: format!("it was started {TRIES} times and never committed") }
            }
        };
        books.record.slot_mut(slot).state = next;
        let is_counted = books.write(&self.disk).is_ok();
        Ok((books, Some(slot).filter(|_| is_counted && left > 0)))
    }

    /// Opens a package that may run.
    fn open_planned<'a, E>(
        &self,
        trust: &'a J::Trust,
        books: &'a Books,
        planned: &Planned,
    ) -> Result<Candidate<'a, D, J>, Failure<E>> {
        let failure = |error: HeadError| match error {
            HeadError::Refused(refused) => Failure::Package(refused.0),
            HeadError::Io(error) => Failure::Device(error.to_string()),
        };
        let Planned { place, expected, is_on_trial } = planned;
        let (file, golden, opened) = match (place, expected) {
            (Place::Slot(slot), Some(expected)) => {
                let (file, opened) = self.open_expected(trust, *slot, expected).map_err(failure)?;
                (Some(file), None, opened)
            }
            _ => {
                let path = books.record.golden.as_deref();
                let path = path.ok_or_else(|| Failure::Package("there is none".into()))?;
                let mut reader = self.judge.golden(path).map_err(failure)?;
                let opened = self.head(trust, Purpose::Run, &mut reader, &mut vec![]).map_err(failure)?;
                (None, Some(path), opened)
            }
        };
        let Head { package, .. } = opened.head;
        let (found, floor) = (package.version, books.record.floor);
        if found < floor {
            return Err(Failure::Package(UpdateError::BelowFloor { found, floor }.to_string()));
        }
        if let Some(expected) = books.name().filter(|name| *name != package.name) {
            let error = UpdateError::OtherName { found: package.name, expected: expected.to_owned() };
            return Err(Failure::Package(error.to_string()));
        }
        Ok(Candidate {
            place: *place,
            package,
            is_on_trial: *is_on_trial,
            opened: opened.rest,
            trust,
            file,
            golden,
        })
    }

    /// Keeps why a package did not start. One on trial that is itself at fault is tried no more; what was good before
    /// is tried again at the next start, since a disk may fail for once.
    fn tell(&self, planned: &Planned, why: &str, is_at_fault: bool) {
        let change = || -> Result<(), UpdateError> {
            let Place::Slot(slot) = planned.place else { return Ok(()) };
            let _lock = if planned.is_on_trial { self.lock_patiently() } else { self.lock() }?;
            let mut books = self.books(Unreadable::Fails)?;
            let is_same = books.record.slot(slot).package == planned.expected;
            if planned.is_on_trial && is_same && is_at_fault {
                books.record.slot_mut(slot).state = State::Bad { reason: short(why) };
            }
            let trouble = short(&format!("slot {slot}: {why}"));
            if !planned.is_on_trial && books.record.trouble.as_deref() == Some(&trouble) {
                return Ok(());
            }
            books.note(&trouble);
            books.write(&self.disk)
        };
        // The caller goes on with another package, whatever can be kept of this one.
        let _ = change();
    }

    /// Counts a start of a version on trial as none.
    fn give_back(&self, expected: &PackageId) {
        let change = || -> Result<(), UpdateError> {
            let _lock = self.lock_patiently()?;
            let mut books = self.books(Unreadable::Fails)?;
            let Some(slot) = books.record.trial() else { return Ok(()) };
            let Slot { state: State::Trial { left }, package: Some(package) } = books.record.slot_mut(slot)
            else {
                return Ok(());
            };
            if package != expected || *left >= TRIES {
                return Ok(());
            }
            *left += 1;
            books.write(&self.disk)
        };
        // It is then a start less that is left.
        let _ = change();
    }

    /// Commits the version on trial that has proved itself.
    ///
    /// # Errors
    /// If it was replaced in the meantime, or the disk refuses.
    pub fn commit(&self, package: &PackageId) -> Result<(), UpdateError> {
        let _lock = self.lock_patiently()?;
        let mut books = self.books(Unreadable::Fails)?;
        let place = SlotName::BOTH
            .into_iter()
            .find(|slot| books.record.slot(*slot).package.as_ref() == Some(package))
            .filter(|slot| !matches!(books.record.slot(*slot).state, State::Empty | State::Writing));
        let Some(slot) = place else {
            let slot = books.record.active.map_or(SlotName::A, SlotName::other);
            return Err(UpdateError::Superseded { slot, package: package.clone() });
        };
        if books.record.good(slot).is_some() {
            return Ok(());
        }
        let record = &mut books.record;
        record.slot_mut(slot).state = State::Good;
        record.active = Some(slot);
        record.floor = record.floor.max(package.floor);
        record.highest = record.highest.max(package.version);
        record.time = record.time.max(package.created);
        record.trouble = None;
        books.mark(&self.disk, slot)?;
        books.write(&self.disk)
    }

    /// Goes back to the other good version; with a version on trial, that one is given up instead.
    ///
    /// # Errors
    /// If there is none, or it is below the floor, or the disk refuses.
    pub fn rollback(&self) -> Result<PackageId, UpdateError> {
        let _lock = self.lock()?;
        let mut books = self.books(Unreadable::Fails)?;
        if self.end_trial(&mut books)?.is_some() {
            let active = books.record.active.and_then(|active| books.record.good(active).cloned());
            return active.ok_or(UpdateError::NoOther);
        }
        let active = books.record.active.ok_or(UpdateError::NoOther)?;
        let other = books.record.good(active.other()).cloned().ok_or(UpdateError::NoOther)?;
        let (found, floor) = (other.version, books.record.floor);
        if found < floor {
            return Err(UpdateError::OtherBelowFloor { found, floor });
        }
        let trust = self.trust(&books.record)?.trust;
        let opened = self.open_expected(&trust, active.other(), &other);
        opened.map_err(|error| match error {
            HeadError::Refused(refused) => UpdateError::Package(refused),
            HeadError::Io(source) => super::error::fail(active.other().file(), "read")(source),
        })?;
        books.record.active = Some(active.other());
        books.write(&self.disk)?;
        // Its marker becomes the newer one, and knows the floor of the version that is left.
        books.mark(&self.disk, active.other())?;
        Ok(other)
    }

    /// Gives up the version on trial, and names it; nothing if there is none.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn give_up_trial(&self) -> Result<Option<PackageId>, UpdateError> {
        let _lock = self.lock()?;
        self.end_trial(&mut self.books(Unreadable::Fails)?)
    }

    fn end_trial(&self, books: &mut Books) -> Result<Option<PackageId>, UpdateError> {
        let Some(trial) = books.record.trial() else { return Ok(None) };
        books.record.slot_mut(trial).state = State::Bad { reason: "it was rolled back".into() };
        books.write(&self.disk)?;
        Ok(books.record.slot(trial).package.clone())
    }

    /// The version on trial.
    ///
    /// # Errors
    /// If there is none.
    pub fn on_trial(&self) -> Result<PackageId, UpdateError> {
        let books = self.books(Unreadable::Fails)?;
        let slot = books.record.trial().ok_or(UpdateError::NoTrial)?;
        books.record.slot(slot).package.clone().ok_or(UpdateError::NoTrial)
    }
}

/// What is tried, in this order.
fn plan(books: &Books, trial: Option<SlotName>) -> Vec<Planned> {
    let mut plan = vec![];
    if let Some(slot) = trial {
        let expected = books.record.slot(slot).package.clone();
        plan.push(Planned { place: Place::Slot(slot), expected, is_on_trial: true });
    }
    let first = books.record.active.unwrap_or(SlotName::A);
    for slot in [first, first.other()] {
        // Also one that is about to be written anew, of which nothing was written yet.
        if let (Some(expected), false) = (books.once_good(slot), trial == Some(slot)) {
            let expected = Some(expected.clone());
            plan.push(Planned { place: Place::Slot(slot), expected, is_on_trial: false });
        }
    }
    if books.record.golden.is_some() {
        plan.push(Planned { place: Place::Golden, expected: None, is_on_trial: false });
    }
    plan
}
