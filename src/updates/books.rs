//! The two records and the two markers: read, made again from one another, written one after the other.

use std::io::ErrorKind;

use serde::de::DeserializeOwned;

use super::disk::{Access, Disk, DiskFile, Reader, again, write_all};
use super::error::{UpdateError, fail};
use super::record::{
    BLOCK, Marker, MarkerFormat, PackageId, Record, SlotName, State, is_newer, seal, short, unseal,
};

/// The files of the records.
pub(super) const RECORDS: [&str; 2] = ["record.0", "record.1"];

/// What is done with a file that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is an error.
    Fails,
    /// It is as if it were not there, and nothing is written.
    IsPassedOver,
}

/// All that the store knows.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) record: Record,
    pub(super) markers: [Option<Marker>; 2],
    /// Which file has the record; neither, if it was made from the markers.
    kept_in: Option<usize>,
    /// What could not be read, for which nothing may be written.
    pub(super) unread: Option<String>,
}

/// A file of one block.
enum Block<T> {
    Whole(T),
    Torn,
    Missing,
}

impl<T> Block<T> {
    fn whole(self) -> Option<T> {
        match self {
            Block::Whole(content) => Some(content),
            _ => None,
        }
    }
}

impl Books {
    /// Reads them. A record that is torn, or of which there is a newer one, does not count; without any the markers tell.
    pub(super) fn read<D: Disk>(disk: &D, folder: &str, unreadable: Unreadable) -> Result<Self, UpdateError> {
        let mut unread = None;
        let records = [
            read_block::<D, Record>(disk, RECORDS[0], unreadable, &mut unread)?,
            read_block(disk, RECORDS[1], unreadable, &mut unread)?,
        ];
        let mut markers = [None, None];
        for name in SlotName::BOTH {
            let marker = read_block::<D, Marker>(disk, name.marker(), unreadable, &mut unread)?.whole();
            markers[name as usize] = marker.filter(|marker| marker.slot == name);
        }
        let are_missing = records.iter().all(|record| matches!(record, Block::Missing));
        let [first, second] = records.map(Block::whole);
        let (record, kept_in) = match (first, second) {
            (Some(first), Some(second)) if is_newer(second.sequence, first.sequence) => (second, Some(1)),
            (Some(first), _) => (first, Some(0)),
            (None, Some(second)) => (second, Some(1)),
            (None, None) if are_missing && unread.is_none() && markers.iter().all(Option::is_none) => {
                return Err(UpdateError::NotAStore { folder: folder.to_owned() });
            }
            (None, None) => (rebuilt(&markers), None),
        };
        let mut books = Self { record, markers, kept_in, unread };
        books.settle();
        Ok(books)
    }

    /// New ones.
    pub(super) fn new(record: Record) -> Self {
        Self { record, markers: [None, None], kept_in: None, unread: None }
    }

    /// Whether the record was made from the markers.
    pub(super) fn were_lost(&self) -> bool {
        self.kept_in.is_none()
    }

    /// Ends what was begun: a slot on trial that has its marker was committed. What markers know counts too.
    fn settle(&mut self) {
        let record = &mut self.record;
        for marker in self.markers.iter().flatten() {
            let slot = record.slot_mut(marker.slot);
            let is_same = slot.package.as_ref() == Some(&marker.package);
            if is_same && matches!(slot.state, State::Trial { .. } | State::Staged) {
                slot.state = State::Good;
                record.active = Some(marker.slot);
            }
            record.floor = record.floor.max(marker.floor);
            record.highest = record.highest.max(marker.highest);
            record.time = record.time.max(marker.time);
        }
        if record.active.is_none_or(|active| record.good(active).is_none()) {
            record.active = SlotName::BOTH.into_iter().find(|name| record.good(*name).is_some());
        }
    }

    /// The package that a slot was once found to be good with, whatever became of the slot since.
    pub(super) fn once_good(&self, name: SlotName) -> Option<&PackageId> {
        self.record.good(name).or(self.markers[name as usize].as_ref().map(|marker| &marker.package))
    }

    /// The name of the model that the store has: of the one that is good, or was.
    pub(super) fn name(&self) -> Option<&str> {
        let of = |name: SlotName| self.once_good(name).map(|package| package.name.as_str());
        self.record.active.and_then(of).or_else(|| SlotName::BOTH.into_iter().find_map(of))
    }

