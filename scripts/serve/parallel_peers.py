#!/usr/bin/env python3
"""Several answers at once: `smolt batch --parallel N` beside llama.cpp's batches of N sequences, in alternation.

    python3 scripts/serve/parallel_peers.py --smolt target/release/smolt -m model.gguf --python venv/bin/python

`--python` names a Python that has `llama_cpp` and numpy. Both sides get the same N prompts at once and generate 64 tokens
for each, always the likeliest, with the same number of threads and an f16 KV cache; loading is not counted. On the other
side llama_decode is called with a batch that holds a token of each sequence; numpy takes the likeliest.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench_peers import Machine, alternate  # noqa: E402
from processor import cpu_name  # noqa: E402
from common import arguments  # noqa: E402

TOKENS = 64
CONTEXT = 512
NUMBERS = [1, 4, 8]
BAR = 1.0


def prompts(count: int) -> list[str]:
    """Texts that a model continues for long, of unequal lengths."""
    return [
        f"{'It was long ago. ' * (1 + i % 3)}Once upon a time in house number {i + 1} there lived" for i in range(count)
    ]


# --- llama.cpp, in a process of its own --------------------------------------------------------------------


def worker(job: dict) -> dict:
    """Generates for all prompts at once and returns the tokens per second."""
    import ctypes

    import llama_cpp as lib
    import numpy

    quiet = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    lib.llama_backend_init()
    options = lib.llama_model_default_params()
    options.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(job["model"].encode(), options)
    vocabulary = lib.llama_model_get_vocab(model)
    size = lib.llama_vocab_n_tokens(vocabulary)
    texts = job["prompts"]
    options = lib.llama_context_default_params()
    options.n_ctx, options.n_seq_max = CONTEXT * len(texts), len(texts)
    options.n_batch, options.n_ubatch = 2048, 512
    options.n_threads = options.n_threads_batch = job["threads"]
    context = lib.llama_init_from_model(model, options)
    if not context:
        raise RuntimeError("llama.cpp cannot make a context")

    def tokenize(text: str) -> list[int]:
        data = text.encode()
        room = (lib.llama_token * (len(data) + 8))()
        return list(room[: lib.llama_tokenize(vocabulary, data, len(data), room, len(room), True, True)])

    batch = lib.llama_batch_init(2048, 0, 1)

    def decode(pieces: list[tuple[int, int, list[int]]]) -> list[int]:
        """Feeds sequence, position and tokens of each piece; the likeliest token after each."""
        index, last = 0, []
        for sequence, position, tokens in pieces:
            for k, token in enumerate(tokens):
                batch.token[index], batch.pos[index] = token, position + k
                batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
                batch.logits[index] = k == len(tokens) - 1
                index += 1
            last.append(index - 1)
        batch.n_tokens = index
        if lib.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        rows = (numpy.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), (size,)) for i in last)
        return [int(row.argmax()) for row in rows]

    encoded = [tokenize(text) for text in texts]

    def generate(count: int) -> float:
        lib.llama_memory_clear(lib.llama_get_memory(context), False)
        started = time.perf_counter()
        found = decode([(i, 0, tokens) for i, tokens in enumerate(encoded)])
        for step in range(count - 1):
            found = decode([(i, len(encoded[i]) + step, [token]) for i, token in enumerate(found)])
        return time.perf_counter() - started

    generate(4)
    return {"tok_s": len(texts) * TOKENS / generate(TOKENS)}


def theirs(args, texts: list[str]) -> float:
    job = {"model": args.model, "threads": args.threads, "prompts": texts}
    command = [args.python, __file__, "--worker", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])["tok_s"]


# --- smolt -------------------------------------------------------------------------------------------------


def ours(args, texts: list[str]) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps({"prompt": text}) + "\n" for text in texts)
        file.flush()
        command = [
            args.smolt,
            "batch",
            file.name,
            "--raw",
            "--temp",
            "0",
            "-n",
            str(TOKENS),
            "-c",
            str(CONTEXT),
            "-q",
            "-t",
            str(args.threads),
            "--parallel",
            str(len(texts)),
            "-m",
            args.model,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    # All begin at once: the slowest tells how long all took.
    return sum(len(line["tokens"]) for line in lines) / max(line["timings"]["total_ms"] for line in lines) * 1e3


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(worker(json.loads(sys.argv[2]))))
        return
    args = arguments(
        __doc__,
        ("--python", {"required": True, "help": "a Python that has llama_cpp"}),
        ("--threads", {"type": int, "default": 2}),
        ("--rounds", {"type": int, "default": 5}),
        ("--idle-limit", {"type": float, "default": 60.0, "help": "longest wait for idleness, in seconds"}),
    )
    machine = Machine(args.idle_limit)
    found = {n: ([], []) for n in NUMBERS}
    for index in range(args.rounds):
        for n in NUMBERS:
            machine.wait()
            pair = alternate(index, lambda: ours(args, prompts(n)), lambda: theirs(args, prompts(n)))
            for side, value in zip(found[n], pair):
                side.append(value)
    print(f"{cpu_name()}, {args.threads} threads, {Path(args.model).name}; medians of {args.rounds} rounds, tokens/s")
    if machine.not_idle:
        print(f"{machine.not_idle} of {machine.waits} rounds began on a machine that was not idle")
    print("| answers at once | smolt | llama.cpp | ratio |\n|---|---|---|---|")
    ratios = []
    for n, sides in found.items():
        a, b = map(statistics.median, sides)
        ratios.append(a / b)
        shown = [f"{statistics.median(side):.1f} ({min(side):.1f}-{max(side):.1f})" for side in sides]
        print(f"| {n} | {shown[0]} | {shown[1]} | **{a / b:.2f}** |")
    sys.exit(0 if min(ratios) >= BAR else 1)


if __name__ == "__main__":
    main()
