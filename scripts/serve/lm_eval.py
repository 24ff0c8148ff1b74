#!/usr/bin/env python3
"""Judges `smolt serve` by lm-evaluation-harness as published: unmodified, without torch, without network.

    python -m venv venv && venv/bin/pip install "lm-eval[api]"
    venv/bin/python scripts/serve/lm_eval.py --smolt target/release/smolt -m model.gguf

Tasks of all four kinds are written into a temporary folder and run through `local-completions` with a batch of 1, with
a batch of 8, with 4 requests at once and with prompts as texts, through `gguf`, and through `local-chat-completions`.
Every run must end with 0, the values of each sample must be the same in the first three, and the results those of
`smolt eval` on the same files.

lm-eval asks the server for tokens without a start token. Models whose tokenizer puts one before a text are therefore
compared with `smolt eval` on the run with prompts as texts, to which the server itself adds it; there rolling
likelihoods are left out, whose windows lm-eval can only send as tokens. lm-eval takes a start token with the id 0 for
none; there the id is given to it.
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Checks, arguments, serving

LENGTH = 256  # Tokens of a prompt and the one after it: what the demo model holds.
SAME = 1e-5  # Between runs of lm-eval, in nats.
CLOSE = 1e-4  # Relative, of perplexities to those of `smolt eval`.

ROOMS = ["kitchen", "office", "hall", "bedroom", "garage", "bathroom", "attic", "library"]
THINGS = ["light", "blinds", "heating", "door", "timer", "window"]

CHOICES = """task: judge_choices
dataset_path: json
dataset_kwargs: {data_files: {test: choices.jsonl}}
test_split: test
fewshot_split: test
fewshot_config: {sampler: first_n}
num_fewshot: 2
output_type: multiple_choice
doc_to_text: "Request: {{request}}\\nAbout:"
doc_to_choice: options
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}]
"""
LAST = """task: judge_last
dataset_path: json
dataset_kwargs: {data_files: {test: last.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{start}}"
doc_to_target: " {{end}}"
metric_list: [{metric: perplexity}, {metric: acc}]
"""
TEXTS = """task: judge_texts
dataset_path: json
dataset_kwargs: {data_files: {test: texts.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: text
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""
REPLIES = """task: judge_replies
dataset_path: json
dataset_kwargs: {data_files: {test: replies.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{request}}"
doc_to_target: reply
generation_kwargs: {until: ["\\n\\n", "Q:", "<|im_end|>", "zzz", "qqq", "xxx"], max_gen_toks: 32, do_sample: false}
filter_list:
  - name: letter
    filter: [{function: regex, regex_pattern: "([A-Za-z])"}, {function: take_first}]
  - name: none
    filter: [{function: take_first}]
metric_list: [{metric: exact_match, ignore_case: true, ignore_punctuation: true}]
"""
TASKS = {"judge_choices": CHOICES, "judge_last": LAST, "judge_texts": TEXTS, "judge_replies": REPLIES}
SCORED = ["judge_choices", "judge_last", "judge_texts"]


def documents() -> dict[str, list[dict]]:
    """Documents of unequal lengths, some not ASCII, one longer than the context."""
    choices, last, replies = [], [], []
    for i in range(12):
        room, thing = ROOMS[i % len(ROOMS)], THINGS[i % len(THINGS)]
        options = [THINGS[(i + k) % len(THINGS)] for k in range(2 + i % 3)] + ["café ☕", "a question, in many words"]
        polite = "please " * (i % 7)
        choices.append({"request": f"{polite}change the {thing} in the {room}", "options": options, "answer": 0})
        end = ["on", "off", "open", "größer", "閉"][i % 5]
        last.append({"start": f"{polite}The {thing} in the {room} is", "end": end})
        request = f"Turn {'on' if i % 2 else 'off'} the {thing} in the {room}"
        replies.append({"request": request, "reply": "tai"[i % 3]})
    last += [{"start": "The sun rises in the east and sets in the", "end": "west"}, {"start": "", "end": "start"}]
    texts = [
        {"text": f"The {t} of the {r} is new. It was bought in {1990 + i}; nobody knows why — perhaps “{t}”."}
        for i, (t, r) in enumerate(zip(THINGS, ROOMS))
    ]
    days = (f"On day {i} the {THINGS[i % 6]} in the {ROOMS[i % 8]} was mended." for i in range(40))
    texts.append({"text": " ".join(days)})
    return {"choices": choices, "last": last, "texts": texts, "replies": replies}


def write_tasks(folder: Path) -> None:
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(text)
    for name, lines in documents().items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)


def run_lm_eval(folder: Path, name: str, kind: str, url: str, model: str, tasks, options=(), more="") -> tuple:
    """Exit code, results and samples of a run; samples by task and document."""
    out = folder / name
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "DISABLE_MULTIPROC": "1",
        "http_proxy": "",
        "https_proxy": "",
        "NO_PROXY": "*",
    }
    command = [
        sys.executable,
        "-P",
        "-m",
        "lm_eval",
        "run",
        "--model",
        kind,
        "--tasks",
        ",".join(tasks),
        "--model_args",
        f"model={model},base_url={url},max_length={LENGTH},timeout=3600{more}",
        "--include_path",
        str(folder),
        "--output_path",
        str(out),
        "--log_samples",
        *options,
    ]
    # From the folder, so that the tasks' data files are found; -P keeps this script from shadowing the package.
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        return done.returncode, done.stderr[-1500:], {}
    results = json.loads(next(out.rglob("results_*.json")).read_text())["results"]
    samples = {}
    for task in tasks:
        lines = next(out.rglob(f"samples_{task}_*.jsonl")).read_text().splitlines()
        samples[task] = {sample["doc_id"]: sample["resps"] for sample in map(json.loads, lines)}
    return 0, results, samples


def values(resps) -> list[float]:
    """The log-probabilities of a sample: of each choice or of the whole text."""
    flat = [one[0] for one in resps]
    return [float(one[0]) if isinstance(one, list) else float(one) for one in flat]


def run_smolt(args, folder: Path, options: list[str], tasks) -> tuple[dict, dict]:
    """Results and samples of `smolt eval` in the form of run_lm_eval."""
    samples_file = folder / f"smolt-{len(list(folder.iterdir()))}.jsonl"
    command = [args.smolt, "eval", "--json", "--quiet", "--samples", str(samples_file), *options]
    command += ["-m", args.model] if args.model else []
    done = subprocess.run(command + [str(folder / f"{task}.yaml") for task in tasks], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    results = {}
    for row in json.loads(done.stdout)["results"]:
        results.setdefault(row["task"], {})[f"{row['metric']},{row['filter']}"] = row["value"]
    samples = {}
    for sample in map(json.loads, samples_file.read_text().splitlines()):
        samples.setdefault(sample["task"], {})[sample["doc_id"]] = sample["resps"]
    return results, samples


def same_samples(checks: Checks, name: str, a: dict, b: dict, tasks, limit: float) -> None:
    """Holds the log-probabilities, or the texts, of two runs against each other."""
    for task in tasks:
        if set(a[task]) != set(b[task]):
            checks.check(f"{name}: {task} has the same documents", False, f"{len(a[task])} and {len(b[task])}")
        elif task in SCORED:
            pairs = [(x, y) for doc in a[task] for x, y in zip(values(a[task][doc]), values(b[task][doc]), strict=True)]
            worst = max(abs(x - y) for x, y in pairs)
            name_all = f"{name}: {len(pairs)} log-probabilities of {task} are equal, worst {worst:.2g}"
            checks.check(name_all, worst <= limit, f"more than {limit}")
        else:
            differ = [doc for doc in a[task] if a[task][doc] != b[task][doc]]
            detail = differ and f"document {differ[0]}: {a[task][differ[0]]} and {b[task][differ[0]]}"
            checks.check(f"{name}: {len(a[task])} texts of {task} are equal", not differ, detail)


def same_results(checks: Checks, name: str, theirs: dict, ours: dict, tasks) -> None:
    for task in tasks:
        for metric, value in ours[task].items():
            found = theirs[task].get(metric)
            near = metric.startswith(("perplexity", "word_", "byte_", "bits_"))
            ok = found is not None and math.isclose(found, value, rel_tol=CLOSE if near else 1e-12, abs_tol=1e-12)
            checks.check(f"{name}: {task} {metric} is {value:.6g} as of smolt eval", ok, f"lm-eval has {found}")


def judge(args, checks: Checks, server, folder: Path) -> None:
    model = server.get("/v1/models").json()["data"][0]["id"]
    info = server.get("/tokenizer_info").json()
    adds_start = len(server.post("/tokenize", {"prompt": "a", "add_special_tokens": True}).json()["tokens"]) > len(
        server.post("/tokenize", {"prompt": "a", "add_special_tokens": False}).json()["tokens"]
    )
    url, tasks = server.url + "/v1/completions", list(TASKS)
    start = server.post("/tokenize", {"prompt": info["bos_token"], "add_special_tokens": False}).json()["tokens"]
    prefix = ",custom_prefix_token_id=0" if start == [0] else ""
    runs = {
        "batch 1": (tasks, ["--batch_size", "1"], prefix),
        "batch 8": (tasks, ["--batch_size", "8"], prefix),
        "4 at once": (tasks, ["--batch_size", "1"], prefix + ",num_concurrent=4"),
        "texts": (
            [t for t in tasks if t != "judge_texts"],
            ["--batch_size", "1"],
            prefix + ",tokenized_requests=False",
        ),
    }
    found = {}
    for name, (some, options, more) in runs.items():
        code, results, samples = run_lm_eval(folder, name, "local-completions", url, model, some, options, more)
        if checks.check(f"{name}: lm-eval ends with 0", code == 0, results):
            found[name] = (results, samples)
    code, results, samples = run_lm_eval(folder, "gguf", "gguf", server.url, model, ["judge_choices"])
    if checks.check("gguf: lm-eval ends with 0", code == 0, results):
        found["gguf"] = (results, samples)
    for name in ("batch 8", "4 at once"):
        if name in found and "batch 1" in found:
            same_samples(checks, f"{name} and batch 1", found["batch 1"][1], found[name][1], tasks, SAME)

    # lm-eval keeps a token for the answer and begins windows of rolling likelihoods with another one.
    context = ["-c", str(LENGTH - 2)]
    ours, our_samples = run_smolt(args, folder, [*context, "--raw", "--rolling-start", "once"], tasks)
    alike = {
        "texts": runs["texts"][0],
        "gguf": ["judge_choices"],
        "batch 1": ["judge_texts"] if adds_start else tasks,
    }
    for name, some in alike.items():
        if name in found:
            same_results(checks, name, found[name][0], ours, some)
            same_samples(checks, f"{name} and smolt eval", found[name][1], our_samples, some, 1e-3)

    if not info.get("chat_template"):
        checks.skip("chat", "the model has no chat template")
        return
    chat = ["judge_replies"]
    for name, more in (("chat", ""), ("chat, 4 at once", ",num_concurrent=4")):
        code, results, samples = run_lm_eval(
            folder,
            name,
            "local-chat-completions",
            server.url + "/v1/chat/completions",
            model,
            chat,
            ["--apply_chat_template"],
            more,
        )
        if checks.check(f"{name}: lm-eval ends with 0", code == 0, results):
            ours, our_samples = run_smolt(args, folder, [*context, "--chat"], chat)
            same_results(checks, name, results, ours, chat)
            same_samples(checks, f"{name} and smolt eval --chat", samples, our_samples, chat, SAME)


def main() -> None:
    args, checks = arguments(__doc__), Checks()
    args.smolt = str(Path(args.smolt).resolve())
    checks.check(f"lm-eval {importlib.metadata.version('lm-eval')} is here", True)
    for package in ("torch", "transformers"):
        checks.check(f"{package} is not", importlib.util.find_spec(package) is None)
    with tempfile.TemporaryDirectory() as folder, serving(args, "--slots", "4", "--queue", "64") as server:
        write_tasks(Path(folder))
        judge(args, checks, server, Path(folder))
    checks.end()


if __name__ == "__main__":
    main()
