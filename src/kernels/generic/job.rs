//! A share of a matrix product, and the parts that its kernels have in common.

use super::fetch::{AHEAD, prefetch};
use super::formats::{Format, PackedBlock};
use crate::blocks::{Form, Levels};
use crate::kernels::acts::{ActScale, Acts, Tile};
use crate::kernels::layout::{BLOCK, PackedMatrix};
use crate::kernels::scalar::VIRTUAL;
use crate::kernels::simd::Simd;
use std::ops::Range;

/// One part's share of a matrix product.
pub(crate) struct MatmulJob<'a> {
    /// The weights.
    pub(crate) weights: PackedMatrix<'a>,
    /// Groups of rows to compute.
    pub(crate) groups: Range<usize>,
    /// The activations.
    pub(crate) acts: &'a Acts,
    /// `[token][row]`: the first row of the matrix for token 0.
    pub(crate) out: *mut f32,
    /// Floats from one token to the next.
    pub(crate) out_stride: usize,
    /// Add to `out` instead of replacing it.
    pub(crate) accumulate: bool,
}

/// Bytes of weights that meet every tile of tokens before the next weights are read: they stay in the first-level cache
/// beside a tile of activations.
const PANEL_BYTES: usize = 16 << 10;

impl MatmulJob<'_> {
    /// Groups of a panel that stays in the first-level cache; all if there is one tile.
    pub(super) fn groups_per_panel(&self) -> usize {
        let bytes = if self.acts.tiles().nth(1).is_some() { PANEL_BYTES } else { usize::MAX };
        (bytes / self.weights.shape().group_bytes()).max(1)
    }

    /// The form of the weights. Types that share a kernel differ in their books only.
    #[inline(always)]
    pub(super) fn form<S: Simd, W: Format<S>>(&self) -> Form {
        match W::FORM.levels {
            Levels::Book(_) => self.weights.shape().block_type.form(),
            Levels::Less(_) => W::FORM,
        }
    }

    /// The job's groups in panels of `step`.
    pub(super) fn panels(&self, step: usize) -> impl Iterator<Item = Panel> + '_ {
        let Range { start, end } = self.groups;
        let group_bytes = self.weights.shape().group_bytes();
        (start..end).step_by(step).map(move |first| {
            let groups = first..end.min(first.saturating_add(step));
            Panel { start: self.weights.groups(groups.clone()).as_ptr(), group_bytes, groups }
        })
    }
}

/// A run of groups.
pub(super) struct Panel {
    /// The first byte.
    start: *const u8,
    pub(super) group_bytes: usize,
    pub(super) groups: Range<usize>,
}

impl Panel {
    /// The first byte of the group after `index` others.
    ///
    /// # Safety
    /// The panel has more than `index` groups.
    #[inline(always)]
    pub(super) unsafe fn group(&self, index: usize) -> *const u8 {
        // SAFETY: the caller's contract.
        unsafe { self.start.add(index * self.group_bytes) }
    }
}

/// The codes and scales of a tile's activations, `[block][token in tile]`, from some token on.
#[derive(Clone, Copy)]
pub(super) struct Codes {
    codes: *const i8,
    scales: *const ActScale,
    /// Tokens from one block to the next.
    step: usize,
}

impl Codes {
    /// Of a tile of `T` tokens.
    #[inline(always)]
    pub(super) fn of_tile<const T: usize>(acts: &Acts, tile: Tile) -> Self {
        Self { step: T, ..Self::of_token(acts, tile, 0) }
    }

    /// Of token `token` of a tile.
    #[inline(always)]
    pub(super) fn of_token(acts: &Acts, tile: Tile, token: usize) -> Self {
        let (codes, scales) = acts.quantized(tile);
        Self { codes: codes[token * BLOCK..].as_ptr(), scales: scales[token..].as_ptr(), step: tile.width }
    }

    /// Those of block `b`.
    ///
    /// # Safety
    /// The activations have more than `b` blocks.
    #[inline(always)]
    pub(super) unsafe fn block(self, b: usize) -> (*const i8, *const ActScale) {
        // SAFETY: the caller's contract.
        unsafe { (self.codes.add(b * self.step * BLOCK), self.scales.add(b * self.step)) }
    }
}

/// Writes the sums of group `group`: a lane per row, or the lanes that are rows in the last group.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, const T: usize>(
    acc: &[S::F; T],
    job: &MatmulJob<'_>,
    tile: Tile,
    group: usize,
) {
    // SAFETY: the caller's contract: `out` has every row of the group for every token of the tile.
    unsafe {
        let first = group * S::LANES;
        let rows = job.weights.shape().rows - first;
        for (t, value) in acc.iter().enumerate() {
            let out = job.out.add((tile.start + t) * job.out_stride + first);
            if rows >= S::LANES {
                let value = if job.accumulate { S::add(S::load(out), *value) } else { *value };
                S::store(out, value);
            } else {
                let mut lanes = [0.0f32; VIRTUAL];
                S::store(lanes.as_mut_ptr(), *value);
                store_some(&lanes[..rows], out, job.accumulate);
            }
        }
    }
}

/// Writes a few values.
///
/// # Safety
/// `out` is valid for as many.
#[cold]
unsafe fn store_some(values: &[f32], out: *mut f32, accumulate: bool) {
    // SAFETY: the caller's contract.
    let out = unsafe { std::slice::from_raw_parts_mut(out, values.len()) };
    for (out, value) in out.iter_mut().zip(values) {
        *out = if accumulate { *out + value } else { *value };
    }
}

/// Calls `$kernel` with the tile's width as a constant.
macro_rules! by_width {
    ($width:expr, $kernel:ident::<$set:ty, $format:ty>($($argument:expr),*)) => {
        match $width {
            8 if <$set>::WIDEST >= 8 => $kernel::<$set, $format, 8>($($argument),*),
            4 => $kernel::<$set, $format, 4>($($argument),*),
            2 => $kernel::<$set, $format, 2>($($argument),*),
            _ => $kernel::<$set, $format, 1>($($argument),*),
        }
    };
}

pub(super) use by_width;

/// A walk over the blocks of a group.
pub(super) struct Walk {
    block: PackedBlock,
    next: *const u8,
}

impl Walk {
    /// From block `first` on, a multiple of 8.
    ///
    /// # Safety
    /// The group has more than `first` blocks of format `W`.
    #[inline(always)]
    pub(super) unsafe fn new<S: Simd, W: Format<S>>(group: *const u8, first: usize, form: &Form) -> Self {
        // SAFETY: the caller's contract.
        let next = unsafe { group.add(W::AT.block_start(first) - W::AT.supers) };
        Self { block: PackedBlock { start: next, supers: next, book: form.levels(), unit: form.unit }, next }
    }

    /// The next block, the number of which is `b` more than a multiple of 8.
    ///
    /// # Safety
    /// There is one.
    #[inline(always)]
    pub(super) unsafe fn next<S: Simd, W: Format<S>>(&mut self, b: usize) -> PackedBlock {
        // SAFETY: the caller's contract.
        unsafe {
            if W::AT.supers > 0 && b.is_multiple_of(8) {
                (self.block.supers, self.next) = (self.next, self.next.add(W::AT.supers));
            }
            self.block.start = self.next;
            self.next = self.next.add(W::AT.block);
            prefetch(self.block.start.wrapping_add(AHEAD), W::AT.block);
            self.block
        }
    }
}
