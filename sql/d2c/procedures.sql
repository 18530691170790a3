-- procedures.sql: what the procedures have in common.
-- They commit page by page and go on where the result table ends, so they carry no SET clause: search_path is set for
-- the transaction, first and after each COMMIT; what comes before names its schema.  Result tables belong to the caller.

CREATE FUNCTION d2c_model_info(model text, OUT sha256 text, OUT kind text, OUT width integer, OUT height integer,
	OUT channels integer, OUT classes integer, OUT embedding integer, OUT device text, OUT "precision" text, OUT build text,
	OUT vae text)
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION d2c_model_info(text) IS
	'one installed model and the engine that would run it: sha256 of its files (of one file, its own), kind, image size, classes, embedding width, device, precision, build; vae is the autoencoder that makes its latents of images, NULL when it takes none or none is there';

CREATE PROCEDURE d2c_is_atomic(INOUT atomic boolean)
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE d2c_is_atomic(boolean) IS 'support of d2c''s procedures: whether they may not commit where they are called';

CREATE FUNCTION d2c_one_pixel() RETURNS bytea
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT '\x89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a4944415478da6360000000020001e527defc0000000049454e44ae426082'::pg_catalog.bytea
$$;
COMMENT ON FUNCTION d2c_one_pixel() IS
	'support of d2c''s procedures: the smallest PNG, one grey pixel: what a model cannot do is to be known before hours of work';

CREATE FUNCTION d2c_require_arguments(arguments jsonb) RETURNS void
	LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	missing text;
BEGIN
	SELECT min(key) INTO missing FROM jsonb_each(arguments) WHERE value = 'null';
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION '% must not be null', missing USING ERRCODE = 'null_value_not_allowed';
	END IF;
END $$;
COMMENT ON FUNCTION d2c_require_arguments(jsonb) IS 'support of d2c''s procedures: an error when one of the arguments is null';

CREATE FUNCTION d2c_source_column(source regclass, name text, types regtype[]) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	found_type regtype;
BEGIN
	SELECT a.atttypid INTO found_type FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = source AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped;
	IF found_type IS NULL THEN
		RAISE EXCEPTION 'column "%" of table % does not exist', name, source
			USING ERRCODE = 'undefined_column', HINT = 'Name the column in the call: id_column, label_column, class_column, image_column.';
	ELSIF found_type <> ALL (types) THEN
		RAISE EXCEPTION 'column "%" of table % is of type %', name, source, found_type
			USING ERRCODE = 'datatype_mismatch', DETAIL = format('Its type must be one of %s.', array_to_string(types, ', '));
	END IF;
	RETURN quote_ident(name);
END $$;
COMMENT ON FUNCTION d2c_source_column(regclass, text, regtype[]) IS 'support of d2c''s procedures: a column''s quoted name, once its type is checked';

CREATE FUNCTION d2c_require_key(source regclass, relation text, id_column text) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	nulls bigint;
	repeated bigint;
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
			WHERE i.indrelid = source AND a.attname = id_column AND a.attnotnull
				AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1) THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT count(*) - count(%1$I), count(%1$I) - count(DISTINCT %1$I) FROM %2$s', id_column, relation) INTO nulls, repeated;
	IF nulls > 0 OR repeated > 0 THEN
		RAISE EXCEPTION 'column "%" of table % is not a key', id_column, relation
			USING ERRCODE = 'unique_violation', DETAIL = format('It has %s nulls and repeats %s values.', nulls, repeated),
				HINT = 'Name a unique column without nulls with id_column.';
	END IF;
END $$;
COMMENT ON FUNCTION d2c_require_key(regclass, text, text) IS
	'support of d2c''s procedures: an error unless a column identifies rows; looks at the values where no index says so';

