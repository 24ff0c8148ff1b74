#!/usr/bin/env python3
"""Concurrent chats: `smolt serve` beside a server of llama.cpp, same GGUF file, in alternation.

    python3 scripts/serve/peers.py --smolt target/release/smolt -m model.gguf --llama-server build/bin/llama-server

The source of llama-cpp-python (`pip download --no-binary :all: --no-deps llama-cpp-python`) holds that of llama-server
under vendor/llama.cpp: `cmake -B build -DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF && cmake
--build build --target llama-server`.

With --llama-python PYTHON in its place the peer is the server of llama-cpp-python, `python -m llama_cpp.server`, which
works on one answer at a time; it is told not to break one off when another request comes.

1, 4 and 8 visitors share a system prompt of about 300 tokens and ask two questions each, one after the other; answers
have 64 tokens, always the likeliest, with the ends of an answer forbidden. Both sides have 8 slots of the same context
and as many threads, and their defaults otherwise; each measurement is of a server of its own that has answered one
visitor before. TTFT: from sending to the first text. RSS: the peak at the end, weights included.
"""

import http.client
import json
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench_peers import Machine, alternate  # noqa: E402
from processor import cpu_name  # noqa: E402
from common import Server, arguments  # noqa: E402

VISITORS = [1, 4, 8]
SLOTS = 8
CONTEXT = 1024
TOKENS = 64
QUESTIONS = [
    "What can I see on the first floor?",
    "Where is the lift?",
    "When does it close?",
    "Is there a café?",
    "Which painting is the oldest?",
    "Can I take photographs?",
    "How do I get to the garden?",
    "Who built it?",
]
SYSTEM = " ".join(
    [
        "  You are the guide of a small museum in the old customs house by the harbour. You answer in one or two short",
        "sentences. The ground floor shows ships and tools; the first floor paintings of the coast; the second floor maps",
        "and letters. The museum is open from ten to six, on Thursdays to nine, and is closed on Mondays. Tickets cost",
        "eight euros, four for students, and nothing for children under twelve. The lift is beside the cloakroom; the",
        "stairs are behind the large anchor. There is a café in the courtyard with soup and cake, and a shop that sells",
        "books and prints. Photographs may be taken without flash. Bags must be left in the lockers, which take a coin of",
        "one euro and give it back. The oldest painting is from 1612 and shows the harbour in winter. The house was built",
        "in 1740 by the merchant Johann Brandt. Guided tours begin at eleven and at three at the ticket desk, in English",
        "and in German; they take fifty minutes. The garden is reached through the café. Toilets are on every floor. Lost",
        "things are kept at the ticket desk. If you do not know an answer, say so and send the visitor to the ticket",
        "desk. Never speak of anything but the museum.",
    ]
)
BARS = {"tokens/s": 1.5, "TTFT p50, ms": 0.5, "RSS, MB": 0.6}


@dataclass
class Side:
    """A server that runs, with how to ask it."""

    port: int
    pid: int
    stop: object
    model: str


def start_smolt(args) -> Side:
    options = ["--slots", str(SLOTS), "-c", str(CONTEXT), "-t", str(args.threads)]
    server = Server(args.smolt, args.model, *options)
    return Side(server.port, server.pid, server.stop, server.get("/v1/models").json()["data"][0]["id"])


