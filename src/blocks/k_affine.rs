//! Super-blocks of 256 elements with scales and minima: the common part of Q4_K and Q5_K.
//!
//! Eight sub-blocks of 32 elements share two f16 units `d` and `dmin`; sub-block `s` is
//! `w = d * sc[s] * q - dmin * m[s]` with 6-bit `sc` and `m`.
//!
//! # Encoding
//! 1. [`fit_affine`] finds a real-valued grid for each sub-block.
//! 2. `d` and `dmin` are the largest scale and minimum divided by 63, rounded up to f16.
//! 3. For each sub-block the integers next to the fitted scale and minimum are tried with the codes
//!    nearest under them, and the pair of least squared error is kept.
//! 4. With `sc * q` and `m` fixed, `d` and `dmin` are a least-squares problem with two unknowns over the
//!    whole super-block; its rounded solution starts another pass of step 3, kept if the error falls.

use super::fit::{Affine, f16_not_below, finite, fit_affine, nearest_f16};
use super::pack::read_f16;
use half::f16;

const SUB_BLOCK: usize = 32;
const MAX_SCALE: u8 = 63;
const REFITS: usize = 2;

/// Unpacks the 6-bit scale and minimum of sub-block `j` (0..8) from the 12 packed bytes.
///
/// # Panics
/// If `j` is 8 or more.
pub(crate) fn scale_min_k4(j: usize, scales: &[u8; 12]) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        ((scales[j + 4] & 0x0F) | ((scales[j - 4] >> 6) << 4), (scales[j + 4] >> 4) | ((scales[j] >> 6) << 4))
    }
}

/// Packs eight 6-bit (scale, minimum) pairs, the inverse of [`scale_min_k4`].
pub(super) fn pack_scale_min_k4(pairs: &[(u8, u8); 8]) -> [u8; 12] {
    let mut scales = [0; 12];
    for j in 0..4 {
        let ((scale, min), (upper_scale, upper_min)) = (pairs[j], pairs[j + 4]);
        scales[j] = scale | (upper_scale >> 4) << 6;
        scales[j + 4] = min | (upper_min >> 4) << 6;
        scales[j + 8] = (upper_scale & 0x0F) | upper_min << 4;
    }
    scales
}

/// The fields that Q4_K and Q5_K share, with one code per byte.
pub(super) struct AffineSuperBlock {
    /// Unit of the scales, f16.
    pub(super) d: [u8; 2],
    /// Unit of the minima, f16.
    pub(super) dmin: [u8; 2],
    /// Packed scales and minima.
    pub(super) scales: [u8; 12],
    /// Codes in element order.
    pub(super) codes: [u8; 256],
}

impl AffineSuperBlock {
    /// Encodes 256 values with codes `0..=max_code`. NaN counts as 0, infinities as the largest f32;
    /// values outside of the format's range get the nearest value inside.
    pub(super) fn encode(values: &[f32], max_code: u8) -> Self {
        let x: [f64; 256] = finite(values);
        let mut fits = [Affine::default(); 8];
        for (fit, x) in fits.iter_mut().zip(x.chunks_exact(SUB_BLOCK)) {
            *fit = fit_affine(x, max_code);
        }
        let largest = |part: fn(&Affine) -> f64| fits.iter().map(part).fold(0.0, f64::max);
        let units = Units {
            d: f16_not_below(largest(|fit| fit.scale) / f64::from(MAX_SCALE)),
            dmin: f16_not_below(largest(|fit| fit.min) / f64::from(MAX_SCALE)),
        };
        let mut best = Choice::around(&fits, units, &x, max_code);
        for _ in 0..REFITS {
            let next = Choice::around(&best.grids(), best.refit(&x, max_code), &x, max_code);
            if next.error >= best.error {
                break;
            }
            best = next;
        }
        let grids = best.grids();
        Self {
            d: best.units.d.to_le_bytes(),
            dmin: best.units.dmin.to_le_bytes(),
            scales: pack_scale_min_k4(&best.pairs),
            codes: std::array::from_fn(|i| grids[i / SUB_BLOCK].code(x[i], max_code)),
        }
    }

