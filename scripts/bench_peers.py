#!/usr/bin/env python3
"""Speed and memory of smolt beside llama.cpp: same GGUF files, in alternation.

    scripts/bench_peers.py --install peers --busy --out report.md --svg report.svg
    scripts/bench_peers.py --python peers/venv/bin/python -m model.gguf --out report.md

Every measurement is a process of its own: `smolt bench -r 1` on our side, on theirs llama_worker.py, which
calls `llama_decode` of the `llama_cpp` package (building that needs a C++ compiler and cmake). Both warm up,
then time one run of random tokens, with an f16 KV cache. llama.cpp's attention is the fastest of the `--flash`
settings for each test. Rounds alternate which side goes first. A measurement waits until the machine is idle;
the report says how often it was not.

Peak memory is that of a prompt of 128 tokens and 32 more with a context of 512. For llama.cpp, what Python
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
from dataclasses import asdict, dataclass
from pathlib import Path

from llama_worker import FLASH, MEMORY_CONTEXT, PROMPT, Test

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
PEERS = ["llama-cpp-python"]

ONE_ROW = Test(generate=64)
TESTS = [ONE_ROW, Test(generate=32, depth=1024), Test(prompt=4), Test(prompt=8), Test(prompt=128), Test(prompt=512)]
# Prompts so short that what counts is their cost beside that of a single token.
STEPS = [test for test in TESTS if 1 < test.prompt <= 8]


# --- The two sides ---------------------------------------------------------------------------------------


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
    def __init__(self, python: str):
        self.python = python
        # (model, threads, test) to the fastest attention setting.
        self.flash: dict[tuple, str] = {}

    def work(self, **job) -> dict:
        out = call([self.python, str(WORKER), json.dumps(job)])
        return json.loads(out.splitlines()[-1])

    def choose_flash(self, model: str, threads: int, test: Test, settings: list[str]) -> None:
        def speed(flash: str) -> float:
            job = {"model": model, "threads": threads, "test": asdict(test), "repetitions": 3}
            return self.work(kind="speed", flash=flash, **job)["tok_s"]

        self.flash[model, threads, test] = max(settings, key=speed) if len(settings) > 1 else settings[0]

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


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


# --- Rounds and report -----------------------------------------------------------------------------------


@dataclass
class Case:
    """One row of the report: values of both sides, a pair each round."""

    model: str
    threads: int
    name: str
    unit: str
    ours: list[float]
    theirs: list[float]
    note: str = ""
    lower_is_better: bool = False
    shares: list[float] | None = None

    def ratio(self) -> float:
        """Ours to theirs; for times and sizes, below 1 is better."""
        return statistics.median(self.ours) / statistics.median(self.theirs)


def alternate(round_index: int, ours, theirs) -> tuple:
    """Calls both; which goes first changes every round."""
    if round_index % 2:
        second = theirs()
        return ours(), second
    return ours(), theirs()


class Comparison:
    def __init__(self, args, ours: Ours, theirs: Theirs):
        self.args, self.ours, self.theirs = args, ours, theirs
        self.machine = Machine(args.idle_limit)
        self.cases: dict[tuple, Case] = {}
        self.facts: dict[str, list] = {}

    def case(self, model: str, threads: int, name: str, unit: str, **more) -> Case:
        key = (model, threads, name)
        if key not in self.cases:
            self.cases[key] = Case(model, threads, name, unit, [], [], **more)
        return self.cases[key]

    def idle(self, measure, *arguments):
        def run():
            self.machine.wait()
            return measure(*arguments)

        return run

    def speed(self, index: int, model: str, threads: int, test: Test) -> None:
        arguments = (model, threads, test)
        sides = (self.idle(side.speed, *arguments) for side in (self.ours, self.theirs))
        ours, theirs = alternate(index, *sides)
        note = f"flash {self.theirs.flash[arguments]}"
        case = self.case(model, threads, test.name, "tok/s", note=note, shares=[])
        self.add(case, ours["tok_s"], theirs["tok_s"])
        if ours["bandwidth_share"] is not None:
            case.shares.append(ours["bandwidth_share"])
        self.facts.setdefault(f"read GB/s, t={threads}, {Path(model).name}", []).append(ours["read_gb_s"])
        self.facts.setdefault("instruction set of smolt", [ours["isa"]])

    def busy(self, index: int, model: str, threads: int) -> None:
        test = ONE_ROW

        def with_neighbour(measure):
            def run():
                self.machine.wait()
                with busy_neighbour():
                    return measure(model, threads, test)

            return run

        ours, theirs = alternate(index, with_neighbour(self.ours.speed), with_neighbour(self.theirs.speed))
        name = f"{test.name}, busy neighbour"
        self.add(self.case(model, threads, name, "tok/s"), ours["tok_s"], theirs["tok_s"])

    def resources(self, index: int, model: str, threads: int) -> None:
        for name, unit, scale, method in [
            ("peak memory", "MB", 1e-6, "peak_rss_bytes"),
            ("start to first token", "ms", 1.0, "start_ms"),
        ]:
            sides = (self.idle(getattr(side, method), model, threads) for side in (self.ours, self.theirs))
            ours, theirs = alternate(index, *sides)
            self.add(self.case(model, threads, name, unit, lower_is_better=True), ours * scale, theirs * scale)

    @staticmethod
    def add(case: Case, ours: float, theirs: float) -> None:
        case.ours.append(ours)
        case.theirs.append(theirs)
        values = f"{ours:.1f} : {theirs:.1f} {case.unit}"
        print(f"  {Path(case.model).name} t={case.threads} {case.name}: {values}", file=sys.stderr)

    def run(self) -> None:
        pairs = [(model, threads) for model in self.args.model for threads in self.args.threads]
        contexts = {model: self.ours.context(model) for model in self.args.model}
        tests = {
            model: [test for test in TESTS if test.depth + test.prompt + test.generate <= context]
            for model, context in contexts.items()
        }
        for model, threads in pairs:
            for test in tests[model]:
                self.machine.wait()
                self.theirs.choose_flash(model, threads, test, self.args.flash)
        for index in range(self.args.rounds):
            print(f"round {index + 1} of {self.args.rounds}", file=sys.stderr)
            for model, threads in pairs:
                for test in tests[model]:
                    self.speed(index, model, threads, test)
                self.resources(index, model, threads)
                if self.args.busy and threads == max(self.args.threads):
                    self.busy(index, model, threads)

    def markdown(self) -> str:
        lines = ["# smolt beside llama.cpp", ""]
        lines += [f"* {fact}" for fact in self.describe()] + [""]
        for model in self.args.model:
            size = os.path.getsize(model) / 1e6
            lines += [f"## {Path(model).name} ({size:.1f} MB)", ""]
            lines += ["| | threads | smolt | llama.cpp | ratio | of read bandwidth | |", "|---|---|---|---|---|---|---|"]
            lines += [self.row(case) for case in self.cases.values() if case.model == model] + [""]
        return "\n".join(lines)

    def row(self, case: Case) -> str:
        def spread(values: list[float]) -> str:
            digits = 0 if statistics.median(values) >= 1000 else 1
            middle, low, high = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
            return f"{middle} {case.unit} ({low}-{high})"

        share = f"{statistics.median(case.shares):.0%}" if case.shares else ""
        notes = [case.note] if case.note else []
        notes += self.beside_one_row(case)
        if case.lower_is_better:
            notes.append("less is better")
        cells = [case.name, case.threads, spread(case.ours), spread(case.theirs), f"**{case.ratio():.2f}**"]
        return "| " + " | ".join(map(str, [*cells, share, ", ".join(notes)])) + " |"

    def beside_one_row(self, case: Case) -> list[str]:
        """Both sides' speed, or the cost of a step, beside generating from an empty context."""
        base = self.cases.get((case.model, case.threads, ONE_ROW.name))
        if base is None or case is base:
            return []
        pairs = ((case.ours, base.ours), (case.theirs, base.theirs))
        kept = [statistics.median(side) / statistics.median(alone) for side, alone in pairs]
        for test in STEPS:
            if case.name == test.name:
                cost = (test.prompt / share for share in kept)
                return ["a step costs {:.2f} and {:.2f} of one token".format(*cost)]
        if case.name.startswith("tg"):
            return ["{:.0%} and {:.0%} of {}".format(*kept, ONE_ROW.name)]
        return []

    def describe(self) -> list[str]:
        version = call([self.theirs.python, "-c", "import llama_cpp; print(llama_cpp.__version__)"]).strip()
        facts = [
            f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}",
            f"llama.cpp through llama-cpp-python {version}, f16 KV cache; flash attention: the fastest of "
            f"{', '.join(self.args.flash)} for each test",
            f"{self.args.rounds} rounds in alternation, each value from a process of its own; medians, "
            "in brackets the smallest and the largest; ratio: smolt to llama.cpp",
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

    def svg(self) -> str:
        """Bars of the ratios in speed; the line marks llama.cpp."""
        cases = [case for case in self.cases.values() if not case.lower_is_better]
        row, left, width = 22, 330, 360
        most = max(2.0, *(case.ratio() for case in cases)) * 1.1
        scale = width / most
        height = row * len(cases) + 50
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {height}" '
            'font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            '<text x="10" y="18" font-size="14">Tokens per second, llama.cpp = 1</text>',
        ]
        for i, case in enumerate(cases):
            y, ratio = 30 + i * row, case.ratio()
            label = f"{Path(case.model).stem}, {case.name}, t={case.threads}"
            label = label.replace("&", "&amp;").replace("<", "&lt;")
            colour = "#2f7d5b" if ratio >= 1 else "#b5523b"
            parts += [
                f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{label}</text>',
                f'<rect x="{left}" y="{y}" width="{ratio * scale:.1f}" height="{row - 6}" fill="{colour}"/>',
                f'<text x="{left + ratio * scale + 5:.1f}" y="{y + 13}">{ratio:.2f}</text>',
            ]
        x = f"{left + scale:.1f}"
        parts.append(f'<line x1="{x}" y1="26" x2="{x}" y2="{height - 14}" stroke="#222"/>')
        return "\n".join([*parts, "</svg>", ""])


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", action="append", default=[], help="a GGUF file; may be repeated")
    parser.add_argument("--install", type=Path, metavar="DIR",
                        help="build smolt, install the peers and make synthetic models there")
    parser.add_argument("--ours", default=str(ROOT / "target/release/smolt"), help="the smolt binary")
    parser.add_argument("--python", default=sys.executable, help="a Python that has llama_cpp")
    parser.add_argument("-t", "--threads", type=numbers, default=[1, 2], help="default 1,2")
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument("--flash", type=lambda text: text.split(","), default=list(FLASH), help="default auto,off,on")
    parser.add_argument("--busy", action="store_true", help="also beside a process that wants one core")
    parser.add_argument("--idle-limit", type=float, default=60.0, help="longest wait for idleness, in seconds")
    parser.add_argument("--out", type=Path, required=True, help="the report, in Markdown")
    parser.add_argument("--svg", type=Path, help="a chart of the ratios")
    args = parser.parse_args()
    if not args.model and not args.install:
        parser.error("name a model with -m, or --install DIR")
    if args.rounds < 1 or not set(args.flash) <= set(FLASH):
        parser.error(f"--rounds must be at least 1, --flash of {', '.join(FLASH)}")
    return args


def install(args: argparse.Namespace) -> None:
    """Builds smolt, installs the peers in a virtual environment and makes the models; what is there is kept."""

    def step(*command) -> None:
        print("  " + " ".join(map(str, command)), file=sys.stderr)
        subprocess.run(list(map(str, command)), check=True, cwd=ROOT)

    step("cargo", "build", "--release", "--workspace")
    python = args.install / "venv/bin/python"
    if not python.exists():
        step(sys.executable, "-m", "venv", args.install / "venv")
        step(python, "-m", "pip", "install", "--quiet", *PEERS)
    args.python = str(python)
    if not args.model:
        for shape, recipe in SYNTHETIC:
            path = args.install / f"{shape}-{recipe}.gguf"
            if not path.exists():
                step(ROOT / "target/release/smolt-quantize", "synth", shape, recipe, path)
            args.model.append(str(path))


def main() -> None:
    args = arguments()
    if args.install:
        install(args)
    comparison = Comparison(args, Ours(args.ours), Theirs(args.python))
    comparison.run()
    args.out.write_text(comparison.markdown())
    if args.svg:
        args.svg.write_text(comparison.svg())
    print(f"written: {args.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
