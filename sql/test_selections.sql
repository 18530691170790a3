-- selections: made of queries and by hand, closed for good, compared, checked against their source
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE SCHEMA lab;
CREATE SCHEMA other;
SET search_path = lab, public;
CREATE TABLE images (id int PRIMARY KEY, label smallint, image bytea);
INSERT INTO images SELECT row_number() OVER (ORDER BY edge, name), edge % 3, d2c_thumbnail(pg_read_binary_file(current_setting('test.folder') || name), edge)
	FROM unnest('{grey.png,rgb.png}'::text[]) name, generate_series(5, 19) edge;
CREATE TABLE scores AS SELECT id, label, (id * 7 % 31)::float8 AS score FROM images;
SELECT to_regclass('d2c_selections');

-- of a query; the tables are made on first use, by the caller, and are not the extension's
SELECT d2c_selection_make('every third', 'SELECT id, score, rank FROM (SELECT s.id, s.score, row_number() OVER w - 1 AS rank
	FROM scores s WINDOW w AS (PARTITION BY label ORDER BY score)) r WHERE rank % 3 = 0 ORDER BY rank -- with a remark', 'images', method => 'interval', parameters => '{"k": 3}', seed => 5);
SELECT id, name, method, parameters, seed, scorer, source, id_column, label_column, image_column, items, classes, length(digest), creator = current_user AS mine, closed >= created AS closed FROM d2c_selections;
SELECT label, count(*), array_agg(position ORDER BY position) AS positions, array_agg(rank ORDER BY position) AS ranks, array_agg(s.id ORDER BY position) AS ids FROM d2c_selection_items s GROUP BY label ORDER BY label;
SELECT count(*) AS rows, bool_and(s.digest = substr(sha256(i.image), 1, 16)) AS digests, bool_and(s.label = i.label) AS labels, bool_and(s.score = c.score) AS scores
	FROM d2c_selection_items s JOIN images i ON i.id::text = s.id JOIN scores c ON c.id = i.id;
SELECT count(*) AS members FROM pg_depend WHERE deptype = 'e' AND objid IN ('d2c_selections'::regclass, 'd2c_selection_items'::regclass, 'd2c_selection_guard'::regproc);
SELECT count(*) AS needing_the_extension FROM pg_depend d JOIN pg_depend m ON m.classid = d.refclassid AND m.objid = d.refobjid AND m.deptype = 'e' AND m.refclassid = 'pg_extension'::regclass
	AND m.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'd2c') WHERE d.objid IN ('d2c_selections'::regclass, 'd2c_selection_items'::regclass, 'd2c_selection_guard'::regproc)
	OR d.objid IN (SELECT oid FROM pg_trigger WHERE tgrelid IN ('d2c_selections'::regclass, 'd2c_selection_items'::regclass));
SELECT attname FROM pg_attribute WHERE attrelid IN ('d2c_selections'::regclass, 'd2c_selection_items'::regclass) AND attnum > 0 AND attname <> 'id' AND col_description(attrelid, attnum) IS NULL;
-- the digest by another way than the guard's
SELECT s.digest = (SELECT encode(sha256(convert_to(string_agg(label || E'\t' || c.digest || E'\n', '' ORDER BY label), 'UTF8')), 'hex')
	FROM (SELECT label, encode(sha256(convert_to(string_agg(concat(position, E'\t', i.id, E'\t', rank, E'\t', score, E'\t', substr(i.digest::text, 3), E'\n'), '' ORDER BY position), 'UTF8')), 'hex') AS digest
		FROM d2c_selection_items i WHERE i.selection = s.id GROUP BY label) c) AS same FROM d2c_selections s;

-- no image table behind it, ids of text, no classes
SELECT d2c_selection_make('texts', $$ VALUES ('a'), ('c'), ('b') $$);
SELECT d2c_selection_make('texts', $$ SELECT column1 AS id FROM (VALUES ('a'), ('c'), ('b')) v $$);
SELECT s.items, s.classes, s.source, i.label, i.position, i.id, i.score, i.digest FROM d2c_selections s JOIN d2c_selection_items i ON i.selection = s.id WHERE name = 'texts' ORDER BY position;
SELECT parameters FROM d2c_selections WHERE name = 'texts';

