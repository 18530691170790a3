-- prepare.sql: what the server is to know of a table of images.

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
	ELSIF d2c_is_distributed(source) THEN
		RAISE EXCEPTION 'table % is distributed', source
			USING ERRCODE = 'feature_not_supported', DETAIL = 'Its images are on other servers.',
				HINT = 'Call it before create_distributed_table(), which gives the settings to the shards.';
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
