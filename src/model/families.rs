//! Model families as rows of data.
//!
//! A family is the value of `general.architecture` and the features its forward pass has. The code branches
//! on features only. Widths, counts and constants come from the file's metadata under the architecture's
//! prefix; biases, a separate output head and RoPE factors are used where the file has the tensors.

/// Which values of a head rotary embedding pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryPairs {
    /// `2i` with `2i + 1`. GGUF files of the Llama family have their rows ordered for it.
    Adjacent,
    /// `i` with `i + n/2`.
    Halves,
}

/// One family.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Value of `general.architecture`, and prefix of the metadata keys.
    pub architecture: &'static str,
    /// Rotary pairing.
    pub rotary: RotaryPairs,
}

/// Every supported family.
pub const FAMILIES: &[Family] = &[Family { architecture: "llama", rotary: RotaryPairs::Adjacent }];

impl Family {
    /// The family with this architecture name.
    pub fn named(architecture: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.architecture == architecture)
    }
}
