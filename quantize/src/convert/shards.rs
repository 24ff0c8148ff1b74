//! The safetensors files of a model: which tensor lies where, checked, and reads of parts of it.
//!
//! Files are read, not mapped: a file that shrinks meanwhile is an error, and memory is what the caller gives.
//!
//! Format: <https://github.com/huggingface/safetensors#format>

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use smolt::files::{KIND_BYTES, Kind};

use super::ConvertError;
use super::json::Json;

/// Bytes of the header of a safetensors file.
const MAX_HEADER_BYTES: u64 = 1 << 25;
/// Bytes of the index of a sharded model.
const MAX_INDEX_BYTES: u64 = 1 << 26;
/// Files of a sharded model.
const MAX_SHARDS: usize = 1024;
/// Bytes of a tensor that is read at once.
const MAX_HELD_BYTES: u64 = 1 << 30;
/// Bytes of the length before the header.
const LENGTH_BYTES: u64 = 8;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// One file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    name: String,
    file: File,
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    shard: usize,
    /// Name in the file.
    pub(super) name: String,
    pub(super) dtype: Dtype,
    /// Extents, outermost first.
    pub(super) shape: Vec<u64>,
    /// Bytes from the start of the file.
    start: u64,
    pub(super) bytes: u64,
}

/// All tensors of a model.
#[derive(Debug)]
pub(super) struct Shards {
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
}

