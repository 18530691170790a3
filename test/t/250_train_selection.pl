# d2c train --selection: its rows alone, refused when they are not what they were; runs and checkpoints refer to it.
use strict;
use warnings;
use Digest::SHA;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $node = new_node('train_selection');
my $dir = PostgreSQL::Test::Utils::tempdir;
my $db = $node->connstr('postgres');
my @small = qw(--device cpu --model custom --hidden 32 --depth 2 --heads 2 --patch 4 --threads 1 --mixed-precision no
  --global-batch-size 16 --learning-rate 2e-3 --log-every 5 --seed 5 --max-train-steps 20 --ckpt-every 10 --tensorboard off);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub train { return [ 'd2c', 'train', '--dbname', $db, '--name', $_[0], '--results-dir', "$dir/$_[0]", @small, @_[ 1 .. $#_ ] ]; }
sub digest { return Digest::SHA->new(256)->addfile($_[0])->hexdigest; }

# Runs a training that must succeed; its loss lines, and what it told.
sub run_of
{
	my ($name, @options) = @_;
	my ($stdout, $stderr);
	ok(IPC::Run::run(train($name, @options), '>', \$stdout, '2>', \$stderr), "training $name") or diag($stderr);
	return (join("\n", grep { /^step / } split(/\n/, $stdout)), $stderr);
}

# What the checkpoint says of its selection.
sub selection_in
{
	my ($file) = @_;
	my $bytes = slurp_file($file);
	my $header = decode_json(substr($bytes, 8, unpack('Q<', $bytes)));
	my $text = $header->{__metadata__}{'d2c.selection'};
	return $text eq '' ? undef : decode_json($text);
}

# 120 images of 8 x 8 pixels in three classes, under the names that d2c knows and under others.
my $pixels = '';
for my $i (0 .. 119)
{
	my $image = chr(10) x 64;
	substr($image, 16 * ($i % 3) + $_, 1) = chr(150 + $i % 90 + $_ % 8) for 0 .. 15;
	$pixels .= $image;
}
append_to_file("$dir/images", pack('NNNN', 0x803, 120, 8, 8) . $pixels);
append_to_file("$dir/labels", pack('NN', 0x801, 120) . join('', map { chr($_ % 3) } 0 .. 119));
command_ok([ 'd2c', 'import', '--dbname', $db, '--table', 'things', '--idx-images', "$dir/images", '--idx-labels', "$dir/labels" ], 'images to train on');
sql(q{CREATE SCHEMA lab; CREATE TABLE lab.other AS SELECT 'row ' || id AS key, label AS y, image AS picture FROM things; ALTER TABLE lab.other ADD PRIMARY KEY (key)});
sql(q{SELECT d2c_selection_make('half', 'SELECT id FROM things WHERE id % 2 = 0 ORDER BY id', 'things')});
sql(q{SELECT d2c_selection_make('third', 'SELECT key AS id FROM lab.other WHERE substr(key, 5)::int % 3 = 0', 'lab.other',
	id_column => 'key', label_column => 'y', image_column => 'picture', schema => 'lab')});

# --- the same training as by a query ---------------------------------------------------------------------------------
my ($by_query) = run_of('by-query', '--query', 'SELECT * FROM things WHERE id % 2 = 0');
my ($by_selection, $told) = run_of('by-selection', '--selection', 'half');
is($by_selection, $by_query, 'rows of a selection give the loss lines of a query for the same rows');
my ($by_both) = run_of('by-both', '--selection', 'half', '--table', 'things');
is($by_both, $by_query, 'and so do those of a table that is named beside it');
is(digest("$dir/by-both/checkpoints/0000020.safetensors"), digest("$dir/by-selection/checkpoints/0000020.safetensors"), 'down to the bytes of the checkpoint');
is(digest("$dir/by-selection/by-selection.safetensors"), digest("$dir/by-query/by-query.safetensors"), 'the model is that of the query');
my $digest = sql(q{SELECT digest FROM d2c_selections WHERE name = 'half'});
is_deeply(selection_in("$dir/by-selection/checkpoints/0000010.safetensors"), { name => 'half', schema => 'public', id => 1, digest => $digest, gone => 0, changed => 0 },
	'a checkpoint says which selection it is of');
is(selection_in("$dir/by-query/checkpoints/0000010.safetensors"), undef, 'one of a query says nothing');
is(sql(q{SELECT name, selection, selection_schema, selection_id, selection_digest, images, config ->> 'selection' FROM d2c_runs ORDER BY id}),
	"by-query|||||60|\nby-selection|half|public|1|$digest|60|half\nby-both|half|public|1|$digest|60|half", 'and so does the run');
my ($third) = run_of('third', '--selection', 'third', '--selection-schema', 'lab');
is(sql(q{SELECT images, selection, selection_schema FROM d2c_runs WHERE name = 'third'}), '40|third|lab', 'columns of other names are those of the selection');
(undef, $told) = run_of('held', '--selection', 'third', '--selection-schema', 'lab', qw(--sample-every 20 --validation-query), 'SELECT * FROM lab.other');
is(sql(q{SELECT count(validation_loss) FROM d2c_run_metrics WHERE run_id = (SELECT id FROM d2c_runs WHERE name = 'held')}), '1', 'and of the rows that are held out');

# --- resumed ---------------------------------------------------------------------------------------------------------
unlink("$dir/by-both/checkpoints/0000020.safetensors");
my ($resumed) = run_of('by-both', '--selection', 'half', '--table', 'things', '--resume', 'latest');
is($resumed, join("\n", (split(/\n/, $by_query))[ 2, 3 ]), 'a run by selection is resumed');
is(digest("$dir/by-both/checkpoints/0000020.safetensors"), digest("$dir/by-selection/checkpoints/0000020.safetensors"), 'and ends in the same bytes');

# --- rows that are not what they were --------------------------------------------------------------------------------
sql(q{UPDATE things SET image = d2c_thumbnail(image, 7) WHERE id = 10; DELETE FROM things WHERE id IN (20, 30); UPDATE things SET label = 1 - label % 2 WHERE id = 40});
command_fails_like(train('changed', '--selection', 'half'),
	qr/the rows are not those of selection "half"\nDETAIL:  Of its 60 rows 2 are gone, 2 have another label or image\. The first, in order of the ids, is 10\.\nHINT:  Restore them/,
	'rows that are gone or changed are refused');
command_fails_like(train('changed', '--selection', 'half', '--content-digest', 'off'), qr/Of its 60 rows 2 are gone, 1 have another label or image/, 'without digests, what can be seen');
(undef, $told) = run_of('accepted', '--selection', 'half', '--accept-changed-rows', 'on', '--image-size', '8');
like($told, qr/2 rows of selection "half" are gone, 2 changed/, 'unless that is accepted');
is(sql(q{SELECT images FROM d2c_runs WHERE name = 'accepted'}), '58', 'then it trains on what there is');
is_deeply([ @{ selection_in("$dir/accepted/checkpoints/0000010.safetensors") }{qw(gone changed)} ], [ 2, 2 ], 'and its checkpoint says so');
sql('DELETE FROM things WHERE id % 2 = 0');
command_fails_like(train('empty', '--selection', 'half', '--accept-changed-rows', 'on'), qr/there are no rows to train on/, 'no rows are no training');

# --- what d2c_condense made ------------------------------------------------------------------------------------------
sql(q{CREATE TABLE pictures AS SELECT row_number() OVER () AS id, label, image FROM things; ALTER TABLE pictures ADD PRIMARY KEY (id)});
sql(q{CALL d2c_condense('pictures', 'chosen', 'tiny-sit', 8, timesteps => 1, selection => 'eight')});
my ($condensed) = run_of('condensed', '--table', 'chosen', '--text', 'off', '--visual', 'off');
is(sql(q{SELECT r.selection, r.selection_digest = s.digest, r.images FROM d2c_runs r JOIN d2c_selections s ON s.id = selection_id WHERE r.name = 'condensed'}), 'eight|t|24',
	'a run on a table of d2c_condense refers to its selection');
is(selection_in("$dir/condensed/checkpoints/0000020.safetensors")->{name}, 'eight', 'and so does its checkpoint');
is((run_of('from-source', '--selection', 'eight'))[0], $condensed, 'the selection itself is the same training');
sql(q{INSERT INTO chosen (id, label, image) SELECT id, label, image FROM pictures WHERE id NOT IN (SELECT id FROM chosen) LIMIT 1});
(undef, $told) = run_of('grown', '--table', 'chosen', '--text', 'off', '--visual', 'off');
like($told, qr/the table is not selection "eight", as which it was made: the run does not refer to it \(0 rows gone, 0 changed, 1 others\)/, 'a table with other rows is not called so');
is(sql(q{SELECT coalesce(selection, 'none') FROM d2c_runs WHERE name = 'grown'}), 'none', 'nor is its run');
sql(q{SELECT d2c_selection_drop('eight')});
(undef, $told) = run_of('dropped', '--table', 'chosen', '--text', 'off', '--visual', 'off');
like($told, qr/selection "eight", as which the table was made, is not there/, 'nor one whose selection was dropped');

# --- tables of runs that an earlier d2c made, and that belong to someone else -------------------------------------------
sql(q{ALTER TABLE d2c_runs DROP selection, DROP selection_schema, DROP selection_id, DROP selection_digest; CREATE ROLE ann LOGIN;
	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ann; GRANT SELECT ON ALL TABLES IN SCHEMA lab TO ann; GRANT USAGE ON SCHEMA lab TO ann});
my @as_ann = ('--dbname', "$db user=ann");
command_ok(train('as-ann', '--selection', 'third', '--selection-schema', 'lab', @as_ann), 'a run without the columns of selections');
is(sql(q{SELECT status FROM d2c_runs WHERE name = 'as-ann'}), 'finished', 'has its row');
command_ok(train('as-owner', '--selection', 'third', '--selection-schema', 'lab'), 'the owner gets the columns');
is(sql(q{SELECT selection FROM d2c_runs WHERE name = 'as-owner'}), 'third', 'and the row says it');

# --- without the extension -------------------------------------------------------------------------------------------
sql(q{DROP TABLE chosen; DROP EXTENSION d2c});
is((run_of('without', '--selection', 'third', '--selection-schema', 'lab'))[0], $third, 'a selection is trained on without the extension');

# --- what is asked wrongly -------------------------------------------------------------------------------------------
sql(q{INSERT INTO d2c_selections (name, method) VALUES ('open', 'none'), ('by hand', 'none'); INSERT INTO d2c_selection_items (selection, position, id) SELECT id, 1, '1' FROM d2c_selections WHERE name = 'by hand';
	UPDATE d2c_selections SET closed = now() WHERE name = 'by hand'; CREATE SCHEMA nothing});
command_fails_like(train('x', '--selection', 'none'), qr/selection "none" does not exist\nDETAIL:  It was looked for in schema "public"\./, 'a selection that is not there');
command_fails_like(train('x', '--selection', 'half', '--selection-schema', 'nothing'), qr/selection "half" does not exist/, 'nor in that schema');
command_fails_like(train('x', '--selection', 'open'), qr/selection "open" is still open/, 'an open one');
command_fails_like(train('x', '--selection', 'by hand'), qr/selection "by hand" names no source\nHINT:  Name the table with --table\./, 'one without a source');
command_fails_like(train('x', '--selection-schema', 'lab', '--table', 'things'), qr/--selection-schema needs a --selection/, 'a schema alone');
command_fails_like(train('x'), qr/give --table, --query or --selection/, 'nothing at all');
command_fails_like(train('x', '--selection', 'half', '--table', 'things', '--query', 'SELECT 1'), qr/give either --table or --query/, 'too much');
command_fails_like(train('x', '--selection', 'third', '--selection-schema', 'lab', '--id-column', 'nokey'), qr/column "nokey" does not exist/, 'another key');
sql('ALTER TABLE lab.other RENAME TO gone');
command_fails_like(train('x', '--selection', 'third', '--selection-schema', 'lab'), qr/relation "lab\.other" does not exist/, 'a source that is gone');

$node->stop;
done_testing();
