-- how many rows d2c_condense selects: small and unequal classes, totals, budgets, hold-out lists, selections that are continued and recorded
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA lab;
SET search_path = lab, public;
-- classes 0 to 3 of 40, 20, 9 and 2 rows; class 4 has a row that is no image
CREATE TABLE images (id int PRIMARY KEY, label smallint, image bytea);
INSERT INTO images SELECT n, CASE WHEN n <= 40 THEN 0 WHEN n <= 60 THEN 1 WHEN n <= 69 THEN 2 ELSE 3 END,
		d2c_thumbnail(pg_read_binary_file(current_setting('test.folder') || (ARRAY['grey.png', 'rgb.png', 'grey.jpg', 'palette.png'])[1 + n % 4]), 4 + n / 4)
	FROM generate_series(1, 71) n;
INSERT INTO images VALUES (72, 4, 'bad');
CREATE FUNCTION chosen(target regclass) RETURNS TABLE (label bigint, n bigint, ranks bigint[]) LANGUAGE plpgsql AS $$ BEGIN
	RETURN QUERY EXECUTE format('SELECT label, count(*), array_agg(rank ORDER BY rank) FROM %s GROUP BY label ORDER BY label', target); END $$;

-- spreads, without a model: exact whenever the classes have so many rows, even to one row, in proportion to less than one row
SELECT label, n FROM d2c_spread_evenly('{0,1,2,3}', '{40,20,9,2}', '{0,0,0,0}', 30) ORDER BY label;
SELECT label, n FROM d2c_spread_evenly('{0,1,2,3}', '{40,20,9,2}', '{12,0,0,0}', 30) ORDER BY label;
SELECT label, n FROM d2c_spread_evenly('{0,1,2,3}', '{40,20,9,2}', '{0,0,0,0}', 1000) ORDER BY label;
SELECT label, n FROM d2c_spread_in_proportion('{0,1,2,3}', '{40,20,9,2}', '{0,0,0,0}', 30) ORDER BY label;
SELECT label, n FROM d2c_spread_in_proportion('{0,1,2,3}', '{40,20,9,2}', '{5,0,0,2}', 30) ORDER BY label;
SELECT label, n FROM d2c_spread_in_proportion('{0,1}', '{3,4}', '{3,4}', 9) ORDER BY label;
WITH cases AS (SELECT c, array_agg(l ORDER BY l) AS labels, array_agg(r ORDER BY l) AS rows, array_agg(least(r, k) ORDER BY l) AS kept, sum(r)::bigint AS all_rows, sum(least(r, k))::bigint AS all_kept
		FROM (SELECT c, l, (c * 7919 + l * l * 104729) % 97 AS r, CASE WHEN c % 3 = 0 THEN (c * 31 + l * 17) % 11 ELSE 0 END AS k FROM generate_series(1, 200) c, generate_series(1, 13) l) x GROUP BY c),
	totals AS (SELECT *, all_kept + t * (all_rows - all_kept) / 9 AS total FROM cases, generate_series(0, 9) t),
	even AS (SELECT c, t, total, u.r, u.k, s.n FROM totals, unnest(labels, rows, kept) u (l, r, k), d2c_spread_evenly(labels, rows, kept, total) s WHERE s.label = u.l),
	shares AS (SELECT c, t, total, u.r, u.k, s.n, (total - all_kept) * (u.r - u.k) / greatest(all_rows - all_kept, 1)::numeric AS quota
		FROM totals, unnest(labels, rows, kept) u (l, r, k), d2c_spread_in_proportion(labels, rows, kept, total) s WHERE s.label = u.l)
SELECT 'even' AS spread, count(*) AS cases, bool_and(given = total) AS exact, bool_and(within) AS within, bool_and(most_above <= least_below + 1) AS as_asked
	FROM (SELECT sum(n) AS given, min(total) AS total, bool_and(n BETWEEN k AND r) AS within, coalesce(max(n) FILTER (WHERE n > k), 0) AS most_above, coalesce(min(n) FILTER (WHERE n < r), 97) AS least_below FROM even GROUP BY c, t) e
UNION ALL SELECT 'proportional', count(*), bool_and(given = total), bool_and(within), bool_and(off < 1)
	FROM (SELECT sum(n) AS given, min(total) AS total, bool_and(n BETWEEN k AND r) AS within, max(abs(n - k - quota)) AS off FROM shares GROUP BY c, t) e;

