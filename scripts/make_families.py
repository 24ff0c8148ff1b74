#!/usr/bin/env python3
"""Makes one tiny, randomly initialised model per family, with logits and greedy tokens of `transformers`.

Writes DIR/tokenizer.json (one byte-level tokenizer for all) and, for every family, DIR/NAME/ with

    config.json        as `transformers` writes it; where FIXTURES says so, in the form of older checkpoints
    model.safetensors  F16
    golden.json        what the model says, computed in F32 from the folder as it was saved:
        prompts        [{ids, logits: [{position, values [vocab], half_cache [vocab]}]}]: logits of the token that
                       follows the one at `position`; half_cache, of the last alone, is what they are where keys
                       and values are rounded to F16 on their way into the cache, and nothing else is
        greedy         {prompt, tokens, gaps}: the tokens of highest logit, and by how much they lead

Weights are far from their usual small values, so that logits differ clearly and a forgotten bias, norm or
multiplier is seen. All are F16 numbers, multipliers that a converter folds into them powers of two: nothing is lost
by storing them. Every model has matrices with rows of whole blocks, to be quantized, and some have others too. One
prompt is longer than any sliding window. Seeds are fixed; each is the first that `will_do`.

Usage: make_families.py DIR [NAME...]      needs: pip install torch transformers tokenizers
"""

import copy
import json
import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.masking_utils import eager_mask
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

VOCAB = 288
CONTEXT = 128
GREEDY = 40
MIN_GAP = 0.02
MIN_DISTINCT = 10
MAX_DOUBT = 2.5e-4
DIGITS = 5
PROMPTS = [
    [72, 11, 203],
    [5, 61, 61, 140, 7, 99, 250, 18, 33, 200, 41],
    [(i * 79 + i * i * 5 + 13) % 280 for i in range(45)],
]

PAIRS = dict(bos_token_id=280, eos_token_id=281, pad_token_id=None)
SMALL = dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, **PAIRS)

# name: (model_type, arguments of its configuration, keys of config.json in the form of older checkpoints)
FIXTURES = {
    "llama": ("llama", dict(
        SMALL, hidden_size=64, intermediate_size=88, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, attention_bias=True, rms_norm_eps=1e-5,
        rope_parameters=dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0,
                             high_freq_factor=4.0, original_max_position_embeddings=32)), {}),
    "mobilellm": ("llama", dict(
        SMALL, hidden_size=32, intermediate_size=96, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True), {}),
    "qwen2": ("qwen2", dict(
        SMALL, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
        dict(rope_theta=1e6, rope_parameters=None)),
    "qwen3": ("qwen3", dict(
        SMALL, hidden_size=40, intermediate_size=104, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e6)), {}),
    "gemma3": ("gemma3_text", dict(
        SMALL, hidden_size=32, intermediate_size=56, num_hidden_layers=7, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, sliding_window=8), {}),
    "gpt2": ("gpt2", dict(
        vocab_size=VOCAB, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=4, n_inner=96, **PAIRS), {}),
    "cerebras": ("gpt2", dict(
        vocab_size=VOCAB, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2, n_inner=None,
        activation_function="gelu", **PAIRS), {}),
    "gptneox": ("gpt_neox", dict(
        SMALL, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        use_parallel_residual=True,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25)),
        dict(rotary_pct=0.25, rotary_emb_base=10000, rope_parameters=None)),
    "gptneox-sequential": ("gpt_neox", dict(
        SMALL, hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        use_parallel_residual=False,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)), {}),
    "opt": ("opt", dict(
        SMALL, hidden_size=64, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=64), {}),
    "opt-post-norm": ("opt", dict(
        SMALL, hidden_size=64, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32,
        do_layer_norm_before=False), {}),
    "gptneo": ("gpt_neo", dict(
        SMALL, hidden_size=48, num_layers=4, num_heads=3, intermediate_size=160, window_size=8,
        attention_types=[[["global", "local"], 2]]), {}),
    "bloom": ("bloom", dict(
        vocab_size=VOCAB, hidden_size=64, n_layer=2, n_head=4, **PAIRS), dict(seq_length=CONTEXT)),
    "phi": ("phi", dict(
        SMALL, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)), {}),
    "stablelm": ("stablelm", dict(
        SMALL, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, use_qkv_bias=True,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.25)), {}),
    "olmo": ("olmo", dict(
        SMALL, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1), {}),
    "olmo2": ("olmo2", dict(
        SMALL, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1), {}),
    "smollm3": ("smollm3", dict(
        SMALL, hidden_size=32, intermediate_size=72, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2), {}),
    "granite": ("granite", dict(
        SMALL, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, embedding_multiplier=3.0, logits_scaling=0.7, residual_multiplier=0.4,
        attention_multiplier=0.3, tie_word_embeddings=True), {}),
    "lfm2": ("lfm2", dict(
        SMALL, hidden_size=32, intermediate_size=140, block_multiple_of=8, num_hidden_layers=4,
        num_attention_heads=2, num_key_value_heads=1, conv_L_cache=3,
        layer_types=["conv", "full_attention", "conv", "full_attention"]), {}),
    "falcon-h1": ("falcon_h1", dict(
        SMALL, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=16, mamba_d_ssm=48, mamba_n_heads=6, mamba_d_head=8, mamba_n_groups=2,
        mamba_d_state=16, mamba_d_conv=4, mamba_chunk_size=16, embedding_multiplier=2.0, lm_head_multiplier=2.0,
        mlp_multipliers=[0.5, 2.0], key_multiplier=0.5, attention_in_multiplier=2.0, attention_out_multiplier=0.5,
        ssm_multipliers=[0.5, 2.0, 0.25, 4.0, 0.5], ssm_in_multiplier=0.5, ssm_out_multiplier=2.0), {}),
}

