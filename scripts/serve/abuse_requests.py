"""Wrong requests: sizes, framing, paths, methods, JSON and values. Part of abuse.py."""

import json
import time

from common import Answer, Checks, Server
from raw_http import head, post, refused, send

BODY_LIMIT = 8 << 20
QUICK_SECONDS = 1.0


def content_types(checks: Checks, server: Server) -> None:
    good = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
    checks.check("a right request is answered", (post(server, good) or Answer(0, {}, b"")).status == 200)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
            refused(
                checks,
                f"JSON as {kind or 'nothing'} is 415 at {path}",
                post(server, good, f"Content-Type: {kind}", path=path),
                415,
            )
    answer = post(server, good, "Content-Type: application/json; charset=utf-8")
    checks.check("a charset may be named", answer is not None and answer.status == 200, answer)


def sizes(checks: Checks, server: Server) -> None:
    too_large = head(server, "GET /health HTTP/1.1", "X-A: " + "a" * 9000)
    many = head(server, "GET /health HTTP/1.1", *(f"X-{i}: a" for i in range(65)))
    long_line = head(server, "GET /" + "a" * 9000 + " HTTP/1.1")
    for name, data in (
        ("headers of more than 8 KiB", too_large),
        ("more than 64 headers", many),
        ("a line of 9 KB", long_line),
    ):
        answer = send(server, data)
        checks.check(f"{name} are refused", answer is not None and answer.status in (400, 413, 414, 431), answer)
    started = time.monotonic()
    answer = send(
        server,
        head(
            server, "POST /v1/completions HTTP/1.1", "Content-Type: application/json", f"Content-Length: {BODY_LIMIT}"
        ),
    )
    took = time.monotonic() - started
    refused(checks, "a body of 8 MB is 413 before it is sent", answer, 413)
    checks.check(f"in {took * 1e3:.0f} ms", took < 0.25)
    refused(checks, "a body of 8 MB is 413", post(server, b" " * BODY_LIMIT), 413)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = send(
        server,
        head(server, "POST /v1/completions HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked")
        + chunk * 128,
    )
    checks.check("8 MB in chunks are refused", answer is not None and answer.status in (411, 413), answer)