-- small classes give what they have, with a warning
SELECT format('CALL d2c_score(''images'', ''%s_scores'', ''tiny-sit'', timesteps => 1)', target) AS call FROM unnest('{small,even,shares,everything,planned,others,more,most}'::text[]) target \gexec
SET client_min_messages = notice;
CALL d2c_condense('images', 'small', 'tiny-sit', 5, every => 4, timesteps => 1, selection => 'five', dry_run => true);
CALL d2c_condense('images', 'small', 'tiny-sit', 5, every => 4, timesteps => 1, selection => 'five');
CALL d2c_condense('images', 'small', 'tiny-sit', 5, every => 4, timesteps => 1, selection => 'five');
SELECT * FROM chosen('small');
SELECT name, method, seed, scorer, scorer_sha256 = (d2c_model_info('tiny-sit')).sha256 AS sha256, source, id_column, label_column, image_column, items, classes, closed IS NOT NULL AS closed, parameters - '{sha256,build,device,precision}'::text[] AS parameters FROM d2c_selections;
SELECT count(*), bool_and(i.label = t.label AND i.rank = t.rank AND i.score = t.score AND i.digest = d2c_image_digest(t.image)) AS same, bool_and(i.position = i.rank / CASE i.label WHEN 2 THEN 2 WHEN 3 THEN 1 ELSE 4 END + 1) AS positions
	FROM d2c_selection_items i JOIN small t ON t.id::text = i.id;
SELECT count(*) FROM d2c_selection_check('five');

-- a total, even and in proportion
CALL d2c_condense('images', 'even', 'tiny-sit', total => 30, timesteps => 1);
SELECT * FROM chosen('even');
CALL d2c_condense('images', 'shares', 'tiny-sit', total => 30, spread => 'proportional', timesteps => 1);
SELECT * FROM chosen('shares');
CALL d2c_condense('images', 'everything', 'tiny-sit', total => 100, timesteps => 1);
SELECT label, n FROM chosen('everything');

-- a budget
CREATE TABLE wanted (label int, n bigint);
INSERT INTO wanted VALUES (0, 3), (2, 9), (3, 0), (9, 4);
CALL d2c_condense('images', 'planned', 'tiny-sit', budget => 'wanted', timesteps => 1, dry_run => true);
CALL d2c_condense('images', 'planned', 'tiny-sit', budget => 'wanted', timesteps => 1);
SELECT * FROM chosen('planned');
UPDATE wanted SET n = 4 WHERE label = 0;
\set VERBOSITY terse
CALL d2c_condense('images', 'planned', 'tiny-sit', budget => 'wanted', timesteps => 1);
\set VERBOSITY default
-- one of all that there is
UPDATE wanted SET n = 9223372036854775807;
CALL d2c_condense('images', 'whole', 'tiny-sit', budget => 'wanted', timesteps => 1, dry_run => true);
SET client_min_messages = error;
CALL d2c_condense('images', 'whole', 'tiny-sit', budget => 'wanted', timesteps => 1);
SET client_min_messages = notice;
SELECT label, n FROM chosen('whole');

-- a hold-out list: ranks are among the rows that may be selected
CREATE VIEW held AS SELECT id::bigint FROM images WHERE id % 2 = 0 AND label < 2;
CALL d2c_condense('images', 'others', 'tiny-sit', 4, every => 2, hold_out => 'held', timesteps => 1);
SELECT * FROM chosen('others');
SELECT count(*) AS held FROM others WHERE id IN (SELECT id FROM held);

-- continued: what is there is kept, the rest is every k-th among the others; ranks are those of the class
CALL d2c_condense('images', 'more', 'tiny-sit', 8, every => 3, continue_from => 'five', timesteps => 1, selection => 'eight', dry_run => true);
CALL d2c_condense('images', 'more', 'tiny-sit', 8, every => 3, continue_from => 'five', timesteps => 1, selection => 'eight');
SELECT * FROM d2c_selection_diff_summary('five', 'eight');
SELECT * FROM chosen('more') WHERE label = 0;
WITH ranked AS (SELECT id, row_number() OVER (ORDER BY score, id) - 1 AS rank FROM small_scores WHERE label = 0),
	rest AS (SELECT rank, row_number() OVER (ORDER BY rank) - 1 AS place FROM ranked WHERE id NOT IN (SELECT id FROM small))
SELECT array_agg(rank ORDER BY rank) AS ranks FROM (SELECT rank FROM rest WHERE place IN (0, 3, 6) UNION SELECT rank FROM ranked WHERE id IN (SELECT id FROM small)) r;
SELECT i.position, i.rank FROM d2c_selection_items i JOIN d2c_selections s ON s.id = i.selection AND s.name = 'eight' WHERE label = 0 ORDER BY position;
CALL d2c_condense('images', 'most', 'tiny-sit', total => 40, continue_from => 'five', timesteps => 1, hold_out => 'held', selection => 'forty');
DELETE FROM images WHERE id = (SELECT min(id) FROM small WHERE label = 2);
CREATE TABLE nothing (id int);
CALL d2c_condense('images', 'most', 'tiny-sit', total => 40, continue_from => 'five', timesteps => 1, hold_out => 'nothing', selection => 'forty');
CALL d2c_condense('images', 'most', 'tiny-sit', total => 40, continue_from => 'even', timesteps => 1);

