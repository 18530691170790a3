\echo Use "ALTER EXTENSION d2c UPDATE TO '0.2.0'" to load this file. \quit

DROP PROCEDURE d2c_attach(regclass, text, text, text, text, integer, integer, text, text, text, text);
DROP PROCEDURE d2c_attach_all(text, text, integer, text, integer);
DROP FUNCTION d2c_attach_page(text, text, text, text, integer, integer, text);
DROP FUNCTION d2c_attach_parameters(text, text, integer, text, integer);
DROP FUNCTION d2c_interval_plan(text, integer, integer);
DROP FUNCTION d2c_warn_small_classes(text, integer, integer);
DROP FUNCTION d2c_report_plan(text, text, text, integer, integer);
DROP PROCEDURE d2c_condense(regclass, text, text, integer, integer, text, text, text, text, boolean, integer, bigint, integer, integer, text, text, text, text, integer);

CREATE OR REPLACE FUNCTION d2c_result_is_new(result text, maker text, parameters jsonb) RETURNS boolean
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	names text[] := parse_ident(result);
	comment text;
	made jsonb;
	differing text;
BEGIN
	-- A query, for to_regclass() may not have heard of what another session has just committed.
	SELECT obj_description(c.oid, 'pg_class') INTO comment FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE (n.nspname = names[1] OR names[1] = 'pg_temp' AND n.oid = pg_my_temp_schema()) AND c.relname = names[2];
	IF NOT FOUND THEN
		RETURN true;
	ELSIF left(comment, length(maker) + 2) IS DISTINCT FROM maker || ' {' THEN
		RAISE EXCEPTION 'table % exists and is not a result of %', result, maker
			USING ERRCODE = 'duplicate_table', HINT = 'Name another target.';
	END IF;
	made := substr(comment, length(maker) + 2)::jsonb;
	SELECT string_agg(format('%s was %s, now %s', key, coalesce(made -> key, 'null'), coalesce(parameters -> key, 'null')), '; ' ORDER BY key)
		INTO differing FROM jsonb_object_keys(made || parameters) key WHERE made -> key IS DISTINCT FROM parameters -> key;
	IF differing IS NOT NULL THEN
		RAISE EXCEPTION 'table % holds the results of other parameters', result
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = differing || '.',
				HINT = 'Repeat the call as it was to go on, drop the table, or name another target.';
	END IF;
	RETURN false;
END $$;

CREATE OR REPLACE FUNCTION d2c_comment_result(result text, maker text, parameters jsonb) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COMMENT ON TABLE %s IS %L', result, maker || ' ' || parameters);
	PERFORM d2c_comment_columns(result);
END $$;
COMMENT ON FUNCTION d2c_comment_result(text, text, jsonb) IS 'support of d2c''s procedures: comments of a result table and its columns';

CREATE OR REPLACE FUNCTION d2c_make_condensed(result text, id_type text, parameters jsonb, maker text) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %s (id %s PRIMARY KEY, label bigint, class text, image bytea, score double precision, rank bigint,
		prompt text, text_embedding tensor, text_mask tensor, visual_embedding tensor, sqlstate text, error text,
		model text, model_sha256 text, device text, precision text, build text, timesteps integer, seed bigint)', result, id_type);
	EXECUTE format('ALTER TABLE %s ALTER image SET STORAGE EXTERNAL', result);
	-- A trainer that finds this column trains on it.
	IF parameters ? 'latent_model' THEN
		EXECUTE format('ALTER TABLE %s ADD latent tensor', result);
	END IF;
	PERFORM d2c_comment_result(result, maker, parameters);
END $$;
COMMENT ON FUNCTION d2c_make_condensed(text, text, jsonb, text) IS 'support of d2c''s procedures: makes the table that a trainer reads';

CREATE FUNCTION d2c_attach_page(result text, key text, attached text, embed text, model text, tokens integer, page integer, INOUT last text)
	LANGUAGE plpgsql SET jit = off AS $$
DECLARE
	todo text := format('%I IS NULL AND sqlstate IS NULL', attached)
		|| format(' AND %I IS NOT NULL', CASE key WHEN 'prompt' THEN 'prompt' ELSE 'image' END)
		|| CASE WHEN last IS NOT NULL THEN format(' AND %I > %L', key, last) ELSE '' END;
	one text;
	keys text[];
	state text;
	message text;
BEGIN
	EXECUTE format('SELECT array_agg(k ORDER BY %1$I) FROM (SELECT DISTINCT %1$I::text AS k, %1$I FROM %2$s WHERE %3$s ORDER BY %1$I LIMIT %4$s) p', key, result, todo, page) INTO keys;
	last := keys[cardinality(keys)];
	IF keys IS NULL THEN
		RETURN;
	END IF;
	BEGIN
		EXECUTE format(embed, 'OVER ()', '_batched') USING model, tokens, keys;
		RETURN;
	EXCEPTION WHEN data_exception OR program_limit_exceeded OR feature_not_supported THEN
		NULL;					-- Some row is bad: one at a time tells which.
	END;
	FOREACH one IN ARRAY keys LOOP
		BEGIN
			EXECUTE format(embed, '', '') USING model, tokens, ARRAY[one];
		EXCEPTION WHEN data_exception OR program_limit_exceeded OR feature_not_supported THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
			EXECUTE format('UPDATE %s SET sqlstate = $2, error = $3 WHERE %I::text = $1', result, key) USING one, state, message;
		END;
	END LOOP;
END $$;
COMMENT ON FUNCTION d2c_attach_page(text, text, text, text, text, integer, integer, text) IS
	'support of d2c''s procedures: embeds the page of prompts or images after key last, in a batch, or one by one when a row of it is bad; last becomes the page''s last key, NULL when none was left';

CREATE PROCEDURE d2c_attach_images(result text, attached text, embed text, model text, argument integer)
	LANGUAGE plpgsql AS $$
DECLARE
	path text := pg_catalog.current_setting('search_path');
	id_type regtype := (SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = to_regclass(result) AND a.attname = 'id');
	atomic boolean;
	last text;
	total bigint;
	before bigint;
	done bigint;
	started timestamptz := clock_timestamp();
	reported timestamptz := started;
BEGIN
	IF model IS NULL THEN
		RETURN;
	END IF;
	CALL d2c_is_atomic(atomic);
	EXECUTE format('SELECT count(*), count(%I) FROM %s', attached, result) INTO total, before;
	LOOP
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
		last := d2c_attach_page(result, 'id', attached, format('UPDATE %1$s t SET %2$I = e.d
			FROM (SELECT id, %3$s%%2$s(image, $1, $2) %%1$s AS d FROM %1$s WHERE id = ANY ($3::%4$s[])) e WHERE t.id = e.id',
			result, attached, embed, id_type), model, argument, 256, last);
		EXIT WHEN last IS NULL;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
		IF clock_timestamp() > reported + interval '5 seconds' THEN
			EXECUTE format('SELECT count(%I) FROM %s', attached, result) INTO done;
			PERFORM d2c_report('attached', done, total, before, started);
			reported := clock_timestamp();
		END IF;
	END LOOP;
END $$;
COMMENT ON PROCEDURE d2c_attach_images(text, text, text, text, integer) IS
	'support of d2c''s procedures: fills column attached where it is missing with what function embed makes of image, model and argument, page by page; nothing when model is null';

CREATE PROCEDURE d2c_attach_all(result text, text_model text, tokens integer, visual_model text, visual_tokens integer,
	latent_model text, latent_size integer)
	LANGUAGE plpgsql AS $$
DECLARE
	path text := pg_catalog.current_setting('search_path');
	atomic boolean;
	last text;
