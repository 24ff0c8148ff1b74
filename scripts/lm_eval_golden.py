#!/usr/bin/env python3
"""Evaluates tests/data/eval with lm-evaluation-harness as published, on `transformers`, for tests to compare with.

Writes OUT (tests/data/eval/golden.json), two runs of the demo model's weights in F32:

    plain   all tasks
    chat    those of CHAT, by the model's chat template

each with

    results   {task: {"metric,filter": value, "metric_stderr,filter": value}}
    samples   {task: [sample]}: doc_id, filter, target, arguments [[text]], resps, the metrics and the hashes

The model and its tokenizer are read from the GGUF file, by `transformers` and by the vocabulary's definition, so no
code of this project takes part.

Usage: lm_eval_golden.py [OUT]      needs: pip install lm-eval[hf] sacrebleu gguf torch transformers
"""

import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests/data/eval"
MODEL = ROOT / "tests/data/demo/demo-f16.gguf"
CONTEXT = 128
RESAMPLES = 1000
CHAT = ["golden_choices", "golden_replies"]
SAMPLE_KEYS = ["doc_id", "filter", "target", "doc_hash", "prompt_hash", "target_hash"]

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", DISABLE_MULTIPROC="1", TOKENIZERS_PARALLELISM="false")
os.environ["HF_HOME"] = CACHE = tempfile.mkdtemp()

import gguf  # noqa: E402
import torch  # noqa: E402
from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: E402

CONTROL = 3


def tokenizer(path):
    """The byte-level vocabulary of a GGUF file of the kind `gpt2` with the pre-tokenizer `gpt-2`."""
    fields = gguf.GGUFReader(path).fields
    field = lambda name: fields[f"tokenizer.{name}"].contents()
    assert (field("ggml.model"), field("ggml.pre")) == ("gpt2", "gpt-2")
    tokens, kinds = field("ggml.tokens"), field("ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field("ggml.merges")]
    bpe = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = decoders.ByteLevel()
    controls = [token for token, kind in zip(tokens, kinds) if kind == CONTROL]
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in controls])
    assert bpe.get_vocab_size() == len(tokens)
    piece = lambda name: tokens[field(f"ggml.{name}_token_id")]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=piece("bos"), eos_token=piece("eos"), pad_token=piece("padding"),
        clean_up_tokenization_spaces=False)
    fast.chat_template = field("chat_template")
    return fast


def trimmed(sample):
    kept = {key: sample[key] for key in SAMPLE_KEYS}
    kept["arguments"] = [[value for value in request if isinstance(value, str)] for request in sample["arguments"]]
    kept["resps"] = sample["resps"]
    kept["metrics"] = {name: sample[name] for name in sample["metrics"]}
    return kept


def evaluate(model, tasks, manager, chat):
    found = simple_evaluate(
        model, tasks=tasks, task_manager=manager, bootstrap_iters=RESAMPLES, apply_chat_template=chat,
        fewshot_as_multiturn=chat)
    numbers = lambda result: {name: value for name, value in result.items() if isinstance(value, float)}
    return {
        "results": {task: numbers(result) for task, result in found["results"].items()},
        "samples": {task: [trimmed(sample) for sample in found["samples"][task]] for task in tasks},
    }


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else FOLDER / "golden.json").resolve()
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_pretrained(MODEL.parent, gguf_file=MODEL.name, dtype=torch.float32).eval()
    model = HFLM(pretrained=network, tokenizer=tokenizer(MODEL), batch_size=1, max_length=CONTEXT, device="cpu")
    os.chdir(FOLDER)
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    names = sorted(f"golden_{path.stem}" for path in FOLDER.glob("*.yaml"))
    runs = {"plain": evaluate(model, names, manager, False), "chat": evaluate(model, CHAT, manager, True)}
    out.write_text(json.dumps(runs, ensure_ascii=False, indent=1, default=str) + "\n")
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
