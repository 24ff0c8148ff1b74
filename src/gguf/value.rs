//! Metadata values: borrowed from a file ([`Value`], [`Array`]) or made for one ([`OwnedValue`]).

use std::fmt;

use super::error::shown;

/// Shown for text that changed under a memory map after it was checked.
const CHANGED_TEXT: &str = "\u{fffd}";

/// Type of a value. Discriminants are the container's type numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the types")]
#[repr(u32)]
pub enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    /// Every type, in the order of the numbers.
    pub const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Str,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type with this number.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The type's number.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of a value, `None` for strings and arrays.
    pub fn fixed_bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Str | Self::Array => None,
        }
    }

    /// Whether values are numbers or booleans.
    pub fn is_number(self) -> bool {
        self.fixed_bytes().is_some()
    }

    /// Whether values are integers or booleans.
    pub fn is_integer(self) -> bool {
        self.is_number() && !matches!(self, Self::F32 | Self::F64)
    }

    /// Usual name, e.g. `u32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::Str => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of a file's metadata; text and arrays are borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of the types")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Type of the value.
    pub fn kind(&self) -> Kind {
        match self {
            Self::U8(_) => Kind::U8,
            Self::I8(_) => Kind::I8,
            Self::U16(_) => Kind::U16,
            Self::I16(_) => Kind::I16,
            Self::U32(_) => Kind::U32,
            Self::I32(_) => Kind::I32,
            Self::F32(_) => Kind::F32,
            Self::Bool(_) => Kind::Bool,
            Self::Str(_) => Kind::Str,
            Self::Array(_) => Kind::Array,
            Self::U64(_) => Kind::U64,
            Self::I64(_) => Kind::I64,
            Self::F64(_) => Kind::F64,
        }
    }

    /// An integer of any width (not a boolean).
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// An integer of any width that fits.
    pub fn as_u32(&self) -> Option<u32> {
        u32::try_from(self.as_integer()?).ok()
    }

    /// A float of either width, rounded to f32.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(v) => Some(v),
            Self::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(v) = *self { Some(v) } else { None }
    }

    /// Text.
    pub fn as_str(&self) -> Option<&'a str> {
        if let Self::Str(v) = *self { Some(v) } else { None }
    }

    /// An array.
    pub fn as_array(&self) -> Option<Array<'a>> {
        if let Self::Array(v) = *self { Some(v) } else { None }
    }

    /// Decodes a number or boolean from the bytes of exactly one value.
    #[inline]
    pub(super) fn number(kind: Kind, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            Kind::U8 => Self::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I8 => Self::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            Kind::U16 => Self::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I16 => Self::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            Kind::U32 => Self::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I32 => Self::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            Kind::F32 => Self::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            Kind::Bool => Self::Bool(u8::from_le_bytes(bytes.try_into().ok()?) != 0),
            Kind::U64 => Self::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I64 => Self::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::F64 => Self::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::Str | Kind::Array => return None,
        })
    }
}

/// Type and value, text and arrays abridged.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match *self {
            Self::Str(text) => write!(f, "{kind} {}", shown(text)),
            Self::Array(array) => write!(f, "{kind} of {} {}", array.len(), array.kind()),
            Self::Bool(v) => write!(f, "{kind} {v}"),
            Self::F32(v) => write!(f, "{kind} {v}"),
            Self::F64(v) => write!(f, "{kind} {v}"),
            _ => write!(f, "{kind} {}", self.as_integer().unwrap_or_default()),
        }
    }
}

/// An array of a file's metadata, borrowed from the file. Every element was checked when the file was opened.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    kind: Kind,
    len: usize,
    /// The encoded elements, without the array's own type and length.
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// An array of `len` elements that were checked.
    pub(super) fn new(kind: Kind, len: usize, bytes: &'a [u8]) -> Self {
        Self { kind, len, bytes }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Type of the elements, never [`Kind::Array`].
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of all strings together; 0 if the elements are numbers.
    pub fn text_bytes(&self) -> usize {
        if self.kind == Kind::Str { self.bytes.len() - 8 * self.len } else { 0 }
    }

    /// The strings in order; nothing if the elements are numbers.
    pub fn iter_str(self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        self.iter_bytes().map(checked_text)
    }

    /// The bytes of the strings in order, which are not looked at again; nothing if the elements are numbers.
    pub fn iter_bytes(self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let left = if self.kind == Kind::Str { self.len } else { 0 };
        Strings { bytes: self.bytes, left }
    }

    /// The numbers in order, converted to f32 (booleans to 0 and 1); nothing if the elements are strings.
    pub fn iter_f32(self) -> impl Iterator<Item = f32> + Clone + use<'a> {
        self.numbers().map(|value| match value {
            Value::F32(v) => v,
            Value::F64(v) => v as f32,
            Value::Bool(v) => f32::from(u8::from(v)),
            other => other.as_integer().unwrap_or_default() as f32,
        })
    }

    /// The integers or booleans in order, saturated to i64; nothing if the elements are of another type.
    pub fn iter_i64(self) -> impl Iterator<Item = i64> + use<'a> {
        self.numbers().filter(|value| value.kind().is_integer()).map(|value| match value {
            Value::Bool(v) => i64::from(v),
            other => i64::try_from(other.as_integer().unwrap_or_default()).unwrap_or(i64::MAX),
        })
    }

    /// The elements in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        self.iter_str().map(Value::Str).chain(self.numbers())
    }

    fn numbers(self) -> impl Iterator<Item = Value<'a>> + Clone + use<'a> {
        let (width, bytes) = match self.kind.fixed_bytes() {
            Some(width) => (width, self.bytes),
            None => (1, &self.bytes[..0]),
        };
        bytes.chunks_exact(width).filter_map(move |chunk| Value::number(self.kind, chunk))
    }
}

