//! Writes files. See [`GgufWriter`].

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::parse::Header;
use super::source::io_error;
use super::split;
use super::value::encode_text;
use super::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgufError, GgufFile, Kind, MAGIC, OwnedValue, TensorInfo, VERSION,
};
use crate::blocks::BlockType;
use crate::files::{Access, NewFile, check_own};

/// Bytes collected before a write to the disk.
const BUFFER_BYTES: usize = 1 << 20;

/// Collects metadata and tensor descriptions, then writes a GGUF file of version 3.
///
/// Tensor data is asked for one tensor at a time and never held, so that a file may be larger than memory.
/// Keys and tensors are written in the order they were added: the same calls give the same bytes.
///
/// ```
/// use smolt::blocks::BlockType;
/// use smolt::gguf::{GgufFile, GgufWriter};
///
/// let mut writer = GgufWriter::new();
/// writer.set("general.architecture", "llama");
/// writer.add_tensor("output_norm.weight", &[4], BlockType::F32);
/// let bytes = writer.to_vec("example", |_, out| out.write_all(&[0; 16]))?;
/// let file = GgufFile::from_vec("example", bytes)?;
/// assert_eq!(file.str("general.architecture")?, Some("llama"));
/// # Ok::<(), smolt::gguf::GgufError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    entries: Vec<NewEntry>,
    tensors: Vec<NewTensor>,
}

#[derive(Clone, Debug)]
struct NewEntry {
    key: String,
    kind: Kind,
    /// The value after its type number.
    encoded: Vec<u8>,
}

#[derive(Clone, Debug)]
struct NewTensor {
    name: String,
    shape: Vec<u64>,
    block_type: BlockType,
}

impl GgufWriter {
    /// A file without keys and tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key. A key set before keeps its place and gets the new value. What a file may hold is checked
    /// when it is written.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<OwnedValue>) -> &mut Self {
        let value = value.into();
        self.set_encoded(key.into(), value.kind(), value.encode())
    }

    fn set_encoded(&mut self, key: String, kind: Kind, encoded: Vec<u8>) -> &mut Self {
        let entry = NewEntry { key, kind, encoded };
        match self.entries.iter_mut().find(|old| old.key == entry.key) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        self
    }

    /// Sets the keys of another file for which `keep` holds, unchanged and in its order.
    pub fn copy_metadata(&mut self, from: &GgufFile, mut keep: impl FnMut(&str) -> bool) -> &mut Self {
        for (key, kind, encoded) in from.encoded_metadata() {
            // How the other file is split is no part of the model.
            if !key.starts_with(split::PREFIX) && keep(key) {
                self.set_encoded(key.to_owned(), kind, encoded.to_vec());
            }
        }
        self
    }

    /// Adds a tensor. `shape` lists the extent of each axis, innermost (columns) first.
    pub fn add_tensor(&mut self, name: impl Into<String>, shape: &[u64], block_type: BlockType) -> &mut Self {
        self.tensors.push(NewTensor { name: name.into(), shape: shape.to_vec(), block_type });
        self
    }

    /// Writes the file and returns its size in bytes. `write_tensor` is called once per tensor in the order
    /// they were added, and writes exactly `tensor.bytes` bytes.
    ///
    /// The file appears under its name only when it is complete: it is written under a temporary name in the
    /// same directory, synced and renamed. On an error nothing is left behind. It replaces only GGUF files.
    ///
    /// # Errors
    /// If the content is not valid GGUF, the disk refuses, or `write_tensor` fails or writes another number
    /// of bytes.
    pub fn write_to(
        &self,
        path: &Path,
        write_tensor: impl FnMut(&TensorInfo, &mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, GgufError> {
        let name = path.display().to_string();
        let plan = self.plan(&name)?;
        Self::check_target(path)?;
        let new = NewFile::create(path, Access::Usual)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, new.file());
        plan.write(&name, &mut out, write_tensor)?;
        out.flush().map_err(|source| io_error(path, "write", source))?;
        drop(out);
        new.finish()?;
        Ok(plan.file_bytes)
    }

    /// Refuses to replace what is no GGUF file: it was not written by this program or one like it.
    ///
    /// # Errors
    /// [`crate::files::WriteError::Foreign`].
    pub fn check_target(path: &Path) -> Result<(), GgufError> {
        Ok(check_own(path, MAGIC.len(), |first| first.starts_with(&MAGIC))?)
    }

    /// Like [`Self::write_to`], into memory. `name` is for messages.
    ///
    /// # Errors
    /// As for [`Self::write_to`].
    pub fn to_vec(
        &self,
        name: &str,
        write_tensor: impl FnMut(&TensorInfo, &mut dyn Write) -> io::Result<()>,
    ) -> Result<Vec<u8>, GgufError> {
        let mut out = Vec::new();
        self.plan(name)?.write(name, &mut out, write_tensor)?;
        Ok(out)
    }

    /// Size of the file in bytes. `name` is for messages.
    ///
    /// # Errors
    /// If the content is not valid GGUF.
    pub fn file_bytes(&self, name: &str) -> Result<u64, GgufError> {
        Ok(self.plan(name)?.file_bytes)
    }

    /// Whether `file` is what [`Self::write_to`] writes, up to the data of the tensors.
    ///
    /// # Errors
    /// As for [`Self::file_bytes`].
    pub fn describes(&self, file: &GgufFile) -> Result<bool, GgufError> {
        let plan = self.plan(file.name())?;
        Ok(file.file_bytes() == plan.file_bytes && file.header_bytes().starts_with(&plan.header))
    }

    /// Places the tensors and makes the header, and checks both as a reader would.
    fn plan(&self, file: &str) -> Result<Plan, GgufError> {
        let alignment = self.alignment();
        let mut tensors = Vec::with_capacity(self.tensors.len());
        let mut data_bytes = 0u64;
        for NewTensor { name, shape, block_type } in &self.tensors {
            let info = TensorInfo::checked(file, name, shape.clone(), *block_type, data_bytes)?;
            let end = data_bytes.checked_add(info.bytes).and_then(|n| n.checked_next_multiple_of(alignment));
            let too_large = || GgufError::TooManyElements {
                file: file.to_owned(),
                tensor: name.clone(),
                shape: shape.clone(),
            };
            data_bytes = end.ok_or_else(too_large)?;
            tensors.push(info);
        }
        let mut header = self.header(&tensors);
        let data_start = (header.len() as u64).next_multiple_of(alignment);
        let file_bytes = data_start.saturating_add(data_bytes);
        Header::parse(file, &header, file_bytes)?;
        header.resize(header.len().next_multiple_of(alignment as usize), 0);
        Ok(Plan { header, tensors, alignment, file_bytes })
    }

    /// The alignment the keys ask for. A value that is not one is refused with the rest of the header.
    fn alignment(&self) -> u64 {
        let entry = self.entries.iter().find(|entry| entry.key == ALIGNMENT_KEY);
        let value = entry.and_then(|entry| super::Value::number(entry.kind, &entry.encoded));
        let set = value.and_then(|value| value.as_u32()).filter(|n| n.is_power_of_two());
        u64::from(set.unwrap_or(DEFAULT_ALIGNMENT))
    }

    fn header(&self, tensors: &[TensorInfo]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            out.extend(encode_text(&entry.key));
            out.extend(entry.kind.id().to_le_bytes());
            out.extend_from_slice(&entry.encoded);
        }
        for info in tensors {
            out.extend(encode_text(&info.name));
            out.extend((info.shape.len() as u32).to_le_bytes());
            out.extend(info.shape.iter().flat_map(|axis| axis.to_le_bytes()));
            out.extend(info.block_type.id().to_le_bytes());
            out.extend(info.offset.to_le_bytes());
        }
        out
    }
}

