-- ranks 0, k, 2k, ... by (score, id)
CREATE TABLE scored AS SELECT i::bigint AS id, (i * 7919 % 1009) / 1009.0::float8 AS score FROM generate_series(1, 1000) i;
SELECT d2c_select(id, score, 96, 10) FROM scored;
SELECT d2c_select(id, score, 96, 10) = (SELECT array_agg(id ORDER BY rank) FROM (SELECT id, row_number() OVER (ORDER BY score, id) AS rank FROM scored) r WHERE rank % 96 = 1 AND rank <= 9 * 96 + 1) FROM scored;
SELECT d2c_select(id, score, 1, 3), d2c_select(id, score, 300, 100), d2c_select(id, score, 5000, 10), d2c_select(id, score, 2147483647, 2147483647) FROM scored;
SELECT d2c_select(id, score, 10, 5 ORDER BY score), d2c_select(id, score, 10, 5 ORDER BY score DESC), d2c_select(id, score, 10, 5 ORDER BY id) FROM scored;

-- against row_number(), over groups of many sizes, with ties, k and n, in any order of rows
CREATE TABLE groups AS SELECT g, (i * 31 + g) % 100003 AS id, (i * 37 % (g + 3))::float8 AS score
	FROM generate_series(1, 60) g, generate_series(1, g * g) i;
SELECT k, n, count(*) AS groups, count(*) FILTER (WHERE picked IS DISTINCT FROM expected) AS wrong
FROM (VALUES (1, 1), (1, 7), (2, 3), (3, 10), (96, 10), (17, 50)) p (k, n),
LATERAL (SELECT g, d2c_select(id, score, k, n) AS picked FROM groups GROUP BY g) a
JOIN LATERAL (SELECT g, array_agg(id::bigint ORDER BY rank) AS expected
	FROM (SELECT g, id, row_number() OVER (PARTITION BY g ORDER BY score, id) - 1 AS rank FROM groups) r
	WHERE rank % k = 0 AND rank / k < n GROUP BY g) b USING (g)
GROUP BY k, n ORDER BY k, n;

-- ties: bigint by value, text in the C collation, uuid by bytes
SELECT d2c_select(id, 1, 1, 4) FROM (VALUES (3::bigint), (-5), (0), (9223372036854775807), (-9223372036854775808)) v (id);
SELECT d2c_select(id, 1, 1, 9) FROM (VALUES ('b'), ('B'), ('a'), ('ab'), (''), ('_'), ('ä')) v (id);
SELECT d2c_select(id, 1, 1, 9) FROM (VALUES ('f0000000-0000-0000-0000-000000000000'::uuid), ('0f000000-0000-0000-0000-000000000000'), ('0f000000-0000-0000-0000-000000000001')) v (id);
SELECT d2c_select(repeat('x', 1000) || id, score, 96, 10) = (SELECT array_agg(repeat('x', 1000) || x ORDER BY o) FROM unnest(d2c_select(id, score, 96, 10)) WITH ORDINALITY u (x, o)) FROM scored;
SELECT d2c_select(md5(id::text)::uuid, score, 96, 10) = (SELECT array_agg(md5(x::text)::uuid ORDER BY o) FROM unnest(d2c_select(id, score, 96, 10)) WITH ORDINALITY u (x, o)) FROM scored;
SELECT pg_typeof(d2c_select('1', 1, 1, 1)), pg_typeof(d2c_select(1, 1, 1, 1));

-- what is not a number, and what is not there
SELECT d2c_select(id, score, 2, 2) FROM (VALUES (1, NULL), (2, 0.5), (3, 0.1), (NULL, NULL)) v (id, score);
SELECT d2c_select(id, NULL, 2, 2), d2c_select(id, score, 2, 2) FILTER (WHERE false) FROM scored;
SELECT d2c_select(id, score, 1, 3) FROM (VALUES (1, 'Infinity'::float8), (2, '-Infinity'), (3, 0)) v (id, score);
SELECT d2c_select(id, score, 1, 3) FROM (VALUES (1, 'NaN'::float8), (2, 0)) v (id, score);
SELECT d2c_select(id, score, 1, 3) FILTER (WHERE score <> 'NaN') FROM (VALUES (1, 'NaN'::float8), (2, 0)) v (id, score);
SELECT d2c_select(NULL::bigint, 1, 1, 1);
SELECT d2c_select(id, score, 0, 1) FROM scored;
SELECT d2c_select(id, score, 1, 0) FROM scored;
SELECT d2c_select(id, score, -1, 1) FROM scored;
SELECT d2c_select(id, score, NULL, 1) FROM scored;
SELECT d2c_select(id, score, 1, NULL) FROM scored;
SELECT d2c_select(id, score, id::int, 1) FROM scored WHERE id < 3;
SELECT d2c_select(id, score, 1, id::int) FROM scored WHERE id < 3;
SELECT d2c_select(ARRAY[1], 1, 1, 1);