CREATE FUNCTION d2c_is_distributed(relation regclass) RETURNS boolean
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	is_distributed boolean := false;
BEGIN
	-- Rows of a reference table, and of a local one that Citus knows, are all here.
	IF to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL THEN
		EXECUTE 'WITH RECURSIVE tree (oid) AS (SELECT $1::oid UNION SELECT d.refobjid FROM tree JOIN pg_catalog.pg_class c USING (oid)
				JOIN pg_catalog.pg_rewrite w ON w.ev_class = c.oid AND c.relkind = ''v''
				JOIN pg_catalog.pg_depend d ON d.classid = ''pg_catalog.pg_rewrite''::regclass AND d.objid = w.oid AND d.refclassid = ''pg_catalog.pg_class''::regclass)
			SELECT count(*) > 0 FROM tree JOIN pg_catalog.pg_dist_partition p ON p.logicalrelid = tree.oid
				WHERE p.partmethod <> ''n'' OR p.repmodel <> ''t'' AND p.colocationid <> 0' INTO is_distributed USING relation;
	END IF;
	RETURN is_distributed;
END $$;
COMMENT ON FUNCTION d2c_is_distributed(regclass) IS
	'support of d2c''s procedures: whether Citus keeps the rows of a table, or of one that a view reads, on other servers';

CREATE FUNCTION d2c_refuse_distributed(source regclass, relation text) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF d2c_is_distributed(source) THEN
		RAISE EXCEPTION 'table % is distributed', relation
			USING ERRCODE = 'feature_not_supported', DETAIL = 'Citus does not join it with the tables that a procedure makes.',
				HINT = 'INSERT INTO a table of the same distribution SELECT id, label, d2c_difficulty(image, label, model); every function and aggregate works there.';
	END IF;
END $$;
COMMENT ON FUNCTION d2c_refuse_distributed(regclass, text) IS 'support of d2c''s procedures: raises for a table that Citus has distributed';

CREATE FUNCTION d2c_source_columns(source regclass, id_column text, label_column text, class_column text, image_column text,
	OUT relation text, OUT id text, OUT id_type text, OUT label text, OUT class text, OUT image text)
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	SELECT format('%I.%I', n.nspname, c.relname) INTO relation
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source;
	IF source IS NULL THEN
		PERFORM d2c_require_arguments('{"source": null}');
	ELSIF relation IS NULL THEN
		RAISE EXCEPTION 'table with OID % does not exist', source::oid USING ERRCODE = 'undefined_table';
	END IF;
	PERFORM d2c_refuse_distributed(source, relation);
	IF id_column IS NULL THEN
		SELECT a.attname INTO id_column FROM pg_catalog.pg_index i
			JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
			WHERE i.indrelid = source AND i.indisprimary AND i.indnkeyatts = 1;
	END IF;
	IF id_column IS NULL THEN
		RAISE EXCEPTION 'table % has no primary key of one column', relation
			USING ERRCODE = 'undefined_object', HINT = 'Name a unique column without nulls with id_column.';
	END IF;
	id := d2c_source_column(source, id_column, '{smallint,integer,bigint,text,varchar,uuid}');
	SELECT CASE WHEN a.attcollation <> 0 THEN format('text COLLATE %I.%I', n.nspname, o.collname)
			WHEN a.atttypid = 'uuid'::regtype THEN 'uuid' ELSE 'bigint' END
		INTO id_type FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
		LEFT JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace WHERE a.attrelid = source AND a.attname = id_column;
	label := d2c_source_column(source, label_column, '{smallint,integer,bigint}');
	image := d2c_source_column(source, image_column, '{bytea}');
	IF class_column IS NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
			WHERE a.attrelid = source AND a.attname = 'class' AND NOT a.attisdropped) THEN
		class := label || '::text';
	ELSE
		class := format('coalesce(%s::text, %s::text)', d2c_source_column(source, coalesce(class_column, 'class'), '{text,varchar,name,bpchar}'), label);
	END IF;
	PERFORM d2c_require_key(source, relation, id_column);
END $$;
COMMENT ON FUNCTION d2c_source_columns(regclass, text, text, text, text) IS
	'support of d2c''s procedures: the quoted names of the source and its columns; the key defaults to the primary key, the class to column class, and to the label where there is none';