/// A file ready to be written.
struct Plan {
    /// Padded to the alignment.
    header: Vec<u8>,
    tensors: Vec<TensorInfo>,
    alignment: u64,
    file_bytes: u64,
}

impl Plan {
    fn write(
        &self,
        file: &str,
        out: &mut dyn Write,
        mut write_tensor: impl FnMut(&TensorInfo, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), GgufError> {
        let io = |source| GgufError::Io { file: file.to_owned(), action: "write", source };
        out.write_all(&self.header).map_err(io)?;
        for info in &self.tensors {
            let mut counted = Counted { out: &mut *out, expected: info.bytes, written: 0 };
            let result = write_tensor(info, &mut counted);
            let (file, tensor) = (file.to_owned(), info.name.clone());
            let (expected, found) = (info.bytes, counted.written);
            if found > expected {
                return Err(GgufError::TensorBytes { file, tensor, expected, found });
            }
            if let Err(source) = result {
                return Err(GgufError::WriteTensor { file, tensor, source });
            }
            if found != expected {
                return Err(GgufError::TensorBytes { file, tensor, expected, found });
            }
            let padding = expected.next_multiple_of(self.alignment) - expected;
            io::copy(&mut io::Read::take(io::repeat(0), padding), out).map_err(io)?;
        }
        Ok(())
    }
}

/// Counts the bytes of one tensor and refuses those beyond its end.
struct Counted<'a> {
    out: &'a mut dyn Write,
    expected: u64,
    /// Accepted bytes, or more than `expected` after a refusal.
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let total = self.written.saturating_add(bytes.len() as u64);
        if total > self.expected {
            self.written = total;
            return Err(io::Error::other("more data than the tensor holds"));
        }
        let accepted = self.out.write(bytes)?;
        self.written += accepted as u64;
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
