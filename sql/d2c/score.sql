-- score.sql: the procedure that scores every row of a table.

CREATE PROCEDURE d2c_score(source regclass, target text, model text, timesteps integer DEFAULT 8, seed bigint DEFAULT 0,
	image_column text DEFAULT 'image', label_column text DEFAULT 'label', id_column text DEFAULT NULL,
	page_rows integer DEFAULT NULL, max_pages integer DEFAULT NULL, vae text DEFAULT NULL)
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
	gaps boolean := false;
	total bigint;
	before bigint;
	done bigint;
	page integer := coalesce(page_rows, 256);
	pages integer := 0;
	handled bigint;
	started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
	page_started pg_catalog.timestamptz;
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
	PERFORM d2c_require_arguments(jsonb_build_object('model', model, 'timesteps', timesteps, 'seed', seed));
	IF page < 1 OR max_pages < 1 THEN
		RAISE EXCEPTION 'page_rows and max_pages must be at least 1' USING ERRCODE = 'invalid_parameter_value';
	END IF;

	columns := d2c_source_columns(source, id_column, label_column, NULL, image_column);
	result := d2c_result_name(target, '', caller_schema);
	scorer := d2c_model_info(model);
	parameters := jsonb_build_object('source', columns.relation, 'id', columns.id, 'label', columns.label, 'image', columns.image,
		'model', model, 'sha256', scorer.sha256, 'device', scorer.device, 'precision', scorer.precision,
		'timesteps', timesteps, 'seed', seed) || d2c_vae_parameters(coalesce(nullif(vae, ''), scorer.vae));
	IF d2c_result_is_new(result, 'd2c_score', parameters) THEN
		EXECUTE format('CREATE TABLE %s (id %s PRIMARY KEY, label bigint, score double precision, sqlstate text, error text,
			model text, model_sha256 text, device text, precision text, build text, timesteps integer, seed bigint)', result, columns.id_type);
		PERFORM d2c_comment_result(result, 'd2c_score', parameters);
	END IF;
	EXECUTE format('SELECT count(*) FROM %s', columns.relation) INTO total;
	EXECUTE format('SELECT count(*) FROM %s', result) INTO before;
	done := before;

	WHILE max_pages IS NULL OR pages < max_pages LOOP
		page_started := clock_timestamp();
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', result);
		EXECUTE format('INSERT INTO %1$s (id, label, score, sqlstate, error, model, model_sha256, device, precision, build, timesteps, seed)
			SELECT id, label, (d).score,
				CASE WHEN image_is_null OR label IS NULL THEN ''22004'' ELSE (d).sqlstate END,
				CASE WHEN image_is_null THEN ''image is null'' WHEN label IS NULL THEN ''label is null'' ELSE (d).error END,
				$1, $4, $5, $6, $7, $2, $3
			FROM (SELECT id, label, image IS NULL AS image_is_null, d2c_difficulty_checked(image, label, $1, $2, $3, $8) OVER () AS d
				FROM (SELECT o.%2$s AS id, o.%3$s::bigint AS label, o.%4$s AS image FROM %5$s o %6$s ORDER BY o.%2$s LIMIT %7$s) page) scored',
				result, columns.id, columns.label, columns.image, columns.relation,
				d2c_rows_to_do(result, columns.id, columns.id_type, gaps), page)
			USING model, timesteps, seed, scorer.sha256, scorer.device, scorer.precision, scorer.build,
				coalesce(nullif(vae, ''), scorer.vae, '');
		GET DIAGNOSTICS handled = ROW_COUNT;
		EXIT WHEN handled = 0 AND gaps;
		-- Rows that came after a run may have keys before its last one, random ones at most times.
		gaps := gaps OR handled = 0;
		CONTINUE WHEN handled = 0;
		done := done + handled;
		pages := pages + 1;
		IF NOT atomic THEN
			COMMIT;
			PERFORM pg_catalog.set_config('search_path', path, true);
		END IF;
		IF clock_timestamp() > reported + interval '5 seconds' THEN
			PERFORM d2c_report('scored', done, total, before, started);
			reported := clock_timestamp();
		END IF;
		-- Pages of some ten seconds: a page is what a crash loses.
		IF page_rows IS NULL THEN
			page := least(greatest(page * least(10 / greatest(extract(epoch FROM clock_timestamp() - page_started)::float8, 0.01), 4), 32), 16384);
		END IF;
	END LOOP;
	PERFORM d2c_report('scored', done, total, before, started);
	IF NOT atomic THEN
		COMMIT;
	END IF;
	PERFORM pg_catalog.set_config('search_path', caller_path, true);
END $$;
COMMENT ON PROCEDURE d2c_score(regclass, text, text, integer, bigint, text, text, text, integer, integer, text) IS
	'scores every row of a table (image bytea, integer label) into target, page by page in the order of its key, one transaction each; called again it goes on; a bad row has its error in the result; the key defaults to the primary key, page_rows to pages of some ten seconds, vae to the model''s own autoencoder where it takes latents';
