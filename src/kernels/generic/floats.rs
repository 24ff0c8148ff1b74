//! Products of float weights.

use super::job::{MatmulJob, Panel, by_width, store};
use crate::kernels::acts::Tile;
use crate::kernels::layout::BLOCK;
use crate::kernels::simd::Simd;

/// Float storage formats.
pub(crate) trait FloatFormat<S: Simd> {
    /// Bytes per value.
    const BYTES: usize;
    /// Loads `LANES` values.
    ///
    /// # Safety
    /// As for [`Simd`]; `p` is valid for `LANES` values.
    unsafe fn load(p: *const u8) -> S::F;
}

/// F32.
pub(crate) struct Single;
/// F16.
pub(crate) struct Half;
/// BF16.
pub(crate) struct Brain;

impl<S: Simd> FloatFormat<S> for Single {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::load(p.cast()) }
    }
}

impl<S: Simd> FloatFormat<S> for Half {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::from_f16(p.cast()) }
    }
}

impl<S: Simd> FloatFormat<S> for Brain {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> S::F {
        // SAFETY: the caller's contract; loads need no alignment.
        unsafe { S::from_bf16(p.cast()) }
    }
}

/// A tile of `T` tokens against a panel of float weights.
#[inline(always)]
unsafe fn float_panel<S: Simd, W: FloatFormat<S>, const T: usize>(
    panel: &Panel,
    job: &MatmulJob<'_>,
    tile: Tile,
) {
    // SAFETY: the caller's contract; the tile has `T` values per column.
    unsafe {
        let (floats, pairs) = (job.acts.floats(tile).as_ptr(), job.acts.blocks() * BLOCK / 2);
        for index in 0..panel.groups.len() {
            let group = panel.group(index);
            let mut acc = [[S::splat(0.0); T]; 2];
            for pair in 0..pairs {
                // A constant index keeps the sums in registers.
                for odd in 0..2 {
                    let k = 2 * pair + odd;
                    let weights = W::load(group.add(k * W::BYTES * S::LANES));
                    for t in 0..T {
                        let x = S::splat(*floats.add(k * T + t));
                        acc[odd][t] = S::fma(weights, x, acc[odd][t]);
                    }
                }
            }
            let [even, odd] = acc;
            let mut total = even;
            for t in 0..T {
                total[t] = S::add(even[t], odd[t]);
            }
            store::<S, T>(&total, job, tile, panel.groups.start + index);
        }
    }
}

/// A job on float weights.
///
/// # Safety
/// As for [`super::quantized`].
#[inline(always)]
pub(crate) unsafe fn floats<S: Simd, W: FloatFormat<S>>(job: &MatmulJob<'_>) {
    for panel in job.panels(job.groups_per_panel()) {
        for tile in job.acts.tiles() {
            // SAFETY: the caller's contract; `tile.width` is the constant chosen.
            unsafe { by_width!(tile.width, float_panel::<S, W>(&panel, job, tile)) }
        }
    }
}
