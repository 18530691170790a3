# Citus, where it is installed: the README's recipe on a coordinator and two workers; a table distributed by label, and
# one by id, give what a single table gives.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
plan skip_all => 'Citus is not installed' unless -f "$sharedir/extension/citus.control";

my ($node, @workers) = map {
	my $new = PostgreSQL::Test::Cluster->new($_);
	$new->init;
	$new->append_conf('postgresql.conf', "shared_preload_libraries = 'citus'\nd2c.model_directory = '" . models_folder()
		. "'\nd2c.device = 'cpu'\nautovacuum = off\ncitus.enable_statistics_collection = off\n");
	$new->start;
	$new->safe_psql('postgres', 'CREATE EXTENSION citus');
	$new
} qw(coordinator worker0 worker1);
$node->safe_psql('postgres', "SELECT citus_set_coordinator_host('" . $node->host . "', " . $node->port . ')');
$node->safe_psql('postgres', "SELECT citus_add_node('" . $_->host . "', " . $_->port . ')') for @workers;
note($node->safe_psql('postgres', 'SELECT citus_version()'));

sub result_of { return $node->safe_psql('postgres', $_[0]); }
sub plan_of { return result_of("EXPLAIN (VERBOSE, COSTS OFF) $_[0]"); }

# A call that fails: its message, detail and hint.
sub error_of
{
	my ($rc, $out, $err) = $node->psql('postgres', $_[0]);
	return $err;
}

# --- one table in three forms: of this server, distributed by label, distributed by key ----------------------------------
my $grey = golden_hex('image/grey.png');
result_of(qq{
	CREATE EXTENSION d2c;
	CREATE TABLE single (id bigint PRIMARY KEY, name text, code uuid, label bigint, image bytea, feature tensor, score double precision);
	INSERT INTO single SELECT i, 'image ' || i, md5(i::text)::uuid, i % 8, d2c_thumbnail(decode('$grey', 'hex'), 4 + i % 60),
		ARRAY[sin(i), cos(2 * i), i % 7]::real[]::tensor FROM generate_series(1, 400) i;
	UPDATE single SET score = d2c_difficulty(image, label, 'tiny-sit', 2);
	SET citus.shard_count = 8;
	CREATE TABLE by_label (LIKE single);
	CREATE TABLE by_id (LIKE single INCLUDING ALL);
	SELECT d2c_prepare_table('by_label');
	SELECT create_distributed_table('by_label', 'label'), create_distributed_table('by_id', 'id');
	INSERT INTO by_label SELECT * FROM single;
	INSERT INTO by_id SELECT * FROM single});
is($workers[0]->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'd2c'}),
	result_of(q{SELECT extversion FROM pg_extension WHERE extname = 'd2c'}), 'CREATE EXTENSION reaches the workers');
is(result_of(q{SELECT count(DISTINCT n.nodeport) FROM pg_dist_placement p JOIN pg_dist_shard s USING (shardid) JOIN pg_dist_node n USING (groupid)
	WHERE s.logicalrelid = 'by_label'::regclass}), 2, 'both have shards');
is(result_of(q{SELECT string_agg(DISTINCT result, ',') FROM run_command_on_shards('by_label',
	$$SELECT attstorage FROM pg_attribute WHERE attrelid = '%s'::regclass AND attname = 'image'$$)}), 'e', 'the storage of a prepared table is that of its shards');

