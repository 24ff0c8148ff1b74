#!/usr/bin/env python3
"""Loads `smolt serve` with twice what it takes, for some minutes, and judges what is left.

    python3 scripts/serve/soak.py 30 --smolt target/release/smolt -m model.gguf

Clients ask, stream, call functions, send wrong bodies and go away at random. Only statuses that the OpenAPI document
names may come; the resident memory after the load may be at most 1 MB above that after a warm-up, no descriptor may be
left open, and every slot must be free. The warm-up is the same load for a fifth of the time, at least half a minute.
"""

import http.client
import json
import random
import re
import threading
import time
from collections import Counter

from common import Checks, Server, arguments, serving

SLOTS, QUEUE = 2, 4
CLIENTS = 2 * (SLOTS + QUEUE)
DRIFT_KIB = 1000
LIGHT = {"type": "object", "properties": {"room": {"enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}}}
TOOL = {"type": "function", "function": {"name": "set_light", "parameters": LIGHT}}
WORDS = "the light in kitchen hall office is on off and blinds are open why where museum map of city".split()
WRONG = [
    b"",
    b"{",
    b"[" * 5000,
    b'{"messages": 7}',
    b'{"messages": []}',
    b'{"prompt": "\\ud800"}',
    b"\xff\xfe",
    b'{"prompt": "a", "temperature": -1}',
    b'{"prompt": "a", "frobnicate": 1}',
    b'{"prompt": [[99999999]]}',
]


class Load:
    """Clients that ask at random until they are told to stop."""

    def __init__(self, server: Server, documented: dict[str, set[int]]):
        self.server, self.documented = server, documented
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.statuses, self.kinds, self.wrong = Counter(), Counter(), []

    def record(self, path: str, kind: str, status: int, body: bytes = b"") -> None:
        with self.lock:
            self.statuses[status] += 1
            self.kinds[kind] += 1
            if status not in self.documented.get(path, set()):
                self.wrong.append(f"{kind}: {path} gave {status} {body[:200]!r}")

    def complain(self, text: str) -> None:
        with self.lock:
            self.wrong.append(text)

    def request(self, draw: random.Random) -> tuple[str, str, dict | bytes]:
        """Kind, path and body of a request."""
        text = " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 60)))
        chat = {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": draw.randint(1, 60),
            "seed": draw.randint(0, 99),
            "temperature": draw.choice([0, 0.7, 1.5]),
            "stream": draw.random() < 0.5,
        }
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": LIGHT, "strict": True}}
        kinds = [
            ("chat", "/v1/chat/completions", chat),
            ("chat", "/v1/chat/completions", chat | {"n": 2, "logprobs": True, "top_logprobs": 3}),
            (
                "tools",
                "/v1/chat/completions",
                chat | {"tools": [TOOL], "tool_choice": draw.choice(["auto", "required"])},
            ),
            ("form", "/v1/chat/completions", chat | {"response_format": schema}),
            (
                "text",
                "/v1/completions",
                {"prompt": [text, text[:20]], "max_tokens": 20, "stream": draw.random() < 0.5},
            ),
            ("score", "/v1/completions", {"prompt": text, "max_tokens": 1, "echo": True, "logprobs": 2}),
            ("wrong", draw.choice(["/v1/chat/completions", "/v1/completions"]), draw.choice(WRONG)),
            ("tokens", "/tokenize", {"prompt": text}),
            ("no", "/v1/chat/completions", chat | {"model": "no-such-model"}),
        ]
        return draw.choice(kinds)

    def ask(self, draw: random.Random) -> None:
        kind, path, body = self.request(draw)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        leaves = draw.random() < 0.3
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        try:
            connection.request("POST", path, data, {"Content-Type": "application/json"})
            if leaves and draw.random() < 0.5:
                time.sleep(draw.random() * 0.2)
                self.record(path, "left before the answer", 200)
                return
            response = connection.getresponse()
            if leaves:
                response.read(draw.randint(1, 400))
                self.record(path, "left during the answer", response.status)
                return
            answer = response.read()
            self.record(path, kind, response.status, answer)
            if response.status in (429, 503):
                if not response.headers.get("Retry-After"):
                    self.complain(f"{response.status} without Retry-After")
                time.sleep(0.05)
            elif response.status == 200 and b"data: " in answer[:6] and not answer.endswith(b"data: [DONE]\n\n"):
                self.complain(f"a stream ended with {answer[-100:]!r}")
        finally:
            connection.close()

    def client(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self.stop.is_set():
            try:
                self.ask(draw)
            except (OSError, http.client.HTTPException) as error:
                self.complain(f"no answer: {error!r}")
                time.sleep(0.2)

    def run(self, seconds: float) -> None:
        self.stop.clear()
        threads = [threading.Thread(target=self.client, args=(seed,)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self.stop.set()
        for thread in threads:
            thread.join()


def documented_statuses(server: Server) -> dict[str, set[int]]:
    paths = server.get("/openapi.json").json()["paths"]
    return {
        path: {int(s) for s in item["post"]["responses"] if re.fullmatch(r"\d+", s)}
        for path, item in paths.items()
        if "post" in item
    }


def main() -> None:
    args = arguments(__doc__, ("minutes", {"type": float, "metavar": "MINUTES"}))
    checks = Checks()
    with serving(args, "--slots", str(SLOTS), "--queue", str(QUEUE)) as server:
        load = Load(server, documented_statuses(server))

        def settle(seconds: float) -> tuple[int, int]:
            """Loads for some seconds; then memory and descriptors of the idle server."""
            load.run(seconds)
            checks.check(f"idle after {seconds:.0f} s of load", server.wait_idle(10) is not None)
            time.sleep(2)
            return min(server.rss_kib() for _ in range(5)), server.descriptors()

        rss, descriptors = settle(max(30, args.minutes * 60 * 0.2))
        checks.note(f"after the warm-up {rss} KiB, {descriptors} descriptors")
        before = server.cpu_seconds()
        rss_end, descriptors_end = settle(args.minutes * 60)
        checks.note(
            f"{sum(load.statuses.values())} requests by status {dict(sorted(load.statuses.items()))}, by kind "
            f"{dict(load.kinds)}; {server.cpu_seconds() - before:.0f} s of processor time"
        )
        checks.check(
            "only documented statuses, whole streams, Retry-After",
            not load.wrong,
            f"{len(load.wrong)}, such as {load.wrong[:5]}",
        )
        checks.check("the queue was full at times", load.statuses[429] + load.statuses[503] > 0)
        checks.check("most requests were answered", load.statuses[200] > 50, load.statuses)
        checks.check(f"memory went from {rss} to {rss_end} KiB", rss_end - rss < DRIFT_KIB)
        checks.check(f"descriptors went from {descriptors} to {descriptors_end}", descriptors_end <= descriptors)
        busy = server.metric("requests_running"), server.metric("requests_queued")
        checks.check("every slot is free", busy == (0, 0), busy)
        share = server.cpu_share(2.0)
        checks.check(f"idle it takes {share:.1%} of a processor", share < 0.05)
        checks.check("it ends with 0 or 143 on SIGTERM", server.stop() in (0, 143), server.process.returncode)
    checks.end()


if __name__ == "__main__":
    main()
