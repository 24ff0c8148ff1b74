//! A model's shape, read from the header and checked before anything is allocated.

mod keys;
mod rope;

use super::error::ModelError;
use super::families::{FAMILIES, Family, NormPlaces, Parallel, Positions, Windows};
use crate::gguf::{EMBEDDING_TENSOR, GgufFile, Purpose};
use crate::kernels::Activation;
use keys::Keys;
pub use rope::Rope;

/// Most layers of a model.
const MAX_LAYERS: usize = 512;
/// Widest dimension of a model.
const MAX_WIDTH: usize = 1 << 20;
/// Most columns of a head's state.
const MAX_STATE: usize = 4096;
/// Most tokens that a convolution sees.
const MAX_TAPS: usize = 16;
/// In a file that holds only some layers of a model: the index of the first of them there. Keys with a value
/// per layer are those of the whole model.
pub const FIRST_LAYER: &str = "smolt.first_layer";

/// Which rotary embedding a layer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotary {
    /// None.
    None,
    /// [`Spec::rope`].
    Global,
    /// [`Spec::local_rope`].
    Local,
}

/// How the tokens of a layer learn of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Attention.
    Attention,
    /// A convolution over the last few tokens, between two gates.
    Convolution,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// How tokens are mixed.
    pub mixer: Mixer,
    /// Number of this layer among those with the same mixer.
    pub number: usize,
    /// Its rotary embedding.
    pub rotary: Rotary,
    /// Positions a token sees, itself the last; `usize::MAX` for all.
    pub window: usize,
}

/// Shape of a layer's state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSpec {
    /// Heads; each keeps a matrix.
    pub heads: usize,
    /// Rows of a head's matrix: what the head gives.
    pub head_dim: usize,
    /// Columns of it.
    pub size: usize,
    /// Groups of heads; the heads of a group read and write alike.
    pub groups: usize,
    /// Tokens that the convolution before sees.
    pub taps: usize,
}

impl StateSpec {
    /// Width of what all heads give.
    pub fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Channels of the convolution: what the heads read, and how they write and read.
    pub fn channels(&self) -> usize {
        self.inner() + 2 * self.groups * self.size
    }

    /// Rows of the matrix in front: the gate, the channels, the steps.
    pub fn input(&self) -> usize {
        self.inner() + self.channels() + self.heads
    }
}

/// Refuses files that say they are something else than a model.
///
/// # Errors
/// [`ModelError::OtherPurpose`].
pub fn check_purpose(file: &GgufFile) -> Result<(), ModelError> {
    match file.purpose() {
        Purpose::Model => Ok(()),
        found => Err(ModelError::OtherPurpose { file: file.name().to_owned(), found }),
    }
}

/// Shape and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The family.
    pub family: &'static Family,
    /// Transformer layers.
    pub layers: usize,
    /// `[layer]`
    pub layer_specs: Vec<LayerSpec>,
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the token embeddings; where it is not `dim`, matrices lead to and from the residual stream.
    pub word_dim: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub hidden: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Positions the model was trained for.
    pub trained_context: usize,
    /// Positions it has embeddings for; `None` if it can do without.
    pub positions: Option<usize>,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// The norms of a layer follow the sum with the residual stream.
    pub post_norm: bool,
    /// A layer's feed-forward part reads what its attention part reads, not its sum.
    pub parallel: bool,
    /// The parts share a norm.
    pub shared_norm: bool,
    /// Of the feed-forward part.
    pub activation: Activation,
    /// Rotary embedding; no pairs if there is none.
    pub rope: Rope,
    /// That of layers with a window, if it is another.
    pub local_rope: Option<Rope>,
    /// Per query head, what a score loses per position of distance; empty for nothing.
    pub slopes: Vec<f32>,
    /// Tokens that a convolution sees; 0 if no layer has one.
    pub taps: usize,
    /// State spaces beside attention.
    pub state: Option<StateSpec>,
    /// What scores are multiplied with.
    pub attention_scale: f32,
    /// Largest magnitude of queries, keys and values, if it is limited.
    pub clamp: Option<f32>,
    /// What embeddings are multiplied with.
    pub embedding_scale: f32,
    /// What is added to the residual stream is multiplied with this.
    pub residual_scale: f32,
    /// What logits are multiplied with.
    pub logit_scale: f32,
}

