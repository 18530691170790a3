#!/usr/bin/env bash
# What a server is needed for, in a private cluster: scoring rows by d2c_difficulty_batched beside the same scoring inside
# libd2c on images in memory (time ratio SQL/library, for a SiT-S/2-sized model at 256 tokens and for the demo's small one,
# median of three pairs), d2c_select beside row_number() and array_agg()
# (select.sql), and selections by features (select_feature.sql, of CLASSES classes).
set -euo pipefail
cd "$(dirname "$0")/.."
. test/cluster.sh
trap remove_cluster EXIT
build=${BUILD:-build}
threads=${THREADS:-2}
timesteps=4

mkdir "$scratch/models"
"$build/bench/scoring" model "$scratch/models/s2.safetensors" s2
"$build/bench/scoring" model "$scratch/models/demo.safetensors" demo
[ "$(id -u)" -ne 0 ] || chown -R nobody "$scratch/models"
start_cluster "d2c.model_directory='$scratch/models'" "d2c.threads=$threads" "shared_buffers=256MB"
export PGHOST=$scratch PGUSER=postgres PGDATABASE=postgres
data=/usr/share/datasets/fashion-mnist
"$bindir/d2c" import --dbname "host=$scratch user=postgres dbname=postgres" --table images \
    --idx-images $data/t10k-images-idx3-ubyte.gz --idx-labels $data/t10k-labels-idx1-ubyte.gz \
    --class-names '0,1,2,3,4,5,6,7,8,9' 2>/dev/null
psql -Xq -c 'CREATE EXTENSION d2c'

# Seconds that the query takes, the engine being warm.
sql_seconds() {
    psql -XAtq <<SQL | tail -n 1
SELECT d2c_difficulty(image, label, '$1', $timesteps) FROM images LIMIT 1;
SELECT extract(epoch FROM clock_timestamp()) AS start \gset
SELECT count(s) FROM (SELECT d2c_difficulty_batched(image, label, '$1', $timesteps) OVER () AS s
                      FROM (SELECT image, label FROM images ORDER BY id LIMIT $2) i) r;
SELECT extract(epoch FROM clock_timestamp()) - :start;
SQL
}

for model in s2 demo; do
    images=$([ $model = s2 ] && echo 60 || echo 10000)
    for pair in 1 2 3; do
        rate=$("$build/bench/scoring" run "$scratch/models" $model "$threads" "$images" $timesteps)
        seconds=$(sql_seconds $model "$images")
        awk -v m=$model -v r="$rate" -v s="$seconds" -v n="$images" 'BEGIN {
            printf "%s\t%.3f\tlibd2c %.1f images/s, SQL %.1f images/s\n", m, s * r / n, r, n / s }'
    done | sort -k2 -n | sed -n 2p
done | while IFS=$'\t' read -r model ratio text; do
    echo "scoring, $model, T=$timesteps, $threads threads: SQL takes $ratio times the library's time ($text)"
done

for rows in 1000000 1281167 10000000; do
    psql -Xq -v rows=$rows -f bench/select.sql
done
psql -Xq -v classes="${CLASSES:-20}" -f bench/select_feature.sql