BEGIN
	CALL d2c_is_atomic(atomic);
	LOOP
		EXIT WHEN text_model IS NULL;
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
		last := d2c_attach_page(result, 'prompt', 'text_embedding', format('UPDATE %s t SET text_embedding = (e.d).embedding, text_mask = (e.d).mask
			FROM (SELECT k, d2c_text_embedding%%2$s(k, $1, $2) %%1$s AS d FROM unnest($3) k) e WHERE t.prompt = e.k', result), text_model, tokens, 256, last);
		EXIT WHEN last IS NULL;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
	END LOOP;
	CALL d2c_attach_images(result, 'visual_embedding', 'd2c_visual_embedding', visual_model, visual_tokens);
	PERFORM pg_catalog.set_config('search_path', path, true);
	CALL d2c_attach_images(result, 'latent', 'd2c_latent', latent_model, latent_size);
END $$;
COMMENT ON PROCEDURE d2c_attach_all(text, text, integer, text, integer, text, integer) IS 'support of d2c''s procedures: attaches what is missing, page by page';

CREATE FUNCTION d2c_attach_parameters(prompt text, text_model text, tokens integer, visual_model text, visual_tokens integer,
	latent_model text, latent_size integer) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	parameters jsonb := jsonb_build_object('prompt', prompt);
BEGIN
	IF prompt IS NULL THEN
		RAISE EXCEPTION 'prompt must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'It holds %s where the class name goes.';
	END IF;
	PERFORM d2c_require_arguments(jsonb_build_object('tokens', tokens, 'visual_tokens', visual_tokens, 'latent_size', latent_size));
	IF visual_tokens < 0 THEN
		RAISE EXCEPTION 'number of tokens must be at least 0, not %', visual_tokens USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF text_model IS NOT NULL THEN
		PERFORM d2c_text_embedding('', text_model, tokens);
		parameters := parameters || jsonb_build_object('text_model', text_model, 'text_sha256', (d2c_model_info(text_model)).sha256, 'tokens', tokens);
	END IF;
	IF visual_model IS NOT NULL THEN
		PERFORM d2c_visual_embedding(d2c_one_pixel(), visual_model, visual_tokens);
		parameters := parameters || jsonb_build_object('visual_model', visual_model, 'visual_sha256', (d2c_model_info(visual_model)).sha256, 'visual_tokens', visual_tokens);
		IF (d2c_model_info(visual_model)).vae IS NOT NULL THEN
			parameters := parameters || jsonb_build_object('visual_vae', d2c_vae_parameters((d2c_model_info(visual_model)).vae));
		END IF;
	END IF;
	IF latent_model IS NOT NULL THEN
		PERFORM d2c_latent(d2c_one_pixel(), latent_model, latent_size);
		parameters := parameters || jsonb_build_object('latent_model', latent_model, 'latent_sha256', (d2c_model_info(latent_model)).sha256, 'latent_size', latent_size);
	END IF;
	RETURN parameters;
END $$;
COMMENT ON FUNCTION d2c_attach_parameters(text, text, integer, text, integer, text, integer) IS 'support of d2c''s procedures: what a result table records of its attachments';

CREATE PROCEDURE d2c_attach(source regclass, target text, text_model text DEFAULT NULL, visual_model text DEFAULT NULL,
	prompt text DEFAULT 'a photo of a %s', tokens integer DEFAULT 16, visual_tokens integer DEFAULT 0, image_column text DEFAULT 'image',
	label_column text DEFAULT 'label', class_column text DEFAULT NULL, id_column text DEFAULT NULL,
	latent_model text DEFAULT NULL, latent_size integer DEFAULT 256)
	LANGUAGE plpgsql AS $$
DECLARE
	caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
	caller_schema pg_catalog.name := pg_catalog.current_schema();
	path pg_catalog.text;
	atomic boolean;
	columns pg_catalog.record;
	parameters pg_catalog.jsonb;
	result pg_catalog.text;
	gaps boolean := false;
	handled bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT format('pg_catalog, %I, pg_temp', n.nspname) INTO path
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c';
	PERFORM set_config('search_path', path, true);
	CALL d2c_is_atomic(atomic);
	IF atomic THEN
		RAISE NOTICE 'd2c_attach runs inside a transaction: nothing is committed before it ends';
	END IF;
	columns := d2c_source_columns(source, id_column, label_column, class_column, image_column);
	result := d2c_result_name(target, '', caller_schema);
	parameters := jsonb_build_object('source', columns.relation, 'id', columns.id, 'label', columns.label, 'class', columns.class, 'image', columns.image)
		|| d2c_attach_parameters(prompt, text_model, tokens, visual_model, visual_tokens, latent_model, latent_size);
	IF d2c_result_is_new(result, 'd2c_attach', parameters) THEN
		PERFORM d2c_make_condensed(result, columns.id_type, parameters, 'd2c_attach');
	END IF;
	LOOP
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
		EXECUTE format('INSERT INTO %1$s (id, label, class, image, prompt, sqlstate, error)
			SELECT %2$s, %3$s, %4$s, %5$s, replace($1, ''%%s'', %4$s), CASE WHEN %5$s IS NULL THEN ''22004'' END, CASE WHEN %5$s IS NULL THEN ''image is null'' END
			FROM %6$s o %7$s ORDER BY o.%2$s LIMIT 4096', result, columns.id, columns.label, columns.class, columns.image, columns.relation,
			d2c_rows_to_do(result, columns.id, columns.id_type, gaps)) USING prompt;
		GET DIAGNOSTICS handled = ROW_COUNT;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
		EXIT WHEN handled = 0 AND gaps;
		gaps := gaps OR handled = 0;
	END LOOP;
	CALL d2c_attach_all(result, text_model, tokens, visual_model, visual_tokens, latent_model, latent_size);
	IF NOT atomic THEN
		COMMIT;
	END IF;
	PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $$;
COMMENT ON PROCEDURE d2c_attach(regclass, text, text, text, text, integer, integer, text, text, text, text, text, integer) IS
	'copies every row of a table (image bytea, integer label) into target and attaches embeddings of its class''s prompt and of its image, and with latent_model its latent as d2c_latent gives it, page by page; called again it goes on; a bad row has its error in the result';

DROP PROCEDURE d2c_score(regclass, text, text, integer, bigint, text, text, text, integer, integer, text);

CREATE FUNCTION d2c_one_pixel() RETURNS bytea
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT '\x89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a4944415478da6360000000020001e527defc0000000049454e44ae426082'::pg_catalog.bytea
$$;
COMMENT ON FUNCTION d2c_one_pixel() IS
	'support of d2c''s procedures: the smallest PNG, one grey pixel: what a model cannot do is to be known before hours of work';

CREATE FUNCTION d2c_comment_columns(result text) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	name text;
	meaning text;
BEGIN
	FOR name, meaning IN SELECT * FROM (VALUES
		('id', 'key of the row in the source table'),
		('label', 'class number, as the scorer takes it'),
		('class', 'class name'),
		('image', 'the image file, as in the source table'),
		('score', 'diffusion difficulty, mean squared error of the predicted noise: high is hard; NULL when sqlstate is set'),
		('rank', 'place in the class by (score, id), from 0 for the easiest'),
		('prompt', 'text that text_embedding is made of'),
		('text_embedding', 'last hidden state of the text encoder, f32 [tokens, width]'),
		('text_mask', 'which tokens the prompt fills, u8 [tokens]'),
		('visual_embedding', 'hidden tokens of the visual encoder, f16 [tokens, width]'),
		('latent', 'posterior that the autoencoder has of the image, f32 [2c, h, h]: mean, then standard deviation, not scaled'),
		('digest', 'first 16 bytes of the image file''s sha256 when it was scored'),
		('model', 'name of the scoring model'),
		('model_sha256', 'digest of the scoring model''s weights'),
		('device', 'device of the engine that scored: scores of different devices are not mixed'),
		('precision', 'precision of matrix products when scoring'),
		('build', 'build of the engine that scored'),
		('timesteps', 'number of timesteps of the score'),
		('seed', 'seed of the score''s noise'),
		('sqlstate', 'SQLSTATE of what is wrong with the row; NULL when nothing is'),
		('error', 'what is wrong with the row')) v (c, m)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass(result) AND a.attname = v.c
	LOOP
		EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', result, name, meaning);
	END LOOP;
END $$;
COMMENT ON FUNCTION d2c_comment_columns(text) IS 'support of d2c''s procedures: comments of a result table''s columns';

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

CREATE PROCEDURE d2c_score(source regclass, target text, model text, timesteps integer DEFAULT 8, seed bigint DEFAULT 0,
	image_column text DEFAULT 'image', label_column text DEFAULT 'label', id_column text DEFAULT NULL,
	page_rows integer DEFAULT NULL, max_pages integer DEFAULT NULL, vae text DEFAULT NULL, changed boolean DEFAULT false)
	LANGUAGE plpgsql AS $$
DECLARE
	caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
	caller_schema pg_catalog.name := pg_catalog.current_schema();
	path pg_catalog.text;
	atomic boolean;
	columns pg_catalog.record;
	scorer pg_catalog.record;
	parameters pg_catalog.jsonb;
	run pg_catalog.jsonb;
	result pg_catalog.text;
	fresh boolean;
	to_check boolean := coalesce(changed, false);
	plan pg_catalog.record;
	taken pg_catalog.record;
	progress pg_catalog.record;
	after text;
	pages integer := 0;
	waits integer := 0;
	before bigint;
	started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
	reported pg_catalog.timestamptz := pg_catalog.clock_timestamp();
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT format('pg_catalog, %I, pg_temp', n.nspname) INTO path
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c';
	PERFORM set_config('search_path', path, true);
	CALL d2c_is_atomic(atomic);
	IF atomic THEN
		RAISE NOTICE 'd2c_score runs inside a transaction: nothing is committed before it ends';
	END IF;
	PERFORM d2c_require_arguments(jsonb_build_object('model', model, 'timesteps', timesteps, 'seed', seed, 'changed', changed));
	IF page_rows < 1 OR max_pages < 1 THEN
		RAISE EXCEPTION 'page_rows and max_pages must be at least 1' USING ERRCODE = 'invalid_parameter_value';
	END IF;

	columns := d2c_source_columns(source, id_column, label_column, NULL, image_column);
	result := d2c_result_name(target, '', caller_schema);
	scorer := d2c_model_info(model);
	PERFORM d2c_difficulty(d2c_one_pixel(), 0, model, CASE WHEN timesteps BETWEEN 1 AND 1000 THEN 1 ELSE timesteps END, seed, coalesce(vae, ''));
	parameters := jsonb_build_object('source', columns.relation, 'id', columns.id, 'label', columns.label, 'image', columns.image,
		'model', model, 'sha256', scorer.sha256, 'device', scorer.device, 'precision', scorer.precision,
		'timesteps', timesteps, 'seed', seed) || d2c_vae_parameters(coalesce(nullif(vae, ''), scorer.vae));
	run := parameters || jsonb_build_object('result', result, 'pages', d2c_result_name(target, '_pages', caller_schema),
		'id_type', columns.id_type, 'build', scorer.build);
	IF NOT atomic AND current_setting('transaction_isolation') <> 'read committed' THEN
		CALL d2c_commit(path);
	END IF;
	IF to_regclass(result) IS NULL OR to_regclass(run ->> 'pages') IS NULL THEN
		PERFORM d2c_lock_result(result);
	END IF;
	fresh := d2c_result_is_new(result, 'd2c_score', parameters);
	IF fresh THEN
		EXECUTE format('CREATE TABLE %s (id %s PRIMARY KEY, label bigint, score double precision, sqlstate text, error text, digest bytea,
			model text, model_sha256 text, device text, precision text, build text, timesteps integer, seed bigint)', result, columns.id_type);
		PERFORM d2c_comment_result(result, 'd2c_score', parameters);
	END IF;
	PERFORM d2c_require_pages(run, fresh);
	IF NOT atomic THEN
		CALL d2c_commit(path);
	END IF;
	progress := d2c_page_progress(run);
	before := progress.done;
	-- Whoever comes to a check that is under way takes part in it.
	to_check := to_check AND NOT progress.checking;

	WHILE max_pages IS NULL OR pages < max_pages LOOP
		taken := d2c_take_page(run, after, page_rows);
		IF taken.page IS NOT NULL AND NOT taken.cut THEN
			PERFORM d2c_score_page(run, taken.page, taken.recheck, taken.first, taken.last);
			after := taken.last;
			pages := pages + 1;
			waits := 0;
		ELSIF taken.page IS NULL AND after IS NOT NULL THEN
			after := NULL;			-- There may be free ones before.
			CONTINUE;
		ELSIF taken.page IS NULL THEN
			plan := d2c_plan_pages(run, to_check, page_rows);
			EXIT WHEN plan.made = 0 AND NOT to_check;
			IF plan.made IS NULL THEN
				-- Others cut or finish pages all the time: only who waits for long says so.
				waits := waits + 1;
				IF waits <= 20 THEN
					PERFORM pg_sleep(0.05);
				ELSE
					PERFORM d2c_wait_for_page(run, waits = 21);
				END IF;
			ELSE
				IF plan.removed > 0 THEN
					RAISE NOTICE 'removed the scores of % rows that are no longer in %', plan.removed, columns.relation;
				END IF;
				before := CASE WHEN to_check THEN 0 ELSE before END;
				to_check := false;
			END IF;
		END IF;
		IF NOT atomic THEN
			CALL d2c_commit(path);
		END IF;
		IF clock_timestamp() > reported + interval '5 seconds' THEN
			progress := d2c_page_progress(run);
			PERFORM d2c_report(progress.what, progress.done, progress.total, before, started);
			reported := clock_timestamp();
		END IF;
	END LOOP;
	progress := d2c_page_progress(run);
	PERFORM d2c_report(progress.what, progress.done, progress.total, before, started);
	IF NOT atomic THEN
		COMMIT;
	END IF;
	PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $$;
COMMENT ON PROCEDURE d2c_score(regclass, text, text, integer, bigint, text, text, text, integer, integer, text, boolean) IS
	'scores every row of a table (image bytea, integer label) into target, by pages in the order of its key, one transaction each; called again it goes on with the rows that have no score; sessions that call it at once share the pages, which are in target_pages, and each returns when all are done; with changed, rows whose image or label differs from what was scored are scored again, and scores of rows that are gone removed; a bad row has its error in the result; the key defaults to the primary key, page_rows to pages of some ten seconds, vae to the model''s own autoencoder where it takes latents';

CREATE FUNCTION d2c_wanted_workers(relation regclass) RETURNS integer
	LANGUAGE sql STABLE AS $$
	SELECT CASE WHEN size >= least THEN 1 + floor(log(3, size / least))::integer ELSE 0 END
	FROM (SELECT pg_catalog.pg_table_size(relation)::numeric AS size,
		greatest(pg_catalog.pg_size_bytes(pg_catalog.current_setting('min_parallel_table_scan_size')), 8192)::numeric AS least) s
$$;
COMMENT ON FUNCTION d2c_wanted_workers(regclass) IS
	'support of d2c_prepare_table: parallel workers by the planner''s own rule (one at min_parallel_table_scan_size, one more for three times as much), but of the table with its TOAST, where images are and the planner does not look';

CREATE FUNCTION d2c_prepare_table(source regclass, image_column text DEFAULT 'image',
	OUT relation regclass, OUT setting text, OUT before text, OUT after text) RETURNS SETOF record
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	kind "char" := (SELECT c.relkind FROM pg_class c WHERE c.oid = source);
	column_name text;
	compressed bigint;
	most integer := 0;
BEGIN
	PERFORM set_config('search_path', (SELECT format('pg_catalog, %I, pg_temp', n.nspname)
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c'), true);
	PERFORM d2c_require_arguments(jsonb_build_object('source', source, 'image_column', image_column));
	IF kind IS NULL THEN
		RAISE EXCEPTION 'table with OID % does not exist', source::oid USING ERRCODE = 'undefined_table';
	ELSIF kind NOT IN ('r', 'p', 'm') THEN
		RAISE EXCEPTION '"%" is not a table', source
			USING ERRCODE = 'wrong_object_type', HINT = 'Name the table, the partitioned table or the materialized view that holds the images.';
	ELSIF NOT (SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = source) THEN
		RAISE EXCEPTION 'must be owner of table %', source USING ERRCODE = 'insufficient_privilege';
	END IF;
	column_name := d2c_source_column(source, image_column, '{bytea}');
	FOR relation, kind, before IN
		WITH RECURSIVE tree (oid) AS (SELECT source::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON tree.oid = i.inhparent)
		SELECT c.oid, c.relkind, (SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'parallel_workers')
			FROM tree JOIN pg_class c USING (oid) WHERE c.relkind IN ('r', 'p', 'm') ORDER BY c.oid <> source, c.oid
	LOOP
		IF kind <> 'p' THEN
			setting := 'parallel_workers';
			after := before;
			IF d2c_wanted_workers(relation) > coalesce(before::integer, 0) THEN
				after := d2c_wanted_workers(relation)::text;
				EXECUTE format('ALTER %s %s SET (parallel_workers = %s)', CASE kind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, relation, after);
			END IF;
			most := greatest(most, after::integer);
			RETURN NEXT;
		END IF;
		setting := 'storage of ' || column_name;
		SELECT CASE a.attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' ELSE 'extended' END INTO before
			FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = image_column;
		after := 'external';
		IF before <> after THEN
			EXECUTE format('ALTER %s %s ALTER %s SET STORAGE EXTERNAL', CASE kind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
				CASE kind WHEN 'm' THEN relation::text ELSE 'ONLY ' || relation END, column_name);
			EXECUTE format('SELECT count(*) FROM ONLY %s WHERE pg_column_compression(%s) IS NOT NULL', relation, column_name) INTO compressed;
			IF compressed > 0 THEN
				RAISE NOTICE '% images in % are stored compressed, and stay so', compressed, relation
					USING HINT = format('UPDATE %1$s SET %2$s = %2$s || '''' WHERE pg_column_compression(%2$s) IS NOT NULL stores them anew.', relation, column_name);
			END IF;
		END IF;
		RETURN NEXT;
	END LOOP;
	IF most > current_setting('max_parallel_workers_per_gather')::integer THEN
		RAISE NOTICE 'a query uses at most % parallel workers, not %', current_setting('max_parallel_workers_per_gather'), most
			USING HINT = 'The setting max_parallel_workers_per_gather decides.';
	END IF;
END $$;
COMMENT ON FUNCTION d2c_prepare_table(regclass, text) IS
	'prepares a table of images, with its partitions: storage EXTERNAL for the images, which are compressed by themselves, and parallel_workers by the size with TOAST, since the planner counts the rest alone and so plans no parallel query of images; changes nothing that is so already, lowers no parallel_workers, and returns each setting before and after; needs the owner';

CREATE FUNCTION d2c_path() RETURNS text
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT format('pg_catalog, %I, pg_temp', n.nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c';
END;
COMMENT ON FUNCTION d2c_path() IS 'support of d2c''s selections: the search_path of its support functions';

CREATE FUNCTION d2c_selection_schema(schema text) RETURNS text
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT coalesce(schema,
		(SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('d2c_selections')),
		current_schema())::text;
END;
COMMENT ON FUNCTION d2c_selection_schema(text) IS
	'support of d2c''s selections: the schema given, else that of the d2c_selections that search_path finds, else the first schema of search_path';

CREATE FUNCTION d2c_comment_selections(schema text) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	relation text;
	name text;
	meaning text;
BEGIN
	FOR relation, name, meaning IN VALUES
		('d2c_selections', 'name', 'unique in this table'),
		('d2c_selections', 'method', 'how it was made'),
		('d2c_selections', 'parameters', 'of the method'),
		('d2c_selections', 'seed', 'of the method, or of the scores it goes by'),
		('d2c_selections', 'scorer', 'name of the model whose scores it goes by'),
		('d2c_selections', 'scorer_sha256', 'digest of that model''s weights'),
		('d2c_selections', 'source', 'table that the rows are in, quoted, with its schema'),
		('d2c_selections', 'id_column', 'key of the source'),
		('d2c_selections', 'label_column', 'class number in the source'),
		('d2c_selections', 'image_column', 'image file in the source'),
		('d2c_selections', 'items', 'number of rows; set when it is closed'),
		('d2c_selections', 'classes', 'number of classes among them; set when it is closed'),
		('d2c_selections', 'digest', 'of all items: sha256 in hex of the lines label, tab, digest of the class, by label; the digest of a class is that of the lines position, tab, id, tab, rank, tab, score, tab, digest in hex, by position; missing values are empty'),
		('d2c_selections', 'creator', 'role that made it'),
		('d2c_selections', 'created', 'when'),
		('d2c_selections', 'closed', 'since when it cannot be changed; NULL: open'),
		('d2c_selection_items', 'selection', 'id of the selection'),
		('d2c_selection_items', 'label', 'class number, or whatever group it was selected in; NULL without groups'),
		('d2c_selection_items', 'position', 'place in the class, from 1, in the order of selection'),
		('d2c_selection_items', 'id', 'key of the row in the source, as text'),
		('d2c_selection_items', 'rank', 'place in the ranking of the class, from 0 for the easiest'),
		('d2c_selection_items', 'score', 'score of the row when it was selected'),
		('d2c_selection_items', 'digest', 'first 16 bytes of the image file''s sha256 when it was selected; NULL: not known')
	LOOP
		EXECUTE format('COMMENT ON COLUMN %I.%I.%I IS %L', schema, relation, name, meaning);
	END LOOP;
END $$;
COMMENT ON FUNCTION d2c_comment_selections(text) IS 'support of d2c''s selections: comments of the columns';

CREATE FUNCTION d2c_selection_totals() RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT 'SELECT sum(items), count(label), encode(sha256(convert_to(string_agg(format(E''%%s\t%%s\n'', label, digest), '''' ORDER BY label), ''UTF8'')), ''hex'')
			FROM (SELECT label, count(*) AS items, encode(sha256(convert_to(string_agg(format(E''%%s\t%%s\t%%s\t%%s\t%%s\n'', position, id, rank, score, encode(digest, ''hex'')), '''' ORDER BY position), ''UTF8'')), ''hex'') AS digest
				FROM %I.d2c_selection_items WHERE selection = $1 GROUP BY label) c'
$$;
COMMENT ON FUNCTION d2c_selection_totals() IS
	'support of d2c''s selections: the query for items, classes and digest of a selection $1 in schema %I, with extra_float_digits = 1; the guard has a copy of it';

CREATE FUNCTION d2c_guard_selections(schema text) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	-- It outlives tables that were dropped.  Built-in functions only: the guard works without the extension, in a restored database, under any search_path.
	EXECUTE format('CREATE OR REPLACE FUNCTION %I.d2c_selection_guard() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS %L', schema, replace($guard$
DECLARE
	dropped text := current_setting('d2c_selection.dropped', true);
	touched text := CASE TG_OP WHEN 'UPDATE' THEN 'SELECT selection FROM before UNION SELECT selection FROM after' WHEN 'DELETE' THEN 'SELECT selection FROM before' ELSE 'SELECT selection FROM after' END;
	one record;
	mine boolean;
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		FOR one IN EXECUTE format('SELECT name FROM %I.d2c_selections WHERE closed IS NOT NULL ORDER BY id LIMIT 1', TG_TABLE_SCHEMA) LOOP
			RAISE EXCEPTION 'selection "%" is closed', one.name USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = format('Table %I.%I holds closed selections.', TG_TABLE_SCHEMA, TG_TABLE_NAME), HINT = 'Drop selections one by one with d2c_selection_drop(), or drop both tables.';
		END LOOP;
		RETURN NULL;
	ELSIF TG_LEVEL = 'STATEMENT' THEN
		-- Whoever closes a selection waits for this transaction, and this one for him.
		FOR one IN EXECUTE format('SELECT id, name, closed FROM %I.d2c_selections WHERE id IN (%s) FOR SHARE', TG_TABLE_SCHEMA, touched) LOOP
			IF one.closed IS NOT NULL AND NOT (TG_OP = 'DELETE' AND one.id::text IS NOT DISTINCT FROM dropped) THEN
				RAISE EXCEPTION 'selection "%" is closed', one.name USING ERRCODE = 'object_not_in_prerequisite_state',
					DETAIL = 'Its items cannot be changed.', HINT = 'Make another selection, or drop it whole with d2c_selection_drop().';
			END IF;
		END LOOP;
		RETURN NULL;
	ELSIF TG_OP = 'INSERT' THEN
		IF NEW.closed IS NOT NULL THEN
			RAISE EXCEPTION 'selection "%" cannot be closed before it has items', NEW.name USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Insert it open, then its items, then close it; to restore data into tables that are there, use --disable-triggers.';
		END IF;
		RETURN NEW;
	ELSIF OLD.closed IS NOT NULL AND NOT (TG_OP = 'DELETE' AND OLD.id::text IS NOT DISTINCT FROM dropped) THEN
		RAISE EXCEPTION 'selection "%" is closed', OLD.name USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'It cannot be changed.', HINT = 'Make another selection, or drop it whole with d2c_selection_drop().';
	ELSIF TG_OP = 'DELETE' THEN
		RETURN OLD;
	ELSIF NEW.closed IS NOT NULL THEN
		EXECUTE format('SELECT xmin::text = pg_current_xact_id()::xid::text FROM %I.d2c_selections WHERE id = $1', TG_TABLE_SCHEMA) INTO mine USING OLD.id;
		IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') AND NOT mine THEN
			RAISE EXCEPTION 'cannot close selection "%" in a transaction that is %', OLD.name, current_setting('transaction_isolation')
				USING ERRCODE = 'active_sql_transaction', DETAIL = 'Items that others have inserted since it began are not visible to it.', HINT = 'Close it in a transaction that is read committed.';
		END IF;
		EXECUTE format(TOTALS, TG_TABLE_SCHEMA) INTO NEW.items, NEW.classes, NEW.digest USING OLD.id;
		IF NEW.items IS NULL THEN
			RAISE EXCEPTION 'selection "%" has no items', OLD.name USING ERRCODE = 'no_data_found', HINT = 'Insert its rows into d2c_selection_items, or delete it.';
		END IF;
	END IF;
	RETURN NEW;
END $guard$, 'TOTALS', quote_literal(d2c_selection_totals())));
	EXECUTE format('COMMENT ON FUNCTION %I.d2c_selection_guard() IS %L', schema, 'keeps closed selections from being changed, and counts and digests a selection when it is closed');
	EXECUTE format('CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON %1$I.d2c_selections FOR EACH ROW EXECUTE FUNCTION %1$I.d2c_selection_guard();
		CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON %1$I.d2c_selections FOR EACH STATEMENT EXECUTE FUNCTION %1$I.d2c_selection_guard();
		CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON %1$I.d2c_selection_items FOR EACH STATEMENT EXECUTE FUNCTION %1$I.d2c_selection_guard();
		CREATE TRIGGER guard_insert AFTER INSERT ON %1$I.d2c_selection_items REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION %1$I.d2c_selection_guard();
		CREATE TRIGGER guard_update AFTER UPDATE ON %1$I.d2c_selection_items REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION %1$I.d2c_selection_guard();
		CREATE TRIGGER guard_delete AFTER DELETE ON %1$I.d2c_selection_items REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION %1$I.d2c_selection_guard()', schema);
END $$;
COMMENT ON FUNCTION d2c_guard_selections(text) IS
	'support of d2c''s selections: makes the trigger function, which is the user''s own and needs no extension, and the triggers';

CREATE FUNCTION d2c_selections_are_there(schema text) RETURNS boolean
	LANGUAGE plpgsql AS $$
DECLARE
	description text;
BEGIN
	-- A query, for to_regclass() may not have heard of what another session has just committed.
	SELECT coalesce(obj_description(c.oid, 'pg_class'), '') INTO description
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = schema AND c.relname = 'd2c_selections';
	IF left(description, 17) <> 'Selections of d2c' THEN
		RAISE EXCEPTION 'table %.d2c_selections exists and does not hold selections of d2c', quote_ident(schema) USING ERRCODE = 'duplicate_table', HINT = 'Name another schema.';
	END IF;
	RETURN description IS NOT NULL;
END $$;
COMMENT ON FUNCTION d2c_selections_are_there(text) IS 'support of d2c''s selections: whether a schema has their tables; an error when it has others of the name';

CREATE FUNCTION d2c_require_selections(schema text) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	IF schema IS NULL THEN
		RAISE EXCEPTION 'no schema has been selected to create in' USING ERRCODE = 'invalid_schema_name', HINT = 'Name the schema, or set search_path.';
	ELSIF d2c_selections_are_there(schema) THEN
		RETURN;
	END IF;
	PERFORM d2c_lock_result(format('%I.d2c_selections', schema));
	IF d2c_selections_are_there(schema) THEN		-- Another session was first.
		RETURN;
	END IF;
	EXECUTE format('CREATE TABLE %1$I.d2c_selections (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE CHECK (name <> ''''),
		method text NOT NULL, parameters jsonb NOT NULL DEFAULT ''{}'', seed bigint, scorer text, scorer_sha256 text,
		source text, id_column text, label_column text, image_column text, items bigint, classes bigint, digest text,
		creator text NOT NULL DEFAULT current_user, created timestamptz NOT NULL DEFAULT now(), closed timestamptz,
		CHECK (closed IS NULL OR items IS NOT NULL AND classes IS NOT NULL AND digest IS NOT NULL));
		CREATE TABLE %1$I.d2c_selection_items (selection bigint NOT NULL REFERENCES %1$I.d2c_selections, label bigint, position bigint NOT NULL CHECK (position > 0), id text NOT NULL,
		rank bigint, score double precision, digest bytea, PRIMARY KEY (selection, id), UNIQUE NULLS NOT DISTINCT (selection, label, position))', schema);
	EXECUTE format('COMMENT ON TABLE %1$I.d2c_selections IS ''Selections of d2c: one row each, which cannot be changed once it is closed'';
		COMMENT ON TABLE %1$I.d2c_selection_items IS ''The rows of the selections in d2c_selections''', schema);
	PERFORM d2c_comment_selections(schema);
	PERFORM d2c_guard_selections(schema);
END $$;
COMMENT ON FUNCTION d2c_require_selections(text) IS
	'support of d2c''s selections: makes the tables d2c_selections and d2c_selection_items of a schema where they are missing, with their guard';

CREATE FUNCTION d2c_find_selection(schema text, name text, closed boolean) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	found jsonb;
BEGIN
	PERFORM d2c_require_arguments(jsonb_build_object('name of a selection', name));
	IF schema IS NOT NULL AND d2c_selections_are_there(schema) THEN
		EXECUTE format('SELECT to_jsonb(s) FROM %I.d2c_selections s WHERE s.name = $1', schema) INTO found USING name;
	END IF;
	IF found IS NULL THEN
		RAISE EXCEPTION 'selection "%" does not exist', name
			USING ERRCODE = 'undefined_object', DETAIL = format('It was looked for in schema "%s".', schema), HINT = 'Name the schema, or set search_path, where it is in another one.';
	ELSIF closed AND found ->> 'closed' IS NULL THEN
		RAISE EXCEPTION 'selection "%" is still open', name
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Close it with d2c_selection_close() when it has its items.';
	END IF;
	RETURN found || jsonb_build_object('schema', schema);
END $$;
COMMENT ON FUNCTION d2c_find_selection(text, text, boolean) IS 'support of d2c''s selections: one by its name, an error where there is none, or where it is to be closed and is open';

CREATE FUNCTION d2c_selection_is_taken(schema text, name text) RETURNS boolean
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	taken boolean := false;
BEGIN
	IF name = '' THEN
		RAISE EXCEPTION 'name of a selection must not be empty' USING ERRCODE = 'invalid_name';
	ELSIF to_regnamespace(quote_ident(schema)) IS NULL AND schema IS NOT NULL AND name IS NOT NULL THEN
		RAISE EXCEPTION 'schema "%" does not exist', schema USING ERRCODE = 'invalid_schema_name';
	END IF;
	IF schema IS NOT NULL AND d2c_selections_are_there(schema) THEN
		EXECUTE format('SELECT EXISTS (SELECT FROM %I.d2c_selections s WHERE s.name = $1)', schema) INTO taken USING name;
	END IF;
	RETURN taken;
END $$;
COMMENT ON FUNCTION d2c_selection_is_taken(text, text) IS 'support of d2c''s selections: whether there is one of the name; an error where the name is empty or there is no such schema';

CREATE FUNCTION d2c_refuse_selection(schema text, name text) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF d2c_selection_is_taken(schema, name) THEN
		RAISE EXCEPTION 'selection "%" already exists', name
			USING ERRCODE = 'duplicate_object', DETAIL = format('It is in schema "%s".', schema), HINT = 'Give another name; d2c_selection_drop() drops a selection.';
	END IF;
END $$;
COMMENT ON FUNCTION d2c_refuse_selection(text, text) IS 'support of d2c''s selections: an error where the name is taken or empty';

CREATE FUNCTION d2c_open_selection(schema text, name text, description jsonb) RETURNS bigint
	LANGUAGE plpgsql AS $$
DECLARE
	made bigint;
BEGIN
	PERFORM d2c_require_selections(schema);
	PERFORM d2c_refuse_selection(schema, name);
	-- Waits for a session that is making the same name.
	EXECUTE format('INSERT INTO %I.d2c_selections (name, method, parameters, seed, scorer, scorer_sha256, source, id_column, label_column, image_column)
		SELECT $1, d.method, coalesce(d.parameters, ''{}''), d.seed, d.scorer, d.scorer_sha256, d.source, d.id_column, d.label_column, d.image_column
		FROM jsonb_to_record($2) d (method text, parameters jsonb, seed bigint, scorer text, scorer_sha256 text, source text, id_column text, label_column text, image_column text)
		ON CONFLICT (name) DO NOTHING RETURNING id', schema) INTO made USING name, description;
	IF made IS NULL THEN
		PERFORM d2c_refuse_selection(schema, name);
	END IF;
	RETURN made;
END $$;
COMMENT ON FUNCTION d2c_open_selection(text, text, jsonb) IS 'support of d2c''s selections: an open one of a name that is not taken; returns its id';

CREATE FUNCTION d2c_close_selection(schema text, selection bigint) RETURNS bigint
	LANGUAGE plpgsql AS $$
DECLARE
	items bigint;
BEGIN
	EXECUTE format('UPDATE %I.d2c_selections s SET closed = clock_timestamp() WHERE s.id = $1 RETURNING s.items', schema) INTO items USING selection;
	RETURN items;
END $$;
COMMENT ON FUNCTION d2c_close_selection(text, bigint) IS 'support of d2c''s selections: closes one; the guard counts its items and digests them; returns how many there are';

CREATE FUNCTION d2c_describe_selection(method text, source regclass, parameters jsonb, seed bigint, scorer text, scorer_sha256 text,
	id_column text, label_column text, image_column text) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	columns record;
	description jsonb;
BEGIN
	PERFORM d2c_require_arguments(jsonb_build_object('method', method));
	IF jsonb_typeof(parameters) <> 'object' THEN
		RAISE EXCEPTION 'parameters must be a JSON object' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF scorer IS NOT NULL AND scorer_sha256 IS NULL THEN
		scorer_sha256 := (d2c_model_info(scorer)).sha256;
	END IF;
	description := jsonb_build_object('method', method, 'parameters', parameters, 'seed', seed, 'scorer', scorer, 'scorer_sha256', scorer_sha256);
	IF source IS NULL THEN
		RETURN description;
	END IF;
	columns := d2c_source_columns(source, id_column, label_column, NULL, image_column);
	RETURN description || jsonb_build_object('source', columns.relation, 'id_column', (parse_ident(columns.id))[1],
		'label_column', (parse_ident(columns.label))[1], 'image_column', (parse_ident(columns.image))[1]);
END $$;
COMMENT ON FUNCTION d2c_describe_selection(text, regclass, jsonb, bigint, text, text, text, text, text) IS
	'support of d2c''s selections: what a row of d2c_selections says, once it is checked';

CREATE FUNCTION d2c_query_column(rows regclass, name text, types regtype[], required boolean) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	found_type regtype;
BEGIN
	SELECT a.atttypid INTO found_type FROM pg_attribute a WHERE a.attrelid = rows AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped;
	IF found_type IS NULL AND required THEN
		RAISE EXCEPTION 'the query gives no column "%"', name USING ERRCODE = 'undefined_column', HINT = 'It gives id, and label, score, rank and digest where they are known.';
	ELSIF found_type <> ALL (types) THEN
		RAISE EXCEPTION 'column "%" of the query is of type %', name, found_type
			USING ERRCODE = 'datatype_mismatch', DETAIL = format('Its type must be one of %s.', array_to_string(types, ', '));
	END IF;
	RETURN CASE WHEN found_type IS NOT NULL THEN 'q.' || quote_ident(name) END;
END $$;
COMMENT ON FUNCTION d2c_query_column(regclass, text, regtype[], boolean) IS
	'support of d2c_selection_make: a column of the query''s rows q, once its type is checked; NULL where it is missing and not required';

CREATE FUNCTION d2c_check_query(rows regclass, source text, source_id text) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	found record;
BEGIN
	EXECUTE format('SELECT count(*) AS rows, count(*) - count(q.id) AS nulls, count(q.id) - count(DISTINCT q.id::text) AS repeated FROM %s q', rows) INTO found;
	IF found.rows = 0 THEN
		RAISE EXCEPTION 'the query gives no rows' USING ERRCODE = 'no_data_found';
	ELSIF found.nulls > 0 OR found.repeated > 0 THEN
		RAISE EXCEPTION 'the ids of a selection must be unique and not null'
			USING ERRCODE = 'unique_violation', DETAIL = format('The query gives %s nulls and repeats %s values.', found.nulls, found.repeated);
	ELSIF source IS NULL THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT count(*) AS missing, string_agg(id, '', '' ORDER BY id) FILTER (WHERE place <= 5) AS examples FROM
			(SELECT q.id::text AS id, row_number() OVER (ORDER BY q.id) AS place FROM %s q WHERE NOT EXISTS (SELECT FROM %s o WHERE o.%s::text = q.id::text)) m',
		rows, source, source_id) INTO found;
	IF found.missing > 0 THEN
		RAISE EXCEPTION '% rows of the query are not in table %', found.missing, source USING ERRCODE = 'foreign_key_violation', DETAIL = format('Ids: %s.', found.examples || CASE WHEN found.missing > 5 THEN ', ...' ELSE '' END);
	END IF;
END $$;
COMMENT ON FUNCTION d2c_check_query(regclass, text, text) IS 'support of d2c_selection_make: an error unless the ids are unique, not null and in the source';

CREATE FUNCTION d2c_make_selection(path text, caller_path text, schema text, name text, query text, method text, source regclass, parameters jsonb,
	seed bigint, scorer text, scorer_sha256 text, id_column text, label_column text, image_column text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	description jsonb;
	rows regclass;
	label text;
	digest text;
	found text;
	made bigint;
BEGIN
	PERFORM set_config('search_path', path, true);
	PERFORM d2c_require_arguments(jsonb_build_object('name', name, 'query', query));
	PERFORM d2c_refuse_selection(schema, name);
	description := d2c_describe_selection(method, source, parameters, seed, scorer, scorer_sha256, id_column, label_column, image_column);
	PERFORM set_config('search_path', caller_path, true);
	EXECUTE format(E'CREATE TEMPORARY TABLE d2c_selection_rows ON COMMIT DROP AS SELECT * FROM (%s\n) d2c_query', query);
	PERFORM set_config('search_path', path, true);
	rows := 'pg_temp.d2c_selection_rows';
	PERFORM d2c_query_column(rows, 'id', '{smallint,integer,bigint,text,varchar,uuid}', true);
	label := d2c_query_column(rows, 'label', '{smallint,integer,bigint}', false);
	digest := d2c_query_column(rows, 'digest', '{bytea}', false);
	PERFORM d2c_check_query(rows, description ->> 'source', quote_ident(description ->> 'id_column'));
	IF source IS NOT NULL THEN
		label := coalesce(label, format('o.%I', description ->> 'label_column'));
		digest := coalesce(digest, format('d2c_image_digest(o.%I)', description ->> 'image_column'));
		found := format('JOIN %s o ON o.%I::text = q.id::text', description ->> 'source', description ->> 'id_column');
	END IF;
	made := d2c_open_selection(schema, name, description);
	-- The order of the query's rows is that of the selection.
	EXECUTE format('INSERT INTO %I.d2c_selection_items (selection, label, position, id, rank, score, digest)
		SELECT $1, %2$s, row_number() OVER (PARTITION BY %2$s ORDER BY q.ctid), q.id::text, %3$s, %4$s, %5$s FROM %6$s q %7$s', schema, coalesce(label, 'NULL::bigint'),
		coalesce(d2c_query_column(rows, 'rank', '{smallint,integer,bigint}', false), 'NULL'),
		coalesce(d2c_query_column(rows, 'score', '{real,double precision}', false), 'NULL'), coalesce(digest, 'NULL'), rows, found) USING made;
	DROP TABLE pg_temp.d2c_selection_rows;
	PERFORM d2c_close_selection(schema, made);
	RETURN made;
END $$;
COMMENT ON FUNCTION d2c_make_selection(text, text, text, text, text, text, regclass, jsonb, bigint, text, text, text, text, text) IS
	'support of d2c_selection_make';

CREATE FUNCTION d2c_selection_make(name text, query text, source regclass DEFAULT NULL, method text DEFAULT 'query', parameters jsonb DEFAULT NULL,
	seed bigint DEFAULT NULL, scorer text DEFAULT NULL, scorer_sha256 text DEFAULT NULL, schema text DEFAULT NULL,
	id_column text DEFAULT NULL, label_column text DEFAULT 'label', image_column text DEFAULT 'image') RETURNS bigint
	LANGUAGE sql
BEGIN ATOMIC
	SELECT d2c_make_selection(d2c_path(), current_setting('search_path'), d2c_selection_schema(schema), name, query, method, source,
		coalesce(parameters, jsonb_build_object('query', query)), seed, scorer, scorer_sha256, id_column, label_column, image_column);
END;
COMMENT ON FUNCTION d2c_selection_make(text, text, regclass, text, jsonb, bigint, text, text, text, text, text, text) IS
	'makes a selection of the rows that a query gives, in their order, and closes it; the query gives id (integer, text or uuid) and, where they are known, label, rank, score and digest; with source, a table of images, the ids must be in it, and label and digest are taken from there; parameters default to the query, schema to where search_path finds d2c_selections, else to its first; returns the selection''s id';

CREATE FUNCTION d2c_begin_selection(path text, schema text, name text, method text, source regclass, parameters jsonb,
	seed bigint, scorer text, scorer_sha256 text, id_column text, label_column text, image_column text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM set_config('search_path', path, true);
	PERFORM d2c_require_arguments(jsonb_build_object('name', name));
	RETURN d2c_open_selection(schema, name, d2c_describe_selection(method, source, parameters, seed, scorer, scorer_sha256, id_column, label_column, image_column));
END $$;
COMMENT ON FUNCTION d2c_begin_selection(text, text, text, text, regclass, jsonb, bigint, text, text, text, text, text) IS 'support of d2c_selection_open';

CREATE FUNCTION d2c_selection_open(name text, source regclass DEFAULT NULL, method text DEFAULT 'by hand', parameters jsonb DEFAULT '{}',
	seed bigint DEFAULT NULL, scorer text DEFAULT NULL, scorer_sha256 text DEFAULT NULL, schema text DEFAULT NULL,
	id_column text DEFAULT NULL, label_column text DEFAULT 'label', image_column text DEFAULT 'image') RETURNS bigint
	LANGUAGE sql
BEGIN ATOMIC
	SELECT d2c_begin_selection(d2c_path(), d2c_selection_schema(schema), name, method, source, parameters, seed, scorer, scorer_sha256, id_column, label_column, image_column);
END;
COMMENT ON FUNCTION d2c_selection_open(text, regclass, text, jsonb, bigint, text, text, text, text, text, text) IS
	'opens a selection for rows that are inserted into d2c_selection_items, and closed with d2c_selection_close(); returns its id, which is their column selection';

CREATE FUNCTION d2c_end_selection(path text, schema text, name text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM set_config('search_path', path, true);
	RETURN d2c_close_selection(schema, (d2c_find_selection(schema, name, false) ->> 'id')::bigint);
END $$;
COMMENT ON FUNCTION d2c_end_selection(text, text, text) IS 'support of d2c_selection_close';

CREATE FUNCTION d2c_selection_close(name text, schema text DEFAULT NULL) RETURNS bigint
	LANGUAGE sql
BEGIN ATOMIC
	SELECT d2c_end_selection(d2c_path(), d2c_selection_schema(schema), name);
END;
COMMENT ON FUNCTION d2c_selection_close(text, text) IS 'closes a selection: its items are counted and digested, and cannot be changed any more; returns their number';

CREATE FUNCTION d2c_remove_selection(path text, schema text, name text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET d2c_selection.dropped = '' AS $$
DECLARE
	selection bigint;
BEGIN
	PERFORM set_config('search_path', path, true);
	selection := (d2c_find_selection(schema, name, false) ->> 'id')::bigint;
	PERFORM set_config('d2c_selection.dropped', selection::text, true);
	EXECUTE format('DELETE FROM %I.d2c_selection_items i WHERE i.selection = $1', schema) USING selection;
	EXECUTE format('DELETE FROM %I.d2c_selections s WHERE s.id = $1', schema) USING selection;
END $$;
COMMENT ON FUNCTION d2c_remove_selection(text, text, text) IS 'support of d2c_selection_drop: the guard lets that selection go whose id is in d2c_selection.dropped';

CREATE FUNCTION d2c_selection_drop(name text, schema text DEFAULT NULL) RETURNS void
	LANGUAGE sql
BEGIN ATOMIC
	SELECT d2c_remove_selection(d2c_path(), d2c_selection_schema(schema), name);
END;
COMMENT ON FUNCTION d2c_selection_drop(text, text) IS 'drops a selection whole, closed or open';

CREATE FUNCTION d2c_compare_selections(path text, schema text, a text, b text)
	RETURNS TABLE (label bigint, id text, side text, rank_a bigint, rank_b bigint, score_a double precision, score_b double precision, changed boolean)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	left_id bigint;
	right_id bigint;
BEGIN
	PERFORM set_config('search_path', path, true);
	left_id := (d2c_find_selection(schema, a, false) ->> 'id')::bigint;
	right_id := (d2c_find_selection(schema, b, false) ->> 'id')::bigint;
	RETURN QUERY EXECUTE format('SELECT CASE WHEN l.id IS NULL THEN r.label ELSE l.label END, coalesce(l.id, r.id),
			CASE WHEN r.id IS NULL THEN ''a'' WHEN l.id IS NULL THEN ''b'' ELSE ''both'' END, l.rank, r.rank, l.score, r.score,
			l.id IS NOT NULL AND r.id IS NOT NULL AND (l.label IS DISTINCT FROM r.label OR coalesce(l.digest <> r.digest, false))
		FROM (SELECT * FROM %1$I.d2c_selection_items WHERE selection = $1) l FULL JOIN (SELECT * FROM %1$I.d2c_selection_items WHERE selection = $2) r ON r.id = l.id
		ORDER BY 1, 3, coalesce(l.position, r.position)', schema) USING left_id, right_id;
END $$;
COMMENT ON FUNCTION d2c_compare_selections(text, text, text, text) IS 'support of d2c_selection_diff';

CREATE FUNCTION d2c_selection_diff(a text, b text, schema text DEFAULT NULL)
	RETURNS TABLE (label bigint, id text, side text, rank_a bigint, rank_b bigint, score_a double precision, score_b double precision, changed boolean)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT * FROM d2c_compare_selections(d2c_path(), d2c_selection_schema(schema), a, b);
END;
COMMENT ON FUNCTION d2c_selection_diff(text, text, text) IS
	'every row that is in one of two selections: side is a, b or both; label is that in a where the row is there; changed where a row of both has another label or image in each';

CREATE FUNCTION d2c_selection_diff_summary(a text, b text, schema text DEFAULT NULL)
	RETURNS TABLE (label bigint, shared bigint, only_a bigint, only_b bigint, changed bigint)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT d.label, count(*) FILTER (WHERE d.side = 'both'), count(*) FILTER (WHERE d.side = 'a'), count(*) FILTER (WHERE d.side = 'b'), count(*) FILTER (WHERE d.changed)
		FROM d2c_compare_selections(d2c_path(), d2c_selection_schema(schema), a, b) d GROUP BY d.label ORDER BY d.label;
END;
COMMENT ON FUNCTION d2c_selection_diff_summary(text, text, text) IS 'd2c_selection_diff counted by class: rows that two selections share, that only one has, and that are changed';

CREATE FUNCTION d2c_compare_with_source(path text, schema text, name text) RETURNS TABLE (label bigint, id text, problem text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
	selection jsonb;
	found record;
BEGIN
	PERFORM set_config('search_path', path, true);
	selection := d2c_find_selection(schema, name, false);
	EXECUTE format(d2c_selection_totals(), schema) INTO found USING (selection ->> 'id')::bigint;
	IF selection ->> 'closed' IS NOT NULL AND found.encode IS DISTINCT FROM selection ->> 'digest' THEN
		problem := 'digest';
		RETURN NEXT;
	END IF;
	IF selection ->> 'source' IS NULL THEN
		RETURN;
	ELSIF to_regclass(selection ->> 'source') IS NULL THEN
		RAISE EXCEPTION 'relation "%" does not exist', selection ->> 'source' USING ERRCODE = 'undefined_table', DETAIL = format('It is the source of selection "%s".', name);
	END IF;
	RETURN QUERY EXECUTE format('SELECT * FROM (SELECT i.label, i.id, CASE WHEN o.%1$I IS NULL THEN ''gone'' WHEN o.%2$I::bigint IS DISTINCT FROM i.label AND i.label IS NOT NULL THEN ''label''
			WHEN d2c_image_digest(o.%3$I) IS DISTINCT FROM i.digest AND i.digest IS NOT NULL THEN ''image'' END AS problem
			FROM %4$I.d2c_selection_items i LEFT JOIN %5$s o ON o.%1$I::text = i.id WHERE i.selection = $1) c WHERE problem IS NOT NULL ORDER BY 1, 2',
		selection ->> 'id_column', selection ->> 'label_column', selection ->> 'image_column', schema, selection ->> 'source') USING (selection ->> 'id')::bigint;
END $$;
COMMENT ON FUNCTION d2c_compare_with_source(text, text, text) IS 'support of d2c_selection_check';

CREATE FUNCTION d2c_selection_check(name text, schema text DEFAULT NULL) RETURNS TABLE (label bigint, id text, problem text)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT * FROM d2c_compare_with_source(d2c_path(), d2c_selection_schema(schema), name);
END;
COMMENT ON FUNCTION d2c_selection_check(text, text) IS
	'rows of a selection that are not in its source as they were selected: problem is gone, label or image; and one without label and id, digest, when its items are not those that were closed, as the guard was disabled or a restore was not whole';

CREATE FUNCTION d2c_relation_name(relation regclass) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	name text;
BEGIN
	SELECT format('%I.%I', n.nspname, c.relname) INTO name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
	IF name IS NULL THEN
		RAISE EXCEPTION 'table with OID % does not exist', relation::oid USING ERRCODE = 'undefined_table';
	END IF;
	RETURN name;
END $$;
COMMENT ON FUNCTION d2c_relation_name(regclass) IS 'support of d2c''s procedures: a table''s quoted name with its schema';

CREATE FUNCTION d2c_list_column(list regclass, name text, types regtype[]) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	found_type regtype;
BEGIN
	SELECT a.atttypid INTO found_type FROM pg_attribute a WHERE a.attrelid = list AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped;
	IF found_type IS NULL THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', name, list
			USING ERRCODE = 'undefined_column', HINT = 'A budget has columns label and n, a hold-out list the key of the source under its name there.';
	ELSIF found_type <> ALL (types) THEN
		RAISE EXCEPTION 'column "%" of table % is of type %', name, list, found_type
			USING ERRCODE = 'datatype_mismatch', DETAIL = format('Its type must be one of %s.', array_to_string(types, ', '));
	END IF;
	RETURN quote_ident(name);
END $$;
COMMENT ON FUNCTION d2c_list_column(regclass, text, regtype[]) IS 'support of d2c_condense: a column of a budget or a hold-out list, once its type is checked';

CREATE FUNCTION d2c_budget_table(budget regclass) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	relation text := d2c_relation_name(budget);
	found record;
BEGIN
	PERFORM d2c_list_column(budget, 'label', '{smallint,integer,bigint}'), d2c_list_column(budget, 'n', '{smallint,integer,bigint}');
	EXECUTE format('SELECT count(*) AS rows, count(*) FILTER (WHERE label IS NULL OR n IS NULL) AS nulls, count(*) FILTER (WHERE n < 0) AS negative,
		count(label) - count(DISTINCT label) AS repeated, sum(n) AS total, encode(sha256(convert_to(coalesce(string_agg(label || '' '' || n, '','' ORDER BY label), ''''), ''UTF8'')), ''hex'') AS digest FROM %s', relation) INTO found;
	IF found.nulls > 0 OR found.negative > 0 OR found.repeated > 0 THEN
		RAISE EXCEPTION 'table % is not a budget', relation USING ERRCODE = 'invalid_parameter_value',
			DETAIL = format('%s rows have a null, %s a negative n, and %s labels are repeated.', found.nulls, found.negative, found.repeated),
			HINT = 'A budget has one row for each class: its label, and n, the number of rows to select.';
	ELSIF coalesce(found.total, 0) = 0 THEN
		RAISE EXCEPTION 'budget % asks for no rows', relation USING ERRCODE = 'invalid_parameter_value';
	END IF;
	RETURN jsonb_build_object('budget', relation, 'budget_digest', found.digest);
END $$;
COMMENT ON FUNCTION d2c_budget_table(regclass) IS 'support of d2c_condense: a table (label, n) as what is recorded of it, once it is checked';

CREATE FUNCTION d2c_held_table(hold_out regclass, id text) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	held jsonb;
BEGIN
	IF hold_out IS NULL THEN
		RETURN '{}';
	END IF;
	PERFORM d2c_list_column(hold_out, (parse_ident(id))[1], '{smallint,integer,bigint,text,varchar,uuid}');
	EXECUTE format('SELECT jsonb_build_object(''hold_out'', $1, ''held_rows'', count(DISTINCT %1$s), ''held_digest'', encode(sha256(convert_to(coalesce(string_agg(DISTINCT %1$s::text COLLATE "C", E''\n''), ''''), ''UTF8'')), ''hex'')) FROM %2$s',
		id, d2c_relation_name(hold_out)) INTO held USING d2c_relation_name(hold_out);
	RETURN held;
END $$;
COMMENT ON FUNCTION d2c_held_table(regclass, text) IS 'support of d2c_condense: a hold-out list as what is recorded of it; its column has the name of the source''s key';

CREATE FUNCTION d2c_kept_selection(schema text, name text, relation text) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	kept jsonb;
BEGIN
	IF name IS NULL THEN
		RETURN '{}';
	END IF;
	kept := d2c_find_selection(schema, name, true);
	IF kept ->> 'source' IS DISTINCT FROM relation THEN
		RAISE EXCEPTION 'selection "%" is not of table %', name, relation
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is of %s.', coalesce('table ' || (kept ->> 'source'), 'no table'));
	END IF;
	RETURN jsonb_build_object('continue_from', name, 'kept_schema', schema, 'kept_selection', kept -> 'id', 'kept_digest', kept -> 'digest');
END $$;
COMMENT ON FUNCTION d2c_kept_selection(text, text, text) IS 'support of d2c_condense: the selection to continue from as what is recorded of it, once its source is checked';

CREATE FUNCTION d2c_asked(per_class integer, every integer, total bigint, spread text, budget regclass) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF num_nonnulls(per_class, total, budget) <> 1 THEN
		RAISE EXCEPTION 'give one of per_class, total and budget'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('%s of them are given.', num_nonnulls(per_class, total, budget));
	ELSIF per_class < 1 OR every < 1 OR total < 1 THEN
		RAISE EXCEPTION 'per_class, every and total must be at least 1' USING ERRCODE = 'invalid_parameter_value';
	ELSIF spread <> ALL ('{even,proportional}') THEN
		RAISE EXCEPTION 'invalid spread: "%"', spread USING ERRCODE = 'invalid_parameter_value', HINT = 'It is even or proportional.';
	ELSIF spread IS NOT NULL AND total IS NULL THEN
		RAISE EXCEPTION 'spread says how total is spread over the classes' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give total with it.';
	END IF;
	RETURN jsonb_build_object('per_class', per_class, 'every', every)
		|| CASE WHEN total IS NOT NULL THEN jsonb_build_object('total', total, 'spread', coalesce(spread, 'even')) ELSE '{}' END
		|| CASE WHEN budget IS NOT NULL THEN d2c_budget_table(budget) ELSE '{}' END;
END $$;
COMMENT ON FUNCTION d2c_asked(integer, integer, bigint, text, regclass) IS 'support of d2c_condense: how many rows are asked for, as it is recorded';

CREATE FUNCTION d2c_candidates(ask jsonb, rows text, id text) RETURNS text
	LANGUAGE sql STABLE AS $$
	SELECT format('(SELECT s.*, %s AS kept FROM %s s %s%s) c',
		CASE WHEN ask ? 'continue_from' THEN 'k.id IS NOT NULL' ELSE 'false' END, rows,
		CASE WHEN ask ? 'continue_from' THEN format('LEFT JOIN %I.d2c_selection_items k ON k.selection = %s AND k.id = s.id::text ', ask ->> 'kept_schema', ask ->> 'kept_selection') END,
		CASE WHEN ask ? 'hold_out' THEN format('WHERE NOT EXISTS (SELECT FROM %s h WHERE h.%s::text = s.id::text)', ask ->> 'hold_out', id) END)
$$;
COMMENT ON FUNCTION d2c_candidates(jsonb, text, text) IS
	'support of d2c_condense: of rows, which are an item of FROM with id, label and score, those that are not held out, and whether they are selected already';

CREATE FUNCTION d2c_class_sizes(candidates text, OUT label bigint, OUT rows bigint, OUT kept bigint) RETURNS SETOF record
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT c.label::bigint, count(*) FILTER (WHERE c.score IS NOT NULL OR c.kept), count(*) FILTER (WHERE c.kept)
		FROM %s WHERE c.label IS NOT NULL GROUP BY c.label', candidates);
END $$;
COMMENT ON FUNCTION d2c_class_sizes(text) IS 'support of d2c_condense: for each class the rows that may be selected, and those of them that are selected already';

CREATE FUNCTION d2c_spread_evenly(labels bigint[], rows bigint[], kept bigint[], total bigint, OUT label bigint, OUT n bigint) RETURNS SETOF record
	LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	low bigint := 0;
	high bigint := (SELECT max(r) FROM unnest(rows) r);
	middle bigint;
	given numeric;
BEGIN
	-- The highest level to which all classes can be filled.
	WHILE low < high LOOP
		middle := (low + high + 1) / 2;
		SELECT sum(greatest(k, least(r, middle))) INTO given FROM unnest(rows, kept) c (r, k);
		IF given <= total THEN
			low := middle;
		ELSE
			high := middle - 1;
		END IF;
	END LOOP;
	SELECT sum(greatest(k, least(r, low))) INTO given FROM unnest(rows, kept) c (r, k);
	RETURN QUERY SELECT l, greatest(k, least(r, low)) + (r > low AND k <= low AND row_number() OVER (ORDER BY r > low AND k <= low DESC, l) <= total - given)::integer
		FROM unnest(labels, rows, kept) c (l, r, k);
END $$;
COMMENT ON FUNCTION d2c_spread_evenly(bigint[], bigint[], bigint[], bigint) IS
	'support of d2c_condense: total rows over classes, as many of each as of any other as far as it has so many, exactly total if the classes have so many; one more of those with the lowest labels; never less than what is kept of a class';

CREATE FUNCTION d2c_spread_in_proportion(labels bigint[], rows bigint[], kept bigint[], total bigint, OUT label bigint, OUT n bigint) RETURNS SETOF record
	LANGUAGE sql IMMUTABLE AS $$
	WITH free AS (SELECT l, r - k AS free, k, sum(r - k) OVER () AS all_free, least(total - sum(k) OVER (), sum(r - k) OVER ()) AS all_new FROM unnest(labels, rows, kept) c (l, r, k)),
		quotas AS (SELECT l, k, all_new, div(all_new * free, greatest(all_free, 1))::bigint AS whole, mod(all_new * free, greatest(all_free, 1)) AS remainder FROM free)
	SELECT l, k + whole + (row_number() OVER (ORDER BY remainder DESC, l) <= all_new - sum(whole) OVER ())::integer FROM quotas
$$;
COMMENT ON FUNCTION d2c_spread_in_proportion(bigint[], bigint[], bigint[], bigint) IS
	'support of d2c_condense: what is kept of each class, and of the rest of total a share in proportion to the rest of the class, by largest remainders, ties to the lowest label: exactly total if the classes have so many';

CREATE FUNCTION d2c_budget_plan(candidates text, ask jsonb, OUT label bigint, OUT rows bigint, OUT kept bigint, OUT asked bigint, OUT given bigint, OUT every integer)
	RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$
DECLARE
	wanted text := CASE WHEN ask ? 'budget' THEN format('SELECT label::bigint, n::bigint FROM %s', ask ->> 'budget')
		WHEN ask ->> 'spread' IS NOT NULL THEN format('SELECT label, n FROM %s((SELECT array_agg(z.label ORDER BY z.label) FROM sizes z), (SELECT array_agg(z.rows ORDER BY z.label) FROM sizes z), (SELECT array_agg(z.kept ORDER BY z.label) FROM sizes z), %s)',
			CASE ask ->> 'spread' WHEN 'even' THEN 'd2c_spread_evenly' ELSE 'd2c_spread_in_proportion' END, ask ->> 'total')
		ELSE format('SELECT label, %s::bigint AS n FROM sizes', ask ->> 'per_class') END;
BEGIN
	FOR label, rows, kept, asked IN EXECUTE format('WITH sizes AS MATERIALIZED (SELECT * FROM d2c_class_sizes(%L))
		SELECT coalesce(z.label, w.label), coalesce(z.rows, 0), coalesce(z.kept, 0), coalesce(w.n, 0) FROM sizes z FULL JOIN (%s) w ON w.label = z.label ORDER BY 1', candidates, wanted)
	LOOP
		IF kept > asked AND NOT ask ? 'total' THEN
			RAISE EXCEPTION 'selection "%" has % rows of class %, more than the % that are asked for', ask ->> 'continue_from', kept, label, asked
				USING ERRCODE = 'invalid_parameter_value', HINT = 'What it has is kept: ask for at least as many of each class.';
		END IF;
		given := greatest(least(asked, rows), kept);
		every := CASE WHEN given - kept > 1 THEN least(coalesce((ask ->> 'every')::bigint, d2c_interval(rows - kept, (given - kept)::integer)), greatest((rows - kept - 1) / (given - kept - 1), 1))
			WHEN given > kept THEN coalesce((ask ->> 'every')::integer, 1) END;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION d2c_budget_plan(text, jsonb) IS
	'support of d2c_condense: for each class the rows that may be selected, those selected already, how many are asked for and given in all, and the interval among the rest of M rows for m picks: d2c_interval(M, m) or every, lowered to floor((M - 1) / (m - 1)) where M is too small';

CREATE FUNCTION d2c_check_kept(ask jsonb, relation text, id text, label text) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	found record;
BEGIN
	IF NOT ask ? 'continue_from' THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT count(*) AS items, count(*) FILTER (WHERE o.%1$s IS NULL OR o.%2$s IS NULL) AS gone, %3$s AS held FROM %4$I.d2c_selection_items k LEFT JOIN %5$s o ON o.%1$s::text = k.id WHERE k.selection = $1', id, label,
		CASE WHEN ask ? 'hold_out' THEN format('count(*) FILTER (WHERE EXISTS (SELECT FROM %s h WHERE h.%s::text = k.id))', ask ->> 'hold_out', id) ELSE '0::bigint' END,
		ask ->> 'kept_schema', relation) INTO found USING (ask ->> 'kept_selection')::bigint;
	IF found.gone > 0 OR found.held > 0 THEN
		RAISE EXCEPTION '% rows of selection "%" cannot be kept', found.gone + found.held, ask ->> 'continue_from'
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('%s of them are not in table %s with a label, %s are held out.', found.gone, relation, found.held);
	ELSIF found.items > (ask ->> 'total')::bigint THEN
		RAISE EXCEPTION 'selection "%" has % rows, more than the total of %', ask ->> 'continue_from', found.items, ask ->> 'total'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'What it has is kept: ask for at least as many.';
	END IF;
END $$;
COMMENT ON FUNCTION d2c_check_kept(jsonb, text, text, text) IS 'support of d2c_condense: an error unless all rows of the selection to continue from can be kept';

CREATE FUNCTION d2c_warn_of_plan(candidates text, ask jsonb) RETURNS bigint
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	plan record;
BEGIN
	SELECT count(*) AS classes, sum(p.asked) AS asked, sum(p.given) AS given, count(*) FILTER (WHERE p.every < (ask ->> 'every')::integer) AS lowered, count(*) FILTER (WHERE p.given < p.asked) AS short,
		string_agg(format('Class %s has %s rows: every %s.', p.label, p.rows - p.kept, p.every), ' ' ORDER BY p.label) FILTER (WHERE p.lowered_place <= 5 AND p.every < (ask ->> 'every')::integer) AS lowered_examples,
		string_agg(format('Class %s has %s of %s rows.', p.label, p.rows, p.asked), ' ' ORDER BY p.label) FILTER (WHERE p.short_place <= 5 AND p.given < p.asked) AS short_examples
		INTO plan FROM (SELECT *, row_number() OVER (PARTITION BY b.every < (ask ->> 'every')::integer ORDER BY b.label) AS lowered_place, row_number() OVER (PARTITION BY b.given < b.asked ORDER BY b.label) AS short_place
			FROM d2c_budget_plan(candidates, ask) b) p;
	IF plan.lowered > 0 THEN
		RAISE WARNING 'interval lowered in % of % classes, which are too small for every %', plan.lowered, plan.classes, ask ->> 'every'
			USING DETAIL = plan.lowered_examples || CASE WHEN plan.lowered > 5 THEN format(' Lowered in %s more.', plan.lowered - 5) ELSE '' END;
	END IF;
	IF plan.short > 0 THEN
		RAISE WARNING 'fewer rows than asked for in % of % classes: % are missing', plan.short, plan.classes, plan.asked - plan.given
			USING DETAIL = plan.short_examples || CASE WHEN plan.short > 5 THEN format(' Short are %s more.', plan.short - 5) ELSE '' END;
	ELSIF plan.given < (ask ->> 'total')::bigint THEN
		RAISE WARNING 'all % rows taken, fewer than the total of %', plan.given, ask ->> 'total';
	END IF;
	RETURN coalesce((ask ->> 'total')::bigint, plan.asked);
END $$;
COMMENT ON FUNCTION d2c_warn_of_plan(text, jsonb) IS 'support of d2c_condense: warns of classes too small for what is asked; returns the number of rows that are asked for';

CREATE FUNCTION d2c_report_plan(relation text, scores text, candidates text, ask jsonb) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	scored bigint := 0;
	total bigint;
	asked bigint := d2c_warn_of_plan(candidates, ask);
	plan record;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s', relation) INTO total;
	IF to_regclass(scores) IS NOT NULL THEN
		EXECUTE format('SELECT count(*) FROM %s', scores) INTO scored;
	END IF;
	SELECT coalesce(sum(p.given), 0) AS given, coalesce(sum(p.kept), 0) AS kept, count(*) FILTER (WHERE p.given > 0) AS classes, min(p.every) AS least, max(p.every) AS most INTO plan FROM d2c_budget_plan(candidates, ask) p;
	RAISE NOTICE 'd2c_condense would score % rows of % into %: % are scored already', total, relation, scores, scored;
	RAISE NOTICE 'd2c_condense would select % of % rows asked for, from % classes, every %', plan.given, asked, plan.classes,
		CASE WHEN plan.least < plan.most THEN format('%s to %s', plan.least, plan.most) ELSE plan.most::text END
		|| CASE WHEN plan.kept > 0 THEN format('; %s of them are kept', plan.kept) ELSE '' END;
END $$;
COMMENT ON FUNCTION d2c_report_plan(text, text, text, jsonb) IS 'support of d2c_condense: what a dry run says';

CREATE FUNCTION d2c_record_selection(schema text, name text, result text, parameters jsonb) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	made bigint := d2c_open_selection(schema, name, jsonb_build_object('method', 'd2c_condense', 'parameters', parameters, 'seed', parameters -> 'seed',
		'scorer', parameters -> 'model', 'scorer_sha256', parameters -> 'sha256', 'source', parameters -> 'source', 'id_column', (parse_ident(parameters ->> 'id'))[1],
		'label_column', (parse_ident(parameters ->> 'label'))[1], 'image_column', (parse_ident(parameters ->> 'image'))[1]));
BEGIN
	EXECUTE format('INSERT INTO %1$I.d2c_selection_items (selection, label, position, id, rank, score, digest)
		SELECT $1, r.label, row_number() OVER (PARTITION BY r.label ORDER BY %2$s r.rank, r.id), r.id::text, r.rank, r.score, d2c_image_digest(r.image) FROM %3$s r %4$s', schema,
		CASE WHEN parameters ? 'continue_from' THEN 'k.position NULLS LAST,' END, result,
		CASE WHEN parameters ? 'continue_from' THEN format('LEFT JOIN %I.d2c_selection_items k ON k.selection = %s AND k.id = r.id::text', parameters ->> 'kept_schema', parameters ->> 'kept_selection') END) USING made;
	PERFORM d2c_close_selection(schema, made);
END $$;
COMMENT ON FUNCTION d2c_record_selection(text, text, text, jsonb) IS
	'support of d2c_condense: what it has selected as a selection, those that it kept first';

CREATE PROCEDURE d2c_condense(source regclass, target text, model text, per_class integer DEFAULT NULL, every integer DEFAULT NULL,
	text_model text DEFAULT NULL, visual_model text DEFAULT NULL, vae text DEFAULT NULL, prompt text DEFAULT 'a photo of a %s', dry_run boolean DEFAULT false,
	timesteps integer DEFAULT 8, seed bigint DEFAULT 0, tokens integer DEFAULT 16, visual_tokens integer DEFAULT 0,
	image_column text DEFAULT 'image', label_column text DEFAULT 'label', class_column text DEFAULT NULL, id_column text DEFAULT NULL,
	page_rows integer DEFAULT NULL, latent_model text DEFAULT NULL, latent_size integer DEFAULT 256,
	total bigint DEFAULT NULL, spread text DEFAULT NULL, budget regclass DEFAULT NULL, hold_out regclass DEFAULT NULL,
	continue_from text DEFAULT NULL, selection text DEFAULT NULL, selection_schema text DEFAULT NULL)
	LANGUAGE plpgsql AS $$
DECLARE
	caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
	caller_schema pg_catalog.name := pg_catalog.current_schema();
	path pg_catalog.text;
	atomic boolean;
	columns pg_catalog.record;
	scorer pg_catalog.record;
	ask pg_catalog.jsonb;
	parameters pg_catalog.jsonb;
	result pg_catalog.text;
	taken boolean;
	scores pg_catalog.text;
	to_score pg_catalog.text;
	candidates pg_catalog.text;
	before bigint;
	done bigint;
	asked bigint;
	selected bigint := 0;
	failed bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT format('pg_catalog, %I, pg_temp', n.nspname) INTO path
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c';
	PERFORM set_config('search_path', path, true);
	CALL d2c_is_atomic(atomic);
	PERFORM d2c_require_arguments(jsonb_build_object('model', model, 'timesteps', timesteps, 'seed', seed));
	ask := d2c_asked(per_class, every, total, spread, budget);
	columns := d2c_source_columns(source, id_column, label_column, class_column, image_column);
	result := d2c_result_name(target, '', caller_schema);
	scores := d2c_result_name(target, '_scores', caller_schema);
	selection_schema := coalesce(selection_schema, (parse_ident(result))[1]);
	ask := ask || d2c_held_table(hold_out, columns.id) || d2c_kept_selection(selection_schema, continue_from, columns.relation);
	scorer := d2c_model_info(model);
	parameters := jsonb_build_object('source', columns.relation, 'id', columns.id, 'label', columns.label, 'class', columns.class, 'image', columns.image,
		'model', model, 'sha256', scorer.sha256, 'device', scorer.device, 'precision', scorer.precision,
		'timesteps', timesteps, 'seed', seed) || ask
		|| CASE WHEN selection IS NOT NULL THEN jsonb_build_object('selection', selection, 'selection_schema', selection_schema) ELSE '{}' END
		|| d2c_vae_parameters(coalesce(nullif(vae, ''), scorer.vae))
		|| d2c_attach_parameters(prompt, text_model, tokens, visual_model, visual_tokens, latent_model, latent_size);
	to_score := d2c_candidates(ask, format('(SELECT %s AS id, %s AS label, 0 AS score FROM %s)', columns.id, columns.label, columns.relation), columns.id);
	-- Asked first: a session that makes the same call commits its rows and its selection at once.
	taken := d2c_selection_is_taken(selection_schema, selection);
	IF NOT d2c_result_is_new(result, 'd2c_condense', parameters) THEN
		EXECUTE format('SELECT count(*) FROM %s', result) INTO selected;
	END IF;
	IF selected = 0 THEN		-- What cannot be given is to be known before hours of work.
		IF taken THEN
			PERFORM d2c_refuse_selection(selection_schema, selection);
		END IF;
		PERFORM d2c_check_kept(ask, columns.relation, columns.id, columns.label);
		PERFORM p.label FROM d2c_budget_plan(to_score, ask) p;
	END IF;
	IF dry_run THEN
		PERFORM d2c_report_plan(columns.relation, scores, to_score, ask);
		PERFORM pg_catalog.set_config('search_path', caller_path, true);
		RETURN;
	END IF;
	IF atomic THEN
		RAISE NOTICE 'd2c_condense runs inside a transaction: nothing is committed before it ends';
	ELSE		-- Whatever the isolation of the first transaction was.
		CALL d2c_commit(path);
	END IF;
	IF selection IS NOT NULL THEN
		PERFORM d2c_require_selections(selection_schema);
	END IF;
	IF to_regclass(result) IS NULL THEN
		PERFORM d2c_lock_result(result);
	END IF;
	IF d2c_result_is_new(result, 'd2c_condense', parameters) THEN
		PERFORM d2c_make_condensed(result, columns.id_type, parameters, 'd2c_condense');
	END IF;

	EXECUTE format('SELECT count(*) FROM %s', result) INTO selected;
	IF selected > 0 AND to_regclass(scores) IS NOT NULL THEN
		EXECUTE format('SELECT count(*) FROM %s', scores) INTO before;
	END IF;
	CALL d2c_score(source, scores, model, timesteps, seed, image_column, label_column, id_column, page_rows, vae => vae);
	PERFORM pg_catalog.set_config('search_path', path, true);
	IF NOT atomic THEN
		CALL d2c_commit(path);
	END IF;
	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
	EXECUTE format('SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM %s)', scores, result) INTO done, selected;
	-- Rows that left the source since they were scored have no image to select.
	candidates := d2c_candidates(ask, format('(SELECT r.* FROM %s r WHERE EXISTS (SELECT FROM %s o WHERE o.%s = r.id))', scores, columns.relation, columns.id), columns.id);
	asked := coalesce(total, (SELECT sum(p.asked) FROM d2c_budget_plan(candidates, ask) p));
	IF done > before THEN
		RAISE WARNING '% new rows of % are scored, but not part of the selection', done - before, columns.relation
			USING DETAIL = format('The rows of table %s were selected before.', result),
				HINT = format('To select anew, drop table %s and call again: the scores stay.', result);
	ELSIF selected = 0 THEN
		PERFORM d2c_warn_of_plan(candidates, ask);
		EXECUTE format('INSERT INTO %1$s (id, label, class, image, score, rank, prompt, model, model_sha256, device, precision, build, timesteps, seed)
			SELECT s.id, s.label, o.class, o.image, s.score, CASE WHEN s.score IS NOT NULL THEN s.rank END, replace($2, ''%%s'', o.class),
				s.model, s.model_sha256, s.device, s.precision, s.build, s.timesteps, s.seed
			FROM (SELECT c.*, row_number() OVER (PARTITION BY c.label ORDER BY c.score, c.id %2$s) - 1 AS rank FROM %3$s) s
			JOIN (SELECT %4$s AS id, %5$s AS class, %6$s AS image FROM %7$s) o ON o.id = s.id
			WHERE s.kept OR s.id IN (SELECT unnest(p.ids) FROM (SELECT d2c_select(c.id, c.score, q.every, (q.given - q.kept)::integer) AS ids
				FROM d2c_budget_plan(%3$L, $1) q JOIN %3$s ON c.label = q.label WHERE q.given > q.kept AND NOT c.kept GROUP BY q.label, q.every, q.given, q.kept) p)',
			result, CASE WHEN columns.id_type LIKE 'text%' THEN 'COLLATE "C"' END, candidates, columns.id, columns.class, columns.image, columns.relation) USING ask, prompt;
		GET DIAGNOSTICS selected = ROW_COUNT;
		IF done = 0 THEN
			RAISE EXCEPTION 'table % has no rows', columns.relation USING ERRCODE = 'no_data_found';
		ELSIF selected = 0 THEN
			EXECUTE format('SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL', scores) INTO failed;
			RAISE EXCEPTION 'no row of % was scored', columns.relation
				USING ERRCODE = 'no_data_found', DETAIL = format('%s rows failed.', failed), HINT = format('Their errors are in table %s.', scores);
		END IF;
		IF selection IS NOT NULL THEN
			PERFORM d2c_record_selection(selection_schema, selection, result, parameters);
		END IF;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
	END IF;

	CALL d2c_attach_all(result, text_model, tokens, visual_model, visual_tokens, latent_model, latent_size);
	PERFORM pg_catalog.set_config('search_path', path, true);
	EXECUTE format('SELECT (SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL) + (SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL)', scores, result) INTO failed;
	RAISE NOTICE '% of % rows selected into %, % rows failed%', selected, asked, result, failed,
		CASE WHEN failed > 0 THEN format(': see column error there and in %s', scores) ELSE '' END;
	IF NOT atomic THEN
		COMMIT;
	END IF;
	PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $$;
COMMENT ON PROCEDURE d2c_condense(regclass, text, text, integer, integer, text, text, text, text, boolean, integer, bigint, integer, integer, text, text, text, text, integer, text, integer, bigint, text, regclass, regclass, text, text, text) IS
	'condenses a table of images (D2C, arXiv 2507.05914): scores every row into target_scores, selects per_class rows of each class (or total rows spread over the classes, even or proportional, or n rows of each label of the table budget) at every k-th rank into target, none of the ids in hold_out, attaches text and visual embeddings, and with latent_model latents; commits page by page and goes on when called again; with continue_from the rows of that selection are kept and the rest is selected among the others; with selection what is selected is recorded as a selection of that name, both in selection_schema or the target''s; a bad row has its error in the result; every defaults to d2c_interval() of each class, vae to the model''s own autoencoder where it takes latents';
