# A table spread over servers by the hash of its label: aggregates are shipped whole, the results are the single table's.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my @shards = map { new_node("shard$_") } 0, 1;
my $node = new_node('coordinator');
my $grey = golden_hex('image/grey.png');

# --- the README's recipe ---------------------------------------------------------------------------------------------
# Each shard has its rows, and a view that scores them there; the coordinator has partitions of both.
for my $shard (@shards)
{
	$shard->safe_psql('postgres', q{
		CREATE TABLE images (id bigint PRIMARY KEY, name text, label bigint, image bytea, feature tensor);
		CREATE VIEW scored AS SELECT id, name, label, d2c_difficulty(image, label, 'tiny-sit', 2) AS score, feature FROM images;
		CREATE VIEW slow AS SELECT label, d2c_difficulty(image, label, 'tiny-sit', 1000) AS score FROM images});
}
$node->safe_psql('postgres', q{
	CREATE EXTENSION postgres_fdw;
	CREATE TABLE images (id bigint, name text, label bigint, image bytea, feature tensor) PARTITION BY HASH (label);
	CREATE TABLE scored (id bigint, name text, label bigint, score double precision, feature tensor) PARTITION BY HASH (label);
	CREATE TABLE slow (label bigint, score double precision) PARTITION BY HASH (label);
	CREATE TABLE single (LIKE images)});
for my $i (0, 1)
{
	my ($host, $port) = ($shards[$i]->host, $shards[$i]->port);
	$node->safe_psql('postgres', qq{
		CREATE SERVER shard$i FOREIGN DATA WRAPPER postgres_fdw
			OPTIONS (host '$host', port '$port', dbname 'postgres', extensions 'd2c', async_capable 'true', use_remote_estimate 'true');
		CREATE USER MAPPING FOR CURRENT_USER SERVER shard$i;
		CREATE FOREIGN TABLE images$i PARTITION OF images FOR VALUES WITH (MODULUS 2, REMAINDER $i) SERVER shard$i OPTIONS (table_name 'images');
		CREATE FOREIGN TABLE scored$i PARTITION OF scored FOR VALUES WITH (MODULUS 2, REMAINDER $i) SERVER shard$i OPTIONS (table_name 'scored');
		CREATE FOREIGN TABLE slow$i PARTITION OF slow FOR VALUES WITH (MODULUS 2, REMAINDER $i) SERVER shard$i OPTIONS (table_name 'slow')});
}
$node->safe_psql('postgres', qq{
	INSERT INTO single SELECT i, 'image ' || i, i % 8, d2c_thumbnail(decode('$grey', 'hex'), 4 + i % 60), ARRAY[sin(i), cos(2 * i), i % 7]::real[]::tensor
		FROM generate_series(1, 400) i;
	INSERT INTO images SELECT * FROM single;
	ANALYZE single});
my @rows = map { $_->safe_psql('postgres', 'ANALYZE images; SELECT count(*) FROM images') } @shards;
is($rows[0] + $rows[1], 400, 'rows went to the shards');
cmp_ok($rows[$_], '>', 0, "shard $_ has rows") for 0, 1;
$node->safe_psql('postgres', 'CREATE VIEW single_scored AS SELECT id, name, label, d2c_difficulty(image, label, \'tiny-sit\', 2) AS score, feature FROM single');

# --- plans and results -----------------------------------------------------------------------------------------------
my $partitionwise = 'SET enable_partitionwise_aggregate = on;';

sub plan_of { return $node->safe_psql('postgres', "$partitionwise EXPLAIN (VERBOSE, COSTS OFF) $_[0]"); }

