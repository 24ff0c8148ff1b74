//! Reads and checks a header. Nothing is allocated from a claimed count before the bytes for it are known to
//! be there.

use std::ops::Range;

use super::value::checked_text;
use super::{
    ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, GgufError, Kind, MAGIC, MAX_ALIGNMENT, MAX_ARRAY_LEN, MAX_DIMS,
    MAX_KEY_BYTES, MAX_KEYS, MAX_STRING_BYTES, MAX_TENSOR_NAME_BYTES, MAX_TENSORS, Place, TensorInfo, Value,
};
use crate::blocks::BlockType;
use crate::files;

/// What a program that swaps bytes makes of the magic.
const SWAPPED_MAGIC: [u8; 4] = *b"FUGG";
/// Bytes of the shortest key with its value: length, one character, type, one byte.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;
/// Bytes of the shortest tensor description: length, one character, count, one axis, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// A checked header.
pub(super) struct Header {
    pub(super) version: u32,
    /// Bytes.
    pub(super) alignment: u64,
    /// Offset of the tensor data from the start of the file.
    pub(super) data_start: u64,
    pub(super) entries: Vec<Entry>,
    /// Entry numbers sorted by key.
    pub(super) by_key: Vec<u32>,
    pub(super) tensors: Vec<TensorInfo>,
    /// Tensor numbers sorted by name.
    pub(super) by_name: Vec<u32>,
}

impl Header {
    /// Reads a header from the start of `bytes`, which holds at least the header of a file of `file_bytes`.
    pub(super) fn parse(file: &str, bytes: &[u8], file_bytes: u64) -> Result<Self, GgufError> {
        if bytes.is_empty() {
            return Err(GgufError::Empty { file: file.to_owned() });
        }
        let mut cursor = Cursor { file, bytes, pos: 0, place: Place::Header };
        let version = cursor.version()?;
        let tensor_count = cursor.length("number of tensors", MAX_TENSORS)?;
        let key_count = cursor.length("number of keys", MAX_KEYS)?;
        let least = key_count as u64 * MIN_ENTRY_BYTES + tensor_count as u64 * MIN_TENSOR_BYTES;
        cursor.need(least)?;

        let mut entries = Vec::with_capacity(key_count);
        for number in 0..key_count as u64 {
            entries.push(cursor.entry(number)?);
        }
        let by_key = sorted(entries.len(), |i| entries[i].key(bytes));
        if let Some(i) = duplicate(&by_key, |i| entries[i].key(bytes)) {
            let key = entries[i].key(bytes).to_owned();
            let offset = entries[i].key.start as u64;
            return Err(GgufError::DuplicateKey { file: file.to_owned(), key, offset });
        }
        let find = |key: &str| entries.iter().find(|e| e.key(bytes) == key).map(|e| e.value(bytes));
        let alignment = alignment(file, find(ALIGNMENT_KEY))?;

        let tensors = cursor.tensors(tensor_count)?;
        let by_name = sorted(tensors.len(), |i| tensors[i].0.name.as_str());
        if let Some(i) = duplicate(&by_name, |i| tensors[i].0.name.as_str()) {
            let (info, offset) = &tensors[i];
            let (tensor, offset) = (info.name.clone(), *offset);
            return Err(GgufError::DuplicateTensor { file: file.to_owned(), tensor, offset });
        }
        let tensors: Vec<TensorInfo> = tensors.into_iter().map(|(info, _)| info).collect();
        let data_start = (cursor.pos as u64).next_multiple_of(alignment);
        check_places(file, &tensors, alignment, file_bytes.saturating_sub(data_start))?;
        Ok(Self { version, alignment, data_start, entries, by_key, tensors, by_name })
    }

    /// The value of a key; `bytes` are those of the file.
    pub(super) fn get<'a>(&self, bytes: &'a [u8], key: &str) -> Option<Value<'a>> {
        let entry = |i: &u32| &self.entries[*i as usize];
        let found = self.by_key.binary_search_by_key(&key, |i| entry(i).key(bytes)).ok()?;
        Some(entry(&self.by_key[found]).value(bytes))
    }

    /// Makes the index of tensors anew.
    pub(super) fn sort_tensors(&mut self) {
        self.by_name = sorted(self.tensors.len(), |i| self.tensors[i].name.as_str());
    }
}

/// Numbers `0..len` sorted by name, equal names in file order.
fn sorted<'a>(len: usize, name: impl Fn(usize) -> &'a str) -> Vec<u32> {
    // Lengths are capped far below u32.
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.sort_by_key(|i| name(*i as usize));
    order
}

/// The later of two neighbours with the same name.
fn duplicate<'a>(order: &[u32], name: impl Fn(usize) -> &'a str) -> Option<usize> {
    let pair = order.windows(2).find(|pair| name(pair[0] as usize) == name(pair[1] as usize))?;
    Some(pair[1] as usize)
}

