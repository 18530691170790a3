-- text encoders besides BERT: the values are those of transformers (test/golden/make_t5.py, make_clip_text.py)
SELECT name, kind, parameters, embedding, problem FROM d2c_models() WHERE name IN ('tiny-bert', 'tiny-clip', 'tiny-t5') ORDER BY name;

-- T5: </s> ends the text, a prompt may be </s> alone
SELECT d2c_shape(embedding), mask FROM d2c_text_embedding('a photo of the ankle boot', 'tiny-t5');
SELECT max(abs(a - b)) < 1e-4 AS golden
FROM d2c_text_embedding('', 'tiny-t5', 2), unnest(d2c_slice(embedding, 1, 0, 4)::real[], ARRAY[-0.8250, -0.6932, 1.4694, 3.0054, 0, 0, 0, 0]) v (a, b);
SELECT mask, d2c_slice(embedding, 0, 0, 1) = d2c_slice(e.longer, 0, 0, 1) AS end_alone
FROM d2c_text_embedding('hello', 'tiny-t5', 1), (SELECT (d2c_text_embedding('', 'tiny-t5', 9)).embedding AS longer) e;
SELECT (d2c_text_embedding('Ｃafé ﬁne', 'tiny-t5')).embedding = (d2c_text_embedding('  Café   fine ', 'tiny-t5')).embedding AS normalised;
SELECT mask FROM d2c_text_embedding('<extra_id_0> and <extra_id_99>', 'tiny-t5', 6);
SELECT d2c_text_embedding('a', 'tiny-t5', 513);
SELECT d2c_text_embedding(repeat('a', 1048577), 'tiny-t5');

-- CLIP: its tokens see those before them only
SELECT d2c_shape(embedding), mask FROM d2c_text_embedding('a photo of the ankle boot', 'tiny-clip');
SELECT max(abs(a - b)) < 1e-4 AS golden
FROM d2c_text_embedding('', 'tiny-clip', 3), unnest(d2c_slice(embedding, 1, 0, 4)::real[], ARRAY[-1.2207, 0.0884, 1.0297, 2.7761, -1.1750, 0.7234, 1.0763, 2.6167, 0, 0, 0, 0]) v (a, b);
SELECT max(abs(x - y)) FILTER (WHERE i <= 3 * 24) < 1e-5 AS causal, max(abs(x - y)) > 1e-2 AS other
FROM d2c_text_embedding('a photo of the boot', 'tiny-clip') a, d2c_text_embedding('A  PHOTO; coat', 'tiny-clip') b,
	unnest(a.embedding::real[], b.embedding::real[]) WITH ORDINALITY v (x, y, i);
SELECT d2c_text_embedding('a', 'tiny-clip', 1);
SELECT d2c_text_embedding('a', 'tiny-clip', 78);

-- batched: the same values
SELECT model, i, (e).embedding = (d2c_text_embedding(p, model, 6)).embedding AS same
FROM (SELECT model, i, p, d2c_text_embedding_batched(p, model, 6) OVER () AS e
	FROM (VALUES (1, 'a cat'), (2, NULL), (3, ''), (4, 'a photo of many different things')) v (i, p), (VALUES ('tiny-clip'), ('tiny-t5')) m (model)) b
ORDER BY model, i;
