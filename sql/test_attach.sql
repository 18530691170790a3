\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
CREATE FUNCTION golden(name text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_read_binary_file(current_setting('test.folder') || name) $$;

-- text: last hidden state and mask
SELECT d2c_dtype(embedding), (d2c_shape(embedding))[1], d2c_shape(mask), mask FROM d2c_text_embedding('a photo of a cat', 'tiny-bert', 8);
SELECT d2c_shape(mask) FROM d2c_text_embedding('a photo of a cat', 'tiny-bert');
SELECT d2c_text_embedding('a', 'tiny-bert') = d2c_text_embedding('b', 'tiny-bert') AS same;
-- Mean pooling, against transformers: tensor 0.pooled of bert/expected.safetensors.
SELECT 1 - d2c_cosine(d2c_mean(embedding, 0, mask), '[-0.11537,0.05387,-0.01661,-0.00496,-0.03996,0.18359,-0.13652,0.30546,-0.09672,0.06588,-0.09899,-0.13054,-0.00464,-0.19422,0.05029,-0.03761,-0.30571,0.0225,0.006,-0.34031,-0.09107,-0.05799,-0.13206,-0.11066,-0.06087,0.268,0.08808,0.52987,0.25154,0.22084,0.02077,0.1623]') < 1e-8 AS pooled
FROM d2c_text_embedding('a photo of the ankle boot', 'tiny-bert');
SELECT d2c_text_embedding(NULL, 'tiny-bert'), d2c_text_embedding('a', NULL);
SELECT d2c_text_embedding('a', 'tiny-bert', 0);
SELECT d2c_text_embedding('a', 'tiny-bert', 1000000);
\set VERBOSITY terse
SELECT d2c_text_embedding('a', 'no-such-model');
\set VERBOSITY default
SELECT d2c_text_embedding('a', '../tiny-bert');
SELECT d2c_text_embedding('a', 'tiny-sit');

-- batched: the same values, in order, NULLs in their places
SELECT i, (e).mask, (e).embedding = (d2c_text_embedding(p, 'tiny-bert', 6)).embedding AS same
FROM (SELECT i, p, d2c_text_embedding_batched(p, 'tiny-bert', 6) OVER () AS e FROM (VALUES (1, 'a cat'), (2, NULL), (3, ''), (4, 'a photo of many different things')) v (i, p)) b ORDER BY i;
\set VERBOSITY terse
SELECT d2c_text_embedding_batched('a', 'no-such-model') OVER ();
\set VERBOSITY default

-- visual: hidden tokens of a SiT
SELECT d2c_dtype(v), array_length(d2c_shape(v), 1) FROM d2c_visual_embedding(golden('grey.png'), 'tiny-sit') v;
SELECT d2c_shape(d2c_visual_embedding(golden('grey.png'), 'tiny-sit', 2)) = ARRAY[2, (d2c_shape(d2c_visual_embedding(golden('grey.png'), 'tiny-sit')))[2]] AS first_two;
SELECT d2c_slice(d2c_visual_embedding(golden('grey.png'), 'tiny-sit'), 0, 0, 2) = d2c_visual_embedding(golden('grey.png'), 'tiny-sit', 2) AS prefix;
SELECT d2c_visual_embedding(golden('grey.png'), 'tiny-sit', 100000);
SELECT d2c_visual_embedding(golden('grey.png'), 'tiny-sit', -1);
SELECT d2c_visual_embedding('bad', 'tiny-sit');
SELECT d2c_visual_embedding(golden('grey.png'), 'tiny-bert');
SELECT i, d2c_visual_embedding_batched(image, 'tiny-sit', 2) OVER (ORDER BY i ROWS UNBOUNDED PRECEDING) = d2c_visual_embedding(image, 'tiny-sit', 2) AS same
FROM (VALUES (1, golden('grey.png')), (2, NULL), (3, golden('rgb.png')), (4, golden('444.jpg'))) v (i, image);
SELECT count(v) FROM (SELECT d2c_visual_embedding_batched(image, 'tiny-sit', 2) OVER () AS v FROM (VALUES (golden('grey.png')), ('bad')) v (image)) b;

-- visual: the patches that an image encoder sees
SELECT d2c_dtype(v), d2c_shape(v) FROM d2c_visual_embedding(golden('large.png'), 'tiny-dinov2') v;
SELECT d2c_slice(d2c_visual_embedding(golden('large.png'), 'tiny-dinov2'), 0, 0, 5) = d2c_visual_embedding(golden('large.png'), 'tiny-dinov2', 5) AS prefix;
SELECT d2c_visual_embedding(golden('large.png'), 'tiny-dinov2', 65);
SELECT d2c_visual_embedding(golden('large.png'), 'tiny-dinov2', -1);
SELECT d2c_visual_embedding('bad', 'tiny-dinov2');
SELECT d2c_text_embedding('a', 'tiny-dinov2');
SELECT d2c_difficulty(golden('large.png'), 0, 'tiny-dinov2');
SELECT i, d2c_visual_embedding_batched(image, 'tiny-dinov2', 3) OVER (ORDER BY i ROWS UNBOUNDED PRECEDING) = d2c_visual_embedding(image, 'tiny-dinov2', 3) AS same
FROM (VALUES (1, golden('grey.png')), (2, NULL), (3, golden('large.png')), (4, golden('444.jpg')), (5, golden('one-pixel.png'))) v (i, image);
SELECT name, kind, parameters, resolution, channels, embedding, problem FROM d2c_models() WHERE name = 'tiny-dinov2';

-- one model's description
SELECT length(sha256), kind, channels, device, "precision" <> '' AS has_precision, build <> '' AS has_build FROM d2c_model_info('tiny-sit');
\set VERBOSITY terse
SELECT d2c_model_info('no-such-model');
\set VERBOSITY default

-- the distance that the engine computes: (3 - 1)^2 + (2 - 1)^2, and a diagonal pair
SELECT round(d2c_frechet('{"n": 3, "mean": [1], "comoment": [2]}', '{"n": 3, "mean": [3], "comoment": [8]}')::numeric, 9);
SELECT round(d2c_frechet('{"n": 2, "mean": [0,0], "comoment": [1,0,4]}', '{"n": 2, "mean": [1,1], "comoment": [9,0,16]}')::numeric, 9);
SELECT abs(d2c_frechet(m, m)) < 1e-9 AS none FROM (SELECT d2c_moments(ARRAY[i % 7, (i * i) % 11]::real[]) AS m FROM generate_series(1, 50) i) s;
DROP FUNCTION golden(text);
