//! Products of quantized weights: the walk over groups of rows and tiles of tokens.

use super::fetch::{AHEAD, prefetch};
use super::formats::{self, Format, PackedBlock};
use super::spread::{self, MOST_GROUPS, Spread};
use super::unpacked;
use crate::blocks::{Form, Levels};
use crate::kernels::acts::{ActScale, Acts, Tile};
use crate::kernels::layout::{BLOCK, PackedMatrix};
use crate::kernels::scalar::VIRTUAL;
use crate::kernels::simd::{Reach, Simd};
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
    group_bytes: usize,
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

/// The activations of a tile: its codes and scales, and tokens from one block to the next.
#[derive(Clone, Copy)]
struct Codes {
    codes: *const i8,
    scales: *const ActScale,
    step: usize,
}

impl Codes {
    fn new(acts: &Acts, tile: Tile) -> Self {
        let (codes, scales) = acts.quantized(tile);
        Self { codes: codes.as_ptr(), scales: scales.as_ptr(), step: tile.width }
    }
}

/// The sums of `T` adjacent tokens of a tile for `G` groups of quantized weights. With each block, the one `ahead` bytes
/// behind it is fetched.
#[inline(always)]
unsafe fn quantized_sums<S: Simd, W: Format<S>, const T: usize, const G: usize>(
    groups: [*const u8; G],
    Codes { codes, scales, step }: Codes,
    blocks: usize,
    form: &Form,
    ahead: usize,
) -> [[S::F; T]; G] {
    // SAFETY: the caller's contract: groups and activations have `blocks` blocks, the latter of `T` tokens.
    unsafe {
        let (book, unit) = (form.levels(), form.unit);
        let mut acc = [[S::nothing(); T]; G];
        // Places that move on: the compiler does not always make them of products with `b`.
        let (mut next, mut supers) = (groups, groups);
        for b in 0..blocks {
            for g in 0..G {
                if W::AT.supers > 0 && b.is_multiple_of(8) {
                    (supers[g], next[g]) = (next[g], next[g].add(W::AT.supers));
                }
                let block = PackedBlock { start: next[g], supers: supers[g], book, unit };
                next[g] = next[g].add(W::AT.block);
                prefetch(block.start.wrapping_add(ahead), W::AT.block);
                let acts = (codes.add(b * step * BLOCK), scales.add(b * step));
                formats::add::<S, W, T>(block, acts.0, acts.1, &mut acc[g]);
            }
        }
        acc.map(|sums| sums.map(|sum| S::total(sum)))
    }
}

/// A tile of `T` tokens against a panel of quantized weights.
#[inline(always)]
unsafe fn quantized_panel<S: Simd, W: Format<S>, const T: usize>(
    panel: &Panel,
    job: &MatmulJob<'_>,
    tile: Tile,
    ahead: usize,
) {
    // SAFETY: the caller's contract; `quantized` checked that the tile has `T` tokens.
    unsafe {
        let acts = Codes { step: T, ..Codes::new(job.acts, tile) };
        let (form, blocks) = (job.form::<S, W>(), job.acts.blocks());
        let mut next = 0;
        while T == 1 && S::PAIRS && next + 2 <= panel.groups.len() {
            let groups = [panel.group(next), panel.group(next + 1)];
            for acc in quantized_sums::<S, W, T, 2>(groups, acts, blocks, &form, ahead) {
                store::<S, T>(&acc, job, tile, panel.groups.start + next);
                next += 1;
            }
        }
        for index in next..panel.groups.len() {
            let [acc] = quantized_sums::<S, W, T, 1>([panel.group(index)], acts, blocks, &form, ahead);
            store::<S, T>(&acc, job, tile, panel.groups.start + index);
        }
    }
}

/// A job by the operations of a set that serves what its set for moderate products does not: one token after the other.
#[inline(always)]
unsafe fn quantized_tokens<S: Simd, W: Format<S>>(job: &MatmulJob<'_>) {
    let (form, blocks) = (job.form::<S, W>(), job.acts.blocks());
    for panel in job.panels(1) {
        for tile in job.acts.tiles() {
            for token in 0..tile.width {
                // SAFETY: the caller's contract.
                unsafe {
                    let Codes { codes, scales, step } = Codes::new(job.acts, tile);
                    let acts = Codes { codes: codes.add(token * BLOCK), scales: scales.add(token), step };
                    let [acc] = quantized_sums::<S, W, 1, 1>([panel.group(0)], acts, blocks, &form, AHEAD);
                    let tile = Tile { start: tile.start + token, width: 1 };
                    store::<S, 1>(&acc, job, tile, panel.groups.start);
                }
            }
        }
    }
}

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

/// A tile of `T` tokens, spread, against a panel of quantized weights: a chunk of blocks after the other, which meets
/// all groups. Groups of which the set says that they came out wrong are computed again by the set `E`; returns how many.
#[inline(always)]
unsafe fn spread_panel<S: Simd, E: Simd, W: Format<S> + Format<E>, const T: usize>(
    spread: &mut Spread<S>,
    panel: &Panel,
    job: &MatmulJob<'_>,
    tile: Tile,
) -> usize {
    // SAFETY: the caller's contract; `quantized` checked that the tile has `T` tokens.
    unsafe {
        let form = job.form::<S, W>();
        let mut sums = [[S::nothing(); T]; MOST_GROUPS];
        for first in (0..job.acts.blocks()).step_by(Spread::<S>::blocks(T)) {
            let len = spread.fill::<W, T>(job.acts, tile, first);
            for (index, sums) in sums[..panel.groups.len()].iter_mut().enumerate() {
                let mut walk = Walk::new::<S, W>(panel.group(index), first, &form);
                let mut acc = *sums;
                let mut b = 0;
                // A block of such a set has no branch: two to a step.
                while S::IS_TENTATIVE && b + 2 <= len {
                    for _ in 0..2 {
                        let block = walk.next::<S, W>(b);
                        spread::add::<S, W, T>(block, spread.block::<T>(b), &mut acc);
                        b += 1;
                    }
                }
                for b in b..len {
                    let block = walk.next::<S, W>(b);
                    spread::add::<S, W, T>(block, spread.block::<T>(b), &mut acc);
                }
                *sums = acc;
            }
        }
        store_panel::<S, E, W, T>(&sums[..panel.groups.len()], (panel, &form), job, tile)
    }
}