-- by hand
SELECT d2c_selection_open('by hand', 'images') AS opened \gset
SELECT name, items, digest, closed FROM d2c_selections WHERE id = :opened;
SELECT d2c_selection_close('by hand');
INSERT INTO d2c_selection_items (selection, label, position, id) SELECT :opened, label, row_number() OVER (PARTITION BY label ORDER BY id), id FROM images WHERE id <= 9;
UPDATE d2c_selection_items SET score = 1 WHERE selection = :opened AND id = '1';
DELETE FROM d2c_selection_items WHERE selection = :opened AND id = '9';
SELECT d2c_selection_close('by hand');
SELECT name, items, classes, closed IS NOT NULL AS closed FROM d2c_selections WHERE id = :opened;
SELECT d2c_selection_close('by hand');

-- closed for good
INSERT INTO d2c_selection_items (selection, label, position, id) VALUES (:opened, 0, 99, 'new');
INSERT INTO d2c_selection_items (selection, label, position, id) VALUES (:opened, 0, 1, '1') ON CONFLICT (selection, id) DO UPDATE SET score = 2;
UPDATE d2c_selection_items SET score = 2 WHERE selection = :opened;
UPDATE d2c_selection_items SET selection = :opened, position = position + 100 WHERE selection = 1;
DELETE FROM d2c_selection_items WHERE selection = :opened AND id = '1';
COPY d2c_selection_items (selection, label, position, id) FROM stdin;
1	0	100	new
\.
UPDATE d2c_selections SET name = 'another' WHERE id = :opened;
UPDATE d2c_selections SET closed = NULL;
DELETE FROM d2c_selections WHERE id = :opened;
TRUNCATE d2c_selection_items;
TRUNCATE d2c_selections CASCADE;
INSERT INTO d2c_selections (name, method, items, classes, digest, closed) VALUES ('forged', 'none', 1, 1, 'x', now());
SELECT d2c_selection_open('open') AS opened \gset
UPDATE d2c_selection_items SET selection = :opened WHERE selection = 1;
INSERT INTO d2c_selection_items (selection, position, id) VALUES (:opened, 1, 'x');
UPDATE d2c_selection_items SET selection = 1 WHERE selection = :opened;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT d2c_selection_close('open');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT d2c_selection_make('in one transaction', 'SELECT 1 AS id') IS NOT NULL AS made;
ROLLBACK;
-- what the transaction itself has opened it closes, under savepoints too; a change alone makes no selection its own
BEGIN ISOLATION LEVEL REPEATABLE READ;
SAVEPOINT before;
SELECT d2c_selection_make('in a savepoint', 'SELECT 1 AS id') IS NOT NULL AS made;
RELEASE before;
DO $$ BEGIN
	PERFORM d2c_selection_make('in a block', 'SELECT 1 AS id');
EXCEPTION WHEN division_by_zero THEN
END $$;
INSERT INTO d2c_selections (name, method) VALUES ('without a function', 'none');
INSERT INTO d2c_selection_items (selection, position, id) SELECT id, 1, 'x' FROM d2c_selections WHERE name = 'without a function';
SELECT d2c_selection_close('without a function');
SAVEPOINT before;
UPDATE d2c_selections SET seed = 5 WHERE name = 'open';
SELECT d2c_selection_close('open');
ROLLBACK TO before;
-- nor does another one of the same id, in another schema
SELECT count(d2c_selection_open('number ' || n, schema => 'other')) FROM generate_series(1, 20) n;
SELECT count(*) FROM other.d2c_selections WHERE id = :opened;
SELECT d2c_selection_close('open');
ROLLBACK;
SELECT name, closed IS NOT NULL AS closed, (SELECT count(*) FROM d2c_selection_items i WHERE selection = s.id) AS items FROM d2c_selections s ORDER BY id;

-- dropped whole
SELECT d2c_selection_drop('open');
SELECT d2c_selection_drop('by hand');
SELECT d2c_selection_drop('by hand');
DELETE FROM d2c_selection_items;
-- nothing less than the whole goes, whatever is set
BEGIN;
SET LOCAL d2c_selection.dropped = 1;
SAVEPOINT before;
DELETE FROM d2c_selection_items WHERE selection = 1 AND position > 2;
ROLLBACK TO before;
DELETE FROM d2c_selection_items WHERE selection = 1;
SELECT count(*) FROM d2c_selections WHERE id = 1;
ROLLBACK;
SELECT name, (SELECT count(*) FROM d2c_selection_items i WHERE selection = s.id) AS items FROM d2c_selections s ORDER BY id;

