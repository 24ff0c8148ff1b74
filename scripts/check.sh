#!/usr/bin/env bash
# The one gate: format, lints, documentation, tests, and aarch64 under emulation; what was not tested is counted last.
#   scripts/check.sh [--install] [--fuzz]
# --install fetches the cross compiler and emulator with apt-get where they are missing (needs root), with pip Ray into
# target/ray, without which the recipe for evaluation on a cluster is not tested, and model-signing into target/oms, without
# which no signatures are exchanged with it, age with apt-get, without which no sealed models are, and two real models into
# target/real, without which they are not compared with llama.cpp (tests/real.rs) and README's commands with one not run.
# With it, a set of checks that is missing fails the gate.
# --fuzz runs each fuzz target for ten seconds, where there are a nightly toolchain and cargo-fuzz; building them takes ten
# minutes. Without it the tests give what the targets read some thousand changed inputs each, always the same. The
# dependencies are judged where there is cargo-deny.
set -euo pipefail
cd "$(dirname "$0")/.."
# A clean build reuses nothing, and the state kept for the next one is twice the size of what is built.
export CARGO_INCREMENTAL=0
# Nor does it need the lines of a backtrace; a panic says its own.
export CARGO_PROFILE_DEV_DEBUG=false
install="" fuzz=""
for argument in "$@"; do
    case "$argument" in
        --install) install=--install ;;
        --fuzz) fuzz=--fuzz ;;
        *) sed -n '2,3s/^# *//p' "$0" >&2; exit 2 ;;
    esac
done

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS" >&2; }

# What a machine has to have for the sets that must not be missing; the kernels themselves ask the processor.
required_sets() {
    local flags
    flags=" $(sed -n '/^flags/{s/.*: //p;q}' /proc/cpuinfo 2>/dev/null) "
    has() { for flag in "$@"; do [[ "$flags" == *" $flag "* ]] || return 1; done; }
    has sse4_1 ssse3 && echo sse41
    has avx2 fma f16c && echo avx2
    has avx2 fma f16c avx_vnni && echo avxvnni
    has avx2 fma f16c avx512f avx512bw avx512_vnni && echo avx512vnni
    return 0
}

step format
cargo fmt --all --check

log=$(mktemp)
trap 'rm -f "$log" "$log.cross"; kill $(jobs -p) 2>/dev/null || true' EXIT

# The network is waited for while the processor works, and what keeps one core busy goes beside what does. The step of
# aarch64 says again what fails here.
scripts/cross_arm.sh $install --build >/dev/null 2>&1 &
cross=$!
real_models="" ray="" signing=""
python_tool() { python3 -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"; }
if [ "$install" = --install ]; then
    scripts/real_models.sh target/real &
    real_models=$!
    python_tool target/ray ray &
    ray=$!
    python_tool target/oms model-signing pyopenssl &
    signing=$!
fi

step lints
# The lints and the documentation of all with examples, so that the dependencies of tests belong to both: else the features
# of shared packages would differ, and they would be checked once more.
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy -p smolt --no-default-features --lib --examples -- -D warnings
cargo clippy -p smolt --no-default-features --features cli --lib --bins -- -D warnings
cargo clippy -p smolt --no-default-features --features trust --lib -- -D warnings

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --lib --examples

step dependencies
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --all-features check licenses bans sources
    if cargo deny fetch db >/dev/null 2>&1; then
        cargo deny --all-features check advisories
    else
        echo "SKIPPED: the list of advisories cannot be fetched" | tee -a "$log" >&2
    fi
else
    echo "SKIPPED: no cargo-deny, the dependencies are not judged by deny.toml" | tee -a "$log" >&2
fi

if [ "$install" = --install ]; then
    step tools
    if wait "$real_models"; then
        export SMOLT_REAL_MODELS=$PWD/target/real
    else
        echo "SKIPPED: the real models cannot be had" >&2
    fi
    if wait "$ray"; then
        export SMOLT_RAY_PYTHON=$PWD/target/ray/bin/python
    else
        echo "SKIPPED: ray cannot be installed, scripts/eval_ray.py is not tested" >&2
    fi
    if wait "$signing"; then
        export SMOLT_OMS_PYTHON=$PWD/target/oms/bin/python
    else
        echo "SKIPPED: model-signing cannot be installed, scripts/trust/oms_round_trip.py is not tested" >&2
    fi
    if ! command -v age >/dev/null && ! apt-get -o DPkg::Lock::Timeout=60 install --yes --quiet=2 age >/dev/null; then
        echo "SKIPPED: age cannot be installed, scripts/trust/age_round_trip.sh is not tested" >&2
    fi
fi

step tests
cargo test --workspace --no-run
# Emulation takes what the tests leave: these wait for clocks, children and terminals a fifth of their time. Niced, it would
# delay threads that wait for each other.
wait "$cross" || true
when_idle=()
if chrt --idle 0 true 2>/dev/null; then when_idle=(chrt --idle 0); fi
"${when_idle[@]}" scripts/cross_arm.sh $install ${install:+--require} >"$log.cross" 2>&1 &
cross=$!
SMOLT_REQUIRE_ISA=$(required_sets | paste -sd,)
export SMOLT_REQUIRE_ISA
echo "instruction sets that must be tested: ${SMOLT_REQUIRE_ISA:-none}" >&2
# Tests say what they skip; the harness would keep it to itself.
export RUST_TEST_NOCAPTURE=1
{
cargo test --workspace
} 2>&1 | tee -a "$log"
unset RUST_TEST_NOCAPTURE SMOLT_REQUIRE_ISA

step aarch64
passed=0
wait "$cross" || passed=$?
cat "$log.cross" >&2
if [ "$passed" != 0 ]; then exit "$passed"; fi

if [ -n "$fuzz" ]; then
    step fuzz
    # The seed is fixed, so that the gate says the same of the same program.
    SMOLT_FUZZ_SEED=1 scripts/fuzz.sh 10 2>&1 | tee -a "$log"
fi

step "not tested"
grep -a -o -E 'SKIPPED.*|NOT TESTED.*' "$log" | sort | uniq -c >&2 || true
echo "$(grep -a -c SKIPPED "$log" || true) checks were skipped" >&2
# A set that does not run fails nothing.
for set in "unittests src/lib.rs" tests/fuzz.rs tests/main.rs tests/text_memory.rs tests/token_memory.rs "Doc-tests smolt"; do
    if ! grep -a -A3 "$set" "$log" | grep -a -q -E '^running [1-9]'; then
        echo "no tests of $set ran" >&2
        exit 1
    fi
done