# --- aggregates ------------------------------------------------------------------------------------------------------
for my $id ('id', 'name', 'code')
{
	for my $call (
		"d2c_select($id, score, 5, 6)", "d2c_select_min($id, score, 4)", "d2c_select_max($id, score, 4)", "d2c_select_medium($id, score, 4)",
		"d2c_select_random($id, 7, 4)", "d2c_select_ccs($id, score, 6, 0.1, 7)", "d2c_select_product($id, ARRAY[score, 1 + id], '{1,-0.5}', 4)",
		map { "d2c_select_$_($id, feature, 4)" } qw(kcenter herding moderate gadc))
	{
		my ($function) = $call =~ /^(\w+)/;
		my $by_class = result_of("SELECT label, $call FROM single GROUP BY label ORDER BY label");
		my $plan = plan_of("SELECT label, $call FROM by_label GROUP BY label");
		like($plan, qr/Query: SELECT label, public\.$function\([^\n]* GROUP BY label\n/, "$call: in the tasks where the classes are");
		unlike($plan, qr/partial_agg|combine_agg/, "$call: and whole");
		is(result_of("SELECT label, $call FROM by_label GROUP BY label ORDER BY label"), $by_class, "$call: as of a single table");
		$plan = plan_of("SELECT label, $call FROM by_id GROUP BY label");
		like($plan, qr/Query: SELECT label, pg_catalog\.worker_partial_agg\('public\.$function\([^\n]* GROUP BY label\n/,
			"$call: states in the tasks where the classes are spread");
		is(result_of("SELECT label, $call FROM by_id GROUP BY label ORDER BY label"), $by_class, "$call: combined as of a single table");
		is(result_of("SELECT $call FROM by_label"), result_of("SELECT $call FROM single"), "$call: of all rows");
	}
}
my $cast = 'SELECT label, d2c_select(id::int, score::real, 5, 6), d2c_select_random(id, label::int, 3) FILTER (WHERE id > 100) FROM %s GROUP BY label ORDER BY label';
is(result_of(sprintf $cast, 'by_id'), result_of(sprintf $cast, 'single'), 'arguments of other types are cast on the workers');
my $nulls = 'SELECT label, d2c_select(id, CASE WHEN label <> 5 AND id %% 3 = 0 THEN score END, 5, 6) FROM %s GROUP BY label ORDER BY label';
is(result_of(sprintf $nulls, 'by_id'), result_of(sprintf $nulls, 'single'), 'shards and classes without scores');
my $unequal = error_of('SELECT d2c_select(id, score, (label + 1)::int, 6) FROM by_label');
like($unequal, qr/ERROR:  parameters of a selection must be equal for all rows of a group\n/, 'parameters that differ between shards are an error');
like(error_of('SELECT label, d2c_select(id, score, label::int, 6) FROM by_label GROUP BY label'),
	qr/ERROR:  interval k must be at least 1, not 0\nHINT:.*\nCONTEXT:  while executing command on /, 'an error of a worker has its own message and hint');

# Sums of floats depend on the order: with ORDER BY rows of features travel where classes are spread, without it states.
my $moments = 'SELECT label, d2c_moments(feature ORDER BY id) FROM %s GROUP BY label ORDER BY label';
is(result_of(sprintf $moments, $_), result_of(sprintf $moments, 'single'), "moments in order, $_") for 'by_label', 'by_id';
like(plan_of(sprintf $moments, 'by_label'), qr/Query: SELECT label, public\.d2c_moments\(feature ORDER BY id\)/, 'whole in the tasks');
unlike(plan_of(sprintf $moments, 'by_id'), qr/Query: [^\n]*d2c_moments\(/, 'but not where classes are spread');
for my $argument ('feature', 'feature::real[]')
{
	like(plan_of("SELECT d2c_moments($argument) FROM by_id"), qr/worker_partial_agg\('public\.d2c_moments\(/, "moments of $argument as states");
	is(result_of("SELECT d2c_moments_count(m), d2c_frechet(m, (SELECT d2c_moments(feature) FROM single)) < 1e-6 FROM (SELECT d2c_moments($argument) AS m FROM by_id) m"),
		'400|t', 'and as of a single table but for rounding');
}
is(result_of('SELECT d2c_moments_count(d2c_moments_merge(m)) FROM (SELECT label, d2c_moments(feature) AS m FROM by_label GROUP BY label) c'), 400, 'moments of classes merge');
my $sheet = 'SELECT label, md5(d2c_contact_sheet(image, name ORDER BY id)) FROM %s GROUP BY label ORDER BY label';
is(result_of(sprintf $sheet, $_), result_of(sprintf $sheet, 'single'), "contact sheets, $_") for 'by_label', 'by_id';

# --- scores ----------------------------------------------------------------------------------------------------------
my $right = 'SELECT count(*), count(*) FILTER (WHERE r.score = s.score) FROM %s r JOIN single s USING (id)';
my $score = q{d2c_difficulty(image, label, 'tiny-sit', 2)};
like(plan_of("SELECT id, $score FROM by_id"), qr/Query: SELECT id, public\.d2c_difficulty\(image/, 'a score is computed in the tasks');
is(result_of(sprintf $right, "(SELECT id, $score AS score FROM by_id)"), '400|400', 'and is the same');
result_of("CREATE VIEW scored AS SELECT id, label, $score AS score FROM by_label");
my $selected = 'SELECT label, d2c_select(id, score, 5, 6) FROM %s GROUP BY label ORDER BY label';
like(plan_of(sprintf $selected, 'scored'), qr/Query: SELECT label, public\.d2c_select\(id, public\.d2c_difficulty\(/, 'selected by the score of a view: both in the tasks');
is(result_of(sprintf $selected, 'scored'), result_of(sprintf $selected, 'single'), 'the same ids');
result_of("UPDATE by_id SET score = NULL; UPDATE by_id SET score = $score");
is(result_of(sprintf $right, 'by_id'), '400|400', 'UPDATE of a distributed table');
like(plan_of(q{SELECT id, d2c_difficulty_batched(image, label, 'tiny-sit', 2) OVER () FROM by_label}), qr/Query: SELECT id, image AS/, 'OVER () brings the images here');
is(result_of(sprintf $right, q{(SELECT id, d2c_difficulty_batched(image, label, 'tiny-sit', 2) OVER () AS score FROM by_label)}), '400|400', 'which gives the same');

# --- the README's recipe ---------------------------------------------------------------------------------------------
$node->stop('fast');    # The engine of this server, with its counters, ends too.
$node->start;
my $insert = q{INSERT INTO scores SELECT id, label, (d).* FROM (SELECT id, label, d2c_difficulty_checked(image, label, 'tiny-sit', 2)
	OVER (PARTITION BY label) AS d FROM by_label WHERE label %s) checked};
result_of(q{CREATE TABLE scores (id bigint, label bigint, score double precision, sqlstate text, error text);
	SELECT create_distributed_table('scores', 'label', colocate_with => 'by_label')});
like(plan_of(sprintf $insert, '< 4'), qr/Query: INSERT INTO [^\n]* OVER \(PARTITION BY/, 'INSERT ... SELECT of the window form runs in the tasks');
result_of(sprintf($insert, '< 4') . ';' . sprintf($insert, '>= 4'));
is(result_of(sprintf $right, 'scores'), '400|400', 'with the same scores, by parts');
is(engine_value($node, 'pid'), '', 'without an engine on the coordinator');
isnt(engine_value($_, 'pid'), '', 'by those of the workers') for @workers;
my $picked = 'SELECT i.* FROM by_label i JOIN (SELECT label, unnest(d2c_select(id, score, 5, 6)) AS id FROM scores GROUP BY label) p USING (label, id)';
like(plan_of($picked), qr/^Custom Scan \(Citus Adaptive\)/, 'the join of images with a selection is one of the workers');
result_of("CREATE TABLE picked AS $picked; ALTER TABLE picked ADD PRIMARY KEY (id)");
result_of(q{CALL d2c_attach('picked', 'condensed', text_model => 'tiny-bert', tokens => 8)});
is(result_of('SELECT count(*), count(text_embedding) FROM condensed'), '48|48', 'and the rows selected have their embeddings here');

# --- training --------------------------------------------------------------------------------------------------------
# Rows come in an order of their own whatever the table: the same checkpoint to the last byte.
my $runs = PostgreSQL::Test::Utils::tempdir();
my %bytes;
for my $table ('single', 'by_label', 'by_id')
{
	command_ok([ qw(d2c train --dbname), $node->connstr('postgres'), '--table', $table, qw(--name run --results-dir), "$runs/$table",
		qw(--metrics off --device cpu --model custom --hidden 32 --depth 2 --heads 2 --patch 2 --image-size 8 --threads 1 --global-batch-size 64 --max-train-steps 8) ],
		"d2c train of $table");
	$bytes{$table} = slurp_file("$runs/$table/checkpoints/0000008.safetensors");
	ok($bytes{$table} eq $bytes{single}, 'the same bytes') if $table ne 'single';
}

# --- what is refused -------------------------------------------------------------------------------------------------
result_of('CREATE VIEW view_of_view AS SELECT * FROM (SELECT * FROM scored) s; CREATE TABLE one_shard (LIKE single INCLUDING ALL)');
result_of(q{SELECT create_distributed_table('one_shard', NULL)});
my $tables = result_of('SELECT count(*) FROM pg_class');
for my $source ('by_id', 'by_label', 'view_of_view', 'one_shard')
{
	for my $call ("CALL d2c_score('$source', 'refused', 'tiny-sit', id_column => 'id')", "CALL d2c_condense('$source', 'refused', 'tiny-sit', per_class => 3, id_column => 'id')",
		"CALL d2c_attach('$source', 'refused', text_model => 'tiny-bert', id_column => 'id')",
		"SELECT d2c_selection_make('refused', 'SELECT id FROM single', source => '$source', id_column => 'id')")
	{
		like(error_of($call), qr/ERROR:  table public\.$source is distributed\nDETAIL:  Citus does not join it [^\n]*\nHINT:  INSERT INTO a table of the same distribution/, "refused: $call");
	}
}
is(result_of('SELECT count(*) FROM pg_class'), $tables, 'and nothing is left behind');
like(error_of(q{SELECT * FROM d2c_prepare_table('by_id')}), qr/ERROR:  table by_id is distributed\nDETAIL: .*\nHINT:  Call it before/, 'refused: d2c_prepare_table');

# --- what is not -----------------------------------------------------------------------------------------------------
result_of(q{SELECT d2c_selection_make('interval', 'SELECT label, unnest(d2c_select(id, score, 5, 6)) AS id FROM scores GROUP BY label')});
is(result_of('SELECT items, classes FROM d2c_selections'), '48|8', 'a selection of a query on a distributed table');
for my $kind ('create_reference_table', 'citus_add_local_table_to_metadata')
{
	my $name = "of_$kind";
	result_of("CREATE TABLE $name (LIKE single INCLUDING ALL); SELECT $kind('$name'); INSERT INTO $name SELECT * FROM single");
	result_of("CALL d2c_condense('$name', 'condensed_$kind', 'tiny-sit', timesteps => 2, per_class => 3)");
	is(result_of(sprintf $right, "condensed_${kind}_scores"), '400|400', "d2c_condense of $kind");
}

# --- a worker that goes away -----------------------------------------------------------------------------------------
$workers[1]->stop('immediate');
like(error_of(sprintf $selected, 'by_label'), qr/ERROR:  connection to the remote node/, 'without a worker a query ends');
$workers[1]->start;
is(result_of(sprintf $selected, 'by_label'), result_of(sprintf $selected, 'single'), 'and works again when it is back');

$_->stop for $node, @workers;
done_testing();