for my $call (
	'd2c_select(id, score, 5, 6)', 'd2c_select(name, score, 5, 6)', 'd2c_select_min(id, score, 4)', 'd2c_select_max(id, score, 4)',
	'd2c_select_medium(id, score, 4)', 'd2c_select_random(id, 7, 4)', 'd2c_select_ccs(id, score, 6, 0.1, 7)',
	q{d2c_select_product(id, ARRAY[score, 1 + id], '{1,-0.5}', 4)}, map({ "d2c_select_$_(id, feature, 4)" } qw(kcenter herding moderate gadc)),
	'd2c_moments(feature ORDER BY id)')
{
	my ($function) = $call =~ /^(\w+)/;
	my $query = "SELECT label, $call FROM scored GROUP BY label";
	my $plan = plan_of($query);
	is(() = $plan =~ /Async Foreign Scan/g, 2, "$call: two asynchronous scans");
	is(() = $plan =~ /Remote SQL: SELECT label, public\.$function\([^\n]* GROUP BY/g, 2, "$call: shipped whole to both");
	unlike($plan, qr/Partial|\bHashAggregate|GroupAggregate/, "$call: nothing is aggregated here");
	is($node->safe_psql('postgres', "$partitionwise $query ORDER BY label"),
		$node->safe_psql('postgres', "SELECT label, $call FROM single_scored GROUP BY label ORDER BY label"), "$call: as of a single table");
}

# Moments of classes, made on the shards, are merged here: one row a class travels.
my $merged = 'SELECT d2c_moments_merge(m ORDER BY label) FROM (SELECT label, d2c_moments(feature ORDER BY id) AS m FROM %s GROUP BY label) c';
like(plan_of(sprintf $merged, 'scored'), qr/Remote SQL: SELECT label, public\.d2c_moments\(feature ORDER BY id[^\n]* GROUP BY/, 'moments of classes are shipped');
is($node->safe_psql('postgres', $partitionwise . sprintf($merged, 'scored')), $node->safe_psql('postgres', sprintf $merged, 'single_scored'),
	'moments: as of a single table');

# A condition on the score is evaluated where the image is.  (A call of d2c_difficulty itself is not sent: postgres_fdw
# sends no text but what it compares with a column of the shard.)
my $hard = 'SELECT id FROM %s WHERE score > 1 AND label = 3';
my $plan = plan_of(sprintf $hard, 'scored');
like($plan, qr/Remote SQL: SELECT id FROM public\.scored WHERE \(\(score > [^\n]*\(label = 3\)\)/, 'a condition on the score is shipped');
unlike($plan, qr/Append/, 'to the shard that has the label');
is($node->safe_psql('postgres', sprintf("$hard ORDER BY id", 'scored')), $node->safe_psql('postgres', sprintf "$hard ORDER BY id", 'single_scored'),
	'and finds the same rows');

# What the recipe needs: without the option, or with another grouping, rows travel.
unlike($node->safe_psql('postgres', 'EXPLAIN (VERBOSE, COSTS OFF) SELECT label, d2c_select(id, score, 5, 6) FROM scored GROUP BY label'),
	qr/Remote SQL: [^\n]*d2c_select\(/, 'without enable_partitionwise_aggregate nothing is shipped');
unlike(plan_of('SELECT d2c_select(id, score, 5, 6) FROM scored'), qr/Remote SQL: [^\n]*d2c_select\(/, 'nor is a group that spans the shards');
is($node->safe_psql('postgres', 'SELECT d2c_select(id, score, 5, 6) FROM scored'), $node->safe_psql('postgres', 'SELECT d2c_select(id, score, 5, 6) FROM single_scored'),
	'whose result is the same');
$node->safe_psql('postgres', 'ALTER SERVER shard0 OPTIONS (DROP extensions); ALTER SERVER shard1 OPTIONS (DROP extensions)');
unlike(plan_of('SELECT label, d2c_select(id, score, 5, 6) FROM scored GROUP BY label'), qr/Remote SQL: [^\n]*d2c_select\(/, 'nor what is not in "extensions"');
$node->safe_psql('postgres', q{ALTER SERVER shard0 OPTIONS (ADD extensions 'd2c'); ALTER SERVER shard1 OPTIONS (ADD extensions 'd2c')});

# --- errors of a shard -----------------------------------------------------------------------------------------------
my ($rc, $out, $err) = $node->psql('postgres', "$partitionwise SELECT label, d2c_select(id, score, label::int, 6) FROM scored GROUP BY label");
like($err, qr/ERROR:  interval k must be at least 1, not 0\n/, 'an error of a shard has its own message');
like($err, qr/CONTEXT:  remote SQL command: SELECT label, public\.d2c_select/, 'and says what was sent');

# A shard that goes away in the middle of a query is an error of that query alone.
my $slow = start_psql($node, q{SET enable_partitionwise_aggregate = on;
	SELECT label, max(score) FROM slow GROUP BY label});
ok(wait_until(sub { $shards[1]->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND wait_event_type = 'Extension'}) > 0 }),
	'a shard is at work');
$shards[1]->stop('immediate');
($out, $err) = finish_psql($slow);
like($err, qr/ERROR: .*(terminat|closed|connection|shutting down|crash)/s, 'a shard that stops ends the query');
$shards[1]->start;
my $again = 'SELECT label, d2c_select(id, score, 5, 6) FROM %s GROUP BY label ORDER BY label';
is($node->safe_psql('postgres', $partitionwise . sprintf($again, 'scored')), $node->safe_psql('postgres', sprintf $again, 'single_scored'), 'the next one works');

# --- what Citus asks of an aggregate -----------------------------------------------------------------------------------
# Citus computes states on the workers, sends them as text, and combines them (worker_partial_agg, coordinator_combine_agg).
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT p.proname, ',') FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid
	JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
	WHERE aggtranstype = 'internal'::regtype OR aggcombinefn = 0}), 'd2c_contact_sheet', 'every aggregate but the contact sheet has a state that travels');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_aggregate a JOIN pg_proc p ON p.oid IN (aggtransfn, aggcombinefn, aggfinalfn)
	JOIN pg_depend d ON d.objid = a.aggfnoid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e' WHERE p.provolatile <> 'i'}), 0, 'and functions that are immutable');
