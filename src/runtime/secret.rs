//! Memory that no disk may see: what was sealed on disk is kept out of swap and out of core dumps.
//!
//! Pages are locked. Where the system does not allow it and has swap on a disk, the memory is refused; where nothing
//! could take it to a disk it is had without a lock, and [`has_unlocked_secrets`] says so.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "locking pages is a call to the system"))]

use memmap2::MmapMut;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static UNLOCKED: AtomicBool = AtomicBool::new(false);

/// Whether memory may reach a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secrecy {
    /// It may.
    #[default]
    Plain,
    /// It may not.
    Secret,
}

/// Tells whether this process has memory with [`Secrecy::Secret`] that could not be locked, on a system that has no swap
/// on a disk.
pub fn has_unlocked_secrets() -> bool {
    UNLOCKED.load(Ordering::Relaxed)
}

/// Keeps pages from disks.
///
/// # Errors
/// That of locking, where there is swap that could take the pages.
pub(super) fn guard(pages: &MmapMut) -> io::Result<()> {
    static PROCESS: Once = Once::new();
    PROCESS.call_once(guard_process);
    // Advice only: a process that may not be dumped is not, with or without it.
    #[cfg(target_os = "linux")]
    drop(pages.advise(memmap2::Advice::DontDump));
    if is_locked(lock(pages), has_disk_swap)? {
        return Ok(());
    }
    UNLOCKED.store(true, Ordering::Relaxed);
    Ok(())
}

#[cfg(target_os = "linux")]
fn lock(pages: &MmapMut) -> io::Result<()> {
    use nix::libc;
    // Each page once it is written to, as without a lock: so that whoever fills them need not wait for all.
    // SAFETY: the range is that of a map of this process; locking its pages changes nothing of them.
    let locked = unsafe { libc::mlock2(pages.as_ptr().cast(), pages.len(), libc::MLOCK_ONFAULT) };
    // Kernels before 4.4 do not know it.
    if locked == 0 { Ok(()) } else { pages.lock() }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn lock(pages: &MmapMut) -> io::Result<()> {
    pages.lock()
}

#[cfg(not(unix))]
fn lock(_pages: &MmapMut) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether pages were locked; an error if they were not and need be.
fn is_locked(locked: io::Result<()>, has_disk_swap: impl FnOnce() -> bool) -> io::Result<bool> {
    match locked {
        Ok(()) => Ok(true),
        Err(error) if has_disk_swap() => Err(error),
        Err(_) => Ok(false),
    }
}

/// Lets no core of this process be written and no other process look into it, and locks as much as may be.
fn guard_process() {
    // Each is one more wall around what is locked; where a system has none of them nothing else changes.
    #[cfg(unix)]
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_MEMLOCK) {
            let _ = setrlimit(Resource::RLIMIT_MEMLOCK, most, most);
        }
        let _ = nix::sys::prctl::set_dumpable(false);
    }
}

/// Whether pages could be written to a disk.
fn has_disk_swap() -> bool {
    #[cfg(target_os = "linux")]
    match std::fs::read_to_string("/proc/swaps") {
        Ok(swaps) => lists_disk(&swaps),
        // A kernel without swap has no such file.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
    #[cfg(not(target_os = "linux"))]
    true
}

/// Whether a list in the form of `/proc/swaps` has anything but compressed memory.
#[cfg(any(target_os = "linux", test))]
fn lists_disk(swaps: &str) -> bool {
    swaps.lines().skip(1).any(|line| !line.trim().is_empty() && !line.starts_with("/dev/zram"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    #[test]
    fn only_swap_on_a_disk_counts() {
        let lists = |lines: &str| lists_disk(&format!("{HEAD}{lines}"));
        assert!(!lists(""));
        assert!(!lists("/dev/zram0                              partition\t1048572\t\t0\t\t100\n"));
        assert!(lists("/swapfile                               file\t\t1048572\t\t0\t\t-2\n"));
        assert!(lists("/dev/zram0 partition 1 0 100\n/dev/sda2 partition 1 0 -2\n"));
        assert!(lists("/dev/dm-1 partition 1 0 -2\n"));
    }

    #[test]
    fn what_cannot_be_locked_is_refused_beside_swap() {
        let refused = || Err(io::Error::from(io::ErrorKind::OutOfMemory));
        assert!(is_locked(Ok(()), || true).unwrap());
        assert!(!is_locked(refused(), || false).unwrap());
        assert_eq!(is_locked(refused(), || true).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }
}
