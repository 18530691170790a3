-- d2c_select against row_number() and array_agg(ORDER BY), filtered to the same ranks: as many rows as ImageNet has in 1,000 classes.
-- psql -X -q -v rows=1281167 -f bench/select.sql    prints the medians of five runs and their ratios; the table is its own.
\set ON_ERROR_STOP on
\if :{?rows} \else \set rows 1281167 \endif
SET max_parallel_workers_per_gather = 0;
SET work_mem = '64MB';
SET jit = off;
SET client_min_messages = warning;

CREATE EXTENSION IF NOT EXISTS d2c;
-- not temporary: parallel workers cannot read temporary tables
DROP TABLE IF EXISTS select_bench;
CREATE UNLOGGED TABLE select_bench AS
	SELECT id, (hashint8extended(id, 1) & 2147483647) % 1000 AS label,
		0.1 + 0.4 * (hashint8extended(id, 2) & 4294967295) / 4294967296.0::float8 AS score
	FROM generate_series(1::bigint, :rows) id;
ALTER TABLE select_bench SET (parallel_workers = 1);
VACUUM ANALYZE select_bench;

CREATE TEMPORARY VIEW picked_by_d2c AS
	SELECT label, d2c_select(id, score, 96, 10) AS ids FROM select_bench GROUP BY label;
CREATE TEMPORARY VIEW picked_by_window AS
	SELECT label, array_agg(id ORDER BY rank) AS ids
	FROM (SELECT label, id, row_number() OVER (PARTITION BY label ORDER BY score, id) AS rank FROM select_bench) ranked
	WHERE rank % 96 = 1 AND rank <= 9 * 96 + 1
	GROUP BY label;
CREATE TEMPORARY VIEW picked_by_array AS
	SELECT label, ARRAY(SELECT ids[1 + 96 * i] FROM generate_series(0, 9) i) AS ids
	FROM (SELECT label, array_agg(id ORDER BY score, id) AS ids FROM select_bench GROUP BY label) ordered;

-- The same picks, or the times mean nothing.
DO $$
BEGIN
	IF EXISTS (SELECT FROM picked_by_d2c d FULL JOIN picked_by_window w USING (label) FULL JOIN picked_by_array a USING (label)
		WHERE d.ids IS DISTINCT FROM w.ids OR d.ids IS DISTINCT FROM a.ids) THEN
		RAISE EXCEPTION 'd2c_select, row_number() and array_agg() picked differently';
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
SELECT d2c, format('d2c_select, %s rows, 1000 classes: %s ms; row_number(): %s ms, %s times; array_agg(ORDER BY): %s ms, %s times', :rows,
		round(d2c::numeric, 1), round(window_ms::numeric, 1), round((window_ms / d2c)::numeric, 2), round(array_ms::numeric, 1), round((array_ms / d2c)::numeric, 2)) AS line
FROM pg_temp.milliseconds('SELECT count(ids) FROM picked_by_d2c') d2c,
	pg_temp.milliseconds('SELECT count(*) FROM (SELECT label, id, row_number() OVER (PARTITION BY label ORDER BY score, id) AS rank
		FROM select_bench) ranked WHERE rank % 96 = 1 AND rank <= 9 * 96 + 1') window_ms,
	pg_temp.milliseconds('SELECT count(ids) FROM picked_by_array') array_ms \gset
\echo :line
-- the same settings but for a second process
SET max_parallel_workers_per_gather = 1;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SELECT format('d2c_select in parallel, two processes: %s ms, %s times the speed of one', round(p::numeric, 1), round((:d2c / p)::numeric, 2))
FROM pg_temp.milliseconds('SELECT count(ids) FROM picked_by_d2c') p;
DROP TABLE select_bench CASCADE;