-- as a window function
SELECT id, d2c_select(id, score, 1, 2) OVER (ORDER BY id) FROM scored WHERE id < 4;

-- the baselines
SELECT d2c_select_min(id, score, 3), d2c_select_max(id, score, 3), d2c_select_medium(id, score, 3) FROM scored;
SELECT d2c_select_min(id, score, 3) = (SELECT array_agg(id) FROM (SELECT id FROM scored ORDER BY score, id LIMIT 3) s),
	d2c_select_max(id, score, 3) = (SELECT array_agg(id) FROM (SELECT id FROM scored ORDER BY score DESC, id LIMIT 3) s),
	d2c_select_medium(id, score, 3) = (SELECT array_agg(id) FROM (SELECT id FROM scored ORDER BY score, id OFFSET 498 LIMIT 3) s) FROM scored;
SELECT d2c_select_max(id, 1, 2), d2c_select_medium(id, 1, 9) FROM (VALUES (1::bigint), (2), (3)) v (id);
SELECT d2c_select_random(id, 0, 5), d2c_select_random(id, 1, 5), cardinality(d2c_select_random(id, 1, 5000)) FROM scored;
SELECT d2c_select_random(id, 0, 5) = d2c_select_random(id, 0, 5 ORDER BY id DESC), d2c_select_random(id::text, 0, 3), d2c_select_random(md5(id::text)::uuid, 0, 1) FROM scored;
SELECT min(hits) > 60 AND max(hits) < 140 AS even FROM (SELECT x, count(*) AS hits FROM generate_series(1, 1000) seed, LATERAL (SELECT d2c_select_random(id, seed, 1) AS p FROM scored WHERE id <= 10) s, unnest(p) x GROUP BY x) h;
SELECT d2c_select_random(id, NULL, 5) FROM scored;
SELECT d2c_select_random(id, id, 5) FROM scored;
SELECT d2c_select_min(id, 'NaN', 5) FROM scored;

