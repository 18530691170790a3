\echo Use "ALTER EXTENSION d2c UPDATE TO '0.2.0'" to load this file. \quit

DROP PROCEDURE d2c_attach(regclass, text, text, text, text, integer, integer, text, text, text, text);
DROP PROCEDURE d2c_attach_all(text, text, integer, text, integer);
DROP FUNCTION d2c_attach_page(text, text, text, text, integer, integer, text);
DROP FUNCTION d2c_attach_parameters(text, text, integer, text, integer);
DROP PROCEDURE d2c_condense(regclass, text, text, integer, integer, text, text, text, text, boolean, integer, bigint, integer, integer, text, text, text, text, integer);

CREATE OR REPLACE FUNCTION d2c_comment_result(result text, maker text, parameters jsonb) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	name text;
	meaning text;
BEGIN
	EXECUTE format('COMMENT ON TABLE %s IS %L', result, maker || ' ' || parameters);
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
	LANGUAGE plpgsql AS $$
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
	-- The smallest PNG: one grey pixel.
	pixel bytea := '\x89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a4944415478da6360000000020001e527defc0000000049454e44ae426082';
BEGIN
	IF prompt IS NULL THEN
		RAISE EXCEPTION 'prompt must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'It holds %s where the class name goes.';
	END IF;
	PERFORM d2c_require_arguments(jsonb_build_object('tokens', tokens, 'visual_tokens', visual_tokens, 'latent_size', latent_size));
	IF visual_tokens < 0 THEN
		RAISE EXCEPTION 'number of tokens must be at least 0, not %', visual_tokens USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF text_model IS NOT NULL THEN
		-- What the model cannot do is to be known now, not after hours of scoring.
		PERFORM d2c_text_embedding('', text_model, tokens);
		parameters := parameters || jsonb_build_object('text_model', text_model, 'text_sha256', (d2c_model_info(text_model)).sha256, 'tokens', tokens);
	END IF;
	IF visual_model IS NOT NULL THEN
		PERFORM d2c_visual_embedding(pixel, visual_model, visual_tokens);
		parameters := parameters || jsonb_build_object('visual_model', visual_model, 'visual_sha256', (d2c_model_info(visual_model)).sha256, 'visual_tokens', visual_tokens);
		IF (d2c_model_info(visual_model)).vae IS NOT NULL THEN
			parameters := parameters || jsonb_build_object('visual_vae', d2c_vae_parameters((d2c_model_info(visual_model)).vae));
		END IF;
	END IF;
	IF latent_model IS NOT NULL THEN
		PERFORM d2c_latent(pixel, latent_model, latent_size);
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

CREATE PROCEDURE d2c_condense(source regclass, target text, model text, per_class integer, every integer DEFAULT NULL,
	text_model text DEFAULT NULL, visual_model text DEFAULT NULL, vae text DEFAULT NULL, prompt text DEFAULT 'a photo of a %s', dry_run boolean DEFAULT false,
	timesteps integer DEFAULT 8, seed bigint DEFAULT 0, tokens integer DEFAULT 16, visual_tokens integer DEFAULT 0,
	image_column text DEFAULT 'image', label_column text DEFAULT 'label', class_column text DEFAULT NULL, id_column text DEFAULT NULL,
	page_rows integer DEFAULT NULL, latent_model text DEFAULT NULL, latent_size integer DEFAULT 256)
	LANGUAGE plpgsql AS $$
