-- pages.sql: the pages of a scoring run.
-- A page is a range of keys in TARGET_pages, beside the result and the caller's own as that is.  A session locks a page
-- that nobody else has (FOR UPDATE SKIP LOCKED), scores it and marks it in one transaction, so whatever ends the session
-- gives the page back.  New pages are made when all are done, under an advisory lock: the pages that are not done never
-- overlap.  `run` is what the procedure has found out: parameters of the result, and result, pages, id_type, build.

CREATE PROCEDURE d2c_commit(path text)
	LANGUAGE plpgsql AS $$
BEGIN
	COMMIT;
	-- What others have committed is to be seen, whatever default_transaction_isolation is.
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	PERFORM pg_catalog.set_config('search_path', path, true);
END $$;
COMMENT ON PROCEDURE d2c_commit(text) IS 'support of d2c''s procedures: commits, and sets up the next transaction';

CREATE FUNCTION d2c_image_digest(image bytea) RETURNS bytea
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT pg_catalog.substr(pg_catalog.sha256(image), 1, 16)';
COMMENT ON FUNCTION d2c_image_digest(bytea) IS 'first 16 bytes of the sha256 of an image file, as result tables keep it';

CREATE FUNCTION d2c_require_pages(run jsonb, fresh boolean) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	pages text := run ->> 'pages';
	name text;
	meaning text;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass(run ->> 'result') AND attname = 'digest' AND NOT attisdropped) THEN
		EXECUTE format('ALTER TABLE %s ADD digest bytea', run ->> 'result');
		PERFORM d2c_comment_columns(run ->> 'result');
		RAISE NOTICE 'table % was made by an earlier release of d2c', run ->> 'result'
			USING DETAIL = 'Rows scored by it have no digest of their image.', HINT = 'A call with changed => true scores them again.';
	END IF;
	IF to_regclass(pages) IS NOT NULL THEN
		IF left(obj_description(to_regclass(pages), 'pg_class'), 15) IS DISTINCT FROM 'd2c_score pages' THEN
			RAISE EXCEPTION 'table % exists and does not hold pages of d2c_score', pages
				USING ERRCODE = 'duplicate_table', HINT = 'Name another target.';
		ELSIF NOT fresh THEN
			RETURN;
		END IF;
		EXECUTE format('DROP TABLE %s', pages);		-- of a result that was dropped
	END IF;
	EXECUTE format('CREATE TABLE %s (page bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, recheck boolean NOT NULL,
		first_key %2$s NOT NULL, last_key %2$s NOT NULL, rows bigint NOT NULL, scored bigint, errors bigint,
		seconds double precision, backend integer, scored_at timestamptz) WITH (fillfactor = 50)', pages, run ->> 'id_type');
	EXECUTE format('CREATE INDEX ON %s (first_key)', pages);
	EXECUTE format('COMMENT ON TABLE %s IS %L', pages, 'd2c_score pages of ' || (run ->> 'result')
		|| ': d2c_score_progress() sums them up; those that are done may be deleted');
	FOR name, meaning IN VALUES
		('page', 'number of the page'),
		('recheck', 'whether rows of the page that are scored already are compared with the source'),
		('first_key', 'key of the page''s first row'),
		('last_key', 'key of the page''s last row'),
		('rows', 'rows to score, or to compare, when the page was made'),
		('scored', 'rows scored, those with an error too; NULL until the page is done'),
		('errors', 'how many of those scored have an error'),
		('seconds', 'how long the page took'),
		('backend', 'process id of the session that did the page'),
		('scored_at', 'when the page was done; NULL until then')
	LOOP
		EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', pages, name, meaning);
	END LOOP;
END $$;
COMMENT ON FUNCTION d2c_require_pages(jsonb, boolean) IS
	'support of d2c_score: makes the table of pages where it is missing, anew for a fresh result, and column digest of a result of 0.1.0';