    /// Writes a new record over the older one.
    pub(super) fn write<D: Disk>(&mut self, disk: &D) -> Result<(), UpdateError> {
        if let Some(file) = &self.unread {
            return Err(fail(file, "read")(ErrorKind::Other.into()));
        }
        self.record.sequence = self.record.sequence.wrapping_add(1);
        let to = self.kept_in.map_or(0, |kept| 1 - kept);
        write_block(disk, RECORDS[to], &seal(&self.record)?)?;
        self.kept_in = Some(to);
        Ok(())
    }

    /// Notes what went wrong; it is written with the next record.
    pub(super) fn note(&mut self, trouble: &str) {
        self.record.trouble = Some(short(trouble));
    }

    /// Writes the marker of a slot that is good.
    pub(super) fn mark<D: Disk>(&mut self, disk: &D, slot: SlotName) -> Result<(), UpdateError> {
        let Some(package) = self.record.good(slot).cloned() else { return Ok(()) };
        let marker = Marker {
            format: MarkerFormat::One,
            sequence: self.record.sequence.wrapping_add(1),
            slot,
            package,
            floor: self.record.floor,
            highest: self.record.highest,
            time: self.record.time,
        };
        write_block(disk, slot.marker(), &seal(&marker)?)?;
        self.markers[slot as usize] = Some(marker);
        Ok(())
    }

    /// Removes the marker of a slot that is to be written. What it knew of floors is known to the other one too.
    pub(super) fn unmark<D: Disk>(&mut self, disk: &D, slot: SlotName) -> Result<(), UpdateError> {
        write_block(disk, slot.marker(), &[b' '; BLOCK])?;
        self.markers[slot as usize] = None;
        Ok(())
    }
}

/// A record of what the markers tell: each has a good slot, and the newest the active one.
fn rebuilt(markers: &[Option<Marker>; 2]) -> Record {
    let mut record = Record::default();
    for marker in markers.iter().flatten() {
        let is_newest = record.active.is_none() || is_newer(marker.sequence, record.sequence);
        if is_newest {
            (record.active, record.sequence) = (Some(marker.slot), marker.sequence);
        }
        let slot = record.slot_mut(marker.slot);
        (slot.state, slot.package) = (State::Good, Some(marker.package.clone()));
    }
    record
}

/// Reads a file of one block.
fn read_block<D: Disk, T: DeserializeOwned>(
    disk: &D,
    name: &str,
    unreadable: Unreadable,
    unread: &mut Option<String>,
) -> Result<Block<T>, UpdateError> {
    match read_whole(disk, name, BLOCK) {
        Ok(Some(bytes)) => Ok(unseal(&bytes).map_or(Block::Torn, Block::Whole)),
        Ok(None) => Ok(Block::Missing),
        Err(_) if unreadable == Unreadable::IsPassedOver => {
            *unread = Some(name.to_owned());
            Ok(Block::Torn)
        }
        Err(error) => Err(error),
    }
}

/// Reads a small file, of which no more than `most` bytes are taken, and one more if there are more.
pub(super) fn read_whole<D: Disk>(disk: &D, name: &str, most: usize) -> Result<Option<Vec<u8>>, UpdateError> {
    let open = again(|| disk.open(name, Access::Read)).map_err(fail(name, "open"))?;
    let Some(file) = open else { return Ok(None) };
    let mut bytes = vec![];
    let mut limited = std::io::Read::take(Reader::new(&file), most as u64 + 1);
    std::io::Read::read_to_end(&mut limited, &mut bytes).map_err(fail(name, "read"))?;
    Ok(Some(bytes))
}

/// Writes a file of one block in its place, which takes no space that it did not have.
pub(super) fn write_block<D: Disk>(disk: &D, name: &str, block: &[u8; BLOCK]) -> Result<(), UpdateError> {
    match again(|| disk.open(name, Access::Write)).map_err(fail(name, "open"))? {
        Some(file) => {
            write_all(&file, 0, block).map_err(fail(name, "write"))?;
            again(|| file.sync()).map_err(fail(name, "write"))
        }
        None => write_new(disk, name, block),
    }
}

/// Writes a small new file.
pub(super) fn write_new<D: Disk>(disk: &D, name: &str, bytes: &[u8]) -> Result<(), UpdateError> {
    let file = again(|| disk.create(name)).map_err(fail(name, "create"))?;
    write_all(&file, 0, bytes).map_err(fail(name, "write"))?;
    again(|| file.sync()).map_err(fail(name, "write"))?;
    again(|| disk.sync_folder()).map_err(fail(name, "sync the folder"))
}
