#!/usr/bin/env bash
# What streaming costs: rows/s of the trainer's stream beside COPY, a folder of the same files and a tar of them (rows.c), of
# large and of small pictures; the share of the time that SiT-S/2 waits for rows, beside the same training from memory; and
# what the digest of the rows' contents costs, per GB.  STEPS (12) of 32 rows; pictures of 256 x 256, cropped to 32.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/cluster.sh
trap remove_cluster EXIT
start_cluster shared_buffers=512MB
db="host=$scratch user=postgres dbname=postgres"
d2c="$bindir/d2c"
query() { "${as_user[@]}" "$bindir/psql" -X -A -t -q -U postgres -h "$scratch" -d postgres -c "$1"; }

# IDX files of 1,600 noisy grey pictures: PNG makes about 64 KB of each.
{ printf '\0\0\10\3\0\0\6\100\0\0\1\0\0\0\1\0'; openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | head -c $((1600 * 65536)); } >"$scratch/pictures" || true
{ printf '\0\0\10\1\0\0\6\100'; for i in {1..160}; do printf '\0\1\2\3\4\5\6\7\10\11'; done; } >"$scratch/labels"
"${as_user[@]}" "$d2c" import --dbname "$db" --table pictures --idx-images "$scratch/pictures" --idx-labels "$scratch/labels" 2>/dev/null
query "CREATE TABLE repeated AS SELECT id + 1600 * copy AS id, label, image FROM pictures, generate_series(0, 9) copy" >/dev/null
gigabytes=$(query "SELECT sum(octet_length(image)) / 1e9 FROM repeated")

data=/usr/share/datasets/fashion-mnist
"${as_user[@]}" "$d2c" import --dbname "$db" --table small --idx-images $data/t10k-images-idx3-ubyte.gz \
    --idx-labels $data/t10k-labels-idx1-ubyte.gz 2>/dev/null
cp "${BUILD:-build}/bench/rows" "$scratch/rows"
for table in pictures small; do
    echo "rows of \"$table\", $(query "SELECT count(*) || ' of ' || round(avg(octet_length(image))) || ' bytes' FROM $table"):"
    "${as_user[@]}" mkdir "$scratch/files"
    "${as_user[@]}" "$scratch/rows" "$db" $table "$scratch/files"
    rm -r "$scratch/files"
done

train() {
    "${as_user[@]}" "$d2c" train --dbname "$db" --device cpu --metrics off --tensorboard off "$@" 2>&1
}
for memory in 0 4096; do
    echo "SiT-S/2, batch 32, --cache-memory $memory:"
    train --table pictures --model SiT-S/2 --image-size 32 --channels 3 --global-batch-size 32 --max-train-steps "${STEPS:-12}" \
        --log-every "${STEPS:-12}" --ckpt-every 0 --name "wait$memory" --results-dir "$scratch/wait$memory" \
        --cache-memory "$memory" | grep -E 'streamed|in memory' || true
    "${as_user[@]}" tail -n 1 "$scratch/wait$memory/metrics.jsonl" | grep -oE '"(images_per_second|data_wait|rows_per_second|megabytes_per_second)":[0-9.e-]+'
done

tiny=(--table repeated --model custom --hidden 16 --depth 1 --heads 1 --patch 32 --image-size 32 --channels 1
    --global-batch-size 1 --max-train-steps 1 --ckpt-every 0 --cache-memory 0)
for digest in on off on off; do
    start=$(date +%s.%N)
    train "${tiny[@]}" --content-digest $digest --name "tiny$start" --results-dir "$scratch/tiny$start" >/dev/null
    echo "--content-digest $digest, $gigabytes GB: $(echo "$(date +%s.%N) - $start" | bc) s from start to end"
done
