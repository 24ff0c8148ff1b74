//! Weights packed ahead of time.
//!
//! Packing takes time and fresh memory at every start. A pack holds the packed bytes of one model for one
//! instruction set in a file beside the model, `MODEL.ISA.pack`, which is mapped instead. Its pages are the
//! system's file cache: shared by processes, and free to go when memory is short.
//!
//! A pack is a GGUF file with one tensor, so that it is written and checked like any other. It names the
//! layout, the model it was made of by size, modification time and [`GgufFile::fingerprint`], and a checksum of
//! its content; one that does not fit is never used. Running without a pack gives the same bits.
//!
//! What lies at the place of a pack and does not begin as one is somebody else's: it is not replaced.

use super::error::ModelError;
use super::layout::Layout;
use crate::blocks::BlockType;
use crate::files::{check_own, checksum, first_bytes};
use crate::gguf::{ALIGNMENT_KEY, GgufError, GgufFile, GgufWriter, MAGIC};
use crate::kernels::{Kernels, Packing};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Changes with every change of the packed layout.
pub(super) const VERSION: u64 = 2;
/// The architecture that a pack names first.
pub(super) const ARCHITECTURE: &str = "smolt-pack";
const CHECKSUM_KEY: &str = "smolt.pack.checksum";
/// Bytes within which a pack says what it is.
pub(super) const FIRST_BYTES: usize = 96;
/// Packed bytes are stored under this name as if they were floats; GGUF has no type for bytes.
const TENSOR: &str = "packed";
/// Pages of every size in use begin at multiples of this.
const ALIGNMENT: u32 = 65536;

/// Whether weights came from a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackStatus {
    /// There is none.
    Absent,
    /// There is something that was not used.
    Unfit(PathBuf, Misfit),
    /// It was used.
    Used(PathBuf),
}

/// Why a pack was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It does not begin as packs do.
    Foreign,
    /// It is of another model or another version of it, or of another version of this program, or its head is damaged.
    Other,
    /// Its content is not what was written.
    Damaged,
}

/// Where the pack of a model lies.
pub fn pack_path(model: &Path, kernels: &Kernels) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(format!(".{}.pack", kernels.name));
    PathBuf::from(name)
}

/// The head of a pack, which says what it is for. `checksum` is of its content.
fn head(
    file: &GgufFile,
    packing: Packing,
    packed_bytes: usize,
    checksum: u64,
) -> Result<GgufWriter, GgufError> {
    let modified = file.modified().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", ARCHITECTURE).set(ALIGNMENT_KEY, ALIGNMENT);
    for (key, value) in [
        ("smolt.pack.version", VERSION),
        ("smolt.pack.lanes", packing.lanes as u64),
        ("smolt.pack.offset_bytes", u64::from(packing.offset_bytes)),
        ("smolt.pack.model_bytes", file.file_bytes()),
        ("smolt.pack.model_modified_ns", modified.map_or(0, |time| time.as_nanos() as u64)),
        ("smolt.pack.model_fingerprint", file.fingerprint()?),
        (CHECKSUM_KEY, checksum),
    ] {
        writer.set(key, value);
    }
    // Packed matrices are multiples of 64 bytes.
    writer.add_tensor(TENSOR, &[packed_bytes as u64 / 4], BlockType::F32);
    Ok(writer)
}

/// The packed bytes of a model, in a mapped file.
#[derive(Debug)]
pub(super) struct Pack(GgufFile);

impl Pack {
    /// Opens the pack of `file` if there is one that fits, reads all of it into memory and checks it.
    pub(super) fn open(file: &GgufFile, layout: &Layout, kernels: &Kernels) -> (Option<Self>, PackStatus) {
        let Some(path) = file.path().map(|model| pack_path(model, kernels)) else {
            return (None, PackStatus::Absent);
        };
        // A link that leads nowhere is something too.
        if path.symlink_metadata().is_err() {
            return (None, PackStatus::Absent);
        }
        match Self::check(&path, file, layout, kernels) {
            Ok(pack) => (Some(pack), PackStatus::Used(path)),
            Err(misfit) => (None, PackStatus::Unfit(path, misfit)),
        }
    }

    fn check(path: &Path, file: &GgufFile, layout: &Layout, kernels: &Kernels) -> Result<Self, Misfit> {
        if !is_pack(path) {
            return Err(Misfit::Foreign);
        }
        let pack = GgufFile::open(path).map_err(|_| Misfit::Other)?;
        let sum = pack.get(CHECKSUM_KEY).and_then(|value| value.as_integer());
        let sum = sum.and_then(|sum| u64::try_from(sum).ok()).ok_or(Misfit::Other)?;
        let head = head(file, kernels.packing, layout.packed_bytes, sum);
        // Of the fingerprint's samples nothing need stay.
        file.release_all();
        if !head.and_then(|head| head.describes(&pack)).is_ok_and(|same| same) {
            return Err(Misfit::Other);
        }
        pack.prefetch();
        let pack = Self(pack);
        if checksum(pack.bytes()) == sum { Ok(pack) } else { Err(Misfit::Damaged) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.tensor(TENSOR).and_then(|tensor| self.0.data(tensor).ok()).unwrap_or_default()
    }
}

/// Whether what lies at a path begins as packs do. What is empty holds nothing that could be lost.
pub(super) fn is_pack(path: &Path) -> bool {
    first_bytes(path, FIRST_BYTES).is_ok_and(|first| first.is_empty() || begins_as_pack(&first))
}

pub(super) fn begins_as_pack(first: &[u8]) -> bool {
    let name = ARCHITECTURE.as_bytes();
    first.starts_with(&MAGIC) && first.windows(name.len()).any(|window| window == name)
}

/// Writes packed bytes as the pack of the model in `file`.
pub(super) fn write(file: &GgufFile, kernels: &Kernels, packed: &[u8]) -> Result<(PathBuf, u64), ModelError> {
    let path = place(file, kernels)?;
    let writer =
        head(file, kernels.packing, packed.len(), checksum(packed)).map_err(ModelError::WritePack)?;
    let bytes = writer.write_to(&path, |_, out| out.write_all(packed)).map_err(ModelError::WritePack)?;
    Ok((path, bytes))
}

/// Where a pack may be written.
///
/// # Errors
/// If the model is not a file of its own, or something else has the name of the pack.
pub(super) fn place(file: &GgufFile, kernels: &Kernels) -> Result<PathBuf, ModelError> {
    let model = file.path().ok_or_else(|| ModelError::NoFile { file: file.name().to_owned() })?;
    let path = pack_path(model, kernels);
    let foreign = |_| ModelError::ForeignPack { file: path.display().to_string() };
    check_own(&path, FIRST_BYTES, begins_as_pack).map_err(foreign)?;
    Ok(path)
}
