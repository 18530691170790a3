-- latents: the autoencoder, and diffusion models that take what it makes
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
CREATE FUNCTION latent_golden(name text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_read_binary_file(current_setting('test.folder') || name) $$;

SELECT name, kind, parameters, resolution, channels, classes, embedding, problem FROM d2c_models() WHERE kind = 'vae';

-- mean and deviation of the posterior
SELECT d2c_dtype(z), d2c_shape(z), z = d2c_latent(latent_golden('rgb.png'), 'tiny-vae', 64) AS again,
	(SELECT min(v) > 0 FROM unnest(d2c_slice(z, 0, 4, 4)::real[]) v) AS deviations FROM d2c_latent(latent_golden('rgb.png'), 'tiny-vae', size => 64) z;
-- what PIL and diffusers make of the file, channel by channel
SELECT count(*) AS channels, count(*) FILTER (WHERE error < 1e-5) AS equal FROM (
	SELECT c, sqrt(sum((a::float8 - b) ^ 2) / sum(b::float8 ^ 2)) AS error
	FROM d2c_latent(latent_golden('rgb.png'), 'tiny-vae', 64) z, CAST(pg_read_file(current_setting('test.folder') || '../vae/rgb.txt') AS tensor) g,
		generate_series(0, 7) c, unnest(d2c_slice(z, 0, c, 1)::real[], d2c_slice(g, 0, c, 1)::real[]) u (a, b) GROUP BY c) e;
SELECT d2c_shape(d2c_latent(latent_golden('grey.png'), 'tiny-vae'));
SELECT d2c_latent(NULL, 'tiny-vae'), d2c_latent('x', NULL), d2c_latent('x', 'tiny-vae', NULL);
SELECT d2c_latent(latent_golden('rgb.png'), 'tiny-vae', 0);
SELECT d2c_latent(latent_golden('rgb.png'), 'tiny-vae', 60);
SELECT d2c_latent(latent_golden('rgb.png'), 'tiny-vae', 2048);
SELECT d2c_latent('no image at all', 'tiny-vae', 64);
SELECT d2c_latent(latent_golden('rgb.png'), 'tiny-sit', 64);
\set VERBOSITY terse
SELECT d2c_latent(latent_golden('rgb.png'), 'no-such-model', 64);
\set VERBOSITY default
SELECT i, d2c_latent_batched(image, 'tiny-vae', 32) OVER (ORDER BY i) = d2c_latent(image, 'tiny-vae', 32) AS same
	FROM (VALUES (1, latent_golden('grey.png')), (2, NULL), (3, latent_golden('rgb.png')), (4, latent_golden('444.jpg'))) v (i, image);

-- back to pixels: the mean is what is decoded
CREATE TABLE encoded AS SELECT d2c_latent(latent_golden('rgb.png'), 'tiny-vae', 64) AS z;
SELECT (d2c_image_info(d2c_decode_latent(z, 'tiny-vae'))).*, d2c_decode_latent(z, 'tiny-vae') = d2c_decode_latent(d2c_slice(z, 0, 0, 4), 'tiny-vae') AS by_mean,
	d2c_decode_latent(z, 'tiny-vae') <> d2c_decode_latent(d2c_slice(z, 0, 4, 4), 'tiny-vae') AS not_by_deviation FROM encoded;
SELECT (d2c_image_info(d2c_decode_latent(array_fill(0.5::real, ARRAY[4, 2, 3])::tensor(f16), 'tiny-vae'))).*;
SELECT d2c_decode_latent(NULL, 'tiny-vae'), d2c_decode_latent(z, NULL) FROM encoded;
SELECT d2c_decode_latent(array_fill(0.5::real, ARRAY[3, 8, 8])::tensor, 'tiny-vae');
SELECT d2c_decode_latent(array_fill(0.5::real, ARRAY[4, 8])::tensor, 'tiny-vae');
SELECT d2c_decode_latent(array_fill(0.5::real, ARRAY[4, 1, 200])::tensor, 'tiny-vae');
SELECT d2c_decode_latent(array_fill('NaN'::real, ARRAY[4, 8, 8])::tensor, 'tiny-vae');
SELECT d2c_decode_latent(array_fill(1e30::real, ARRAY[4, 8, 8])::tensor, 'tiny-bert');
SELECT i, d2c_decode_latent_batched(l, 'tiny-vae') OVER (ORDER BY i) = d2c_decode_latent(l, 'tiny-vae') AS same
	FROM (VALUES (1, array_fill(0.5::real, ARRAY[4, 2, 2])::tensor), (2, NULL), (3, array_fill(-0.5::real, ARRAY[8, 1, 2])::tensor)) v (i, l);

-- a diffusion model of latents takes images: its score is that of the scaled mean (tiny-vae's scaling factor is 0.25)
CREATE FUNCTION scaled_mean(image bytea) RETURNS tensor LANGUAGE sql AS $$
	SELECT d2c_slice(array_agg(row_of_z ORDER BY c)::tensor, 0, 0, 4) FROM (
		SELECT c, (SELECT array_agg(r ORDER BY y) FROM (SELECT y, array_agg(0.25::real * (z::real[])[c][y][x] ORDER BY x) AS r FROM generate_series(1, 8) y, generate_series(1, 8) x GROUP BY y) q) AS row_of_z
		FROM d2c_latent(image, 'tiny-vae', 64) z, generate_series(1, 8) c) p $$;
SELECT d2c_difficulty(image, 3, 'latent-sit') = d2c_difficulty_latent(scaled_mean(image), 3, 'latent-sit') AS score,
	d2c_difficulty(image, 3, 'latent-sit') = d2c_difficulty(image, 3, 'latent-sit', vae => 'tiny-vae') AS own,
	d2c_difficulty(image, 3, 'latent-sit', vae => NULL) AS nothing,
	abs(d2c_difficulty(image, 3, 'latent-sit') - (SELECT avg(e) FROM unnest(d2c_difficulty_curve(image, 3, 'latent-sit')) e)) < 1e-12 AS curve,
	d2c_shape(d2c_visual_embedding(image, 'latent-sit', 2)) AS embedded
	FROM (VALUES (latent_golden('rgb.png'))) v (image);
SELECT i, d2c_difficulty_batched(image, 3, 'latent-sit', 2) OVER (ORDER BY i) = d2c_difficulty(image, 3, 'latent-sit', 2) AS same
	FROM (VALUES (1, latent_golden('grey.png')), (2, NULL), (3, latent_golden('rgb.png'))) v (i, image);
SELECT i, (s).score > 0 AS scored, (s).sqlstate, (s).error FROM (SELECT i, d2c_difficulty_checked(image, i, 'latent-sit', 2) OVER (ORDER BY i) AS s
	FROM (VALUES (1, latent_golden('grey.png')), (2, 'bad'::bytea), (10, latent_golden('rgb.png'))) v (i, image)) c;
SELECT d2c_difficulty(latent_golden('rgb.png'), 3, 'latent-sit', vae => 'tiny-sit');
SELECT d2c_difficulty(latent_golden('rgb.png'), 3, 'tiny-sit', vae => 'tiny-vae');
\set VERBOSITY terse
SELECT d2c_difficulty(latent_golden('rgb.png'), 3, 'latent-sit', vae => 'no-such-vae');
SELECT d2c_difficulty(latent_golden('rgb.png'), 3, 'orphan-sit');
\set VERBOSITY default
SELECT (d2c_model_info(m)).vae FROM unnest(ARRAY['latent-sit', 'orphan-sit', 'tiny-sit', 'tiny-vae']) m;

-- d2c_condense: the autoencoder is part of what a result is of
CREATE TABLE pictures AS SELECT i AS id, i % 2 AS label, latent_golden(CASE WHEN i % 3 = 0 THEN 'grey.png' WHEN i % 3 = 1 THEN 'rgb.png' ELSE '444.jpg' END) AS image FROM generate_series(1, 6) i;
ALTER TABLE pictures ADD PRIMARY KEY (id);
\set VERBOSITY terse
SET client_min_messages = warning;
CALL d2c_condense('pictures', 'latent_small', 'latent-sit', 1, timesteps => 1);
SELECT count(*), count(score) FROM latent_small_scores;
SELECT bool_and(s.score = d2c_difficulty(p.image, p.label, 'latent-sit', 1)) AS same FROM latent_small_scores s JOIN pictures p USING (id);
SELECT substr(obj_description('latent_small'::regclass), 14)::jsonb ->> 'vae' AS vae, length(substr(obj_description('latent_small'::regclass), 14)::jsonb ->> 'vae_sha256') AS digest;
CALL d2c_condense('pictures', 'latent_small', 'latent-sit', 1, timesteps => 1, vae => 'tiny-vae');
CALL d2c_condense('pictures', 'latent_other', 'latent-sit', 1, timesteps => 1, vae => 'tiny-bert');
CALL d2c_condense('pictures', 'orphans', 'orphan-sit', 1, timesteps => 1);
CALL d2c_score('pictures', 'latent_scores', 'latent-sit', 1, vae => 'tiny-vae');
CALL d2c_score('pictures', 'latent_scores', 'latent-sit', 1, vae => '');
SELECT bool_and(a.score = b.score) AS same FROM latent_scores a JOIN latent_small_scores b USING (id);
RESET client_min_messages;
\set VERBOSITY default

DROP TABLE encoded, pictures, latent_small, latent_small_scores, latent_scores;
SELECT relname FROM pg_class WHERE relname IN ('latent_other_scores', 'orphans_scores');
DROP FUNCTION scaled_mean;
DROP FUNCTION latent_golden;