CREATE FUNCTION d2c_make_pages(run jsonb, recheck boolean, head integer, page integer, first text DEFAULT NULL, last text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql AS $$
DECLARE
	made bigint;
BEGIN
	EXECUTE format('INSERT INTO %s (recheck, first_key, last_key, rows)
		SELECT $1, CASE WHEN starts THEN id ELSE first END, id, CASE WHEN starts THEN 1 ELSE place - first_place + 1 END
		FROM (SELECT *, lag(id) OVER w AS first, lag(place) OVER w AS first_place
			FROM (SELECT *, place = 1 OR place > $2 AND (place - $2 - 1) %% $3 = 0 AS starts, place = $2 OR place > $2 AND (place - $2) %% $3 = 0 OR is_last AS ends
				FROM (SELECT o.%2$s AS id, row_number() OVER w AS place, lead(o.%2$s) OVER w IS NULL AS is_last
					FROM %3$s o WHERE %4$s WINDOW w AS (ORDER BY o.%2$s)) keys) marked
			WHERE starts OR ends WINDOW w AS (ORDER BY place)) bounds
		WHERE ends ORDER BY place', run ->> 'pages', run ->> 'id', run ->> 'source', d2c_page_rows_to_do(run, recheck, first, last))
		USING recheck, head::bigint, page::bigint;
	GET DIAGNOSTICS made = ROW_COUNT;
	RETURN made;
END $$;
COMMENT ON FUNCTION d2c_make_pages(jsonb, boolean, integer, integer, text, text) IS
	'support of d2c_score: cuts the rows that are to do, of keys first to last, into a page of head rows and others of page rows, in one pass over the keys; returns how many';

CREATE FUNCTION d2c_page_rows_to_do(run jsonb, recheck boolean, first text, last text) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	todo text := 'true';
	scored text := format('r.id = o.%s', run ->> 'id');
	range text := format('BETWEEN %1$L::%3$s AND %2$L::%3$s', first, last, split_part(run ->> 'id_type', ' ', 1));
BEGIN
	-- Said of both tables, no plan reads more of either.
	IF first IS NOT NULL THEN
		todo := format('o.%s %s', run ->> 'id', range);
		scored := format('%s AND r.id %s', scored, range);
	END IF;
	RETURN CASE WHEN recheck THEN todo ELSE format('%s AND NOT EXISTS (SELECT FROM %s r WHERE %s)', todo, run ->> 'result', scored) END;
END $$;
COMMENT ON FUNCTION d2c_page_rows_to_do(jsonb, boolean, text, text) IS
	'support of d2c_score: which rows o of the source are to do: of keys first to last, all when null; those without a score unless it is a recheck';

CREATE FUNCTION d2c_page_size(run jsonb, page_rows integer) RETURNS integer
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	rate double precision;
BEGIN
	IF page_rows IS NOT NULL THEN
		RETURN page_rows;
	END IF;
	EXECUTE format('SELECT sum(scored) / greatest(sum(seconds), 0.001) FROM (SELECT scored, seconds FROM %s WHERE scored = rows ORDER BY scored_at DESC LIMIT 4) last',
		run ->> 'pages') INTO rate;
	RETURN CASE WHEN rate IS NOT NULL THEN greatest(least(rate * 10, 4096), 32) END;
END $$;
COMMENT ON FUNCTION d2c_page_size(jsonb, integer) IS
	'support of d2c_score: rows of a page: page_rows, else what a session scores in ten seconds by the last pages, 32 to 4096; NULL while none is done';

CREATE FUNCTION d2c_plan_pages(run jsonb, recheck boolean, page_rows integer, OUT made bigint, OUT removed bigint)
	LANGUAGE plpgsql AS $$
DECLARE
	left_over boolean;
	largest bigint;
	size integer;
BEGIN
	-- Once to see whether others are at work, without the lock, which they may need; once more with it.
	FOR look IN 1 .. 2 LOOP
		EXECUTE format('SELECT bool_or(scored_at IS NULL), max(rows) FROM %s', run ->> 'pages') INTO left_over, largest;
		IF left_over THEN
			RETURN;
		ELSIF look = 1 THEN
			PERFORM d2c_lock_result(run ->> 'result');
		END IF;
	END LOOP;
	-- In a recheck little tells how long a page takes if all of its rows changed.
	size := coalesce(d2c_page_size(run, page_rows), CASE WHEN recheck THEN greatest(largest, 256) ELSE 4096 END);
	IF recheck THEN
		EXECUTE format('DELETE FROM %s', run ->> 'pages');
		EXECUTE format('DELETE FROM %s r WHERE NOT EXISTS (SELECT FROM %s o WHERE o.%s = r.id)', run ->> 'result', run ->> 'source', run ->> 'id');
		GET DIAGNOSTICS removed = ROW_COUNT;
	END IF;
	made := d2c_make_pages(run, recheck, 0, size);
END $$;
COMMENT ON FUNCTION d2c_plan_pages(jsonb, boolean, integer) IS
	'support of d2c_score: when all pages are done, makes those of rows without a score, or for a recheck those of all rows, and removes the scores of rows that left the source; made is NULL when some page is not done';

CREATE FUNCTION d2c_take_page(run jsonb, after text, page_rows integer,
	OUT page bigint, OUT recheck boolean, OUT first text, OUT last text, OUT cut boolean)
	LANGUAGE plpgsql AS $$
DECLARE
	rows bigint;
	size integer := d2c_page_size(run, page_rows);
BEGIN
	EXECUTE format('SELECT page, recheck, first_key::text, last_key::text, rows FROM %s p WHERE scored_at IS NULL %s ORDER BY p.first_key LIMIT 1 FOR UPDATE SKIP LOCKED',
		run ->> 'pages', CASE WHEN after IS NOT NULL THEN format('AND first_key > %L::%s', after, split_part(run ->> 'id_type', ' ', 1)) END)
		INTO page, recheck, first, last, rows;
	-- A page that is not much too large is left as it is; while nothing is known, 32 rows tell.
	cut := CASE WHEN size IS NULL THEN rows > 32 AND NOT recheck WHEN page_rows IS NULL THEN rows > 2 * size ELSE rows > size END;
	IF cut THEN
		EXECUTE format('DELETE FROM %s WHERE page = $1', run ->> 'pages') USING page;
		PERFORM d2c_make_pages(run, recheck, CASE WHEN size IS NULL THEN 32 ELSE 0 END, coalesce(size, rows::integer), first, last);
	END IF;
END $$;
COMMENT ON FUNCTION d2c_take_page(jsonb, text, integer) IS
	'support of d2c_score: locks the first free page behind key after; page is NULL when there is none; one of too many rows is cut into others instead';

CREATE FUNCTION d2c_score_page(run jsonb, page bigint, recheck boolean, first text, last text) RETURNS void
	LANGUAGE plpgsql SET jit = off AS $$
DECLARE
	started timestamptz := clock_timestamp();
	scored bigint;
	errors bigint;
BEGIN
	IF recheck THEN
		EXECUTE format('DELETE FROM %s r WHERE r.id BETWEEN %2$L::%4$s AND %3$L::%4$s AND NOT EXISTS (SELECT FROM %5$s o WHERE %6$s AND o.%7$s = r.id
				AND o.%8$s::bigint IS NOT DISTINCT FROM r.label AND d2c_image_digest(o.%9$s) IS NOT DISTINCT FROM r.digest)',
			run ->> 'result', first, last, split_part(run ->> 'id_type', ' ', 1), run ->> 'source', d2c_page_rows_to_do(run, true, first, last),
			run ->> 'id', run ->> 'label', run ->> 'image');
	END IF;
	-- The COST of a score would have this compiled anew for every page (jit).
	EXECUTE format('WITH scored AS (INSERT INTO %s (id, label, score, sqlstate, error, digest, model, model_sha256, device, precision, build, timesteps, seed)
			SELECT id, label, (d).score,
				CASE WHEN image_is_null OR label IS NULL THEN ''22004'' ELSE (d).sqlstate END,
				CASE WHEN image_is_null THEN ''image is null'' WHEN label IS NULL THEN ''label is null'' ELSE (d).error END,
				digest, $1, $4, $5, $6, $7, $2, $3
			FROM (SELECT id, label, image IS NULL AS image_is_null, d2c_image_digest(image) AS digest, d2c_difficulty_checked(image, label, $1, $2, $3, $8) OVER () AS d
				FROM (SELECT o.%s AS id, o.%s::bigint AS label, o.%s AS image FROM %s o WHERE %s) todo) checked
			RETURNING sqlstate)
		SELECT count(*), count(sqlstate) FROM scored',
		run ->> 'result', run ->> 'id', run ->> 'label', run ->> 'image', run ->> 'source', d2c_page_rows_to_do(run, false, first, last))
		USING run ->> 'model', (run ->> 'timesteps')::integer, (run ->> 'seed')::bigint, run ->> 'sha256', run ->> 'device', run ->> 'precision',
			run ->> 'build', coalesce(run ->> 'vae', '') INTO scored, errors;
	EXECUTE format('UPDATE %s SET scored = $2, errors = $3, seconds = $4, backend = pg_backend_pid(), scored_at = clock_timestamp() WHERE page = $1', run ->> 'pages')
		USING page, scored, errors, extract(epoch FROM clock_timestamp() - started)::float8;
