//! What the store asks of a file system.

use std::io::{self, Read};

/// Files of one folder, by their fixed names.
///
/// A call may fail, or do a part of what was asked, as those of the system may. What is written is durable when
/// [`DiskFile::sync`] has ended well, and a name when [`Disk::sync_folder`] has.
pub trait Disk {
    /// An open file. What is open stays what it is when the name goes to another file.
    type File: DiskFile;
    /// What holds the lock, until it is dropped.
    type Lock;

    /// Opens a regular file; nothing if there is none.
    ///
    /// # Errors
    /// If anything else has this name, as [`NotAFile`](super::NotAFile), or the system refuses.
    fn open(&self, name: &str, access: Access) -> io::Result<Option<Self::File>>;

    /// Creates an empty file, which only its owner may read.
    ///
    /// # Errors
    /// If there is one, or the system refuses.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// If it is no regular file, or the system refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    ///
    /// # Errors
    /// If the system refuses.
    fn sync_folder(&self) -> io::Result<()>;

    /// Bytes that can be had, if the system tells.
    ///
    /// # Errors
    /// If the system refuses.
    fn free(&self) -> io::Result<Option<u64>>;

    /// Takes the lock; nothing if another process has it.
    ///
    /// # Errors
    /// If the system refuses.
    fn lock(&self) -> io::Result<Option<Self::Lock>>;
}

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written.
    Write,
}

/// An open file of a [`Disk`].
pub trait DiskFile: Sized {
    /// Reads some bytes from a place on; 0 at the end.
    ///
    /// # Errors
    /// If the system refuses.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes some bytes at a place.
    ///
    /// # Errors
    /// If the system refuses.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// If the system refuses.
    fn length(&self) -> io::Result<u64>;

    /// Reserves space for so many bytes in all; the length stays as it is.
    ///
    /// # Errors
    /// If there is no space. A file system that cannot reserve any does not fail.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// If the system refuses.
    fn sync(&self) -> io::Result<()>;

    /// Lets the system forget what it keeps of the file in memory, so that it is read from the disk again.
    fn forget(&self);
}

/// Does a call again while it is interrupted.
pub(super) fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Writes all bytes at a place.
pub(super) fn write_all(file: &impl DiskFile, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = again(|| file.write_at(at, bytes))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written as u64;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Reads an open file from a place on to its end.
#[derive(Debug)]
pub struct Reader<'a, F> {
    file: &'a F,
    at: u64,
}

impl<'a, F: DiskFile> Reader<'a, F> {
    /// Begins at the beginning.
    pub fn new(file: &'a F) -> Self {
        Self::at(file, 0)
    }

    /// Begins at a place.
    pub fn at(file: &'a F, at: u64) -> Self {
        Self { file, at }
    }
}

impl<F: DiskFile> Read for Reader<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = again(|| self.file.read_at(self.at, buffer))?;
        self.at += read as u64;
        Ok(read)
    }
}