impl Spec {
    /// Reads the shape of the model in `file`.
    ///
    /// # Errors
    /// If the family is not supported, or a value is missing, of the wrong type or impossible.
    pub fn read(file: &GgufFile) -> Result<Self, ModelError> {
        check_purpose(file)?;
        let architecture = file.require_str("general.architecture")?;
        let family = Family::named(architecture).ok_or_else(|| ModelError::UnknownArchitecture {
            file: file.name().to_owned(),
            found: architecture.to_owned(),
            supported: FAMILIES.iter().map(|f| f.architecture).collect::<Vec<_>>().join(", "),
        })?;
        let first_layer = file.u32(FIRST_LAYER)?.unwrap_or(0).min(MAX_LAYERS as u32) as usize;
        let keys = Keys { file, prefix: family.architecture, first_layer };
        let layers = keys.count("block_count", MAX_LAYERS)?;
        let dim = keys.count("embedding_length", MAX_WIDTH)?;
        let heads = keys.count("attention.head_count", MAX_WIDTH)?;
        let (kv_heads, attends) = keys.kv_heads(heads, layers)?;
        let head_dim = head_dim(&keys, dim, heads)?;
        let (rope, local_rope) = ropes(&keys, family, head_dim)?;
        let (parallel, shared_norm) = parallel(&keys, family)?;
        let scale = |key: &str| if family.multipliers { keys.positive_or(key, 1.0) } else { Ok(1.0) };
        let embedding_scale = if family.scaled_embedding { (dim as f32).sqrt() } else { 1.0 };
        let taps = taps(&keys, &attends, (dim, heads * head_dim))?;
        let learned = family.positions == Positions::Learned;
        Ok(Self {
            family,
            layers,
            layer_specs: layer_specs(&keys, family, &attends, local_rope.is_some())?,
            dim,
            word_dim: keys.count_or("word_embedding_length", dim, MAX_WIDTH)?,
            heads,
            kv_heads,
            head_dim,
            hidden: keys.count("feed_forward_length", MAX_WIDTH)?,
            vocab: rows(file, EMBEDDING_TENSOR)?,
            trained_context: keys.count("context_length", usize::MAX)?,
            positions: if learned { Some(rows(file, "position_embd.weight")?) } else { None },
            norm_eps: keys.positive_or(family.norm.epsilon_key(), 1e-5)?,
            post_norm: family.norm_places == NormPlaces::Pre && keys.flag_or("post_norm", false)?,
            parallel,
            shared_norm,
            activation: activation(&keys, family)?,
            rope,
            local_rope,
            slopes: if family.positions == Positions::Alibi { slopes(heads) } else { Vec::new() },
            taps,
            state: if family.state_space { Some(state(&keys)?) } else { None },
            attention_scale: keys.positive_or("attention.scale", 1.0 / (head_dim as f32).sqrt())?,
            clamp: match file.f32(&keys.name("attention.clamp_kqv"))? {
                Some(most) if most != 0.0 => Some(keys.positive_or("attention.clamp_kqv", most)?),
                _ => None,
            },
            embedding_scale: embedding_scale * scale("embedding_scale")?,
            residual_scale: scale("residual_scale")?,
            logit_scale: 1.0 / scale("logit_scale")?,
        })
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all KV heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Layers with this mixer.
    pub fn layers_with(&self, mixer: Mixer) -> usize {
        self.layer_specs.iter().filter(|layer| layer.mixer == mixer).count()
    }
}

fn rows(file: &GgufFile, tensor: &str) -> Result<usize, ModelError> {
    let found = file.tensor(tensor).map(|info| info.rows());
    found.ok_or_else(|| ModelError::MissingTensor { file: file.name().to_owned(), tensor: tensor.to_owned() })
}

fn head_dim(keys: &Keys<'_>, dim: usize, heads: usize) -> Result<usize, ModelError> {
    let head_dim = keys.count_or("attention.key_length", dim / heads, MAX_WIDTH)?;
    let value_dim = keys.count_or("attention.value_length", head_dim, MAX_WIDTH)?;
    if value_dim != head_dim || heads * head_dim > MAX_WIDTH {
        return Err(keys.bad("attention.value_length", format!("the key length, {head_dim}"), value_dim));
    }
    Ok(head_dim)
}

/// Rotary embedding, and that of layers with a window if it is another.
fn ropes(keys: &Keys<'_>, family: &Family, head_dim: usize) -> Result<(Rope, Option<Rope>), ModelError> {
    if !matches!(family.positions, Positions::Rotary(_)) {
        return Ok((Rope::NONE, None));
    }
    let rope = keys.rope(head_dim)?;
    let local = match family.local_rope_base {
        Some(base) => {
            Some(Rope { base: keys.positive_or("rope.freq_base_swa", base)?, divisor: 1.0, ..rope })
        }
        None => None,
    };
    Ok((rope, local))
}

/// Whether the parts of a layer are parallel, and whether they share a norm.
fn parallel(keys: &Keys<'_>, family: &Family) -> Result<(bool, bool), ModelError> {
    Ok(match family.parallel {
        Parallel::No => (false, false),
        Parallel::Shared => (true, true),
        Parallel::SharedIfOne => {
            let shared = keys.file.tensor("blk.0.ffn_norm.weight").is_none();
            (shared, shared)
        }
        Parallel::ByKey => (keys.flag_or("use_parallel_residual", true)?, false),
    })
}

fn activation(keys: &Keys<'_>, family: &Family) -> Result<Activation, ModelError> {
    match keys.file.str(&keys.name("activation"))? {
        None => Ok(family.activation),
        Some(name) => Activation::named(name).ok_or_else(|| {
            let known = Activation::ALL.map(Activation::name).join(", ");
            keys.bad("activation", format!("one of {known}"), format!("{name:?}"))
        }),
    }
}

fn state(keys: &Keys<'_>) -> Result<StateSpec, ModelError> {
    let inner = keys.count("ssm.inner_size", MAX_WIDTH)?;
    let heads = keys.count("ssm.time_step_rank", inner)?;
    if !inner.is_multiple_of(heads) {
        return Err(keys.bad("ssm.time_step_rank", format!("a divisor of {inner}"), heads));
    }
    let groups = keys.count_or("ssm.group_count", 1, heads)?;
    if !heads.is_multiple_of(groups) {
        return Err(keys.bad("ssm.group_count", format!("a divisor of the {heads} heads"), groups));
    }
    let size = keys.count("ssm.state_size", MAX_STATE)?;
    let taps = keys.count("ssm.conv_kernel", MAX_TAPS)?;
    Ok(StateSpec { heads, head_dim: inner / heads, size, groups, taps })
}

/// Tokens that convolutions see, if some layer does not attend.
fn taps(keys: &Keys<'_>, attends: &[bool], (dim, query): (usize, usize)) -> Result<usize, ModelError> {
    if attends.iter().all(|attends| *attends) {
        return Ok(0);
    }
    if dim != query {
        return Err(keys.bad("attention.key_length", format!("heads of {dim} values in all"), query));
    }
    let taps = keys.count("shortconv.l_cache", MAX_TAPS)?;
    if taps < 2 { Err(keys.bad("shortconv.l_cache", format!("2..={MAX_TAPS}"), taps)) } else { Ok(taps) }
}

fn layer_specs(
    keys: &Keys<'_>,
    family: &Family,
    attends: &[bool],
    has_local_rope: bool,
) -> Result<Vec<LayerSpec>, ModelError> {
    let layers = attends.len();
    let (local, window) = match family.windows {
        Windows::None => (vec![false; layers], usize::MAX),
        Windows::Pattern(period) => keys.windows(period, layers)?,
    };
    let is_rotary = matches!(family.positions, Positions::Rotary(_));
    let is_rotated = |layer: usize| {
        is_rotary
            && (family.nope_interval == 0
                || !(keys.first_layer + layer + 1).is_multiple_of(family.nope_interval))
    };
    let layer_spec = |(layer, local): (usize, bool)| LayerSpec {
        mixer: if attends[layer] { Mixer::Attention } else { Mixer::Convolution },
        number: attends[..layer].iter().filter(|other| **other == attends[layer]).count(),
        rotary: match is_rotated(layer) {
            false => Rotary::None,
            true if local && has_local_rope => Rotary::Local,
            true => Rotary::Global,
        },
        window: if local { window } else { usize::MAX },
    };
    Ok(local.into_iter().enumerate().map(layer_spec).collect())
}

/// ALiBi's slopes (Press et al. 2021, arXiv 2108.12409): powers of `2^(-8/n)`, with `n` the power of two up to
/// `heads`; heads beyond take the odd powers of its square root.
fn slopes(heads: usize) -> Vec<f32> {
    let n = 1usize << heads.max(1).ilog2();
    let slope = |head: usize| {
        let power = if head < n { (head + 1) as f64 } else { (head - n) as f64 + 0.5 };
        (-8.0 * power / n as f64).exp2() as f32
    };
    (0..heads).map(slope).collect()
}
