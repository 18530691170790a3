-- a table of images made from test/golden: three classes, one too small, and rows that are wrong
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
SET client_min_messages = warning;
CREATE SCHEMA lab;
SET search_path = lab, public;
CREATE TABLE images (id int PRIMARY KEY, label smallint, class text, image bytea);
INSERT INTO images SELECT row_number() OVER (ORDER BY edge, name), edge % 3, 'class ' || edge % 3,
		d2c_thumbnail(pg_read_binary_file(current_setting('test.folder') || name), edge)
	FROM unnest('{grey.png,rgb.png,palette.png,grey.jpg,progressive.jpg}'::text[]) name, generate_series(5, 19) edge;
INSERT INTO images SELECT 100 + id, 7, 'rare', image FROM images WHERE id <= 2;
INSERT INTO images VALUES (201, 1, 'class 1', 'bad'), (202, NULL, 'none', (SELECT image FROM images WHERE id = 1)), (203, 2, 'class 2', NULL),
	(204, 10, 'label too high', (SELECT image FROM images WHERE id = 1)), (205, -1, 'label too low', (SELECT image FROM images WHERE id = 1));

-- a dry run says what would be done and writes nothing
SET client_min_messages = notice;
CALL d2c_condense('images', 'small', 'tiny-sit', 5, dry_run => true);
CALL d2c_condense('images', 'small', 'tiny-sit', 5, every => 3, dry_run => true);
SET client_min_messages = warning;
SELECT to_regclass('small'), to_regclass('small_scores');

-- a run of pages; what is wrong with a row is in the table
CALL d2c_condense('images', 'small', 'tiny-sit', 5, every => 3, text_model => 'tiny-bert', visual_model => 'tiny-sit', timesteps => 2, seed => 7, page_rows => 10);
SHOW search_path;
SELECT id, label, score, sqlstate, error FROM small_scores WHERE sqlstate IS NOT NULL ORDER BY id;
SELECT count(*) AS rows, count(score) AS scored, count(*) FILTER (WHERE s.score = CASE WHEN s.sqlstate IS NULL THEN d2c_difficulty(i.image, i.label, 'tiny-sit', 2, 7) END) AS exact
FROM small_scores s JOIN images i USING (id);
SELECT label, array_agg(rank ORDER BY rank) AS ranks, array_agg(id ORDER BY rank) = (SELECT d2c_select(s.id, s.score, CASE t.label WHEN 7 THEN 1 ELSE 3 END, 5) FROM small_scores s WHERE s.label = t.label) AS picks
FROM small t GROUP BY label ORDER BY label;
SELECT count(*) AS rows, bool_and(t.image = i.image AND t.class = i.class) AS copied, bool_and(t.prompt = 'a photo of a ' || i.class) AS prompts,
	bool_and(text_embedding = (d2c_text_embedding(prompt, 'tiny-bert')).embedding AND text_mask = (d2c_text_embedding(prompt, 'tiny-bert')).mask) AS texts,
	bool_and(visual_embedding = d2c_visual_embedding(i.image, 'tiny-sit')) AS visuals
FROM small t JOIN images i USING (id);
SELECT DISTINCT t.model, t.model_sha256 = (SELECT sha256 FROM d2c_model_info('tiny-sit')) AS sha256, t.device, t.timesteps, t.seed, t.build = s.build AS build FROM small t JOIN small_scores s USING (id);
SELECT count(*) AS without_comment FROM pg_attribute WHERE attrelid IN ('small'::regclass, 'small_scores'::regclass) AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;
SELECT count(*) AS members FROM pg_depend WHERE objid IN ('small'::regclass, 'small_scores'::regclass) AND deptype = 'e';

-- called again: nothing is done twice, new rows are scored, other parameters are refused
CREATE TABLE before AS SELECT md5(string_agg(t::text, ' ' ORDER BY id)) AS digest FROM small t;
CALL d2c_condense('images', 'small', 'tiny-sit', 5, every => 3, text_model => 'tiny-bert', visual_model => 'tiny-sit', timesteps => 2, seed => 7);
SELECT digest = (SELECT md5(string_agg(t::text, ' ' ORDER BY id)) FROM small t) AS same FROM before;
\set VERBOSITY terse
CALL d2c_condense('images', 'small', 'tiny-sit', 6, every => 3, text_model => 'tiny-bert', visual_model => 'tiny-sit', timesteps => 2, seed => 7);
\set VERBOSITY default
\set SHOW_CONTEXT never
CALL d2c_condense('images', 'small', 'tiny-sit', 5, every => 3, visual_model => 'tiny-sit', text_model => 'tiny-bert', timesteps => 3, seed => 7, prompt => '%s');
CALL d2c_score('images', 'small_scores', 'tiny-sit', timesteps => 2, seed => 8);

-- half a run, then the rest: the same table
CALL d2c_score('images', 'parts', 'tiny-sit', timesteps => 2, seed => 7, page_rows => 7, max_pages => 3);
SELECT count(*) FROM parts;
CALL d2c_score('images', 'parts', 'tiny-sit', timesteps => 2, seed => 7);
SELECT count(*), count(*) FILTER (WHERE p.score IS NOT DISTINCT FROM s.score AND p.error IS NOT DISTINCT FROM s.error) AS equal FROM parts p JOIN small_scores s USING (id);

