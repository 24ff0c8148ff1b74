//! What the store knows: the record of both slots, and the marker of a slot that was good.
//!
//! Each is one block of [`BLOCK`] bytes, written in place: BLAKE3 of all that follows, a line of JSON, spaces.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::error::UpdateError;
pub(super) use super::names::{Hex, PackageId, SlotName};

/// Bytes of a record and of a marker.
pub const BLOCK: usize = 4096;
/// Hexadecimal digits of BLAKE3, and the end of their line.
const SEAL: usize = 65;
/// Longest reason that is kept.
const MAX_REASON: usize = 160;
/// Longest name of a model.
pub(super) const MAX_NAME: usize = 128;
/// Longest path of a golden package.
pub(super) const MAX_GOLDEN: usize = 512;
/// Longest address of a source, and longest tag of what was there.
pub(super) const MAX_URL: usize = 768;
pub(super) const MAX_TAG: usize = 192;
/// Starts that a new version has to prove itself.
pub const TRIES: u8 = 2;

/// What a slot is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum State {
    /// Nothing.
    #[default]
    Empty,
    /// A package is being written; what is there is no package yet.
    Writing,
    /// A package is there, written and read again.
    Staged,
    /// It is to prove itself.
    Trial {
        /// Starts that are left.
        left: u8,
    },
    /// It has.
    Good,
    /// It has not.
    Bad {
        /// Why.
        reason: String,
    },
}

/// A slot, as the record has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// What it is.
    pub state: State,
    /// What is in it, or is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageId>,
}

/// Where packages come from, and what was there when it was asked last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Its address.
    pub url: String,
    /// The server's tag of what it gave (`ETag`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// When the server says that it was changed (`Last-Modified`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

impl Origin {
    /// The same without what is too long to be kept.
    #[must_use]
    pub fn fitting(mut self) -> Self {
        let fits = |text: &String| text.len() <= MAX_TAG;
        self.tag = self.tag.filter(fits);
        self.modified = self.modified.filter(fits);
        self
    }
}

/// The trust file in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustAt {
    /// Its version.
    pub version: u64,
    /// BLAKE3 of the file.
    pub digest: Hex,
}

/// What the store knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What kind of record it is.
    pub format: RecordFormat,
    /// Number of this record; the newest counts.
    pub sequence: u64,
    /// Slot a.
    pub a: Slot,
    /// Slot b.
    pub b: Slot,
    /// The slot that is used: it is good, or there is none.
    pub active: Option<SlotName>,
    /// Lowest version that may run.
    pub floor: u64,
    /// Highest version that was ever committed.
    pub highest: u64,
    /// No earlier can it be: the newest time that a committed release was made, in seconds since 1970.
    pub time: u64,
    /// The trust file in force.
    pub trust: Option<TrustAt>,
    /// The package of last resort, which is never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<String>,
    /// Where the newest package came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The last thing that went wrong with a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Record {
    /// One of the slots.
    pub fn slot(&self, name: SlotName) -> &Slot {
        match name {
            SlotName::A => &self.a,
            SlotName::B => &self.b,
        }
    }

    pub(super) fn slot_mut(&mut self, name: SlotName) -> &mut Slot {
        match name {
            SlotName::A => &mut self.a,
            SlotName::B => &mut self.b,
        }
    }

    /// The package of a slot that is good.
    pub fn good(&self, name: SlotName) -> Option<&PackageId> {
        let slot = self.slot(name);
        slot.package.as_ref().filter(|_| slot.state == State::Good)
    }

    /// The slot with a version that is to prove itself.
    pub fn trial(&self) -> Option<SlotName> {
        SlotName::BOTH
            .into_iter()
            .find(|name| matches!(self.slot(*name).state, State::Trial { .. } | State::Staged))
    }
}

/// A slot that was good, and what the store knew when it became so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marker {
    /// What kind of file it is.
    pub(super) format: MarkerFormat,
    /// Number of the record that followed; the newest marker is that of the active slot.
    pub(super) sequence: u64,
    /// Whose marker it is.
    pub(super) slot: SlotName,
    /// What is in the slot.
    pub(super) package: PackageId,
    /// As in [`Record`].
    pub(super) floor: u64,
    /// As in [`Record`].
    pub(super) highest: u64,
    /// As in [`Record`].
    pub(super) time: u64,
}

/// Format of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordFormat {
    /// The only one.
    #[default]
    #[serde(rename = "smolt-store/1")]
    One,
}

/// Format of a marker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MarkerFormat {
    /// The only one.
    #[default]
    #[serde(rename = "smolt-good/1")]
    One,
}

/// Whether a number follows another, with numbers that begin again after the last.
pub(super) fn is_newer(number: u64, than: u64) -> bool {
    number != than && number.wrapping_sub(than) < 1 << 63
}

/// Shortens a reason to what is kept of one, on one line.
pub(super) fn short(reason: &str) -> String {
    let plain = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept = String::new();
    for c in plain {
        if kept.len() + c.len_utf8() > MAX_REASON {
            kept.push('…');
            break;
        }
        kept.push(c);
    }
    kept
}

/// Makes a block of a record or a marker.
pub(super) fn seal(content: &impl Serialize) -> Result<[u8; BLOCK], UpdateError> {
    let too_long = |_| UpdateError::TooLong { what: "the record", most: BLOCK - SEAL };
    let mut block = [b' '; BLOCK];
    let mut rest = &mut block[SEAL..];
    serde_json::to_writer(&mut rest, content).map_err(too_long)?;
    if let Some(first) = rest.first_mut() {
        *first = b'\n';
    }
    let seal = blake3::hash(&block[SEAL..]).to_hex();
    block[..SEAL - 1].copy_from_slice(seal.as_bytes());
    block[SEAL - 1] = b'\n';
    Ok(block)
}

/// Reads a block; nothing if it is not whole.
pub(super) fn unseal<T: DeserializeOwned>(block: &[u8]) -> Option<T> {
    if block.len() != BLOCK || block[SEAL - 1] != b'\n' {
        return None;
    }
    let seal = blake3::hash(&block[SEAL..]).to_hex();
    if seal.as_bytes() != &block[..SEAL - 1] {
        return None;
    }
    serde_json::from_slice(&block[SEAL..]).ok()
}
