# d2c train and d2c sample against a server: learning, exact resume, what is stored, what is refused.
use strict;
use warnings;
use Digest::SHA;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use D2CTest qw(pump_run);
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('train');
$node->init;
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir;
my $db = $node->connstr('postgres');
my @small = qw(--device cpu --model custom --hidden 32 --depth 2 --heads 2 --patch 4 --threads 1 --mixed-precision no
  --global-batch-size 16 --learning-rate 2e-3 --log-every 10 --seed 5);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub write_file
{
	my ($name, $bytes) = @_;
	open(my $file, '>:raw', "$dir/$name") or die "$dir/$name: $!";
	print $file $bytes;
	close $file;
	return "$dir/$name";
}

sub digest { return Digest::SHA->new(256)->addfile($_[0])->hexdigest; }

sub train { return [ 'd2c', 'train', '--dbname', $db, '--table', 'things', '--name', $_[0], '--results-dir', "$dir/$_[0]", @small, @_[ 1 .. $#_ ] ]; }

# The loss lines of a run; it must succeed.
sub lines_of
{
	my ($command, $name) = @_;
	my ($stdout, $stderr);
	ok(IPC::Run::run($command, '>', \$stdout, '2>', \$stderr), $name) or diag($stderr);
	return grep { /^step / } split(/\n/, $stdout);
}

sub latest { my @files = sort glob("$_[0]/checkpoints/*.safetensors"); return $files[-1]; }

# Starts a run, waits until the condition holds, then does what is asked; returns what it printed.
sub interrupt
{
	my ($command, $condition, $action) = @_;
	my ($stdout, $stderr) = (PostgreSQL::Test::Utils::tempdir . '/stdout', '');
	# A file, as kill_kill() leaves unread what is in a pipe.
	my $run = IPC::Run::start($command, '>', $stdout, '2>', \$stderr);
	for (my $i = 0; $i < 6000 && $run->pumpable; $i++)
	{
		pump_run($run);
		last if $condition->(slurp_file($stdout));
		usleep(10_000);
	}
	$action->($run);
	eval { $run->finish; };
	return (slurp_file($stdout), $stderr, $run->full_result(0));
}

# 120 images of 8 x 8 pixels in three classes: bars that a class has in one place, of varying brightness, brighter to the right.
my $pixels = '';
for my $i (0 .. 119)
{
	my $image = chr(10) x 64;
	substr($image, 16 * ($i % 3) + $_, 1) = chr(150 + $i % 90 + $_ % 8) for 0 .. 15;
	$pixels .= $image;
}
my @idx = (
	'--idx-images', write_file('images', pack('NNNN', 0x803, 120, 8, 8) . $pixels),
	'--idx-labels', write_file('labels', pack('NN', 0x801, 120) . join('', map { chr($_ % 3) } 0 .. 119)));
command_ok([ 'd2c', 'import', '--dbname', $db, '--table', 'things', @idx ], 'images to train on');

# ---- learning, and what a run leaves ----------------------------------------------------------------------------

my @plain = lines_of(train('plain', qw(--max-train-steps 300 --ckpt-every 100 --sample-every 150 --checkpoints-total-limit 2
		--metrics-schema public --model-directory), "$dir/models", '--validation-query', 'SELECT * FROM things'), 'a run of 300 steps');
my ($first) = $plain[0] =~ /^step 10 epoch 1 loss (\S+) /;
my ($last) = $plain[-1] =~ /^step 300 epoch 40 loss (\S+) /;
cmp_ok($last, '<', 0.5 * $first, 'the loss falls by more than half');
like($plain[-1], qr/ validation_loss 0\.\d+ nearest 0\.\d+$/, 'held-out loss and distance to the training images');
is(join(' ', map { s/.*\///r } sort glob("$dir/plain/checkpoints/*")), '0000200.safetensors 0000300.safetensors',
	'two checkpoints are kept');
is(sql('SELECT name, status, steps, images, seconds > 0, finished IS NOT NULL FROM d2c_runs'), 'plain|finished|300|120|t|t',
	'the run has a row');
is(sql(q{SELECT config->>'hidden', config->>'image-size', config->>'channels', config->>'num-classes' FROM d2c_runs}),
	'32|8|1|3', 'which says how it was configured');
is(sql('SELECT count(*), min(step), max(step), count(validation_loss), count(nearest_distance) FROM d2c_run_metrics'),
	'30|10|300|2|2', 'its metrics are rows');
is(sql(q{SELECT string_agg(step::text, ' ' ORDER BY step), bool_and(encode(substr(image, 2, 3), 'escape') = 'PNG') FROM d2c_samples}),
	'150 300|t', 'so are its samples');
is(sql(q{SELECT count(*) FROM pg_class c, pg_attribute a WHERE relname IN ('d2c_runs') AND a.attrelid = c.oid
	AND col_description(c.oid, attnum) IS NOT NULL}), '10', 'whose columns say what they are');
is(scalar(split(/\n/, slurp_file("$dir/plain/metrics.jsonl"))), 30, 'and lines of JSON');
is(digest("$dir/models/plain.safetensors"), digest("$dir/plain/plain.safetensors"), 'the result is a model by name');
like((run_command([ 'd2c', 'models', '--model-directory', "$dir/models" ]))[0], qr/\bplain\b.*\bsit\b/, 'which d2c knows');

command_fails_like(train('plain', qw(--max-train-steps 10)), qr/holds a run already\nHINT:  Go on with --resume latest/,
	'a folder is used for one run');
command_ok(train('plain', qw(--max-train-steps 300 --resume latest --model-directory), "$dir/models"), 'a finished run is left as it is');
is(sql('SELECT count(*) FROM d2c_run_metrics'), '30', 'with its metrics');
command_fails_like(train('other', qw(--max-train-steps 10 --metrics off --name plain --model-directory), "$dir/models"),
	qr/model "plain" exists already and is another one/, 'a model is not replaced');
command_ok(train('other', qw(--max-train-steps 10 --metrics off --resume latest --replace on --name plain --model-directory), "$dir/models"),
	'unless that is wanted');

# ---- exact resume -----------------------------------------------------------------------------------------------

my @whole = lines_of(train('whole', qw(--max-train-steps 200 --ckpt-every 50 --metrics off)), 'a run of 200 steps');
my $expected = digest(latest("$dir/whole"));
my @streamed = lines_of(train('streamed', qw(--max-train-steps 200 --ckpt-every 50 --cache-memory 0 --metrics off)), 'the same from a stream');
is_deeply(\@streamed, \@whole, 'has the same lines');
is(digest(latest("$dir/streamed")), $expected, 'and the same bytes');

for my $cache (qw(64 0))
{
	my $name = "killed$cache";
	my @command = @{ train($name, qw(--max-train-steps 200 --ckpt-every 1 --checkpoints-total-limit 3 --resume latest --cache-memory), $cache) };
	my @seen;
	# A checkpoint is being written most of the time, so the kills fall into the writing too.
	for my $after (20, 90, 150)
	{
		my ($stdout) = interrupt(\@command, sub { $_[0] =~ /^step $after /m; }, sub { usleep(rand(30_000)); $_[0]->kill_kill(grace => 0); });
		push @seen, grep { /^step .*\d$/ } split(/\n/, $stdout);
	}
	push @seen, lines_of(\@command, "resumed after three kills, cache $cache");
	my %line = map { /^step (\d+)/; $1 => $_ } @seen;
	is_deeply([ map { $line{$_} } sort { $a <=> $b } keys %line ], \@whole, 'every line is that of the whole run');
	my %distinct = map { $_ => 1 } @seen;
	is(scalar(keys %distinct), 20, 'those written twice included');
	is(digest(latest("$dir/$name")), $expected, 'and the last checkpoint has its bytes');
	is(digest("$dir/$name/$name.safetensors"), digest("$dir/whole/whole.safetensors"), 'and the model');
	is(sql("SELECT count(*), count(DISTINCT step), max(status) FROM d2c_run_metrics JOIN d2c_runs ON id = run_id WHERE name = '$name'"),
		'20|20|finished', 'one run in the database, each step once');
}

my ($out, $err) = interrupt(train('polite', qw(--max-train-steps 100000 --ckpt-every 0 --metrics-schema public)),
	sub { $_[0] =~ /^step 20 /m; }, sub { $_[0]->signal('TERM'); });
like($err, qr/stopped; --resume latest goes on from here/, 'a signal ends a run');
ok(defined latest("$dir/polite"), 'after a checkpoint');
is(sql(q{SELECT status FROM d2c_runs WHERE name = 'polite'}), 'stopped', 'and the database knows');

command_fails_like(train('whole', qw(--max-train-steps 210 --resume latest --metrics off --global-batch-size 8)),
	qr/belongs to another run\nDETAIL:  global_batch_size: now 8, in the checkpoint 16/, 'another batch');
command_fails_like(train('whole', qw(--max-train-steps 210 --resume latest --metrics off --hidden 64)),
	qr/belongs to another run\nDETAIL:  model: /, 'another model');
command_fails_like(train('whole', qw(--max-train-steps 210 --resume), "$dir/nothing"), qr/nothing/, 'no such checkpoint');
write_file('damaged', substr(slurp_file(latest("$dir/whole")), 0, 5000));
command_fails_like(train('whole', qw(--max-train-steps 210 --resume), "$dir/damaged"), qr/damaged/, 'a damaged checkpoint');
(undef, $err) = run_command(train('whole', qw(--max-train-steps 201 --resume latest --metrics off --learning-rate 1e-3)));
like($err, qr/no longer exact from here on: learning_rate: now 0\.001, in the checkpoint 0\.002/, 'where exactness ends is said');
my @parts = lines_of(train('parts', qw(--max-train-steps 20 --metrics off --micro-batch 5)), 'rows computed a few at a time');
cmp_ok(abs((split(/ /, $parts[0]))[5] - (split(/ /, $whole[0]))[5]), '<', 1e-4, 'come to the same loss');
(undef, $err) = run_command(train('parts', qw(--max-train-steps 30 --resume latest --metrics off)));
like($err, qr/5 of the batch's 16 rows at once, 4 micro-batches a step/, 'a resumed run goes on with as many');
unlike($err, qr/no longer exact/, 'exactly');
(undef, $err) = run_command(train('parts', qw(--max-train-steps 40 --resume latest --metrics off --micro-batch 16)));
like($err, qr/no longer exact from here on: micro_batch: now 16, in the checkpoint 5/, 'unless others are wanted');
{
	local $ENV{DNNL_MAX_CPU_ISA} = 'SSE41';
	(undef, $err) = run_command(train('polite', qw(--max-train-steps 30 --resume latest --metrics off)));
}
like($err, qr/no longer exact from here on: arithmetic: now "oneDNN [\d.]+, isa 0x\w+", in the checkpoint "oneDNN/, 'other instructions too');
sql('UPDATE things SET label = 2 WHERE id = 1');
command_fails_like(train('whole', qw(--max-train-steps 210 --resume latest --metrics off)), qr/DETAIL:  What differs: ids or labels\. The first row, in order of the ids, is 1\./, 'a table that has changed');
sql('UPDATE things SET label = 0 WHERE id = 1');

# ---- a full disk ------------------------------------------------------------------------------------------------

lines_of(train('full', qw(--max-train-steps 20 --metrics off)), 'a run before the disk is full');
my $good = latest("$dir/full");
my ($size, $before) = ((-s $good), digest($good));
my @limited = @{ train('full', qw(--max-train-steps 40 --ckpt-every 10 --resume latest --metrics off)) };
my $limit = int($size / 1024) - 10;
my ($stdout, $stderr) = run_command([ 'bash', '-c', "ulimit -f $limit; exec \"\$@\"", 'limited', @limited ]);
like($stderr, qr/no checkpoint at step 30: could not write .*File too large/, 'a checkpoint that fails does not end the run');
like($stderr, qr/^d2c: could not write .*File too large/m, 'the last one does');
is(join(' ', map { s/.*\///r } glob("$dir/full/checkpoints/*")), '0000020.safetensors', 'nothing is left of them');
is(digest($good), $before, 'and the good one is what it was');
lines_of(\@limited, 'with space again the run goes on');
is(digest(latest("$dir/full")), digest_of_steps(40), 'to the same bytes');

sub digest_of_steps
{
	my ($steps) = @_;
	lines_of(train("steps$steps", '--max-train-steps', $steps, qw(--ckpt-every 0 --metrics off)), "$steps steps in one go");
	return digest(latest("$dir/steps$steps"));
}

# ---- a lost connection ------------------------------------------------------------------------------------------

# An epoch's COPY ends so.
my $copying = q{FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT%, 1) TO STDOUT%' AND pid <> pg_backend_pid()};
my @long = qw(--max-train-steps 3000 --ckpt-every 1000 --log-every 500 --metrics off);
my @uncut = lines_of(train('uncut', @long), 'a longer run');
my $cuts = 0;
($out, $err) = interrupt(
	train('cut', @long, qw(--cache-memory 0)),
	sub {
		$cuts += sql("SELECT count(pg_terminate_backend(pid)) $copying") if $cuts < 3;
		return $cuts >= 3;
	},
	sub { });
cmp_ok($cuts, '>=', 3, 'connections are cut');
like($err, qr/lost the connection to the database, and have it again/, 'which is told');
is_deeply([ grep { /^step / } split(/\n/, $out) ], \@uncut, 'and changes nothing');
is(digest(latest("$dir/cut")), digest(latest("$dir/uncut")), 'not a byte');

($out, $err) = interrupt(train('gone', qw(--max-train-steps 1000000 --ckpt-every 10 --cache-memory 0 --connection-retries 1 --metrics-schema public)),
	sub { $_[0] =~ /^step 20 /m; }, sub { $node->stop('immediate'); });
like($err, qr/^d2c: lost the connection to the database: .*\nHINT:  It was tried again 1 times/m, 'a server that stays away is an error');
ok(defined latest("$dir/gone"), 'with a checkpoint to go on from');
$node->start;
my ($reached) = latest("$dir/gone") =~ /(\d+)\.safetensors$/;
lines_of(train('gone', '--max-train-steps', $reached + 10, qw(--resume latest --cache-memory 0)), 'when it is back the run goes on');

# ---- rows and settings that are refused ------------------------------------------------------------------------

sub refused
{
	my ($query, $expected, $name, @more) = @_;
	for my $cache (qw(64 0))
	{
		command_fails_like(
			[ 'd2c', 'train', '--dbname', $db, '--query', $query, '--name', 'bad', '--results-dir', "$dir/bad", @small,
				qw(--max-train-steps 100 --metrics off --cache-memory), $cache, @more ],
			$expected, $name);
	}
	return;
}

refused(q{SELECT id, label, CASE id WHEN 77 THEN 'GIF89a'::bytea ELSE image END AS image FROM things}, qr/^d2c: row 77: /m, 'an unknown image');
refused(q{SELECT id, label, CASE id WHEN 77 THEN substr(image, 1, 60) ELSE image END AS image FROM things}, qr/^d2c: row 77: /m, 'a truncated image');
refused(q{SELECT id, label, CASE id WHEN 77 THEN NULL ELSE image END AS image FROM things}, qr/^d2c: row 77: the image is null/, 'no image');
refused(q{SELECT id, CASE id WHEN 77 THEN NULL ELSE label END AS label, image FROM things}, qr/^d2c: row 77: the label is null/, 'no label');
refused(q{SELECT id, CASE id WHEN 77 THEN 3 ELSE label END AS label, image FROM things}, qr/^d2c: row 77: label 3 is out of range\nDETAIL:  The model has the classes 0 to 2/,
	'a label beyond the classes', qw(--num-classes 3));
refused(q{SELECT id, CASE id WHEN 77 THEN 2147483647 ELSE label END AS label, image FROM things}, qr/^d2c: row 77: label 2147483647 is out of range/, 'a label beyond every network');
refused(q{SELECT id, -label AS label, image FROM things}, qr/^d2c: row \d+: label -\d is out of range/, 'a negative label');
refused(q{SELECT greatest(id, 7) AS id, label, image FROM things}, qr/^d2c: row 7: the id occurs twice/, 'an id that is not unique');
refused(q{SELECT * FROM things WHERE false}, qr/^d2c: there are no rows to train on/, 'no rows');
refused(q{SELECT id, label FROM things}, qr/^d2c: column "image" does not exist\nHINT:  Name the column with --image-column/, 'no such column');
refused(q{SELECT id, label, 'x' AS image FROM things}, qr/^d2c: column "image" is of type text, expected bytea/, 'a column of another type');
ok(!-e "$dir/bad/bad.safetensors", 'nothing was trained');
command_fails_like([ 'd2c', 'train', '--dbname', $db, '--table', 'nothing', @small ], qr/^d2c: relation "nothing" does not exist/, 'no such table');
command_fails_like([ 'd2c', 'train', '--dbname', $db, @small ], qr/^d2c: give --table, --query or --selection/, 'nothing to train on');
command_fails_like(train('odd', qw(--heads 5)), qr/heads/, 'heads that do not divide the width');
command_fails_like(train('odd', qw(--mixed-precision fp8)), qr/invalid value for --mixed-precision: "fp8"/, 'an unknown precision');
command_fails_like(train('odd', qw(--device cuda:999)), qr/^d2c: device "cuda(:999)?" is not available/, 'a GPU that is not there');
command_fails_like(train('odd', qw(--device tpu)), qr/^d2c: device "tpu" does not exist/, 'an unknown device');
command_fails_like(train('odd', '--name', '../up'), qr/\.\.\/up/, 'a name that is none');
command_fails_like(
	train('wild', qw(--max-train-steps 2000 --ckpt-every 1 --max-grad-norm 0 --metrics off --learning-rate 1e5)),
	qr/^d2c: (loss or gradient is not finite|the loss exploded) at step (\d+).*\nDETAIL:  The batch has the rows \d+, .*\nHINT:  The last good checkpoint is ".*safetensors"/m,
	'a loss that is no longer one ends the run');
like(slurp_file("$dir/wild/metrics.jsonl"), qr/^\{"step":\d+,"event":"diverged","rows":\["\d+"(,"\d+"){15}\]\}$/m, 'and its rows are on record');

# ---- attachments ------------------------------------------------------------------------------------------------

sql(q{CREATE EXTENSION d2c;
CREATE TABLE attached AS SELECT t.*, e.text_embedding, 'u8:[1,1,0]'::tensor AS text_mask,
	('f16:[' || array_to_string(array_fill(format('[%s,0.5,%s]', label - 1, id % 5), ARRAY[4]), ',') || ']')::tensor AS visual_embedding
FROM things t JOIN LATERAL (SELECT ('f32:[[' || label || ',1],[0.25,' || -label || '],[9,9]]')::tensor AS text_embedding) e ON true});
my @attached = @{ train('attached', qw(--table attached --max-train-steps 120 --sample-every 60 --encoder-depth 1)) };
my @lines = lines_of(\@attached, 'text and visual embeddings are used when they are there');
like($lines[-1], qr/ denoise \S+ projection -0\.\d+ /, 'the alignment loss is told');
my ($aligned) = $lines[-1] =~ /projection (\S+)/;
cmp_ok($aligned, '<', 0.5 * -0.8, 'the tokens come to point where the features do');
command_ok([ 'd2c', 'sample', '--model', "$dir/attached/attached.safetensors", qw(--num-samples 3 --steps 5 --grid), "$dir/attached.png" ],
	'the text is folded into the plain model');

# ---- d2c export ------------------------------------------------------------------------------------------------------

my @draw = qw(--num-samples 6 --steps 5 --cfg-scale 2 --threads 1 --mixed-precision no --grid);
sub export_of { return [ 'd2c', 'export', '--model', $_[0], '--output', "$dir/$_[1]", @_[ 2 .. $#_ ] ]; }
sub drawn_by { command_ok([ 'd2c', 'sample', '--model', $_[0], @draw, "$dir/$_[1].png" ], "samples of $_[1]"); return digest("$dir/$_[1].png"); }

my $published = drawn_by("$dir/attached/attached.safetensors", 'published');
foreach my $file (qw(average.safetensors ema.pt twice.pt))
{
	command_ok(export_of(latest("$dir/attached"), $file, $file eq 'twice.pt' ? '--learn-sigma' : ()), "a checkpoint with texts as $file");
	is(drawn_by("$dir/$file", $file), $published, 'draws the published model\'s images, without the database');
}
command_ok(export_of(latest("$dir/attached"), 'model.pt', qw(--weights model)), 'the trained weights');
isnt(drawn_by("$dir/model.pt", 'model'), $published, 'are not the average');
command_fails_like(export_of(latest("$dir/attached"), 'ema.pt'), qr/ema.pt" exists already/, 'an export replaces nothing');
command_ok(export_of(latest("$dir/attached"), qw(ema.pt --replace)), 'unless it is told to');
command_fails_like(export_of(latest("$dir/attached"), 'ema.bin'), qr/must end in/, 'an unknown format');
command_fails_like(export_of("$dir/attached/attached.safetensors", qw(x.pt --weights model)), qr/no copy of the weights named "model"/, 'no such copy');
command_fails_like(export_of("$dir/attached/attached.safetensors", qw(x.pt --projectors)), qr/no projectors/, 'no projectors');
ok(!-e "$dir/x.pt", 'a failure leaves no file');

my @kept = @{ train('attached2', qw(--table attached --max-train-steps 120 --encoder-depth 1 --ckpt-every 1 --resume latest --metrics off)) };
interrupt(\@kept, sub { $_[0] =~ /^step 50 /m; }, sub { $_[0]->kill_kill(grace => 0); });
lines_of(\@kept, 'such a run resumes');
is(digest(latest("$dir/attached2")), digest(latest("$dir/attached")), 'exactly');
($stdout) = run_command(train('off', qw(--table attached --max-train-steps 10 --text off --visual off --metrics off)));
unlike($stdout, qr/projection \S+ grad/, 'or not at all');
sql(q{CREATE TABLE bare AS SELECT *, NULL::tensor AS text_embedding, NULL::tensor AS text_mask, NULL::tensor AS visual_embedding, NULL::tensor AS latent FROM things});
my ($bare, $without) = run_command(train('bare', qw(--table bare --max-train-steps 40 --metrics off)));
like($without, qr/column "$_" has no values and is not used/, "$_ without values") for qw(latent text_embedding visual_embedding);
command_fails_like(train('named', qw(--table bare --max-train-steps 40 --metrics off --text-column text_embedding)),
	qr/^d2c: row \d+: the text embedding is null\nHINT:  d2c_attach\(\) fills in what is missing; --text off trains without\./m, 'unless it is named');
my @straight = lines_of(train('straight', qw(--max-train-steps 40 --metrics off)), 'a short run');
is_deeply([ grep { /^step/ } split(/\n/, $bare) ], \@straight, 'they change nothing');
for my $level (qw(mlp block))
{
	is_deeply([ lines_of(train("again-$level", qw(--max-train-steps 40 --metrics off --recompute), $level), "computing again: $level") ], \@straight, '... changes nothing');
}
command_fails_like(train('again', qw(--max-train-steps 40 --recompute all)), qr/invalid value for --recompute: "all"/, 'no such level');
my @flip = qw(--max-train-steps 40 --horizontal-flip --metrics off);
my @flipped = lines_of(train('flip', @flip), 'images may be mirrored');
isnt($flipped[-1], $straight[-1], '... which is another training');
is_deeply([ lines_of(train('flip-stream', @flip, qw(--cache-memory 0)), 'also from the stream') ], \@flipped, '... and the same one');
command_fails_like(train('flip-visual', qw(--table attached --max-train-steps 10 --horizontal-flip --metrics off)),
	qr/images with visual embeddings cannot be mirrored/, 'not where embeddings are of the image as it is');
command_fails_like(train('wrong', qw(--table attached --max-train-steps 10 --metrics off), '--patch', '2'),
	qr/the visual embeddings have 4 tokens, the model has 16/, 'too few tokens');
sql(q{UPDATE attached SET visual_embedding = 'f16:[[1,2,3]]' WHERE id = 50});
command_fails_like(train('wrong', qw(--table attached --max-train-steps 10 --metrics off)), qr/^d2c: row 50: the visual embedding does not have the shape/m,
	'features of another shape');
sql(q{UPDATE attached SET visual_embedding = (SELECT visual_embedding FROM attached WHERE id = 51), text_mask = NULL WHERE id = 50});
command_fails_like(train('wrong', qw(--table attached --max-train-steps 10 --metrics off)), qr/^d2c: row 50: the text embedding or its mask is null/m, 'no mask');
sql(q{UPDATE attached SET text_embedding = 'f32:[[7,1],[0,0],[0,0]]', text_mask = 'u8:[1,1,1]' WHERE id = 50});
(undef, $err) = run_command(train('captions', qw(--table attached --max-train-steps 16 --metrics off)));
like($err, qr/no plain model was written: the rows of a class do not share one text/, 'captions of rows are trained on, but not folded');
command_fails_like(export_of(latest("$dir/captions"), 'captions.pt'), qr/cannot be folded.*\nDETAIL:  The rows of a class do not share one text/, 'nor exported');

# ---- sampling ---------------------------------------------------------------------------------------------------

my @sample = ('d2c', 'sample', '--model', 'plain', '--model-directory', "$dir/models", qw(--device cpu --steps 6));
command_ok([ @sample, qw(--num-samples 7 --threads 2 --seed 30 --cfg-scale 1.5 --output-dir), "$dir/pngs", '--grid', "$dir/grid.png" ], 'samples as files');
is(scalar(glob_count("$dir/pngs/*.png")), 7, 'one for each');
command_ok([ @sample, qw(--num-samples 5 --threads 1 --seed 32 --cfg-scale 1.5 --table drawn), '--classes', '2,0,1', '--dbname', $db ], 'samples as rows');
is(sql('SELECT string_agg(format(\'%s %s %s\', id, label, seed), \',\' ORDER BY id) FROM drawn'), '0 2 32,1 0 33,2 1 34,3 2 35,4 0 36',
	'with their labels and seeds');
is(sql(q{SELECT encode(sha256(image), 'hex') FROM drawn WHERE seed = 35}), digest("$dir/pngs/000005.png"),
	'an image depends on its seed and label, not on its neighbours or the threads');
isnt(sql(q{SELECT encode(sha256(image), 'hex') FROM drawn WHERE seed = 32}), digest("$dir/pngs/000001.png"), 'another seed gives another image');
command_fails_like([ @sample, qw(--table drawn --dbname), $db ], qr/table "drawn" has samples already\nDETAIL:.*\nHINT:/, 'rows are not replaced');
command_fails_like([ @sample, '--output-dir', "$dir/pngs" ], qr/folder ".*pngs" has samples already\nHINT:/, 'nor files mixed');
command_fails_like([ @sample, qw(--grid g.png --dbname), $db ], qr/--dbname needs a --table/, 'a database for nothing');
command_fails_like([ @sample, '--output-dir', "$dir/none", '--seeds', $_ ], qr/invalid value for --seeds: "$_"/, "seeds $_") foreach qw(99999999999999999999 1-9223372036854775807);
is(sql('SELECT count(*) FROM drawn'), '5', 'and a failure leaves none');
command_ok([ @sample, qw(--num-samples 3 --sampler), $_, '--output-dir', "$dir/$_" ], "sampler $_") foreach qw(euler heun sde dopri5);
command_fails_like([ @sample, '--output-dir', $dir, '--sampler', 'dopri' ], qr/invalid value for --sampler: "dopri"/, 'an unknown sampler');
command_fails_like([ @sample, '--output-dir', $dir, '--classes', '0,3' ], qr/invalid value for --classes: "0,3"\nDETAIL:  The model has the classes 0 to 2/, 'no such class');
command_fails_like([ @sample, '--output-dir', $dir, '--device', 'cuda:999' ], qr/^d2c: device "cuda(:999)?" is not available/, 'a GPU that is not there');
command_fails_like([ @sample ], qr/the samples go nowhere/, 'nowhere to go');
command_fails_like([ 'd2c', 'sample', '--model', "$dir/damaged", '--grid', "$dir/x.png" ], qr/damaged/, 'a damaged model');
command_fails_like([ 'd2c', 'sample', '--model', 'nothing', '--model-directory', "$dir/models", '--grid', "$dir/x.png" ], qr/nothing/, 'no such model');

sub glob_count { my @files = glob($_[0]); return scalar @files; }

# ---- seeds one by one ------------------------------------------------------------------------------------------------

my @one = (@sample, qw(--classes 1 --steps 3 --output-dir));
command_ok([ @one, "$dir/row", qw(--seed 10 --num-samples 3) ], 'seeds 10 to 12');
command_ok([ @one, "$dir/list", '--seeds', '12,3,10-11' ], 'a list of seeds');
is_deeply([ map { digest("$dir/list/00000$_.png") } 0, 2, 3 ], [ map { digest("$dir/row/00000$_.png") } 2, 0, 1 ], 'an image is that of its seed');
command_fails_like([ @one, "$dir/list", '--seeds', $_ ], qr/invalid value for --seeds: "\Q$_\E"/, "no list of seeds: $_") foreach '5-3', 'x', '3,', '3-', '1-99999999999';

# ---- a trained model in SQL ----------------------------------------------------------------------------------------------

# One session goes on while a second model is trained: the engine finds it by name at once.
$node->append_conf('postgresql.conf', "d2c.model_directory = '$dir/models'\nd2c.device = 'cpu'\n");
$node->reload;
my $session = $node->background_psql('postgres');
my $score = q{SELECT count(DISTINCT s) > 10 AND bool_and(s > 0 AND s < 100) FROM (SELECT d2c_difficulty(image, label, '%s') AS s FROM things LIMIT 20) q};
is($session->query_safe(sprintf($score, 'plain')), 't', 'a trained model scores');
command_ok(train('fresh', qw(--max-train-steps 20 --metrics off --model-directory), "$dir/models"), 'another is trained');
is($session->query_safe(sprintf($score, 'fresh')), 't', 'and scores in the same session');
$session->quit;

$node->stop;
done_testing();
