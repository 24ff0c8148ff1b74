//! Products of quantized weights: the walk over groups of rows and tiles of tokens.

use super::fetch::{AHEAD, prefetch};
use super::formats::{self, Format, PackedBlock};
use super::job::{MatmulJob, Panel, Walk, by_width, store};
use super::spread::{self, MOST_GROUPS, Spread};
use super::unpacked;
use crate::blocks::Form;
use crate::kernels::acts::{ActScale, Acts, Tile};
use crate::kernels::layout::BLOCK;
use crate::kernels::simd::{Reach, Simd};

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
    let tokens = job.acts.tokens();
    if W::UNPACKED
        && let Some(from) = S::UNPACKS_FROM
        && tokens >= from
    {
        // SAFETY: the caller's contract.
        return unsafe { unpacked::multiply::<S, W>(job) };
    }
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
