//! Tables of rotary angles.
//!
//! Pair `i` of a head turns by `position * base^(-i / pairs)` (Su et al. 2021, arXiv 2104.09864). Linear
//! scaling divides the positions (Chen et al. 2023, arXiv 2306.15595); Llama 3's scaling divides each
//! frequency by a factor stored in the file.

use super::spec::Rope;
use crate::runtime::{AllocError, Buffer};

/// Angles of a tile of tokens.
#[derive(Debug)]
pub(super) struct RopeTable {
    /// Radians per position, `[pair]`.
    frequencies: Buffer<f64>,
    /// (cos, sin), `[token][pair]`.
    table: Buffer<[f32; 2]>,
}

impl RopeTable {
    /// For up to `tokens` tokens; `factors` divide the frequencies, `[pair]`.
    pub(super) fn new(rope: &Rope, factors: Option<&[f32]>, tokens: usize) -> Result<Self, AllocError> {
        let mut frequencies = Buffer::zeroed(rope.pairs, "rotary frequencies")?;
        for (i, frequency) in frequencies.iter_mut().enumerate() {
            let exponent = -(i as f64) / rope.pairs as f64;
            let divisor = f64::from(rope.divisor) * factors.map_or(1.0, |factors| f64::from(factors[i]));
            *frequency = f64::from(rope.base).powf(exponent) / divisor;
        }
        Ok(Self { frequencies, table: Buffer::zeroed(tokens * rope.pairs, "rotary angles")? })
    }

    /// (cos, sin), `[token][pair]`, as [`Self::fill`] left them.
    pub(super) fn table(&self) -> &[[f32; 2]] {
        &self.table
    }

    /// Fills rows from `row` on for `tokens` positions from `position` on.
    pub(super) fn fill(&mut self, row: usize, position: usize, tokens: usize) {
        let pairs = self.frequencies.len();
        let rows = &mut self.table[row * pairs..(row + tokens) * pairs];
        for (token, row) in rows.chunks_exact_mut(pairs.max(1)).enumerate() {
            for (entry, frequency) in row.iter_mut().zip(self.frequencies.iter()) {
                let (sin, cos) = ((position + token) as f64 * frequency).sin_cos();
                *entry = [cos as f32, sin as f32];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn angles(rope: &Rope, factors: Option<&[f32]>, position: usize) -> Vec<[f32; 2]> {
        let mut table = RopeTable::new(rope, factors, 1).unwrap();
        table.fill(0, position, 1);
        table.table().to_vec()
    }

    const ROPE: Rope = Rope { pairs: 4, base: 10_000.0, divisor: 1.0 };

    #[test]
    fn pairs_turn_by_position_times_frequency() {
        let table = angles(&ROPE, None, 3);
        for (i, [cos, sin]) in table.into_iter().enumerate() {
            let angle = 3.0 * 10f64.powi(-(i as i32));
            assert!((f64::from(cos) - angle.cos()).abs() < 1e-7);
            assert!((f64::from(sin) - angle.sin()).abs() < 1e-7);
        }
    }

    #[test]
    fn linear_scaling_divides_positions_and_factors_divide_frequencies() {
        assert_eq!(angles(&Rope { divisor: 4.0, ..ROPE }, None, 12), angles(&ROPE, None, 3));
        let table = angles(&ROPE, Some(&[1.0, 2.0, 4.0, 1.0]), 12);
        assert_eq!(table[0], angles(&ROPE, None, 12)[0]);
        assert_eq!(table[1], angles(&ROPE, None, 6)[1]);
        assert_eq!(table[2], angles(&ROPE, None, 3)[2]);
    }
}
