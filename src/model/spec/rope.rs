//! The rotary embedding of a model.

/// Rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Pairs of values that rotate.
    pub pairs: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Positions are divided by this (linear scaling; 1 without).
    pub divisor: f32,
}

impl Rope {
    /// Nothing rotates.
    pub(super) const NONE: Rope = Rope { pairs: 0, base: 10_000.0, divisor: 1.0 };
}