HEADS = ("lm_head.weight", "embed_out.weight")
LAST_NORMS = (".norm.weight", "ln_f.weight", "final_layer_norm.weight", "final_layernorm.weight", "embedding_norm.weight")

POSITION = 0.1

# Sharing of layers: each of the stored layers is used this many times in a row.
USES = {"mobilellm": 2}


def tokenizer():
    """All bytes, some merges and some tokens of their own: VOCAB tokens."""
    merges = ["Ġ t", "h e", "Ġt he", "i n", "e r", "Ġ a", "a n", "an d", "Ġ and", "o n", "Ġ o", "Ġo f", "in g", "e d",
              "r e", "Ġ s", "l l", "1 2", "Ġ Ġ", "' s", "Ġ 1", "Ġ i", "o r", "e n"]
    merges = [tuple(merge.split(" ")) for merge in merges]
    texts = sorted(pre_tokenizers.ByteLevel.alphabet()) + [left + right for left, right in merges]
    result = Tokenizer(models.BPE({text: i for i, text in enumerate(texts)}, merges))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens(["<|start|>", "<|end|>"])
    result.add_tokens([f"<|extra{i}|>" for i in range(VOCAB - result.get_vocab_size())])
    assert result.token_to_id("<|start|>") == 280 and result.get_vocab_size() == VOCAB
    return result


def embedding_scale(multiplied):
    """Standard deviation of embeddings; smaller where the model multiplies them."""
    return 0.05 if multiplied else 0.25


def values(module, name, tensor, zero_centred, random):
    """Random values of a parameter of a module."""
    noise = torch.randn(tensor.shape, generator=random)
    if name.endswith(".A_log"):
        return torch.log(1.0 + 6.0 * torch.rand(tensor.shape, generator=random))
    if tensor.ndim == 1:
        is_factor = name.endswith((".weight", ".D"))
        return (1.0 if is_factor and not zero_centred else 0.0) + 0.3 * noise
    if tensor.ndim == 3:
        return noise / tensor.shape[-1] ** 0.5
    if isinstance(module, nn.Embedding):
        return (POSITION if "position" in name or "wpe" in name else embedding_scale(zero_centred)) * noise
    inputs = tensor.shape[0] if isinstance(module, Conv1D) else tensor.shape[1]
    return (2.6 if name.endswith(HEADS) else 1.3) * noise / inputs ** 0.5


def fill(model, model_type, seed):
    """Sets all parameters to F16 numbers."""
    random = torch.Generator().manual_seed(seed)
    for path, module in model.named_modules():
        for part, tensor in module.named_parameters(path, recurse=False):
            new = values(module, part, tensor, model_type == "gemma3_text", random)
            if part.endswith(LAST_NORMS) and "layers." not in part and model.config.tie_word_embeddings:
                # Without random signs the best token after any other is that token itself.
                new = 0.9 * torch.randn(tensor.shape, generator=random) - float(model_type == "gemma3_text")
            with torch.no_grad():
                tensor.copy_(new.half().float())


def halves(x):
    return x.half().to(x.dtype)