-- compared
SELECT d2c_selection_make('a', 'SELECT id, score FROM scores WHERE id <= 6 ORDER BY id', 'images') IS NOT NULL AS made;
UPDATE images SET image = image || 'x' WHERE id = 4;
UPDATE images SET label = 2 WHERE id = 6;
SELECT d2c_selection_make('b', 'SELECT id, score + 1 AS score, 10 - id AS rank FROM scores WHERE id BETWEEN 4 AND 8 ORDER BY id', 'images') IS NOT NULL AS made;
SELECT * FROM d2c_selection_diff('a', 'b');
SELECT * FROM d2c_selection_diff_summary('a', 'b');
SELECT * FROM d2c_selection_diff_summary('a', 'a');
SELECT * FROM d2c_selection_diff('a', 'texts') WHERE side = 'b';
DELETE FROM images WHERE id = 2;
SELECT * FROM d2c_selection_check('a');
SELECT * FROM d2c_selection_check('b');
SELECT * FROM d2c_selection_check('texts');
-- items that were changed behind the guard's back
BEGIN;
ALTER TABLE d2c_selection_items DISABLE TRIGGER USER;
UPDATE d2c_selection_items SET score = score + 1e-12 WHERE selection = (SELECT id FROM d2c_selections WHERE name = 'a') AND id = '3';
DELETE FROM d2c_selection_items WHERE selection = (SELECT id FROM d2c_selections WHERE name = 'texts') AND id = 'c';
SET extra_float_digits = -10;
SELECT * FROM d2c_selection_check('a');
SELECT * FROM d2c_selection_check('texts');
SELECT * FROM d2c_selection_check('b');
ROLLBACK;
ALTER TABLE images RENAME TO pictures;
SELECT * FROM d2c_selection_check('a');
ALTER TABLE pictures RENAME TO images;
-- ids with the separators of the digest's rule are not other selections of others
BEGIN;
SELECT d2c_selection_make('tabs ' || n, query) IS NOT NULL AS made FROM (VALUES (1, $$ SELECT E'a\t\t\t\n2\tb' AS id $$), (2, $$ SELECT unnest('{a,b}'::text[]) AS id $$),
	(3, $$ SELECT E'\\' AS id $$), (4, $$ SELECT E'\\\\' AS id $$), (5, $$ SELECT E'\t' AS id $$), (6, $$ SELECT E'\\t' AS id $$), (7, $$ SELECT E'\n' AS id $$), (8, $$ SELECT E'\\n' AS id $$)) v (n, query);
SELECT count(*), count(DISTINCT digest) AS digests, count(*) FILTER (WHERE digest = encode(sha256(convert_to(concat(E'\t', encode(sha256(convert_to(format(E'1\t%s\t\t\t\n', CASE name WHEN 'tabs 3' THEN E'\\\\' WHEN 'tabs 5' THEN E'\\t' WHEN 'tabs 7' THEN E'\\n' END),
	'UTF8')), 'hex'), E'\n'), 'UTF8')), 'hex')) AS escaped FROM d2c_selections WHERE name LIKE 'tabs %';
SELECT count(*) FROM d2c_selection_check('tabs 1');
INSERT INTO d2c_selection_items (selection, position, id, digest) VALUES (d2c_selection_open('no digest'), 1, 'x', '');
ROLLBACK;
-- keys of other collations are compared as bytes
BEGIN;
CREATE TABLE bytes (id text COLLATE "C" PRIMARY KEY, label int, image bytea);
INSERT INTO bytes VALUES ('a', 1, 'a'), ('b', 2, 'b');
SELECT d2c_selection_make('collated', 'SELECT id COLLATE "POSIX" AS id FROM bytes', 'bytes') IS NOT NULL AS made;
INSERT INTO bytes VALUES ('c', 3, 'c');
UPDATE bytes SET label = 3 WHERE id = 'b';
SELECT * FROM d2c_selection_check('collated');
ROLLBACK;