CREATE FUNCTION d2c_result_name(target text, suffix text, caller_schema name) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	names text[] := parse_ident(target);
BEGIN
	IF names IS NULL OR cardinality(names) > 2 THEN
		RAISE EXCEPTION 'invalid name of a result table: "%"', target
			USING ERRCODE = 'invalid_name', HINT = 'Give a name, or schema.name.';
	END IF;
	names[cardinality(names)] := names[cardinality(names)] || suffix;
	IF octet_length(names[cardinality(names)]) > 63 THEN
		RAISE EXCEPTION 'name of result table "%" is too long', names[cardinality(names)] USING ERRCODE = 'name_too_long';
	END IF;
	IF cardinality(names) = 1 AND caller_schema IS NULL THEN
		RAISE EXCEPTION 'no schema has been selected to create in' USING ERRCODE = 'invalid_schema_name', HINT = 'Give schema.name, or set search_path.';
	END IF;
	IF cardinality(names) = 1 THEN
		names := ARRAY[caller_schema::text, names[1]];
	END IF;
	RETURN format('%I.%I', names[1], names[2]);
END $$;
COMMENT ON FUNCTION d2c_result_name(text, text, name) IS 'support of d2c''s procedures: a result table''s quoted name, in the caller''s schema unless it names one';

CREATE FUNCTION d2c_result_is_new(result text, maker text, parameters jsonb) RETURNS boolean
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
COMMENT ON FUNCTION d2c_result_is_new(text, text, jsonb) IS
	'support of d2c''s procedures: whether a result table is still to be made; an error when it was made with other parameters, which its comment holds';

CREATE FUNCTION d2c_rows_to_do(result text, id text, id_type text, gaps boolean) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	last text;
BEGIN
	IF gaps THEN
		RETURN format('WHERE NOT EXISTS (SELECT FROM %s r WHERE r.id = o.%s)', result, id);
	END IF;
	EXECUTE format('SELECT r.id::text FROM %s r ORDER BY r.id DESC LIMIT 1', result) INTO last;
	RETURN CASE WHEN last IS NOT NULL THEN format('WHERE o.%s > %L::%s', id, last, split_part(id_type, ' ', 1)) END;
END $$;
COMMENT ON FUNCTION d2c_rows_to_do(text, text, text, boolean) IS
	'support of d2c''s procedures: which rows o of the source come next: those after the result''s last key, and at the end, for gaps, those that it lacks';

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
		('model_sha256', 'sha256 of the scoring model''s files'),
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

CREATE FUNCTION d2c_comment_result(result text, maker text, parameters jsonb) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COMMENT ON TABLE %s IS %L', result, maker || ' ' || parameters);
	PERFORM d2c_comment_columns(result);
END $$;
COMMENT ON FUNCTION d2c_comment_result(text, text, jsonb) IS 'support of d2c''s procedures: comments of a result table and its columns';

CREATE FUNCTION d2c_report(what text, done bigint, total bigint, since bigint, started timestamptz) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	seconds float8 := greatest(extract(epoch FROM clock_timestamp() - started)::float8, 0.001);
	rate float8 := (done - since) / seconds;
BEGIN
	IF done = since THEN
		RETURN;
	END IF;
	RAISE NOTICE '%: % of % rows, % rows/s, about % s left', what, done, total, round(rate::numeric, 1),
		ceil(greatest(total - done, 0) / greatest(rate, 0.001));
END $$;
COMMENT ON FUNCTION d2c_report(text, bigint, bigint, bigint, timestamptz) IS 'support of d2c''s procedures: a NOTICE of progress, rate and time left';

CREATE FUNCTION d2c_vae_parameters(vae text) RETURNS jsonb
	LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF vae IS NULL THEN
		RETURN '{}';
	END IF;
	RETURN jsonb_build_object('vae', vae, 'vae_sha256', (d2c_model_info(vae)).sha256);
END $$;
COMMENT ON FUNCTION d2c_vae_parameters(text) IS 'support of d2c''s procedures: what a result table records of the autoencoder behind its scores';
