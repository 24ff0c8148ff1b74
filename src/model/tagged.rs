//! Packs of models that were verified.
//!
//! Such a pack stands in for the data of the model's tensors, which then is not read: it must be as sure as if it had been.
//! It carries a tag, keyed BLAKE3 under a key that only this computer has, over the digest that was signed, the model's
//! header, the packing, and all that the pack holds. It is read into private memory while its tag is computed, never
//! mapped, and what has another tag is not used. A pack without a tag never serves a verified model: it has another name.
//!
//! What is sealed on disk has no pack, which would hold its weights in the open.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::ModelError;
use super::layout::Layout;
use super::packed::{ARCHITECTURE, FIRST_BYTES, Misfit, PackStatus, VERSION, begins_as_pack, is_pack};
use crate::blocks::BlockType;
use crate::files::check_own;
use crate::gguf::{ALIGNMENT_KEY, GgufError, GgufFile, GgufWriter, OwnedValue};
use crate::kernels::{Kernels, Packing};
use crate::runtime::{Buffer, Secrecy};

/// What a tag is over, before all else.
const CONTEXT: &[u8] = b"smolt pack of a verified model, 1\n";
const FINGERPRINT_KEY: &str = "smolt.pack.model_fingerprint";
const TAG_KEY: &str = "smolt.pack.tag";
/// Everything is stored in one tensor, as if it were floats.
const TENSOR: &str = "verified";

