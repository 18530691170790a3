-- scores and the functions around them: values against each other, and wrong inputs
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
CREATE FUNCTION difficulty_golden(name text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_read_binary_file(current_setting('test.folder') || name) $$;
CREATE TABLE picture AS SELECT i AS id, (i % 10)::bigint AS label, difficulty_golden(CASE WHEN i % 2 = 0 THEN 'grey.png' ELSE 'rgb.png' END) AS image
	FROM generate_series(1, 40) i;

-- the score is the mean of its curve, depends on every argument, and on nothing else
SELECT abs(d2c_difficulty(image, label, 'tiny-sit') - (SELECT avg(e) FROM unnest(d2c_difficulty_curve(image, label, 'tiny-sit')) e)) < 1e-12 AS mean,
	cardinality(d2c_difficulty_curve(image, label, 'tiny-sit', 5)) AS timesteps,
	d2c_difficulty(image, label, 'tiny-sit') BETWEEN 0.1 AND 10 AS plausible FROM picture WHERE id = 1;
SELECT count(DISTINCT s) FROM (SELECT unnest(ARRAY[
	d2c_difficulty(image, label, 'tiny-sit'), d2c_difficulty(image, label + 1, 'tiny-sit'), d2c_difficulty(image, label, 'tiny-sit', 4),
	d2c_difficulty(image, label, 'tiny-sit', 8, 1), d2c_difficulty(image, label, 'tiny-sit', 8, -1),
	d2c_difficulty(difficulty_golden('grey.png'), label, 'tiny-sit')]) s FROM picture WHERE id = 1) x;
SELECT d2c_difficulty(image, label, 'tiny-sit') = d2c_difficulty(image, label, 'tiny-sit', timesteps => 8, seed => 0) AS defaults FROM picture WHERE id = 1;
SELECT count(*), count(*) FILTER (WHERE s = d2c_difficulty(image, label, 'tiny-sit')) AS equal
	FROM (SELECT *, d2c_difficulty_batched(image, label, 'tiny-sit') OVER () s FROM picture) x;

-- NULLs
SELECT d2c_difficulty(NULL, 1, 'tiny-sit'), d2c_difficulty('x', NULL, 'tiny-sit'), d2c_difficulty('x', 1, NULL);
SELECT id, (s).score IS NULL AS no_score, (s).sqlstate, (s).error FROM (SELECT id, d2c_difficulty_checked(CASE id
	WHEN 1 THEN NULL WHEN 2 THEN 'no image' WHEN 3 THEN substr(image, 1, 60) WHEN 4 THEN difficulty_golden('expected.txt') ELSE image END,
	CASE id WHEN 5 THEN 10 WHEN 6 THEN -2 ELSE label END, 'tiny-sit') OVER (ORDER BY id) s FROM picture) x WHERE id <= 7;
SELECT count(s) FROM (SELECT d2c_difficulty_batched(image, label, 'tiny-sit') OVER () s FROM picture WHERE false) x;

-- latents and raw outputs
SELECT abs(d2c_difficulty_latent(array_fill(0.25::float8, ARRAY[1, 8, 8])::tensor, 3, 'tiny-sit') -
	d2c_difficulty_latent(array_fill(0.25::real, ARRAY[1, 8, 8])::tensor(f16), 3, 'tiny-sit')) < 1e-12 AS same,
	d2c_difficulty_latent(array_fill(0.25::real, ARRAY[4, 8, 8])::tensor, 3, 'latent-sit') > 0 AS latent;
SELECT d2c_shape(v), d2c_dtype(v), v = d2c_denoise(array_fill(0.25::real, ARRAY[1, 8, 8])::tensor, 0.5, 3, 'tiny-sit') AS again,
	v <> d2c_denoise(array_fill(0.25::real, ARRAY[1, 8, 8])::tensor, 0.5, -1, 'tiny-sit') AS label_counts
	FROM d2c_denoise(array_fill(0.25::real, ARRAY[1, 8, 8])::tensor, 0.5, 3, 'tiny-sit') v;
SELECT d2c_difficulty_latent(array_fill(0.25::real, ARRAY[8, 8])::tensor, 3, 'tiny-sit');
SELECT d2c_difficulty_latent(array_fill(0.25::real, ARRAY[1, 8, 9])::tensor, 3, 'tiny-sit');
SELECT d2c_difficulty_latent(array_fill('NaN'::real, ARRAY[1, 8, 8])::tensor, 3, 'tiny-sit');
SELECT d2c_denoise(array_fill(0.25::real, ARRAY[1, 8, 8])::tensor, 1.5, 3, 'tiny-sit');
SELECT d2c_denoise(array_fill(0.25::real, ARRAY[1, 8, 8])::tensor, 'NaN', 3, 'tiny-sit');
SELECT d2c_denoise(array_fill(0.25::real, ARRAY[1, 8, 8])::tensor, 0.5, 10, 'tiny-sit');

-- wrong inputs
SELECT d2c_difficulty('', 1, 'tiny-sit');
SELECT d2c_difficulty('no image at all', 1, 'tiny-sit');
SELECT d2c_difficulty(substr(image, 1, length(image) / 2), 1, 'tiny-sit') FROM picture WHERE id = 2;
SELECT d2c_difficulty(image, 10, 'tiny-sit') FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, -1, 'tiny-sit') FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, 9223372036854775807, 'tiny-sit') FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, 1, 'tiny-sit', 0) FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, 1, 'tiny-sit', 1001) FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, 1, '') FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, 1, '../etc/passwd') FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, 1, repeat('x', 200)) FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, 1, 'tiny-bert') FROM picture WHERE id = 1;
SELECT d2c_difficulty(image, 1, 'nan-sit') FROM picture WHERE id = 1;
SELECT d2c_difficulty_batched(image, label + 5, 'tiny-sit') OVER (ORDER BY id) FROM picture;
SELECT d2c_difficulty_batched(image, label, 'tiny-sit', 2000) OVER () FROM picture;
SELECT d2c_difficulty_checked(image, label, 'nan-sit') OVER () FROM picture;
SELECT d2c_difficulty_batched(image, label, 'tiny-sit') FROM picture;

-- settings
SET d2c.threads = 2;
SET d2c.no_such = 1;

DROP TABLE picture;
DROP FUNCTION difficulty_golden;
