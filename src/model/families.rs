//! Model families as rows of data.
//!
//! A family is the value of `general.architecture` and the features its forward pass has. The code branches
//! on features only. Widths, counts and constants come from the file's metadata under the architecture's
//! prefix; biases, fused matrices, a separate output head and RoPE factors are used where the file
//! has the tensors. Layers with no KV heads are short convolutions.

use crate::kernels::Activation;

/// Which values of a head rotary embedding pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryPairs {
    /// `2i` with `2i + 1`. GGUF files of the Llama family have their rows ordered for it.
    Adjacent,
    /// `i` with `i + n/2`.
    Halves,
}

/// How a model knows where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Queries and keys are rotated.
    Rotary(RotaryPairs),
    /// A row of `position_embd.weight` is added to the embedding.
    Learned,
    /// Scores fall with the distance (ALiBi, Press et al. 2021).
    Alibi,
}

/// Which norm a model uses throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square.
    Rms,
    /// Mean and variance; with a bias where the file has it.
    Layer,
}

impl NormKind {
    /// Metadata key of what is added to the variance, after the architecture's prefix.
    pub fn epsilon_key(self) -> &'static str {
        match self {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        }
    }
}

/// Where a layer's two parts, attention and feed-forward, have their norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlaces {
    /// Before each part (pre-norm); the key `post_norm` moves them behind the sum of the part and the residual stream.
    Pre,
    /// Before each part, and on what it adds to the residual stream (sandwich norm).
    Sandwich,
    /// On what each part adds to the residual stream (post-norm).
    Post,
    /// Before each part, without weights. The norm before the output head has none either.
    Unweighted,
}

/// Norms of queries and keys (QK-norm).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Of each head, with the same weights for all heads.
    PerHead,
    /// Of each head, with weights of its own, if the file has them.
    OwnPerHead,
    /// Of all heads together.
    Whole,
}

/// Whether attention and feed-forward read the same residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallel {
    /// Feed-forward reads what attention has added to.
    No,
    /// They do, and share a norm.
    Shared,
    /// They do, and share a norm, if the file has no norm for feed-forward.
    SharedIfOne,
    /// The key `use_parallel_residual` says so; each has a norm.
    ByKey,
}

/// Which layers look back only as far as the key `attention.sliding_window` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None.
    None,
    /// What the key `attention.sliding_window_pattern` lists; if it is a number `n`, or missing (this number;
    /// 0 if it must not be), all but every `n`-th.
    Pattern(usize),
}

/// One family.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// Value of `general.architecture`, and prefix of the metadata keys.
    pub architecture: &'static str,
    /// Positional encoding.
    pub positions: Positions,
    /// Every n-th layer has no positional encoding (NoPE); 0 for no layer.
    pub nope_interval: usize,
    /// Layers with a window.
    pub windows: Windows,
    /// Rotary base of layers with a window, if it is not that of the others; the key `rope.freq_base_swa`
    /// overrides it. Scaling does not apply to them then.
    pub local_rope_base: Option<f32>,
    /// The norm.
    pub norm: NormKind,
    /// Where it is applied.
    pub norm_places: NormPlaces,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Whether a layer's parts are parallel.
    pub parallel: Parallel,
    /// Every layer has a state space beside its attention.
    pub state_space: bool,
    /// The feed-forward part multiplies what the activation gives with a second product.
    pub gated: bool,
    /// Of the feed-forward part; the key `activation` overrides it.
    pub activation: Activation,
    /// Embeddings are multiplied with the square root of their width.
    pub scaled_embedding: bool,
    /// Embeddings are normed, by `token_embd_norm`.
    pub normed_embedding: bool,
    /// The keys `embedding_scale`, `residual_scale` and `logit_scale` (a divisor) are used.
    pub multipliers: bool,
    /// Name of the norm before the output head.
    pub output_norm: &'static str,
}

const LLAMA: Family = Family {
    architecture: "llama",
    positions: Positions::Rotary(RotaryPairs::Adjacent),
    nope_interval: 0,
    windows: Windows::None,
    local_rope_base: None,
    norm: NormKind::Rms,
    norm_places: NormPlaces::Pre,
    qk_norm: QkNorm::None,
    parallel: Parallel::No,
    state_space: false,
    gated: true,
    activation: Activation::Silu,
    scaled_embedding: false,
    normed_embedding: false,
    multipliers: false,
    output_norm: "output_norm",
};

const HALVES: Positions = Positions::Rotary(RotaryPairs::Halves);

const GPT2: Family = Family {
    architecture: "gpt2",
    positions: Positions::Learned,
    norm: NormKind::Layer,
    gated: false,
    activation: Activation::GeluTanh,
    ..LLAMA
};

/// Every supported family.
pub const FAMILIES: &[Family] = &[
    LLAMA,
    Family { architecture: "qwen2", positions: HALVES, ..LLAMA },
    Family { architecture: "qwen3", positions: HALVES, qk_norm: QkNorm::PerHead, ..LLAMA },
    GPT2,
    Family {
        architecture: "gptneox",
        positions: HALVES,
        activation: Activation::Gelu,
        parallel: Parallel::ByKey,
        ..GPT2
    },
    Family { architecture: "opt", activation: Activation::Relu, ..GPT2 },
    Family { architecture: "gptneo", windows: Windows::Pattern(0), ..GPT2 },
    Family { architecture: "bloom", positions: Positions::Alibi, normed_embedding: true, ..GPT2 },
    Family { architecture: "phi2", positions: HALVES, parallel: Parallel::Shared, ..GPT2 },
    Family {
        architecture: "gemma3",
        positions: HALVES,
        windows: Windows::Pattern(6),
        local_rope_base: Some(10_000.0),
        norm_places: NormPlaces::Sandwich,
        qk_norm: QkNorm::PerHead,
        activation: Activation::GeluTanh,
        scaled_embedding: true,
        ..LLAMA
    },
    Family {
        architecture: "stablelm",
        positions: HALVES,
        norm: NormKind::Layer,
        qk_norm: QkNorm::OwnPerHead,
        parallel: Parallel::SharedIfOne,
        ..LLAMA
    },
    Family { architecture: "olmo", norm: NormKind::Layer, norm_places: NormPlaces::Unweighted, ..LLAMA },
    Family {
        architecture: "olmo2",
        positions: HALVES,
        norm_places: NormPlaces::Post,
        qk_norm: QkNorm::Whole,
        ..LLAMA
    },
    Family { architecture: "smollm3", nope_interval: 4, ..LLAMA },
    Family { architecture: "granite", multipliers: true, ..LLAMA },
    Family {
        architecture: "lfm2",
        positions: HALVES,
        qk_norm: QkNorm::PerHead,
        output_norm: "token_embd_norm",
        ..LLAMA
    },
    Family { architecture: "falcon-h1", positions: HALVES, state_space: true, ..LLAMA },
];

impl Family {
    /// The family with this architecture name.
    pub fn named(architecture: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.architecture == architecture)
    }
}
