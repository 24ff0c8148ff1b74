//! Families with gated feed-forward layers and rotary positions.

use super::{
    Absent, Axis, BASE, CONTEXT, Change, FEED_FORWARD, Family, FlagKey, HEAD, HEAD_COUNT, HEAD_LENGTH,
    HEAD_LENGTHS, HIDDEN, KEYS, KV_HEAD_COUNT, Known, LAYERS, Layers, Listed, LocalBase, NO_HEAD_LENGTH,
    QUERIES, ROTARY, Rotary, Rule, SIZE, TIED, UNTIED, VOCAB, VOCABULARY, WIDTH, count, fixed, flag, number,
};
use super::{Fixed, Flag, Number};

const ATTENTION_BIAS: Flag = flag(&["attention_bias"], false);
const MLP_BIAS: Flag = flag(&["mlp_bias"], false);
const SILU: Fixed = fixed("hidden_act", Known::Text("silu"));
const RMS: &str = "attention.layer_norm_rms_epsilon";
const RMS_EPS: Number = number(&["rms_norm_eps"], RMS, 1e-6);
const EMBEDDING: Rule = Rule::matrix("model.embed_tokens", "token_embd", VOCAB, WIDTH);
const NORM: Rule = Rule::norm("model.norm", "output_norm");
const HEAD_MATRIX: Rule = Rule::matrix("lm_head", "output", VOCAB, WIDTH);
const ATTN_NORM: Rule = Rule::norm("input_layernorm", "attn_norm");
const FFN_NORM: Rule = Rule::norm("post_attention_layernorm", "ffn_norm");
const Q: Rule = Rule::matrix("self_attn.q_proj", "attn_q", QUERIES, WIDTH);
const K: Rule = Rule::matrix("self_attn.k_proj", "attn_k", KEYS, WIDTH);
const V: Rule = Rule::matrix("self_attn.v_proj", "attn_v", KEYS, WIDTH);
const O: Rule = Rule::matrix("self_attn.o_proj", "attn_output", WIDTH, QUERIES);
const GATE: Rule = Rule::matrix("mlp.gate_proj", "ffn_gate", HIDDEN, WIDTH);
const UP: Rule = Rule::matrix("mlp.up_proj", "ffn_up", HIDDEN, WIDTH);
const DOWN: Rule = Rule::matrix("mlp.down_proj", "ffn_down", WIDTH, HIDDEN);

pub(super) const LLAMA: Family = Family {
    class: "LlamaForCausalLM",
    model_type: "llama",
    architecture: "llama",
    counts: &[LAYERS, CONTEXT, SIZE, FEED_FORWARD, HEAD_COUNT, KV_HEAD_COUNT, HEAD_LENGTH, VOCABULARY],
    numbers: &[RMS_EPS],
    fixed: &[SILU],
    rotary: Some(ROTARY),
    first: &[EMBEDDING],
    layer: &[
        ATTN_NORM,
        DOWN.bias_if(MLP_BIAS),
        GATE.bias_if(MLP_BIAS),
        UP.bias_if(MLP_BIAS),
        FFN_NORM,
        K.bias_if(ATTENTION_BIAS).rotary(Axis::KvHeads),
        O.bias_if(ATTENTION_BIAS),
        Q.bias_if(ATTENTION_BIAS).rotary(Axis::Heads),
        V.bias_if(ATTENTION_BIAS),
    ],
    last: &[NORM, HEAD_MATRIX.unless(UNTIED)],
    ..BASE
};

/// Source: Liu et al. 2024, arXiv 2402.14905: Llama with a shared embedding and, in some models, layers that are
/// each used twice in a row.
pub(super) const MOBILELLM: Family = Family {
    class: "MobileLLMForCausalLM",
    model_type: "mobilellm",
    twice: Some(flag(&["layer_sharing"], false)),
    last: &[NORM, HEAD_MATRIX.unless(flag(&["share_embedding"], false))],
    ..LLAMA
};

pub(super) const QWEN2: Family = Family {
    class: "Qwen2ForCausalLM",
    model_type: "qwen2",
    architecture: "qwen2",
    fixed: &[
        SILU,
        fixed("use_sliding_window", Known::Flag(false)),
        fixed("layer_types", Known::Texts("full_attention")),
    ],
    layer: &[ATTN_NORM, DOWN, GATE, UP, FFN_NORM, K.bias(), O, Q.bias(), V.bias()],
    ..LLAMA
};

