#!/usr/bin/env bash
# The one gate: format, lints, tests, documentation, and aarch64 under emulation.
#   scripts/check.sh [--install]
# --install fetches the cross compiler and emulator with apt-get where they are missing (needs root), with pip Ray into
# target/ray, without which the recipe for evaluation on a cluster is not tested, and a real model into target/real,
# without which README's commands with it are not. What was not tested is counted at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
install=${1:-}

step() { printf '\n== %s\n' "$*" >&2; }

step format
cargo fmt --all --check

if [ "$install" = --install ]; then
    step ray
    if python3 -m venv target/ray && target/ray/bin/pip install --quiet --disable-pip-version-check ray; then
        export SMOLT_RAY_PYTHON=$PWD/target/ray/bin/python
    else
        echo "SKIPPED: ray cannot be installed, scripts/eval_ray.py is not tested" >&2
    fi
    step "real model"
    if scripts/real_models.sh target/real; then
        export SMOLT_REAL_MODELS=$PWD/target/real
    else
        echo "SKIPPED: the real model cannot be had" >&2
    fi
fi

step tests
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Tests say what they skip; the harness would keep it to itself.
export RUST_TEST_NOCAPTURE=1
{
cargo test --workspace
} 2>&1 | tee "$log"
unset RUST_TEST_NOCAPTURE

step lints
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy -p smolt --no-default-features -- -D warnings

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

step aarch64
scripts/cross_arm.sh $install

step "not tested"
skipped=$(grep -a -o 'SKIPPED.*' "$log" | sort | uniq -c || true)
echo "$skipped" >&2
echo "$(grep -a -c SKIPPED "$log" || true) checks were skipped" >&2