def start_llama(args) -> Side:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if args.llama_server:
        command = [args.llama_server, "-m", args.model, "--port", port, "-np", SLOTS, "-c", SLOTS * CONTEXT]
        command += ["-t", args.threads, "-tb", args.threads, "--no-webui"]
    else:
        command = [
            args.llama_python,
            "-m",
            "llama_cpp.server",
            "--model",
            args.model,
            "--port",
            port,
            "--n_ctx",
            CONTEXT,
        ]
        command += ["--n_threads", args.threads, "--n_threads_batch", args.threads, "--interrupt_requests", "false"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop():
        process.terminate()
        process.wait()

    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health" if args.llama_server else "/v1/models")
            if connection.getresponse().status == 200:
                return Side(port, process.pid, stop, "x")
        except OSError:
            pass
        time.sleep(0.1)
    process.kill()
    raise SystemExit(f"the peer does not start: {command}")


def ask(side: Side, question: str, ends: list[int]) -> tuple[float, int]:
    """Seconds to the first text, and tokens of the answer."""
    body = {
        "model": side.model,
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}],
        "logit_bias": {str(end): -100 for end in ends},
    }
    connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=600)
    started, first, tokens, pieces = time.perf_counter(), None, 0, 0
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {response.read()[:500]!r}")
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event["choices"] and event["choices"][0]["delta"].get("content"):
            first = first or time.perf_counter() - started
            pieces += 1
        if event.get("usage"):
            tokens = event["usage"]["completion_tokens"]
    connection.close()
    # A server that does not count gives a piece for each token.
    return first or float("inf"), tokens or pieces


def measure(start, args, visitors: int, ends: list[int]) -> dict[str, float]:
    side = start(args)
    try:
        ask(side, "Hello!", ends)
        found, lock = [], threading.Lock()

        def visit(i):
            for k in range(2):
                one = ask(side, QUESTIONS[(2 * i + k) % len(QUESTIONS)] + f" I am visitor {i}.", ends)
                with lock:
                    found.append(one)

        threads = [threading.Thread(target=visit, args=(i,)) for i in range(visitors)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - started
        peak = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{side.pid}/status").read_text()).group(1))
    finally:
        side.stop()
    if len(found) != 2 * visitors or any(tokens != TOKENS for _, tokens in found):
        print(f"  answers of {sorted({tokens for _, tokens in found})} tokens from {start.__name__}", file=sys.stderr)
    times = [first for first, _ in found]
    return {
        "tokens/s": sum(tokens for _, tokens in found) / took,
        "TTFT p50, ms": statistics.median(times) * 1e3,
        "RSS, MB": peak / 1e3,
    }


def main() -> None:
    args = arguments(
        __doc__,
        ("--llama-server", {"help": "the peer's binary"}),
        ("--llama-python", {"help": "a Python that has llama_cpp.server, in place of a binary"}),
        ("--threads", {"type": int, "default": 2}),
        ("--rounds", {"type": int, "default": 3}),
        ("--idle-limit", {"type": float, "default": 60.0, "help": "longest wait for idleness, in seconds"}),
    )
    if not args.llama_server and not args.llama_python:
        raise SystemExit("name a peer with --llama-server or --llama-python")
    shown = subprocess.run([args.smolt, "show", "--json", "-m", args.model], capture_output=True, text=True, check=True)
    ends = [token["id"] for token in json.loads(shown.stdout)["tokenizer"]["ends"]]
    machine = Machine(args.idle_limit)
    found = {visitors: ([], []) for visitors in VISITORS}
    for index in range(args.rounds):
        for visitors, sides in found.items():
            machine.wait()
            run = lambda start: lambda: measure(start, args, visitors, ends)
            for side, values in zip(sides, alternate(index, run(start_smolt), run(start_llama))):
                side.append(values)
    print(
        f"{cpu_name()}, {args.threads} threads, {Path(args.model).name}, {args.rounds} rounds in alternation, medians"
    )
    if machine.not_idle:
        print(f"{machine.not_idle} of {machine.waits} rounds began on a machine that was not idle: take care")
    print("| visitors | | smolt | llama.cpp | ratio | bar |\n|---|---|---|---|---|---|")
    missed = 0
    for visitors, sides in found.items():
        for name, bar in BARS.items():
            a, b = (statistics.median(values[name] for values in side) for side in sides)
            met = a / b >= bar if bar > 1 else a / b <= bar
            missed += not met
            print(f"| {visitors} | {name} | {a:.1f} | {b:.1f} | **{a / b:.2f}** | {bar} {'met' if met else 'missed'} |")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