def half_cache_attention(module, query, key, value, attention_mask, scaling=None, **_):
    """Attention to keys and values that a cache of halves has held."""
    key, value = (halves(x).repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    weights = (scores + attention_mask[..., : key.shape[2]].to(scores.dtype)).softmax(dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def rounded_outputs(model):
    """Hooks where attention is not made of the common function: keys and values are what matrices put out."""
    def whole(module, _, output):
        return halves(output)

    def parts(module, _, output):
        heads = output.unflatten(-1, (model.config.n_head, 3, -1)).clone()
        heads[..., 1:, :] = halves(heads[..., 1:, :])
        return heads.flatten(-3)

    names, hook = {"gpt_neo": ((".k_proj", ".v_proj"), whole), "bloom": (".query_key_value", parts)}.get(
        model.config.model_type, ((), None))
    return [module.register_forward_hook(hook) for name, module in model.named_modules() if name.endswith(names)]


def half_cache_logits(model, ids):
    hooks = rounded_outputs(model)
    if not hooks:
        model.set_attn_implementation("half_cache")
    result = logits(model, ids)
    if not hooks:
        model.set_attn_implementation("eager")
    for hook in hooks:
        hook.remove()
    return result


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, prompt, least=0.0):
    """The tokens of highest logit and by how much they lead; ends early at one that leads by less than `least`."""
    ids, gaps = list(prompt), []
    while len(gaps) < GREEDY and min(gaps, default=least) >= least:
        best = logits(model, ids)[-1].topk(2)
        gaps.append((best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return ids[len(prompt):], gaps


def rounded(values):
    return [round(x, DIGITS) for x in values.tolist()]


def will_do(model):
    """Whether the greedy tokens lead clearly and do not soon repeat, and no key or value is so near the middle
    between two halves that the last bit of F32 decides to which it is rounded."""
    exact = copy.deepcopy(model).double()
    for ids in PROMPTS:
        if (half_cache_logits(exact, ids)[-1] - half_cache_logits(model, ids)[-1]).abs().max() > MAX_DOUBT:
            return False
    tokens, gaps = greedy(model, PROMPTS[1], MIN_GAP)
    return min(gaps) >= MIN_GAP and len(set(tokens)) >= MIN_DISTINCT


def golden(model):
    """Contents of golden.json."""
    tokens, gaps = greedy(model, PROMPTS[1])
    prompts = []
    for ids in PROMPTS:
        all_logits = logits(model, ids)
        at = sorted({len(ids) // 2, len(ids) - 1})
        rows = [dict(position=i, values=rounded(all_logits[i])) for i in at]
        rows[-1]["half_cache"] = rounded(half_cache_logits(model, ids)[-1])
        prompts.append(dict(ids=ids, logits=rows))
    return dict(prompts=prompts, greedy=dict(prompt=PROMPTS[1], tokens=tokens, gaps=[round(x, 3) for x in gaps]))


def rewrite(folder, changes):
    """Changes keys of config.json; removes those that become None."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    config = {key: value for key, value in config.items() if value is not None or key not in changes}
    config.pop("transformers_version", None)
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def share_layers(model, uses):
    """Lets every `uses` layers in a row be the same."""
    layers = model.model.layers
    for i, layer in enumerate(layers):
        layer.load_state_dict(layers[i - i % uses].state_dict())


def save_shared(model, folder, uses):
    """Saves what MobileLLM's own code would: one of the layers that are the same, and the embedding, which is the
    head by a key of its own."""
    layers = model.model.layers
    config = LlamaConfig(**{**model.config.to_dict(), "num_hidden_layers": len(layers) // uses})
    short = LlamaForCausalLM(config)
    rest = {name: tensor for name, tensor in model.state_dict().items() if ".layers." not in name}
    kept = {f"model.layers.{i}.{name}": tensor for i in range(len(layers) // uses)
            for name, tensor in layers[i * uses].state_dict().items()}
    short.load_state_dict(rest | kept)
    short.half().save_pretrained(folder)
    rewrite(folder, dict(architectures=["MobileLLMForCausalLM"], model_type="mobilellm", layer_sharing=True,
                         share_embedding=True, tie_word_embeddings=False, rope_theta=10000.0, rope_parameters=None))


def make(name, folder):
    model_type, arguments, old = FIXTURES[name]
    config = AutoConfig.for_model(model_type, **arguments)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for seed in range(1, 1000):
        fill(model, model_type, seed)
        if name in USES:
            share_layers(model, USES[name])
        if will_do(model):
            break
    else:
        raise SystemExit(f"{name}: no seed will do")
    if name in USES:
        save_shared(model, folder, USES[name])
        result = golden(model)
    else:
        model.half().save_pretrained(folder)
        rewrite(folder, old)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        result = golden(model.eval())
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "golden.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    spread = torch.tensor(result["prompts"][2]["logits"][-1]["values"]).std().item()
    print(f"{name}: seed {seed}, {size} bytes, logits spread {spread:.2f}, "
          f"least gap {min(result['greedy']['gaps'])}, {len(set(result['greedy']['tokens']))} tokens")


def main():
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    (root / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer().to_str()), ensure_ascii=False,
                                                    separators=(",", ":")) + "\n")
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    AttentionInterface.register("half_cache", half_cache_attention)
    AttentionMaskInterface.register("half_cache", eager_mask)
    for name in sys.argv[2:] or FIXTURES:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
        make(name, root / name)


if __name__ == "__main__":
    main()
