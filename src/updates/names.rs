//! What packages and slots are called.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotName {
    /// The first.
    A,
    /// The second.
    B,
}

impl SlotName {
    /// Both.
    pub const BOTH: [SlotName; 2] = [SlotName::A, SlotName::B];

    /// The one that this one is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            SlotName::A => SlotName::B,
            SlotName::B => SlotName::A,
        }
    }

    /// The file of its package.
    pub fn file(self) -> &'static str {
        match self {
            SlotName::A => "slot.a.tar",
            SlotName::B => "slot.b.tar",
        }
    }

    /// The file that says that it was good.
    pub fn marker(self) -> &'static str {
        match self {
            SlotName::A => "good.a",
            SlotName::B => "good.b",
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == SlotName::A { "a" } else { "b" })
    }
}

/// A digest in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub [u8; 32]);

impl From<Hex> for String {
    fn from(hex: Hex) -> String {
        blake3::Hash::from_bytes(hex.0).to_hex().to_string()
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hash =
            blake3::Hash::from_hex(text.as_bytes()).map_err(|_| "no digest of 64 hexadecimal digits")?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

/// A package, as its signed head says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageId {
    /// Name of the model.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Lowest version that may run once this one is committed.
    pub floor: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Bytes of the whole package.
    pub bytes: u64,
    /// BLAKE3 of its head: of the signatures, and so of all that they are over.
    pub head: Hex,
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}