DECLARE
	caller_path pg_catalog.text := pg_catalog.current_setting('search_path');
	caller_schema pg_catalog.name := pg_catalog.current_schema();
	path pg_catalog.text;
	atomic boolean;
	columns pg_catalog.record;
	scorer pg_catalog.record;
	parameters pg_catalog.jsonb;
	result pg_catalog.text;
	scores pg_catalog.text;
	candidates pg_catalog.text;
	before bigint;
	done bigint;
	selected bigint;
	failed bigint;
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
	SELECT format('pg_catalog, %I, pg_temp', n.nspname) INTO path
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'd2c';
	PERFORM set_config('search_path', path, true);
	CALL d2c_is_atomic(atomic);
	PERFORM d2c_require_arguments(jsonb_build_object('model', model, 'per_class', per_class, 'timesteps', timesteps, 'seed', seed));
	IF per_class < 1 OR every < 1 THEN
		RAISE EXCEPTION 'per_class and every must be at least 1' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	columns := d2c_source_columns(source, id_column, label_column, class_column, image_column);
	result := d2c_result_name(target, '', caller_schema);
	scores := d2c_result_name(target, '_scores', caller_schema);
	scorer := d2c_model_info(model);
	parameters := jsonb_build_object('source', columns.relation, 'id', columns.id, 'label', columns.label, 'class', columns.class, 'image', columns.image,
		'model', model, 'sha256', scorer.sha256, 'device', scorer.device, 'precision', scorer.precision,
		'timesteps', timesteps, 'seed', seed, 'per_class', per_class, 'every', every)
		|| d2c_vae_parameters(coalesce(nullif(vae, ''), scorer.vae))
		|| d2c_attach_parameters(prompt, text_model, tokens, visual_model, visual_tokens, latent_model, latent_size);
	IF dry_run THEN
		PERFORM d2c_result_is_new(result, 'd2c_condense', parameters);
		PERFORM d2c_report_plan(columns.relation, columns.label, scores, per_class, every);
		PERFORM pg_catalog.set_config('search_path', caller_path, true);
		RETURN;
	END IF;
	IF atomic THEN
		RAISE NOTICE 'd2c_condense runs inside a transaction: nothing is committed before it ends';
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
	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
	EXECUTE format('SELECT (SELECT count(*) FROM %s), (SELECT count(*) FROM %s)', scores, result) INTO done, selected;
	IF done > before THEN
		RAISE WARNING '% new rows of % are scored, but not part of the selection', done - before, columns.relation
			USING DETAIL = format('The rows of table %s were selected before.', result),
				HINT = format('To select anew, drop table %s and call again: the scores stay.', result);
	ELSIF selected = 0 THEN
		-- Rows that left the source since they were scored have no image to select.
		candidates := format('(SELECT s.* FROM %s s WHERE EXISTS (SELECT FROM %s o WHERE o.%s = s.id)) c', scores, columns.relation, columns.id);
		PERFORM d2c_warn_small_classes(candidates, per_class, every);
		EXECUTE format('INSERT INTO %1$s (id, label, class, image, score, rank, prompt, model, model_sha256, device, precision, build, timesteps, seed)
			SELECT s.id, s.label, o.class, o.image, s.score, (u.place - 1) * p.k, replace($3, ''%%s'', o.class),
				s.model, s.model_sha256, s.device, s.precision, s.build, s.timesteps, s.seed
			FROM (SELECT q.label, q.k, d2c_select(c.id, c.score, q.k, $1) AS ids
				FROM d2c_interval_plan(%7$L, $1, $2) q JOIN %7$s ON c.label = q.label GROUP BY q.label, q.k) p,
				unnest(p.ids) WITH ORDINALITY u (id, place)
				JOIN %2$s s ON s.id = u.id
				JOIN (SELECT %3$s AS id, %4$s AS class, %5$s AS image FROM %6$s) o ON o.id = u.id',
			result, scores, columns.id, columns.class, columns.image, columns.relation, candidates) USING per_class, every, prompt;
		GET DIAGNOSTICS selected = ROW_COUNT;
		IF done = 0 THEN
			RAISE EXCEPTION 'table % has no rows', columns.relation USING ERRCODE = 'no_data_found';
		ELSIF selected = 0 THEN
			EXECUTE format('SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL', scores) INTO failed;
			RAISE EXCEPTION 'no row of % was scored', columns.relation
				USING ERRCODE = 'no_data_found', DETAIL = format('%s rows failed.', failed), HINT = format('Their errors are in table %s.', scores);
		END IF;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
	END IF;

	CALL d2c_attach_all(result, text_model, tokens, visual_model, visual_tokens, latent_model, latent_size);
	PERFORM pg_catalog.set_config('search_path', path, true);
	EXECUTE format('SELECT (SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL) + (SELECT count(*) FROM %s WHERE sqlstate IS NOT NULL)', scores, result) INTO failed;
	RAISE NOTICE '% rows selected into %, % rows failed%', selected, result, failed,
		CASE WHEN failed > 0 THEN format(': see column error there and in %s', scores) ELSE '' END;
	IF NOT atomic THEN
		COMMIT;
	END IF;
	PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $$;
COMMENT ON PROCEDURE d2c_condense(regclass, text, text, integer, integer, text, text, text, text, boolean, integer, bigint, integer, integer, text, text, text, text, integer, text, integer) IS
	'condenses a table of images (D2C, arXiv 2507.05914): scores every row into target_scores, selects per_class rows of each class at every k-th rank into target, attaches text and visual embeddings, and with latent_model latents; commits page by page and goes on when called again; a bad row has its error in the result; every defaults to d2c_interval() of each class, vae to the model''s own autoencoder where it takes latents';
