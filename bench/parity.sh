#!/usr/bin/env bash
# d2c train beside the public trainings of SiT, DiT and REPA, in f32 on the CPU: from the same weights, on the same rows, times,
# noise and dropped labels, 100 steps of a small network.  Fails where loss curves differ by more than 1e-4, or weights or
# their average by more than 1e-3 of a block's norm, or where the public code does not load what d2c export makes of the result.
#
#   bench/parity.sh SIT_CHECKOUT DIT_CHECKOUT REPA_CHECKOUT [CASE]...
#
# BENCH_PYTHON names a python3 with torch, timm, torchdiffeq and safetensors; d2c is the installed one (PG_CONFIG).
set -euo pipefail
cd "$(dirname "$0")/.."
checkouts=$(realpath "$1"):$(realpath "$2"):$(realpath "$3")
shift 3
. test/cluster.sh
trap remove_cluster EXIT
start_cluster shared_buffers=64MB
public() { "${BENCH_PYTHON:-python3}" bench/peers/train_public.py "$@"; }
query() { "$bindir/psql" -X -q -v ON_ERROR_STOP=1 -U postgres -h "$scratch" -d postgres "$@"; }
database="host=$scratch user=postgres dbname=postgres"

mkdir "$scratch/parity"
public data "$scratch/parity"
"$bindir/d2c" import --dbname "$database" --table images --idx-images "$scratch/parity/images" --idx-labels "$scratch/parity/labels" >/dev/null 2>&1
query -c 'CREATE EXTENSION d2c' -c 'CREATE TABLE features (id bigint, value tensor)' -c "\\copy features from '$scratch/parity/features'" \
    -c 'ALTER TABLE images ADD visual_embedding tensor' \
    -c 'UPDATE images SET visual_embedding = value FROM features WHERE features.id = images.id'

cases=("$@")
[ $# -gt 0 ] || read -ra cases <<<"$(public cases)"
failed=0
for case in "${cases[@]}"; do
    public init "$case" "$checkouts" "$scratch/parity/$case.safetensors"
    read -ra options <<<"$(public options "$case")"
    "$bindir/d2c" train --dbname "$database" --table images --init "$scratch/parity/$case.safetensors" --name "$case" \
        --results-dir "$scratch/parity/$case" --metrics off --tensorboard off "${options[@]}" >"$scratch/parity/$case.log" 2>&1 || {
        cat "$scratch/parity/$case.log"
        exit 1
    }
    projectors=()
    [[ $case != repa* ]] || projectors=(--projectors)
    "$bindir/d2c" export --model "$(find "$scratch/parity/$case/checkpoints" -name '*.safetensors')" \
        --output "$scratch/parity/$case.pt" "${projectors[@]}" >/dev/null
    public compare "$case" "$checkouts" "$scratch/parity/$case" || failed=1
done
exit $failed