-- the state: both forms, and what they refuse
CREATE AGGREGATE keep(id bigint, score float8, k int, n int) (SFUNC = d2c_select_accum, STYPE = d2c_selection);
CREATE AGGREGATE keep(id text, score float8, k int, n int) (SFUNC = d2c_select_accum, STYPE = d2c_selection);
CREATE AGGREGATE keep(id uuid, score float8, k int, n int) (SFUNC = d2c_select_accum, STYPE = d2c_selection);
CREATE AGGREGATE merge(d2c_selection) (SFUNC = d2c_selection_combine, STYPE = d2c_selection);
SELECT keep(id, score, 2, 2) FROM scored WHERE id < 4;
SELECT keep('it''s "\' || id, score, 2, 2), keep(md5(id::text)::uuid, score, 2, 2) FROM scored WHERE id < 3;
SELECT d2c_selection_bigint(merge(s::text::d2c_selection)) = (SELECT d2c_select(id, score, 96, 10) FROM scored) FROM (SELECT keep(id, score, 96, 10) AS s FROM scored GROUP BY id % 7) p;
SELECT d2c_selection_text(merge(s::text::d2c_selection)) = (SELECT d2c_select(id::text, score, 96, 10) FROM scored) FROM (SELECT keep(id::text, score, 96, 10) AS s FROM scored GROUP BY id % 7) p;
SELECT d2c_selection_uuid(merge(s)) = (SELECT d2c_select(md5(id::text)::uuid, score, 3, 10) FROM scored) FROM (SELECT keep(md5(id::text)::uuid, score, 3, 10) AS s FROM scored GROUP BY id % 70) p;
SELECT merge(s) FROM (VALUES (NULL::d2c_selection), ('interval bigint k=1 n=1 seed=0 {1:1}'), (NULL), ('interval bigint k=1 n=1 seed=0 {}')) v (s);
SELECT merge(s) FROM (VALUES ('interval bigint k=1 n=1 seed=0 {}'::d2c_selection), ('interval bigint k=2 n=1 seed=0 {}')) v (s);
SELECT merge(s) FROM (VALUES ('interval bigint k=1 n=1 seed=0 {}'::d2c_selection), ('interval text k=1 n=1 seed=0 {}')) v (s);
SELECT merge(s) FROM (VALUES ('min bigint k=1 n=1 seed=0 {}'::d2c_selection), ('max bigint k=1 n=1 seed=0 {}')) v (s);
SELECT d2c_selection_text('interval bigint k=1 n=1 seed=0 {1:1}');
SELECT d2c_selection_combine('interval bigint k=1 n=1 seed=0 {}', 'interval bigint k=1 n=1 seed=0 {}');
SELECT d2c_select_accum(NULL, 1::bigint, 1, 1, 1);
CREATE AGGREGATE confused(id bigint, score float8, k int, n int) (SFUNC = d2c_select_accum, STYPE = d2c_selection, INITCOND = 'interval text k=1 n=1 seed=0 {}');
SELECT confused(1, 1, 1, 1);
SELECT ''::d2c_selection;
SELECT 'interval bigint k=0 n=1 seed=0 {}'::d2c_selection;
SELECT 'interval bigint k=1 n=1 seed=0 {1:1'::d2c_selection;
SELECT 'interval bigint k=1 n=1 seed=0 {NaN:1}'::d2c_selection;
SELECT 'interval bigint k=1 n=1 seed=0 {1:9223372036854775808}'::d2c_selection;
SELECT 'interval bigint k=1 n=1 seed=0 {1:1}x'::d2c_selection;
SELECT 'interval text k=1 n=1 seed=0 {1:"a}'::d2c_selection;
SELECT 'interval text k=1 n=1 seed=0 {1:"a\'::d2c_selection;
SELECT 'interval uuid k=1 n=1 seed=0 {1:00}'::d2c_selection;
SELECT 'interval uuid k=1 n=1 seed=0 {1:000g}'::d2c_selection;
SELECT 'sum bigint k=1 n=1 seed=0 {}'::d2c_selection;
SELECT d2c_selection_send('max text k=1 n=2 seed=-1 {0.5:"ab",1:""}');

-- rows that rise and fall, and in two sorted runs: orders in which a fixed choice of pivots takes one row away in each round
WITH r AS (SELECT i::bigint AS id, abs(i - 150000)::float8 AS tent, (i % 150000)::float8 AS runs FROM generate_series(1, 300000) i),
	o AS (SELECT id, row_number() OVER (ORDER BY tent, id) AS tent, row_number() OVER (ORDER BY runs, id) AS runs FROM r)
SELECT (SELECT d2c_select(id, tent, 10, 20000) FROM r) = (SELECT array_agg(id ORDER BY tent) FROM o WHERE tent % 10 = 1 AND tent <= 200000) AS tent,
	(SELECT d2c_select(id, runs, 10, 20000) FROM r) = (SELECT array_agg(id ORDER BY runs) FROM o WHERE runs % 10 = 1 AND runs <= 200000) AS runs,
	(SELECT d2c_select_medium(id, tent, 2) FROM r) <@ (SELECT array_agg(id) FROM o WHERE tent BETWEEN 149999 AND 150002) AS tent_medium,
	(SELECT d2c_select_medium(id, runs, 2) FROM r) <@ (SELECT array_agg(id) FROM o WHERE runs BETWEEN 149999 AND 150002) AS runs_medium;

-- memory of a group: 16 bytes for each of at most 1.25 (n-1) k + 16 candidates and some for what the state grew out of, however
-- many rows there are; all rows of a selection around the middle take at most twice their 16 bytes and that
CREATE FUNCTION kilobytes_a_group(aggregate text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	SET LOCAL max_parallel_workers_per_gather = 0;
	SET LOCAL enable_sort = off;
	SET LOCAL work_mem = '256MB';
	EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) SELECT id % 100, ' || aggregate || ' FROM generate_series(1::bigint, 400000) id GROUP BY 1' INTO plan;
	RETURN jsonb_path_query_first(plan, '$.**."Peak Memory Usage"')::numeric / 100;
END $$;
SELECT kilobytes_a_group('d2c_select(id, hashint8(id), 96, 10)') BETWEEN 17 AND 17 + 8 AS interval,
	kilobytes_a_group('d2c_select_min(id, hashint8(id), 1000)') BETWEEN 20 AND 20 + 8 AS min,
	kilobytes_a_group('d2c_select(id, hashint8(id), 1, 1)') < 3 AS one,
	kilobytes_a_group('d2c_select_medium(id, hashint8(id), 10)') BETWEEN 63 AND 2 * 63 + 8 AS medium;
DROP FUNCTION kilobytes_a_group(text);

-- the interval of the paper
SELECT d2c_interval(1281, 10), d2c_interval(1281, 50), d2c_interval(6000, 50), d2c_interval(5, 10), d2c_interval(1, 1), d2c_interval(9223372036854775807, 2), d2c_interval(NULL, 1);
SELECT d2c_interval(0, 1);
SELECT d2c_interval(10, 0);
DROP AGGREGATE keep(bigint, float8, int, int), keep(text, float8, int, int), keep(uuid, float8, int, int), merge(d2c_selection), confused(bigint, float8, int, int);
DROP TABLE scored, groups;
