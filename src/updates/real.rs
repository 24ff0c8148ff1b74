//! A folder of the file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Access, Disk, DiskFile, again};
use super::error::NotAFile;
use crate::files::sync_name;

/// The file that is locked.
const LOCK: &str = "lock";

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Uses a folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder, for its owner alone, if it is not there.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn make(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match again(|| builder.create(&self.path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => again(|| sync_name(&self.path)),
        }
    }

    fn options(access: Access) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Write);
        #[cfg(unix)]
        {
            use nix::fcntl::OFlag;
            // Neither through a link, nor waiting for who writes a pipe.
            let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits());
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        options
    }

    /// Says what has a name, if it is no regular file.
    fn other(&self, name: &str) -> io::Result<Option<NotAFile>> {
        let kind = match again(|| fs::symlink_metadata(self.path.join(name))) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(match () {
            () if kind.is_file() => None,
            () if kind.is_symlink() => Some(NotAFile("a symbolic link")),
            () if kind.is_dir() => Some(NotAFile("a folder")),
            () => Some(NotAFile("a pipe, a socket or a device")),
        })
    }

    fn check(&self, name: &str) -> io::Result<()> {
        self.other(name)?.map_or(Ok(()), |other| Err(io::Error::other(other)))
    }
}

impl Disk for Folder {
    type File = File;
    type Lock = File;

    fn open(&self, name: &str, access: Access) -> io::Result<Option<File>> {
        self.check(name)?;
        match Self::options(access).open(self.path.join(name)) {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
            Ok(_) => Err(io::Error::other(NotAFile("no regular file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.check(name)?;
        Self::options(Access::Write).create_new(true).open(self.path.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check(name)?;
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        sync_name(&self.path.join(LOCK))
    }

    #[cfg(unix)]
    fn free(&self) -> io::Result<Option<u64>> {
        let stat = nix::sys::statvfs::statvfs(&self.path)?;
        Ok(Some((stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64)))
    }

    #[cfg(not(unix))]
    fn free(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn lock(&self) -> io::Result<Option<File>> {
        self.check(LOCK)?;
        let file = Self::options(Access::Write).create(true).truncate(false).open(self.path.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskFile for File {
    #[cfg(unix)]
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, at)
    }

    #[cfg(unix)]
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, at)
    }

    #[cfg(not(unix))]
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = self;
        io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
        io::Read::read(&mut file, buffer)
    }

    #[cfg(not(unix))]
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self;
        io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
        io::Write::write(&mut file, bytes)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        use nix::errno::Errno;
        use nix::fcntl::{FallocateFlags, fallocate};
        let bytes = i64::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        match fallocate(self, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes.max(1)) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn reserve(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn forget(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
            // Advice that the system need not take.
            let _ = posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }
}
