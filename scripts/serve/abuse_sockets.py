"""Connections that stall, break or are too many. Part of abuse.py."""

import json
import os
import resource
import socket
import stat
import subprocess
import tempfile
import threading
import time

from common import Answer, Checks, Server, percentile, serving
from raw_http import head, read_answer, send

STALLED = 1000
HEALTH_P99_SECONDS = 0.1
STALLED_RSS_KIB = 8 << 10
RELEASE_SECONDS = 0.5
IDLE_SHARE = 0.05
STALL_SECONDS = 30


def connect(server: Server, receive: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.port))
    return connection


def seconds_until_cut(server: Server, start: bytes, drip: bytes, limit: float) -> float:
    """How long a connection lives that begins with `start` and goes on with `drip` every half second."""
    with connect(server) as connection:
        began = time.monotonic()
        connection.sendall(start)
        connection.settimeout(0.5)
        while time.monotonic() - began < limit:
            try:
                connection.sendall(drip)
                data = connection.recv(4096)
                if not data or b"HTTP/1.1 408" in data or b"HTTP/1.1 4" in data:
                    return time.monotonic() - began
            except TimeoutError:
                pass
            except ConnectionError:
                return time.monotonic() - began
    return float("inf")


def slow_senders(checks: Checks, server: Server) -> None:
    begun = head(server, "GET /health HTTP/1.1")[:-2]
    took = seconds_until_cut(server, begun + b"X-A: ", b"a", 20)
    checks.check(f"a slow header is cut off after {took:.1f} s", 3 <= took <= 8)
    took = seconds_until_cut(server, begun[:4], b"", 20)
    checks.check(f"half a request line is cut off after {took:.1f} s", 3 <= took <= 8)
    body = head(server, "POST /tokenize HTTP/1.1", "Content-Type: application/json", "Content-Length: 1000")
    took = seconds_until_cut(server, body + b"{", b" ", 30)
    checks.check(f"a slow body is cut off after {took:.1f} s", 3 <= took <= 13)


def endless(server: Server, tokens: int = 200, **more) -> dict:
    """A request that does not end early."""
    eos = server.get("/tokenizer_info").json()["eos_token"]
    end = server.post("/tokenize", {"prompt": eos, "add_special_tokens": False}).json()["tokens"][0]
    fields = {"prompt": "Once upon a time", "max_tokens": tokens, "temperature": 1.5, "logit_bias": {str(end): -100}}
    return fields | {"stream": True, "n": 4} | more


def start_stream(server: Server, fields: dict, receive: int | None = None) -> socket.socket:
    body = json.dumps(fields).encode()
    line = "POST /v1/completions HTTP/1.1"
    connection = connect(server, receive)
    connection.sendall(head(server, line, "Content-Type: application/json", f"Content-Length: {len(body)}") + body)
    return connection


def slow_reader(checks: Checks, server: Server) -> None:
    context = server.get("/v1/models").json()["data"][0].get("max_model_len", 256)
    with start_stream(server, endless(server, tokens=min(1500, context - 40), logprobs=20), receive=2048):
        time.sleep(1)
        checks.check("beside a reader that stalls the server answers", server.get("/health").status == 200)
        took = server.wait_idle(60)
        checks.check(f"a reader that stalls holds no slot after {took} s", took is not None and took <= STALL_SECONDS)


def disconnections(checks: Checks, server: Server) -> None:
    for phase in ("answer", "prompt"):
        before = server.metric("requests_cancelled_total")
        if phase == "answer":
            connection = start_stream(server, endless(server))
            while b'"text":' not in connection.recv(1000):
                pass
        else:
            connection = start_stream(server, endless(server, tokens=8, prompt=longest_prompt(server)))
        end = time.monotonic() + 10
        while (running := server.metric("requests_running")) == 0 and time.monotonic() < end:
            pass
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        took = server.wait_idle(10)
        name = f"a client that leaves during the {phase}"
        counted = running > 0 and server.metric("requests_cancelled_total") > before
        checks.check(f"{name} is counted as cancelled", counted, f"{running} were running when it left")
        checks.check(f"{name} frees its slot, after {took} s", took is not None and took <= RELEASE_SECONDS)
        share = server.cpu_share(1.0)
        checks.check(f"{name}: {share:.1%} of a processor is used afterwards", share < IDLE_SHARE)


