#!/usr/bin/env bash
# The one gate: format, lints, tests, documentation, and aarch64 under emulation.
#   scripts/check.sh [--install]
# --install fetches the cross compiler and emulator with apt-get where they are missing (needs root), and Ray with pip
# into target/ray: without it the recipe for evaluation on a cluster is not tested.
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
fi

step tests
cargo test --workspace

step lints
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy -p smolt --no-default-features -- -D warnings

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

step aarch64
scripts/cross_arm.sh $install
