//! Families whose layers also keep a state: short convolutions, selective state spaces.

use super::{
    Absent, Axis, BASE, CONTEXT, Change, Condition, Extent, FEED_FORWARD, FUSED, Factor, Family, HEAD,
    HEAD_COUNT, HEAD_LENGTH, HIDDEN, KEYS, KV_HEAD_COUNT, Kind, Known, LAYERS, Layers, NO_HEAD_LENGTH,
    QUERIES, ROTARY, Rotary, Rule, SIZE, Shrunk, UNTIED, VOCAB, VOCABULARY, WIDTH, count, derived, fixed,
    flag, number,
};
use super::{Flag, Number};

const RMS: &str = "attention.layer_norm_rms_epsilon";
const ATTENTION: Condition = Condition::Of(Kind::Full);
const CONVOLUTION: Condition = Condition::Of(Kind::Convolution);

/// The norm of the output is called that of the embedding, by the model and by GGUF.
pub(super) const LFM2: Family = Family {
    class: "Lfm2ForCausalLM",
    model_type: "lfm2",
    architecture: "lfm2",
    counts: &[
        LAYERS,
        CONTEXT,
        SIZE,
        count(
            Axis::Hidden,
            &["block_ff_dim", "intermediate_size"],
            &["feed_forward_length"],
            Absent::Refused,
        ),
        HEAD_COUNT,
        // Written per layer.
        count(Axis::KvHeads, &["num_key_value_heads"], &[], Absent::same(&[(1, Axis::Heads)])),
        NO_HEAD_LENGTH,
        count(Axis::Taps, &["conv_L_cache"], &["shortconv.l_cache"], Absent::Is(3)),
        derived(Axis::Fused, Absent::Sum(&[(3, Axis::Width)], 0)),
        VOCABULARY,
    ],
    shrunk: Some(Shrunk {
        when: flag(&["block_auto_adjust_ff_dim"], true),
        factor: "block_ffn_dim_multiplier",
        multiple: "block_multiple_of",
        absent: 256,
    }),
    numbers: &[number(&["norm_eps"], RMS, 1e-5)],
    fixed: &[fixed("conv_bias", Known::Flag(false))],
    layers: Layers::Mixed {
        list: "layer_types",
        names: &[("full_attention", Kind::Full), ("conv", Kind::Convolution)],
        full: "full_attn_idxs",
    },
    rotary: Some(Rotary { absent: 1_000_000.0, ..ROTARY }),
    first: &[
        Rule::matrix("model.embed_tokens", "token_embd", VOCAB, WIDTH),
        Rule::norm("model.embedding_norm", "token_embd_norm"),
    ],
    layer: &[
        Rule::norm("operator_norm", "attn_norm"),
        Rule::kernel("conv.conv", "shortconv.conv", WIDTH).when(CONVOLUTION),
        Rule::matrix("conv.in_proj", "shortconv.in_proj", FUSED, WIDTH).when(CONVOLUTION),
        Rule::matrix("conv.out_proj", "shortconv.out_proj", WIDTH, WIDTH).when(CONVOLUTION),
        Rule::matrix("self_attn.q_proj", "attn_q", QUERIES, WIDTH).when(ATTENTION),
        Rule::matrix("self_attn.k_proj", "attn_k", KEYS, WIDTH).when(ATTENTION),
        Rule::matrix("self_attn.v_proj", "attn_v", KEYS, WIDTH).when(ATTENTION),
        Rule::matrix("self_attn.out_proj", "attn_output", WIDTH, QUERIES).when(ATTENTION),
        Rule::vector("self_attn.q_layernorm", "attn_q_norm", HEAD).when(ATTENTION),
        Rule::vector("self_attn.k_layernorm", "attn_k_norm", HEAD).when(ATTENTION),
        Rule::norm("ffn_norm", "ffn_norm"),
        Rule::matrix("feed_forward.w1", "ffn_gate", HIDDEN, WIDTH),
        Rule::matrix("feed_forward.w2", "ffn_down", WIDTH, HIDDEN),
        Rule::matrix("feed_forward.w3", "ffn_up", HIDDEN, WIDTH),
    ],
    last: &[Rule::matrix("lm_head", "output", VOCAB, WIDTH)
        .unless(flag(&["tie_embedding", "tie_word_embeddings"], true))],
    ..BASE
};

const STATE_HEADS: Extent = Extent::Of(Axis::StateHeads);
const STATE_WIDTH: Extent = Extent::Of(Axis::StateWidth);
const CHANNELS: Extent = Extent::Of(Axis::Channels);
const CONV_BIAS: Flag = flag(&["mamba_conv_bias"], true);
const RMS_EPS: Number = number(&["rms_norm_eps"], RMS, 1e-5);

const HEAD_FACTOR: &[Factor] = &[Factor::Key("lm_head_multiplier")];

const fn scaled(rule: Rule, factors: &'static [Factor]) -> Rule {
    rule.change(Change::Scale(factors))
}