fn alignment(file: &str, value: Option<Value<'_>>) -> Result<u64, GgufError> {
    let Some(value) = value else { return Ok(u64::from(DEFAULT_ALIGNMENT)) };
    let file = file.to_owned();
    let Some(found) = value.as_integer().and_then(|v| u64::try_from(v).ok()) else {
        let (key, found) = (ALIGNMENT_KEY.to_owned(), value.to_string());
        return Err(GgufError::WrongType { file, key, expected: "u32", found });
    };
    if !found.is_power_of_two() || found > MAX_ALIGNMENT {
        return Err(GgufError::BadAlignment { file, found });
    }
    Ok(found)
}

/// Checks that tensors are aligned, inside `available` bytes of data, and apart from each other.
fn check_places(file: &str, tensors: &[TensorInfo], alignment: u64, available: u64) -> Result<(), GgufError> {
    for info in tensors {
        let (file, tensor, offset, bytes) = (file.to_owned(), info.name.clone(), info.offset, info.bytes);
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::MisalignedTensor { file, tensor, offset, alignment });
        }
        if offset.checked_add(bytes).is_none_or(|end| end > available) {
            return Err(GgufError::OutsideFile { file, tensor, offset, bytes, available });
        }
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_by_key(|info| info.offset);
    for pair in by_offset.windows(2) {
        let (other, info) = (pair[0], pair[1]);
        let end = other.offset + other.bytes;
        if info.offset < end {
            let (tensor, other) = (info.name.clone(), other.name.clone());
            return Err(GgufError::Overlap {
                file: file.to_owned(),
                tensor,
                offset: info.offset,
                other,
                end,
            });
        }
    }
    Ok(())
}

/// Where a key and its value lie.
pub(super) struct Entry {
    key: Range<usize>,
    layout: Layout,
    /// The value after its type number, as [`super::OwnedValue::encode`] gives it.
    value: Range<usize>,
}

#[derive(Clone, Copy)]
enum Layout {
    Single(Kind),
    Array { kind: Kind, len: usize },
}

impl Entry {
    /// The key. `bytes` are those the entry was read from, here and below.
    pub(super) fn key<'a>(&self, bytes: &'a [u8]) -> &'a str {
        checked_text(&bytes[self.key.clone()])
    }

    /// Type of the value.
    pub(super) fn kind(&self) -> Kind {
        match self.layout {
            Layout::Single(kind) => kind,
            Layout::Array { .. } => Kind::Array,
        }
    }

    /// The value after its type number.
    pub(super) fn encoded<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.value.clone()]
    }

    /// The value.
    pub(super) fn value<'a>(&self, bytes: &'a [u8]) -> Value<'a> {
        let encoded = self.encoded(bytes);
        match self.layout {
            Layout::Single(Kind::Str) => Value::Str(checked_text(&encoded[8..])),
            Layout::Single(kind) => Value::number(kind, encoded).expect("the width was read from the kind"),
            Layout::Array { kind, len } => Value::Array(Array::new(kind, len, &encoded[12..])),
        }
    }
}

/// A position in the header.
struct Cursor<'a> {
    file: &'a str,
    bytes: &'a [u8],
    pos: usize,
    /// What is being read, for messages.
    place: Place,
}

impl<'a> Cursor<'a> {
    fn file(&self) -> String {
        self.file.to_owned()
    }

