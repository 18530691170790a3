# d2c train by several processes: the same training for any number of them, whose end is the end of all.
use strict;
use warnings;
use Digest::SHA;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use D2CTest;

plan skip_all => 'there is no mpirun' if system('command -v mpirun >/dev/null 2>&1') != 0;

# More processes than cores, none of them bound to one: Open MPI 4, then 5.
@ENV{qw(OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_rmaps_base_oversubscribe)} = (1, 1, 1);
$ENV{OMPI_MCA_hwloc_base_binding_policy} = $ENV{PRTE_MCA_hwloc_default_binding_policy} = 'none';
$ENV{PRTE_MCA_rmaps_default_mapping_policy} = ':oversubscribe';

my $node = PostgreSQL::Test::Cluster->new('ranks');
$node->init;
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir;
my $db = $node->connstr('postgres');
my @small = qw(--device cpu --model custom --hidden 32 --depth 2 --heads 2 --patch 4 --threads 1 --mixed-precision no
  --global-batch-size 16 --learning-rate 1e-4 --log-every 1 --seed 5);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub digest { return Digest::SHA->new(256)->addfile($_[0])->hexdigest; }

sub latest { my @files = sort glob("$_[0]/checkpoints/*.safetensors"); return $files[-1]; }

# The command that trains by so many processes; 0: without mpirun.
sub train
{
	my ($processes, $name, @more) = @_;
	return [ ($processes > 0 ? ('mpirun', '-n', $processes) : ()),
		'd2c', 'train', '--dbname', $db, '--table', 'things', '--name', $name, '--results-dir', "$dir/$name", @small, @more ];
}

sub steps_of { return grep { /^step \d+ epoch/ } split(/\n/, $_[0]); }

# What a run that must succeed says: its loss lines, its news, and all else on its standard output.
sub run_of
{
	my ($command, $name) = @_;
	my ($stdout, $stderr);
	ok(IPC::Run::run($command, '>', \$stdout, '2>', \$stderr), $name) or diag($stderr);
	return ([ steps_of($stdout) ], $stderr, $stdout);
}

sub losses { return map { /^step \d+ epoch \d+ loss (\S+)/; $1 } @{ $_[0] }; }

sub greatest_difference
{
	my ($x, $y) = ([ losses($_[0]) ], [ losses($_[1]) ]);
	my $most = @$x == @$y ? 0 : 1e9;
	foreach my $i (0 .. $#$x) { $most = abs($x->[$i] - $y->[$i]) if abs($x->[$i] - $y->[$i]) > $most; }
	return $most;
}

# A file of a process that may have ended.
sub proc_file
{
	open(my $file, '<', $_[0]) or return '';
	local $/;
	return readline($file) // '';
}

# Whether a process is mpirun's, perhaps by way of a proxy.
sub is_below
{
	my ($pid, $ancestor) = @_;
	for (my $depth = 0; $depth < 4 && $pid > 1; $depth++)
	{
		return 1 if $pid == $ancestor;
		$pid = (proc_file("/proc/$pid/stat") =~ /\) \S (\d+) /)[0] // 0;
	}
	return 0;
}

