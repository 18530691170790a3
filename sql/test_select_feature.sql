-- Selections by features, and by strata of the scores.
\set VERBOSITY default
SET extra_float_digits = 1;

-- 300 points in 5 dimensions and two classes, from a generator written out here.
CREATE TABLE points AS
SELECT i AS id, i % 2 AS class, (i * 7919 % 1009)::float8 AS score,
	ARRAY(SELECT sin(i * (d * d + 1.7) + d)::real * d FROM generate_series(1, 5) d ORDER BY d) AS v
FROM generate_series(1, 300) i;

-- The definitions, said again in another language: distances as sums over unnested elements.
CREATE FUNCTION distance(a float8[], b float8[]) RETURNS float8 LANGUAGE sql IMMUTABLE AS
	$$ SELECT sum((x - y) ^ 2) FROM unnest(a, b) u (x, y) $$;
CREATE FUNCTION mean_of(c int) RETURNS float8[] LANGUAGE sql STABLE AS
	$$ SELECT array_agg(m ORDER BY d) FROM (SELECT d, avg(v[d]::float8) m FROM points, generate_series(1, 5) d WHERE class = c GROUP BY d) s $$;
CREATE FUNCTION median_of(c int) RETURNS float8[] LANGUAGE sql STABLE AS
	$$ SELECT array_agg(m ORDER BY d) FROM (SELECT d, percentile_cont(0.5) WITHIN GROUP (ORDER BY v[d]::float8) m
		FROM points, generate_series(1, 5) d WHERE class = c GROUP BY d) s $$;
