# d2c train where something beside the training goes wrong: what must neither end it, nor stall it, nor cost another run's results.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use D2CTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('trouble');
$node->init(allows_streaming => 1);
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir;
my $db = $node->connstr('postgres');
my @small = qw(--device cpu --model custom --hidden 32 --depth 2 --heads 2 --patch 4 --threads 1 --mixed-precision no
  --global-batch-size 16 --learning-rate 2e-3 --log-every 10 --seed 5 --tensorboard off);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub train { return [ 'd2c', 'train', '--dbname', $db, '--table', 'things', '--name', $_[0], '--results-dir', "$dir/$_[0]", @small, @_[ 1 .. $#_ ] ]; }
sub checkpoints { return join(' ', map { /(\d+)\.safetensors$/; $1 + 0 } sort glob("$dir/$_[0]/checkpoints/*.safetensors")); }

sub steps_of { return join("\n", grep { /^step / } split(/\n/, $_[0])); }

# The news of a run, which must succeed.
sub news_of
{
	my ($command, $name) = @_;
	my ($stdout, $stderr);
	ok(IPC::Run::run($command, '>', \$stdout, '2>', \$stderr), $name) or diag($stderr);
	return $stderr;
}

# A run that goes on by itself; what it prints lies in its files.
sub start_train
{
	my ($command) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my $run = { out => "$folder/out", err => "$folder/err" };
	$run->{run} = IPC::Run::start($command, '>', $run->{out}, '2>', $run->{err},
		IPC::Run::timeout(2 * $PostgreSQL::Test::Utils::timeout_default));
	return $run;
}

# 120 images of 8 x 8 pixels in three classes.
my $pixels = join('', map { my $image = chr(10) x 64; substr($image, 16 * ($_ % 3), 16) = chr(150 + $_ % 90) x 16; $image } 0 .. 119);
append_to_file("$dir/images", pack('NNNN', 0x803, 120, 8, 8) . $pixels);
append_to_file("$dir/labels", pack('NN', 0x801, 120) . join('', map { chr($_ % 3) } 0 .. 119));
command_ok([ 'd2c', 'import', '--dbname', $db, '--table', 'things', '--idx-images', "$dir/images", '--idx-labels', "$dir/labels" ], 'images to train on');

# ---- an older checkpoint ----------------------------------------------------------------------------------------

news_of(train('long', qw(--max-train-steps 40 --ckpt-every 10 --metrics off)), 'a run with four checkpoints');
my $older = "$dir/long/checkpoints/0000020.safetensors";
command_fails_like(train('long', qw(--max-train-steps 60 --ckpt-every 10 --metrics off --checkpoints-total-limit 2 --resume), $older),
	qr/has a later checkpoint than ".*0000020\.safetensors"\nDETAIL:  That is of step 20, the newest one of step 40\.\nHINT:  Give another --results-dir/,
	'going on from an older one in its own folder');
is(checkpoints('long'), '10 20 30 40', '... costs none of them');
news_of(train('branch', qw(--max-train-steps 30 --ckpt-every 10 --metrics off --resume), $older), 'going on from it in another folder');
is(checkpoints('branch'), '30', '... is a run of its own');
unlink("$dir/long/checkpoints/00000${_}0.safetensors") foreach 3, 4;
news_of(train('long', qw(--max-train-steps 50 --ckpt-every 10 --metrics off --resume), $older), 'so is going on where no later ones are left');
is(checkpoints('long'), '10 20 30 40 50', '... with new ones');

# ---- an id that is another run's --------------------------------------------------------------------------------

sql('CREATE SCHEMA one; CREATE SCHEMA two');
news_of(train('mine', qw(--max-train-steps 20 --metrics-schema one)), 'a run with metrics in one schema');
news_of(train('theirs', qw(--max-train-steps 40 --metrics-schema two)), 'another one in another schema');
is(sql(q{SELECT (SELECT string_agg(id || name, ' ') FROM one.d2c_runs), (SELECT string_agg(id || name, ' ') FROM two.d2c_runs)}), '1mine|1theirs', '... has the same id');
news_of(train('mine', qw(--max-train-steps 30 --metrics-schema two --resume latest)), 'the first one goes on there');
is(sql(q{SELECT name, max(step), count(*) FROM two.d2c_runs JOIN two.d2c_run_metrics ON run_id = id GROUP BY id, name ORDER BY id}),
	"theirs|40|4\nmine|30|3", '... as a run of its own');
news_of(train('mine', qw(--max-train-steps 40 --metrics-schema two --resume latest)), 'and on');
is(sql(q{SELECT name, max(step), count(*), max(steps) FROM two.d2c_runs JOIN two.d2c_run_metrics ON run_id = id GROUP BY id, name ORDER BY id}),
	"theirs|40|4|40\nmine|40|4|40", '... as the same one');

# ---- what cannot be written -------------------------------------------------------------------------------------

mkdir "$dir/$_" or die $! foreach qw(blind mute);
append_to_file("$dir/blind/samples", 'no folder');
my $news = news_of(train('blind', qw(--max-train-steps 20 --ckpt-every 10 --sample-every 10 --metrics off)), 'a run whose sample grids have no place');
like($news, qr/^d2c: no samples at step 10: could not .*^d2c: no samples at step 20: /ms, '... says so');
is(checkpoints('blind'), '10 20', '... and goes on');
mkdir "$dir/mute/mute.safetensors" or die $!;
(undef, $news) = run_command(train('mute', qw(--max-train-steps 20 --ckpt-every 10 --metrics off)));
like($news, qr/^d2c: no model at step 10: could not .*^d2c: could not /ms, 'a model that cannot be written is no missing checkpoint');
is(checkpoints('mute'), '10 20', '... of which none is missing');

# ---- a lock that somebody holds ---------------------------------------------------------------------------------

# How often a statement has given up waiting for a lock, by the server's log.
sub lock_timeouts { my $count = () = slurp_file($node->logfile) =~ /canceling statement due to lock timeout/g; return $count; }

my @locked = @{ train('locked', qw(--max-train-steps 1000000 --ckpt-every 20 --checkpoints-total-limit 2 --metrics-schema public --resume latest)) };
my $locked = start_train(\@locked);
ok(wait_until(sub { slurp_file($locked->{out}) =~ /^step 20 /m }), 'a run under way');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE d2c_runs IN ACCESS EXCLUSIVE MODE');
my ($from) = checkpoints('locked') =~ /(\d+)$/;
$from //= 0;
ok(wait_until(sub { my ($newest) = checkpoints('locked') =~ /(\d+)$/; ($newest // 0) > $from + 160 }), 'eight checkpoints under a lock on its metrics');
cmp_ok(lock_timeouts(), '<', 8, '... have not waited for it');
my $before = lock_timeouts();
$locked->{run}->signal('TERM');
$locked->{run}->finish;
like(slurp_file($locked->{err}), qr/the last metrics are in metrics\.jsonl only: canceling statement due to lock timeout/, 'the run ends under it');
cmp_ok(lock_timeouts() - $before, '<=', 3, '... after the writer\'s tries and one of its own');
my $resumed = start_train(\@locked);
ok(wait_until(sub { sql(q{SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'd2c_runs'::regclass}) eq '1' }), 'before its first step a run waits for the lock');
$holder->query_safe('ROLLBACK');
$holder->quit;
ok(wait_until(sub { slurp_file($resumed->{out}) =~ /^step /m }), '... and goes on');
command_fails_like(\@locked, qr/folder ".*locked" is another training's that is under way\nHINT:/, 'a second run in its folder is refused');
$resumed->{run}->signal('TERM');
$resumed->{run}->finish;
my $lines = () = (slurp_file($locked->{out}) . slurp_file($resumed->{out})) =~ /^step /mg;
is(sql(q{SELECT status, count(*) FROM d2c_runs JOIN d2c_run_metrics ON run_id = id WHERE name = 'locked' GROUP BY status}), "stopped|$lines", 'with all its metrics');

# ---- what is not allowed ----------------------------------------------------------------------------------------

sql(q{CREATE ROLE ann LOGIN; GRANT SELECT ON things TO ann; GRANT SELECT, INSERT, UPDATE ON d2c_runs, d2c_run_metrics, d2c_samples TO ann});
(undef, $news) = run_command([ @{ train('mine', qw(--max-train-steps 40 --metrics-schema public)) }, '--name', 'anns', '--results-dir', "$dir/anns", '--dbname', "$db user=ann" ]);
(undef, $news) = run_command([ @{ train('mine', qw(--max-train-steps 50 --metrics-schema public --resume latest)) }, '--name', 'anns', '--results-dir', "$dir/anns", '--dbname', "$db user=ann" ]);
like($news, qr/no metrics in the database: permission denied for table d2c_run_metrics/, 'who may not remove rows is told so');
unlike($news, qr/lost the connection/, '... not of a lost connection');

# ---- limits on statements ---------------------------------------------------------------------------------------

my @slow = @{ train('slow', qw(--max-train-steps 20 --metrics off --query), 'SELECT id, label, image FROM things, (SELECT pg_sleep(1)) AS s') };
splice(@slow, 4, 2);
sql(q{ALTER DATABASE postgres SET statement_timeout = '500ms'});
news_of(\@slow, 'the time that a database allows a statement does not end a training');
{
	local $ENV{PGOPTIONS} = '-c statement_timeout=500ms';
	command_fails_like([ @slow, qw(--resume latest --max-train-steps 30) ], qr/canceling statement due to statement timeout/, 'that of its own connection does');
}
sql('ALTER DATABASE postgres RESET statement_timeout');

# ---- a second signal --------------------------------------------------------------------------------------------

$holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE things IN ACCESS EXCLUSIVE MODE');
my $stuck = start_train(train('stuck', qw(--max-train-steps 20 --metrics off)));
ok(wait_until(sub { sql(q{SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'things'::regclass}) eq '1' }), 'a run that waits for a lock');
my $pid = $stuck->{run}{KIDS}[0]{PID};
kill 'TERM', $pid;
kill 'TERM', $pid;
sleep 3;
ok(alive($pid), 'two signals at once are one request, which it cannot meet');
kill 'TERM', $pid;
ok(wait_until(sub { !alive($pid) }), 'a later one ends it');
eval { $stuck->{run}->finish; };
is($stuck->{run}->full_result(0), 15, '... as a signal does');
$holder->query_safe('ROLLBACK');
$holder->quit;

# ---- a stream that waits ----------------------------------------------------------------------------------------

my $streaming = start_train(train('streaming', qw(--max-train-steps 1000000 --ckpt-every 0 --cache-memory 0 --metrics off)));
ok(wait_until(sub { slurp_file($streaming->{out}) =~ /^step 20 /m }), 'a run that streams');
$holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE things IN ACCESS EXCLUSIVE MODE');
ok(wait_until(sub { sql(q{SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'things'::regclass}) eq '1' }), '... waits for a lock');
$streaming->{run}->signal('TERM');
ok(wait_until(sub { !alive($streaming->{run}{KIDS}[0]{PID}) }), '... and ends without the server');
$holder->query_safe('ROLLBACK');
$holder->quit;
eval { $streaming->{run}->finish; };
like(slurp_file($streaming->{err}), qr/stopped; --resume latest/, '... with its checkpoint');

# ---- a standby --------------------------------------------------------------------------------------------------

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'max_standby_streaming_delay = 100ms');
$standby->start;
my @epochs = ('--query', 'SELECT id, label, image FROM things, (SELECT pg_sleep(1)) AS s', qw(--max-train-steps 20 --metrics off --cache-memory 0 --content-digest off));
my @plain = @{ train('primary', @epochs) };
splice(@plain, 4, 2);
my ($undisturbed) = run_command(\@plain);
my @on_standby = @{ train('standby', @epochs) };
splice(@on_standby, 4, 2);
$on_standby[3] = $standby->connstr('postgres');
my $conflict = start_train(\@on_standby);
ok(wait_until(sub { $standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT%, 1) TO STDOUT%' AND state = 'active' AND pid <> pg_backend_pid()}) ne '0' }),
	'a stream from a standby');
sql('UPDATE things SET label = label');
sql('VACUUM things');
$conflict->{run}->finish;
like(slurp_file($standby->logfile), qr/conflict with recovery/, '... is cancelled for what its primary removes');
is(steps_of(slurp_file($conflict->{out})), steps_of($undisturbed), '... and goes on where it was');
$standby->stop;

done_testing();
