//! Products of quantized weights with many tokens: a chunk of a group is unpacked once, into memory that stays in
//! the first-level cache, and meets all tiles of tokens.

use super::fetch::{CACHE_LINE, prefetch};
use super::formats::{self, Format, Unpacked};
use super::job::{Codes, MatmulJob, Walk, store};
use crate::kernels::acts::Tile;
use crate::kernels::simd::Simd;
use std::mem::MaybeUninit;

/// Bytes of unpacked weights.
const ROOM: usize = 16 << 10;
/// Most tokens that they meet before the next are unpacked. No tile is wider, and the widest divide it.
const MOST_TOKENS: usize = 64;

/// A chunk of unpacked blocks.
#[repr(align(64))]
struct Chunk {
    bytes: [MaybeUninit<u8>; ROOM],
}

/// Blocks of a chunk: where they are, the first one's number, and how many there are.
struct Blocks<S: Simd> {
    weights: *const Unpacked<S>,
    first: usize,
    len: usize,
}

impl Chunk {
    /// Blocks of each chunk of a row of `blocks` blocks, a multiple of 8 unless they are all.
    fn len<S: Simd>(blocks: usize) -> usize {
        const { assert!(align_of::<Unpacked<S>>() <= align_of::<Self>()) };
        let room = ROOM / size_of::<Unpacked<S>>();
        if blocks <= room {
            return blocks;
        }
        let chunks = blocks.div_ceil(room / 8 * 8);
        blocks.div_ceil(chunks).next_multiple_of(8)
    }

    /// Unpacks `len` blocks of a walk that comes to block `first`.
    ///
    /// # Safety
    /// As for [`Simd`]; there are as many blocks of format `W`, and room for them.
    #[inline(always)]
    unsafe fn fill<S: Simd, W: Format<S>>(&mut self, mut walk: Walk, first: usize, len: usize) -> Blocks<S> {
        let weights = self.bytes.as_mut_ptr().cast::<Unpacked<S>>();
        for b in 0..len {
            // SAFETY: the caller's contract.
            unsafe { weights.add(b).write(formats::unpack::<S, W>(walk.next::<S, W>(b))) };
        }
        Blocks { weights, first, len }
    }
}

/// Packed weights that are fetched while others are computed, a cache line per block and tile.
struct Ahead {
    next: *const u8,
    end: *const u8,
}

impl Ahead {
    /// The first `bytes` behind the first `from` of a run of groups.
    fn new(groups: *const u8, from: usize, bytes: usize) -> Self {
        let next = groups.wrapping_add(from);
        Self { next, end: next.wrapping_add(bytes) }
    }

    /// The first line for a tile of `blocks` blocks, and bytes from one line to the next.
    #[inline(always)]
    fn lines(&mut self, blocks: usize) -> (*const u8, usize) {
        let first = self.next;
        if first >= self.end {
            return (first, 0);
        }
        self.next = first.wrapping_add(blocks * CACHE_LINE);
        (first, CACHE_LINE)
    }
}

/// A job on quantized weights.
///
/// # Safety
/// That of [`super::matmul::quantized`].
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, W: Format<S>>(job: &MatmulJob<'_>) {
    let (form, blocks, bytes) = (job.form::<S, W>(), job.acts.blocks(), job.weights.shape().group_bytes());
    let most = Chunk::len::<S>(blocks);
    let mut chunk = Chunk { bytes: [MaybeUninit::uninit(); ROOM] };
    // SAFETY: the caller's contract.
    let mut sums = [unsafe { S::nothing() }; MOST_TOKENS];
    for panel in job.panels(1) {
        for start in (0..job.acts.tokens()).step_by(MOST_TOKENS) {
            let batch = start..job.acts.tokens().min(start + MOST_TOKENS);
            let sums = &mut sums[..batch.len()];
            // SAFETY: the caller's contract: the group has all blocks of the activations.
            unsafe {
                sums.fill(S::nothing());
                for first in (0..blocks).step_by(most) {
                    let len = most.min(blocks - first);
                    let walk = Walk::new::<S, W>(panel.group(0), first, &form);
                    let chunk = chunk.fill::<S, W>(walk, first, len);
                    let ahead =
                        Ahead::new(panel.group(0), bytes + bytes * first / blocks, bytes * len / blocks);
                    add_chunk::<S, W>(&chunk, job, start, sums, ahead);
                }
                for (start, sum) in batch.zip(sums) {
                    store::<S, 1>(&[S::total(*sum)], job, Tile { start, width: 1 }, panel.groups.start);
                }
            }
        }
    }
}

/// Adds a chunk to the sums of the tokens from `start` on.
///
/// # Safety
/// As for [`Simd`]; there are as many weights, and the sums are of whole tiles.
#[inline(always)]
unsafe fn add_chunk<S: Simd, W: Format<S>>(
    chunk: &Blocks<S>,
    job: &MatmulJob<'_>,
    start: usize,
    sums: &mut [S::Acc],
    mut ahead: Ahead,
) {
    let batch = start..start + sums.len();
    for tile in job.acts.tiles().filter(|tile| batch.contains(&tile.start)) {
        let sums = sums[tile.start - start..].as_mut_ptr();
        let lines = ahead.lines(chunk.len);
        // SAFETY: the caller's contract.
        unsafe {
            match tile.width {
                8 if S::WIDEST == 8 => add_tokens::<S, W, 8>(chunk, job, (tile, 0), sums, lines),
                4 if S::WIDEST == 4 => add_tokens::<S, W, 4>(chunk, job, (tile, 0), sums, lines),
                _ => (0..tile.width).for_each(|token| {
                    add_tokens::<S, W, 1>(chunk, job, (tile, token), sums.add(token), lines);
                }),
            }
        }
    }
}

/// Adds a chunk to the sums of `T` tokens of a tile from `token` on.
///
/// # Safety
/// As for [`Simd`]; the tile has as many tokens, and there are `T` sums.
#[inline(always)]
unsafe fn add_tokens<S: Simd, W: Format<S>, const T: usize>(
    chunk: &Blocks<S>,
    job: &MatmulJob<'_>,
    (tile, token): (Tile, usize),
    sums: *mut S::Acc,
    (ahead, stride): (*const u8, usize),
) {
    let Blocks { weights, first, len } = *chunk;
    let acts = match T {
        1 => Codes::of_token(job.acts, tile, token),
        _ => Codes::of_tile::<T>(job.acts, tile),
    };
    // SAFETY: the caller's contract; the tile has activations of all blocks.
    unsafe {
        let mut acc = sums.cast::<[S::Acc; T]>().read();
        for b in 0..len {
            prefetch(ahead.wrapping_add(b * stride), CACHE_LINE);
            formats::add_unpacked::<S, W, T>(&*weights.add(b), acts.block(first + b), &mut acc);
        }
        sums.cast::<[S::Acc; T]>().write(acc);
    }
}
