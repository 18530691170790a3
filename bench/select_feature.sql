-- Selections by features: classes of 1,300 rows x 768 elements in f16, n = 10, by parallel query with two processes.
-- psql -X -q -v classes=20 -f bench/select_feature.sql    prints the time and what it makes for 1,000 classes.
\set ON_ERROR_STOP on
\if :{?classes} \else \set classes 20 \endif
SET jit = off;
SET work_mem = '64MB';
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS d2c;
CREATE UNLOGGED TABLE feature_bench (id bigint, class int, feature tensor);
ALTER TABLE feature_bench ALTER feature SET STORAGE EXTERNAL;
INSERT INTO feature_bench
	SELECT c * 1300 + i, c, (SELECT array_agg((sin(i * (j * 0.7 + 1.3) + c * j * 1.9) + sin(j * i * 0.37 + c))::real ORDER BY j) FROM generate_series(1, 768) j)::tensor(f16)
	FROM generate_series(0, :classes - 1) c, generate_series(1, 1300) i;
ALTER TABLE feature_bench SET (parallel_workers = 1);
VACUUM ANALYZE feature_bench;
SET max_parallel_workers_per_gather = 1;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.seconds(query text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	times float8[];
	start timestamptz;
BEGIN
	FOR i IN 1 .. 3 LOOP
		start := clock_timestamp();
		EXECUTE query;
		times := times || extract(epoch FROM clock_timestamp() - start)::float8;
	END LOOP;
	RETURN percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(times) t;
END $$;
SELECT format('%s, %s classes of 1300 x 768: %s s, so %s s for 1000 classes (median of three)', method, :classes,
	round(s::numeric, 2), round((s * 1000 / :classes)::numeric, 1))
FROM unnest(ARRAY['kcenter', 'herding', 'moderate', 'gadc']) method,
	pg_temp.seconds(format('SELECT class, d2c_select_%s(id, feature, 10) FROM feature_bench GROUP BY class', method)) s;
DROP TABLE feature_bench;
