-- budgets.sql: how many rows of each class d2c_condense selects, which ones it may not, and which it keeps.
-- `ask` is what was asked: per_class, or total and spread, or budget (a table); every; what is held out, and the selection
-- that is continued.  Candidates are an item of FROM: id, label, score, kept.

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
		CASE WHEN ask ? 'continue_from' THEN format('LEFT JOIN %I.d2c_selection_items k ON k.selection = %s AND k.id = s.id::text COLLATE "C" ', ask ->> 'kept_schema', ask ->> 'kept_selection') END,
		CASE WHEN ask ? 'hold_out' THEN format('WHERE NOT EXISTS (SELECT FROM %s h WHERE h.%s::text = s.id::text COLLATE "C")', ask ->> 'hold_out', id) END)
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
	EXECUTE format('SELECT count(*) AS items, count(*) FILTER (WHERE o.%1$s IS NULL OR o.%2$s IS NULL) AS gone, %3$s AS held FROM %4$I.d2c_selection_items k LEFT JOIN %5$s o ON o.%1$s::text = k.id COLLATE "C" WHERE k.selection = $1', id, label,
		CASE WHEN ask ? 'hold_out' THEN format('count(*) FILTER (WHERE EXISTS (SELECT FROM %s h WHERE h.%s::text = k.id COLLATE "C"))', ask ->> 'hold_out', id) ELSE '0::bigint' END,
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

CREATE FUNCTION d2c_warn_of_plan(candidates text, ask jsonb) RETURNS numeric
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
	RETURN coalesce((ask ->> 'total')::numeric, plan.asked);
END $$;
COMMENT ON FUNCTION d2c_warn_of_plan(text, jsonb) IS 'support of d2c_condense: warns of classes too small for what is asked; returns the number of rows that are asked for';

CREATE FUNCTION d2c_report_plan(relation text, scores text, candidates text, ask jsonb) RETURNS void
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	scored bigint := 0;
	total bigint;
	asked numeric := d2c_warn_of_plan(candidates, ask);
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
		CASE WHEN parameters ? 'continue_from' THEN format('LEFT JOIN %I.d2c_selection_items k ON k.selection = %s AND k.id = r.id::text COLLATE "C"', parameters ->> 'kept_schema', parameters ->> 'kept_selection') END) USING made;
	PERFORM d2c_close_selection(schema, made);
END $$;
COMMENT ON FUNCTION d2c_record_selection(text, text, text, jsonb) IS
	'support of d2c_condense: what it has selected as a selection, those that it kept first';
