//! Model families as rows of data: what a class of `transformers` calls its sizes and tensors, and what GGUF
//! calls them.
//!
//! ```text
//! rule   what a row says of a tensor
//! llama  families with gated feed-forward layers and rotary positions
//! gpt    families with two feed-forward matrices, biases and layer norms
//! state  families whose layers also keep a state: short convolutions, selective state spaces
//! ```
//!
//! Names and keys of GGUF are llama.cpp's where it has the family. Where it has none (`opt`, `gptneo`) they are
//! in the same style.

mod gpt;
mod llama;
mod rule;
mod state;

pub(super) use self::rule::{Bias, Change, Condition, Factor, Form, Order, Rule};

/// A size of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Axis {
    /// Transformer layers.
    Layers,
    /// Positions the model was trained for.
    Context,
    /// Width of the residual stream.
    Width,
    /// Width of the feed-forward layer.
    Hidden,
    /// Query heads.
    Heads,
    /// KV heads.
    KvHeads,
    /// Values per head.
    HeadDim,
    /// Width of the embedding, where it is not that of the residual stream.
    Embedding,
    /// Rows of a table of positions.
    Positions,
    /// Positions that a layer with a window sees.
    Window,
    /// Rows of a matrix that makes several vectors at once.
    Fused,
    /// Positions that a convolution sees.
    Taps,
    /// Values of the state-space layer.
    StateWidth,
    /// Heads of the state-space layer.
    StateHeads,
    /// Values per head of the state-space layer.
    StateHeadDim,
    /// Numbers in the state of each value.
    StateSize,
    /// Groups of heads with common input and output vectors.
    StateGroups,
    /// Input (or output) vectors of all groups.
    StateVectors,
    /// Channels of the state-space layer's convolution.
    Channels,
    /// Rows of the embedding.
    Vocab,
}

/// Number of [`Axis`] values.
pub(super) const AXES: usize = Axis::Vocab as usize + 1;

/// Extent of a tensor's axis.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    /// A size.
    Of(Axis),
    /// So many heads, each of [`Axis::HeadDim`] values.
    InHeads(Axis),
}

/// What holds where config.json does not have a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Absent {
    /// The model cannot be converted.
    Refused,
    /// A number.
    Is(u64),
    /// The sum of so many times other axes, and a number.
    Sum(&'static [(u64, Axis)], u64),
    /// The product of two others.
    Product(Axis, Axis),
    /// The quotient of two others.
    Quotient(Axis, Axis),
}

impl Absent {
    /// The value of another axis.
    const fn same(axis: &'static [(u64, Axis); 1]) -> Self {
        Self::Sum(axis, 0)
    }
}

/// An integer of config.json and the metadata keys it becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) axis: Axis,
    /// Keys in config.json, of which the first that is there counts. None: the size follows from others.
    pub(super) config: &'static [&'static str],
    /// Keys after the architecture's prefix.
    pub(super) gguf: &'static [&'static str],
    pub(super) absent: Absent,
    /// The keys are left out where the size is that of this axis.
    pub(super) usual: Option<Axis>,
}

/// A number of config.json, the metadata key it becomes and its value where it is absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    /// Keys in config.json, of which the first that is there counts. None: the number is always the same.
    pub(super) config: &'static [&'static str],
    pub(super) gguf: &'static str,
    pub(super) absent: f64,
}

/// A boolean of config.json.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// Keys in config.json, of which the first that is there counts.
    pub(super) keys: &'static [&'static str],
    /// Its value where there is none of them.
    pub(super) absent: bool,
}

/// A boolean of config.json and the metadata key that says it, or its opposite.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlagKey {
    pub(super) flag: Flag,
    pub(super) gguf: &'static str,
    pub(super) inverted: bool,
}

/// A key of config.json that changes the forward pass, and what is known (also where it is absent or null).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed {
    pub(super) config: &'static str,
    pub(super) value: Known,
}

