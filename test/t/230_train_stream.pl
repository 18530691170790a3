# d2c train and the rows under it: changes that are noticed, lost connections, kills while a checkpoint is written; and what
# a run tells: counters, TensorBoard, the end of a run that diverged.
use strict;
use warnings;
use Digest::SHA;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use D2CTest qw(pump_run);
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('stream');
$node->init;
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir;
my $db = $node->connstr('postgres');
my @small = qw(--device cpu --model custom --hidden 32 --depth 2 --heads 2 --patch 4 --threads 1 --mixed-precision no
  --global-batch-size 16 --learning-rate 2e-3 --log-every 10 --seed 5);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub digest { return Digest::SHA->new(256)->addfile($_[0])->hexdigest; }

sub train { return [ 'd2c', 'train', '--dbname', $db, '--table', 'things', '--name', $_[0], '--results-dir', "$dir/$_[0]", @small, @_[ 1 .. $#_ ] ]; }

# What a run that must succeed says: its loss lines, and its news.
sub run_of
{
	my ($command, $name) = @_;
	my ($stdout, $stderr);
	ok(IPC::Run::run($command, '>', \$stdout, '2>', \$stderr), $name) or diag($stderr);
	return ([ grep { /^step / } split(/\n/, $stdout) ], $stderr);
}

sub latest { my @files = sort glob("$_[0]/checkpoints/*.safetensors"); return $files[-1]; }

# 120 images of 8 x 8 pixels in three classes, with embeddings: bars that a class has in one place.
my $pixels = '';
for my $i (0 .. 119)
{
	my $image = chr(10) x 64;
	substr($image, 16 * ($i % 3) + $_, 1) = chr(150 + $i % 100) for 0 .. 15;
	$pixels .= $image;
}
for (['images', pack('NNNN', 0x803, 120, 8, 8) . $pixels], ['labels', pack('NN', 0x801, 120) . join('', map { chr($_ % 3) } 0 .. 119)])
{
	open(my $file, '>:raw', "$dir/$_->[0]") or die;
	print $file $_->[1];
	close $file;
}
command_ok([ qw(d2c import --table things), '--dbname', $db, '--idx-images', "$dir/images", '--idx-labels', "$dir/labels" ], 'images to train on');
sql(q{CREATE EXTENSION d2c;
ALTER TABLE things ADD text_embedding tensor, ADD text_mask tensor, ADD visual_embedding tensor;
UPDATE things SET text_embedding = ('f32:[[' || label || ',1],[0.25,' || -label || '],[9,9]]')::tensor, text_mask = 'u8:[1,1,0]',
	visual_embedding = ('f16:[' || array_to_string(array_fill(format('[%s,0.5,%s]', label - 1, id % 5), ARRAY[4]), ',') || ']')::tensor});

# ---- rows that change between two parts of a run ----------------------------------------------------------------

my @base = qw(--max-train-steps 20 --ckpt-every 10 --encoder-depth 1 --metrics off);
run_of(train('changed', @base), 'a run of 20 steps');
my @again = (qw(--max-train-steps 30 --ckpt-every 10 --encoder-depth 1 --metrics off --resume latest));
for (
	[ 'image', 'image = (SELECT image FROM things WHERE id = 5)', 'image' ],
	[ 'text embedding', q{text_embedding = 'f32:[[7,1],[0.25,0],[9,9]]'}, 'text_embedding' ],
	[ 'text mask', q{text_mask = 'u8:[1,1,1]'}, 'text_mask' ],
	[ 'visual embedding', q{visual_embedding = 'f16:[[1,2,3],[1,2,3],[1,2,3],[1,2,3]]'}, 'visual_embedding' ],
	[ 'ids or labels', 'label = 0', 'label' ],
	[ 'ids or labels', 'id = 1000', 'id', 1000 ])
{
	my ($what, $set, $column, $first) = (@$_, 77);
	my $hint = $what eq 'ids or labels' ? 'Restore the rows, or start afresh' : 'Restore the rows, start afresh .* or go on with --accept-changed-rows';
	sql("CREATE TABLE kept AS SELECT * FROM things WHERE id = 77; UPDATE things SET $set WHERE id = 77");
	command_fails_like(train('changed', @again),
		qr/^d2c: the rows are not those that checkpoint ".*0000020\.safetensors" was trained on\nDETAIL:  What differs: $what\. The first row, in order of the ids, is $first\.\nHINT:  $hint/m,
		"a resume notices another $column");
	sql('DELETE FROM things WHERE id IN (77, 1000); INSERT INTO things SELECT * FROM kept; DROP TABLE kept');
}
my (undef, $news) = run_of(train('changed', @again), 'with the rows as they were it goes on');
unlike($news, qr/no longer exact|not known/, 'exactly');
sql('CREATE TABLE kept AS SELECT * FROM things WHERE id = 77; UPDATE things SET image = (SELECT image FROM things WHERE id = 5) WHERE id IN (77, 80)');
my $row = qr/What differs: image\. The first row, in order of the ids, is 77\./;
$again[1] = 40;
command_fails_like(train('changed', @again), $row, 'of several changed rows the first is named');
(undef, $news) = run_of(train('changed', @again, '--accept-changed-rows'), 'changed rows are accepted when that is wanted');
like($news, qr/no longer exact from here on: rows have changed \(image\)/, 'which ends exactness');
$again[1] = 50;
(undef, $news) = run_of(train('changed', @again), 'then they are the rows of the run');
unlike($news, qr/no longer exact/, 'exactly from there');
$again[1] = 60;
(undef, $news) = run_of(train('changed', @again, '--content-digest=off'), 'without the digest the server reads no image for it');
like($news, qr/is not known: --content-digest is or was off/, 'and the run says what it does not know');
unlike(slurp_file("$dir/changed/config.json"), qr/content-digest": *true/, 'as the configuration does');

# ---- rows that change under a run -------------------------------------------------------------------------------

# Starts a run, and does something once its first lines are there; returns what it said.
sub disturb
{
	my ($command, $action) = @_;
	my ($stdout, $stderr) = ('', '');
	my $run = IPC::Run::start($command, '>', \$stdout, '2>', \$stderr);
	for (my $i = 0; $i < 6000 && $run->pumpable && $stdout !~ /^step 20 /m; $i++)
	{
		pump_run($run);
		usleep(5_000);
	}
	$action->($run);
	eval { $run->finish; };
	return ($stdout, $stderr, $run->full_result(0));
}

my @endless = qw(--max-train-steps 30000 --ckpt-every 10 --checkpoints-total-limit 2 --encoder-depth 1 --cache-memory 0 --metrics off);
my ($out, $err) = disturb(train('moved', @endless), sub { sql(q{UPDATE things SET visual_embedding = 'f16:[[1,2,3],[1,2,3],[1,2,3],[1,2,3]]' WHERE id = 33}); });
like($err, qr/^d2c: row 33 has changed since the training began\nHINT:  Go on with --resume latest/m, 'a row that changes between two epochs ends a streamed run');
ok(defined latest("$dir/moved"), 'which leaves its checkpoints');
($out, $err) = disturb(train('grown', @endless), sub { sql('CREATE TABLE added AS SELECT * FROM things WHERE id = 34; UPDATE added SET id = 1001; INSERT INTO things SELECT * FROM added'); });
like($err, qr/^d2c: row 1001 was not there when the training began$/m, 'so does a new row');
sql('DELETE FROM things WHERE id = 1001');
($out, $err) = disturb(train('lenient', @endless, '--accept-changed-rows'), sub {
	sql('UPDATE things SET image = (SELECT image FROM things WHERE id = 5) WHERE id = 99');
	usleep(500_000);
	$_[0]->signal('TERM'); });
like($err, qr/stopped; --resume latest goes on from here/, 'unless changed rows are accepted');

sql(q{UPDATE things SET image = kept.image FROM kept WHERE things.id IN (77, 80, 99)});

# ---- a killed writer of checkpoints -----------------------------------------------------------------------------

# A network whose checkpoint takes a while to write.
my @wide = qw(--hidden 256 --max-train-steps 12 --log-every 1 --ckpt-every 1 --checkpoints-total-limit 2 --encoder-depth 1 --metrics off);
my ($whole) = run_of(train('wide', @wide), 'a run that writes a checkpoint after every step');
my @seen;
my $torn = 0;
for my $try (1 .. 40)
{
	my $before = latest("$dir/torn") // '';
	my ($stdout, $stderr) = ("$dir/torn.out", '');
	my $run = IPC::Run::start(train('torn', @wide, qw(--resume latest)), '>', $stdout, '2>', \$stderr);
	my $after = $torn % 4 * 2;
	for (my $i = 0; $i < 60000 && $run->pumpable; $i++)
	{
		my ($temporary) = glob("$dir/torn/checkpoints/*.tmp");
		# Not the first one that is seen, so that the run gets on.
		last if defined $temporary && -s $temporary && (latest("$dir/torn") // '') ne $before && !$after--;
		pump_run($run) if $i % 50 == 0;
		usleep(50);
	}
	my $ended = !$run->pumpable;
	$run->signal('KILL');
	eval { $run->finish; };
	push @seen, grep { /^step .*\d$/ } split(/\n/, slurp_file($stdout));
	my ($left) = glob("$dir/torn/checkpoints/*.tmp");
	$torn++ if defined $left;
	if (defined $left && $torn == 1)
	{
		# What a kill leaves must never count, even under a name that comes later.
		rename($left, "$dir/torn/checkpoints/0000999.safetensors.tmp") or die;
	}
	last if $torn >= 4 || $ended;
}
cmp_ok($torn, '>=', 1, "$torn kills fell into the writing of a checkpoint and left a part of it");
my ($rest, $said) = run_of(train('torn', @wide, qw(--resume latest)), 'after them the run goes on');
like($said, qr/resumed after step \d+ from ".*\/00000(0|1)\d\.safetensors"/, 'from a whole checkpoint');
my %whole = map { /^step (\d+)/; $1 => $_ } @$whole;
is_deeply([ grep { /^step (\d+)/; $_ ne $whole{$1} } @seen, @$rest ], [], 'every line is that of the run that was not killed');
is(digest(latest("$dir/torn")), digest(latest("$dir/wide")), 'so are the bytes');
is(join(' ', glob("$dir/torn/checkpoints/*.tmp")), '', 'what the kills left is gone');

# ---- lost connections -------------------------------------------------------------------------------------------

# Ends a backend while it hashes the rows, before anything is streamed.
sql(q{CREATE FUNCTION slow(bigint) RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT $1 FROM pg_sleep(0.01)';
CREATE VIEW slowly AS SELECT slow(id) AS id, label, image FROM things});
my @fast = qw(--max-train-steps 10 --metrics off);
sub early
{
	my ($name, $query, @more) = @_;
	my ($ended, $stdout, $stderr) = (0, '', '');
	my $run = IPC::Run::start([ 'd2c', 'train', '--dbname', $db, '--table', 'slowly', '--name', $name, '--results-dir', "$dir/$name", @small, @fast, @more ],
		'>', \$stdout, '2>', \$stderr);
	for (my $i = 0; $i < 3000 && $run->pumpable && !$ended; $i++)
	{
		pump_run($run);
		$ended = sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '$query' AND query_start < clock_timestamp() - interval '0.1 s'");
		usleep(10_000);
	}
	eval { $run->finish; };
	is($ended, 1, "$name: the connection is cut");
	is($run->full_result(0), 0, "$name: the training goes on") or diag($stderr);
	return [ grep { /^step / } split(/\n/, $stdout) ];
}
my $calm = early('hashing', 'COPY (SELECT %IS NULL, %sha256%');
my ($plain) = run_of([ 'd2c', 'train', '--dbname', $db, '--table', 'slowly', '--name', 'calm', '--results-dir', "$dir/calm", @small, @fast ], 'the same undisturbed');
is_deeply($calm, $plain, 'has the same loss');
is_deeply(early('caching', 'COPY (SELECT %, NULL, NULL, NULL FROM slowly) TO STDOUT%'), $plain, 'cut while the set is read into memory it has that, too');

# The server is restarted, at once, in the middle of epochs and of the writing of metrics.
my @long = qw(--max-train-steps 3000 --ckpt-every 500 --log-every 20 --encoder-depth 1);
my ($uncut) = run_of(train('uncut', @long), 'a run that is left alone');
my ($restarts, $steps) = (0, 0);
my ($run, $stdout, $stderr) = (undef, '', '');
$run = IPC::Run::start(train('restarted', @long, qw(--cache-memory 0)), '>', \$stdout, '2>', \$stderr);
while ($run->pumpable && $restarts < 3)
{
	pump_run($run);
	my ($step) = $stdout =~ /^step (\d+) (?!.*^step )/ms;
	if (defined $step && $step >= $steps + 100)
	{
		$node->stop('immediate');
		$node->start;
		$restarts++;
		$steps = $step;
	}
	usleep(5_000);
}
eval { $run->finish; };
is($restarts, 3, 'the server is restarted three times');
is($run->full_result(0), 0, 'the run ends well') or diag($stderr);
is_deeply([ grep { /^step / } split(/\n/, $stdout) ], $uncut, 'as if nothing had been');
is(digest(latest("$dir/restarted")), digest(latest("$dir/uncut")), 'to the byte');
my ($streamed, $reconnects) = $stderr =~ /streamed (\d+) rows, [\d.]+ MB: \d+ rows\/s, [\d.]+ MB\/s; (\d+) reconnects; data-wait [\d.]+ %/;
cmp_ok($streamed, '>=', 48000, 'no row was left out');
cmp_ok($streamed, '<=', 48000 + 6 * 16, 'or read twice, the batches ahead aside');
cmp_ok($reconnects, '>=', 3, 'the connections were made again');
my $of = "FROM d2c_run_metrics JOIN d2c_runs ON id = run_id WHERE name = 'restarted'";
is(sql("SELECT count(*), count(DISTINCT step), min(step), max(step) $of"), '150|150|20|3000', 'every row of metrics is there once');
is(sql("SELECT max(reconnects) = $reconnects, min(rows_per_second) > 0, min(megabytes_per_second) > 0 $of"), 't|t|t', 'with what was streamed');
is(sql(q{SELECT count(reconnects) FROM d2c_run_metrics JOIN d2c_runs ON id = run_id WHERE name = 'uncut'}), '0', 'and nothing where the set is in memory');

# Rows that the database did not take before the kill come from the file when the run goes on.
my $name = 'refilled';
($run, $stdout, $stderr) = (undef, '', '');
$run = IPC::Run::start(train($name, qw(--max-train-steps 1000000 --log-every 10 --ckpt-every 10 --encoder-depth 1)), '>', \$stdout, '2>', \$stderr);
my $stopped = 0;
for (my $i = 0; $i < 6000 && $run->pumpable; $i++)
{
	pump_run($run);
	if (!$stopped && $stdout =~ /^step 20 /m) { $node->stop('immediate'); $stopped = 1; }
	last if $stdout =~ /^step 200 /m;
	usleep(5_000);
}
$run->signal('KILL');
eval { $run->finish; };
$node->start;
my ($reached) = latest("$dir/$name") =~ /(\d+)\.safetensors$/;
cmp_ok(sql("SELECT coalesce(max(step), 0) FROM d2c_run_metrics JOIN d2c_runs ON id = run_id WHERE name = '$name'"), '<', $reached, 'a server that was away has not all rows');
run_of(train($name, '--max-train-steps', $reached + 10, qw(--log-every 10 --encoder-depth 1 --resume latest)), 'a run that was killed meanwhile goes on');
is(sql("SELECT count(*) = max(step) / 10, count(DISTINCT step) = count(*), max(step) = $reached + 10 FROM d2c_run_metrics JOIN d2c_runs ON id = run_id WHERE name = '$name'"),
	't|t|t', 'then they are there, once each');

# Whoever ends a run while the server is away gets a checkpoint at once.
($stdout, $stderr) = ('', '');
$run = IPC::Run::start(train('away', qw(--max-train-steps 1000000 --ckpt-every 0 --cache-memory 0 --metrics off --encoder-depth 1 --connection-retries 1000)), '>', \$stdout, '2>', \$stderr);
for (my $i = 0; $i < 6000 && $run->pumpable && $stdout !~ /^step 20 /m; $i++) { pump_run($run); usleep(5_000); }
$node->stop('immediate');
usleep(500_000);
$run->signal('TERM');
my $asked = time;
eval { $run->finish; };
cmp_ok(time - $asked, '<', 5, 'a run that waits for the server ends when it is asked to');
is($run->full_result(0), 0, 'well') or diag($stderr);
ok(defined latest("$dir/away"), 'with a checkpoint');
$node->start;

# Tables of an earlier d2c.
sql('CREATE SCHEMA earlier; CREATE ROLE other; SET search_path = earlier; CREATE TABLE d2c_runs (LIKE public.d2c_runs INCLUDING ALL);
ALTER TABLE d2c_runs DROP error; CREATE TABLE d2c_run_metrics (LIKE public.d2c_run_metrics INCLUDING ALL);
ALTER TABLE d2c_run_metrics DROP rows_per_second, DROP megabytes_per_second, DROP reconnects; CREATE TABLE d2c_samples (LIKE public.d2c_samples INCLUDING ALL);
CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA earlier TO guest; GRANT ALL ON ALL TABLES IN SCHEMA earlier TO guest; GRANT SELECT ON public.things TO guest;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA earlier TO guest');
my @early = (qw(--max-train-steps 10 --metrics-schema earlier --encoder-depth 1));
run_of([ @{ train('guest', @early) }, '--dbname', "$db user=guest" ], "someone else's tables of an earlier d2c");
is(sql('SELECT status, count(m.*) FROM earlier.d2c_runs r, earlier.d2c_run_metrics m WHERE run_id = id GROUP BY 1'), 'finished|1', 'are used as they are');
run_of(train('owner', @early), 'the own ones');
is(sql(q{SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute WHERE attrelid = 'earlier.d2c_run_metrics'::regclass AND attname ~ 'reconnects|second$'
	AND NOT attisdropped}), 'images_per_second megabytes_per_second reconnects rows_per_second', 'get the new columns');

# ---- what a run tells -------------------------------------------------------------------------------------------

# The records of an event file: how many, and whether it ends with a whole one.
sub records
{
	my $bytes = slurp_file($_[0]);
	my ($at, $count) = (0, 0);
	while (length($bytes) - $at >= 16)
	{
		$at += 16 + unpack('Q<', substr($bytes, $at, 8));
		$count++;
	}
	return $at == length($bytes) ? $count : -1;
}
my @board = qw(--log-every 10 --sample-every 20 --encoder-depth 1 --text off --metrics off);
run_of(train('board', qw(--max-train-steps 40), @board), 'a run with samples');
my @files = glob("$dir/board/tensorboard/events.out.tfevents.*");
is(scalar(@files), 1, 'has an event file');
is(records($files[0]), 2 + 4 + 2, 'a start, four lines of scalars, two pictures');
run_of(train('board', qw(--max-train-steps 60 --resume latest), @board), 'the next part');
@files = sort glob("$dir/board/tensorboard/events.out.tfevents.*");
is(scalar(@files), 2, 'writes another one');
is(records($files[1]), 2 + 2 + 1, 'with its own steps');
run_of(train('boardless', qw(--max-train-steps 10 --tensorboard off --metrics off --encoder-depth 1)), 'a run without TensorBoard');
ok(!-e "$dir/boardless/tensorboard", 'has none');

# ---- a loss that explodes ---------------------------------------------------------------------------------------

($stdout, $stderr) = run_command(train('calmed', qw(--max-train-steps 400 --ckpt-every 100 --encoder-depth 1)));
my ($mean) = $stdout =~ /^step 400 .* denoise (\S+)/m;
cmp_ok($mean, '<', 0.25, 'a run that has learned');
command_fails_like(train('calmed', qw(--max-train-steps 800 --ckpt-every 1 --encoder-depth 1 --resume latest --learning-rate 1 --max-grad-norm 0)),
	qr/^d2c: the loss exploded at step (\d+): .*, after a mean of 0\.\d+\nDETAIL:  The batch has the rows \d+, .*\nHINT:  The last good checkpoint is ".*0000\d+\.safetensors"/m,
	'ends when its loss stays far above what it was');
like(sql(q{SELECT status, error FROM d2c_runs WHERE name = 'calmed'}), qr/^failed\|the loss exploded at step \d+: /, 'and the database says so');

$node->stop;
done_testing();