impl Shards {
    /// Reads the headers of the weight files in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, ConvertError> {
        let mut all = Self { shards: Vec::new(), entries: BTreeMap::new() };
        let single = folder.join(SINGLE);
        if single.is_file() {
            all.add(&single)?;
            return Ok(all);
        }
        let path = folder.join(INDEX);
        match Json::read(&path, MAX_INDEX_BYTES)? {
            Some(index) => all.add_indexed(folder, &index)?,
            None => all.add(&only_safetensors(folder)?)?,
        }
        Ok(all)
    }

    fn add_indexed(&mut self, folder: &Path, index: &Json) -> Result<(), ConvertError> {
        let root = index.root();
        let file = || root.file().to_owned();
        let Some(map) = root.get("weight_map").and_then(|map| map.as_object()) else {
            return Err(root.bad("weight_map", "an object of tensor and file names"));
        };
        let mut places = Vec::with_capacity(map.len());
        for (tensor, shard) in map {
            let name =
                shard.as_str().filter(|name| is_plain(name)).ok_or_else(|| ConvertError::ShardName {
                    file: file(),
                    tensor: tensor.clone(),
                    shard: super::json::shown(shard),
                })?;
            places.push((tensor, name));
        }
        let names: BTreeSet<&str> = places.iter().map(|(_, name)| *name).collect();
        if names.len() > MAX_SHARDS {
            return Err(ConvertError::TooManyShards { file: file(), found: names.len(), limit: MAX_SHARDS });
        }
        for name in names {
            self.add(&folder.join(name))?;
        }
        let misplaced = places.into_iter().find(|(tensor, name)| {
            let entry = self.entries.get(*tensor);
            entry.is_none_or(|entry| self.shards[entry.shard].path != folder.join(name))
        });
        match misplaced {
            Some((tensor, shard)) => Err(ConvertError::NotInShard {
                file: file(),
                tensor: tensor.clone(),
                shard: shard.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Adds the tensors of a file.
    fn add(&mut self, path: &Path) -> Result<(), ConvertError> {
        let name = path.display().to_string();
        let io = |action| move |source| ConvertError::Io { file: path.display().to_string(), action, source };
        let file = File::open(path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("read"))?.len();
        let (metadata, data_start) = read_header(&file, &name, length)?;
        let expected = data_start.saturating_add(metadata.data_len() as u64);
        if expected != length {
            return Err(ConvertError::FileLength { file: name, expected, found: length });
        }
        let shard = self.shards.len();
        for (tensor, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let entry = Entry {
                shard,
                name: tensor.clone(),
                dtype: info.dtype,
                shape: info.shape.iter().map(|&n| n as u64).collect(),
                start: data_start + start as u64,
                bytes: (end - start) as u64,
            };
            if let Some(other) = self.entries.insert(tensor, entry) {
                let first = self.shards[other.shard].name.clone();
                return Err(ConvertError::DuplicateTensor { tensor: other.name, first, second: name });
            }
        }
        self.shards.push(Shard { path: path.to_owned(), name, file });
        Ok(())
    }

    /// The tensor of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All tensors, by name.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Paths of the files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// The file a tensor lies in, for messages.
    pub(super) fn file_of(&self, entry: &Entry) -> String {
        self.shards[entry.shard].name.clone()
    }

    /// Fills `buffer` with the tensor's bytes from `offset` on; they lie within the tensor.
    pub(super) fn read(&self, entry: &Entry, offset: u64, buffer: &mut [u8]) -> Result<(), ConvertError> {
        debug_assert!(offset + buffer.len() as u64 <= entry.bytes);
        let mut file = &self.shards[entry.shard].file;
        let result = file.seek(SeekFrom::Start(entry.start + offset)).and_then(|_| file.read_exact(buffer));
        result.map_err(|source| ConvertError::Io { file: self.file_of(entry), action: "read", source })
    }

    /// All bytes of a tensor that is held in memory.
    pub(super) fn read_all(&self, entry: &Entry) -> Result<Vec<u8>, ConvertError> {
        if entry.bytes > MAX_HELD_BYTES {
            return Err(ConvertError::TensorTooLarge {
                file: self.file_of(entry),
                tensor: entry.name.clone(),
                found: entry.bytes,
                limit: MAX_HELD_BYTES,
            });
        }
        let mut bytes = vec![0; entry.bytes as usize];
        self.read(entry, 0, &mut bytes)?;
        Ok(bytes)
    }
}

/// The checked header and where the data starts.
fn read_header(mut file: &File, name: &str, length: u64) -> Result<(Metadata, u64), ConvertError> {
    let io = |source| ConvertError::Io { file: name.to_owned(), action: "read", source };
    let shorter = |expected| ConvertError::FileLength { file: name.to_owned(), expected, found: length };
    let mut first = vec![];
    file.take(KIND_BYTES as u64).read_to_end(&mut first).map_err(io)?;
    file.rewind().map_err(io)?;
    if let Some(found) = Kind::of(&first).filter(|kind| *kind != Kind::Safetensors) {
        return Err(ConvertError::OtherKind { file: name.to_owned(), expected: "a safetensors file", found });
    }
    if length < LENGTH_BYTES {
        return Err(shorter(LENGTH_BYTES));
    }
    let mut header_length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut header_length).map_err(io)?;
    let header_length = u64::from_le_bytes(header_length);
    if header_length > MAX_HEADER_BYTES {
        let source = safetensors::SafeTensorError::HeaderTooLarge;
        return Err(ConvertError::Safetensors { file: name.to_owned(), source });
    }
    let data_start = LENGTH_BYTES + header_length;
    if data_start > length {
        return Err(shorter(data_start));
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header).map_err(io)?;
    let parsed: Result<Metadata, _> = serde_json::from_slice(&header);
    match parsed {
        Ok(metadata) => Ok((metadata, data_start)),
        Err(source) => Err(ConvertError::Json { file: name.to_owned(), source }),
    }
}

/// Whether a name stays in its folder.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let first = components.next();
    matches!(first, Some(Component::Normal(part)) if part == name)
        && components.next().is_none()
        && !name.contains(['\\', ':', '\0'])
}

/// The one safetensors file of a folder: GPTQ checkpoints have names of their own.
fn only_safetensors(folder: &Path) -> Result<PathBuf, ConvertError> {
    let io = |source| ConvertError::Io { file: folder.display().to_string(), action: "list", source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            found.push(path);
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(ConvertError::MissingFile {
            folder: folder.display().to_string(),
            what: "model.safetensors (or model.safetensors.index.json, or exactly one file *.safetensors)",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_without_folders_are_plain() {
        for name in ["model-00001-of-00002.safetensors", "..x", "a b"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", ".", "..", "/a", "a/b", "../a", "a/", "./a", "a\\b", "C:a", "a\0"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