/// Values of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    /// This text.
    Text(&'static str),
    /// This truth value.
    Flag(bool),
    /// A list of this text alone.
    Texts(&'static str),
    /// A size; where the key is absent this number stands for it.
    Size(Axis, u64),
    /// A list of a lower limit that is none, 0, and an upper one that is none, which JSON has several ways to
    /// write.
    Unlimited,
    /// Only null.
    Nothing,
    /// This text, which must be there.
    Said(&'static str),
    /// A list of this text alone, which must be there.
    AllSaid(&'static str),
    /// This number, which must be there.
    Number(u64),
}

/// A text of config.json, those values of it that are known, and the metadata key where the value is written.
/// Where it is absent it is the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) config: &'static str,
    /// Values in config.json and what is written.
    pub(super) known: &'static [(&'static str, &'static str)],
    pub(super) gguf: &'static str,
}

/// What a layer does with the tokens before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Attention to all of them.
    Full,
    /// Attention to the nearest.
    Local,
    /// A short convolution.
    Convolution,
}

/// How layers differ.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layers {
    /// Not at all.
    Alike,
    /// Every so many layers one is another; readers of GGUF know that. A list in config.json must say the same,
    /// and so must an interval.
    Every { interval: u64, intervals: &'static [&'static str], list: Listed },
    /// A list of kinds; layers of [`Kind::Full`] may also be given as a list of their numbers. KV heads are
    /// written per layer, 0 where there are none.
    Mixed { list: &'static str, names: &'static [(&'static str, Kind)], full: &'static str },
    /// Kinds in a repeated order, `[[[kind, ...], times], ...]`. Written as a list of booleans, which layers are
    /// [`Kind::Local`].
    Repeated { list: &'static str, names: &'static [(&'static str, Kind)], gguf: &'static str },
}

/// A list with one entry per layer: the key, the entry of most layers and that of the others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listed {
    Texts(&'static str, &'static str, &'static str),
    Numbers(&'static str, u64, u64),
}

/// Rotary embedding of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotary {
    /// Keys of the part of each head that rotates, and that part where they are absent. None: all of it.
    pub(super) part: Option<(&'static [&'static str], f64)>,
    /// Keys of the base of the frequencies.
    pub(super) base: &'static [&'static str],
    /// The base where they are absent.
    pub(super) absent: f64,
    /// Layers with a window have a base of their own.
    pub(super) local: Option<LocalBase>,
}

/// The rotary base of layers with a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalBase {
    /// Its key, in older files.
    pub(super) key: &'static str,
    /// Sections of `rope_parameters` for layers without and with a window, in newer ones.
    pub(super) sections: (&'static str, &'static str),
    pub(super) absent: f64,
    pub(super) gguf: &'static str,
}

/// Width of a feed-forward layer from a number of config.json: two thirds of it, times a factor, rounded up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shrunk {
    /// Where this is so.
    pub(super) when: Flag,
    pub(super) factor: &'static str,
    pub(super) multiple: &'static str,
    /// The multiple where it is absent.
    pub(super) absent: u64,
}

/// One family.
#[derive(Debug)]
pub(super) struct Family {
    /// Entry of `architectures` in config.json.
    pub(super) class: &'static str,
    /// `model_type` in config.json, for files without `architectures`.
    pub(super) model_type: &'static str,
    /// Value of `general.architecture`, and prefix of the metadata keys.
    pub(super) architecture: &'static str,
    /// One row per axis; a row refers to rows before it.
    pub(super) counts: &'static [Count],
    pub(super) shrunk: Option<Shrunk>,
    pub(super) numbers: &'static [Number],
    pub(super) flags: &'static [FlagKey],
    pub(super) choices: &'static [Choice],
    pub(super) fixed: &'static [Fixed],
    pub(super) layers: Layers,
    /// Where this is true each layer is used twice in a row.
    pub(super) twice: Option<Flag>,
    pub(super) rotary: Option<Rotary>,
    /// Beginning of all names that checkpoints of the model without its head leave out.
    pub(super) base: &'static str,
    /// Tensors before the layers, in the order of the output.
    pub(super) first: &'static [Rule],
    /// Prefix of a layer's tensors, without the layer's number; it is `blk.` in GGUF.
    pub(super) layer_prefix: &'static str,
    pub(super) layer: &'static [Rule],
    /// Tensors after the layers.
    pub(super) last: &'static [Rule],
    /// Endings of the names of tensors that hold no weights.
    pub(super) ignored: &'static [&'static str],
}

