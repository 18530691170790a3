# Parallel plans give what serial plans give.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $node = new_node('select');
$node->safe_psql('postgres', q{
	CREATE TABLE scored AS SELECT i::bigint AS id, i % 7 AS label, floor(1000 * sin(i))::float8 AS score FROM generate_series(1, 50000) i;
	ALTER TABLE scored SET (parallel_workers = 2);
	ANALYZE scored});

my $serial = 'SET max_parallel_workers_per_gather = 0;';
my $parallel = q{SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
	SET min_parallel_table_scan_size = 0;};
my $force = $node->safe_psql('postgres', 'SHOW server_version_num') >= 160000 ? 'debug_parallel_query' : 'force_parallel_mode';

for my $call (
	'd2c_select(id, score, 96, 10)', 'd2c_select(id::text, score, 96, 10)', 'd2c_select(md5(id::text)::uuid, score, 5, 30)',
	'd2c_select_min(id, score, 20)', 'd2c_select_max(id, score, 20)', 'd2c_select_medium(id, score, 20)',
	'd2c_select_random(id, 7, 20)', 'd2c_select_ccs(id, score, 20, 0.1, 7)', q{d2c_select_product(id, ARRAY[score + 1001, id], '{1,-0.5}', 20)},
	map({ "d2c_select_$_(id, ARRAY[score, id % 101]::real[]::tensor, 5) FILTER (WHERE id % 10 = 0)" } qw(kcenter herding moderate gadc)),
	'd2c_moments_count(d2c_moments(ARRAY[score, id]::real[]))')
{
	my $query = "SELECT label, $call FROM scored GROUP BY label ORDER BY label";
	my $expected = $node->safe_psql('postgres', "$serial $query");
	like($node->safe_psql('postgres', "$parallel EXPLAIN $query"), qr/Partial \w*Aggregate/, "$call is planned in parts");
	is($node->safe_psql('postgres', "$parallel $query"), $expected, "$call: parallel = serial");
	is($node->safe_psql('postgres', "SET $force = regress; $serial $query"), $expected, "$call: in a worker = serial");
}

# Float sums differ by rounding only.
my $query = "SELECT round((d2c_moments_mean(m))[1]::numeric, 6), round((d2c_moments_covariance(m))[1][2]::numeric, 3)
	FROM (SELECT d2c_moments(ARRAY[score, id]::real[]) AS m FROM scored) s";
is($node->safe_psql('postgres', "$parallel $query"), $node->safe_psql('postgres', "$serial $query"), 'd2c_moments: parallel = serial but for rounding');

my ($rc, $out, $err) = $node->psql('postgres', "$parallel SELECT d2c_select(id, score, CASE WHEN id > 25000 THEN 3 ELSE 2 END, 10) FROM scored");
like($err, qr/parameters of a selection must be equal for all rows of a group/, 'workers may not use different parameters');

# A selection by features ends soon after it is cancelled, here and while the engine works.
for my $memory ('1GB', '0')
{
	my ($rc, $out, $err) = $node->psql('postgres', "SET d2c.select_memory = '$memory';
		SELECT d2c_select_kcenter(1, '[1]'::tensor, 1);
		CREATE TEMP TABLE wide AS SELECT id, (SELECT array_agg(sin(id * j)::real) FROM generate_series(1, 64) j)::tensor AS v FROM generate_series(1::bigint, 6000) id;
		SET statement_timeout = 2000;
		SELECT extract(epoch FROM clock_timestamp()) AS start \\gset
		SELECT d2c_select_gadc(id, v, 300) FROM wide;
		SET statement_timeout = 0;
		SELECT extract(epoch FROM clock_timestamp()) - :start", on_error_stop => 0);
	my $seconds = (split /\n/, $out)[-1];
	like($err, qr/canceling statement due to statement timeout/, "select_memory = $memory: cancelled");
	cmp_ok($seconds, '<', 2.1, "select_memory = $memory: within 100 ms");
	ok($node->poll_query_until('postgres', q{SELECT coalesce(max(value) FILTER (WHERE name = 'computing'), '0') = '0' FROM d2c_engine_status()}),
		"select_memory = $memory: the engine does not compute on");
}

$node->stop;
done_testing();
