"""One measurement of llama.cpp or ik_llama.cpp through its Python package, in a process of its own.

    python scripts/llama_worker.py JOB

JOB is JSON: {"package": "llama_cpp" | "ik_llama_cpp", "kind": "speed" | "memory" | "start" | "build", "model": FILE,
"threads": N, "flash": "auto" | "off" | "on"} and for "speed" {"test": {"prompt": N, "generate": N, "depth": N},
"repetitions": N}. The result is a line of JSON. Used by bench_peers.py; it calls `llama_decode` directly, so that Python
takes no part in what is timed.
"""

import ctypes
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
        self.lib = self.library()
        self.base_kib = memory_kib("VmRSS")
        self.silence()
        self.started = time.perf_counter()
        self.lib.llama_backend_init()
        self.model = self.lib.llama_model_load_from_file(path.encode(), self.model_options())
        if not self.model:
            raise RuntimeError(f"{self.lib.__name__} cannot load {path}")
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        options = self.context_options(flash)
        options.n_ctx = context
        options.n_batch, options.n_ubatch = 2048, 512
        options.n_threads = options.n_threads_batch = threads
        self.context = self.lib.llama_init_from_model(self.model, options)
        if not self.context:
            raise RuntimeError(f"{self.lib.__name__} cannot make a context")
        self.start()

    @staticmethod
    def library():
        import llama_cpp

        return llama_cpp

    @classmethod
    def build(cls) -> str:
        """The version of the package, and the instruction sets it was built for."""
        lib = cls.library()
        parts = lib.llama_print_system_info().decode().replace("CPU :", "").split("|")
        sets = [name.strip() for name, _, value in (part.partition("=") for part in parts) if value.strip() == "1"]
        return f"{cls.version()}, built with {', '.join(sets)}"

    @classmethod
    def version(cls) -> str:
        return f"llama-cpp-python {cls.library().__version__}"

    def silence(self) -> None:
        self.quiet = self.lib.llama_log_callback(lambda *_: None)
        self.lib.llama_log_set(self.quiet, None)

    def model_options(self):
        options = self.lib.llama_model_default_params()
        options.n_gpu_layers = 0
        return options

    def context_options(self, flash: str):
        options = self.lib.llama_context_default_params()
        options.flash_attn_type = FLASH[flash]
        options.no_perf = True
        return options

    def start(self) -> None:
        """What is to be done once, before the first token."""
        self.memory = self.lib.llama_get_memory(self.context)

    def forget(self) -> None:
        self.lib.llama_memory_clear(self.memory, False)

    def feed(self, tokens: list[int]) -> None:
        array = (self.lib.llama_token * len(tokens))(*tokens)
        if self.lib.llama_decode(self.context, self.batch(array)) != 0:
            raise RuntimeError("llama_decode failed")
        self.lib.llama_synchronize(self.context)

    def batch(self, tokens):
        return self.lib.llama_batch_get_one(tokens, len(tokens))

    def tokenize(self, text: str, control: bool = False) -> list[int]:
        data = text.encode()
        room = (self.lib.llama_token * (len(data) + 8))()
        count = self.lib.llama_tokenize(self.of_text(), data, len(data), room, len(room), True, control)
        if count <= 0:
            raise RuntimeError("llama_tokenize failed")
        return list(room[:count])

    def of_text(self):
        """What knows the tokens."""
        return self.vocab

    def random_tokens(self, count: int) -> list[int]:
        size = self.lib.llama_vocab_n_tokens(self.vocab)
        source = random.Random(1)
        return [source.randrange(size) for _ in range(count)]

    def run(self, test: Test) -> float:
        """Seconds of a test, without those of the tokens before it."""
        self.forget()
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


class IkLlama(Llama):
    """A context of ik_llama.cpp with what makes it fast: weights packed again at load, flash attention, fused stages."""

    @staticmethod
    def library():
        from ik_llama_cpp import _ctypes_api as lib

        # What the package does not declare.
        lib.llama_batch_get_one = lib._lib.llama_batch_get_one
        lib.llama_batch_get_one.argtypes = [lib.llama_token_p, ctypes.c_int32, lib.llama_pos, lib.llama_seq_id]
        lib.llama_batch_get_one.restype = lib.llama_batch
        lib.llama_synchronize = lib._lib.llama_synchronize
        lib.llama_synchronize.argtypes = [lib.llama_context_p]
        lib.llama_print_system_info = lib._lib.llama_print_system_info
        lib.llama_print_system_info.restype = ctypes.c_char_p
        return lib

    @classmethod
    def version(cls) -> str:
        import ik_llama_cpp

        return f"ik-llama-cpp-python {ik_llama_cpp.__version__}"

    def silence(self) -> None:
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        self.lib._lib.llama_log_set(self.quiet, None)

    def model_options(self):
        options = super().model_options()
        options.use_mmap = False  # What is mapped is not packed again.
        options.repack_tensors = True
        return options

    def context_options(self, flash: str):
        options = self.lib.llama_context_default_params()
        options.flash_attn = flash != "off"
        options.fused_up_gate = options.fused_mmad = options.graph_reuse = True
        return options

    def start(self) -> None:
        self.position = 0

    def forget(self) -> None:
        self.lib.llama_kv_cache_clear(self.context)
        self.position = 0

    def batch(self, tokens):
        first, self.position = self.position, self.position + len(tokens)
        return self.lib.llama_batch_get_one(tokens, len(tokens), first, 0)

    def of_text(self):
        return self.model


PACKAGES = {"llama_cpp": Llama, "ik_llama_cpp": IkLlama}


def worker(job: dict) -> dict:
    """Does one measurement and returns its result."""
    package = PACKAGES[job["package"]]
    if job["kind"] == "build":
        return {"build": package.build()}
    test = Test(**job["test"]) if job["kind"] == "speed" else Test()
    context = max(MEMORY_CONTEXT, test.depth + test.prompt + test.generate)
    llama = package(job["model"], job["threads"], context, job["flash"])
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
