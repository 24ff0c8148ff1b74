//! Model families as rows of data: what a class of `transformers` calls its sizes and tensors, and what GGUF
//! calls them.

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
    /// The value of another axis.
    Same(Axis),
    /// The quotient of two others.
    Quotient(Axis, Axis),
}

/// An integer of config.json and the metadata keys it becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) axis: Axis,
    /// Key in config.json.
    pub(super) config: &'static str,
    /// Keys after the architecture's prefix.
    pub(super) gguf: &'static [&'static str],
    pub(super) absent: Absent,
}

/// A number of config.json, the metadata key it becomes and its value where it is absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    pub(super) config: &'static str,
    pub(super) gguf: &'static str,
    pub(super) absent: f64,
}

/// A key of config.json that changes the forward pass, and the one value that is known (also where it is absent).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed {
    pub(super) config: &'static str,
    pub(super) value: &'static str,
}

/// Whether a matrix has a bias.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bias {
    No,
    /// Where this key of config.json is true.
    If(&'static str),
}

/// Extents of a tensor, outermost first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Matrix { rows: Extent, cols: Extent },
    Vector { len: Extent },
}

/// One tensor of the model, or of every layer: `{hf}.weight` becomes `{gguf}.weight`, and so does its bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) hf: &'static str,
    pub(super) gguf: &'static str,
    pub(super) form: Form,
    pub(super) bias: Bias,
    /// The rows are so many heads in which value `i` rotates with `i + n/2`; GGUF pairs `2i` with `2i + 1`.
    pub(super) rotary: Option<Axis>,
    /// Where this key of config.json is true there is no such tensor, and one that is there is not used.
    pub(super) unless: Option<&'static str>,
}

impl Rule {
    const fn matrix(hf: &'static str, gguf: &'static str, rows: Extent, cols: Extent) -> Self {
        let form = Form::Matrix { rows, cols };
        Self { hf, gguf, form, bias: Bias::No, rotary: None, unless: None }
    }

    const fn norm(hf: &'static str, gguf: &'static str) -> Self {
        let form = Form::Vector { len: WIDTH };
        Self { hf, gguf, form, bias: Bias::No, rotary: None, unless: None }
    }

    const fn bias_if(self, key: &'static str) -> Self {
        Self { bias: Bias::If(key), ..self }
    }

    const fn rotary(self, heads: Axis) -> Self {
        Self { rotary: Some(heads), ..self }
    }

    const fn unless(self, key: &'static str) -> Self {
        Self { unless: Some(key), ..self }
    }
}

const WIDTH: Extent = Extent::Of(Axis::Width);
const HIDDEN: Extent = Extent::Of(Axis::Hidden);
const VOCAB: Extent = Extent::Of(Axis::Vocab);
const QUERIES: Extent = Extent::InHeads(Axis::Heads);
const KEYS: Extent = Extent::InHeads(Axis::KvHeads);

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
    pub(super) norm_eps: Number,
    pub(super) fixed: &'static [Fixed],
    /// Tensors before the layers, in the order of the output.
    pub(super) first: &'static [Rule],
    /// Prefix of a layer's tensors before and after conversion, without the layer's number.
    pub(super) layer_prefix: (&'static str, &'static str),
    pub(super) layer: &'static [Rule],
    /// Tensors after the layers.
    pub(super) last: &'static [Rule],
    /// Endings of the names of tensors that hold no weights.
    pub(super) ignored: &'static [&'static str],
}

const fn count(axis: Axis, config: &'static str, gguf: &'static [&'static str], absent: Absent) -> Count {
    Count { axis, config, gguf, absent }
}

const LLAMA: Family = Family {
    class: "LlamaForCausalLM",
    model_type: "llama",
    architecture: "llama",
    counts: &[
        count(Axis::Layers, "num_hidden_layers", &["block_count"], Absent::Refused),
        count(Axis::Context, "max_position_embeddings", &["context_length"], Absent::Refused),
        count(Axis::Width, "hidden_size", &["embedding_length"], Absent::Refused),
        count(Axis::Hidden, "intermediate_size", &["feed_forward_length"], Absent::Refused),
        count(Axis::Heads, "num_attention_heads", &["attention.head_count"], Absent::Refused),
        count(Axis::KvHeads, "num_key_value_heads", &["attention.head_count_kv"], Absent::Same(Axis::Heads)),
        count(
            Axis::HeadDim,
            "head_dim",
            &["attention.key_length", "attention.value_length", "rope.dimension_count"],
            Absent::Quotient(Axis::Width, Axis::Heads),
        ),
        count(Axis::Vocab, "vocab_size", &["vocab_size"], Absent::Refused),
    ],
    norm_eps: Number { config: "rms_norm_eps", gguf: "attention.layer_norm_rms_epsilon", absent: 1e-6 },
    fixed: &[Fixed { config: "hidden_act", value: "silu" }],
    first: &[Rule::matrix("model.embed_tokens", "token_embd", VOCAB, WIDTH)],
    layer_prefix: ("model.layers.", "blk."),
    layer: &[
        Rule::norm("input_layernorm", "attn_norm"),
        Rule::matrix("mlp.down_proj", "ffn_down", WIDTH, HIDDEN).bias_if("mlp_bias"),
        Rule::matrix("mlp.gate_proj", "ffn_gate", HIDDEN, WIDTH).bias_if("mlp_bias"),
        Rule::matrix("mlp.up_proj", "ffn_up", HIDDEN, WIDTH).bias_if("mlp_bias"),
        Rule::norm("post_attention_layernorm", "ffn_norm"),
        Rule::matrix("self_attn.k_proj", "attn_k", KEYS, WIDTH)
            .bias_if("attention_bias")
            .rotary(Axis::KvHeads),
        Rule::matrix("self_attn.o_proj", "attn_output", WIDTH, QUERIES).bias_if("attention_bias"),
        Rule::matrix("self_attn.q_proj", "attn_q", QUERIES, WIDTH)
            .bias_if("attention_bias")
            .rotary(Axis::Heads),
        Rule::matrix("self_attn.v_proj", "attn_v", KEYS, WIDTH).bias_if("attention_bias"),
    ],
    last: &[
        Rule::norm("model.norm", "output_norm"),
        Rule::matrix("lm_head", "output", VOCAB, WIDTH).unless("tie_word_embeddings"),
    ],
    ignored: &[".rotary_emb.inv_freq"],
};

/// Every family that can be converted.
pub(super) const FAMILIES: &[Family] = &[LLAMA];