CREATE FUNCTION naive_kcenter(c int, n int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	picked bigint[] := ARRAY(SELECT id FROM points WHERE class = c ORDER BY distance(v, mean_of(c)) DESC, id LIMIT 1);
BEGIN
	WHILE cardinality(picked) < n LOOP
		picked := picked || (SELECT p.id FROM points p, points q WHERE p.class = c AND q.id = ANY (picked) AND p.id <> ALL (picked)
			GROUP BY p.id ORDER BY min(distance(p.v, q.v)) DESC, p.id LIMIT 1)::bigint;
	END LOOP;
	RETURN picked;
END $$;
CREATE FUNCTION naive_herding(c int, n int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	picked bigint[] := '{}';
	mean float8[] := mean_of(c);
	wanted float8[];
BEGIN
	WHILE cardinality(picked) < n LOOP
		SELECT array_agg((cardinality(picked) + 1) * mean[d] - coalesce((SELECT sum(v[d]::float8) FROM points WHERE id = ANY (picked)), 0) ORDER BY d)
			INTO wanted FROM generate_series(1, 5) d;
		picked := picked || (SELECT id FROM points WHERE class = c AND id <> ALL (picked) ORDER BY distance(v, wanted), id LIMIT 1)::bigint;
	END LOOP;
	RETURN picked;
END $$;

SELECT class, d2c_select_kcenter(id, v::tensor, 8) = naive_kcenter(class, 8) AS same FROM points GROUP BY class ORDER BY class;
SELECT class, d2c_select_herding(id, v::tensor, 8) = naive_herding(class, 8) AS same FROM points GROUP BY class ORDER BY class;
SELECT class, d2c_select_moderate(id, v::tensor, 8) =
	ARRAY(SELECT id::bigint FROM (SELECT id, row_number() OVER (ORDER BY distance(v, median_of(p.class)), id) r FROM points q WHERE q.class = p.class) s
		WHERE r BETWEEN (150 - 8) / 2 + 1 AND (150 + 8) / 2 ORDER BY r) AS same
FROM points p GROUP BY class ORDER BY class;

-- A planted outlier is the first of k-center, not among the first of herding, and not moderate; a twin of a picked row
-- comes last.
CREATE TABLE planted AS SELECT i AS id, ARRAY[i % 7, i % 5]::real[] AS v FROM generate_series(1, 60) i UNION ALL SELECT 61, '{100,100}';
SELECT d2c_select_kcenter(id, v::tensor, 1) AS kcenter, 61 = ANY (d2c_select_herding(id, v::tensor, 10)) AS herding,
	61 = ANY (d2c_select_moderate(id, v::tensor, 59)) AS moderate FROM planted;
SELECT d2c_select_kcenter(id, v::tensor, 4) FROM (VALUES (1, '{0,0}'::real[]), (2, '{0,0}'), (3, '{0,1}'), (4, '{5,0}')) p (id, v);

-- Strata: 100 rows in the first, 10 in the second, 1 in each of two more; the hardest tenth is left out.
CREATE TABLE strata AS
SELECT i AS id, CASE WHEN i <= 100 THEN 0.001 * i WHEN i <= 110 THEN 10 + 0.01 * i WHEN i = 111 THEN 30 WHEN i = 112 THEN 49.5 ELSE 1000 + i END AS score
FROM generate_series(1, 124) i;
SELECT count(*) FILTER (WHERE id <= 100) AS first, count(*) FILTER (WHERE id BETWEEN 101 AND 110) AS second,
	count(*) FILTER (WHERE id IN (111, 112)) AS single, count(*) FILTER (WHERE id > 112) AS hard
FROM unnest((SELECT d2c_select_ccs(id, score, 20, 0.1, 1) FROM strata)) id;
SELECT cardinality(d2c_select_ccs(id, score, 500, 0.1, 1)) FROM strata;
SELECT d2c_select_ccs(id, score, 20, 0.1, 1) = d2c_select_ccs(id, score, 20, 0.1, 1 ORDER BY id DESC) AS same,
	d2c_select_ccs(id, score, 20, 0.1, 1) = d2c_select_ccs(id, score, 20, 0.1, 2) AS same_for_another_seed FROM strata;

-- rows of one id are in the order of their features
SELECT d2c_select_kcenter(id, v::tensor, 4 ORDER BY o) = d2c_select_kcenter(id, v::tensor, 4 ORDER BY o DESC) AS kcenter, d2c_select_herding(id, v::tensor, 4 ORDER BY o) = d2c_select_herding(id, v::tensor, 4 ORDER BY o DESC) AS herding,
	d2c_select_gadc(id, v::tensor, 4 ORDER BY o) = d2c_select_gadc(id, v::tensor, 4 ORDER BY o DESC) AS gadc
FROM (VALUES (1, 0, '[1,-3]'), (2, 1, '[1,-2]'), (3, 0, '[0,3]'), (4, 1, '[0,-1]'), (5, 3, '[-1,0]'), (6, 3, '[-2,-2]')) p (o, id, v);
-- Other kinds of id and of tensor; fewer rows than asked for; none.
SELECT d2c_select_kcenter(id::text, v::tensor(f16), 3) = ARRAY(SELECT unnest(d2c_select_kcenter(id::text, v::tensor(f16)::real[]::tensor, 3))) AS text,
	d2c_select_herding(lpad(to_hex(id), 32, '0')::uuid, v::tensor, 2) AS uuid FROM points;
SELECT d2c_select_kcenter(id, v::tensor, 100) AS kcenter, d2c_select_moderate(id, v::tensor, 100) AS moderate FROM points WHERE id <= 3;
SELECT d2c_select_kcenter(id, NULL, 3) AS without, d2c_select_herding(id, CASE WHEN id < 4 THEN v::tensor END, 9) AS three FROM points;

-- The same whatever the order, in parallel, and through the text and binary forms.
SELECT d2c_select_herding(id, v::tensor, 20) = d2c_select_herding(id, v::tensor, 20 ORDER BY score) AS herding,
	d2c_select_kcenter(id, v::tensor, 20) = d2c_select_kcenter(id, v::tensor, 20 ORDER BY score) AS kcenter FROM points;
CREATE TABLE serial AS SELECT class, d2c_select_kcenter(id, v::tensor, 9) k, d2c_select_herding(id, v::tensor, 9) h,
	d2c_select_moderate(id, v::tensor, 9) m, d2c_select_ccs(id, score, 9, 0.2, 3) c FROM points GROUP BY class;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT class, d2c_select_kcenter(id, v::tensor, 9) FROM points GROUP BY class;
SELECT count(*) FROM (SELECT class, d2c_select_kcenter(id, v::tensor, 9) k, d2c_select_herding(id, v::tensor, 9) h,
	d2c_select_moderate(id, v::tensor, 9) m, d2c_select_ccs(id, score, 9, 0.2, 3) c FROM points GROUP BY class) p JOIN serial USING (class, k, h, m, c);
RESET max_parallel_workers_per_gather;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
SELECT s::d2c_selection FROM (VALUES ('kcenter bigint k=1 n=3 seed=0 width=2 {[1,-2.5]:17,[0,0]:4}'), ('herding text k=1 n=1 seed=0 width=0 {}'),
	('ccs bigint k=1 n=3 seed=7 cut=0.1 {0.5:17}')) v (s);
SELECT d2c_selection_bigint('kcenter bigint k=1 n=2 seed=0 width=2 {[0,0]:4,[1,0]:5,[7,1]:6}');
CREATE TABLE forms (s d2c_selection);
INSERT INTO forms VALUES ('moderate uuid k=1 n=3 seed=0 width=1 {[1]:00000000000000000000000000000001}'), ('ccs bigint k=1 n=3 seed=7 cut=0.25 {0.5:17,0.75:18}');
SELECT d2c_selection_send(s) FROM forms;

-- What is refused.
SELECT d2c_select_kcenter(id, CASE WHEN id = 3 THEN '[1,2]' ELSE v::tensor END, 3 ORDER BY id) FROM points;
SELECT d2c_select_kcenter(id, '[1,nan]'::tensor, 3) FROM points;
SELECT d2c_select_kcenter(NULL::bigint, v::tensor, 3) FROM points;
SELECT d2c_select_kcenter(id, v::tensor, 0) FROM points;
SELECT d2c_select_kcenter(id, v::tensor, NULL) FROM points;
SELECT d2c_select_kcenter(id, v::tensor, id::int) FROM points;
SELECT d2c_select_ccs(id, score, 3, id / 1000.0, 0) FROM points;
SELECT d2c_select_ccs(id, score, 3, 1, 0) FROM points;
SELECT d2c_select_ccs(id, score, 3, 'nan', 0) FROM points;
SELECT d2c_select_ccs(id, 'infinity', 3, 0, 0) FROM points;
SELECT d2c_select_ccs(id, 'nan', 3, 0, 0) FROM points;
-- a range that a double does not hold is cut all the same
SELECT d2c_select_ccs(id, score, 4, 0, 0) FROM (VALUES (1::bigint, -1.7e308), (2, 0), (3, 1), (4, 1.7e308)) v (id, score);
SELECT 'medium bigint k=2 n=3 seed=0 {1:1,2:2,3:3,4:4,5:5}'::d2c_selection;
SELECT 'kcenter bigint k=1 n=3 seed=0 width=2 {[1]:17}'::d2c_selection;
SELECT 'kcenter bigint k=1 n=3 seed=0 width=0 {[]:17}'::d2c_selection;
SELECT 'kcenter bigint k=1 n=3 seed=0 width=99999999 {}'::d2c_selection;
SELECT 'kcenter bigint k=1 n=3 seed=0 {0.5:17}'::d2c_selection;
SELECT 'ccs bigint k=1 n=3 seed=0 cut=1 {0.5:17}'::d2c_selection;
DROP TABLE points, planted, strata, serial, forms;
DROP FUNCTION distance, mean_of, median_of, naive_kcenter, naive_herding;
