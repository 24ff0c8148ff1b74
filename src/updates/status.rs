//! What a store has, and what it would start.

use serde::Serialize;

use super::books::Unreadable;
use super::disk::Disk;
use super::error::UpdateError;
use super::judge::{Judge, Purpose};
use super::record::{Origin, PackageId, Record, SlotName, State};
use super::store::Store;

/// What a store has.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its folder.
    pub store: String,
    /// What the next start tries, in this order.
    pub next: Vec<Next>,
    /// The slot that is used.
    pub active: Option<SlotName>,
    /// The first slot.
    pub a: SlotStatus,
    /// The second slot.
    pub b: SlotStatus,
    /// The package of last resort.
    pub golden: Option<GoldenStatus>,
    /// Lowest version that may run.
    pub floor: u64,
    /// Highest version that was committed.
    pub highest: u64,
    /// No earlier can it be, in seconds since 1970.
    pub time: u64,
    /// Version of the trust file in force; nothing if it cannot be read.
    pub trust: Option<u64>,
    /// Where the newest package came from.
    pub origin: Option<Origin>,
    /// The last thing that went wrong with a version.
    pub trouble: Option<String>,
    /// Whether both records were lost, and the markers tell what is here.
    pub was_rebuilt: bool,
}

/// A version that may be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Next {
    /// Where it lies: `slot a`, `slot b`, `golden package`.
    pub place: String,
    /// Its version.
    pub version: u64,
    /// Whether it is to prove itself.
    pub on_trial: bool,
}

/// A slot.
#[derive(Clone, Debug, Serialize)]
pub struct SlotStatus {
    /// `empty`, `writing`, `staged`, `trial`, `good` or `bad`.
    pub state: &'static str,
    /// Starts that are left to one on trial.
    pub starts_left: Option<u8>,
    /// Why it is bad.
    pub reason: Option<String>,
    /// What is in it, or is to be.
    pub package: Option<PackageId>,
}

/// The package of last resort.
#[derive(Clone, Debug, Serialize)]
pub struct GoldenStatus {
    /// Where it lies.
    pub path: String,
    /// Which it is, if it may run.
    pub package: Option<PackageId>,
    /// Why it may not.
    pub reason: Option<String>,
}

impl<D: Disk, J: Judge> Store<D, J> {
    /// Says what the store has. Models are not read.
    ///
    /// # Errors
    /// If it is no store, or cannot be read.
    pub fn status(&self) -> Result<Status, UpdateError> {
        let books = self.books(Unreadable::Fails)?;
        let record = &books.record;
        let trust = self.trust(record).ok();
        let golden = record
            .golden
            .as_ref()
            .map(|path| self.golden_status(trust.as_ref().map(|in_force| &in_force.trust), path));
        let mut next = vec![];
        let mut add = |place: String, version, on_trial| next.push(Next { place, version, on_trial });
        let trial = record.trial().filter(|slot| record.slot(*slot).state != State::Trial { left: 0 });
        if let Some((slot, package)) =
            trial.and_then(|slot| Some((slot, record.slot(slot).package.as_ref()?)))
        {
            add(format!("slot {slot}"), package.version, true);
        }
        let first = record.active.unwrap_or(SlotName::A);
        for slot in [first, first.other()].into_iter().filter(|slot| trial != Some(*slot)) {
            if let Some(package) = books.once_good(slot).filter(|package| package.version >= record.floor) {
                add(format!("slot {slot}"), package.version, false);
            }
        }
        let is_allowed = |package: &&PackageId| package.version >= record.floor;
        if let Some(package) = golden.as_ref().and_then(|golden| golden.package.as_ref()).filter(is_allowed) {
            add("golden package".to_owned(), package.version, false);
        }
        Ok(Status {
            store: self.folder.clone(),
            next,
            active: record.active,
            a: slot_status(record, SlotName::A),
            b: slot_status(record, SlotName::B),
            golden,
            floor: record.floor,
            highest: record.highest,
            time: record.time,
            trust: trust.as_ref().map(|in_force| in_force.at.version),
            origin: record.origin.clone(),
            trouble: record.trouble.clone(),
            was_rebuilt: books.were_lost(),
        })
    }

    fn golden_status(&self, trust: Option<&J::Trust>, path: &str) -> GoldenStatus {
        let opened = trust.ok_or_else(|| "there is no trust file".to_owned()).and_then(|trust| {
            let head = |mut golden| self.head(trust, Purpose::Run, &mut golden, &mut vec![]);
            self.judge.golden(path).and_then(head).map_err(|error| error.to_string())
        });
        let path = path.to_owned();
        match opened {
            Ok(opened) => GoldenStatus { path, package: Some(opened.head.package), reason: None },
            Err(reason) => GoldenStatus { path, package: None, reason: Some(reason) },
        }
    }
}

fn slot_status(record: &Record, name: SlotName) -> SlotStatus {
    let slot = record.slot(name);
    let mut status = SlotStatus { state: "", starts_left: None, reason: None, package: slot.package.clone() };
    status.state = match &slot.state {
        State::Empty => "empty",
        State::Writing => "writing",
        State::Staged => "staged",
        State::Trial { left } => {
            status.starts_left = Some(*left);
            "trial"
        }
        State::Good => "good",
        State::Bad { reason } => {
            status.reason = Some(reason.clone());
            "bad"
        }
    };
    status
}
