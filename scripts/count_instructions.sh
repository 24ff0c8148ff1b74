#!/usr/bin/env bash
# Counts the aarch64 instructions of the matrix kernels per multiply-accumulate, as released, under qemu-user, and
# fails (exit code 1) where a count exceeds its bar. Counts say nothing about time.
#
# usage: scripts/count_instructions.sh [TEST_PROGRAM]
#   TEST_PROGRAM  the unit tests of scripts/kernels built for aarch64 by `cargo test --release`; built if not given
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
# Of `repeated_product`, the test that is counted.
rows=64
cols=768
times=20
# Processor, instruction set, weights, tokens, most instructions per multiply-accumulate (- for any).
cases=(
    "cortex-a53 neon Q4_0 1 0.42"
    "cortex-a76 dotprod Q4_0 1 0.25"
    "cortex-a53 neon Q5_0 1 -"
    "cortex-a53 neon Q8_0 1 -"
    "cortex-a53 neon Q6_K 1 -"
    "cortex-a53 neon Q4_K 1 -"
    "cortex-a76 dotprod Q5_0 1 -"
    "cortex-a76 dotprod Q8_0 1 -"
    "cortex-a76 dotprod Q6_K 1 -"
    "cortex-a76 dotprod Q4_K 1 -"
    "cortex-a53 neon Q4_0 8 -"
    "cortex-a76 dotprod Q4_0 8 -"
    "max i8mm Q4_0 8 -"
    "max i8mm Q5_0 8 -"
    "max i8mm Q8_0 8 -"
    "max i8mm Q6_K 8 -"
)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

program=${1:-}
if [[ -z "$program" ]]; then
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    cargo test --release --target "$target" --manifest-path scripts/kernels/Cargo.toml --target-dir target/kernels --lib \
        --no-run 2>&1 | tee "$work/log" >&2
    program=$(sed -n 's/.*Executable.*(\(.*\)).*/\1/p' "$work/log")
fi

# The interface's version must be one that this qemu accepts.
printf 'void _start(void) { for (;;) __asm__("mov x8, 93; mov x0, 0; svc 0"); }' >"$work/empty.c"
aarch64-linux-gnu-gcc -O1 -nostdlib -static -o "$work/empty" "$work/empty.c"
for version in 1 2 3 4 5 6 none; do
    if [[ $version == none ]]; then
        echo "instructions NOT COUNTED: this qemu-aarch64 loads no plugin" >&2
        exit 3
    fi
    cc -O2 -shared -fPIC -DVERSION=$version -o "$work/count.so" scripts/count_instructions.c
    if qemu-aarch64 -plugin "$work/count.so" "$work/empty" 2>&1 | grep -q '^instructions '; then break; fi
done

# Instructions of a program that multiplies `$5` times.
count() {
    local cpu=$1 isa=$2 format=$3 tokens=$4 times=$5
    if ! SMOLT_ISA=$isa SMOLT_REPEAT="$format $tokens $times" \
        qemu-aarch64 -cpu "$cpu" -plugin "$work/count.so" -L /usr/aarch64-linux-gnu "$program" \
        --exact kernels::repeated::repeated_product --ignored --test-threads 1 >"$work/log" 2>&1 ||
        ! grep -q '^test result: ok. 1 passed' "$work/log"; then
        cat "$work/log" >&2
        exit 1
    fi
    sed -n 's/^instructions //p' "$work/log"
}

echo "instructions per multiply-accumulate, $rows rows of $cols columns"
exceeded=0
for case in "${cases[@]}"; do
    read -r cpu isa format tokens bar <<<"$case"
    # What the program does besides multiplying is the same in both runs.
    once=$(count "$cpu" "$isa" "$format" "$tokens" $times)
    twice=$(count "$cpu" "$isa" "$format" "$tokens" $((2 * times)))
    verdict=$(awk -v n=$((twice - once)) -v macs=$((rows * cols * times * tokens)) -v bar="$bar" 'BEGIN {
        ratio = n / macs
        printf "%.3f%s", ratio, bar == "-" ? "" : sprintf(", %s %s", ratio <= bar ? "within" : "EXCEEDS", bar)
    }')
    printf '  %-10s  %-8s %-5s %s token(s): %s\n' "$cpu" "$isa" "$format" "$tokens" "$verdict"
    if [[ $verdict == *EXCEEDS* ]]; then exceeded=1; fi
done
exit $exceeded
