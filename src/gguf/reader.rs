//! An open file: typed metadata, and tensor data read in place or as it passes.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use super::parse::Header;
use super::sample;
use super::source::Source;
use super::split;
use super::stream::{self, Streamed, Take};
use super::{Array, GgufError, Kind, TensorInfo, Value};
use crate::runtime::Secrecy;

/// An open and completely checked GGUF file.
///
/// Accessors by key give `Ok(None)` for an absent key and [`GgufError::WrongType`] for a value of another
/// type. Integers of any width are accepted where they fit, floats of either width.
pub struct GgufFile {
    /// More than one if the model is split over several.
    files: Vec<Content>,
    /// The keys of the first part with the tensors of all.
    header: Header,
}

/// A file without its header.
struct Content {
    name: String,
    source: Source,
    /// Offset of the tensor data.
    data_start: u64,
}

/// A file with its checked header, before it is joined with others.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) header: Header,
}

impl Part {
    pub(super) fn open(path: &Path) -> Result<Self, GgufError> {
        Self::new(path.display().to_string(), Source::map(path)?)
    }

    fn new(name: String, source: Source) -> Result<Self, GgufError> {
        let header = Header::parse(&name, source.header(), source.len())?;
        Ok(Self { name, source, header })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<Value<'_>> {
        self.header.get(self.source.header(), key)
    }
}