END $$;
COMMENT ON FUNCTION d2c_score_page(jsonb, bigint, boolean, text, text) IS
	'support of d2c_score: scores the rows of a page that have no score, in a recheck also those that changed, and marks the page as done';

CREATE FUNCTION d2c_wait_for_page(run jsonb, tell boolean) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	held bigint;
	others text;
BEGIN
	IF tell THEN
		EXECUTE format('SELECT count(*) FROM %s WHERE scored_at IS NULL', run ->> 'pages') INTO held;
		SELECT string_agg(pid::text, ', ' ORDER BY pid) INTO others FROM d2c_scoring_sessions(to_regclass(run ->> 'result')) pid;
		RAISE NOTICE 'd2c_score waits for % pages of % that other sessions hold', held, run ->> 'result'
			USING DETAIL = format('Sessions at work: %s.', coalesce(others, 'none at this moment'));
	END IF;
	EXECUTE format('SELECT FROM %s WHERE scored_at IS NULL ORDER BY first_key LIMIT 1 FOR UPDATE', run ->> 'pages');
END $$;
COMMENT ON FUNCTION d2c_wait_for_page(jsonb, boolean) IS
	'support of d2c_score: waits until a page that another session holds is done, or free because that session has ended';

CREATE FUNCTION d2c_page_progress(run jsonb, OUT total bigint, OUT done bigint, OUT checking boolean, OUT what text)
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	EXECUTE format('SELECT coalesce(sum(rows), 0), coalesce(sum(rows) FILTER (WHERE scored_at IS NOT NULL), 0), coalesce(bool_or(recheck AND scored_at IS NULL), false),
		CASE WHEN bool_or(recheck) THEN ''checked'' ELSE ''scored'' END FROM %s', run ->> 'pages') INTO total, done, checking, what;
END $$;
COMMENT ON FUNCTION d2c_page_progress(jsonb) IS
	'support of d2c_score: rows of all pages and of those that are done, whether a recheck is under way, and what is done with the rows';

CREATE FUNCTION d2c_lock_result(result text) RETURNS void
	LANGUAGE sql AS $$ SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('d2c ' || result, 0)) $$;
