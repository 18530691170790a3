# An updated extension is the same as a fresh one, and what the tables of an earlier release hold stays.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

# Every member with all that a script can say about it.
my $members = q{
	SELECT o.kind || ' ' || o.name || ' | ' || o.definition || ' | ' || coalesce(obj_description(d.objid, d.classid::regclass::name), 'no comment')
		|| coalesce(' | ' || (SELECT string_agg(acl::text, ',' ORDER BY acl::text)
			FROM pg_proc p, unnest(p.proacl) acl WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid), '')
	FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'd2c',
	LATERAL (SELECT d.classid::regclass::text AS kind, pg_describe_object(d.classid, d.objid, 0) AS name,
		coalesce(CASE d.classid
			WHEN 'pg_proc'::regclass THEN CASE (SELECT prokind FROM pg_proc WHERE oid = d.objid)
				WHEN 'a' THEN (SELECT (to_jsonb(a) - '{aggfnoid,aggtranstype}'::text[]) ||
					jsonb_build_object('state', format_type(aggtranstype, NULL), 'parallel', p.proparallel, 'volatile', p.provolatile)
					FROM pg_aggregate a JOIN pg_proc p ON p.oid = aggfnoid WHERE aggfnoid = d.objid)::text
				ELSE pg_get_functiondef(d.objid) END
			WHEN 'pg_type'::regclass THEN (SELECT to_jsonb(t) - '{oid,typnamespace,typowner,typrelid,typarray,typelem,typbasetype}'::text[]
				FROM pg_type t WHERE oid = d.objid)::text || coalesce((SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ',' ORDER BY attnum)
				FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid WHERE t.oid = d.objid), '')
			WHEN 'pg_cast'::regclass THEN (SELECT concat_ws(' ', castcontext, castmethod, castfunc::regprocedure) FROM pg_cast WHERE oid = d.objid)
			WHEN 'pg_operator'::regclass THEN (SELECT concat_ws(' ', oprcode, oprcanhash, oprcanmerge, oprrest, oprjoin) FROM pg_operator WHERE oid = d.objid)
			END, '') AS definition) o
	WHERE d.deptype = 'e' ORDER BY 1};

my $node = new_node('upgrade');
my $version = $node->safe_psql('postgres', q{SELECT default_version FROM pg_available_extensions WHERE name = 'd2c'});
my $fresh = $node->safe_psql('postgres', $members);
cmp_ok(scalar(split(/\n/, $fresh)), '>', 100, 'a fresh extension has its members');

for my $old ($node->safe_psql('postgres', q{SELECT string_agg(version, ' ' ORDER BY version) FROM pg_available_extension_versions
	WHERE name = 'd2c' AND version <> (SELECT default_version FROM pg_available_extensions WHERE name = 'd2c')}) =~ /(\S+)/g)
{
	(my $database = "from_$old") =~ tr/./_/;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, qq{
		CREATE EXTENSION d2c VERSION '$old';
		CREATE TABLE kept (id bigint PRIMARY KEY, half tensor(f16), moments d2c_moments);
		INSERT INTO kept SELECT g, ARRAY[g, 0.5]::real[]::tensor, (SELECT d2c_moments(ARRAY[i, i * g]::real[]) FROM generate_series(1, 5) i)
			FROM generate_series(1, 9) g;
		CREATE VIEW picked AS SELECT d2c_select(id, id / 2, 2, 3) AS ids FROM kept});
	my $digest = 'SELECT md5(string_agg(k::text, chr(10) ORDER BY id)) FROM kept k';
	my $before = $node->safe_psql($database, $digest);
	$node->safe_psql($database, 'ALTER EXTENSION d2c UPDATE');
	is($node->safe_psql($database, q{SELECT extversion FROM pg_extension WHERE extname = 'd2c'}), $version, "from $old to $version");
	is($node->safe_psql($database, $members), $fresh, "every member as in a fresh $version");
	is($node->safe_psql($database, $digest), $before, 'values of the types are what they were');
	is($node->safe_psql($database, 'SELECT ids FROM picked'), '{1,3,5}', 'a view on an aggregate works');
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extension_versions WHERE name = 'd2c'}) > 1, 1, 'there is an earlier release');

done_testing();
