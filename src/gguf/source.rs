//! The bytes of a file: a memory map, an owned buffer, bytes built into the program, or a stream.
//!
//! # Files that change while they are mapped
//!
//! A mapped file is taken as read-only for as long as it is open. If another program overwrites it in place,
//! answers may change; if it cuts the file short, the operating system ends this process when it touches a
//! page that is gone. Neither can be prevented from here. Programs that replace a model should write a new
//! file and rename it over the old one, as [`super::GgufWriter`] does: an open map then keeps the old file.
//! Code in this layer never trusts mapped text to stay as it was when it was checked: reading it again may
//! give other values, but never breaks the rules of safe code.
#![expect(unsafe_code, reason = "memory maps are outside the language's guarantees")]

use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use super::GgufError;
use super::stream::Streamed;

/// Grain of [`Source::release`] in bytes: a multiple of every page size in use (4, 16 and 64 KiB).
#[cfg(unix)]
const RELEASE_GRAIN: usize = 64 * 1024;

/// The bytes of a file.
pub(super) enum Source {
    /// A read-only map of a regular file.
    Mapped { map: Mmap, path: PathBuf, modified: Option<SystemTime> },
    /// Bytes on the heap.
    Owned(Vec<u8>),
    /// Bytes of the program itself.
    Static(&'static [u8]),
    /// Bytes that are read once.
    Streamed(Box<Streamed>),
}

impl Source {
    /// Maps a regular file that is not empty.
    pub(super) fn map(path: &Path) -> Result<Self, GgufError> {
        let name = || path.display().to_string();
        let io = |action| move |source| io_error(path, action, source);
        // Before the file is opened, because opening a pipe would wait for its writer.
        check_kind(path, &fs::metadata(path).map_err(io("open"))?)?;
        let file = File::open(path).map_err(io("open"))?;
        let metadata = file.metadata().map_err(io("read the size"))?;
        check_kind(path, &metadata)?;
        if metadata.len() == 0 {
            return Err(GgufError::Empty { file: name() });
        }
        // SAFETY: the map is read-only and shares no memory with this program. That the file is not changed
        // by others while it is mapped is the policy stated in the module's documentation.
        let map = unsafe { Mmap::map(&file) }.map_err(io("map into memory"))?;
        Ok(Self::Mapped { map, path: path.to_owned(), modified: metadata.modified().ok() })
    }

    /// The bytes up to the data of the tensors, or more.
    pub(super) fn header(&self) -> &[u8] {
        match self {
            Self::Streamed(streamed) => streamed.header(),
            _ => self.bytes().unwrap_or_default(),
        }
    }

    /// All bytes, unless they are read once.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Mapped { map, .. } => Some(map),
            Self::Owned(bytes) => Some(bytes),
            Self::Static(bytes) => Some(bytes),
            Self::Streamed(_) => None,
        }
    }

    /// Number of bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Streamed(streamed) => streamed.len(),
            _ => self.header().len() as u64,
        }
    }

    /// Reads the whole of a map into memory at once, which is faster than page by page.
    pub(super) fn prefetch(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Mapped { map, .. } = self {
            // Advice only: a system that does not know it reads pages as they are touched.
            drop(map.advise(memmap2::Advice::PopulateRead));
        }
    }

    /// Says that a map will be read from front to back: storage is then read far ahead.
    pub(super) fn advise_order(&self) {
        #[cfg(unix)]
        if let Self::Mapped { map, .. } = self {
            // Advice only.
            drop(map.advise(memmap2::Advice::Sequential));
        }
    }

    /// As [`Self::release`], the grain of the end included.
    pub(super) fn release_around(&self, range: Range<usize>) {
        #[cfg(unix)]
        self.release(range.start..range.end.saturating_add(RELEASE_GRAIN - 1));
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Lets the pages of `range` leave the resident set of a map. They are read from the file again if they
    /// are touched later. Both ends are rounded down to [`RELEASE_GRAIN`], except the end of the file, so
    /// that consecutive ranges release everything they passed. Does nothing for the other sources.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped { map, .. } = self {
            let round = |offset: usize| offset - offset % RELEASE_GRAIN;
            let end = if range.end >= map.len() { map.len() } else { round(range.end) };
            let start = round(range.start);
            if start < end {
                // SAFETY: the map is read-only and backed by a file, so a dropped page comes back with the
                // same bytes: references into the map stay valid. The range lies within the map.
                let advised = unsafe {
                    map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
                };
                // Advice only: a system that refuses it keeps the pages, which is correct too.
                drop(advised);
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// Refuses what cannot be mapped.
fn check_kind(path: &Path, metadata: &Metadata) -> Result<(), GgufError> {
    let file = || path.display().to_string();
    if metadata.is_dir() {
        return Err(GgufError::IsDirectory { file: file() });
    }
    if !metadata.is_file() {
        return Err(GgufError::NotRegular { file: file() });
    }
    Ok(())
}

/// An I/O error with its path.
pub(super) fn io_error(path: &Path, action: &'static str, source: io::Error) -> GgufError {
    let file = path.display().to_string();
    match source.kind() {
        io::ErrorKind::NotFound => GgufError::NotFound { file },
        _ => GgufError::Io { file, action, source },
    }
}
