-- what the procedures read: sources of every kind, rows that come later, callers with few rights
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE SCHEMA sources;
SET search_path = sources, public;
CREATE TABLE images (id int PRIMARY KEY, label smallint, image bytea);
INSERT INTO images SELECT edge, edge % 3, d2c_thumbnail(pg_read_binary_file(current_setting('test.folder') || 'rgb.png'), edge) FROM generate_series(1, 60) edge;

-- arguments and keys are looked at before anything is scored
CALL d2c_condense('images', 'x', NULL, 5);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, timesteps => NULL);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, timesteps => 0);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, text_model => 'tiny-bert', tokens => NULL);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, text_model => 'tiny-bert', tokens => 0);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, visual_model => 'tiny-sit', visual_tokens => NULL);
CALL d2c_condense('images', 'x', 'tiny-sit', 5, visual_model => 'tiny-sit', visual_tokens => -1);
CALL d2c_condense(1, 'x', 'tiny-sit', 5);
CALL d2c_score('images', 'x', NULL);
CALL d2c_score('images', 'x', 'tiny-sit', seed => NULL);
CALL d2c_score('images', 'x', 'tiny-sit', id_column => 'label');
CALL d2c_score('images', NULL, 'tiny-sit');
CALL d2c_score('images', 'no_schema.x', 'tiny-sit');
SET search_path = '';
CALL public.d2c_score('sources.images', 'x', 'tiny-sit');
SET search_path = sources, public;
CREATE VIEW with_null AS SELECT nullif(id, 7)::text AS id, label, image FROM images;
CALL d2c_score('with_null', 'x', 'tiny-sit', id_column => 'id');
CREATE TABLE two_keys (a int, b int, label int, image bytea, PRIMARY KEY (a, b));
CALL d2c_score('two_keys', 'x', 'tiny-sit');
SELECT to_regclass('x'), to_regclass('x_scores');

-- no rows, and none that is an image
CREATE TABLE empty (LIKE images INCLUDING ALL);
CALL d2c_condense('empty', 'nothing', 'tiny-sit', 5);
CREATE TABLE hopeless AS SELECT id, label, ''::bytea AS image FROM images WHERE id <= 3;
CALL d2c_condense('hopeless', 'nothing_good', 'tiny-sit', 5, id_column => 'id');

-- rows that come later, before and after the last key: scored, and a selection that lacks them is told of
CREATE TABLE later (id uuid PRIMARY KEY, label int, class name, image bytea);
INSERT INTO later SELECT md5(id::text)::uuid, label, CASE WHEN label = 1 THEN 'one' END, image FROM images WHERE id <= 20;
CALL d2c_condense('later', 'now', 'tiny-sit', 3, timesteps => 1);
SELECT label, min(class), min(prompt) FROM now GROUP BY label ORDER BY label;
INSERT INTO later SELECT md5(id::text)::uuid, label, NULL, image FROM images WHERE id BETWEEN 21 AND 40;
CALL d2c_condense('later', 'now', 'tiny-sit', 3, timesteps => 1, page_rows => 6);
SELECT count(*), count(score) FROM now_scores;
CALL d2c_condense('later', 'now', 'tiny-sit', 3, timesteps => 1);
DROP TABLE now;
CALL d2c_condense('later', 'now', 'tiny-sit', 3, timesteps => 1);
SELECT (SELECT array_agg(id ORDER BY rank) FROM now WHERE label = 1) = d2c_select(id, score, d2c_interval(rows, 3), 3) AS selected
FROM (SELECT *, count(*) OVER () AS rows FROM now_scores WHERE label = 1) s;

-- rows that left since they were scored: others are selected
DELETE FROM later WHERE id IN (SELECT id FROM now);
DROP TABLE now;
CALL d2c_condense('later', 'now', 'tiny-sit', 3, timesteps => 1);
SELECT label, count(*), min(rank), max(rank) FROM now GROUP BY label ORDER BY label;
CALL d2c_attach('later', 'with_text', text_model => 'tiny-bert', visual_model => 'tiny-sit');
INSERT INTO later SELECT md5(id::text)::uuid, label, NULL, image FROM images WHERE id BETWEEN 41 AND 60;
CALL d2c_attach('later', 'with_text', text_model => 'tiny-bert', visual_model => 'tiny-sit');
SELECT count(*), count(text_embedding), count(visual_embedding) FROM with_text;

-- partitions, temporary tables, a temporary target
CREATE TABLE parted (id bigint PRIMARY KEY, label bigint, image bytea) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (9);
CREATE TABLE parted_high PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT id, label, image FROM images WHERE id <= 20;
CALL d2c_score('parted', 'of_parts', 'tiny-sit', timesteps => 1, page_rows => 7);
SELECT count(*), count(score) FROM of_parts;
CREATE TEMP TABLE passing AS SELECT * FROM parted;
CALL d2c_condense('passing', 'pg_temp.short_lived', 'tiny-sit', 2, timesteps => 1, id_column => 'id');
SELECT count(*), count(DISTINCT label) FROM pg_temp.short_lived;

-- from a function, and from a block with an outer transaction
CREATE FUNCTION score_all() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN CALL d2c_score('images', 'in_function', 'tiny-sit', timesteps => 1); RETURN (SELECT count(score) FROM in_function); END $$;
SELECT score_all();
DO $$ BEGIN CALL d2c_score('images', 'in_do', 'tiny-sit', timesteps => 1, page_rows => 9); RAISE division_by_zero; END $$;
SELECT count(score) FROM in_do;
SHOW search_path;

-- a user who may read the source, some rows of it, and no more
CREATE ROLE d2c_reader;
GRANT USAGE, CREATE ON SCHEMA sources TO d2c_reader;
SET ROLE d2c_reader;
CALL d2c_score('parted', 'readers', 'tiny-sit', timesteps => 1);
RESET ROLE;
GRANT SELECT ON parted TO d2c_reader;
CREATE POLICY few ON parted TO d2c_reader USING (id < 5);
ALTER TABLE parted ENABLE ROW LEVEL SECURITY;
SET ROLE d2c_reader;
CALL d2c_score('parted', 'readers', 'tiny-sit', timesteps => 1);
SELECT count(*), count(score) FROM readers;
CALL d2c_score('parted', 'of_parts', 'tiny-sit', timesteps => 1);
SELECT d2c_engine_stop();
SELECT string_agg(name, ',' ORDER BY name) FROM d2c_engine_status();
RESET ROLE;
GRANT pg_monitor TO d2c_reader;
SET ROLE d2c_reader;
SELECT count(*) > 10 AS details FROM d2c_engine_status();
RESET ROLE;
SET client_min_messages = error;
DROP SCHEMA sources CASCADE;
DROP ROLE d2c_reader;
