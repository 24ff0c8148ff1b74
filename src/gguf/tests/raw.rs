//! Files put together field by field, true or not.

use std::io::Cursor;

use super::super::{DEFAULT_ALIGNMENT, GgufError, GgufFile};
use crate::runtime::Secrecy;

/// Bytes of a file under construction.
#[derive(Clone, Default)]
pub(super) struct Raw(pub(super) Vec<u8>);

impl Raw {
    /// Magic, version and counts.
    pub(super) fn start(version: u32, tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    /// The start of a file of version 3.
    pub(super) fn v3(tensors: u64, keys: u64) -> Self {
        Self::start(3, tensors, keys)
    }

    pub(super) fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(value.to_le_bytes())
    }

    pub(super) fn text(self, text: impl AsRef<[u8]>) -> Self {
        self.u64(text.as_ref().len() as u64).bytes(text)
    }

    /// A key and the type number of its value, which follows.
    pub(super) fn key(self, key: &str, kind: u32) -> Self {
        self.text(key).u32(kind)
    }

    /// A key of type u32.
    pub(super) fn key_u32(self, key: &str, value: u32) -> Self {
        self.key(key, 4).u32(value)
    }

    /// The start of an array: type, then length; its elements follow.
    pub(super) fn array(self, kind: u32, len: u64) -> Self {
        self.u32(kind).u64(len)
    }

    pub(super) fn tensor(self, name: &str, shape: &[u64], block_type: u32, offset: u64) -> Self {
        let mut raw = self.text(name).u32(shape.len() as u32);
        for axis in shape {
            raw = raw.u64(*axis);
        }
        raw.u32(block_type).u64(offset)
    }

    /// Padding up to the tensor data, then `len` bytes of it.
    pub(super) fn data(mut self, len: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        self.0.extend((0..len).map(|i| i as u8));
        self
    }

    pub(super) fn open(self) -> Result<GgufFile, GgufError> {
        open_both("raw.gguf", self.0)
    }
}

/// Opens a file in memory, and sees that one that is read once says the same of its header.
pub(super) fn open_both(name: &str, bytes: Vec<u8>) -> Result<GgufFile, GgufError> {
    let (len, reader) = (bytes.len() as u64, Box::new(Cursor::new(bytes.clone())));
    let streamed = GgufFile::from_reader(name, reader, len, Secrecy::Plain);
    let owned = GgufFile::from_vec(name, bytes);
    match (&owned, &streamed) {
        (Ok(owned), Ok(streamed)) => {
            // Not the values themselves, among which may be NaN.
            assert_eq!(
                format!("{:?}", Vec::from_iter(streamed.metadata())),
                format!("{:?}", Vec::from_iter(owned.metadata()))
            );
            assert_eq!(streamed.tensors(), owned.tensors());
        }
        (Err(owned), Err(streamed)) => assert_eq!(format!("{streamed:?}"), format!("{owned:?}")),
        _ => panic!("{owned:?} but as a stream {streamed:?}"),
    }
    owned
}

/// A true file with every kind of value, alone and in an array, and three tensors.
pub(super) fn sample() -> Raw {
    let mut raw = Raw::v3(3, 24).key("single.u8", 0).bytes([7]);
    raw = raw.key("single.i8", 1).bytes((-7i8).to_le_bytes());
    raw = raw.key("single.u16", 2).bytes(700u16.to_le_bytes());
    raw = raw.key("single.i16", 3).bytes((-700i16).to_le_bytes());
    raw = raw.key_u32("single.u32", 70_000);
    raw = raw.key("single.i32", 5).bytes((-70_000i32).to_le_bytes());
    raw = raw.key("single.f32", 6).bytes(0.25f32.to_le_bytes());
    raw = raw.key("single.bool", 7).bytes([1]);
    raw = raw.key("single.string", 8).text("größe");
    raw = raw.key("single.u64", 10).u64(1 << 40);
    raw = raw.key("single.i64", 11).bytes((-(1i64 << 40)).to_le_bytes());
    raw = raw.key("single.f64", 12).bytes((-0.5f64).to_le_bytes());
    raw = raw.key("array.u8", 9).array(0, 3).bytes([1, 2, 255]);
    raw = raw.key("array.i8", 9).array(1, 2).bytes([1, 255]);
    raw = raw.key("array.u16", 9).array(2, 1).bytes(300u16.to_le_bytes());
    raw = raw.key("array.i16", 9).array(3, 1).bytes((-300i16).to_le_bytes());
    raw = raw.key("array.u32", 9).array(4, 2).u32(0).u32(u32::MAX);
    raw = raw.key("array.i32", 9).array(5, 1).bytes((-5i32).to_le_bytes());
    raw = raw.key("array.f32", 9).array(6, 2).bytes(1.5f32.to_le_bytes()).bytes((-2f32).to_le_bytes());
    raw = raw.key("array.bool", 9).array(7, 3).bytes([1, 0, 1]);
    raw = raw.key("array.string", 9).array(8, 3).text("a").text("").text("né");
    raw = raw.key("array.u64", 9).array(10, 1).u64(u64::MAX);
    raw = raw.key("array.i64", 9).array(11, 1).bytes(i64::MIN.to_le_bytes());
    raw = raw.key("array.f64", 9).array(12, 1).bytes(0.125f64.to_le_bytes());
    raw = raw.tensor("b.weight", &[32, 2], 8, 64).tensor("a.weight", &[4, 1, 2], 0, 0);
    raw.tensor("c.weight", &[3], 1, 160).data(166)
}
