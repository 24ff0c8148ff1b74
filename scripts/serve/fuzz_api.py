#!/usr/bin/env python3
"""Judges `smolt serve` by schemathesis as published: requests made from the OpenAPI document, right and wrong ones.

    python -m venv venv && venv/bin/pip install schemathesis
    venv/bin/python scripts/serve/fuzz_api.py --smolt target/release/smolt --seconds 60

No answer may be a server's error, other than 503 where the queue is full; each status, content type and body must be
as the document says. A slower model gets fewer requests in the time.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from common import Checks, arguments, serving

JUDGED = ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
# Requests name the model that is there, so that they reach what is behind it; one in eight keeps its own.
HOOKS = """
import random
import schemathesis

@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and "model" in body and random.random() < 0.875:
        body["model"] = {model!r}
    return body
"""
PATHS = [
    "/v1/models",
    "/v1/models/{id}",
    "/v1/completions",
    "/v1/chat/completions",
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",
    "/health",
    "/ready",
    "/metrics",
]


def judge_document(checks: Checks, document: dict) -> None:
    """Holds the document itself against what the server offers."""
    checks.check(
        "the document is OpenAPI 3", str(document.get("openapi", "")).startswith("3."), document.get("openapi")
    )
    shapes = {
        "/".join("{}" if part.startswith("{") else part for part in path.split("/")) for path in document["paths"]
    }
    missing = [path for path in PATHS if path.replace("{id}", "{}") not in shapes]
    checks.check(f"it has the {len(PATHS)} paths", not missing, f"missing {missing}")
    chat = document["paths"]["/v1/chat/completions"]["post"]
    statuses = set(chat["responses"])
    wanted = {"200", "400", "404", "413", "415"}
    checks.check("chat completions list their statuses", wanted <= statuses and statuses & {"429", "503"}, statuses)
    text = json.dumps(document)
    fields = [
        "response_format",
        "tool_choice",
        "stream_options",
        "max_completion_tokens",
        "logit_bias",
        "top_logprobs",
    ]
    missing = [field for field in fields if f'"{field}"' not in text]
    checks.check("it names the fields of chat completions", not missing, f"missing {missing}")


def main() -> None:
    args, checks = arguments(__doc__, ("--seconds", {"type": int, "default": 60})), Checks()
    tool = str(Path(sys.executable).with_name("schemathesis"))
    with tempfile.TemporaryDirectory() as folder, serving(args, "--slots", "2", "--queue", "4") as server:
        judge_document(checks, server.get("/openapi.json").json())
        events = Path(folder) / "events.ndjson"
        hooks = Path(folder) / "judge_hooks.py"
        hooks.write_text(HOOKS.format(model=server.get("/v1/models").json()["data"][0]["id"]))
        options = {
            "--checks": ",".join(["not_a_server_error", *JUDGED]),
            "--max-time": args.seconds,
            "--workers": 1,
            "--request-timeout": 120,
            "--generation-database": "none",
            "--seed": 1,
            "--report": "ndjson",
            "--report-ndjson-path": events,
        }
        command = [tool, "--no-color", "run", server.url + "/openapi.json", "--continue-on-failure"]
        command += [str(part) for pair in options.items() for part in pair]
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "judge_hooks", "PYTHONPATH": folder}
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
        lines = events.read_text().splitlines() if events.exists() else []
        statuses = Counter(found for line in lines for found in statuses_of(json.loads(line)))
        checks.note(f"{sum(statuses.values())} answers by status: {dict(sorted(statuses.items()))}")
        checks.check("at least 200 requests were answered", sum(statuses.values()) >= 200, done.stderr[-500:])
        broken = {status: count for status, count in statuses.items() if status >= 500 and status != 503}
        checks.check("no server error", not broken, broken)
        failures = re.search(r"^=+ FAILURES =+.*", done.stdout, re.M | re.S)
        checks.check("schemathesis found no failure", not failures, failures and failures.group(0)[:4000])
        for error in re.findall(r"^_{3,} (.*) _{3,}\nRuntime Error", done.stdout, re.M):
            checks.note(f"schemathesis itself failed to make some requests for {error}")
        tested = re.search(r"(\d+) generated", done.stdout)
        checks.check(
            f"{tested and tested.group(1)} cases were made", bool(tested), done.stdout[-800:] + done.stderr[-800:]
        )
        checks.check("the server runs and is idle", server.wait_idle(10) is not None and server.process.poll() is None)
    checks.end()


def statuses_of(value) -> list[int]:
    """The statuses of all answers in an event of the report."""
    if isinstance(value, dict):
        own = [value["status_code"]] if isinstance(value.get("status_code"), int) and "headers" in value else []
        return own + [status for part in value.values() for status in statuses_of(part)]
    if isinstance(value, list):
        return [status for part in value for status in statuses_of(part)]
    return []


if __name__ == "__main__":
    main()
