//! Fixed-size zeroed arrays in anonymous pages.

use super::secret::{self, Secrecy};
use bytemuck::Pod;
use memmap2::MmapMut;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Bytes of the smallest page of any system.
pub(crate) const PAGE: usize = 4096;
/// Buffers from this size on ask for huge pages.
const HUGE: usize = 8 << 20;

/// Memory could not be had from the system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum AllocError {
    #[error("cannot allocate {bytes} bytes for {purpose}: {source}")]
    None { bytes: usize, purpose: &'static str, source: std::io::Error },
    #[error(
        "cannot lock {bytes} bytes for {purpose} in memory: {source}; this computer has swap, which would take what was sealed to a disk: raise the limit of locked memory (RLIMIT_MEMLOCK; LimitMEMLOCK=infinity of a service), or turn swap off"
    )]
    Unlocked { bytes: usize, purpose: &'static str, source: std::io::Error },
}

/// Bytes that a [`Buffer`] of `bytes` occupies: whole pages.
pub(crate) const fn page_rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE)
}

#[cfg(test)]
thread_local! {
    static ALLOCATED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Bytes of all buffers that this thread has ever allocated.
#[cfg(test)]
pub(crate) fn allocated_bytes() -> u64 {
    ALLOCATED.get()
}

/// A zeroed array of `T`, page aligned. Untouched pages take no physical memory.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    pages: Option<MmapMut>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// Allocates `len` zeroed elements; `purpose` names them in the error.
    pub(crate) fn zeroed(len: usize, purpose: &'static str) -> Result<Self, AllocError> {
        Self::map(len, purpose, true)
    }

    /// Allocates like [`Self::zeroed`] what may be secret.
    pub(crate) fn guarded(len: usize, purpose: &'static str, secrecy: Secrecy) -> Result<Self, AllocError> {
        let buffer = Self::map(len, purpose, true)?;
        if let (Secrecy::Secret, Some(pages)) = (secrecy, &buffer.pages) {
            let bytes = pages.len();
            secret::guard(pages).map_err(|source| AllocError::Unlocked { bytes, purpose, source })?;
        }
        Ok(buffer)
    }

    /// Allocates like [`Self::zeroed`] what may stay empty for the most part: in small pages, of which only those take
    /// memory that are written to.
    pub(crate) fn sparse(len: usize, purpose: &'static str) -> Result<Self, AllocError> {
        Self::map(len, purpose, false)
    }

    fn map(len: usize, purpose: &'static str, has_huge_pages: bool) -> Result<Self, AllocError> {
        let fail = |bytes, source| AllocError::None { bytes, purpose, source };
        let bytes = len
            .checked_mul(size_of::<T>())
            .ok_or_else(|| fail(usize::MAX, std::io::ErrorKind::OutOfMemory.into()))?;
        #[cfg(test)]
        ALLOCATED.set(ALLOCATED.get() + page_rounded(bytes) as u64);
        let pages = match bytes {
            0 => None,
            _ => Some(map(bytes, has_huge_pages).map_err(|source| fail(bytes, source))?),
        };
        Ok(Self { pages, len, element: PhantomData })
    }
}

fn map(bytes: usize, has_huge_pages: bool) -> std::io::Result<MmapMut> {
    let pages = MmapMut::map_anon(bytes)?;
    // Fewer page walks on weights; not every system has huge pages, and nothing depends on them.
    #[cfg(target_os = "linux")]
    if bytes >= HUGE {
        use memmap2::Advice::{HugePage, NoHugePage};
        let _ = pages.advise(if has_huge_pages { HugePage } else { NoHugePage });
    }
    #[cfg(not(target_os = "linux"))]
    let _ = has_huge_pages;
    Ok(pages)
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.pages.as_ref().map_or(&[], |pages| &bytemuck::cast_slice(&pages[..])[..self.len])
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let len = self.len;
        self.pages.as_mut().map_or(&mut [], |pages| &mut bytemuck::cast_slice_mut(&mut pages[..])[..len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_writable() {
        let mut buffer = Buffer::<f32>::zeroed(1000, "test").unwrap();
        assert_eq!(buffer.len(), 1000);
        assert!(buffer.iter().all(|&v| v == 0.0));
        assert_eq!(buffer.as_ptr() as usize % 64, 0);
        buffer[999] = 1.5;
        assert_eq!(buffer[999], 1.5);
    }

    #[test]
    fn empty_and_impossible_sizes() {
        assert!(Buffer::<u16>::zeroed(0, "test").unwrap().is_empty());
        let error = Buffer::<u64>::zeroed(usize::MAX, "the KV cache").unwrap_err();
        assert!(error.to_string().contains("the KV cache"));
        assert!(Buffer::<u8>::zeroed(1 << 60, "test").is_err());
    }
}
