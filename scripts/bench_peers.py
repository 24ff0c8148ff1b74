#!/usr/bin/env python3
"""Speed and memory of smolt beside llama.cpp and ik_llama.cpp: same GGUF files, in alternation.

    scripts/bench_peers.py --install peers --busy --out report.md --svg report.svg
    scripts/bench_peers.py --python peers/venv/bin/python -m model.gguf --out report.md
    scripts/bench_peers.py --install peers --avx2 --out report.md       as on a processor with AVX2 alone

Every measurement is a process of its own: `smolt bench -r 1` on our side, on theirs llama_worker.py, which
calls `llama_decode` of the packages `llama_cpp` and `ik_llama_cpp` (building them needs a C++ compiler and cmake, and takes
half an hour). All warm up, then time one run of random tokens, with an f16 KV cache. llama.cpp's attention is the fastest of
the `--flash` settings for each test; ik_llama.cpp packs the weights at load, with flash attention and its fused stages.
Rounds alternate which side goes first. A measurement waits until the machine is idle; the report says how often it was
not, and which class of instructions the processor has.

Peak memory is that of a prompt of 128 tokens and 32 more with a context of 512. For the peers, what Python
and the loaded libraries take before the model is subtracted. The start is measured until one token is
generated from a short text: on our side the whole process `smolt run -n 1`, on theirs from the loading of
the model (not of Python) to the token.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench_report import OURS, Case, Report
from llama_worker import FLASH, MEMORY_CONTEXT, PROMPT, Test
from processor import cpu_class, cpu_name

IDLE_SHARE = 0.95
IDLE_SECONDS = 0.5
PROCESS_LIMIT_SECONDS = 600
ROOT = Path(__file__).resolve().parent.parent
WORKER = ROOT / "scripts/llama_worker.py"
# What --install measures: shape and recipe.
SYNTHETIC = [
    ("smollm2-135m", "q4_0"),
    ("smollm2-135m", "q4_k_m"),
    ("smollm2-360m", "q4_0"),
    ("gpt2-124m", "q4_0"),
    ("pythia-160m", "q4_0"),
]
# Names in the report, and the packages in Python and in the index.
PEERS = {"llama.cpp": ("llama_cpp", "llama-cpp-python"), "ik_llama.cpp": ("ik_llama_cpp", "ik-llama-cpp-python")}
# Both choose instruction sets when they are compiled.
AVX2_BUILD = "-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON"

ONE_ROW = Test(generate=64)
TESTS = [ONE_ROW, Test(generate=32, depth=1024), Test(prompt=4), Test(prompt=8), Test(prompt=128), Test(prompt=512)]
# Prompts so short that what counts is their cost beside that of a single token.
STEPS = {test.name: test.prompt for test in TESTS if 1 < test.prompt <= 8}
# By name: unit, factor, and what measures it.
RESOURCES = {
    "peak memory": ("MB", 1e-6, "peak_rss_bytes"),
    "start to first token": ("ms", 1.0, "start_ms"),
}
ROWS = [test.name for test in TESTS] + list(RESOURCES)


# --- The sides -------------------------------------------------------------------------------------------


def call(command: list[str]) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_LIMIT_SECONDS)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


class Ours:
    def __init__(self, binary: str):
        self.binary = binary

    def bench(self, model: str, threads: int, test: Test, extra: tuple = ()) -> dict:
        command = [self.binary, "bench", "--json", "-m", model, "-r", "1", "-t", str(threads), *extra]
        command += ["-p", str(test.prompt), "-n", str(test.generate), "-d", str(test.depth)]
        return json.loads(call(command))

    def context(self, model: str) -> int:
        """Positions the model was trained for."""
        return json.loads(call([self.binary, "show", "--json", "-m", model]))["trained_context"]

    def speed(self, model: str, threads: int, test: Test) -> dict:
        report = self.bench(model, threads, test)
        (row,) = report["tests"]
        if row["name"] != test.name:
            raise SystemExit(f"asked for {test.name}, got {row['name']}")
        found = {"tok_s": row["tok_s"]["median"], "read_gb_s": report["read_gb_s"], "isa": report["isa"]}
        return found | {"bandwidth_share": row["bandwidth_share"]}

    def peak_rss_bytes(self, model: str, threads: int) -> float:
        both = Test(prompt=128, generate=32)
        return self.bench(model, threads, both, ("-c", str(MEMORY_CONTEXT)))["peak_rss_bytes"]

    def start_ms(self, model: str, threads: int) -> float:
        start = time.perf_counter()
        options = ["-n", "1", "-t", str(threads), "-c", str(MEMORY_CONTEXT), "--temp", "0", "--raw"]
        call([self.binary, "run", "-m", model, *options, PROMPT])
        return (time.perf_counter() - start) * 1e3


class Theirs:
    def __init__(self, python: str, name: str, flash: list[str]):
        self.python, self.name = python, name
        self.package = PEERS[name][0]
        self.settings = flash
        # (model, threads, test) to the fastest attention setting.
        self.flash: dict[tuple, str] = {}

    def is_there(self) -> bool:
        code = f"import {self.package}"
        return subprocess.run([self.python, "-c", code], capture_output=True).returncode == 0

    def work(self, **job) -> dict:
        out = call([self.python, str(WORKER), json.dumps(job | {"package": self.package})])
        return json.loads(out.splitlines()[-1])

    def settings_text(self) -> str:
        if self.package == "ik_llama_cpp":
            return "weights packed at load, flash attention and fused stages on"
        return f"flash attention: the fastest of {', '.join(self.settings)} for each test"

    def build(self) -> str:
        return self.work(kind="build")["build"]

    def choose_flash(self, model: str, threads: int, test: Test) -> None:
        def speed(flash: str) -> float:
            job = {"model": model, "threads": threads, "test": asdict(test), "repetitions": 3}
            return self.work(kind="speed", flash=flash, **job)["tok_s"]

        found = max(self.settings, key=speed) if len(self.settings) > 1 else self.settings[0]
        self.flash[model, threads, test] = found

    def speed(self, model: str, threads: int, test: Test) -> dict:
        flash = self.flash[model, threads, test]
        job = {"model": model, "threads": threads, "test": asdict(test), "repetitions": 1}
        return self.work(kind="speed", flash=flash, **job)

    def other(self, kind: str, model: str, threads: int) -> dict:
        flash = self.flash[model, threads, ONE_ROW]
        return self.work(kind=kind, model=model, threads=threads, flash=flash)

    def peak_rss_bytes(self, model: str, threads: int) -> float:
        return self.other("memory", model, threads)["peak_rss_bytes"]

    def start_ms(self, model: str, threads: int) -> float:
        return self.other("start", model, threads)["start_ms"]


# --- The machine -----------------------------------------------------------------------------------------


class Machine:
    """Waits for idleness and counts how often it did not come."""

    def __init__(self, limit: float):
        self.limit = limit
        self.waits = 0
        self.not_idle = 0

    @staticmethod
    def idle_share(seconds: float) -> float:
        def read() -> tuple[int, int]:
            fields = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
            return fields[3] + fields[4], sum(fields)

        idle, total = read()
        time.sleep(seconds)
        idle2, total2 = read()
        return (idle2 - idle) / max(1, total2 - total)

    def wait(self) -> None:
        self.waits += 1
        end = time.monotonic() + self.limit
        while True:
            share = self.idle_share(IDLE_SECONDS)
            if share >= IDLE_SHARE:
                return
            if time.monotonic() >= end:
                self.not_idle += 1
                print(f"  not idle ({share:.0%}) after {self.limit:.0f} s, going on", file=sys.stderr)
                return


@contextmanager
def busy_neighbour():
    """A process that wants one core."""
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        yield
    finally:
        spinner.kill()
        spinner.wait()


# --- Rounds ----------------------------------------------------------------------------------------------


def alternate(round_index: int, *measures) -> tuple:
    """Calls all, and returns what they did in their order; which goes first changes every round."""
    found = {}
    for turn in range(len(measures)):
        at = (round_index + turn) % len(measures)
        found[at] = measures[at]()
    return tuple(found[at] for at in range(len(measures)))


class Comparison:
    def __init__(self, args, ours: Ours, peers: list[Theirs]):
        self.args, self.ours, self.peers = args, ours, peers
        self.machine = Machine(args.idle_limit)
        self.cases: dict[tuple, Case] = {}
        self.facts: dict[str, list] = {}

    def case(self, model: str, threads: int, name: str, unit: str, **more) -> Case:
        key = (model, threads, name)
        if key not in self.cases:
            sides = {side: [] for side in [OURS, *(peer.name for peer in self.peers)]}
            self.cases[key] = Case(model, threads, name, unit, sides, **more)
        return self.cases[key]

    def measure(self, index: int, method: str, *arguments, around=None) -> list:
        """What every side's method returns, each on an idle machine."""

        def of(side):
            def run():
                self.machine.wait()
                if around is None:
                    return getattr(side, method)(*arguments)
                with around():
                    return getattr(side, method)(*arguments)

            return run

        return list(alternate(index, *(of(side) for side in [self.ours, *self.peers])))

    def speed(self, index: int, model: str, threads: int, test: Test) -> None:
        arguments = (model, threads, test)
        found = self.measure(index, "speed", *arguments)
        chosen = {peer.flash[arguments] for peer in self.peers if len(peer.settings) > 1}
        note = f"flash {chosen.pop()}" if chosen else ""
        case = self.case(model, threads, test.name, "tok/s", note=note, shares=[])
        self.add(case, [side["tok_s"] for side in found])
        ours = found[0]
        if ours["bandwidth_share"] is not None:
            case.shares.append(ours["bandwidth_share"])
        self.facts.setdefault(f"read GB/s, t={threads}, {Path(model).name}", []).append(ours["read_gb_s"])
        self.facts.setdefault("instruction set of smolt", [ours["isa"]])

    def busy(self, index: int, model: str, threads: int) -> None:
        found = self.measure(index, "speed", model, threads, ONE_ROW, around=busy_neighbour)
        name = f"{ONE_ROW.name}, busy neighbour"
        self.add(self.case(model, threads, name, "tok/s"), [side["tok_s"] for side in found])

    def resources(self, index: int, model: str, threads: int) -> None:
        for name in (name for name in RESOURCES if name in self.args.rows):
            unit, scale, method = RESOURCES[name]
            found = self.measure(index, method, model, threads)
            case = self.case(model, threads, name, unit, lower_is_better=True)
            self.add(case, [value * scale for value in found])

    @staticmethod
    def add(case: Case, found: list[float]) -> None:
        for values, value in zip(case.values.values(), found, strict=True):
            values.append(value)
        values = " : ".join(f"{value:.1f}" for value in found)
        print(f"  {Path(case.model).name} t={case.threads} {case.name}: {values} {case.unit}", file=sys.stderr)

    def tests(self) -> list[Test]:
        """Those asked for; decoding without a context is what others are compared with."""
        return [test for test in TESTS if test is ONE_ROW or test.name in self.args.rows]

    def run(self) -> None:
        pairs = [(model, threads) for model in self.args.model for threads in self.args.threads]
        contexts = {model: self.ours.context(model) for model in self.args.model}
        tests = {
            model: [test for test in self.tests() if test.depth + test.prompt + test.generate <= context]
            for model, context in contexts.items()
        }
        for model, threads in pairs:
            for test in tests[model]:
                for peer in self.peers:
                    self.machine.wait()
                    peer.choose_flash(model, threads, test)
        for index in range(self.args.rounds):
            print(f"round {index + 1} of {self.args.rounds}", file=sys.stderr)
            for model, threads in pairs:
                for test in tests[model]:
                    self.speed(index, model, threads, test)
                self.resources(index, model, threads)
                if self.args.busy and threads == max(self.args.threads):
                    self.busy(index, model, threads)

    def report(self) -> Report:
        peers = [peer.name for peer in self.peers]
        return Report(list(self.cases.values()), peers, self.describe(), ONE_ROW.name, STEPS)

    def describe(self) -> list[str]:
        cores = len(os.sched_getaffinity(0))
        facts = [
            f"{cpu_name()}, {cores} cores, {platform.system()} {platform.machine()}; processor class: {cpu_class()}",
            *(f"{peer.name} through {peer.build()}, f16 KV cache; {peer.settings_text()}" for peer in self.peers),
            f"{self.args.rounds} rounds in alternation, each value from a process of its own; medians, "
            "in brackets the smallest and the largest; ratio: smolt to the one beside it",
        ]
        for name, values in self.facts.items():
            numeric = isinstance(values[0], float)
            facts.append(f"{name}: {f'{statistics.median(values):.1f}' if numeric else values[0]}")
        if self.machine.not_idle:
            facts.append(
                f"**{self.machine.not_idle} of {self.machine.waits} measurements began on a machine that was "
                f"not {IDLE_SHARE:.0%} idle: take the figures with care**"
            )
        else:
            facts.append(f"all {self.machine.waits} measurements began with {IDLE_SHARE:.0%} of the machine idle")
        return facts


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", action="append", default=[], help="a GGUF file; may be repeated")
    parser.add_argument("--install", type=Path, metavar="DIR",
                        help="build smolt, install the peers and make synthetic models there")
    parser.add_argument("--ours", default=str(ROOT / "target/release/smolt"), help="the smolt binary")
    parser.add_argument("--python", default=sys.executable, help="a Python that has llama_cpp and ik_llama_cpp")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only this peer; may be repeated")
    parser.add_argument("--avx2", action="store_true",
                        help="hold all sides to AVX2: smolt by SMOLT_ISA, the peers as --install then builds them")
    parser.add_argument("-t", "--threads", type=numbers, default=[1, 2], help="default 1,2")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=ROWS,
                        help=f"what to measure, default all: {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument("--flash", type=lambda text: text.split(","), default=list(FLASH), help="of llama.cpp, default auto,off,on")
    parser.add_argument("--busy", action="store_true", help="also beside a process that wants one core")
    parser.add_argument("--idle-limit", type=float, default=60.0, help="longest wait for idleness, in seconds")
    parser.add_argument("--out", type=Path, required=True, help="the report, in Markdown")
    parser.add_argument("--svg", type=Path, help="a chart of the ratios")
    args = parser.parse_args()
    if not args.model and not args.install:
        parser.error("name a model with -m, or --install DIR")
    if not set(args.rows) <= set(ROWS):
        parser.error(f"--rows must be of {', '.join(ROWS)}")
    if args.rounds < 1 or not set(args.flash) <= set(FLASH):
        parser.error(f"--rounds must be at least 1, --flash of {', '.join(FLASH)}")
    return args


