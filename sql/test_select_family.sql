-- The family of selections against NumPy (test/golden/make_select.py), signs, products, and damaged values.
\set VERBOSITY default
SET extra_float_digits = 1;

-- The points of test_select_feature.sql.
CREATE TABLE points AS
SELECT i AS id, i % 2 AS class, ARRAY(SELECT sin(i * (d * d + 1.7) + d)::real * d FROM generate_series(1, 5) d ORDER BY d) AS v
FROM generate_series(1, 300) i;
CREATE TABLE golden (method, class, ids) AS VALUES
	('kcenter', 0, '{16,122,24,218,196,38,238,292}'::bigint[]),
	('kcenter', 1, '{297,295,259,273,225,263,129,245}'::bigint[]),
	('herding', 0, '{296,162,288,214,236,266,252,118}'::bigint[]),
	('herding', 1, '{69,121,91,143,99,47,113,173}'::bigint[]),
	('moderate', 0, '{206,80,88,36,102,22,58,44}'::bigint[]),
	('moderate', 1, '{7,97,41,149,211,33,269,71}'::bigint[]),
	('gadc', 0, '{176,130,208,182,136,198,160,230}'::bigint[]),
	('gadc', 1, '{227,229,167,137,115,3,175,51}'::bigint[]),
	('ccs', 0, '{8,10,12,16,18,30,36,38,42,46,58,72,74,80,88,92,94,98,100,110,112,116,118,120,122,124,128,138,144,148,156,158,160,168,170,174,178,180,184,188,196,200,204,206,208,224,228,230,234,242,244,246,248,258,266,268,270,276,278,290}'::bigint[]),
	('ccs', 1, '{3,9,15,19,21,23,27,29,41,45,47,51,55,57,59,63,65,67,71,79,91,105,109,115,117,121,125,127,131,133,145,151,157,163,173,177,179,191,203,211,213,217,219,227,235,237,239,247,255,257,261,267,273,275,279,281,283,287,293,299}'::bigint[]);
CREATE VIEW picks AS
SELECT class, d2c_select_kcenter(id, v::tensor, 8) AS kcenter, d2c_select_herding(id, v::tensor, 8) AS herding,
	d2c_select_moderate(id, v::tensor, 8) AS moderate, d2c_select_gadc(id, v::tensor, 8) AS gadc,
	ARRAY(SELECT unnest(d2c_select_ccs(id, sqrt(id * 7919 % 1009), 60, 0.1, 7)) ORDER BY 1) AS ccs FROM points GROUP BY class;
SELECT method, class, ids = CASE method WHEN 'kcenter' THEN kcenter WHEN 'herding' THEN herding WHEN 'moderate' THEN moderate WHEN 'ccs' THEN ccs ELSE gadc END AS same
FROM golden JOIN picks USING (class) ORDER BY method, class;

-- All sets of three of ten rows were tried: the least objective, as a set.
CREATE TABLE optimum (method, tens, ids) AS VALUES
	('optimum', 0, '{8,9,10}'::bigint[]),
	('optimum', 1, '{12,15,18}'::bigint[]),
	('optimum', 2, '{22,28,29}'::bigint[]),
	('optimum', 3, '{34,36,37}'::bigint[]),
	('optimum', 4, '{44,45,50}'::bigint[]),
	('optimum', 5, '{56,58,59}'::bigint[]),
	('optimum', 6, '{66,68,69}'::bigint[]),
	('optimum', 7, '{74,75,80}'::bigint[]),
	('optimum', 8, '{82,83,89}'::bigint[]),
	('optimum', 9, '{91,98,100}'::bigint[]),
	('optimum', 10, '{101,108,110}'::bigint[]),
	('optimum', 11, '{111,115,120}'::bigint[]),
	('optimum', 12, '{121,122,124}'::bigint[]),
	('optimum', 13, '{132,137,138}'::bigint[]),
	('optimum', 14, '{142,143,144}'::bigint[]),
	('optimum', 15, '{153,154,156}'::bigint[]),
	('optimum', 16, '{161,162,168}'::bigint[]),
	('optimum', 17, '{171,175,176}'::bigint[]),
	('optimum', 18, '{183,184,190}'::bigint[]),
	('optimum', 19, '{193,197,198}'::bigint[]),
	('optimum', 20, '{201,205,206}'::bigint[]),
	('optimum', 21, '{214,217,220}'::bigint[]),
	('optimum', 22, '{221,229,230}'::bigint[]),
	('optimum', 23, '{231,236,239}'::bigint[]),
	('optimum', 24, '{241,242,250}'::bigint[]),
	('optimum', 25, '{253,256,258}'::bigint[]),
	('optimum', 26, '{261,265,266}'::bigint[]),
	('optimum', 27, '{273,276,279}'::bigint[]),
	('optimum', 28, '{286,288,290}'::bigint[]),
	('optimum', 29, '{293,295,298}'::bigint[]);
