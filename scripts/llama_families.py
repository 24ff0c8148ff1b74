#!/usr/bin/env python3
"""Perplexity of every family's tiny model, as `smolt-quantize convert` writes it, in smolt and in llama.cpp.

    scripts/llama_families.py TEXT [--chunks N] [--type f16]

Converts each folder of tests/data/families, measures both sides on the same tokens (chunks of 128, of which the second
halves count, as llama-perplexity does) and prints a table. Ends with 1 if a model differs by more than 0.5 %, or if
llama.cpp cannot load one of a family that it has. Needs target/release and: pip install llama-cpp-python numpy
"""

import argparse
import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ROOT / "tests/data/families"
CHUNK = 128
LIMIT = 0.005
# Families whose GGUF form is smolt's own.
UNKNOWN = {"opt", "opt-post-norm", "gptneo"}


def run(*command) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


class Llama:
    """A model in llama.cpp, with a cache of single precision."""

    def __init__(self, path: Path):
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path.name}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = CHUNK
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.batch = llama_cpp.llama_batch_init(CHUNK, 0, 1)

    def __del__(self):
        if getattr(self, "context", None):
            llama_cpp.llama_batch_free(self.batch)
            llama_cpp.llama_free(self.context)
        if getattr(self, "model", None):
            llama_cpp.llama_model_free(self.model)

    def tokenize(self, text: bytes) -> list[int]:
        room = (llama_cpp.llama_token * (len(text) + 8))()
        count = llama_cpp.llama_tokenize(self.vocab, text, len(text), room, len(room), True, False)
        return list(room[:count])

    def logits(self, tokens: list[int]) -> numpy.ndarray:
        """[token, vocab]"""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        self.batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i] = token, i
            self.batch.n_seq_id[i], self.batch.seq_id[i][0], self.batch.logits[i] = 1, 0, 1
        if llama_cpp.llama_decode(self.context, self.batch) != 0:
            raise RuntimeError("llama_decode failed")
        size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        rows = [llama_cpp.llama_get_logits_ith(self.context, i)[:size] for i in range(len(tokens))]
        return numpy.array(rows, dtype=numpy.float64)

    def perplexity(self, text: bytes, chunks: int) -> float:
        tokens = self.tokenize(text)
        start = llama_cpp.llama_vocab_bos(self.vocab) if llama_cpp.llama_vocab_get_add_bos(self.vocab) else None
        losses = []
        for chunk in range(chunks):
            part = tokens[chunk * CHUNK : (chunk + 1) * CHUNK]
            read = [start, *part[1:]] if start is not None else part
            logits = self.logits(read)[CHUNK // 2 : CHUNK - 1]
            peaks = logits.max(axis=1, keepdims=True)
            totals = peaks[:, 0] + numpy.log(numpy.exp(logits - peaks).sum(axis=1))
            losses.extend(totals - logits[numpy.arange(len(logits)), part[CHUNK // 2 + 1 :]])
        return float(numpy.exp(numpy.mean(losses)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--chunks", type=int, default=20, help="default 20")
    parser.add_argument("--type", default="f32", help="of the weights: f32 or f16 [f32]")
    args = parser.parse_args()
    text = args.text.read_bytes().rstrip(b"\n")[: args.chunks * CHUNK * 8]
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    failed = False
    print(f"{'model':20} {'smolt':>12} {'llama.cpp':>12} {'difference':>10}")
    with tempfile.TemporaryDirectory() as scratch:
        for folder in sorted(path for path in FAMILIES.iterdir() if path.is_dir()):
            source = Path(scratch) / folder.name
            shutil.copytree(folder, source)
            shutil.copy(FAMILIES / "tokenizer.json", source)
            model, excerpt = source / f"{folder.name}.gguf", source / "text.txt"
            excerpt.write_bytes(text)
            run(ROOT / "target/release/smolt-quantize", "convert", source, model, "--type", args.type)
            ours = json.loads(run(ROOT / "target/release/smolt", "perplexity", "-m", model, "-c", CHUNK, "--kv", "f32",
                                  "--chunks", args.chunks, excerpt, "--json"))
            ours = ours["ppl"]
            try:
                theirs = Llama(model).perplexity(text, args.chunks)
            except RuntimeError as error:
                failed |= folder.name not in UNKNOWN
                print(f"{folder.name:20} {ours:12.4f} {'-':>12}   {error}")
                continue
            difference = ours / theirs - 1
            failed |= abs(difference) > LIMIT
            print(f"{folder.name:20} {ours:12.4f} {theirs:12.4f} {difference:+10.4%}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