/// Type and length only: a vocabulary would fill the screen.
impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.kind, self.len)
    }
}

/// Walks encoded strings. Yields exactly `left` items even if the bytes changed after they were checked.
struct Strings<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        match string(self.bytes) {
            Some((string, rest)) => {
                self.bytes = rest;
                Some(string)
            }
            None => Some(CHANGED_TEXT.as_bytes()),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// Splits an encoded string off `bytes`.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
}

/// Text that was UTF-8 when the file was opened.
pub(crate) fn checked_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or(CHANGED_TEXT)
}

/// A value to be written.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of the types")]
pub enum OwnedValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    U8Array(Vec<u8>),
    U32Array(Vec<u32>),
    I32Array(Vec<i32>),
    F32Array(Vec<f32>),
    BoolArray(Vec<bool>),
    StrArray(Vec<String>),
}

impl OwnedValue {
    /// Type of the value.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::U8(_) => Kind::U8,
            Self::I8(_) => Kind::I8,
            Self::U16(_) => Kind::U16,
            Self::I16(_) => Kind::I16,
            Self::U32(_) => Kind::U32,
            Self::I32(_) => Kind::I32,
            Self::U64(_) => Kind::U64,
            Self::I64(_) => Kind::I64,
            Self::F32(_) => Kind::F32,
            Self::F64(_) => Kind::F64,
            Self::Bool(_) => Kind::Bool,
            Self::Str(_) => Kind::Str,
            _ => Kind::Array,
        }
    }

    /// The value as it lies in a file, after its type number.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::U8(v) => v.to_le_bytes().to_vec(),
            Self::I8(v) => v.to_le_bytes().to_vec(),
            Self::U16(v) => v.to_le_bytes().to_vec(),
            Self::I16(v) => v.to_le_bytes().to_vec(),
            Self::U32(v) => v.to_le_bytes().to_vec(),
            Self::I32(v) => v.to_le_bytes().to_vec(),
            Self::U64(v) => v.to_le_bytes().to_vec(),
            Self::I64(v) => v.to_le_bytes().to_vec(),
            Self::F32(v) => v.to_le_bytes().to_vec(),
            Self::F64(v) => v.to_le_bytes().to_vec(),
            Self::Bool(v) => vec![u8::from(*v)],
            Self::Str(v) => encode_text(v),
            Self::U8Array(v) => encode_array(Kind::U8, v, |v| [*v]),
            Self::U32Array(v) => encode_array(Kind::U32, v, |v| v.to_le_bytes()),
            Self::I32Array(v) => encode_array(Kind::I32, v, |v| v.to_le_bytes()),
            Self::F32Array(v) => encode_array(Kind::F32, v, |v| v.to_le_bytes()),
            Self::BoolArray(v) => encode_array(Kind::Bool, v, |v| [u8::from(*v)]),
            Self::StrArray(v) => encode_array(Kind::Str, v, |v| encode_text(v)),
        }
    }
}

/// Length, then bytes.
pub(super) fn encode_text(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

fn encode_array<T, B: AsRef<[u8]>>(kind: Kind, values: &[T], encode: impl Fn(&T) -> B) -> Vec<u8> {
    let mut out = kind.id().to_le_bytes().to_vec();
    out.extend_from_slice(&(values.len() as u64).to_le_bytes());
    for value in values {
        out.extend_from_slice(encode(value).as_ref());
    }
    out
}

macro_rules! owned_from {
    ($($from:ty => $variant:ident;)*) => {
        $(impl From<$from> for OwnedValue {
            fn from(value: $from) -> Self {
                Self::$variant(value)
            }
        })*
    };
}

owned_from! {
    u32 => U32;
    i32 => I32;
    u64 => U64;
    f32 => F32;
    bool => Bool;
    String => Str;
    Vec<u32> => U32Array;
    Vec<i32> => I32Array;
    Vec<f32> => F32Array;
    Vec<String> => StrArray;
}

impl From<&str> for OwnedValue {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}
