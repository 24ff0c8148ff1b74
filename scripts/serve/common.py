"""Shared by the judges of `smolt serve`: a server of their own, plain HTTP, and a list of checks that is counted."""

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 120
STOP_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


def arguments(description: str, *more) -> argparse.Namespace:
    """Reads --smolt and -m; each of `more` is the name and the keywords of another argument."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smolt", default="target/release/smolt", help="the smolt binary")
    parser.add_argument("-m", "--model", help="a GGUF file; without it the demo model in the binary")
    for name, keywords in more:
        parser.add_argument(name, **keywords)
    return parser.parse_args()


class Checks:
    """Prints a line for each check and counts them."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def check(self, name: str, ok: bool, detail="") -> bool:
        """Records a check; `detail` says what was found, and is shown where the check failed."""
        if ok:
            self.passed += 1
            print(f"ok      {name}", flush=True)
        else:
            self.failed.append(name)
            print(f"FAILED  {name}: {str(detail)[:1500]}", flush=True)
        return bool(ok)

    def note(self, text: str) -> None:
        print(f"        {text}", flush=True)

    def skip(self, name: str, why: str) -> None:
        self.skipped.append(name)
        print(f"skipped {name}: {why}", flush=True)

    def run(self, name: str, function, *values) -> None:
        """Runs a function that passes where it raises nothing; it may return why it could not be asked."""
        try:
            why = function(*values)
        except AssertionError as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.check(name, False, f"{error or where.line} (line {where.lineno})")
        except Exception as error:
            where = [frame for frame in traceback.extract_tb(error.__traceback__) if "/serve/" in frame.filename][-1]
            self.check(name, False, f"{type(error).__name__}: {error} (line {where.lineno})")
        else:
            self.skip(name, why) if isinstance(why, str) else self.check(name, True)

    def end(self) -> None:
        """Prints the count and ends the process, with 1 if a check failed."""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {len(self.failed)} failed{skipped}")
        for name in self.failed:
            print(f"  failed: {name}")
        sys.exit(1 if self.failed else 0)


class Server:
    """A `smolt serve` process on a port of its own."""

    def __init__(self, binary: str, model: str | None, *options: str, before=None):
        command = [binary, "serve", "--port", "0", *options]
        command += ["-m", model] if model else []
        self.lines: list[str] = []
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=before
        )
        found = threading.Event()
        self.url = ""

        def read():
            for line in self.process.stderr:
                text = line.decode(errors="replace").rstrip()
                self.lines.append(text)
                match = re.search(r"http://127\.0\.0\.1:\d+", text)
                if match and not self.url:
                    self.url = match.group(0)
                    found.set()
            found.set()

        threading.Thread(target=read, daemon=True).start()
        if not found.wait(START_SECONDS) or not self.url:
            self.process.kill()
            raise SystemExit(f"{' '.join(command)} names no http://127.0.0.1:PORT:\n" + "\n".join(self.lines))
        self.port = int(self.url.rsplit(":", 1)[1])
        self.pid = self.process.pid
        self.wait_ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                if self.get("/ready").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        self.process.kill()
        raise SystemExit(f"/ready is not 200 after {START_SECONDS} s:\n" + "\n".join(self.lines))

    def stop(self) -> int:
        """Ends it by SIGTERM and returns its exit code; -9 where it had to be killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def request(self, method: str, path: str, body=None, headers=(), timeout=300) -> "Answer":
        """Sends a request on a connection of its own; a body that is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            sent = dict(headers)
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, dict((k.lower(), v) for k, v in response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **more) -> "Answer":
        return self.request("GET", path, **more)

    def post(self, path: str, body, **more) -> "Answer":
        return self.request("POST", path, body, **more)

    def metrics(self) -> dict[str, float]:
        """Prometheus samples by name and labels as they are written."""
        samples = {}
        for line in self.get("/metrics", timeout=10).body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels, with or without a prefix of the program's name."""
        found = [v for k, v in self.metrics().items() if re.fullmatch(rf"(smolt_)?{name}(\{{.*\}})?", k)]
        if not found:
            raise KeyError(f"/metrics has no {name}")
        return sum(found)

    def wait_idle(self, seconds: float) -> float | None:
        """Seconds until no request runs or waits; None where that did not come."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if self.metric("requests_running") == 0 and self.metric("requests_queued") == 0:
                return time.monotonic() - start
            time.sleep(0.02)
        return None

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def cpu_share(self, seconds: float) -> float:
        """Share of one processor that it takes over the next seconds."""
        before, start = self.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / (time.monotonic() - start)


class Answer:
    """Status, headers in small letters and body of an HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.status, self.headers, self.body = status, headers, body

    def __str__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"

    def json(self):
        return json.loads(self.body)

    def is_error(self, *statuses: int) -> bool:
        """Whether it is an error of one of these statuses in the form of OpenAI's interface."""
        if self.status not in statuses:
            return False
        try:
            error = self.json()["error"]
            return bool(error["message"].strip()) and {"type", "param", "code"} <= set(error)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False


@contextmanager
def serving(args: argparse.Namespace, *options: str, **more):
    """A server with the arguments' binary, model and `options` if there are any, stopped at the end."""
    server = Server(args.smolt, args.model, *options, *getattr(args, "options", []), **more)
    try:
        yield server
    finally:
        server.stop()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(-(-share * len(ordered) // 1)) - 1))]