impl GgufFile {
    /// Maps a file into memory and checks it. Of a model that is split over several files any part may be named; the
    /// others are found beside it. Files must not be changed in place while they are open; replacing one by a rename
    /// is safe.
    ///
    /// # Errors
    /// If the path is missing, not a regular file or not readable, or the content is not valid GGUF, or a part is missing.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let part = Part::open(path)?;
        match split::Place::of(&part)? {
            None => Ok(Self::joined(part, vec![])),
            Some(place) => {
                let mut parts = split::open(path, part, place)?;
                let first = parts.remove(0);
                Ok(Self::joined(first, parts))
            }
        }
    }

    /// Checks a file built into the program. `name` is for messages.
    ///
    /// # Errors
    /// If the content is not valid GGUF.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self, GgufError> {
        Self::single(name, Source::Static(bytes))
    }

    /// Checks a file held in memory. `name` is for messages.
    ///
    /// # Errors
    /// If the content is not valid GGUF.
    pub fn from_vec(name: &str, bytes: Vec<u8>) -> Result<Self, GgufError> {
        Self::single(name, Source::Owned(bytes))
    }

    /// Reads the header of a file of `bytes`, whose tensors are read once, by [`Self::read_tensors`]. `name` is for
    /// messages. With [`Secrecy::Secret`] nothing of the file reaches a disk.
    ///
    /// # Errors
    /// If the content is not valid GGUF, the reader fails, or memory cannot be had.
    pub fn from_reader(
        name: &str,
        reader: Box<dyn Read + Send>,
        bytes: u64,
        secrecy: Secrecy,
    ) -> Result<Self, GgufError> {
        let (streamed, header) = Streamed::read(name, reader, bytes, secrecy)?;
        Self::whole(Part { name: name.to_owned(), source: Source::Streamed(Box::new(streamed)), header })
    }

    fn single(name: &str, source: Source) -> Result<Self, GgufError> {
        Self::whole(Part::new(name.to_owned(), source)?)
    }

    /// A model that is not split.
    fn whole(part: Part) -> Result<Self, GgufError> {
        match split::Place::of(&part)? {
            None => Ok(Self::joined(part, vec![])),
            Some(place) => Err(GgufError::Split { file: part.name, parts: place.count() }),
        }
    }

    /// Puts the parts of a model together, of which there is at least one.
    fn joined(first: Part, others: Vec<Part>) -> Self {
        let content = |name, source, data_start| Content { name, source, data_start };
        let mut header = first.header;
        let mut files = vec![content(first.name, first.source, header.data_start)];
        for part in others {
            let number = files.len();
            header
                .tensors
                .extend(part.header.tensors.into_iter().map(|info| TensorInfo { part: number, ..info }));
            files.push(content(part.name, part.source, part.header.data_start));
        }
        if files.len() > 1 {
            header.sort_tensors();
        }
        Self { files, header }
    }

    fn source(&self) -> &Source {
        &self.files[0].source
    }

    /// Path or given name, for messages; of a split model that of its first part.
    pub fn name(&self) -> &str {
        &self.files[0].name
    }

    /// The path of the file or first part, unless it is held in memory.
    pub fn path(&self) -> Option<&Path> {
        match self.source() {
            Source::Mapped { path, .. } => Some(path),
            _ => None,
        }
    }

    /// When the file, or the last part, was last changed, where that is known.
    pub fn modified(&self) -> Option<SystemTime> {
        let times = self.files.iter().map(|part| match &part.source {
            Source::Mapped { modified, .. } => *modified,
            _ => None,
        });
        times.max().flatten()
    }

    /// A number that differs (with high probability) between models: FNV-1a over the names, shapes, types
    /// and places of all tensors and over the first and last 64 bytes of each. It reads little of
    /// the file, so it does not notice every change within a tensor.
    ///
    /// # Errors
    /// [`GgufError::NotRead`] of a file that is read once, before its tensors were.
    pub fn fingerprint(&self) -> Result<u64, GgufError> {
        if let Source::Streamed(streamed) = self.source() {
            return streamed.fingerprint().ok_or_else(|| GgufError::NotRead { file: self.name().to_owned() });
        }
        let data = self.tensors().iter().map(|tensor| self.data(tensor)).collect::<Result<Vec<_>, _>>()?;
        Ok(sample::fingerprint(self.tensors(), |number| {
            // What the system mapped around the samples of all tensors would be much.
            if let Some(before) = number.checked_sub(1) {
                self.release_around(&self.tensors()[before], 0..usize::MAX);
            }
            sample::ends(data[number])
        }))
    }

    /// Whether what is in the file may reach a disk.
    pub fn secrecy(&self) -> Secrecy {
        match self.source() {
            Source::Streamed(streamed) => streamed.secrecy(),
            _ => Secrecy::Plain,
        }
    }

    /// Size in bytes, of all parts together.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|part| part.source.len()).sum()
    }

    /// Bytes of private memory that the file takes while it is open: those of a header that is read once.
    pub fn held_bytes(&self) -> u64 {
        match self.source() {
            Source::Streamed(streamed) => streamed.header().len() as u64,
            _ => 0,
        }
    }

    /// Takes it that the file, which is read once, was read and has this fingerprint.
    #[cfg(feature = "trust")]
    pub(crate) fn set_unread(&self, fingerprint: u64) {
        if let Source::Streamed(streamed) = self.source() {
            streamed.set_unread(fingerprint);
        }
    }

    /// The file, or the first part, at least up to the data of its tensors; of one that is read once no more.
    pub(crate) fn header_bytes(&self) -> &[u8] {
        self.source().header()
    }

    /// The whole file, or the first part.
    ///
    /// # Errors
    /// [`GgufError::NotInPlace`] of a file that is read once; here and below.
    pub fn as_bytes(&self) -> Result<&[u8], GgufError> {
        self.in_place(&self.files[0])
    }

    /// Names and contents of all parts, e.g. to compute checksums; one unless the model is split.
    ///
    /// # Errors
    /// As [`Self::as_bytes`].
    pub fn files(&self) -> Result<Vec<(&str, &[u8])>, GgufError> {
        self.files.iter().map(|part| Ok((part.name.as_str(), self.in_place(part)?))).collect()
    }

    fn in_place<'a>(&self, part: &'a Content) -> Result<&'a [u8], GgufError> {
        part.source.bytes().ok_or_else(|| GgufError::NotInPlace { file: self.name().to_owned() })
    }

    /// GGUF version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Alignment of tensor data in bytes, a power of two.
    pub fn alignment(&self) -> u64 {
        self.header.alignment
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.header.get(self.header_bytes(), key)
    }

    /// All keys and values in file order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, Value<'_>)> {
        let bytes = self.header_bytes();
        self.header.entries.iter().map(move |entry| (entry.key(bytes), entry.value(bytes)))
    }

    /// All keys with the type and encoding of their values, to be copied.
    pub(super) fn encoded_metadata(&self) -> impl Iterator<Item = (&str, Kind, &[u8])> {
        let bytes = self.header_bytes();
        self.header.entries.iter().map(move |entry| (entry.key(bytes), entry.kind(), entry.encoded(bytes)))
    }

    /// An integer that fits in 32 bits without sign.
    ///
    /// # Errors
    /// [`GgufError::WrongType`]; here and in the accessors below.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.typed(key, "an integer from 0 to 4294967295", |value| value.as_u32())
    }

    /// A float, rounded to 32 bits.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.typed(key, "a float", |value| value.as_f32())
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a bool", |value| value.as_bool())
    }

    /// Text.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a string", |value| value.as_str())
    }

    /// An array of any element type.
    pub fn array(&self, key: &str) -> Result<Option<Array<'_>>, GgufError> {
        self.typed(key, "an array", |value| value.as_array())
    }

    /// An array of strings.
    pub fn str_array(&self, key: &str) -> Result<Option<Array<'_>>, GgufError> {
        self.array_of(key, "an array of strings", |kind| kind == Kind::Str)
    }

    /// An array of floats.
    pub fn f32_array(&self, key: &str) -> Result<Option<Array<'_>>, GgufError> {
        self.array_of(key, "an array of floats", |kind| matches!(kind, Kind::F32 | Kind::F64))
    }

    /// An array of integers or booleans.
    pub fn integer_array(&self, key: &str) -> Result<Option<Array<'_>>, GgufError> {
        self.array_of(key, "an array of integers", Kind::is_integer)
    }

    /// Like [`Self::u32`], but the key must be present.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] or [`GgufError::MissingKey`]; here and in the accessors below.
    pub fn require_u32(&self, key: &str) -> Result<u32, GgufError> {
        self.u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Self::f32`], but the key must be present.
    pub fn require_f32(&self, key: &str) -> Result<f32, GgufError> {
        self.f32(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Self::str`], but the key must be present.
    pub fn require_str(&self, key: &str) -> Result<&str, GgufError> {
        self.str(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`Self::str_array`], but the key must be present.
    pub fn require_str_array(&self, key: &str) -> Result<Array<'_>, GgufError> {
        self.str_array(key)?.ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> GgufError {
        GgufError::MissingKey { file: self.name().to_owned(), key: key.to_owned() }
    }

    fn array_of(
        &self,
        key: &str,
        expected: &'static str,
        accepts: impl Fn(Kind) -> bool,
    ) -> Result<Option<Array<'_>>, GgufError> {
        self.typed(key, expected, |value| value.as_array().filter(|array| accepts(array.kind())))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || GgufError::WrongType {
            file: self.name().to_owned(),
            key: key.to_owned(),
            expected,
            found: value.to_string(),
        };
        convert(value).map(Some).ok_or_else(wrong)
    }

    /// All tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let info = |i: &u32| &self.header.tensors[*i as usize];
        let found = self.header.by_name.binary_search_by_key(&name, |i| info(i).name.as_str()).ok()?;
        Some(info(&self.header.by_name[found]))
    }

    /// Whether the data of tensors can be had by [`Self::data`], in any order and more than once.
    pub fn is_in_place(&self) -> bool {
        !matches!(self.source(), Source::Streamed(_))
    }

    /// The data of a tensor: `tensor.bytes` bytes, row after row.
    ///
    /// # Errors
    /// [`GgufError::NotInPlace`] of a file that is read once.
    ///
    /// # Panics
    /// If `tensor` is not one of this file's and lies outside it.
    pub fn data(&self, tensor: &TensorInfo) -> Result<&[u8], GgufError> {
        let (part, range) = self.place(tensor);
        Ok(&self.in_place(part)?[range])
    }

    /// Hands out the data of the tensors that `wants` names, in the order of the file: to `take` with the offset in the
    /// tensor, whole rows of about 1 MiB at a time. Of a mapped file what was handed out leaves the resident set.
    ///
    /// A file that is read once is read to its end and judged by its reader: nothing that was handed out may be used
    /// unless this succeeds.
    ///
    /// # Errors
    /// That of `take`; if the reader fails, ends early or goes on, or was read before.
    pub fn read_tensors<E: From<GgufError>>(
        &self,
        wants: &dyn Fn(&TensorInfo) -> bool,
        take: &mut Take<'_, E>,
    ) -> Result<(), E> {
        let tensors = self.tensors();
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|number| (tensors[*number].part, tensors[*number].offset));
        if let Source::Streamed(streamed) = self.source() {
            let mut wanted = |info: &TensorInfo, start: usize, bytes: &[u8]| {
                if wants(info) { take(info, start, bytes) } else { Ok(()) }
            };
            return streamed.each(self.name(), (&self.header, &order), &mut wanted);
        }
        for number in order.into_iter().filter(|number| wants(&tensors[*number])) {
            let info = &tensors[number];
            let data = self.data(info)?;
            for piece in stream::pieces(0, number, info) {
                let end = piece.start + piece.len;
                take(info, piece.start, &data[piece.start..end])?;
                self.release(info, piece.start..end);
            }
        }
        Ok(())
    }

    /// Reads a file that is read once to its end, which is judged by its reader, and keeps nothing of its tensors. Does
    /// nothing to other files.
    ///
    /// # Errors
    /// As [`Self::read_tensors`].
    pub fn read_to_end(&self) -> Result<(), GgufError> {
        match self.source() {
            Source::Streamed(_) => self.read_tensors(&|_| false, &mut |_, _, _| Ok(())),
            _ => Ok(()),
        }
    }

    /// Lets pages that held a part of a tensor leave the resident set of a mapped file; they are read again
    /// if they are touched later. `bytes` counts from the start of the tensor. Pages are dropped in grains of
    /// 64 KiB up to `bytes.end`, the grain of `bytes.start` included, so that consecutive parts release all
    /// that they passed. Does nothing for other files.
    ///
    /// # Panics
    /// If `tensor` is not one of this file's and lies outside it.
    pub fn release(&self, tensor: &TensorInfo, bytes: Range<usize>) {
        let (source, range) = self.part(tensor, bytes);
        source.release(range);
    }

    /// As [`Self::release`], the grain of `bytes.end` included, so that parts release all that they passed in whatever
    /// order.
    pub(crate) fn release_around(&self, tensor: &TensorInfo, bytes: Range<usize>) {
        let (source, range) = self.part(tensor, bytes);
        source.release_around(range);
    }

    /// Where bytes of a tensor lie.
    fn part(&self, tensor: &TensorInfo, bytes: Range<usize>) -> (&Source, Range<usize>) {
        let (part, range) = self.place(tensor);
        let end = range.start.saturating_add(bytes.end).min(range.end);
        let start = range.start.saturating_add(bytes.start).min(end);
        (&part.source, start..end)
    }

    /// Says that the data of tensors will be read in the order of the file. Advice, as [`Self::prefetch`].
    pub fn advise_order(&self) {
        self.files.iter().for_each(|part| part.source.advise_order());
    }

    /// Reads a mapped file into memory at once. Advice: where the system does not know it, nothing happens.
    pub fn prefetch(&self) {
        self.files.iter().for_each(|part| part.source.prefetch());
    }

    /// Lets all pages leave the resident set of a mapped file, see [`Self::release`].
    pub fn release_all(&self) {
        self.files.iter().for_each(|part| part.source.release(0..usize::MAX));
    }

    /// Where a tensor lies.
    fn place(&self, tensor: &TensorInfo) -> (&Content, Range<usize>) {
        let part = self.files.get(tensor.part);
        let start = part.and_then(|part| part.data_start.checked_add(tensor.offset));
        let end = start.and_then(|start| start.checked_add(tensor.bytes));
        match (part, start.map(usize::try_from), end.map(usize::try_from)) {
            (Some(part), Some(Ok(start)), Some(Ok(end))) if end as u64 <= part.source.len() => {
                (part, start..end)
            }
            _ => panic!("tensor {:?} is not one of {}", tensor.name, self.name()),
        }
    }
}

impl fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GgufFile")
            .field("name", &self.name())
            .field("files", &self.files.len())
            .field("keys", &self.header.entries.len())
            .field("tensors", &self.header.tensors.len())
            .finish_non_exhaustive()
    }
}