/// What the pack of a verified model is bound to.
#[derive(Clone)]
pub struct Verified {
    model: PathBuf,
    digest: Vec<u8>,
    key: [u8; 32],
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Drop for Verified {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

/// The weights that a pack holds, ready for use.
pub(super) struct Contents {
    pub(super) packed: Buffer<u8>,
    pub(super) vectors: Buffer<f32>,
}

impl Verified {
    /// The model at `model` has this digest, which a signature names; packs are tagged under `key`.
    pub fn new(model: &Path, digest: &[u8], key: [u8; 32]) -> Self {
        Self { model: model.to_owned(), digest: digest.to_owned(), key }
    }

    /// Where the pack lies.
    pub fn pack_path(&self, kernels: &Kernels) -> PathBuf {
        let mut name = self.model.as_os_str().to_owned();
        name.push(format!(".{}.verified.pack", kernels.name));
        PathBuf::from(name)
    }

    /// Reads and checks the pack, if there is one.
    pub(super) fn open(
        &self,
        file: &GgufFile,
        layout: &Layout,
        kernels: &Kernels,
    ) -> Result<(Option<Contents>, PackStatus), ModelError> {
        let path = self.pack_path(kernels);
        // A link that leads nowhere is something too.
        if file.secrecy() == Secrecy::Secret || path.symlink_metadata().is_err() {
            return Ok((None, PackStatus::Absent));
        }
        let mut contents = Contents {
            packed: Buffer::zeroed(layout.packed_bytes, "the weights")?,
            vectors: Buffer::zeroed(layout.vector_len, "norms and biases")?,
        };
        match self.read(&path, file, kernels, &mut contents) {
            Ok(fingerprint) => {
                file.set_unread(fingerprint);
                Ok((Some(contents), PackStatus::Used(path)))
            }
            Err(misfit) => Ok((None, PackStatus::Unfit(path, misfit))),
        }
    }

    /// Fills `contents`; the fingerprint of the model.
    fn read(
        &self,
        path: &Path,
        file: &GgufFile,
        kernels: &Kernels,
        contents: &mut Contents,
    ) -> Result<u64, Misfit> {
        if path.is_symlink() || !is_pack(path) {
            return Err(Misfit::Foreign);
        }
        let opened = File::open(path).map_err(|_| Misfit::Other)?;
        let bytes = opened.metadata().ok().filter(std::fs::Metadata::is_file).ok_or(Misfit::Foreign)?.len();
        let name = path.display().to_string();
        let pack = GgufFile::from_reader(&name, Box::new(opened), bytes, Secrecy::Plain);
        let pack = pack.map_err(|_| Misfit::Other)?;
        let fingerprint = pack.get(FINGERPRINT_KEY).and_then(|value| value.as_integer());
        let fingerprint = fingerprint.and_then(|number| u64::try_from(number).ok()).ok_or(Misfit::Other)?;
        let tag = tag_of(&pack).ok_or(Misfit::Other)?;
        let sizes = [contents.packed.len(), contents.vectors.len()];
        let head = head(file, kernels.packing, sizes, fingerprint, tag);
        if !head.describes(&pack).is_ok_and(|same| same) {
            return Err(Misfit::Other);
        }
        let mut hasher = self.hasher(file, kernels.packing, sizes, fingerprint);
        let vectors: &mut [u8] = bytemuck::cast_slice_mut(&mut contents.vectors);
        let packed: &mut [u8] = &mut contents.packed;
        let border = packed.len();
        let mut take = |_: &_, start: usize, bytes: &[u8]| {
            hasher.update(bytes);
            let (first, second) = bytes.split_at(border.saturating_sub(start).min(bytes.len()));
            packed[border.min(start)..][..first.len()].copy_from_slice(first);
            vectors[(start + first.len()).saturating_sub(border)..][..second.len()].copy_from_slice(second);
            Ok::<_, GgufError>(())
        };
        pack.read_tensors(&|_| true, &mut take).map_err(|_| Misfit::Damaged)?;
        // The comparison takes as long for every tag.
        if hasher.finalize() == blake3::Hash::from_bytes(tag) {
            Ok(fingerprint)
        } else {
            Err(Misfit::Damaged)
        }
    }

    /// Writes the pack of the model that was loaded from `file`; path and size.
    pub(super) fn write(
        &self,
        file: &GgufFile,
        kernels: &Kernels,
        packed: &[u8],
        vectors: &[f32],
    ) -> Result<(PathBuf, u64), ModelError> {
        let path = self.pack_path(kernels);
        if file.secrecy() == Secrecy::Secret {
            return Err(ModelError::SealedPack { file: file.name().to_owned() });
        }
        let foreign = |_| ModelError::ForeignPack { file: path.display().to_string() };
        check_own(&path, FIRST_BYTES, begins_as_pack).map_err(foreign)?;
        let fingerprint = file.fingerprint().map_err(ModelError::WritePack)?;
        let sizes = [packed.len(), vectors.len()];
        let vectors: &[u8] = bytemuck::cast_slice(vectors);
        let mut hasher = self.hasher(file, kernels.packing, sizes, fingerprint);
        hasher.update(packed).update(vectors);
        let writer = head(file, kernels.packing, sizes, fingerprint, *hasher.finalize().as_bytes());
        let written = writer.write_to(&path, |_, out| {
            out.write_all(packed)?;
            out.write_all(vectors)
        });
        Ok((path, written.map_err(ModelError::WritePack)?))
    }

    /// Over what the pack is bound to; its content follows.
    fn hasher(
        &self,
        file: &GgufFile,
        packing: Packing,
        [packed, vectors]: [usize; 2],
        fingerprint: u64,
    ) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(CONTEXT);
        for number in [
            VERSION,
            packing.lanes as u64,
            u64::from(packing.offset_bytes),
            file.file_bytes(),
            fingerprint,
            packed as u64,
            vectors as u64,
            self.digest.len() as u64,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&self.digest);
        hasher.update(blake3::hash(file.header_bytes()).as_bytes());
        hasher
    }
}

/// The head of a pack, which says what it is for.
fn head(
    file: &GgufFile,
    packing: Packing,
    [packed, vectors]: [usize; 2],
    fingerprint: u64,
    tag: [u8; 32],
) -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", ARCHITECTURE).set(ALIGNMENT_KEY, 64u32);
    for (key, value) in [
        ("smolt.pack.version", VERSION),
        ("smolt.pack.lanes", packing.lanes as u64),
        ("smolt.pack.offset_bytes", u64::from(packing.offset_bytes)),
        ("smolt.pack.model_bytes", file.file_bytes()),
        (FINGERPRINT_KEY, fingerprint),
    ] {
        writer.set(key, value);
    }
    writer.set(TAG_KEY, OwnedValue::U8Array(tag.to_vec()));
    // Rows short enough to be handed on in pieces; packed matrices are multiples of 64 bytes.
    writer.add_tensor(TENSOR, &[1, (packed / 4 + vectors) as u64], BlockType::F32);
    writer
}

fn tag_of(pack: &GgufFile) -> Option<[u8; 32]> {
    let tag = pack.get(TAG_KEY)?.as_array()?;
    let bytes: Vec<u8> = tag.iter_i64().take(33).filter_map(|byte| u8::try_from(byte).ok()).collect();
    bytes.try_into().ok()
}
