#!/usr/bin/env bash
# Tests kernels and thread pool for aarch64 under qemu-user: every instruction set against the specification,
# bit for bit, on the processors that have it and on those that lack it, as released; and the count of instructions
# of the matrix kernels against its bars. It cannot measure speed.
#
# usage: scripts/cross_arm.sh [--install] [--build] [--require]
#   --install  first install what is missing (apt-get, as root; rustup)
#   --build    build only
#   --require  fail (exit code 3) instead of skipping when something is missing
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
# Processor, sets it must offer, sets that another one tests. The first stops at a dot product instruction; a Cortex-A72 has
# the same instructions.
processors=(
    "cortex-a53 neon -"
    "cortex-a76 neon,dotprod scalar,neon"
    "max neon,dotprod,i8mm scalar,neon,dotprod"
)

install=false
build_only=false
require=false
for argument in "$@"; do
    case "$argument" in
        --install) install=true ;;
        --build) build_only=true ;;
        --require) require=true ;;
        *)
            sed -n '6,9s/^# //p' "$0" >&2
            exit 2
            ;;
    esac
done

missing_packages() { ! command -v qemu-aarch64 || ! command -v aarch64-linux-gnu-gcc; } >/dev/null
missing_target() { [[ ! -d "$(rustc --print target-libdir --target "$target")" ]]; }

if $install; then
    if missing_packages; then
        apt-get update -q
        apt-get install -q -y --no-install-recommends "${packages[@]}"
    fi
    if missing_target; then rustup target add "$target"; fi
fi

advice=""
if missing_packages; then advice+="    apt-get install ${packages[*]}"$'\n'; fi
if missing_target; then advice+="    rustup target add $target"$'\n'; fi
if [[ -n "$advice" ]]; then
    printf 'aarch64 NOT TESTED; run scripts/cross_arm.sh --install as root, or\n%s' "$advice" >&2
    if $require; then exit 3; fi
    exit 0
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
log=$(mktemp)
trap 'rm -f "$log" "$log".*' EXIT

# The kernels and what they stand on: the rest of the library would take minutes and tell nothing about them.
cargo test --release --target "$target" --manifest-path scripts/kernels/Cargo.toml --target-dir target/kernels --lib --no-run \
    2>&1 | tee "$log" >&2
if $build_only; then exit 0; fi
program=$(sed -n 's/.*Executable.*(\(.*\)).*/\1/p' "$log")
# One processor, its output in a file of its own.
emulate() {
    local cpu=$1 sets=$2 skipped=${3#-} out=$4 result
    # Two minutes on a busy machine; what hangs is named by the log.
    if ! SMOLT_REQUIRE_ISA="$sets" SMOLT_SKIP_ISA="$skipped" timeout 900 \
        qemu-aarch64 -cpu "$cpu" -L /usr/aarch64-linux-gnu "$program" \
        --show-output kernels:: runtime:: >"$out" 2>&1; then
        cat "$out" >&2
        echo "aarch64: FAILED on $cpu" >&2
        return 1
    fi
    # A filter that matches nothing passes too.
    if ! result=$(grep -E '^test result: ok\. [1-9]' "$out"); then
        cat "$out" >&2
        echo "aarch64: no tests ran on $cpu" >&2
        return 1
    fi
    echo "$cpu: $sets${skipped:+ without $skipped} equal the specification; ${result#test result: }"
    grep 'NOT TESTED' "$out" | sort -u | sed 's/^/    /' || true
}

# Side by side: emulated threads wait for each other much of the time.
jobs=()
for processor in "${processors[@]}"; do
    read -r cpu sets skipped <<<"$processor"
    emulate "$cpu" "$sets" "$skipped" "$log.$cpu" &
    jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done

scripts/count_instructions.sh "$program"