-- found by search_path, or in the schema that is named
SET search_path = public;
SELECT * FROM d2c_selection_diff_summary('a', 'b');
SELECT label, shared FROM d2c_selection_diff_summary('a', 'b', schema => 'lab') LIMIT 1;
SET search_path = other, lab, public;
SELECT d2c_selection_make('in lab', 'SELECT 1 AS id') IS NOT NULL AS made;
SELECT d2c_selection_make('in other', 'SELECT id FROM images LIMIT 1', schema => 'other') IS NOT NULL AS made;
SELECT name FROM lab.d2c_selections WHERE name LIKE 'in %';
SELECT name FROM other.d2c_selections;
SHOW search_path;
RESET search_path;
SET search_path = lab, public;

-- with a source its label and digest are taken, which those of the query may only repeat
BEGIN;
SELECT d2c_selection_make('repeated', 'SELECT id, CASE WHEN id % 2 = 0 THEN label END AS label, CASE WHEN id % 3 = 0 THEN d2c_image_digest(image) END AS digest FROM images', 'images') AS made \gset
SELECT count(*), count(label) AS labels, count(digest) AS digests FROM d2c_selection_items WHERE selection = :made;
INSERT INTO images VALUES (99);
SELECT d2c_selection_make('unlabelled', 'SELECT 99 AS id, 0 AS label', 'images');
ROLLBACK;

-- what is asked wrongly
SELECT d2c_selection_make(NULL, 'SELECT 1 AS id');
SELECT d2c_selection_make('', 'SELECT 1 AS id');
SELECT d2c_selection_make('a', 'SELECT 1 AS id');
SELECT d2c_selection_make('x', NULL);
SELECT d2c_selection_make('x', 'SELECT');
SELECT d2c_selection_make('x', 'SELECT 1/0 AS id');
SELECT d2c_selection_make('x', 'SELECT 1 AS n');
SELECT d2c_selection_make('x', 'SELECT 1.5 AS id');
SELECT d2c_selection_make('x', 'SELECT id, score::text AS score FROM scores');
SELECT d2c_selection_make('x', 'SELECT id, score AS label FROM scores');
SELECT d2c_selection_make('x', 'SELECT id FROM scores WHERE false');
SELECT d2c_selection_make('x', 'SELECT id % 3 AS id FROM scores');
SELECT d2c_selection_make('x', 'SELECT nullif(id, 3) AS id FROM scores');
SELECT d2c_selection_make('x', 'SELECT id + 29 AS id FROM scores', 'images');
SELECT d2c_selection_make('x', 'SELECT id, label + id % 2 AS label FROM scores WHERE id BETWEEN 7 AND 12 ORDER BY id', 'images');
\set VERBOSITY terse
SELECT d2c_selection_make('x', $$ SELECT id, CASE WHEN id = 9 THEN '\x00' ELSE d2c_image_digest(image) END AS digest FROM images $$, 'images');
\set VERBOSITY default
SELECT d2c_selection_make('x', 'SELECT id FROM scores', 'scores');
SELECT d2c_selection_make('x', 'SELECT id FROM images', 'images', image_column => 'picture');
SELECT d2c_selection_make('x', 'SELECT 1 AS id', method => NULL);
SELECT d2c_selection_make('x', 'SELECT 1 AS id', parameters => '[1]');
\set VERBOSITY terse
SELECT d2c_selection_make('x', 'SELECT 1 AS id', scorer => 'no-such-model');
\set VERBOSITY default
SELECT d2c_selection_make('x', 'SELECT 1 AS id', schema => 'nowhere');
SELECT d2c_selection_close('x');
SELECT d2c_selection_drop(NULL);
SELECT d2c_selection_diff('a', 'x');
CREATE TABLE public.d2c_selections (id int);
SELECT d2c_selection_make('x', 'SELECT 1 AS id', schema => 'public');
SELECT d2c_selection_check('x', 'public');
DROP TABLE public.d2c_selections;
SET search_path = '';
SELECT public.d2c_selection_make('x', 'SELECT 1 AS id');
SELECT public.d2c_selection_diff('a', 'b');
SET search_path = lab, public;
SELECT d2c_selection_make('scored', 'SELECT 1 AS id', scorer => 'tiny-sit') AS made \gset
SELECT scorer, length(scorer_sha256) FROM d2c_selections WHERE id = :made;
SELECT to_regclass('pg_temp.d2c_selection_rows');

-- tables that were dropped are made again
DROP TABLE d2c_selection_items, d2c_selections;
SELECT d2c_selection_make('anew', 'SELECT 1 AS id') AS made;
DELETE FROM d2c_selections;
SET client_min_messages = error;
DROP SCHEMA lab, other CASCADE;