pub(super) const QWEN3: Family = Family {
    class: "Qwen3ForCausalLM",
    model_type: "qwen3",
    architecture: "qwen3",
    counts: &[
        LAYERS,
        CONTEXT,
        SIZE,
        FEED_FORWARD,
        HEAD_COUNT,
        KV_HEAD_COUNT,
        count(Axis::HeadDim, &["head_dim"], HEAD_LENGTHS, Absent::Is(128)),
        VOCABULARY,
    ],
    layer: &[
        ATTN_NORM,
        DOWN,
        GATE,
        UP,
        FFN_NORM,
        Rule::vector("self_attn.k_norm", "attn_k_norm", HEAD),
        K.bias_if(ATTENTION_BIAS),
        O.bias_if(ATTENTION_BIAS),
        Rule::vector("self_attn.q_norm", "attn_q_norm", HEAD),
        Q.bias_if(ATTENTION_BIAS),
        V.bias_if(ATTENTION_BIAS),
    ],
    ..QWEN2
};

pub(super) const GEMMA3: Family = Family {
    class: "Gemma3ForCausalLM",
    model_type: "gemma3_text",
    architecture: "gemma3",
    counts: &[
        LAYERS,
        count(Axis::Context, &["max_position_embeddings"], &["context_length"], Absent::Is(131_072)),
        SIZE,
        FEED_FORWARD,
        count(Axis::Heads, &["num_attention_heads"], &["attention.head_count"], Absent::Is(8)),
        count(Axis::KvHeads, &["num_key_value_heads"], &["attention.head_count_kv"], Absent::Is(4)),
        count(Axis::HeadDim, &["head_dim"], HEAD_LENGTHS, Absent::Is(256)),
        count(Axis::Window, &["sliding_window"], &["attention.sliding_window"], Absent::Is(4096)),
        VOCABULARY,
    ],
    numbers: &[RMS_EPS],
    fixed: &[
        fixed("hidden_activation", Known::Text("gelu_pytorch_tanh")),
        fixed("attention_bias", Known::Flag(false)),
        fixed("use_bidirectional_attention", Known::Flag(false)),
        fixed("query_pre_attn_scalar", Known::Size(Axis::HeadDim, 256)),
        fixed("attn_logit_softcapping", Known::Nothing),
        fixed("final_logit_softcapping", Known::Nothing),
    ],
    layers: Layers::Every {
        interval: 6,
        intervals: &["sliding_window_pattern", "_sliding_window_pattern"],
        list: Listed::Texts("layer_types", "sliding_attention", "full_attention"),
    },
    rotary: Some(Rotary {
        absent: 1_000_000.0,
        local: Some(LocalBase {
            key: "rope_local_base_freq",
            sections: ("full_attention", "sliding_attention"),
            absent: 10_000.0,
            gguf: "rope.freq_base_swa",
        }),
        ..ROTARY
    }),
    layer: &[
        ATTN_NORM.change(Change::AddOne),
        DOWN,
        GATE,
        UP,
        Rule::norm("post_attention_layernorm", "post_attention_norm").change(Change::AddOne),
        Rule::norm("post_feedforward_layernorm", "post_ffw_norm").change(Change::AddOne),
        Rule::norm("pre_feedforward_layernorm", "ffn_norm").change(Change::AddOne),
        Rule::vector("self_attn.k_norm", "attn_k_norm", HEAD).change(Change::AddOne),
        K,
        O,
        Rule::vector("self_attn.q_norm", "attn_q_norm", HEAD).change(Change::AddOne),
        Q,
        V,
    ],
    last: &[NORM.change(Change::AddOne), HEAD_MATRIX.unless(TIED)],
    ..LLAMA
};

pub(super) const STABLELM: Family = Family {
    class: "StableLmForCausalLM",
    model_type: "stablelm",
    architecture: "stablelm",
    counts: &[LAYERS, CONTEXT, SIZE, FEED_FORWARD, HEAD_COUNT, KV_HEAD_COUNT, NO_HEAD_LENGTH, VOCABULARY],
    numbers: &[number(&["layer_norm_eps", "norm_eps"], "attention.layer_norm_epsilon", 1e-5)],
    flags: &[FlagKey {
        flag: flag(&["use_parallel_residual"], false),
        gguf: "use_parallel_residual",
        inverted: false,
    }],
    fixed: &[
        SILU,
        fixed("use_parallel_residual", Known::Flag(false)),
        fixed("qk_layernorm", Known::Flag(false)),
    ],
    rotary: Some(Rotary { part: Some((&["partial_rotary_factor", "rope_pct"], 0.25)), ..ROTARY }),
    layer: &[
        ATTN_NORM.bias(),
        DOWN,
        GATE,
        UP,
        FFN_NORM.bias(),
        K.bias_if(flag(&["use_qkv_bias"], false)),
        O,
        Q.bias_if(flag(&["use_qkv_bias"], false)),
        V.bias_if(flag(&["use_qkv_bias"], false)),
    ],
    last: &[NORM.bias(), HEAD_MATRIX.unless(UNTIED)],
    ..LLAMA
};

