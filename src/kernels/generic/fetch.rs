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

/// Packed weights that are fetched while others are computed, a cache line per block and tile.
pub(super) struct Ahead {
    next: *const u8,
    end: *const u8,
}

impl Ahead {
    /// The first `bytes` behind the first `from` of a run of groups.
    pub(super) fn new(groups: *const u8, from: usize, bytes: usize) -> Self {
        let next = groups.wrapping_add(from);
        Self { next, end: next.wrapping_add(bytes) }
    }

    /// The first line for a tile of `blocks` blocks, and bytes from one line to the next.
    #[inline(always)]
    pub(super) fn lines(&mut self, blocks: usize) -> (*const u8, usize) {
        let first = self.next;
        if first >= self.end {
            return (first, 0);
        }
        self.next = first.wrapping_add(blocks * CACHE_LINE);
        (first, CACHE_LINE)
    }
}
