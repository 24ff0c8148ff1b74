#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/, one after another.
#   scripts/fuzz.sh SECONDS [TARGET …]
# Needs a nightly toolchain and cargo-fuzz; the target `convert` is built only when it is named, since the quantizer takes
# long to build. Inputs that reach new code are kept in fuzz/new, those that fail in fuzz/artifacts. Each target is given
# SECONDS, 64 MiB for one allocation, 2 GiB in all and 10 s for one input. SMOLT_FUZZ_SEED makes a run the same as another.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET …]}
shift
[ $# -gt 0 ] || set -- gguf load tokenizer template grammar session task batch package signature

# Faster by a third: fewer frames of each allocation are kept, and fewer freed blocks.
export ASAN_OPTIONS=detect_odr_violation=0:detect_stack_use_after_return=0:malloc_context_size=4:quarantine_size_mb=8

for need in "cargo +nightly --version" "cargo fuzz --version"; do
    if ! $need >/dev/null 2>&1; then
        echo "SKIPPED: no fuzz target is run, \`$need\` fails" >&2
        exit 0
    fi
done

failed=0
for target in "$@"; do
    features=()
    [ "$target" != convert ] || features=(--features convert)
    # What is longer is seldom new, and takes longer.
    case "$target" in
        load) longest=256 ;;
        tokenizer | grammar) longest=1024 ;;
        convert) longest=8192 ;;
        *) longest=4096 ;;
    esac
    mkdir -p "fuzz/new/$target"
    log=$(mktemp)
    status=0
    # The counts by which libFuzzer weighs its corpus, and the names of functions it reaches, take up to half of the time.
    cargo +nightly fuzz run --fuzz-dir fuzz "${features[@]}" "$target" "fuzz/new/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -malloc_limit_mb=64 -rss_limit_mb=2048 -timeout=10 -max_len=$longest \
        -entropic=0 -print_funcs=0 -reduce_inputs=0 -print_final_stats=1 -seed="${SMOLT_FUZZ_SEED:-0}" >"$log" 2>&1 || status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $target: ${executions:-no} executions in $seconds s, $([ $status = 0 ] && echo "no finding" || echo "FAILED ($status)")"
    if [ $status != 0 ]; then
        failed=1
        grep -aE "panicked|ERROR: |SUMMARY|Test unit|error(\[|:)" "$log" | head -20 || true
        tail -n 5 "$log"
    fi
    rm -f "$log"
done
exit $failed
