\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/', false) IS NOT NULL AS ready;
CREATE FUNCTION golden(name text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_read_binary_file(current_setting('test.folder') || name) $$;

-- one vector of an image, in f32
SELECT d2c_dtype(v), d2c_shape(v) FROM d2c_visual_embedding(golden('inception/small.png'), 'tiny-inception', 1) v;
SELECT d2c_visual_embedding(golden('inception/small.png'), 'tiny-inception') = d2c_visual_embedding(golden('inception/small.png'), 'tiny-inception', 1) AS same;
SELECT d2c_visual_embedding(golden('inception/small.png'), 'tiny-inception', 2);
SELECT kind, embedding, classes, problem FROM d2c_models() WHERE name = 'tiny-inception';

-- what it is not
\set VERBOSITY terse
SELECT d2c_difficulty(golden('inception/small.png'), 0, 'tiny-inception');
SELECT d2c_text_embedding('a', 'tiny-inception');
\set VERBOSITY default

-- FID in SQL
CREATE TABLE pictures AS SELECT name, golden('image/' || name) AS image, row_number() OVER (ORDER BY name) % 2 AS part
FROM unnest('{444.jpg,422.jpg,grey.png,rgb.png,rgba.png,palette.png,interlaced.png,lossy.webp,progressive.jpg,alpha.webp}'::text[]) name;
CREATE TABLE features AS SELECT part, d2c_mean(d2c_visual_embedding_batched(image, 'tiny-inception') OVER (), 0) AS feature FROM pictures;
SELECT d2c_frechet(a, b) > 1 AS apart, abs(d2c_frechet(a, b) / d2c_frechet(b, a) - 1) < 1e-6 AS symmetric, abs(d2c_frechet(a, a)) < 1e-4 AS itself
FROM (SELECT d2c_moments(feature) FILTER (WHERE part = 0) AS a, d2c_moments(feature) FILTER (WHERE part = 1) AS b FROM features) m;
DROP TABLE pictures, features;
DROP FUNCTION golden(text);