def longest_prompt(server: Server) -> str:
    """A prompt that nearly fills the context."""
    words = "one two three four five six seven eight "
    for count in (1000, 500, 200, 100, 50, 25, 12):
        text = words * (count // 8)
        answer = server.post("/v1/completions", {"prompt": text, "max_tokens": 1})
        if answer.status == 200:
            # Other words at the start, so that nothing of it is cached.
            return "eight " + text[: -len(words)]
    raise AssertionError("no prompt of 12 words fits")


def health_times(server: Server, count: int) -> list[float]:
    times = []
    for _ in range(count):
        started = time.monotonic()
        assert server.get("/health", timeout=10).status == 200
        times.append(time.monotonic() - started)
        time.sleep(0.005)
    return times


def stalled_sockets(checks: Checks, server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    server.wait_idle(5)
    time.sleep(1)
    alone = percentile(health_times(server, 200), 0.99)
    checks.note(f"/health p99 is {alone * 1e3:.1f} ms without stalled sockets")
    for name, start in (
        ("that send nothing", b""),
        ("with half a header", b"GET /health HTTP/1.1\r\nHost: 127"),
        ("with half a body", None),
    ):
        if start is None:
            start = (
                head(server, "POST /tokenize HTTP/1.1", "Content-Type: application/json", "Content-Length: 99") + b"{"
            )
        rss, descriptors = server.rss_kib(), server.descriptors()
        stop, sockets, worst = threading.Event(), [], [rss]

        def open_again():
            """Keeps the number of open sockets up while the server closes them."""
            while not stop.is_set():
                while len(sockets) >= STALLED:
                    sockets.pop(0).close()
                try:
                    connection = socket.create_connection(("127.0.0.1", server.port), timeout=2)
                    connection.sendall(start)
                    sockets.append(connection)
                except OSError:
                    time.sleep(0.002)
                if len(sockets) >= STALLED:
                    worst[0] = max(worst[0], server.rss_kib())
                    time.sleep(0.01)

        thread = threading.Thread(target=open_again)
        thread.start()
        end = time.monotonic() + 30
        while len(sockets) < STALLED - 1 and time.monotonic() < end:
            time.sleep(0.1)
        count = len(sockets)
        try:
            p99 = percentile(health_times(server, 200), 0.99)
        except (OSError, AssertionError) as error:
            p99 = float("inf")
            checks.note(f"/health: {error!r}")
        stop.set()
        thread.join()
        checks.check(
            f"{count} sockets {name}: /health p99 is {p99 * 1e3:.1f} ms",
            p99 < HEALTH_P99_SECONDS and count >= STALLED - 1,
        )
        grown = worst[0] - rss
        checks.check(f"{count} sockets {name} take {grown} KiB", grown <= STALLED_RSS_KIB)
        for connection in sockets:
            connection.close()
        time.sleep(1)
        left = server.descriptors() - descriptors
        checks.check(f"of {count} sockets {name} no descriptor is left", left <= 2, left)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def stalled_alone(checks: Checks, server: Server) -> None:
    """Sockets that are left alone are closed by the server itself."""
    before = server.descriptors()
    sockets = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(50)]
    time.sleep(12)
    left = server.descriptors() - before
    checks.check("50 silent connections are closed by the server", left <= 2, f"{left} are open after 12 s")
    for connection in sockets:
        connection.close()


def no_descriptors(checks: Checks, args) -> None:
    limit = 64
    before = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with serving(args, "--slots", "1", before=before) as server:
        sockets = []
        for _ in range(3 * limit):
            try:
                sockets.append(socket.create_connection(("127.0.0.1", server.port), timeout=1))
            except OSError:
                break
        share = server.cpu_share(3.0)
        checks.check(f"{len(sockets)} connections with {limit} descriptors: {share:.1%} of a processor", share < 0.2)
        checks.check("it runs on", server.process.poll() is None)
        for connection in sockets:
            connection.close()
        time.sleep(1)
        checks.check("and answers when they are gone", server.get("/health", timeout=10).status == 200)


def unix_socket(checks: Checks, args) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "smolt.sock")
        command = [args.smolt, "serve", "--slots", "1", "--socket", path] + (["-m", args.model] if args.model else [])
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            answer, end = None, time.monotonic() + 60
            while (answer is None or answer.status != 200) and time.monotonic() < end:
                answer = ask_at_path(path)
                time.sleep(0.1)
            checks.check("a UNIX socket is served", answer is not None and answer.status == 200, answer)
            mode = stat.S_IMODE(os.stat(path).st_mode)
            checks.check(f"and is for its owner only, mode {mode:o}", mode & 0o077 == 0)
        finally:
            process.terminate()
            process.wait(30)
        checks.check("and is gone afterwards", not os.path.exists(path))


def ask_at_path(path: str) -> Answer | None:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(path)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return read_answer(connection)
    except OSError:
        return None


def judge(checks: Checks, server: Server, args) -> None:
    for part in (slow_senders, slow_reader, disconnections, stalled_sockets, stalled_alone):
        part(checks, server)
    answer = send(server, head(server, "GET /health HTTP/1.1"))
    checks.check("it answers at once afterwards", answer is not None and answer.status == 200, answer)
    no_descriptors(checks, args)
    unix_socket(checks, args)
