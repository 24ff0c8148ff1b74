//! Least-squares scale searches of IQ4_NL and the K formats.
//!
//! Both searches minimise the plain squared error, the expected output error of a linear layer when
//! nothing is known about its inputs. For fixed codes the best scale (and minimum) is a linear
//! least-squares problem with a closed solution; the codes are found by trying a fixed set of starting
//! grids around the one that spans the values exactly, rounding every value to its nearest grid point.
//! Grids narrower than the span clip the outermost values, wider ones spare some codes; which is better
//! depends on the values.
//!
//! All arithmetic is in f64: no finite f32 overflows or underflows when squared.

use half::f16;

/// Copies a block's values, NaN as 0 and infinities as the largest finite f32.
pub(super) fn finite<const N: usize>(values: &[f32]) -> [f64; N] {
    std::array::from_fn(|i| {
        let value = values[i];
        if value.is_nan() { 0.0 } else { f64::from(value.clamp(f32::MIN, f32::MAX)) }
    })
}

/// The f16 nearest to `value`, the largest finite one beyond the range.
pub(super) fn nearest_f16(value: f64) -> f16 {
    let max = f16::MAX.to_f64();
    f16::from_f32(value.clamp(-max, max) as f32)
}

/// The f16 of smallest magnitude that is not below `value` in magnitude, the largest finite one beyond the
/// range. With scales of sub-blocks expressed in this unit, none exceeds its integer range, and a scale
/// too small for f16 is not lost where its multiples are large enough.
pub(super) fn f16_not_below(value: f64) -> f16 {
    let nearest = nearest_f16(value);
    let too_small = nearest.to_f64().abs() < value.abs() && nearest.to_bits() & 0x7FFF < f16::MAX.to_bits();
    // The next bit pattern is the next larger magnitude of the same sign.
    f16::from_bits(nearest.to_bits() + u16::from(too_small))
}

/// Value of largest magnitude, with its sign; the first if several.
pub(super) fn signed_extreme(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |best: f64, &v| if v.abs() > best.abs() { v } else { best })
}

/// The scale `s` of the best found approximation `values[i] = s * level[i]`; 0 for all-zero values.
///
/// `extreme_levels` are the (fractional) levels that the value of largest magnitude is placed at, one
/// candidate each; `nearest_level` rounds a value divided by the scale to a level of the format.
pub(super) fn fit_scale(
    values: &[f64],
    extreme_levels: impl Iterator<Item = f64>,
    nearest_level: impl Fn(f64) -> f64,
) -> f64 {
    let extreme = signed_extreme(values);
    if extreme == 0.0 {
        return 0.0;
    }
    let mut best = (0.0, 0.0);
    for level in extreme_levels {
        let inverse = level / extreme;
        let (mut xl, mut ll) = (0.0, 0.0);
        for &x in values {
            let l = nearest_level(x * inverse);
            xl += x * l;
            ll += l * l;
        }
        // With the best scale xl / ll, the squared error is sum(x^2) - xl^2 / ll.
        if ll > 0.0 && xl * xl / ll > best.0 {
            best = (xl * xl / ll, xl / ll);
        }
    }
    best.1
}

/// A grid `scale * code - min` with non-negative `scale` and `min`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Affine {
    pub(super) scale: f64,
    pub(super) min: f64,
}

impl Affine {
    /// The code in `0..=max_code` nearest to `value`; 0 if the scale is 0.
    pub(super) fn code(&self, value: f64, max_code: u8) -> u8 {
        if self.scale == 0.0 {
            return 0;
        }
        // The cast truncates and saturates.
        (((value + self.min) / self.scale + 0.5) as u8).min(max_code)
    }

    /// Squared error of `values` on this grid.
    pub(super) fn error(&self, values: &[f64], max_code: u8) -> f64 {
        let residual = |x: f64| x - (self.scale * f64::from(self.code(x, max_code)) - self.min);
        values.iter().map(|&x| residual(x).powi(2)).sum()
    }
}

/// How far, in steps of the grid, the ends of the value range lie outside of the first and last code.
const CLIP_STEPS: [f64; 5] = [-0.25, 0.0, 0.25, 0.5, 0.75];

/// The best found grid for `values` with codes `0..=max_code`.
pub(super) fn fit_affine(values: &[f64], max_code: u8) -> Affine {
    // A minimum above zero has no representation: such values start at zero.
    let low = values.iter().copied().fold(0.0, f64::min);
    let high = values.iter().copied().fold(f64::MIN, f64::max);
    if high <= low {
        return Affine { scale: 0.0, min: -low };
    }
    let (mut best, mut best_gain) = (Affine { scale: 0.0, min: -low }, f64::NEG_INFINITY);
    for below in CLIP_STEPS {
        for above in CLIP_STEPS {
            let inverse = (f64::from(max_code) + below + above) / (high - low);
            let offset = 0.5 - below - low * inverse;
            let code = |x: f64| ((x * inverse + offset) as u8).min(max_code);
            let (grid, gain) = solve_affine(values, code);
            if gain > best_gain {
                (best, best_gain) = (grid, gain);
            }
        }
    }
    best
}

/// The least-squares grid for fixed codes, and how much it takes off the sum of squares.
fn solve_affine(values: &[f64], code: impl Fn(f64) -> u8) -> (Affine, f64) {
    let n = values.len() as f64;
    let (mut x, mut q, mut qq, mut xq) = (0.0, 0.0, 0.0, 0.0);
    for &value in values {
        let c = f64::from(code(value));
        x += value;
        q += c;
        qq += c * c;
        xq += value * c;
    }
    let determinant = n * qq - q * q;
    let scale = if determinant > 0.0 { (n * xq - x * q) / determinant } else { 0.0 };
    let min = (scale * q - x) / n;
    if min >= 0.0 && scale >= 0.0 {
        return (Affine { scale, min }, scale * xq - min * x);
    }
    let scale = if qq > 0.0 { (xq / qq).max(0.0) } else { 0.0 };
    (Affine { scale, min: 0.0 }, scale * xq)
}
