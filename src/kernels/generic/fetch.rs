//! Weights that are fetched from memory before they are read.

/// Bytes from a block to what is fetched while it is computed.
pub(super) const AHEAD: usize = 128;
pub(super) const CACHE_LINE: usize = 64;

/// Asks for the cache lines of `bytes` bytes, in ascending order. The loads of a block are not: scales, which
/// lie behind the codes, come first in some formats, and then the processor sees no stream to fetch ahead of.
#[inline(always)]
pub(super) fn prefetch(start: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes).step_by(CACHE_LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes, CACHE_LINE);
}