def install(args: argparse.Namespace) -> None:
    """Builds smolt, installs the peers in a virtual environment and makes the models; what is there is kept."""

    def step(*command) -> None:
        print("  " + " ".join(map(str, command)), file=sys.stderr)
        subprocess.run(list(map(str, command)), check=True, cwd=ROOT)

    step("cargo", "build", "--release", "--workspace")
    venv = args.install / ("venv-avx2" if args.avx2 else "venv")
    python = venv / "bin/python"
    if not python.exists():
        step(sys.executable, "-m", "venv", venv)
    if args.avx2:
        os.environ["CMAKE_ARGS"] = AVX2_BUILD
    for package in (PEERS[peer][1] for peer in args.peer or PEERS):
        # What is published compiled is for AVX2, and what was compiled here before may be for other instructions.
        compiled = [] if args.avx2 else ["--no-binary", package]
        step(python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *compiled, package)
    args.python = str(python)
    if not args.model:
        for shape, recipe in SYNTHETIC:
            path = args.install / f"{shape}-{recipe}.gguf"
            if not path.exists():
                step(ROOT / "target/release/smolt-quantize", "synth", shape, recipe, path)
            args.model.append(str(path))


def peers(args: argparse.Namespace) -> list[Theirs]:
    """Those asked for; without a wish, those that this Python has."""
    flash = {"llama.cpp": args.flash, "ik_llama.cpp": ["on"]}
    found = [Theirs(args.python, name, flash[name]) for name in args.peer or PEERS]
    there = [peer for peer in found if peer.is_there()]
    for peer in found:
        if peer not in there:
            print(f"{args.python} has no {PEERS[peer.name][1]}", file=sys.stderr)
    if not there or (args.peer and there != found):
        raise SystemExit("nothing to compare with: --install DIR installs the peers")
    return there


def main() -> None:
    args = arguments()
    if args.install:
        install(args)
    if args.avx2:
        os.environ["SMOLT_ISA"] = "avx2"
    comparison = Comparison(args, Ours(args.ours), peers(args))
    comparison.run()
    report = comparison.report()
    args.out.write_text(report.markdown())
    if args.svg:
        args.svg.write_text(report.svg())
    print(f"written: {args.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