/// Every family that can be converted.
pub(super) const FAMILIES: &[Family] = &[
    llama::LLAMA,
    llama::MOBILELLM,
    llama::QWEN2,
    llama::QWEN3,
    llama::GEMMA3,
    llama::STABLELM,
    llama::OLMO,
    llama::OLMO2,
    llama::SMOLLM3,
    llama::GRANITE,
    llama::GRANITE_HYBRID,
    gpt::GPT2,
    gpt::GPT_NEOX,
    gpt::GPT_NEO,
    gpt::OPT,
    gpt::BLOOM,
    gpt::PHI,
    state::LFM2,
    state::FALCON_H1,
];

const fn count(
    axis: Axis,
    config: &'static [&'static str],
    gguf: &'static [&'static str],
    absent: Absent,
) -> Count {
    Count { axis, config, gguf, absent, usual: None }
}

/// A size that other sizes give.
const fn derived(axis: Axis, absent: Absent) -> Count {
    count(axis, &[], &[], absent)
}

const fn number(config: &'static [&'static str], gguf: &'static str, absent: f64) -> Number {
    Number { config, gguf, absent }
}

const fn fixed(config: &'static str, value: Known) -> Fixed {
    Fixed { config, value }
}

const fn flag(keys: &'static [&'static str], absent: bool) -> Flag {
    Flag { keys, absent }
}

const LAYERS: Count = count(Axis::Layers, &["num_hidden_layers"], &["block_count"], Absent::Refused);
const CONTEXT: Count =
    count(Axis::Context, &["max_position_embeddings"], &["context_length"], Absent::Refused);
const SIZE: Count = count(Axis::Width, &["hidden_size"], &["embedding_length"], Absent::Refused);
const FEED_FORWARD: Count =
    count(Axis::Hidden, &["intermediate_size"], &["feed_forward_length"], Absent::Refused);
const HEAD_COUNT: Count =
    count(Axis::Heads, &["num_attention_heads"], &["attention.head_count"], Absent::Refused);
const KV_HEAD_COUNT: Count = count(
    Axis::KvHeads,
    &["num_key_value_heads"],
    &["attention.head_count_kv"],
    Absent::same(&[(1, Axis::Heads)]),
);
/// All heads have keys and values of their own, and no reader asks how many.
const NO_KV_HEAD_COUNT: Count = derived(Axis::KvHeads, Absent::same(&[(1, Axis::Heads)]));
const HEAD_LENGTHS: &[&str] = &["attention.key_length", "attention.value_length"];
const HEAD_LENGTH: Count =
    count(Axis::HeadDim, &["head_dim"], HEAD_LENGTHS, Absent::Quotient(Axis::Width, Axis::Heads));
/// Heads divide the width.
const NO_HEAD_LENGTH: Count = derived(Axis::HeadDim, Absent::Quotient(Axis::Width, Axis::Heads));
const VOCABULARY: Count = count(Axis::Vocab, &["vocab_size"], &["vocab_size"], Absent::Refused);

const TIED: Flag = flag(&["tie_word_embeddings"], true);
const UNTIED: Flag = flag(&["tie_word_embeddings"], false);

const WIDTH: Extent = Extent::Of(Axis::Width);
const HIDDEN: Extent = Extent::Of(Axis::Hidden);
const VOCAB: Extent = Extent::Of(Axis::Vocab);
const FUSED: Extent = Extent::Of(Axis::Fused);
const QUERIES: Extent = Extent::InHeads(Axis::Heads);
const KEYS: Extent = Extent::InHeads(Axis::KvHeads);
const HEAD: Extent = Extent::Of(Axis::HeadDim);

const ROTARY: Rotary = Rotary { part: None, base: &["rope_theta"], absent: 10_000.0, local: None };

/// What most families have in common.
const BASE: Family = Family {
    class: "",
    model_type: "",
    architecture: "",
    counts: &[],
    shrunk: None,
    numbers: &[],
    flags: &[],
    choices: &[],
    fixed: &[],
    layers: Layers::Alike,
    twice: None,
    rotary: None,
    base: "",
    first: &[],
    layer_prefix: "model.layers.",
    layer: &[],
    last: &[],
    ignored: &[".rotary_emb.inv_freq"],
};
