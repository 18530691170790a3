-- d2c_score's pages and digests, its progress, and d2c_prepare_table
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE SCHEMA bulk;
SET search_path = bulk, public;
CREATE TABLE images (id int PRIMARY KEY, label int, image bytea);
INSERT INTO images SELECT 10 * row_number() OVER (ORDER BY edge, name), edge % 3, d2c_thumbnail(pg_read_binary_file(current_setting('test.folder') || name), edge)
	FROM unnest('{grey.png,rgb.png,palette.png,grey.jpg}'::text[]) name, generate_series(5, 29) edge;
INSERT INTO images VALUES (1001, 1, 'bad'), (1002, NULL, (SELECT image FROM images WHERE id = 10)), (1003, 2, NULL), (1004, 77, (SELECT image FROM images WHERE id = 10));
CREATE FUNCTION wrong(scores text, source text DEFAULT 'images') RETURNS TABLE (rows bigint, wrong bigint, digests bigint) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT count(*), count(*) FILTER (WHERE s.id IS NULL OR i.id IS NULL OR s.label IS DISTINCT FROM i.label
			OR s.score IS DISTINCT FROM CASE WHEN s.sqlstate IS NULL THEN d2c_difficulty(i.image, i.label, ''tiny-sit'', 1) END),
		count(*) FILTER (WHERE s.digest = substr(sha256(i.image), 1, 16)) FROM %s s FULL JOIN %s i USING (id)', scores, source);
END $$;

-- pages: the first tells how many rows ten seconds hold; a page is what it says, or less
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1, max_pages => 1);
SELECT page > 0 AS page, recheck, first_key, last_key, rows, scored, errors, seconds > 0 AS seconds, backend = pg_backend_pid() AS backend, scored_at <= clock_timestamp() AS scored_at
FROM scores_pages ORDER BY first_key;
SELECT pages, pages_done, total, done, errors, sessions, rows_per_second, time_left, last_page IS NOT NULL AS last_page FROM d2c_score_progress('scores');
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1, page_rows => 30, max_pages => 1);
SELECT first_key, last_key, rows, scored FROM scores_pages ORDER BY first_key;
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1);
SELECT pages, pages_done, total, done, errors, time_left FROM d2c_score_progress('scores');
SELECT * FROM wrong('scores');
SELECT col_description('scores_pages'::regclass, attnum) IS NULL AS without_comment, count(*) FROM pg_attribute WHERE attrelid = 'scores_pages'::regclass AND attnum > 0 GROUP BY 1;
SELECT count(*) AS members FROM pg_depend WHERE objid IN ('scores'::regclass, 'scores_pages'::regclass) AND deptype = 'e';

-- new rows: in front, behind, between; rows deleted from the result; a page of one row
INSERT INTO images SELECT v, 1, image FROM images, unnest('{-5, 155, 156, 2000}'::int[]) v WHERE id = 20;
DELETE FROM scores WHERE id IN (160, 1001, 1002);
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1, page_rows => 1);
SELECT first_key, last_key, rows, scored, errors FROM scores_pages ORDER BY page DESC LIMIT 7;
SELECT * FROM wrong('scores');

-- changed rows: what did not change stays
CREATE TABLE before AS SELECT id, xmin AS x FROM scores;
UPDATE images SET image = (SELECT image FROM images WHERE id = 40) WHERE id = 30;
UPDATE images SET label = 0 WHERE id IN (40, 1002);
UPDATE images SET image = image WHERE id = 50;
UPDATE images SET image = NULL WHERE id = 60;
UPDATE images SET image = 'worse' WHERE id = 1001;
DELETE FROM images WHERE id IN (10, 70, 2000);
INSERT INTO images SELECT 3000, 1, image FROM images WHERE id = 80;
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1);
SELECT * FROM wrong('scores');
DO $$ BEGIN CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1, changed => true, page_rows => 40, max_pages => 1); EXCEPTION WHEN division_by_zero THEN NULL; END $$;
SELECT bool_and(recheck) AS recheck, sum(rows) AS rows, sum(scored) AS scored, sum(errors) AS errors, count(scored) < count(*) AS unfinished FROM scores_pages;
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1);
SELECT bool_and(recheck) AS recheck, sum(rows) AS rows, sum(scored) AS scored, sum(errors) AS errors FROM scores_pages;
SELECT * FROM wrong('scores');
SELECT array_agg(id ORDER BY id) AS scored_again FROM scores s JOIN before b USING (id) WHERE s.xmin <> b.x;
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1, changed => true, page_rows => 50);
SELECT count(*) AS pages, sum(rows) AS rows, sum(scored) AS scored FROM scores_pages;

