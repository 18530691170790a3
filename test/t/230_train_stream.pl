# d2c train and the rows under it: changes that are noticed, lost connections, kills while a checkpoint is written; and what
# a run tells: counters, TensorBoard, the end of a run that diverged.
use strict;
use warnings;
use Digest::SHA;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
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
	[ 'ids or labels', 'id = 1000', 'id', 78 ])
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
		$run->pump_nb;
		usleep(5_000);
	}
	$action->($run);
	eval { $run->finish; };
	return ($stdout, $stderr, $run->full_result(0));
}

my @endless = qw(--max-train-steps 1000000 --ckpt-every 10 --checkpoints-total-limit 2 --encoder-depth 1 --cache-memory 0 --metrics off);
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

$node->stop;
done_testing();
