"""One measurement of llama.cpp through its Python package, in a process of its own.

    python scripts/llama_worker.py JOB

JOB is JSON: {"kind": "speed" | "memory" | "start", "model": FILE, "threads": N, "flash": "auto" | "off" | "on"} and for
"speed" {"test": {"prompt": N, "generate": N, "depth": N}, "repetitions": N}. The result is a line of JSON. Used by
bench_peers.py; it calls `llama_decode` directly, so that Python takes no part in what is timed.
"""

import json
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FLASH = {"auto": -1, "off": 0, "on": 1}
PROMPT = "The quick brown fox jumps over the lazy dog."
MEMORY_CONTEXT = 512


@dataclass(frozen=True)
class Test:
    """`prompt` tokens at once, then `generate` one by one, after `depth` untimed ones; one of the two is 0."""

    prompt: int = 0
    generate: int = 0
    depth: int = 0

    @property
    def name(self) -> str:
        work = f"pp{self.prompt}" if self.prompt else f"tg{self.generate}"
        return f"{work}@d{self.depth}" if self.depth else work


def memory_kib(key: str) -> int:
    """A `Vm...` value of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}")


class Llama:
    """A llama.cpp context, driven through the C functions."""

    def __init__(self, path: str, threads: int, context: int, flash: str):
        import llama_cpp

        self.lib = llama_cpp
        self.base_kib = memory_kib("VmRSS")
        self.quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.quiet, None)
        self.started = time.perf_counter()
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = context
        options.n_batch, options.n_ubatch = 2048, 512
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = FLASH[flash]
        options.no_perf = True
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context")
        self.memory = llama_cpp.llama_get_memory(self.context)

    def feed(self, tokens: list[int]) -> None:
        array = (self.lib.llama_token * len(tokens))(*tokens)
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        self.lib.llama_synchronize(self.context)

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        room = (self.lib.llama_token * (len(data) + 8))()
        count = self.lib.llama_tokenize(self.vocab, data, len(data), room, len(room), True, False)
        if count <= 0:
            raise RuntimeError("llama_tokenize failed")
        return list(room[:count])

    def random_tokens(self, count: int) -> list[int]:
        size = self.lib.llama_vocab_n_tokens(self.vocab)
        source = random.Random(1)
        return [source.randrange(size) for _ in range(count)]

    def run(self, test: Test) -> float:
        """Seconds of a test, without those of the tokens before it."""
        self.lib.llama_memory_clear(self.memory, False)
        tokens = self.random_tokens(test.depth + test.prompt + test.generate)
        if test.depth:
            self.feed(tokens[: test.depth])
        rest = tokens[test.depth :]
        start = time.perf_counter()
        if test.prompt:
            self.feed(rest)
        else:
            for token in rest:
                self.feed([token])
        return time.perf_counter() - start


def worker(job: dict) -> dict:
    """Does one measurement and returns its result."""
    test = Test(**job["test"]) if job["kind"] == "speed" else Test()
    context = max(MEMORY_CONTEXT, test.depth + test.prompt + test.generate)
    llama = Llama(job["model"], job["threads"], context, job["flash"])
    if job["kind"] == "start":
        llama.feed(llama.tokenize(PROMPT))
        logits = llama.lib.llama_get_logits_ith(llama.context, -1)
        size = llama.lib.llama_vocab_n_tokens(llama.vocab)
        max(range(size), key=logits[:size].__getitem__)
        return {"start_ms": (time.perf_counter() - llama.started) * 1e3}
    if job["kind"] == "memory":
        llama.feed(llama.random_tokens(128))
        for token in llama.random_tokens(32):
            llama.feed([token])
        return {"peak_rss_bytes": (memory_kib("VmHWM") - llama.base_kib) * 1024}
    llama.run(test)
    seconds = [llama.run(test) for _ in range(job["repetitions"])]
    return {"tok_s": (test.prompt + test.generate) / statistics.median(seconds)}


if __name__ == "__main__":
    print(json.dumps(worker(json.loads(sys.argv[1]))))