-- keys of type text, in a schema of its own
SET client_min_messages = warning;
CREATE SCHEMA other;
CREATE TABLE named AS SELECT 'row ' || id AS id, label, image FROM images WHERE label IN (0, 2);
ALTER TABLE named ADD PRIMARY KEY (id);
CALL d2c_condense('named', 'texts', 'tiny-sit', 4, timesteps => 1, selection => 'names', selection_schema => 'other');
CALL d2c_condense('named', 'more_texts', 'tiny-sit', 6, timesteps => 1, selection => 'more names', selection_schema => 'other', continue_from => 'names');
SELECT label, shared, only_a, only_b FROM d2c_selection_diff_summary('names', 'more names', 'other');
SELECT count(*) AS rows, bool_and(t.rank = r.rank) AS ranks FROM more_texts t JOIN (SELECT id, row_number() OVER (PARTITION BY label ORDER BY score, id COLLATE "C") - 1 AS rank FROM more_texts_scores) r USING (id);
-- a hold-out list of another collation than the key's
CREATE TABLE bytes (id text COLLATE "C" PRIMARY KEY, label smallint, image bytea);
INSERT INTO bytes TABLE named;
CREATE TABLE held_names AS SELECT id COLLATE "POSIX" AS id FROM named WHERE id LIKE '%3';
CALL d2c_condense('bytes', 'collated', 'tiny-sit', 4, timesteps => 1, hold_out => 'held_names', selection => 'collated', selection_schema => 'other');
CALL d2c_condense('bytes', 'more_collated', 'tiny-sit', 6, timesteps => 1, hold_out => 'held_names', continue_from => 'collated', selection_schema => 'other');
SELECT count(*) AS rows, count(h.id) AS held, (SELECT count(*) FROM collated JOIN more_collated USING (id)) AS kept FROM more_collated LEFT JOIN held_names h ON h.id = more_collated.id COLLATE "POSIX";

-- what is asked wrongly
CALL d2c_condense('images', 'x', 'tiny-sit');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, total => 5);
CALL d2c_condense('images', 'x', 'tiny-sit', total => 5, budget => 'wanted');
CALL d2c_condense('images', 'x', 'tiny-sit', total => 0);
CALL d2c_condense('images', 'x', 'tiny-sit', total => 5, spread => 'random');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, spread => 'even');
CALL d2c_condense('images', 'x', 'tiny-sit', budget => 'nowhere');
CALL d2c_condense('images', 'x', 'tiny-sit', budget => 0);
CALL d2c_condense('images', 'x', 'tiny-sit', budget => 'small');
CREATE TABLE budget (label int, n int);
CALL d2c_condense('images', 'x', 'tiny-sit', budget => 'budget');
INSERT INTO budget VALUES (0, 0);
CALL d2c_condense('images', 'x', 'tiny-sit', budget => 'budget');
INSERT INTO budget VALUES (NULL, 1), (1, -1), (0, NULL), (0, 2), (2, 3);
CALL d2c_condense('images', 'x', 'tiny-sit', budget => 'budget');
ALTER TABLE budget ALTER n TYPE text;
CALL d2c_condense('images', 'x', 'tiny-sit', budget => 'budget');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, hold_out => 'wanted');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, hold_out => 'd2c_selections', id_column => 'image');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, continue_from => 'none');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, continue_from => 'names', selection_schema => 'other');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, selection => 'five');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, selection => '');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, selection => 'x', selection_schema => 'nowhere');
CALL d2c_condense('named', 'x', 'tiny-sit', 3, continue_from => 'names', selection_schema => 'other');
CALL d2c_condense('named', 'x', 'tiny-sit', total => 7, continue_from => 'names', selection_schema => 'other');
SELECT d2c_selection_open('open', 'named', schema => 'other') IS NOT NULL AS open;
CALL d2c_condense('named', 'x', 'tiny-sit', 9, continue_from => 'open', selection_schema => 'other');
CALL d2c_condense('images', 'x', 'tiny-sit', 5, timesteps => 1, selection => 'five', dry_run => true);
SELECT to_regclass('x'), to_regclass('x_scores');
SET client_min_messages = error;
DROP SCHEMA lab, other CASCADE;