    /// Decodes into 256 values.
    pub(super) fn decode(&self, out: &mut [f32]) {
        let (d, dmin) = (read_f16(self.d), read_f16(self.dmin));
        let subs = out.chunks_exact_mut(SUB_BLOCK).zip(self.codes.chunks_exact(SUB_BLOCK));
        for (j, (out, codes)) in subs.enumerate() {
            let (scale, min) = scale_min_k4(j, &self.scales);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (value, &code) in out.iter_mut().zip(codes) {
                *value = scale * f32::from(code) - min;
            }
        }
    }
}

/// The two f16 units of a super-block; both are finite and not negative.
#[derive(Clone, Copy)]
struct Units {
    d: f16,
    dmin: f16,
}

impl Units {
    fn grid(self, (scale, min): (u8, u8)) -> Affine {
        Affine { scale: self.d.to_f64() * f64::from(scale), min: self.dmin.to_f64() * f64::from(min) }
    }
}

/// One complete choice of units and sub-block integers; the codes follow from it.
struct Choice {
    units: Units,
    pairs: [(u8, u8); 8],
    error: f64,
}

impl Choice {
    /// The best integers next to the wanted grids.
    fn around(wanted: &[Affine; 8], units: Units, x: &[f64; 256], max_code: u8) -> Self {
        let mut choice = Self { units, pairs: [(0, 0); 8], error: 0.0 };
        for (j, x) in x.chunks_exact(SUB_BLOCK).enumerate() {
            let mut best = ((0, 0), f64::INFINITY);
            for scale in neighbours(wanted[j].scale, units.d) {
                for min in neighbours(wanted[j].min, units.dmin) {
                    let error = units.grid((scale, min)).error(x, max_code);
                    if error < best.1 {
                        best = ((scale, min), error);
                    }
                }
            }
            choice.pairs[j] = best.0;
            choice.error += best.1;
        }
        choice
    }

    fn grids(&self) -> [Affine; 8] {
        self.pairs.map(|pair| self.units.grid(pair))
    }

    /// The units that minimise `sum((x - d * u + dmin * m)^2)` with `u = sc * q` and `m` as chosen.
    fn refit(&self, x: &[f64; 256], max_code: u8) -> Units {
        let (mut uu, mut um, mut mm, mut xu, mut xm) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for ((&(scale, min), grid), x) in self.pairs.iter().zip(self.grids()).zip(x.chunks_exact(SUB_BLOCK)) {
            let m = f64::from(min);
            for &x in x {
                let u = f64::from(scale) * f64::from(grid.code(x, max_code));
                uu += u * u;
                um += u * m;
                mm += m * m;
                xu += x * u;
                xm += x * m;
            }
        }
        let determinant = uu * mm - um * um;
        let (d, dmin) = if determinant > 0.0 {
            ((xu * mm - xm * um) / determinant, (xu * um - xm * uu) / determinant)
        } else if uu > 0.0 {
            (xu / uu, 0.0)
        } else if mm > 0.0 {
            (0.0, -xm / mm)
        } else {
            (0.0, 0.0)
        };
        Units { d: nearest_f16(d.max(0.0)), dmin: nearest_f16(dmin.max(0.0)) }
    }
}

/// The integers within one of `wanted / unit`, inside of `0..=MAX_SCALE`.
fn neighbours(wanted: f64, unit: f16) -> std::ops::RangeInclusive<u8> {
    let unit = unit.to_f64();
    let centre = if unit > 0.0 { (wanted / unit + 0.5).min(f64::from(MAX_SCALE)) as u8 } else { 0 };
    centre.saturating_sub(1)..=(centre + 1).min(MAX_SCALE)
}