SELECT count(*) FILTER (WHERE o.ids = ARRAY(SELECT unnest(p.ids) ORDER BY 1)) AS optimal, count(*) AS groups
FROM optimum o JOIN (SELECT (id - 1) / 10 AS tens, d2c_select_gadc(id, v::tensor, 3) AS ids FROM points GROUP BY 1) p USING (tens);

-- Signs. A planted outlier: k-center takes it first, herding and moderate last or not at all, gadc not among few.
CREATE TABLE planted AS SELECT i AS id, ARRAY[i % 7, i % 5]::real[] AS v FROM generate_series(1, 35) i UNION ALL SELECT 36, '{100,100}';
SELECT (d2c_select_kcenter(id, v::tensor, 36))[1] AS kcenter_first, array_position(d2c_select_herding(id, v::tensor, 36), 36) > 20 AS herding_late,
	36 = ANY (d2c_select_moderate(id, v::tensor, 34)) AS moderate, 36 = ANY (d2c_select_gadc(id, v::tensor, 1)) AS gadc FROM planted;
SELECT d2c_select_gadc(id, v::tensor, 2) FROM (VALUES (1, '{0}'::real[]), (2, '{1}'), (3, '{2}'), (4, '{10}'), (5, '{11}'), (6, '{12}')) p (id, v);

-- Products: greatest first, ties by id, negative strengths, ignored objectives, rows without one, exactly n per group.
SELECT d2c_select_product(i, ARRAY[i, 10 - i]::float8[], '{1,1}', 3) AS middle, d2c_select_product(i, ARRAY[i, 10 - i]::float8[], '{2,0}', 2) AS high,
	d2c_select_product(i, ARRAY[i, 10 - i]::float8[], '{-1,0}', 2) AS low, d2c_select_product(i, ARRAY[i % 2, 1]::float8[], '{1,1}', 7) AS zero_last,
	d2c_select_product(i, ARRAY[nullif(i, 9), NULL]::float8[], '{1,0}', 2) AS without, d2c_select_product(i, NULL, '{1}', 2) AS none
FROM generate_series(1::bigint, 9) i;
SELECT i % 3 AS class, d2c_select_product(i, ARRAY[i]::float8[], '{0.5}', 2) FILTER (WHERE i <> 100) FROM generate_series(1::bigint, 100) i GROUP BY 1 ORDER BY 1;
SELECT d2c_select_product(i::text, ARRAY[i]::float8[], '{1}', 2) AS text, d2c_select_product(lpad(to_hex(i), 32, '0')::uuid, ARRAY[i]::float8[], '{1}', 1) AS uuid
FROM generate_series(1, 100) i;
CREATE TABLE products AS SELECT i AS id, ARRAY[1 + i * 7919 % 1009, 1 + i * 104729 % 997]::float8[] AS o FROM generate_series(1::bigint, 20000) i;
SELECT d2c_select_product(id, o, '{1,-0.5}', 20) = (SELECT array_agg(id ORDER BY r) FROM
	(SELECT id, row_number() OVER (ORDER BY ln(o[1]) - 0.5 * ln(o[2]) DESC, id) r FROM products) s WHERE r <= 20) AS same,
	d2c_select_product(id, o, '{1,-0.5}', 20) = d2c_select_product(id, o, '{1,-0.5}', 20 ORDER BY id DESC) AS any_order FROM products;

