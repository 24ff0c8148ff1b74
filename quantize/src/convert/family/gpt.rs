//! Families with two feed-forward matrices, biases and layer norms.

use super::{
    Absent, Axis, BASE, CONTEXT, Choice, Condition, Extent, FEED_FORWARD, FUSED, Family, FlagKey, HEAD_COUNT,
    HIDDEN, KEYS, KV_HEAD_COUNT, Kind, Known, LAYERS, Layers, NO_HEAD_LENGTH, NO_KV_HEAD_COUNT, QUERIES,
    ROTARY, Rotary, Rule, SIZE, TIED, UNTIED, VOCAB, VOCABULARY, WIDTH, count, derived, fixed, flag, number,
};
use super::{Count, Fixed, Flag};

const EPS: &str = "attention.layer_norm_epsilon";
const POSITIONS: Extent = Extent::Of(Axis::Positions);
/// Query, key and value rows.
const QKV: Count = derived(Axis::Fused, Absent::Sum(&[(3, Axis::Width)], 0));
const TABLE: Count = derived(Axis::Positions, Absent::same(&[(1, Axis::Context)]));
/// Four times the width.
const WIDE: Absent = Absent::Sum(&[(4, Axis::Width)], 0);
const WTE: Rule = Rule::matrix("transformer.wte", "token_embd", VOCAB, WIDTH);
const WPE: Rule = Rule::table("transformer.wpe", "position_embd", POSITIONS, 0);
const LN_F: Rule = Rule::norm("transformer.ln_f", "output_norm").bias();
const LN_1: Rule = Rule::norm("ln_1", "attn_norm").bias();
const LN_2: Rule = Rule::norm("ln_2", "ffn_norm").bias();
const HEAD: Rule = Rule::matrix("lm_head", "output", VOCAB, WIDTH);

