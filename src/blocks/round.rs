//! Round-to-nearest codes of the 32-element formats with one scale: Q4_0, Q5_0, Q4_1, Q5_1.
//!
//! The arithmetic is fixed to the bit, because the formats' owner defines files by it: the inverse scale
//! is the reciprocal of the unrounded scale, products and sums are rounded separately in f32 (no fused
//! multiply-add), and codes are the truncation of `x / d + bias + 0.5`.

/// Signed codes `q - half` with the scale set by the value of largest magnitude, the first if several:
/// that value gets code 0, so that the one-sided range `-half..half` always holds it.
///
/// Returns the scale before rounding to f16, and codes below `2 * half`.
pub(super) fn signed_codes(values: &[f32], half: u8) -> (f32, [u8; 32]) {
    let extreme = values.iter().fold(0.0f32, |best, &v| if v.abs() > best.abs() { v } else { best });
    let d = extreme / -f32::from(half);
    let inverse = reciprocal(d);
    let bias = f32::from(half) + 0.5;
    (d, codes(values, 2 * half - 1, |v| v * inverse + bias))
}

/// Codes `0..=max_code` between the smallest and the largest value.
///
/// Returns the scale and the minimum before rounding to f16, and the codes.
pub(super) fn affine_codes(values: &[f32], max_code: u8) -> (f32, f32, [u8; 32]) {
    let min = values.iter().fold(f32::MAX, |min, &v| if v < min { v } else { min });
    let max = values.iter().fold(f32::MIN, |max, &v| if v > max { v } else { max });
    let d = (max - min) / f32::from(max_code);
    let inverse = reciprocal(d);
    (d, min, codes(values, max_code, |v| (v - min) * inverse + 0.5))
}

/// `1 / d`, and 0 for a zero scale.
pub(super) fn reciprocal(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn codes(values: &[f32], max_code: u8, position: impl Fn(f32) -> f32) -> [u8; 32] {
    let mut codes = [0; 32];
    for (code, &value) in codes.iter_mut().zip(values) {
        // The cast truncates, saturates, and takes NaN to 0.
        *code = (position(value) as u8).min(max_code);
    }
    codes
}