def framing(checks: Checks, server: Server) -> None:
    good = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
    body = ("Content-Type: application/json",)
    wrong = {
        "a negative Content-Length": ("Content-Length: -1",),
        "a Content-Length of 2^64": (f"Content-Length: {2**64}",),
        "two different Content-Length": (f"Content-Length: {len(good)}", "Content-Length: 3"),
        "a Content-Length of no number": ("Content-Length: +5",),
        "Transfer-Encoding and Content-Length": (f"Content-Length: {len(good)}", "Transfer-Encoding: chunked"),
        "an unknown Transfer-Encoding": ("Transfer-Encoding: gzip",),
    }
    for name, headers in wrong.items():
        data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(good), good) if "chunked" in headers[-1] else good
        answer = send(server, head(server, "POST /v1/completions HTTP/1.1", *body, *headers) + data)
        checks.check(f"{name} is refused", answer is None or answer.status in (400, 411, 413, 501), answer)
    for name, data in (
        ("no HTTP", b"hello\r\n\r\n"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a NUL", b"GET /\0 HTTP/1.1\r\n\r\n"),
        ("a folded header", head(server, "GET /health HTTP/1.1", "X-A: a\r\n b")),
        ("zeros", bytes(4096)),
    ):
        answer = send(server, data)
        checks.check(f"{name} is refused", answer is None or answer.status in (400, 403, 408, 505), answer)
    pair = send(server, head(server, "GET /health HTTP/1.1") * 2)
    checks.check("of pipelined requests the first is answered", pair is not None and pair.status == 200, pair)


def paths_and_methods(checks: Checks, server: Server) -> None:
    for path in (
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/v1/models/../../../etc/passwd",
        "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
        "/%00",
        "/assets/..%5c..%5cetc",
        "/v1/models/%ff",
    ):
        answer = send(server, head(server, f"GET {path} HTTP/1.1"))
        ok = answer is not None and answer.status in (400, 404) and b"root:" not in answer.body
        checks.check(f"{path} is nothing", ok, answer)
    for line, statuses in (
        ("DELETE /v1/models/x", (404, 405)),
        ("GET /v1/completions", (405,)),
        ("PUT /v1/chat/completions", (405,)),
        ("POST /health", (405, 415)),
        ("TRACE /health", (400, 405)),
        ("CONNECT a:1", (400, 403, 404, 405)),
    ):
        answer = send(server, head(server, f"{line} HTTP/1.1", "Content-Length: 0"))
        checks.check(f"{line} is refused", answer is not None and answer.status in statuses, answer)
    refused(checks, "an unknown path has an error's form", send(server, head(server, "GET /v1/nothing HTTP/1.1")), 404)


def wrong_json(checks: Checks, server: Server) -> None:
    def with_value(name: str, value: str) -> bytes:
        rest = b"" if name == "max_tokens" else b', "max_tokens": 1'
        return b'{"prompt": "a"%s, "%s": %s}' % (rest, name.encode(), value.encode())

    bodies = {
        "nothing": b"",
        "no JSON": b"{prompt}",
        "half of it": b'{"prompt": "a',
        "a list": b"[]",
        "a number": b"7",
        "null": b"null",
        "two values": b'{"prompt": "a"} {"prompt": "b"}',
        "not UTF-8": b'{"prompt": "\xff\xfe"}',
        "a depth of 100,000": b"[" * 100_000 + b"]" * 100_000,
        "a depth of 100,000 in a field": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "a key twice": b'{"prompt": "a", "prompt": "b"}',
        "1e999": with_value("temperature", "1e999"),
        "NaN": with_value("temperature", "NaN"),
        "Infinity": with_value("temperature", "Infinity"),
        "a lone surrogate": b'{"prompt": "\\ud800"}',
        "a reversed pair": b'{"prompt": "\\udc00\\ud800"}',
        "a number of 10,000 digits": with_value("seed", "9" * 10_000),
    }
    for name, value in (
        ("n_predict", "-1"),
        ("n_predict", str(2**63)),
        ("max_tokens", "-1"),
        ("temperature", "1e308"),
        ("temperature", "-1e308"),
        ("temperature", '"NaN"'),
        ("top_k", "-5"),
        ("top_p", "-1"),
        ("n", "1000000"),
        ("logprobs", "1000000"),
        ("seed", str(2**64)),
        ("repeat_penalty", "1e308"),
        ("stop", "[7]"),
        ("logit_bias", '{"x": 1}'),
        ("logit_bias", f'{{"{2**40}": 1}}'),
        ("logit_bias", '{"1": 1e308}'),
        ("stream", "1"),
    ):
        bodies[f"{name} {value}"] = with_value(name, value)
    for name, body in bodies.items():
        started = time.monotonic()
        answer = post(server, body)
        took = time.monotonic() - started
        refused(checks, f"{name} is 400", answer, 400)
        checks.check(f"{name} takes less than a second", took < QUICK_SECONDS, took)
    defined = {
        "top_p 0": with_value("top_p", "0"),
        "temperature -0": with_value("temperature", "-0.0"),
        "seed 2^63": with_value("seed", str(2**63)),
        "max_tokens 2^63": b'{"prompt": "a", "stop": [" ", "e", "a"], "max_tokens": %d}' % 2**63,
        "4,000 stops": with_value("stop", json.dumps([f"s{i}" for i in range(4000)])),
        "4,000 biases": with_value("logit_bias", json.dumps({str(i % 1000 + i): 1 for i in range(4000)})),
        "an empty prompt": b'{"prompt": "", "max_tokens": 1}',
        "an empty stop": with_value("stop", '""'),
    }
    for name, body in defined.items():
        answer = post(server, body)
        checks.check(
            f"{name} is answered or refused", answer and (answer.status == 200 or answer.is_error(400)), answer
        )
    for name, body in (
        ("1,000,000 stops", with_value("stop", json.dumps(["s"] * 1_000_000))),
        ("1,000,000 biases", with_value("logit_bias", json.dumps({str(i): 1 for i in range(1_000_000)}))),
    ):
        refused(checks, f"{name} are 413", post(server, body), 413)


def judge(checks: Checks, server: Server) -> None:
    for part in (content_types, sizes, framing, paths_and_methods, wrong_json):
        part(checks, server)