-- inside a transaction nothing is committed
BEGIN;
CALL d2c_score('images', 'undone', 'tiny-sit', timesteps => 2, max_pages => 1);
SHOW search_path;
SELECT count(*) > 0 AS scored FROM undone;
ROLLBACK;
SELECT to_regclass('undone');

-- keys of type text and uuid, other names, a view as source
CREATE VIEW named AS SELECT 'row ' || id AS key, label::bigint AS y, image AS picture FROM images WHERE id <= 40;
CALL d2c_condense('named', 'from_view', 'tiny-sit', 3, timesteps => 1, id_column => 'key', label_column => 'y', image_column => 'picture', page_rows => 9);
SELECT count(*), count(DISTINCT label), min(class), bool_and(id LIKE 'row %') FROM from_view;
CREATE TABLE by_uuid AS SELECT md5(id::text)::uuid AS id, label, image FROM images WHERE id <= 20;
ALTER TABLE by_uuid ADD PRIMARY KEY (id);
CALL d2c_score('by_uuid', 'public.uuid_scores', 'tiny-sit', timesteps => 1, page_rows => 6);
SELECT count(*), count(score) FROM public.uuid_scores;

-- attach alone: every row, trainable as it is
CALL d2c_attach('images', 'attached', text_model => 'tiny-bert', visual_model => 'tiny-sit', tokens => 12, visual_tokens => 2);
SELECT count(*), count(text_embedding), count(visual_embedding), count(DISTINCT text_embedding::text) FROM attached;
SELECT id, sqlstate, error FROM attached WHERE sqlstate IS NOT NULL ORDER BY id;

-- with an image encoder
CALL d2c_attach('images', 'encoded', visual_model => 'tiny-dinov2', visual_tokens => 4);
SELECT count(*), count(text_embedding), count(visual_embedding), count(DISTINCT visual_embedding::text) > 40 AS differ FROM encoded;
SELECT bool_and(e.visual_embedding = d2c_visual_embedding(i.image, 'tiny-dinov2', 4)) AS visuals FROM encoded e JOIN images i USING (id) WHERE e.visual_embedding IS NOT NULL AND id <= 5;
SELECT parameters ->> 'visual_model' AS model, length(parameters ->> 'visual_sha256') AS sha256, parameters ->> 'visual_tokens' AS tokens
FROM (SELECT substr(obj_description('encoded'::regclass, 'pg_class'), 12)::jsonb AS parameters) d;

-- with latents, which the trainer finds by the column's name
CALL d2c_attach('images', 'encoded_latents', latent_model => 'tiny-vae', latent_size => 32);
SELECT count(*), count(latent) FROM encoded_latents;
SELECT bool_and(a.latent = d2c_latent(i.image, 'tiny-vae', 32)) AS latents, min(d2c_shape(a.latent)) AS shape
FROM encoded_latents a JOIN images i USING (id) WHERE a.latent IS NOT NULL;
SELECT id, sqlstate, error FROM encoded_latents WHERE sqlstate IS NOT NULL ORDER BY id;
CALL d2c_condense('images', 'latents', 'latent-sit', 2, timesteps => 1, latent_model => 'tiny-vae', latent_size => 16);
SELECT count(*), count(latent), bool_and(t.latent = d2c_latent(i.image, 'tiny-vae', 16)) AS latents FROM latents t JOIN images i USING (id);
SELECT col_description('latents'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'latents'::regclass AND attname = 'latent';
SELECT count(*) AS latent_columns FROM pg_attribute WHERE attrelid IN ('small'::regclass, 'attached'::regclass) AND attname = 'latent';

-- what is asked wrongly
CALL d2c_condense('images', 'x', 'tiny-sit', 0);
CALL d2c_condense('images', 'x', 'tiny-sit', NULL);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, every => 0);
CALL d2c_condense('images', 'x', 'tiny-bert', 5);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, text_model => 'tiny-sit');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, visual_model => 'tiny-bert');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, visual_model => 'tiny-dinov2', visual_tokens => 65);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, latent_model => 'tiny-sit');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, latent_model => 'tiny-vae', latent_size => 60);
CALL d2c_attach('images', 'x', latent_model => 'tiny-vae', latent_size => NULL);
CALL d2c_attach('images', 'encoded_latents', latent_model => 'tiny-vae', latent_size => 64);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, prompt => NULL);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, image_column => 'picture');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, label_column => 'class');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, image_column => 'class');
CALL d2c_condense('images', 'images', 'tiny-sit', 5);
CALL d2c_condense('images', 'a.b.c', 'tiny-sit', 5);
CALL d2c_condense('images', repeat('x', 60), 'tiny-sit', 5);
CALL d2c_condense('nowhere', 'x', 'tiny-sit', 5);
CALL d2c_condense(NULL, 'x', 'tiny-sit', 5);
CALL d2c_score('named', 'x', 'tiny-sit', label_column => 'y', image_column => 'picture');
CALL d2c_score('images', 'x', 'tiny-sit', page_rows => 0);
CREATE TABLE empty (LIKE images INCLUDING ALL);
CALL d2c_condense('empty', 'x', 'tiny-sit', 5);
SELECT to_regclass('x'), to_regclass('x_scores');
SET client_min_messages = error;
DROP SCHEMA lab CASCADE;
DROP TABLE public.uuid_scores;
