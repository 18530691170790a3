#!/usr/bin/env bash
# What pages cost, in a private cluster: d2c_score, with its table of pages and its digests, beside a plain INSERT of
# d2c_difficulty_batched, over ROWS small images by the tests' tiny model (the cheapest there is: of any other's time it is
# less), in turns: medians of five ratios, of the processor time of session and engine together, and of the time.  Then the
# time to make the pages of KEYS rows, beside count(*) of the same rows, median of three.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/cluster.sh
trap remove_cluster EXIT
rows=${ROWS:-20000}
keys=${KEYS:-1000000}
cp -r test/golden "$scratch/golden"
[ "$(id -u)" -ne 0 ] || chown -R nobody "$scratch/golden"
start_cluster "d2c.model_directory='$scratch/golden/models'" "d2c.device='cpu'" "d2c.threads=1" "shared_buffers=256MB" \
    "max_wal_size=4GB" "autovacuum=off"
export PGHOST=$scratch PGUSER=postgres PGDATABASE=postgres PGOPTIONS="-c client_min_messages=warning"

psql -Xqo /dev/null -v ON_ERROR_STOP=1 -v rows="$rows" -v keys="$keys" -v folder="$scratch/golden/image/" <<'SQL'
CREATE EXTENSION d2c;
SELECT set_config('bench.folder', :'folder', false);
CREATE TABLE picture AS SELECT row_number() OVER () AS n, d2c_thumbnail(pg_read_binary_file(current_setting('bench.folder') || name), edge) AS image
    FROM unnest('{grey.png,rgb.png,palette.png,grey.jpg}'::text[]) name, generate_series(16, 47) edge;
CREATE TABLE images AS SELECT id, id % 10 AS label, image FROM generate_series(1::bigint, :rows) id JOIN picture ON n = 1 + id % 128;
ALTER TABLE images ADD PRIMARY KEY (id);
CREATE TABLE keys_bigint AS SELECT id, id % 10 AS label, '\x00'::bytea AS image FROM generate_series(1::bigint, :keys) id;
CREATE TABLE keys_uuid AS SELECT md5(id::text)::uuid AS id, label, image FROM keys_bigint;
CREATE TABLE keys_text AS SELECT md5(id::text) AS id, label, image FROM keys_bigint;
ALTER TABLE keys_bigint ADD PRIMARY KEY (id);
ALTER TABLE keys_uuid ADD PRIMARY KEY (id);
ALTER TABLE keys_text ADD PRIMARY KEY (id);
VACUUM ANALYZE;
-- processor seconds of a process: user and system time of its stat, behind the name in parentheses
CREATE FUNCTION used(pid text) RETURNS double precision LANGUAGE sql VOLATILE AS $$
    SELECT (f[12]::float8 + f[13]::float8) / 100 FROM string_to_array(substring(pg_read_file('/proc/' || pid || '/stat') FROM '\) (.*)'), ' ') f
$$;
SQL

# seconds WHAT STATEMENT: "WHAT processor-seconds seconds" of the statement, the engine being warm.
seconds() {
    psql -XAtq -F ' ' -v ON_ERROR_STOP=1 <<SQL | tail -n 1
SELECT d2c_difficulty(image, label, 'tiny-sit') FROM images LIMIT 1;
SELECT value AS engine FROM d2c_engine_status() WHERE name = 'pid' \gset
SELECT used('self') + used(:'engine') AS processor, clock_timestamp() AS start \gset
$2;
SELECT '$1', round((used('self') + used(:'engine') - :processor)::numeric, 2), round(extract(epoch FROM clock_timestamp() - :'start'), 3);
SQL
}

for run in 1 2 3 4 5; do
    psql -Xqc 'DROP TABLE IF EXISTS plain, scores, scores_pages; CREATE TABLE plain (id bigint PRIMARY KEY, label bigint, score float8)'
    seconds plain "INSERT INTO plain SELECT id, label, d2c_difficulty_batched(image, label, 'tiny-sit') OVER () FROM images"
    seconds paged "CALL d2c_score('images', 'scores', 'tiny-sit')"
    seconds check "CALL d2c_score('images', 'scores', 'tiny-sit', changed => true)"
done | awk -v rows="$rows" '
    function median(a,   i, j, t) {
        for (i = 2; i <= runs; i++)
            for (j = i; j > 1 && a[j - 1] > a[j]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
        return a[(runs + 1) / 2]
    }
    $1 == "plain" { processor = $2; wall = $3; rate[++runs] = rows / wall }
    $1 == "paged" { p[runs] = $2 / processor; w[runs] = $3 / wall }
    $1 == "check" { c[runs] = $2 / processor }
    END { printf "d2c_score of %d rows takes %.2f times the processor time of a plain INSERT, and %.2f times its time (%.0f rows/s); " \
        "a check of them that finds no change %.2f times\n", rows, median(p), median(w), median(rate), median(c) }'

# A call that makes all pages, and scores one of 32 rows.
for type in bigint uuid text; do
    for run in 1 2 3; do
        psql -Xqc 'DROP TABLE IF EXISTS scores, scores_pages'
        seconds count "SELECT count(*) FROM keys_$type"
        seconds pages "CALL d2c_score('keys_$type', 'scores', 'tiny-sit', max_pages => 1)"
    done | awk '$1 == "count" { count = $3 } $1 == "pages" { print $3, $3 / count }' | sort -n | sed -n 2p |
        awk -v type=$type -v keys="$keys" '{ printf "pages of %d rows by a key of type %s are made in %.2f s, %.1f times count(*) of them\n", keys, type, $1, $2 }'
done
