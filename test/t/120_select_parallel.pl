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
	'd2c_select_random(id, 7, 20)', 'd2c_moments_count(d2c_moments(ARRAY[score, id]::real[]))')
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

$node->stop;
done_testing();
