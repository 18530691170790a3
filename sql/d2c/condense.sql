-- condense.sql: the procedure that scores, selects and attaches.

CREATE FUNCTION d2c_interval_plan(scores text, per_class integer, every integer, OUT label bigint, OUT rows bigint, OUT k integer)
	RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT s.label, s.n, CASE WHEN $1 = 1 THEN coalesce($2, 1)
			ELSE least(coalesce($2, d2c_interval(s.n, $1)), greatest((s.n - 1) / ($1 - 1), 1))::integer END
		FROM (SELECT label, count(score) AS n FROM %s WHERE score IS NOT NULL GROUP BY label) s', scores) USING per_class, every;
END $$;
COMMENT ON FUNCTION d2c_interval_plan(text, integer, integer) IS
	'support of d2c''s procedures: the interval for each class of scores, which are an item of FROM, lowered to floor((N - 1) / (n - 1)) where it is too small';

CREATE FUNCTION d2c_warn_small_classes(scores text, per_class integer, every integer) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	classes bigint;
	examples text;
BEGIN
	SELECT count(*), string_agg(format('Class %s has %s rows: every %s.', label, rows, k), ' ' ORDER BY label) FILTER (WHERE place <= 5) INTO classes, examples
		FROM (SELECT *, row_number() OVER (ORDER BY label) AS place FROM d2c_interval_plan(scores, per_class, every) WHERE k < every) p;
	IF classes > 0 THEN
		RAISE WARNING 'interval lowered in classes that are too small for every % and % per class', every, per_class
			USING DETAIL = examples || CASE WHEN classes > 5 THEN format(' Lowered in %s more.', classes - 5) ELSE '' END;
	END IF;
	SELECT count(*), string_agg(format('Class %s has %s rows.', label, rows), ' ' ORDER BY label) FILTER (WHERE place <= 5) INTO classes, examples
		FROM (SELECT *, row_number() OVER (ORDER BY label) AS place FROM d2c_interval_plan(scores, per_class, every) WHERE rows < per_class) p;
	IF classes > 0 THEN
		RAISE WARNING 'all rows taken of classes that have fewer than % scored', per_class
			USING DETAIL = examples || CASE WHEN classes > 5 THEN format(' Taken of %s more.', classes - 5) ELSE '' END;
	END IF;
END $$;
COMMENT ON FUNCTION d2c_warn_small_classes(text, integer, integer) IS 'support of d2c''s procedures: warns of classes too small for what is asked';

CREATE FUNCTION d2c_report_plan(relation text, label text, scores text, per_class integer, every integer) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	scored bigint := 0;
	total bigint;
	classes bigint;
	smallest bigint;
	picks numeric;
BEGIN
	EXECUTE format('SELECT (SELECT count(*) FROM %1$s), count(*), min(n), sum(least(n, $1)) FROM (SELECT count(*) AS n FROM %1$s WHERE %2$s IS NOT NULL GROUP BY %2$s) c',
		relation, label) INTO total, classes, smallest, picks USING per_class;
	IF to_regclass(scores) IS NOT NULL THEN
		EXECUTE format('SELECT count(*) FROM %s', scores) INTO scored;
	END IF;
	RAISE NOTICE 'd2c_condense would score % rows of % into %: % are scored already', total, relation, scores, scored;
	RAISE NOTICE 'd2c_condense would select % rows, % from each of % classes, every %', coalesce(picks, 0), per_class, classes,
		coalesce(every::text, d2c_interval(greatest(smallest, 1), per_class) || ' in the smallest class');
END $$;
COMMENT ON FUNCTION d2c_report_plan(text, text, text, integer, integer) IS 'support of d2c''s procedures: what a dry run says';

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