-- keys of other types
CREATE TABLE by_text AS SELECT 'row ' || id || E'\'\\"' AS id, label, image FROM images;
CREATE TABLE by_varchar AS SELECT ('row ' || id)::varchar COLLATE "C" AS id, label, image FROM images;
CREATE TABLE by_uuid AS SELECT md5(id::text)::uuid AS id, label, image FROM images;
CREATE TABLE by_smallint AS SELECT id::smallint AS id, label, image FROM images;
ALTER TABLE by_text ADD PRIMARY KEY (id);
ALTER TABLE by_uuid ADD PRIMARY KEY (id);
CALL d2c_score('by_text', 'text_scores', 'tiny-sit', timesteps => 1, page_rows => 7);
CALL d2c_score('by_varchar', 'varchar_scores', 'tiny-sit', timesteps => 1, id_column => 'id', page_rows => 7);
CALL d2c_score('by_uuid', 'uuid_scores', 'tiny-sit', timesteps => 1);
CALL d2c_score('by_smallint', 'smallint_scores', 'tiny-sit', timesteps => 1, id_column => 'id', page_rows => 104);
DELETE FROM by_text WHERE label = 2;
DELETE FROM by_uuid WHERE label = 2;
UPDATE by_text SET label = 2 WHERE label = 0;
UPDATE by_uuid SET label = 2 WHERE label = 0;
CALL d2c_score('by_text', 'text_scores', 'tiny-sit', timesteps => 1, changed => true);
CALL d2c_score('by_uuid', 'uuid_scores', 'tiny-sit', timesteps => 1, changed => true, page_rows => 9);
SELECT t, w.* FROM unnest('{text,varchar,uuid,smallint}'::text[]) t, wrong(t || '_scores', 'by_' || t) w;
SELECT (SELECT max(rows) FROM text_scores_pages) > 0 AS text, (SELECT max(rows) FROM varchar_scores_pages) > 0 AS varchar, (SELECT max(rows) FROM uuid_scores_pages) > 0 AS uuid, (SELECT max(rows) FROM smallint_scores_pages) > 0 AS smallint;

-- a result or its pages gone: what is left is not in the way
DROP TABLE scores;
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1);
SELECT w.*, p.total, p.done FROM wrong('scores') w, d2c_score_progress('scores') p;
DROP TABLE scores_pages;
DELETE FROM scores WHERE id < 100;
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1);
SELECT w.*, p.total, p.done FROM wrong('scores') w, d2c_score_progress('scores') p;
CREATE TABLE nothing (LIKE images INCLUDING ALL);
CALL d2c_score('nothing', 'no_scores', 'tiny-sit');
CALL d2c_score('nothing', 'no_scores', 'tiny-sit', changed => true);
SELECT * FROM d2c_score_progress('no_scores');

