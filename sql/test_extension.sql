-- every member of the extension has a comment, the array types aside, which are members from PostgreSQL 17 on
SELECT pg_describe_object(classid, objid, objsubid) AS without_comment FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'd2c') AND deptype = 'e'
	AND NOT EXISTS (SELECT FROM pg_type t WHERE classid = 'pg_type'::regclass AND t.oid = objid AND t.typcategory = 'A')
	AND obj_description(objid, classid::regclass::name) IS NULL ORDER BY 1;

-- and its functions are marked for parallel queries; what commits, locks or talks to the user is not
SELECT proname, provolatile, proparallel FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'd2c'
WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') AND (provolatile, proparallel) <> ('i', 's') ORDER BY 1;

-- an extension in a schema whose name needs quotes, called with a search_path that hides pg_catalog behind traps
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
SET client_min_messages = warning;
CREATE DATABASE d2c_quoted;
\set database :DBNAME
\c d2c_quoted
SET client_min_messages = warning;
\set VERBOSITY terse
CREATE SCHEMA "Ex ""t";
CREATE EXTENSION d2c SCHEMA "Ex ""t";
CREATE SCHEMA "The Lab";
CREATE TABLE "The Lab"."My ""Images" ("The Id" uuid PRIMARY KEY, "Label" bigint, "Image" bytea, "Class" varchar(20));
INSERT INTO "The Lab"."My ""Images" SELECT md5(i::text)::uuid, i % 2, "Ex ""t".d2c_thumbnail(pg_read_binary_file(:'folder' || '/test/golden/image/grey.png'), 4 + i), 'it''s ' || i % 2 FROM generate_series(1, 12) i;
CREATE SCHEMA trap;
CREATE FUNCTION trap.fall() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION trap.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS 'SELECT trap.fall()';
CREATE FUNCTION trap.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT trap.fall()';
CREATE FUNCTION trap.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT trap.fall()';
CREATE FUNCTION trap.less(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT trap.fall() IS NULL';
CREATE OPERATOR trap.< (FUNCTION = trap.less, LEFTARG = integer, RIGHTARG = integer);
CREATE TABLE trap.pg_extension (extname text, extnamespace oid);
CREATE DOMAIN trap.text AS pg_catalog.text CHECK (trap.fall() IS NULL);
CREATE DOMAIN trap.jsonb AS pg_catalog.jsonb CHECK (trap.fall() IS NULL);
CREATE TYPE trap.record AS (trapped integer);
SET search_path = trap, pg_catalog;
CALL "Ex ""t".d2c_condense('"The Lab"."My ""Images"', '"The Lab"."Small ""one"', 'tiny-sit', 3, text_model => 'tiny-bert', visual_model => 'tiny-sit', timesteps => 1,
	id_column => 'The Id', label_column => 'Label', image_column => 'Image', class_column => 'Class', page_rows => 5);
CALL "Ex ""t".d2c_attach('"The Lab"."My ""Images"', '"The Lab"."All"', text_model => 'tiny-bert', visual_model => 'tiny-sit', label_column => 'Label', image_column => 'Image', class_column => 'Class');
SHOW search_path;
RESET search_path;
SELECT label, count(*), count(text_embedding), count(visual_embedding), min(prompt) FROM "The Lab"."Small ""one" GROUP BY label ORDER BY label;
SELECT count(*), count(text_embedding), count(visual_embedding) FROM "The Lab"."All";

-- DROP EXTENSION takes the tensors, and leaves the tables with their scores
DROP EXTENSION d2c;
SET client_min_messages = error;
DROP EXTENSION d2c CASCADE;
SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '"The Lab"."Small ""one"'::regclass AND attnum > 0 AND NOT attisdropped;
\c :database
SET client_min_messages = error;
DROP DATABASE d2c_quoted;