# The process of a rank among mpirun's, of Open MPI or MPICH; 0 when there is none.
sub rank_pid
{
	my ($run, $rank) = @_;
	my $mpirun = $run->{KIDS}[0]{PID};
	foreach my $pid (map { s/\D//gr } glob('/proc/[0-9]*'))
	{
		return $pid if ("\0" . proc_file("/proc/$pid/environ")) =~ /\0(OMPI_COMM_WORLD|PMI)_RANK=$rank\0/ && is_below($pid, $mpirun);
	}
	return 0;
}

sub signal_rank
{
	my ($run, $rank, $signal) = @_;
	my $pid = rank_pid($run, $rank) or die "there is no rank $rank";
	kill $signal, $pid;
	return;
}

# Starts a run, waits until its output matches, then does what is asked; returns what it said, and whether all its
# processes have ended with it.
sub disturb
{
	my ($command, $when, $action) = @_;
	my ($out, $err) = map { PostgreSQL::Test::Utils::tempdir . "/$_" } qw(out err);
	my $run = IPC::Run::start($command, '>', $out, '2>', $err);
	my @pids;
	for (my $i = 0; $i < 6000 && $run->pumpable; $i++)
	{
		pump_run($run);
		last if slurp_file($out) =~ $when;
		usleep(5_000);
	}
	@pids = grep { $_ } map { rank_pid($run, $_) } 0 .. 3;
	$action->($run);
	eval { $run->finish; };
	my $gone = wait_until(sub { !grep { alive($_) } @pids });
	return (slurp_file($out), slurp_file($err), $run->full_result(0), scalar(@pids), $gone);
}

# 120 images of 8 x 8 pixels in three classes: bars that a class has in one place.
my $pixels = '';
for my $i (0 .. 119)
{
	my $image = chr(10) x 64;
	substr($image, 16 * ($i % 3) + $_, 1) = chr(150 + $i % 90 + $_ % 8) for 0 .. 15;
	$pixels .= $image;
}
for (['images', pack('NNNN', 0x803, 120, 8, 8) . $pixels], ['labels', pack('NN', 0x801, 120) . join('', map { chr($_ % 3) } 0 .. 119)])
{
	open(my $file, '>:raw', "$dir/$_->[0]") or die;
	print $file $_->[1];
	close $file;
}
command_ok([ qw(d2c import --table things), '--dbname', $db, '--idx-images', "$dir/images", '--idx-labels', "$dir/labels" ], 'images to train on');

# ---- the same training for any number of processes --------------------------------------------------------------

my @long = qw(--max-train-steps 200 --ckpt-every 100 --metrics off);
my ($one) = run_of(train(0, 'one', @long), 'one process');
my ($two, undef, $said) = run_of(train(2, 'two', @long), 'two processes');
my ($four) = run_of(train(4, 'four', @long), 'four processes');
is(scalar(@$one), 200, 'every step has a line');
for (['two', $two], ['four', $four])
{
	my ($name, $lines) = @$_;
	cmp_ok(greatest_difference([ $lines->[0] ], [ $one->[0] ]), '<=', 1e-6, "$name: the first step has the same loss");
	cmp_ok(greatest_difference($lines, $one), '<=', 1e-4, "$name: so have 200 steps");
}
my @settings = $said =~ /^(name = .*)$/mg;
is(scalar(@settings), 1, 'one process alone prints');
my ($alone) = run_of(train(1, 'alone', @long), 'mpirun of one process');
is_deeply($alone, $one, '... is one process');
is(digest(latest("$dir/alone")), digest(latest("$dir/one")), '... to the byte');
my ($again) = run_of(train(2, 'again', @long), 'two processes once more');
is_deeply($again, $two, '... have the same lines');
is(digest(latest("$dir/again")), digest(latest("$dir/two")), '... and bytes');
my ($streamed, $news) = run_of(train(2, 'streamed', @long, qw(--cache-memory 0)), 'two processes that stream');
is_deeply($streamed, $two, '... have the same lines');
is(digest(latest("$dir/streamed")), digest(latest("$dir/two")), '... and bytes');
my ($rows) = $news =~ /streamed (\d+) rows/;
cmp_ok($rows, '>=', 3200, '... each row');
cmp_ok($rows, '<=', 3200 + 2 * 5 * 8, '... once, what is read ahead aside');
my ($streamed4) = run_of(train(4, 'streamed4', @long, qw(--cache-memory 0)), 'four processes that stream');
is_deeply($streamed4, $four, '... have the same lines, too');

# The rows of a batch are on record where a loss explodes.
my %rows;
for my $processes (0, 2, 4)
{
	for my $cache (64, 0)
	{
		my $name = "wild$processes-$cache";
		command_fails_like(train($processes, $name, qw(--max-train-steps 2000 --max-grad-norm 0 --metrics off --learning-rate 1e5 --cache-memory), $cache),
			qr/^d2c: (loss or gradient is not finite|the loss exploded) at step/m, "a loss that explodes, $processes processes, cache $cache");
		$rows{ (slurp_file("$dir/$name/metrics.jsonl") =~ /^(\{"step":\d+,"event":"diverged".*)$/m)[0] // '' } = 1;
	}
}
is(scalar(keys %rows), 1, 'the same rows in the same order');
like((keys %rows)[0], qr/"rows":\["\d+"(,"\d+"){15}\]\}$/, '... are the global batch');

# What rank 0 shows; and rows with embeddings.
sql(q{CREATE EXTENSION d2c;
CREATE TABLE attached AS SELECT t.*, e.text_embedding, 'u8:[1,1,0]'::tensor AS text_mask,
	('f16:[' || array_to_string(array_fill(format('[%s,0.5,%s]', label - 1, id % 5), ARRAY[4]), ',') || ']')::tensor AS visual_embedding
FROM things t JOIN LATERAL (SELECT ('f32:[[' || label || ',1],[0.25,' || -label || '],[9,9]]')::tensor AS text_embedding) e ON true});
my @shown = (qw(--table attached --max-train-steps 20 --log-every 10 --sample-every 10 --ckpt-every 10 --encoder-depth 1 --validation-query),
	'SELECT * FROM attached', qw(--metrics-schema public));
my ($lines1) = run_of(train(0, 'shown1', @shown), 'one process with embeddings, samples and held-out rows');
my ($lines2) = run_of(train(2, 'shown2', @shown), 'two processes');
my @told = map { [ map { /validation_loss (\S+)/; $1 } @$_ ] } $lines1, $lines2;
cmp_ok(abs($told[0][$_] - $told[1][$_]), '<=', 1e-5, 'the held-out loss is the same') for 0, 1;
cmp_ok(greatest_difference($lines1, $lines2), '<=', 1e-5, 'so are the losses');
is(sql(q{SELECT count(*), count(DISTINCT step), max(status) FROM d2c_run_metrics JOIN d2c_runs ON id = run_id WHERE name = 'shown2'}), '2|2|finished', 'one run in the database');
is(sql(q{SELECT count(*) FROM d2c_samples JOIN d2c_runs ON id = run_id WHERE name = 'shown2'}), '2', 'with its grids');
is(join(' ', map { s/.*\///r } sort glob("$dir/shown2/*")), 'checkpoints config.json metrics.jsonl rows.hash run samples shown2.safetensors tensorboard', 'one set of files');

# ---- kills ------------------------------------------------------------------------------------------------------

my @steps = qw(--max-train-steps 150 --ckpt-every 5 --checkpoints-total-limit 3 --metrics off --resume latest);
my ($whole) = run_of(train(2, 'whole', @steps), 'a run by two processes');
my %whole = map { /^step (\d+)/; $1 => $_ } @$whole;
my @seen;
foreach my $kill (
	[ 20, 'rank 1', sub { signal_rank($_[0], 1, 'KILL'); } ],
	[ 60, 'rank 0', sub { signal_rank($_[0], 0, 'KILL'); } ],
	[ 100, 'all', sub { kill 'KILL', (grep { $_ } map { rank_pid($_[0], $_) } 0, 1), $_[0]{KIDS}[0]{PID}; } ])
{
	my ($step, $who, $action) = @$kill;
	my ($out, $err, $result, $processes, $gone) = disturb(train(2, 'killed', @steps), qr/^step $step /m, $action);
	is($processes, 2, "two processes run until $who is killed");
	ok($gone, '... then none is left');
	like($out . $err, qr/(mpi|prte)run noticed that process rank \d .* exited on\s+signal 9|EXIT STRING: Killed \(signal 9\)/s, '... and mpirun says why') if $who ne 'all';
	push @seen, grep { /\d$/ } steps_of($out);
}
my ($rest) = run_of(train(2, 'killed', @steps), 'after three kills the run goes on');
is_deeply([ grep { /^step (\d+)/; $_ ne $whole{$1} } @seen, @$rest ], [], 'every line is that of the run that was not killed');
is(digest(latest("$dir/killed")), digest(latest("$dir/whole")), 'so are the bytes');

# ---- another number of processes ----------------------------------------------------------------------------------

run_of(train(2, 'elastic', qw(--max-train-steps 100 --ckpt-every 50 --metrics off)), 'half of a run by two processes');
my ($tail, $warning) = run_of(train(0, 'elastic', @long, qw(--resume latest)), 'the other half by one');
like($warning, qr/no longer exact from here on: ranks: now 1, in the checkpoint 2/, 'which says that it is not exact');
cmp_ok(greatest_difference($tail, [ @$one[100 .. 199] ]), '<=', 1e-4, '... but the same to rounding');
($tail, $warning) = run_of(train(4, 'elastic', qw(--max-train-steps 210 --metrics off --resume latest)), 'then four');
like($warning, qr/no longer exact from here on: ranks: now 4, in the checkpoint 1/, '... which says so, too');

# ---- the end that is asked for --------------------------------------------------------------------------------------

foreach my $end (
	[ 'SIGTERM to mpirun', sub { $_[0]->signal('TERM'); } ],
	[ 'SIGUSR1 to mpirun', sub { $_[0]->signal('USR1'); } ],
	[ 'SIGTERM to rank 1', sub { signal_rank($_[0], 1, 'TERM'); } ])
{
	my ($how, $action) = @$end;
	# What mpirun gives its processes between asking them to end and killing them.
	local @ENV{qw(OMPI_MCA_odls_base_sigkill_timeout PRTE_MCA_odls_base_sigkill_timeout)} = (3, 3);
	my $name = 'polite-' . ($how =~ s/\W/-/gr);
	my ($out, $err, undef, undef, $gone) = disturb(train(2, $name, qw(--max-train-steps 100000 --ckpt-every 0 --metrics off)), qr/^step 10 /m, $action);
	ok($gone && defined latest("$dir/$name"), "$how ends a run with a checkpoint");
	my ($step) = latest("$dir/$name") =~ /0*(\d+)\.safetensors$/;
	# mpirun that asks its processes to end reads no more of what they print, or little.
	like($err, qr/stopped; --resume latest goes on from here/, '... which is told') if $how ne 'SIGTERM to mpirun';
	like((split(/\n/, slurp_file("$dir/$name/metrics.jsonl")))[-1], qr/^\{"step":$step,/, '... of the step that was the last');
	my @printed = steps_of($out);
	$#printed = 199 if @printed > 200;
	is_deeply(\@printed, [ @$two[ 0 .. $#printed ] ], '... and the steps are those of the run that goes on');
}

# ---- errors -----------------------------------------------------------------------------------------------------

my @short = qw(--max-train-steps 20 --metrics off);
command_fails_like(train(3, 'odd', @short), qr/^d2c: 3 processes cannot share a global batch of 16 rows\nHINT:  Give --global-batch-size a multiple of 3\./m, 'rows that cannot be shared');
command_fails_like(train(2, 'odd', @short, qw(--micro-batch 3)),
	qr/^d2c: 2 processes cannot share a global batch of 16 rows in whole micro-batches\nHINT:  Give --global-batch-size a multiple of 6\./m, 'nor in whole micro-batches');
my ($parts) = run_of(train(2, 'parts', @short, qw(--micro-batch 2)), 'micro-batches of each process');
cmp_ok(greatest_difference($parts, [ @$one[0 .. 19] ]), '<=', 1e-5, '... change rounding alone');
command_fails_like(train(2, 'two', qw(--max-train-steps 300 --metrics off)), qr/^d2c: folder ".*" holds a run already$/m, 'what rank 0 alone sees ends all');

# A row that cannot be read, whichever rank meets it.
my %met;
foreach my $id (1 .. 12)
{
	my $query = "SELECT id, label, CASE id WHEN $id THEN 'GIF89a'::bytea ELSE image END AS image FROM things";
	my ($stdout, $stderr) = run_command([ 'mpirun', '-n', 2, 'd2c', 'train', '--dbname', $db, '--query', $query, '--name', 'bad', '--results-dir', "$dir/bad",
			@small, qw(--max-train-steps 1000 --metrics off --cache-memory 0 --content-digest=off) ]);
	$met{$1 // ''}++ if $stderr =~ /^d2c: (rank 1: )?row $id: /m;
	last if keys %met == 2;
}
is(join('|', sort keys %met), '|rank 1: ', 'a bad row ends all, and the rank that met it is named');

# A rank that does nothing any more.
my $from;
my (undef, $err, undef, $processes, $gone) = disturb(train(2, 'silent', qw(--max-train-steps 100000 --metrics off --rank-timeout 1)), qr/^step 10 /m,
	sub { $from = time; signal_rank($_[0], 1, 'STOP'); });
like($err, qr/^d2c: rank 1 has been silent for 1 seconds\nHINT:  --rank-timeout gives it more time/m, 'a silent rank is an error');
ok($gone, '... after which none is left');

# Connections of both are cut.
my $copying = q{FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT d2c_id%' AND pid <> pg_backend_pid()};
my ($cuts, $i) = (0, 0);
my @lossy = qw(--max-train-steps 2000 --ckpt-every 1000 --log-every 500 --metrics off);
my ($uncut) = run_of(train(2, 'uncut', @lossy), 'a longer run');
my ($out1, $err1) = ("$dir/cut.out", "$dir/cut.err");
my $run = IPC::Run::start(train(2, 'cut', @lossy, qw(--cache-memory 0)), '>', $out1, '2>', $err1);
while ($run->pumpable && $i++ < 6000)
{
	pump_run($run);
	$cuts += sql("SELECT count(pg_terminate_backend(pid)) $copying") if $cuts < 4;
	usleep(10_000);
}
$run->finish;
cmp_ok($cuts, '>=', 2, 'connections are cut');
like(slurp_file($err1), qr/d2c: rank [01] lost the connection to the database, and has it again/, '... which is told');
is_deeply([ steps_of(slurp_file($out1)) ], $uncut, '... and changes nothing');
is(digest(latest("$dir/cut")), digest(latest("$dir/uncut")), '... not a byte');

# Threads; and a program without MPI beside it.
my $cores = `nproc --all`;
my @without = @{ train(2, 'threads', @short) };
splice(@without, $_, 2) for grep { $without[$_] eq '--threads' } 0 .. $#without - 1;
my (undef, undef, $printed) = run_of(\@without, 'the number of threads is left open');
my ($threads) = $printed =~ /^threads = (\d+)$/m;
is($threads, $cores >= 4 ? int($cores / 2) : 1, '... the processes share the cores');
my ($program) = grep { -x } map { "$_/d2c" } split(/:/, $ENV{PATH});
system('cp', '-L', $program, "$dir/d2c") == 0 or die;
{
	local $ENV{OMPI_COMM_WORLD_SIZE} = 2;
	my @command = @{ train(0, 'mpiless', @short) };
	$command[0] = "$dir/d2c";
	command_fails_like(\@command, qr/^d2c: started as 2 processes, but MPI is not available\nDETAIL:  .*libd2c_mpi\.so.*\nHINT:  Build d2c where mpicc/m, 'no MPI');
}

$node->stop;
done_testing();
