-- d2c_select against row_number() filtered to the same ranks: 1,281,167 rows in 1,000 classes, as ImageNet has.
-- psql -X -q -f bench/select.sql    prints both medians of five runs and their ratio; the table is its own, and temporary.
\set ON_ERROR_STOP on
SET max_parallel_workers_per_gather = 0;
SET work_mem = '64MB';
SET jit = off;
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS d2c;
CREATE TEMPORARY TABLE select_bench AS
	SELECT id, (hashint8extended(id, 1) & 2147483647) % 1000 AS label,
		0.1 + 0.4 * (hashint8extended(id, 2) & 4294967295) / 4294967296.0::float8 AS score
	FROM generate_series(1::bigint, 1281167) id;
VACUUM ANALYZE select_bench;

CREATE TEMPORARY VIEW picked_by_d2c AS
	SELECT label, d2c_select(id, score, 96, 10) AS ids FROM select_bench GROUP BY label;
CREATE TEMPORARY VIEW picked_by_window AS
	SELECT label, array_agg(id ORDER BY rank) AS ids
	FROM (SELECT label, id, row_number() OVER (PARTITION BY label ORDER BY score, id) AS rank FROM select_bench) ranked
	WHERE rank % 96 = 1 AND rank <= 9 * 96 + 1
	GROUP BY label;

-- The same picks, or the times mean nothing.
DO $$
BEGIN
	IF EXISTS (SELECT FROM picked_by_d2c FULL JOIN picked_by_window w USING (label) WHERE picked_by_d2c.ids IS DISTINCT FROM w.ids) THEN
		RAISE EXCEPTION 'd2c_select and row_number() picked differently';
	END IF;
END $$;

CREATE FUNCTION pg_temp.milliseconds(query text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	times float8[];
	start timestamptz;
BEGIN
	FOR i IN 1 .. 5 LOOP
		start := clock_timestamp();
		EXECUTE query;
		times := times || extract(epoch FROM clock_timestamp() - start)::float8 * 1000;
	END LOOP;
	RETURN percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(times) t;
END $$;

\pset format unaligned
\pset tuples_only on
SELECT format('d2c_select, 1281167 rows, 1000 classes: %s ms; row_number(): %s ms; %s times as fast',
		round(d2c::numeric, 1), round(peer::numeric, 1), round((peer / d2c)::numeric, 2))
FROM pg_temp.milliseconds('SELECT count(ids) FROM picked_by_d2c') d2c,
	pg_temp.milliseconds('SELECT count(*) FROM (SELECT label, id, row_number() OVER (PARTITION BY label ORDER BY score, id) AS rank
		FROM select_bench) ranked WHERE rank % 96 = 1 AND rank <= 9 * 96 + 1') peer;