pub(super) const GPT2: Family = Family {
    class: "GPT2LMHeadModel",
    model_type: "gpt2",
    architecture: "gpt2",
    counts: &[
        count(Axis::Layers, &["n_layer"], &["block_count"], Absent::Refused),
        count(Axis::Context, &["n_positions", "n_ctx"], &["context_length"], Absent::Refused),
        count(Axis::Width, &["n_embd"], &["embedding_length"], Absent::Refused),
        count(Axis::Hidden, &["n_inner"], &["feed_forward_length"], WIDE),
        count(Axis::Heads, &["n_head"], &["attention.head_count"], Absent::Refused),
        NO_KV_HEAD_COUNT,
        NO_HEAD_LENGTH,
        QKV,
        TABLE,
        VOCABULARY,
    ],
    numbers: &[number(&["layer_norm_epsilon"], EPS, 1e-5)],
    choices: &[Choice {
        config: "activation_function",
        known: &[("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("gelu", "gelu")],
        gguf: "activation",
    }],
    fixed: &[
        fixed("scale_attn_weights", Known::Flag(true)),
        fixed("scale_attn_by_inverse_layer_idx", Known::Flag(false)),
        fixed("add_cross_attention", Known::Flag(false)),
    ],
    base: "transformer.",
    first: &[WTE, WPE],
    layer_prefix: "transformer.h.",
    layer: &[
        LN_1,
        Rule::transposed("attn.c_attn", "attn_qkv", FUSED, WIDTH).bias(),
        Rule::transposed("attn.c_proj", "attn_output", WIDTH, QUERIES).bias(),
        LN_2,
        Rule::transposed("mlp.c_fc", "ffn_up", HIDDEN, WIDTH).bias(),
        Rule::transposed("mlp.c_proj", "ffn_down", WIDTH, HIDDEN).bias(),
    ],
    last: &[LN_F, HEAD.unless(TIED)],
    ignored: &[".attn.bias", ".attn.masked_bias"],
    ..BASE
};

pub(super) const GPT_NEOX: Family = Family {
    class: "GPTNeoXForCausalLM",
    model_type: "gpt_neox",
    architecture: "gptneox",
    counts: &[
        LAYERS,
        CONTEXT,
        SIZE,
        FEED_FORWARD,
        HEAD_COUNT,
        NO_KV_HEAD_COUNT,
        NO_HEAD_LENGTH,
        QKV,
        VOCABULARY,
    ],
    numbers: &[number(&["layer_norm_eps"], EPS, 1e-5)],
    flags: &[FlagKey {
        flag: flag(&["use_parallel_residual"], true),
        gguf: "use_parallel_residual",
        inverted: false,
    }],
    fixed: &[fixed("hidden_act", Known::Text("gelu")), fixed("attention_bias", Known::Flag(true))],
    rotary: Some(Rotary {
        part: Some((&["rotary_pct", "partial_rotary_factor"], 0.25)),
        base: &["rotary_emb_base", "rope_theta"],
        ..ROTARY
    }),
    first: &[Rule::matrix("gpt_neox.embed_in", "token_embd", VOCAB, WIDTH)],
    layer_prefix: "gpt_neox.layers.",
    layer: &[
        Rule::norm("input_layernorm", "attn_norm").bias(),
        Rule::matrix("attention.query_key_value", "attn_qkv", FUSED, WIDTH).bias().by_part(Axis::Heads),
        Rule::matrix("attention.dense", "attn_output", WIDTH, QUERIES).bias(),
        Rule::norm("post_attention_layernorm", "ffn_norm").bias(),
        Rule::matrix("mlp.dense_h_to_4h", "ffn_up", HIDDEN, WIDTH).bias(),
        Rule::matrix("mlp.dense_4h_to_h", "ffn_down", WIDTH, HIDDEN).bias(),
    ],
    last: &[
        Rule::norm("gpt_neox.final_layer_norm", "output_norm").bias(),
        Rule::matrix("embed_out", "output", VOCAB, WIDTH).unless(UNTIED),
    ],
    ignored: &[".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq"],
    ..BASE
};

/// Scores are not scaled, and every other layer has a window.
pub(super) const GPT_NEO: Family = Family {
    class: "GPTNeoForCausalLM",
    model_type: "gpt_neo",
    architecture: "gptneo",
    counts: &[
        count(Axis::Layers, &["num_layers"], &["block_count"], Absent::Refused),
        CONTEXT,
        SIZE,
        count(Axis::Hidden, &["intermediate_size"], &["feed_forward_length"], WIDE),
        count(Axis::Heads, &["num_heads"], &["attention.head_count"], Absent::Refused),
        NO_KV_HEAD_COUNT,
        NO_HEAD_LENGTH,
        TABLE,
        count(Axis::Window, &["window_size"], &["attention.sliding_window"], Absent::Is(256)),
        VOCABULARY,
    ],
    numbers: &[number(&["layer_norm_epsilon"], EPS, 1e-5), number(&[], "attention.scale", 1.0)],
    fixed: &[fixed("activation_function", Known::Text("gelu_new"))],
    layers: Layers::Repeated {
        list: "attention_types",
        names: &[("global", Kind::Full), ("local", Kind::Local)],
        gguf: "attention.sliding_window_pattern",
    },
    base: "transformer.",
    first: &[WTE, WPE],
    layer_prefix: "transformer.h.",
    layer: &[
        LN_1,
        Rule::matrix("attn.attention.q_proj", "attn_q", QUERIES, WIDTH),
        Rule::matrix("attn.attention.k_proj", "attn_k", KEYS, WIDTH),
        Rule::matrix("attn.attention.v_proj", "attn_v", KEYS, WIDTH),
        Rule::matrix("attn.attention.out_proj", "attn_output", WIDTH, QUERIES).bias(),
        LN_2,
        Rule::matrix("mlp.c_fc", "ffn_up", HIDDEN, WIDTH).bias(),
        Rule::matrix("mlp.c_proj", "ffn_down", WIDTH, HIDDEN).bias(),
    ],
    last: &[LN_F, HEAD.unless(TIED)],
    ignored: &[".attn.attention.bias", ".attn.attention.masked_bias"],
    ..BASE
};

/// Rows of the table of positions that no position uses.
const OPT_OFFSET: u64 = 2;
const OPT_BIAS: Flag = flag(&["enable_bias"], true);
const OPT_PRE_NORM: Flag = flag(&["do_layer_norm_before"], true);
const EMBEDDING: Extent = Extent::Of(Axis::Embedding);

/// In the model of 350M the norms follow the residual sums and the embedding has a width of its own.
pub(super) const OPT: Family = Family {
    class: "OPTForCausalLM",
    model_type: "opt",
    architecture: "opt",
    counts: &[
        LAYERS,
        CONTEXT,
        SIZE,
        Count {
            usual: Some(Axis::Width),
            ..count(
                Axis::Embedding,
                &["word_embed_proj_dim"],
                &["word_embedding_length"],
                Absent::same(&[(1, Axis::Width)]),
            )
        },
        count(Axis::Hidden, &["ffn_dim"], &["feed_forward_length"], Absent::Refused),
        HEAD_COUNT,
        NO_KV_HEAD_COUNT,
        NO_HEAD_LENGTH,
        derived(Axis::Positions, Absent::Sum(&[(1, Axis::Context)], OPT_OFFSET)),
        VOCABULARY,
    ],
    numbers: &[number(&[], EPS, 1e-5)],
    flags: &[FlagKey { flag: OPT_PRE_NORM, gguf: "post_norm", inverted: true }],
    choices: &[Choice { config: "activation_function", known: &[("relu", "relu")], gguf: "activation" }],
    fixed: &[
        fixed("_remove_final_layer_norm", Known::Flag(false)),
        fixed("layer_norm_elementwise_affine", Known::Flag(true)),
    ],
    base: "model.",
    first: &[
        Rule::matrix("model.decoder.embed_tokens", "token_embd", VOCAB, EMBEDDING),
        Rule::matrix("model.decoder.project_in", "token_embd_proj", WIDTH, EMBEDDING)
            .when(Condition::Differ(Axis::Embedding, Axis::Width)),
        Rule::table("model.decoder.embed_positions", "position_embd", POSITIONS, OPT_OFFSET),
    ],
    layer_prefix: "model.decoder.layers.",
    layer: &[
        Rule::norm("self_attn_layer_norm", "attn_norm").bias(),
        Rule::matrix("self_attn.q_proj", "attn_q", QUERIES, WIDTH).bias_if(OPT_BIAS),
        Rule::matrix("self_attn.k_proj", "attn_k", KEYS, WIDTH).bias_if(OPT_BIAS),
        Rule::matrix("self_attn.v_proj", "attn_v", KEYS, WIDTH).bias_if(OPT_BIAS),
        Rule::matrix("self_attn.out_proj", "attn_output", WIDTH, QUERIES).bias_if(OPT_BIAS),
        Rule::norm("final_layer_norm", "ffn_norm").bias(),
        Rule::matrix("fc1", "ffn_up", HIDDEN, WIDTH).bias_if(OPT_BIAS),
        Rule::matrix("fc2", "ffn_down", WIDTH, HIDDEN).bias_if(OPT_BIAS),
    ],
    last: &[
        Rule::norm("model.decoder.final_layer_norm", "output_norm").bias().when(Condition::If(OPT_PRE_NORM)),
        Rule::matrix("model.decoder.project_out", "output_proj", EMBEDDING, WIDTH)
            .when(Condition::Differ(Axis::Embedding, Axis::Width)),
        Rule::matrix("lm_head", "output", VOCAB, EMBEDDING).unless(TIED),
    ],
    ignored: &[],
    ..BASE
};

const BLOOM_SHAPE: Fixed = fixed("apply_residual_connection_post_layernorm", Known::Flag(false));

/// Positions are slopes on the scores (Press et al. 2021, arXiv 2108.12409), which the number of heads gives.
pub(super) const BLOOM: Family = Family {
    class: "BloomForCausalLM",
    model_type: "bloom",
    architecture: "bloom",
    counts: &[
        count(Axis::Layers, &["n_layer", "num_hidden_layers"], &["block_count"], Absent::Refused),
        count(Axis::Context, &["seq_length"], &["context_length"], Absent::Is(2048)),
        count(Axis::Width, &["hidden_size", "n_embed"], &["embedding_length"], Absent::Refused),
        count(Axis::Hidden, &["n_inner"], &["feed_forward_length"], WIDE),
        count(Axis::Heads, &["n_head", "num_attention_heads"], &["attention.head_count"], Absent::Refused),
        count(Axis::KvHeads, &[], &["attention.head_count_kv"], Absent::same(&[(1, Axis::Heads)])),
        NO_HEAD_LENGTH,
        QKV,
        VOCABULARY,
    ],
    numbers: &[number(&["layer_norm_epsilon"], EPS, 1e-5)],
    fixed: &[BLOOM_SHAPE],
    base: "transformer.",
    first: &[
        Rule::matrix("transformer.word_embeddings", "token_embd", VOCAB, WIDTH),
        Rule::norm("transformer.word_embeddings_layernorm", "token_embd_norm").bias(),
    ],
    layer_prefix: "transformer.h.",
    layer: &[
        Rule::norm("input_layernorm", "attn_norm").bias(),
        Rule::matrix("self_attention.query_key_value", "attn_qkv", FUSED, WIDTH).bias().by_part(Axis::Heads),
        Rule::matrix("self_attention.dense", "attn_output", WIDTH, QUERIES).bias(),
        Rule::norm("post_attention_layernorm", "ffn_norm").bias(),
        Rule::matrix("mlp.dense_h_to_4h", "ffn_up", HIDDEN, WIDTH).bias(),
        Rule::matrix("mlp.dense_4h_to_h", "ffn_down", WIDTH, HIDDEN).bias(),
    ],
    last: &[LN_F, HEAD.unless(TIED)],
    ignored: &[],
    ..BASE
};

/// Attention and feed-forward layer read the same norm.
pub(super) const PHI: Family = Family {
    class: "PhiForCausalLM",
    model_type: "phi",
    architecture: "phi2",
    counts: &[
        LAYERS,
        CONTEXT,
        SIZE,
        count(Axis::Hidden, &["intermediate_size"], &["feed_forward_length"], WIDE),
        HEAD_COUNT,
        KV_HEAD_COUNT,
        NO_HEAD_LENGTH,
        VOCABULARY,
    ],
    numbers: &[number(&["layer_norm_eps"], EPS, 1e-5)],
    fixed: &[fixed("hidden_act", Known::Text("gelu_new")), fixed("qk_layernorm", Known::Flag(false))],
    rotary: Some(Rotary { part: Some((&["partial_rotary_factor"], 0.5)), ..ROTARY }),
    first: &[Rule::matrix("model.embed_tokens", "token_embd", VOCAB, WIDTH)],
    layer: &[
        Rule::norm("input_layernorm", "attn_norm").bias(),
        Rule::matrix("self_attn.q_proj", "attn_q", QUERIES, WIDTH).bias(),
        Rule::matrix("self_attn.k_proj", "attn_k", KEYS, WIDTH).bias(),
        Rule::matrix("self_attn.v_proj", "attn_v", KEYS, WIDTH).bias(),
        Rule::matrix("self_attn.dense", "attn_output", WIDTH, QUERIES).bias(),
        Rule::matrix("mlp.fc1", "ffn_up", HIDDEN, WIDTH).bias(),
        Rule::matrix("mlp.fc2", "ffn_down", WIDTH, HIDDEN).bias(),
    ],
    last: &[Rule::norm("model.final_layernorm", "output_norm").bias(), HEAD.bias().unless(UNTIED)],
    ..BASE
};
