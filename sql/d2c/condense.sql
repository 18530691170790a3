-- condense.sql: the procedure that scores, selects and attaches.

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
	asked pg_catalog.numeric;
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
