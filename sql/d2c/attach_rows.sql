-- attach_rows.sql: the procedure that attaches embeddings to every row of a table.

CREATE FUNCTION d2c_make_condensed(result text, id_type text, parameters jsonb, maker text) RETURNS void
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
