#!/usr/bin/env bash
# Sealed models, between smolt and the stock programs for age: each opens what the other sealed.
#   scripts/trust/age_round_trip.sh SMOLT
# Takes age and rage, those that are installed, and says SKIPPED for the others. Needs openssl, for a key to sign with.
set -euo pipefail
cd "$(dirname "$0")/../.."
smolt=$(realpath "${1:?usage: $0 SMOLT}")
model=src/cli/demo.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

openssl ecparam -name prime256v1 -genkey -noout -out "$work/release.pem"
openssl ec -in "$work/release.pem" -pubout -out "$work/release.pub" 2>/dev/null

# What a release says of its model, with the bytes of another sealed file.
resize() {
    local bytes
    bytes=$(stat -c %s "$1/model.gguf.age")
    sed -i "s/\"bytes\": [0-9]*/\"bytes\": $bytes/" "$1/release.json"
}

for tool in age rage; do
    if ! command -v "$tool" >/dev/null || ! command -v "$tool-keygen" >/dev/null; then
        echo "SKIPPED: no $tool, nothing was sealed or opened with it"
        continue
    fi
    dir=$work/$tool
    mkdir "$dir"
    for name in first second; do
        "$tool-keygen" -o "$dir/$name" 2>/dev/null
        chmod 600 "$dir/$name"
    done
    first=$(sed -n 's/^# public key: //p' "$dir/first")
    second=$(sed -n 's/^# public key: //p' "$dir/second")
    "$smolt" --quiet bundle create "$model" --name demo --version 1 --seal "$first" --seal "$second" \
        --key "$work/release.pem" --output "$dir/package" --tar "$dir/package.tar" >/dev/null
    # The archive is what tar writes too, and what it reads.
    (cd "$dir/package" && tar --format=ustar -b1 --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=0644 \
        -cf - model.sig release.json model.gguf.age) | cmp - "$dir/package.tar"
    for name in first second; do
        "$tool" -d -i "$dir/$name" "$dir/package/model.gguf.age" | cmp - "$model"
        "$smolt" bundle show "$dir/package.tar" --trust "$work/release.pub" --identity "$dir/$name" >/dev/null
    done
    # The other way: the stock program seals, for two as well.
    rm "$dir/package/model.sig"
    "$tool" -r "$first" -r "$second" -o "$dir/package/model.gguf.age" "$model"
    resize "$dir/package"
    "$smolt" --quiet sign "$dir/package" --key "$work/release.pem" >/dev/null
    for name in first second; do
        "$smolt" bundle show "$dir/package" --trust "$work/release.pub" --identity "$dir/$name" >/dev/null
    done
    echo "$tool $("$tool" --version): opened what smolt sealed, and the other way"
done
