-- selections.sql: selections as things: named, immutable once closed, compared with each other and with their source.
-- Two ordinary tables, and the guard of what is closed, are made on first use in a schema that the user names, and are
-- the user's own.  Nothing in them refers to the extension, so dump, restore and DROP EXTENSION keep them.
--
-- What users call has no SET clause, so that it sees the caller's search_path, and a body whose names are bound when it
-- is made; it hands the path of the support functions down to them.

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
		('d2c_selections', 'scorer_sha256', 'sha256 of that model''s files'),
		('d2c_selections', 'source', 'table that the rows are in, quoted, with its schema'),
		('d2c_selections', 'id_column', 'key of the source'),
		('d2c_selections', 'label_column', 'class number in the source'),
		('d2c_selections', 'image_column', 'image file in the source'),
		('d2c_selections', 'items', 'number of rows; set when it is closed'),
		('d2c_selections', 'classes', 'number of classes among them; set when it is closed'),
		('d2c_selections', 'digest', 'of all items: sha256 in hex of the lines label, tab, digest of the class, by label; the digest of a class is that of the lines position, tab, id, tab, rank, tab, score, tab, digest in hex, by position; missing values are empty, and backslash, tab and newline in an id are \\, \t and \n'),
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
			FROM (SELECT label, count(*) AS items, encode(sha256(convert_to(string_agg(format(E''%%s\t%%s\t%%s\t%%s\t%%s\n'', position, replace(replace(replace(id, chr(92), chr(92) || chr(92)), chr(9), chr(92) || ''t''), chr(10), chr(92) || ''n''), rank, score, encode(digest, ''hex'')), '''' ORDER BY position), ''UTF8'')), ''hex'') AS digest
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
	blind boolean := current_setting('transaction_isolation') IN ('repeatable read', 'serializable');
	opened text := coalesce(current_setting('d2c_selection.opened', true), '');
	seen bigint[] := '{}';
	gone bigint;
	one record;
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
			seen := seen || one.id;
			gone := 0;
			IF TG_OP = 'DELETE' AND one.id::text = dropped THEN		-- Its row goes with its items, which fails where one is left.
				EXECUTE format('DELETE FROM %I.d2c_selections WHERE id = $1', TG_TABLE_SCHEMA) USING one.id;
				GET DIAGNOSTICS gone = ROW_COUNT;
			END IF;
			IF one.closed IS NOT NULL AND gone = 0 THEN
				RAISE EXCEPTION 'selection "%" is closed', one.name USING ERRCODE = 'object_not_in_prerequisite_state',
					DETAIL = 'Its items cannot be changed.', HINT = 'Make another selection, or drop it whole with d2c_selection_drop().';
			END IF;
		END LOOP;
		FOR one IN EXECUTE format('SELECT t.selection FROM (%s) t WHERE t.selection <> ALL ($1) LIMIT 1', touched) USING seen LOOP
			RAISE EXCEPTION 'items of selection % cannot be changed', one.selection USING ERRCODE = 'insufficient_privilege',
				DETAIL = format('Its row in table %I.d2c_selections is missing, or a policy hides it.', TG_TABLE_SCHEMA), HINT = 'Policies for SELECT and for UPDATE must show it to whoever changes its items.';
		END LOOP;
		RETURN NULL;
	ELSIF TG_OP = 'INSERT' THEN
		IF NEW.closed IS NOT NULL THEN
			RAISE EXCEPTION 'selection "%" cannot be closed before it has items', NEW.name USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Insert it open, then its items, then close it; to restore data into tables that are there, use --disable-triggers.';
		END IF;
		IF blind THEN		-- Until this transaction ends no one else adds to it.  A savepoint that takes the row back takes this back.
			PERFORM set_config('d2c_selection.opened', format('%s %s/%s', opened, TG_RELID, NEW.id), true);
		END IF;
		RETURN NEW;
	ELSIF OLD.closed IS NOT NULL AND NOT (TG_OP = 'DELETE' AND OLD.id::text IS NOT DISTINCT FROM dropped) THEN
		RAISE EXCEPTION 'selection "%" is closed', OLD.name USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'It cannot be changed.', HINT = 'Make another selection, or drop it whole with d2c_selection_drop().';
	ELSIF TG_OP = 'DELETE' THEN
		RETURN OLD;
	ELSIF NEW.closed IS NOT NULL THEN
		IF blind AND format('%s/%s', TG_RELID, OLD.id) <> ALL (string_to_array(opened, ' ')) THEN
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
	guarded boolean;
BEGIN
	-- A query, for to_regclass() may not have heard of what another session has just committed.  Comments may be lost in a dump, triggers are not.
	SELECT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = c.oid AND p.proname = 'd2c_selection_guard') INTO guarded
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = schema AND c.relname = 'd2c_selections';
	IF NOT guarded THEN
		RAISE EXCEPTION 'table %.d2c_selections exists and does not hold selections of d2c', quote_ident(schema) USING ERRCODE = 'duplicate_table', HINT = 'Name another schema.';
	END IF;
	RETURN guarded IS NOT NULL;
END $$;
COMMENT ON FUNCTION d2c_selections_are_there(text) IS 'support of d2c''s selections: whether a schema has their tables, which their guard shows; an error when it has others of the name';

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
		rank bigint, score double precision, digest bytea CHECK (digest <> ''''), PRIMARY KEY (selection, id), UNIQUE NULLS NOT DISTINCT (selection, label, position))', schema);
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
	EXECUTE format('SELECT count(*) AS rows, count(*) - count(q.id) AS nulls, count(q.id) - count(DISTINCT q.id::text COLLATE "C") AS repeated FROM %s q', rows) INTO found;
	IF found.rows = 0 THEN
		RAISE EXCEPTION 'the query gives no rows' USING ERRCODE = 'no_data_found';
	ELSIF found.nulls > 0 OR found.repeated > 0 THEN
		RAISE EXCEPTION 'the ids of a selection must be unique and not null'
			USING ERRCODE = 'unique_violation', DETAIL = format('The query gives %s nulls and repeats %s values.', found.nulls, found.repeated);
	ELSIF source IS NULL THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT count(*) AS missing, string_agg(id, '', '' ORDER BY id) FILTER (WHERE place <= 5) AS examples FROM
			(SELECT q.id::text AS id, row_number() OVER (ORDER BY q.id) AS place FROM %s q WHERE NOT EXISTS (SELECT FROM %s o WHERE o.%s::text = q.id::text COLLATE "C")) m',
		rows, source, source_id) INTO found;
	IF found.missing > 0 THEN
		RAISE EXCEPTION '% rows of the query are not in table %', found.missing, source USING ERRCODE = 'foreign_key_violation', DETAIL = format('Ids: %s.', found.examples || CASE WHEN found.missing > 5 THEN ', ...' ELSE '' END);
	END IF;
END $$;
COMMENT ON FUNCTION d2c_check_query(regclass, text, text) IS 'support of d2c_selection_make: an error unless the ids are unique, not null and in the source';

CREATE FUNCTION d2c_check_taken(rows regclass, name text, source text, schema text, selection bigint) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	found record;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = rows AND a.attname = name AND NOT a.attisdropped) THEN
		RETURN;
	END IF;
	EXECUTE format('SELECT count(*) OVER () AS rows, i.id, q.%1$I::text AS given, coalesce(i.%1$I::text, ''null'') AS taken FROM %2$s q JOIN %3$I.d2c_selection_items i ON i.selection = $1 AND i.id = q.id::text COLLATE "C"
			WHERE q.%1$I IS NOT NULL AND q.%1$I IS DISTINCT FROM i.%1$I ORDER BY q.ctid LIMIT 1', name, rows, schema) INTO found USING selection;
	IF found.rows > 0 THEN
		RAISE EXCEPTION '% rows of the query have another % than table %', found.rows, name, source USING ERRCODE = 'integrity_constraint_violation',
			DETAIL = format('The first has id %s: %s, and %s in the table.', found.id, found.given, found.taken), HINT = format('Leave column "%s" out of the query: it is taken from the table.', name);
	END IF;
END $$;
COMMENT ON FUNCTION d2c_check_taken(regclass, text, text, text, bigint) IS
	'support of d2c_selection_make: an error where a column of the query''s rows is not what the selection''s items have taken from the source';

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
	-- First of all: where the query has read a distributed table, Citus makes no function any more.
	PERFORM d2c_require_selections(schema);
	PERFORM set_config('search_path', caller_path, true);
	EXECUTE format(E'CREATE TEMPORARY TABLE d2c_selection_rows ON COMMIT DROP AS SELECT * FROM (%s\n) d2c_query', query);
	PERFORM set_config('search_path', path, true);
	rows := 'pg_temp.d2c_selection_rows';
	PERFORM d2c_query_column(rows, 'id', '{smallint,integer,bigint,text,varchar,uuid}', true);
	label := d2c_query_column(rows, 'label', '{smallint,integer,bigint}', false);
	digest := d2c_query_column(rows, 'digest', '{bytea}', false);
	PERFORM d2c_check_query(rows, description ->> 'source', quote_ident(description ->> 'id_column'));
	IF source IS NOT NULL THEN
		label := format('o.%I', description ->> 'label_column');
		digest := format('d2c_image_digest(o.%I)', description ->> 'image_column');
		found := format('JOIN %s o ON o.%I::text = q.id::text COLLATE "C"', description ->> 'source', description ->> 'id_column');
	END IF;
	made := d2c_open_selection(schema, name, description);
	-- The order of the query's rows is that of the selection.
	EXECUTE format('INSERT INTO %I.d2c_selection_items (selection, label, position, id, rank, score, digest)
		SELECT $1, %2$s, row_number() OVER (PARTITION BY %2$s ORDER BY q.ctid), q.id::text, %3$s, %4$s, %5$s FROM %6$s q %7$s', schema, coalesce(label, 'NULL::bigint'),
		coalesce(d2c_query_column(rows, 'rank', '{smallint,integer,bigint}', false), 'NULL'),
		coalesce(d2c_query_column(rows, 'score', '{real,double precision}', false), 'NULL'), coalesce(digest, 'NULL'), rows, found) USING made;
	IF source IS NOT NULL THEN
		PERFORM d2c_check_taken(rows, 'label', description ->> 'source', schema, made), d2c_check_taken(rows, 'digest', description ->> 'source', schema, made);
	END IF;
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
	'makes a selection of the rows that a query gives, in their order, and closes it; the query gives id (integer, text or uuid) and, where they are known, label, rank, score and digest; with source, a table of images, the ids must be in it, and label and digest are taken from there, an error where the query gives others; parameters default to the query, schema to where search_path finds d2c_selections, else to its first; returns the selection''s id';

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
	-- One without items is still there.
	EXECUTE format('DELETE FROM %I.d2c_selections s WHERE s.id = $1', schema) USING selection;
END $$;
COMMENT ON FUNCTION d2c_remove_selection(text, text, text) IS 'support of d2c_selection_drop: the guard lets that selection go whose id is in d2c_selection.dropped, its row with its items';

CREATE FUNCTION d2c_selection_drop(name text, schema text DEFAULT NULL) RETURNS void
	LANGUAGE sql
BEGIN ATOMIC
	SELECT d2c_remove_selection(d2c_path(), d2c_selection_schema(schema), name);
END;
COMMENT ON FUNCTION d2c_selection_drop(text, text) IS 'drops a selection whole, closed or open; whoever may delete from both tables may drop anyone''s';

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
			FROM %4$I.d2c_selection_items i LEFT JOIN %5$s o ON o.%1$I::text = i.id COLLATE "C" WHERE i.selection = $1) c WHERE problem IS NOT NULL ORDER BY 1, 2',
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
