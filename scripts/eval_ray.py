#!/usr/bin/env python3
"""Runs `smolt eval` in shards on a Ray cluster, merges them and prints the results.

    pip install ray
    scripts/eval_ray.py --shards 8 --out shards -- --chat prompts/demo-actions.yaml -m model.gguf

What follows -- are arguments of `smolt eval`. Without a cluster Ray starts one on this machine; RAY_ADDRESS names
another, or run the same line with `ray job submit`. smolt, model and tasks must lie at the same paths on every node, as
on a shared file system, or be in the current folder and be sent with --upload.

OUT gets part0.jsonl and so on, each as soon as it is complete, and all.jsonl, what one run would have written. Parts
that are there are not run again; merging refuses parts of another run. Shards of a node that is lost are run again
elsewhere.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ray


def run_shard(command, folder, shard, of, cpus):
    """How smolt ended, what it said and the samples of a shard. Runs on a node, in `folder` or the one that was sent."""
    with tempfile.TemporaryDirectory() as own:
        samples = Path(own) / "samples.jsonl"
        environment = dict(os.environ, SMOLT_THREADS=str(cpus))
        call = [*command, "--shard", f"{shard}/{of}", "--samples", str(samples)]
        quiet = dict(stdin=subprocess.DEVNULL, capture_output=True, text=True)
        done = subprocess.run(call, cwd=folder, env=environment, **quiet)
        # Ray would try an exception again; what smolt refuses it refuses everywhere.
        return done.returncode, done.stderr, samples.read_bytes() if samples.exists() else b""


def replace(path, data):
    hidden = path.with_name(f".{path.name}.tmp")
    with open(hidden, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    hidden.replace(path)


def arguments():
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, required=True, help="a few per node")
    parser.add_argument("--out", type=Path, required=True, help="folder for the samples")
    parser.add_argument("--smolt", default="smolt", help="the program on the nodes")
    parser.add_argument("--cpus", type=int, default=1, help="processors and threads of a shard")
    parser.add_argument("--upload", action="store_true", help="send the current folder to the nodes")
    return parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]


def main():
    options, passed = arguments()
    command = [options.smolt, "eval", *passed]
    options.out.mkdir(parents=True, exist_ok=True)
    parts = [options.out / f"part{shard}.jsonl" for shard in range(options.shards)]
    environment = {"working_dir": os.getcwd()} if options.upload else {}
    ray.init(runtime_env=environment, log_to_driver=False, logging_level="error", include_dashboard=False)
    remote = ray.remote(num_cpus=options.cpus, max_retries=3)(run_shard)
    folder = None if options.upload else os.getcwd()
    missing = [shard for shard, part in enumerate(parts) if not part.exists()]
    waiting = {remote.remote(command, folder, shard, options.shards, options.cpus): shard for shard in missing}
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        shard = waiting.pop(ready)
        code, errors, samples = ray.get(ready)
        if code != 0:
            sys.exit(f"shard {shard}: {errors}")
        replace(parts[shard], samples)
        print(f"shard {shard} is done, {len(waiting)} to go", file=sys.stderr)
    merge = [options.smolt, "eval", "--merge", *map(str, parts), "--samples", str(options.out / "all.jsonl")]
    sys.exit(subprocess.run(merge, stdin=subprocess.DEVNULL).returncode)


if __name__ == "__main__":
    main()