-- Parallel equals serial, bit for bit.
CREATE TABLE serial AS SELECT * FROM picks;
CREATE TABLE serial_products AS SELECT d2c_select_product(id, o, '{1,2}', 50) AS ids FROM products;
ALTER TABLE points SET (parallel_workers = 2);
ALTER TABLE products SET (parallel_workers = 2);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT d2c_select_product(id, o, '{1,2}', 50) FROM products;
SELECT count(*) FROM picks JOIN serial USING (class, kcenter, herding, moderate, gadc);
SELECT d2c_select_product(id, o, '{1,2}', 50) = ids AS same FROM products, serial_products GROUP BY ids;
RESET max_parallel_workers_per_gather;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- The engine picks the same rows.
SET d2c.select_memory = 0;
SELECT count(*) FROM picks JOIN serial USING (class, kcenter, herding, moderate, gadc);
SELECT d2c_select_gadc(id, v::tensor, 2) FROM points WHERE id = 7;
SELECT d2c_select_gadc(id, '[1]', 2) FROM generate_series(1::bigint, 12000) id;
RESET d2c.select_memory;

-- Unlike states are not combined; text and binary forms hold the new methods; what is damaged is refused.
CREATE AGGREGATE merge(d2c_selection) (SFUNC = d2c_selection_combine, STYPE = d2c_selection);
SELECT merge(s::d2c_selection) FROM (VALUES ('gadc bigint k=1 n=3 seed=0 width=1 {[1]:17}'), ('gadc bigint k=1 n=3 seed=0 width=1 {[2]:4}')) v (s);
SELECT merge(s::d2c_selection) FROM (VALUES ('gadc bigint k=1 n=3 seed=0 width=1 {[1]:17}'), ('kcenter bigint k=1 n=3 seed=0 width=1 {[2]:4}')) v (s);
SELECT merge(s::d2c_selection) FROM (VALUES ('product bigint k=1 n=3 seed=1 {0.5:17}'), ('product bigint k=1 n=3 seed=2 {0.5:18}')) v (s);
CREATE TABLE forms (s d2c_selection);
INSERT INTO forms VALUES ('product text k=1 n=3 seed=-7 {-0.5:"a",Infinity:"b"}'), ('gadc bigint k=1 n=2 seed=0 width=2 {[0,1]:4}');
SELECT s, d2c_selection_send(s) FROM forms;
SELECT 'gadc bigint k=2 n=2 seed=0 width=1 {}'::d2c_selection;
-- the share is of whole rows, and what it leaves out may be infinite
SELECT cardinality(d2c_select_ccs(id, id, 100, 0.29, 0)) AS "71", cardinality(d2c_select_ccs(id, id, 100, 0.57, 0)) AS "43", cardinality(d2c_select_ccs(id, id, 100, 0.285, 0)) AS "72" FROM generate_series(1::bigint, 100) id;
SELECT cardinality(d2c_select_ccs(id, CASE WHEN id > 9 THEN 'Infinity' ELSE id::float8 END, 10, 0.1, 0)) AS "9" FROM generate_series(1::bigint, 10) id;
SELECT 'ccs bigint k=1 n=2 seed=0 cut=nan {}'::d2c_selection;
SELECT 'product bigint k=1 n=2 seed=0 {nan:1}'::d2c_selection;

-- What is refused.
SELECT d2c_select_product(1::bigint, '{1,2}', '{1}', 2);
SELECT d2c_select_product(1::bigint, '{-1}', '{1}', 2);
SELECT d2c_select_product(1::bigint, '{0}', '{-1}', 2);
SELECT d2c_select_product(1::bigint, '{1e10,0}', '{1e308,1}', 2);
SELECT d2c_select_product(1::bigint, '{1}', '{inf}', 2);
SELECT d2c_select_product(1::bigint, '{1}', NULL, 2);
SELECT d2c_select_product(1::bigint, '{{1}}', '{1}', 2);
SELECT d2c_select_product(id, '{1}', ARRAY[id]::float8[], 2) FROM products;
SELECT d2c_select_product(NULL::bigint, '{1}', '{1}', 2);
SELECT d2c_select_product(1::bigint, '{1}', '{1}', 0);
DROP AGGREGATE merge(d2c_selection);
DROP VIEW picks;
DROP TABLE points, golden, optimum, planted, products, serial, serial_products, forms;
