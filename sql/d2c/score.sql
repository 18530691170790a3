-- score.sql: the procedure that scores every row of a table.

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