/// Its norms have no weights.
pub(super) const OLMO: Family = Family {
    class: "OlmoForCausalLM",
    model_type: "olmo",
    architecture: "olmo",
    counts: &[LAYERS, CONTEXT, SIZE, FEED_FORWARD, HEAD_COUNT, KV_HEAD_COUNT, NO_HEAD_LENGTH, VOCABULARY],
    numbers: &[number(&[], "attention.layer_norm_epsilon", 1e-5)],
    fixed: &[SILU, fixed("attention_bias", Known::Flag(false)), fixed("clip_qkv", Known::Nothing)],
    layer: &[DOWN, GATE, UP, K.rotary(Axis::KvHeads), O, Q.rotary(Axis::Heads), V],
    last: &[HEAD_MATRIX.unless(UNTIED)],
    ..LLAMA
};

pub(super) const OLMO2: Family = Family {
    class: "Olmo2ForCausalLM",
    model_type: "olmo2",
    architecture: "olmo2",
    counts: &[LAYERS, CONTEXT, SIZE, FEED_FORWARD, HEAD_COUNT, KV_HEAD_COUNT, NO_HEAD_LENGTH, VOCABULARY],
    numbers: &[number(&["rms_norm_eps"], RMS, 1e-5)],
    fixed: &[SILU, fixed("attention_bias", Known::Flag(false))],
    layer: &[
        DOWN,
        GATE,
        UP,
        Rule::norm("post_attention_layernorm", "post_attention_norm"),
        Rule::norm("post_feedforward_layernorm", "post_ffw_norm"),
        Rule::vector("self_attn.k_norm", "attn_k_norm", KEYS),
        K,
        O,
        Rule::vector("self_attn.q_norm", "attn_q_norm", QUERIES),
        Q,
        V,
    ],
    ..LLAMA
};

pub(super) const SMOLLM3: Family = Family {
    class: "SmolLM3ForCausalLM",
    model_type: "smollm3",
    architecture: "smollm3",
    fixed: &[
        SILU,
        fixed("use_sliding_window", Known::Flag(false)),
        fixed("layer_types", Known::Texts("full_attention")),
        fixed("mlp_bias", Known::Flag(false)),
        fixed("attention_bias", Known::Flag(false)),
    ],
    layers: Layers::Every {
        interval: 4,
        intervals: &["no_rope_layer_interval"],
        list: Listed::Numbers("no_rope_layers", 1, 0),
    },
    rotary: Some(Rotary { absent: 2_000_000.0, ..ROTARY }),
    layer: &[ATTN_NORM, DOWN, GATE, UP, FFN_NORM, K.rotary(Axis::KvHeads), O, Q.rotary(Axis::Heads), V],
    last: &[NORM, HEAD_MATRIX.unless(TIED)],
    ..LLAMA
};

pub(super) const GRANITE: Family = Family {
    class: "GraniteForCausalLM",
    model_type: "granite",
    architecture: "granite",
    counts: &[LAYERS, CONTEXT, SIZE, FEED_FORWARD, HEAD_COUNT, KV_HEAD_COUNT, NO_HEAD_LENGTH, VOCABULARY],
    numbers: &[
        RMS_EPS,
        number(&["attention_multiplier"], "attention.scale", 1.0),
        number(&["embedding_multiplier"], "embedding_scale", 1.0),
        number(&["residual_multiplier"], "residual_scale", 1.0),
        number(&["logits_scaling"], "logit_scale", 1.0),
    ],
    ..LLAMA
};

/// Granite 4 without its experts and state spaces: a Granite whose gate and up matrices are one.
pub(super) const GRANITE_HYBRID: Family = Family {
    class: "GraniteMoeHybridForCausalLM",
    model_type: "granitemoehybrid",
    counts: &[
        LAYERS,
        CONTEXT,
        SIZE,
        count(Axis::Hidden, &["shared_intermediate_size"], &["feed_forward_length"], Absent::Refused),
        HEAD_COUNT,
        KV_HEAD_COUNT,
        NO_HEAD_LENGTH,
        VOCABULARY,
    ],
    fixed: &[
        SILU,
        fixed("layer_types", Known::AllSaid("attention")),
        fixed("num_local_experts", Known::Number(0)),
        fixed("position_embedding_type", Known::Said("rope")),
    ],
    layer: &[
        ATTN_NORM,
        Rule::matrix("shared_mlp.output_linear", "ffn_down", WIDTH, HIDDEN),
        Rule::matrix("shared_mlp.input_linear", "ffn_gate", HIDDEN, WIDTH).part(0, 2),
        Rule::matrix("shared_mlp.input_linear", "ffn_up", HIDDEN, WIDTH).part(1, 2),
        FFN_NORM,
        K.bias_if(ATTENTION_BIAS).rotary(Axis::KvHeads),
        O.bias_if(ATTENTION_BIAS),
        Q.bias_if(ATTENTION_BIAS).rotary(Axis::Heads),
        V.bias_if(ATTENTION_BIAS),
    ],
    ..GRANITE
};
