//! Weights packed ahead of time.
//!
//! Packing takes time and fresh memory at every start. A pack holds the packed bytes of one model for one
//! instruction set in a file beside the model, `MODEL.ISA.pack`, which is mapped instead. Its pages are the
//! system's file cache: shared by processes, and free to go when memory is short.
//!
//! A pack is a GGUF file with one tensor, so that it is written and checked like any other. It names the
//! layout and the model it was made of by size, modification time and [`GgufFile::fingerprint`]; one that
//! does not fit is never used. Running without a pack gives the same bits.

use super::error::ModelError;
use super::layout::Layout;
use crate::blocks::BlockType;
use crate::gguf::{ALIGNMENT_KEY, GgufFile, GgufWriter};
use crate::kernels::{Kernels, Packing};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Changes with every change of the packed layout.
const VERSION: u64 = 1;
/// Packed bytes are stored under this name as if they were floats; GGUF has no type for bytes.
const TENSOR: &str = "packed";
/// Pages of every size in use begin at multiples of this.
const ALIGNMENT: u32 = 65536;

/// Whether weights came from a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackStatus {
    /// There is none.
    Absent,
    /// There is one, of another version of the model or of this program, or damaged; it was not used.
    Unfit(PathBuf),
    /// It was used.
    Used(PathBuf),
}

/// Where the pack of a model lies.
pub fn pack_path(model: &Path, kernels: &Kernels) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(format!(".{}.pack", kernels.name));
    PathBuf::from(name)
}

/// The head of a pack, which says what it is for.
fn head(file: &GgufFile, packing: Packing, packed_bytes: usize) -> GgufWriter {
    let modified = file.modified().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "smolt-pack").set(ALIGNMENT_KEY, ALIGNMENT);
    for (key, value) in [
        ("smolt.pack.version", VERSION),
        ("smolt.pack.lanes", packing.lanes as u64),
        ("smolt.pack.offset_bytes", u64::from(packing.offset_bytes)),
        ("smolt.pack.model_bytes", file.file_bytes()),
        ("smolt.pack.model_modified_ns", modified.map_or(0, |time| time.as_nanos() as u64)),
        ("smolt.pack.model_fingerprint", file.fingerprint()),
    ] {
        writer.set(key, value);
    }
    // Packed matrices are multiples of 64 bytes.
    writer.add_tensor(TENSOR, &[packed_bytes as u64 / 4], BlockType::F32);
    writer
}

/// The packed bytes of a model, in a mapped file.
#[derive(Debug)]
pub(super) struct Pack(GgufFile);

impl Pack {
    /// Opens the pack of `file` if there is one that fits.
    pub(super) fn open(file: &GgufFile, layout: &Layout, kernels: &Kernels) -> (Option<Self>, PackStatus) {
        let Some(path) = file.path().map(|model| pack_path(model, kernels)) else {
            return (None, PackStatus::Absent);
        };
        if !path.exists() {
            return (None, PackStatus::Absent);
        }
        let head = head(file, kernels.packing, layout.packed_bytes);
        // Of the fingerprint's samples nothing need stay.
        file.release_all();
        let fits = |pack: &GgufFile| head.describes(pack).is_ok_and(|same| same);
        match GgufFile::open(&path).ok().filter(fits) {
            Some(pack) => (Some(Self(pack)), PackStatus::Used(path)),
            None => (None, PackStatus::Unfit(path)),
        }
    }

    /// Reads all of it into memory.
    pub(super) fn prefetch(&self) {
        self.0.prefetch();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.tensor(TENSOR).map_or(&[], |tensor| self.0.data(tensor))
    }
}

/// Writes the pack of the model in `file` beside it; path and size. An older one is replaced.
///
/// # Errors
/// If the model is not a file of its own or cannot be loaded, or the disk refuses.
pub fn write_pack(file: &GgufFile, kernels: &'static Kernels) -> Result<(PathBuf, u64), ModelError> {
    let model = file.path().ok_or_else(|| ModelError::NoFile { file: file.name().to_owned() })?;
    let (layout, packed) = super::weights::pack(file, kernels)?;
    let writer = head(file, kernels.packing, layout.packed_bytes);
    let path = pack_path(model, kernels);
    let bytes = writer.write_to(&path, |_, out| out.write_all(&packed)).map_err(ModelError::WritePack)?;
    Ok((path, bytes))
}
