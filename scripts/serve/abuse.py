#!/usr/bin/env python3
"""Judges `smolt serve` by what strangers send: raw bytes, wrong requests, sockets that stall, clients that go away.

    python3 scripts/serve/abuse.py --smolt target/release/smolt -m model.gguf

Needs nothing but Python. Hosts and origins are here, wrong requests in abuse_requests.py, stalled and
broken connections in abuse_sockets.py.
"""

import os
import subprocess
import tempfile
import time

import abuse_requests
import abuse_sockets
from common import Checks, Server, arguments, serving
from raw_http import head, send

METRICS = [
    "requests_total",
    "request_duration_seconds_bucket",
    "time_to_first_token_seconds_bucket",
    "inter_token_latency_seconds_bucket",
    "prompt_tokens_total",
    "generated_tokens_total",
    "requests_running",
    "requests_queued",
    "requests_cancelled_total",
    "cached_prefix_tokens_total",
    "context_tokens_used",
    "build_info",
    "model_info",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
]


def hosts_and_origins(checks: Checks, server: Server) -> None:
    port = server.port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        f"127.0.0.1:{port}.evil.example",
        f"localhost:{port}@evil.example",
        "127.0.0.1:1",
        f"0.0.0.0:{port}",
    ):
        for path in ("/health", "/", "/no-such-path", "/v1/models"):
            answer = send(server, head(server, f"GET {path} HTTP/1.1", host=host))
            checks.check(
                f"Host {host.replace(str(port), 'PORT')} is 403 at {path}",
                answer is not None and answer.status in (400, 403) and (answer.status == 403 or "@" in host),
                answer,
            )
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", f"LOCALHOST:{port}"):
        answer = send(server, head(server, "GET /health HTTP/1.1", host=host))
        checks.check(
            f"Host {host.replace(str(port), 'PORT')} is served", answer is not None and answer.status == 200, answer
        )
    own = f"127.0.0.1:{port}"
    wrong = {
        "no Host": head(server, "GET /health HTTP/1.1", host=None),
        "Host twice": head(server, "GET /health HTTP/1.1", f"Host: {own}"),
        "Host twice, one foreign": head(server, "GET /health HTTP/1.1", "Host: evil.example"),
        "empty Host": head(server, "GET /health HTTP/1.1", host=" "),
        "a foreign absolute address": head(server, "GET http://evil.example/health HTTP/1.1"),
        "a foreign absolute address and Host": head(
            server, "GET http://evil.example/health HTTP/1.1", host="evil.example"
        ),
        "HTTP/1.0 without Host": head(server, "GET /health HTTP/1.0", host=None),
    }
    for name, data in wrong.items():
        answer = send(server, data)
        checks.check(f"{name} is refused", answer is not None and answer.status in (400, 403, 505), answer)
    for origin, statuses in (
        (f"http://{own}", [200]),
        (f"http://localhost:{port}", [200, 403]),
        ("http://evil.example", [403]),
        ("null", [403]),
        (f"http://127.0.0.1:{port + 1}", [403]),
    ):
        for line in ("GET /health", "GET /v1/models", "OPTIONS /v1/completions"):
            answer = send(
                server, head(server, f"{line} HTTP/1.1", f"Origin: {origin}", "Access-Control-Request-Method: POST")
            )
            ok = answer and (
                answer.status in statuses or line.startswith("OPTIONS") and answer.status in (204, 403, 404, 405)
            )
            ok = ok and not any(name.startswith("access-control") for name in answer.headers)
            checks.check(
                f"{line} from {origin.replace(str(port), 'PORT')} is {statuses}, without CORS headers", ok, answer
            )


def headers_of_answers(checks: Checks, server: Server) -> None:
    for path in ("/health", "/v1/models", "/metrics", "/nothing", "/"):
        answer = server.get(path)
        checks.check(f"{path} says nosniff", answer.headers.get("x-content-type-options") == "nosniff", answer.headers)
        checks.check(f"{path} is not stored", "no-store" in answer.headers.get("cache-control", ""), answer.headers)
    policy = server.get("/").headers.get("content-security-policy", "")
    checks.check("the page has a strict policy", "default-src 'none'" in policy and "unsafe" not in policy, policy)


def metrics(checks: Checks, server: Server) -> None:
    found = {name.split("{")[0].removeprefix("smolt_") for name in server.metrics()}
    missing = [name for name in METRICS if name not in found]
    checks.check(f"/metrics has {len(METRICS)} names of what an operator asks", not missing, f"missing {missing}")
    labels = server.get("/metrics").body.decode()
    checks.check("cancellations are counted by phase", 'requests_cancelled_total{phase="' in labels)
    checks.check("requests are counted by endpoint and code", 'endpoint="/v1/completions",code="200"' in labels)


def no_text_is_kept(checks: Checks, server: Server) -> None:
    secret = "canary-7f3a91"
    server.post("/v1/completions", {"prompt": f"{secret} a", "max_tokens": 2})
    server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": secret}], "max_tokens": 2})
    server.post("/v1/completions", {"prompt": secret, "max_tokens": -1})
    server.post("/v1/completions", b'{"prompt": "%s' % secret.encode())
    server.post("/tokenize", {"prompt": secret})
    server.get(f"/{secret}")
    time.sleep(0.5)
    checks.check("no prompt is in the log", not any(secret in line for line in server.lines))
    checks.check("no prompt is in the metrics", secret.encode() not in server.get("/metrics").body)


def addresses(checks: Checks, args) -> None:
    model = ["-m", args.model] if args.model else []
    done = subprocess.run(
        [args.smolt, "serve", "--host", "0.0.0.0", "--port", "0", *model], capture_output=True, text=True, timeout=60
    )
    checks.check("another address without a token is refused", done.returncode == 2 and "token" in done.stderr, done)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "token")
        with open(path, "w") as file:
            file.write("long-enough-a-token\n")
        os.chmod(path, 0o644)
        command = [args.smolt, "serve", "--port", "0", "--token-file", path, *model]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        checks.check("a token that all may read is refused", done.returncode not in (0, -9), done)


def main() -> None:
    args, checks = arguments(__doc__), Checks()
    with serving(args, "--slots", "2", "--queue", "4") as server:
        for judge in (hosts_and_origins, abuse_requests.judge, headers_of_answers, metrics, no_text_is_kept):
            judge(checks, server)
        abuse_sockets.judge(checks, server, args)
        checks.check("the server still runs", server.process.poll() is None and server.get("/health").status == 200)
    addresses(checks, args)
    checks.end()


if __name__ == "__main__":
    main()