    /// Fails unless `needed` bytes are left.
    fn need(&self, needed: u64) -> Result<(), GgufError> {
        let left = (self.bytes.len() - self.pos) as u64;
        if needed > left {
            let (place, offset) = (self.place.clone(), self.pos as u64);
            return Err(GgufError::Truncated { file: self.file(), place, offset, needed, left });
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], GgufError> {
        self.need(len as u64)?;
        let taken = &self.bytes[self.pos..self.pos + len];
        self.pos += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a count or length and checks its cap.
    fn length(&mut self, what: &'static str, limit: u64) -> Result<usize, GgufError> {
        let offset = self.pos as u64;
        let found = self.u64()?;
        match usize::try_from(found) {
            Ok(length) if found <= limit => Ok(length),
            _ => {
                let (file, place) = (self.file(), self.place.clone());
                Err(GgufError::LimitExceeded { file, place, offset, what, found, limit })
            }
        }
    }

    fn version(&mut self) -> Result<u32, GgufError> {
        let found = self.array()?;
        if found == SWAPPED_MAGIC {
            return Err(GgufError::BigEndian { file: self.file(), version: self.u32()?.swap_bytes() });
        }
        if found != MAGIC {
            return Err(match files::Kind::of(self.bytes) {
                Some(found) => GgufError::OtherKind { file: self.file(), found },
                None => GgufError::BadMagic { file: self.file(), found },
            });
        }
        let version = self.u32()?;
        match (version, version.swap_bytes()) {
            (2 | 3, _) => Ok(version),
            (_, version @ 1..=0xffff) => Err(GgufError::BigEndian { file: self.file(), version }),
            _ => Err(GgufError::Version { file: self.file(), found: version }),
        }
    }

    /// Reads text.
    fn text(&mut self, what: &'static str, limit: u64) -> Result<&'a str, GgufError> {
        let len = self.length(what, limit)?;
        let offset = self.pos as u64;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|fault| GgufError::NotUtf8 {
            file: self.file(),
            place: self.place.clone(),
            offset: offset + fault.valid_up_to() as u64,
        })
    }

    /// Reads the name of a key or tensor.
    fn name(&mut self, what: &'static str, limit: u64) -> Result<&'a str, GgufError> {
        let name = self.text(what, limit)?;
        if name.is_empty() || name.contains(char::is_control) {
            let (place, offset) = (self.place.clone(), (self.pos - name.len()) as u64);
            return Err(GgufError::BadName { file: self.file(), place, offset, found: name.to_owned() });
        }
        Ok(name)
    }

    /// Reads a key and checks its value.
    fn entry(&mut self, number: u64) -> Result<Entry, GgufError> {
        self.place = Place::KeyNumber(number);
        let key = self.name("key length", MAX_KEY_BYTES)?;
        let key_start = self.pos - key.len();
        self.place = Place::Key(key.to_owned());
        let kind = self.kind()?;
        let start = self.pos;
        let layout = match kind {
            Kind::Array => self.skip_array()?,
            kind => {
                self.skip_values(kind, 1)?;
                Layout::Single(kind)
            }
        };
        Ok(Entry { key: key_start..key_start + key.len(), layout, value: start..self.pos })
    }

    fn kind(&mut self) -> Result<Kind, GgufError> {
        let (place, offset) = (self.place.clone(), self.pos as u64);
        let found = self.u32()?;
        let unknown = || GgufError::UnknownValueType { file: self.file(), place, offset, found };
        Kind::from_id(found).ok_or_else(unknown)
    }

    fn skip_array(&mut self) -> Result<Layout, GgufError> {
        let offset = self.pos as u64;
        let kind = self.kind()?;
        if kind == Kind::Array {
            return Err(GgufError::NestedArray { file: self.file(), place: self.place.clone(), offset });
        }
        let len = self.length("array length", MAX_ARRAY_LEN)?;
        self.skip_values(kind, len)?;
        Ok(Layout::Array { kind, len })
    }

    /// Checks `len` values of a kind that is not an array.
    fn skip_values(&mut self, kind: Kind, len: usize) -> Result<(), GgufError> {
        let Some(width) = kind.fixed_bytes() else {
            // Each has at least its length, so that a false count is found before the walk.
            self.need(len as u64 * 8)?;
            for _ in 0..len {
                self.text("string length", MAX_STRING_BYTES)?;
            }
            return Ok(());
        };
        self.need(len as u64 * width as u64)?;
        let offset = self.pos;
        let values = self.take(len * width)?;
        if kind == Kind::Bool
            && let Some(i) = values.iter().position(|byte| *byte > 1)
        {
            let (place, offset, found) = (self.place.clone(), (offset + i) as u64, values[i]);
            return Err(GgufError::BadBool { file: self.file(), place, offset, found });
        }
        Ok(())
    }

    /// Reads all tensor descriptions, each with the offset of its name in the file.
    fn tensors(&mut self, count: usize) -> Result<Vec<(TensorInfo, u64)>, GgufError> {
        self.place = Place::Header;
        self.need(count as u64 * MIN_TENSOR_BYTES)?;
        (0..count as u64).map(|number| self.tensor(number)).collect()
    }

    fn tensor(&mut self, number: u64) -> Result<(TensorInfo, u64), GgufError> {
        self.place = Place::TensorNumber(number);
        let name = self.name("name length", MAX_TENSOR_NAME_BYTES)?;
        let name_start = (self.pos - name.len()) as u64;
        self.place = Place::Tensor(name.to_owned());
        let dims = self.u32()?;
        if dims == 0 || dims > MAX_DIMS {
            let (tensor, found) = (name.to_owned(), u64::from(dims));
            return Err(GgufError::DimensionCount { file: self.file(), tensor, found });
        }
        let shape = (0..dims).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        let id = self.u32()?;
        let Some(block_type) = BlockType::from_id(id) else {
            return Err(GgufError::UnsupportedType { file: self.file(), tensor: name.to_owned(), id });
        };
        let offset = self.u64()?;
        Ok((TensorInfo::checked(self.file, name, shape, block_type, offset)?, name_start))
    }
}
