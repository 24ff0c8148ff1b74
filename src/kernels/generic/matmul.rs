//! Products of quantized weights: the walk over groups of rows and tiles of tokens.

use super::fetch::{AHEAD, prefetch};
use super::formats::{self, Format, PackedBlock};
use super::job::{Codes, MatmulJob, Panel, Walk, by_width, store};
use super::spread::{self, MOST_GROUPS, Spread};
use super::unpacked;
use crate::blocks::Form;
use crate::kernels::acts::Tile;
use crate::kernels::simd::{Reach, Simd};

/// The sums of `T` adjacent tokens of a tile for `G` groups of quantized weights. With each block, the one `ahead` bytes
/// behind it is fetched.
#[inline(always)]
unsafe fn quantized_sums<S: Simd, W: Format<S>, const T: usize, const G: usize>(
    groups: [*const u8; G],
    acts: Codes,
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
                let (codes, scales) = acts.block(b);
                formats::add::<S, W, T>(block, codes, scales, &mut acc[g]);
            }
        }
        let mut totals = [[S::splat(0.0); T]; G];
        for g in 0..G {
            totals[g] = totals_of::<S, T>(&acc[g]);
        }
        totals
    }
}

/// The values of sums.
#[inline(always)]
unsafe fn totals_of<S: Simd, const T: usize>(sums: &[S::Acc; T]) -> [S::F; T] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut totals = [S::splat(0.0); T];
        for t in 0..T {
            totals[t] = S::total(sums[t]);
        }
        totals
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
        let acts = Codes::of_tile::<T>(job.acts, tile);
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
                    let acts = Codes::of_token(job.acts, tile, token);
                    let [acc] = quantized_sums::<S, W, 1, 1>([panel.group(0)], acts, blocks, &form, AHEAD);
                    let tile = Tile { start: tile.start + token, width: 1 };
                    store::<S, 1>(&acc, job, tile, panel.groups.start);
                }
            }
        }
    }
}

/// `T` tokens of a tile from `token` on, spread, against groups of a panel of quantized weights, a bit each of `which`: a
/// chunk of blocks after the other, which meets all of them. Returns the groups of which the set does not say that they
/// came out right; they are not written.
#[inline(always)]
unsafe fn spread_panel<S: Simd, W: Format<S>, const T: usize>(
    spread: &mut Spread<S, T>,
    (panel, form): (&Panel, &Form),
    job: &MatmulJob<'_>,
    (tile, token): (Tile, usize),
    which: u64,
) -> u64 {
    let (acts, blocks) = (Codes::of_token(job.acts, tile, token), job.acts.blocks());
    let tile = Tile { start: tile.start + token, width: T };
    let mut wrong = 0;
    // SAFETY: the caller's contract.
    unsafe {
        let mut sums = [[S::nothing(); T]; MOST_GROUPS];
        for first in (0..blocks).step_by(Spread::<S, T>::STEP) {
            let cells = spread.fill::<W>(acts, blocks, tile.start, first);
            for index in ones(which) {
                let walk = Walk::new::<S, W>(panel.group(index), first, form);
                spread::add_chunk::<S, W, T>(walk, cells, &mut sums[index]);
            }
        }
        let reach = if S::IS_TENTATIVE { spread::reach::<S, W>(acts, blocks) } else { Reach::default() };
        for index in ones(which) {
            if sums[index].iter().all(|sum| S::is_right(*sum, reach)) {
                store::<S, T>(&totals_of::<S, T>(&sums[index]), job, tile, panel.groups.start + index);
            } else {
                wrong |= 1 << index;
            }
        }
    }
    wrong
}

/// The places of the ones of `bits`.
#[inline(always)]
fn ones(bits: u64) -> impl Iterator<Item = usize> {
    let mut rest = bits;
    std::iter::from_fn(move || {
        let place = rest.trailing_zeros() as usize;
        rest &= rest.checked_sub(1)?;
        Some(place)
    })
}

/// A job by a set that spreads activations: four tokens at once, and the tokens left one by one, first by the tentative
/// set of `S`. What came out wrong is computed again by `S`, and where much did, so is the rest, without an attempt.
#[inline(always)]
unsafe fn quantized_spread<S: Simd, W: Format<S> + Format<S::Tentative>>(job: &MatmulJob<'_>) {
    let form = job.form::<S, W>();
    let (mut four, mut one, mut again) =
        (Spread::<S, 4>::new(), Spread::<S::Tentative, 1>::new(), Spread::<S, 1>::new());
    let mut is_tried = true;
    for panel in job.panels(MOST_GROUPS) {
        let all = u64::MAX >> (MOST_GROUPS - panel.groups.len());
        let panel = (&panel, &form);
        for tile in job.acts.tiles() {
            // SAFETY: the caller's contract, which is that of the other set, too.
            unsafe {
                if tile.width == 4 {
                    spread_panel::<S, W, 4>(&mut four, panel, job, (tile, 0), all);
                    continue;
                }
                for token in 0..tile.width {
                    let mut wrong = all;
                    if is_tried {
                        wrong = spread_panel::<_, W, 1>(&mut one, panel, job, (tile, token), all);
                        is_tried = wrong.count_ones() as usize <= MOST_GROUPS / 8;
                    }
                    if wrong != 0 {
                        spread_panel::<S, W, 1>(&mut again, panel, job, (tile, token), wrong);
                    }
                }
            }
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
        if !<S::Moderate as Simd>::IS_MODERATE {
            quantized_panels::<S, W>(job);
        } else if <W as Format<S>>::IS_MODERATE && job.acts.is_moderate() {
            quantized_spread::<S::Moderate, W>(job);
        } else {
            quantized_tokens::<S, W>(job);
        }
    }
}

/// [`quantized`] by the operations of one set.
#[inline(always)]
unsafe fn quantized_panels<S: Simd, W: Format<S>>(job: &MatmulJob<'_>) {
    let tokens = job.acts.tokens();
    if W::UNPACKED && (S::UNPACKS_ALL || W::HALVES) && tokens >= S::UNPACKS_FROM {
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