/// Attention and a state space (Dao & Gu 2024, arXiv 2405.21060) side by side. GGUF has no keys for the
/// model's many multipliers: they go into the weights.
pub(super) const FALCON_H1: Family = Family {
    class: "FalconH1ForCausalLM",
    model_type: "falcon_h1",
    architecture: "falcon-h1",
    counts: &[
        LAYERS,
        CONTEXT,
        SIZE,
        FEED_FORWARD,
        HEAD_COUNT,
        KV_HEAD_COUNT,
        HEAD_LENGTH,
        count(Axis::Taps, &["mamba_d_conv"], &["ssm.conv_kernel"], Absent::Is(4)),
        count(Axis::StateWidth, &["mamba_d_ssm"], &["ssm.inner_size"], Absent::Refused),
        count(Axis::StateHeads, &["mamba_n_heads"], &["ssm.time_step_rank"], Absent::Refused),
        derived(Axis::StateHeadDim, Absent::Quotient(Axis::StateWidth, Axis::StateHeads)),
        count(Axis::StateSize, &["mamba_d_state"], &["ssm.state_size"], Absent::Refused),
        count(Axis::StateGroups, &["mamba_n_groups"], &["ssm.group_count"], Absent::Is(1)),
        derived(Axis::StateVectors, Absent::Product(Axis::StateSize, Axis::StateGroups)),
        derived(Axis::Channels, Absent::Sum(&[(1, Axis::StateWidth), (2, Axis::StateVectors)], 0)),
        derived(
            Axis::Fused,
            Absent::Sum(&[(1, Axis::StateWidth), (1, Axis::Channels), (1, Axis::StateHeads)], 0),
        ),
        VOCABULARY,
    ],
    numbers: &[RMS_EPS],
    fixed: &[
        fixed("hidden_act", Known::Text("silu")),
        fixed("mamba_d_head", Known::Size(Axis::StateHeadDim, 64)),
        fixed("time_step_limit", Known::Unlimited),
        fixed("mamba_rms_norm", Known::Flag(false)),
        fixed("mamba_proj_bias", Known::Flag(false)),
        fixed("attention_bias", Known::Flag(false)),
        fixed("mlp_bias", Known::Flag(false)),
        fixed("projectors_bias", Known::Flag(false)),
    ],
    rotary: Some(ROTARY),
    first: &[scaled(
        Rule::matrix("model.embed_tokens", "token_embd", VOCAB, WIDTH),
        &[Factor::Key("embedding_multiplier")],
    )],
    layer: &[
        Rule::norm("input_layernorm", "attn_norm"),
        scaled(
            Rule::matrix("self_attn.q_proj", "attn_q", QUERIES, WIDTH),
            &[Factor::Key("attention_in_multiplier")],
        ),
        scaled(
            Rule::matrix("self_attn.k_proj", "attn_k", KEYS, WIDTH),
            &[Factor::Key("key_multiplier"), Factor::Key("attention_in_multiplier")],
        ),
        scaled(
            Rule::matrix("self_attn.v_proj", "attn_v", KEYS, WIDTH),
            &[Factor::Key("attention_in_multiplier")],
        ),
        scaled(
            Rule::matrix("self_attn.o_proj", "attn_output", WIDTH, QUERIES),
            &[Factor::Key("attention_out_multiplier")],
        ),
        scaled(
            Rule::matrix("mamba.in_proj", "ssm_in", FUSED, WIDTH),
            &[
                Factor::Key("ssm_in_multiplier"),
                Factor::Rows(
                    "ssm_multipliers",
                    &[
                        Axis::StateWidth,
                        Axis::StateWidth,
                        Axis::StateVectors,
                        Axis::StateVectors,
                        Axis::StateHeads,
                    ],
                ),
            ],
        ),
        Rule::kernel("mamba.conv1d", "ssm_conv1d", CHANNELS).bias_if(CONV_BIAS),
        Rule::vector("mamba.dt_bias", "ssm_dt.bias", STATE_HEADS).bare(),
        Rule::column("mamba.A_log", "ssm_a", STATE_HEADS).change(Change::NegativeExp),
        Rule::column("mamba.D", "ssm_d", STATE_HEADS),
        scaled(
            Rule::matrix("mamba.out_proj", "ssm_out", WIDTH, STATE_WIDTH),
            &[Factor::Key("ssm_out_multiplier")],
        ),
        // llama.cpp's name of it has no ending.
        Rule::norm("pre_ff_layernorm.weight", "ffn_norm").bare(),
        scaled(
            Rule::matrix("feed_forward.gate_proj", "ffn_gate", HIDDEN, WIDTH),
            &[Factor::Entry("mlp_multipliers", 0)],
        ),
        Rule::matrix("feed_forward.up_proj", "ffn_up", HIDDEN, WIDTH),
        scaled(
            Rule::matrix("feed_forward.down_proj", "ffn_down", WIDTH, HIDDEN),
            &[Factor::Entry("mlp_multipliers", 1)],
        ),
    ],
    last: &[
        Rule::norm("model.final_layernorm", "output_norm"),
        scaled(Rule::matrix("lm_head", "output", VOCAB, WIDTH), HEAD_FACTOR).unless(UNTIED),
        // The embedding of the output has a multiplier of its own.
        scaled(Rule::matrix("model.embed_tokens", "output", VOCAB, WIDTH), HEAD_FACTOR)
            .when(Condition::If(UNTIED)),
    ],
    ..BASE
};