/// Writes the sums of a panel.
#[inline(always)]
unsafe fn store_panel<S: Simd, E: Simd, W: Format<S> + Format<E>, const T: usize>(
    sums: &[[S::Acc; T]],
    (panel, form): (&Panel, &Form),
    job: &MatmulJob<'_>,
    tile: Tile,
) -> usize {
    // SAFETY: the caller's contract: that of `spread_panel`.
    unsafe {
        let reach = if S::IS_TENTATIVE { spread::reach::<S, W>(job.acts, tile) } else { Reach::default() };
        let mut again = 0;
        for (index, sums) in sums.iter().enumerate() {
            let group = panel.groups.start + index;
            if S::IS_TENTATIVE && !sums.iter().all(|sum| S::is_right(*sum, reach)) {
                again += 1;
                let acts = Codes { step: T, ..Codes::new(job.acts, tile) };
                let groups = [panel.group(index)];
                let [sums] = quantized_sums::<E, W, T, 1>(groups, acts, job.acts.blocks(), form, AHEAD);
                store::<E, T>(&sums, job, tile, group);
            } else {
                store::<S, T>(&sums.map(|sum| S::total(sum)), job, tile, group);
            }
        }
        again
    }
}

/// [`spread_panel`] of a set whose sums are right.
#[inline(always)]
unsafe fn spread_tile<S: Simd, W: Format<S>, const T: usize>(
    spread: &mut Spread<S>,
    panel: &Panel,
    job: &MatmulJob<'_>,
    tile: Tile,
) {
    // SAFETY: the caller's contract.
    unsafe { spread_panel::<S, S, W, T>(spread, panel, job, tile) };
}

/// A single token: the sums of a set that is tentative, and from the panel on in which many came out wrong those of the
/// set itself.
#[inline(always)]
unsafe fn single_token<S, W>(job: &MatmulJob<'_>)
where
    S: Simd,
    W: Format<S> + Format<S::Tentative>,
{
    // SAFETY: the caller's contract, which is that of the other set, too.
    unsafe {
        let tile = Tile { start: 0, width: 1 };
        let mut spread = Spread::<S::Tentative>::new();
        let mut panels = job.panels(MOST_GROUPS);
        for panel in panels.by_ref() {
            let again = spread_panel::<S::Tentative, S, W, 1>(&mut spread, &panel, job, tile);
            if again > MOST_GROUPS / 8 {
                break;
            }
        }
        let mut spread = Spread::<S>::new();
        for panel in panels {
            spread_panel::<S, S, W, 1>(&mut spread, &panel, job, tile);
        }
    }
}

/// A job on quantized weights.
///
/// # Safety
/// As for [`Simd`]; the job's weights are in format `W`, packed for `S`, have as many blocks as the
/// activations, and `out` is valid for all tokens and the rows of `groups`.
#[inline(always)]
pub(crate) unsafe fn quantized<S, W>(job: &MatmulJob<'_>)
where
    S: Simd,
    W: Format<S> + Format<S::Moderate> + Format<<S::Moderate as Simd>::Tentative>,
{
    // SAFETY: the caller's contract, which is that of the sets for moderate products, too.
    unsafe {
        if <S::Moderate as Simd>::IS_MODERATE && <W as Format<S>>::IS_MODERATE && job.acts.is_moderate() {
            if <<S::Moderate as Simd>::Tentative as Simd>::IS_TENTATIVE && job.acts.tokens() == 1 {
                single_token::<S::Moderate, W>(job);
            } else {
                quantized_panels::<S::Moderate, W>(job);
            }
        } else if <S::Moderate as Simd>::IS_MODERATE {
            quantized_tokens::<S, W>(job);
        } else {
            quantized_panels::<S, W>(job);
        }
    }
}

/// [`quantized`] by the operations of one set.
#[inline(always)]
unsafe fn quantized_panels<S: Simd, W: Format<S>>(job: &MatmulJob<'_>) {
    if S::SPREADS {
        let mut spread = Spread::<S>::new();
        for panel in job.panels(MOST_GROUPS) {
            for tile in job.acts.tiles() {
                // SAFETY: the caller's contract; `tile.width` is the constant chosen.
                unsafe { by_width!(tile.width, spread_tile::<S, W>(&mut spread, &panel, job, tile)) }
            }
        }
        return;
    }
    if W::UNPACKED && job.acts.tokens() >= S::UNPACKS_FROM {
        // SAFETY: the caller's contract.
        return unsafe { unpacked::multiply::<S, W>(job) };
    }
    let tokens = job.acts.tokens();
    for panel in job.panels(job.groups_per_panel()) {
        for tile in job.acts.tiles() {
            // While the last of several tiles is computed, the next panel is fetched.
            let is_last = tile.start > 0 && tile.start + tile.width == tokens;
            let ahead = if is_last { panel.groups.len() * panel.group_bytes } else { AHEAD };
            // SAFETY: the caller's contract; `tile.width` is the constant chosen.
            unsafe { by_width!(tile.width, quantized_panel::<S, W>(&panel, job, tile, ahead)) }
        }
    }
}
