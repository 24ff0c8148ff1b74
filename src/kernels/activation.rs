//! Activation functions of feed-forward layers.

/// What a feed-forward layer applies to each of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + exp(-x))` (Elfwing et al. 2017, arXiv 1702.03118).
    Silu,
    /// `x * cdf(x)` of the normal distribution (Hendrycks and Gimpel 2016, arXiv 1606.08415).
    Gelu,
    /// The same with the approximation by a hyperbolic tangent, `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2` (So et al. 2021, arXiv 2109.08668).
    ReluSquared,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 5] = [Self::Silu, Self::Gelu, Self::GeluTanh, Self::Relu, Self::ReluSquared];

    /// Its name in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Relu => "relu",
            Self::ReluSquared => "relu_squared",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
