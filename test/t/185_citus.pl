# Citus, where it is installed: a table distributed by label, and one by id, give what a single table gives.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
plan skip_all => 'Citus is not installed' unless -f "$sharedir/extension/citus.control";

my $preload = "shared_preload_libraries = 'citus'\nmax_prepared_transactions = 100\nwal_level = logical\n";
my ($node, @workers) = map { new_node($_, $preload) } qw(coordinator worker0 worker1);
my $grey = golden_hex('image/grey.png');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub plan_of { return sql("EXPLAIN (VERBOSE, COSTS OFF) $_[0]"); }

$_->safe_psql('postgres', 'CREATE EXTENSION citus') for @workers, $node;
sql("SELECT citus_set_coordinator_host('" . $node->host . "', " . $node->port . ')');
sql("SELECT citus_add_node('" . $_->host . "', " . $_->port . ')') for @workers;
is(sql('SELECT count(*) FROM citus_get_active_worker_nodes()'), 2, 'two workers');
sql(qq{
	CREATE TABLE single (id bigint PRIMARY KEY, name text, label bigint, image bytea, feature tensor);
	INSERT INTO single SELECT i, 'image ' || i, i % 8, d2c_thumbnail(decode('$grey', 'hex'), 4 + i % 60), ARRAY[sin(i), cos(2 * i), i % 7]::real[]::tensor
		FROM generate_series(1, 400) i;
	CREATE TABLE by_label (LIKE single); SELECT create_distributed_table('by_label', 'label', shard_count => 4); INSERT INTO by_label SELECT * FROM single;
	CREATE TABLE by_id (LIKE single INCLUDING ALL); SELECT create_distributed_table('by_id', 'id', shard_count => 4); INSERT INTO by_id SELECT * FROM single});
sql("CREATE VIEW $_" . "_scored AS SELECT id, name, label, d2c_difficulty(image, label, 'tiny-sit', 2) AS score, feature FROM $_") for qw(single by_label by_id);
for my $call (
	'd2c_select(id, score, 5, 6)', 'd2c_select(name, score, 5, 6)', 'd2c_select_min(id, score, 4)', 'd2c_select_max(id, score, 4)',
	'd2c_select_medium(id, score, 4)', 'd2c_select_random(id, 7, 4)', 'd2c_select_ccs(id, score, 6, 0.1, 7)',
	q{d2c_select_product(id, ARRAY[score, 1 + id], '{1,-0.5}', 4)}, map({ "d2c_select_$_(id, feature, 4)" } qw(kcenter herding moderate gadc)))
{
	my ($function) = $call =~ /^(\w+)/;
	my ($single, $label, $id) = map { "SELECT label, $call FROM ${_}_scored GROUP BY label" } qw(single by_label by_id);
	is(sql("$label ORDER BY label"), sql("$single ORDER BY label"), "$call: by label as of a single table");
	is(sql("$id ORDER BY label"), sql("$single ORDER BY label"), "$call: by id, too");
	like(plan_of($label), qr/Query: SELECT label, public\.$function\([^\n]* GROUP BY/, "$call: by label made whole by the workers");
	like(plan_of($id), qr/coord_combine_agg.*worker_partial_agg\('public\.$function\(/s, "$call: by id their states are combined");
}

# --- moments, and what is computed for every row -----------------------------------------------------------------------
cmp_ok(sql("SELECT d2c_frechet((SELECT d2c_moments(feature) FROM $_), (SELECT d2c_moments(feature) FROM single))"), '<', 1e-9, "moments of $_")
	for qw(by_label by_id);
sql(q{CREATE TABLE scores (id bigint, label bigint, score double precision); SELECT create_distributed_table('scores', 'label', colocate_with => 'by_label')});
my $score = q{INSERT INTO scores SELECT id, label, d2c_difficulty(image, label, 'tiny-sit', 2) FROM by_label};
like(plan_of($score), qr/Query: INSERT INTO public\.scores_\d+ [^\n]* SELECT [^\n]*d2c_difficulty\(/, 'scores are made and kept where the images are');
sql($score);
is(sql('SELECT count(*) FROM (SELECT * FROM scores EXCEPT SELECT id, label, score FROM single_scored) d'), 0, '... and are those of a single table');
is(sql('SELECT count(*) FROM scores'), 400, '... all of them');
command_ok([ 'd2c', 'train', '--dbname', $node->connstr('postgres'), '--results-dir', PostgreSQL::Test::Utils::tempdir . '/run',
	qw(--table by_label --model custom --hidden 32 --depth 1 --heads 2 --patch 2 --image-size 8 --max-train-steps 10 --global-batch-size 16) ], 'a trainer streams from it');

# --- the procedures are for tables of one server -----------------------------------------------------------------------
for my $call (q{CALL d2c_score('by_id', 'unmade', model => 'tiny-sit')}, q{CALL d2c_condense('by_label', 'unmade', model => 'tiny-sit', per_class => 1)},
	q{CALL d2c_attach('by_id', 'unmade', text_model => 'tiny-bert')}, q{SELECT d2c_selection_make('unmade', 'SELECT id FROM by_id', 'by_id')})
{
	my ($rc, undef, $err) = $node->psql('postgres', $call);
	like($err, qr/ERROR:  table public\.by_\w+ is distributed\nDETAIL:  Citus does not join it [^\n]*\nHINT:  INSERT INTO a table of the same distribution/, $call);
}
is(sql(q{SELECT count(*) FROM pg_class WHERE relname LIKE 'unmade%' OR relname LIKE 'd2c_selection%'}), 0, 'nothing is left');
sql(q{CREATE TABLE classes (LIKE single INCLUDING ALL); SELECT create_reference_table('classes'); INSERT INTO classes SELECT * FROM single});
sql(q{CALL d2c_score('classes', 'made', model => 'tiny-sit', timesteps => 2)});
is(sql('SELECT count(*) FROM made JOIN single_scored s USING (id) WHERE made.score = s.score'), 400, 'a reference table is one');

$_->stop for $node, @workers;
done_testing();