for my $call (
	'd2c_select(id, score, 5, 6)', 'd2c_select_random(id, 7::bigint, 4)', 'd2c_select_medium(id, score, 4)', 'd2c_select_ccs(id, score, 6, 0.1, 7::bigint)',
	q{d2c_select_product(id, ARRAY[score, 1 + id], '{1,-0.5}'::float8[], 4)}, map({ "d2c_select_$_(id, feature, 4)" } qw(kcenter herding moderate gadc)))
{
	my ($name, $arguments) = $call =~ /^(\w+)\((.*)\)$/;
	my $made = $node->safe_psql('postgres', qq{
		SELECT format('CREATE AGGREGATE worker_$name (%s) (SFUNC = %s, STYPE = d2c_selection); CREATE AGGREGATE coordinator_$name (d2c_selection)
			(SFUNC = %s, STYPE = d2c_selection, FINALFUNC = %s)', pg_get_function_arguments(p.oid), aggtransfn::oid::regproc, aggcombinefn::oid::regproc, aggfinalfn::oid::regproc)
		FROM pg_aggregate a JOIN pg_proc p ON p.oid = aggfnoid WHERE proname = '$name' AND proargtypes[0] = 'bigint'::regtype});
	$node->safe_psql('postgres', $made);
	is($node->safe_psql('postgres', "SELECT label, coordinator_$name(state::d2c_selection) FROM (SELECT label, id % 3 AS shard, worker_$name($arguments)::text AS state
		FROM single_scored GROUP BY label, id % 3) w GROUP BY label ORDER BY label"),
		$node->safe_psql('postgres', "SELECT label, $call FROM single_scored GROUP BY label ORDER BY label"), "$name: in two phases, as text");
}

$_->stop for $node, @shards;
done_testing();