-- what is asked wrongly
CALL d2c_score('images', 'x', 'tiny-sit', changed => NULL);
CALL d2c_score('images', 'x', 'tiny-sit', page_rows => 0);
CALL d2c_score('images', 'x', 'tiny-sit', max_pages => -1);
CALL d2c_score('images', 'x', 'tiny-sit', timesteps => 0);
CALL d2c_score('images', 'x', 'tiny-sit', timesteps => 1001);
CALL d2c_score('images', 'x', 'tiny-bert');
CALL d2c_score('images', 'x', 'tiny-sit', vae => 'tiny-bert');
CALL d2c_score('images', repeat('x', 58), 'tiny-sit');
CREATE TABLE x_pages (page int);
CALL d2c_score('images', 'x', 'tiny-sit', timesteps => 1);
DROP TABLE x_pages;
SELECT to_regclass('x'), to_regclass('x_pages');
SELECT * FROM d2c_score_progress('images');
SELECT * FROM d2c_score_progress('scores_pages');
SELECT * FROM d2c_score_progress(NULL);
SELECT * FROM d2c_score_progress('nowhere');
DROP TABLE scores_pages;
SELECT * FROM d2c_score_progress('scores');
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1);
CREATE ROLE d2c_reader;
GRANT USAGE ON SCHEMA bulk TO d2c_reader;
GRANT SELECT ON images, scores TO d2c_reader;
SET ROLE d2c_reader;
CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 1);
SELECT * FROM d2c_score_progress('scores');
RESET ROLE;
GRANT SELECT ON scores_pages TO d2c_reader;
SET ROLE d2c_reader;
SELECT done, total FROM d2c_score_progress('scores');
RESET ROLE;

-- storage and parallel workers
SET min_parallel_table_scan_size = '1MB';
SET max_parallel_workers_per_gather = 8;
CREATE TABLE pictures (id int PRIMARY KEY, label int, "Image" bytea);
SELECT * FROM d2c_prepare_table('pictures', 'Image');
ALTER TABLE pictures ALTER "Image" SET STORAGE EXTENDED;
INSERT INTO pictures SELECT i, 0, decode(string_agg(md5((i * 10000 + j)::text), '') || repeat('00', 1000), 'hex') FROM generate_series(1, 300) i, generate_series(1, 2000) j GROUP BY i;
INSERT INTO pictures SELECT 1000 + i, 0, decode(repeat('00', 1000000), 'hex') FROM generate_series(1, 2) i;
SET client_min_messages = notice;
SELECT * FROM d2c_prepare_table('pictures', 'Image');
SELECT * FROM d2c_prepare_table('pictures', 'Image');
UPDATE pictures SET "Image" = "Image" || '' WHERE pg_column_compression("Image") IS NOT NULL;
SELECT count(*) FROM pictures WHERE pg_column_compression("Image") IS NOT NULL;
SET max_parallel_workers_per_gather = 1;
SELECT * FROM d2c_prepare_table('pictures', 'Image');
RESET max_parallel_workers_per_gather;
SET client_min_messages = warning;
ALTER TABLE pictures SET (parallel_workers = 20);
SELECT * FROM d2c_prepare_table('pictures', 'Image');
ALTER TABLE pictures SET (parallel_workers = 0);
SELECT * FROM d2c_prepare_table('pictures', 'Image');
CREATE TABLE parted (id int, image bytea) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF parted FOR VALUES IN (2) PARTITION BY LIST (id);
CREATE TABLE part_3 PARTITION OF part_2 FOR VALUES IN (2);
INSERT INTO parted SELECT 2, "Image" FROM pictures;
SELECT * FROM d2c_prepare_table('parted');
CREATE MATERIALIZED VIEW kept AS SELECT * FROM images;
SELECT * FROM d2c_prepare_table('kept');
SELECT * FROM d2c_prepare_table('pictures');
SELECT * FROM d2c_prepare_table('pictures', 'label');
SELECT * FROM d2c_prepare_table('pictures', NULL);
SELECT * FROM d2c_prepare_table(NULL);
SELECT * FROM d2c_prepare_table(999999999::oid::regclass);
CREATE VIEW seen AS SELECT * FROM images;
SELECT * FROM d2c_prepare_table('seen');
SET ROLE d2c_reader;
SELECT * FROM d2c_prepare_table('images');
RESET ROLE;
SET client_min_messages = error;
DROP SCHEMA bulk CASCADE;
DROP ROLE d2c_reader;