COMMENT ON FUNCTION d2c_lock_result(text) IS
	'support of d2c_score: one session at a time makes a result or its pages, until the end of its transaction';

CREATE FUNCTION d2c_scoring_sessions(result regclass) RETURNS SETOF integer
	LANGUAGE sql STABLE AS $$
	SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
		WHERE l.locktype = 'relation' AND l.relation = result AND d.datname = pg_catalog.current_database() AND l.mode = 'RowExclusiveLock' AND l.granted AND l.pid IS NOT NULL
$$;
COMMENT ON FUNCTION d2c_scoring_sessions(regclass) IS 'support of d2c_score: the sessions that are writing into a table of scores';

CREATE FUNCTION d2c_score_progress(result regclass, OUT pages bigint, OUT pages_done bigint, OUT total bigint, OUT done bigint, OUT errors bigint,
	OUT sessions bigint, OUT rows_per_second double precision, OUT time_left interval, OUT last_page timestamptz)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	named text;
BEGIN
	PERFORM set_config('search_path', (SELECT format('pg_catalog, %I, pg_temp', n.nspname)
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c'), true);
	SELECT format('%I.%I', n.nspname, c.relname || '_pages') INTO named FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = result;
	IF left(obj_description(result, 'pg_class'), 11) IS DISTINCT FROM 'd2c_score {' THEN
		RAISE EXCEPTION 'table % is not a result of d2c_score', result
			USING ERRCODE = 'wrong_object_type', HINT = 'That of d2c_condense is the table whose name ends in _scores.';
	ELSIF left(obj_description(to_regclass(named), 'pg_class'), 15) IS DISTINCT FROM 'd2c_score pages' THEN
		RAISE EXCEPTION 'table % has no pages', result
			USING ERRCODE = 'undefined_table', DETAIL = format('They would be in table %s.', named), HINT = 'd2c_score makes it when it is called again.';
	END IF;
	EXECUTE format('SELECT count(*), count(scored_at), coalesce(sum(rows), 0), coalesce(sum(rows) FILTER (WHERE scored_at IS NOT NULL), 0), coalesce(sum(errors), 0), max(scored_at)
		FROM %s', named) INTO pages, pages_done, total, done, errors, last_page;
	SELECT count(*) INTO sessions FROM d2c_scoring_sessions(result);
	-- What a session did in the last minute of work, times the sessions that there are now.
	EXECUTE format('SELECT nullif($1, 0) * sum(rows) / nullif(sum(seconds), 0) FROM %s WHERE scored_at > $2 - interval ''1 minute''', named)
		USING sessions, last_page INTO rows_per_second;
	time_left := CASE done WHEN total THEN interval '0' ELSE make_interval(secs => (total - done) / nullif(rows_per_second, 0)) END;
END $$;
COMMENT ON FUNCTION d2c_score_progress(regclass) IS
	'how far d2c_score has come with a table of scores, from its table of pages: rows of all pages and of those that are done, errors among them, sessions that score at this moment, their speed by the last minute of work, time left (NULL when nobody scores), when the last page was done';
