# The engine and the server's end: stop, crash of a backend, crash of the postmaster, postmaster as a subreaper; and the
# engine as a service.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $node = new_node('server', "restart_after_crash = on\n");
my $data = $node->data_dir;
my $call = "SELECT d2c_difficulty(image, label, 'tiny-sit') FROM img WHERE id = 1";
fill_images($node, 10);
my $score = $node->safe_psql('postgres', $call);

# The worker and its supervisor.
sub engine_processes
{
	my $worker = worker_pid($node);
	return ($worker, (split / /, slurp_file("/proc/$worker/stat"))[3]);
}

sub all_gone { my @pids = @_; return wait_until(sub { !grep { alive($_) } @pids }); }

# --- a backend killed: the server restarts itself ------------------------------------------------------------------------
my @engine = engine_processes();
my $victim = start_psql($node, 'SELECT pg_sleep(600);');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"),
	'a backend sleeps');
my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'");
kill 'KILL', $pid;
finish_psql($victim);
ok(server_answers($node), 'the server restarts after a crash');
is($node->safe_psql('postgres', $call), $score, 'calls work after the restart');
my @after = engine_processes();
is(scalar(grep { alive($_) && $_ != $after[0] && $_ != $after[1] } @engine), 0, 'no stale engine is left');

# --- stop --------------------------------------------------------------------------------------------------------------
@engine = @after;
$node->stop('fast');
ok(all_gone(@engine), 'no engine is left after a fast stop');
$node->start;
is($node->safe_psql('postgres', $call), $score, 'the next start works');

@engine = engine_processes();
my $busy = start_psql($node, "SELECT d2c_difficulty_batched(image, label, 'tiny-sit', 1000) OVER () FROM img, generate_series(1, 1000);");
ok(wait_until(sub { engine_value($node, 'computing') > 0 }), 'the engine is busy');
$node->stop('immediate');
ok(all_gone(@engine), 'no engine is left after an immediate stop, busy as it is');
finish_psql($busy);
$node->start;

# --- the postmaster killed -----------------------------------------------------------------------------------------------
is($node->safe_psql('postgres', $call), $score, 'calls work');
@engine = engine_processes();
$node->kill9;
ok(all_gone(@engine), 'no engine is left after the postmaster was killed');
# Its other processes may need a moment to notice; start() must not be called twice.
ok(wait_until(sub { system_log('pg_ctl', '-D', $data, '-l', $node->logfile, '-w', 'start') == 0 }),
	'the server starts again');
$node->_update_pid(1);

# --- SIGTERM to the supervisor -------------------------------------------------------------------------------------------
is($node->safe_psql('postgres', $call), $score, 'calls work');
@engine = engine_processes();
kill 'TERM', $engine[1];
ok(all_gone(@engine), 'the supervisor takes the worker with it on SIGTERM');
ok(!-e "$data/pg_stat_tmp/d2c.sock", '... and the socket');

# --- as a service --------------------------------------------------------------------------------------------------------
chomp(my $lib = `pg_config --pkglibdir`);
my $log = '';
my $service = IPC::Run::start(
	[ "$lib/d2c-engine", 'engine', '--data-directory', $data, '--model-directory', models_folder(), '--device', 'cpu',
		'--threads', '2' ],
	'<', \undef, '&>', \$log);
ok(wait_until(sub { engine_value($node, 'running') eq 'true' }), 'an engine runs as a service');
is($node->safe_psql('postgres', $call), $score, 'sessions use it');
is(engine_value($node, 'threads'), '2', '... with its own settings');
$node->append_conf('postgresql.conf', "d2c.engine_user = 'root'");
$node->reload;
my ($rc, $stdout, $stderr) = $node->psql('postgres', $call);
SKIP:
{
	skip 'runs as root', 2 if $> == 0;
	like($stderr, qr/ERROR:  the d2c engine is run by another user/, 'an engine of another user is refused');
	like($stderr, qr/d2c\.engine_user/, '... and the setting named');
}
$service->kill_kill;
($rc, $stdout, $stderr) = $node->psql('postgres', $call);
like($stderr, qr/the d2c engine does not run/, "somebody else's engine is not started by the server");
$node->append_conf('postgresql.conf', "d2c.engine_user = ''");
$node->reload;
$node->stop;

# --- the postmaster as a subreaper, as PID 1 is ----------------------------------------------------------------------------
chomp(my $machine = `uname -m`);
my $prctl = { x86_64 => 157, aarch64 => 167 }->{$machine};
SKIP:
{
	skip "no number of prctl for $machine", 7 unless defined $prctl;
	my $server = IPC::Run::start(
		[ $^X, '-e', 'syscall(shift, 36, 1, 0, 0, 0) == 0 or die "prctl: $!"; exec @ARGV', $prctl,
			$node->installed_command('postgres'), '-D', $data ], '<', \undef, '&>', \$log);
	ok(server_answers($node), 'a postmaster that is a subreaper starts');
	my $postmaster = (split /\n/, slurp_file("$data/postmaster.pid"))[0];
	is($node->safe_psql('postgres', $call), $score, 'calls work');
	@engine = engine_processes();
	is((split / /, slurp_file("/proc/$engine[1]/stat"))[3], $postmaster, 'the postmaster adopts the supervisor');
	my $steady = start_psql($node, "CREATE TEMP TABLE mine AS SELECT 1 AS one; SELECT pg_sleep(3); SELECT one FROM mine;");
	kill 'KILL', $engine[0];
	ok(all_gone(@engine), 'the supervisor ends when the worker is killed');
	is($node->safe_psql('postgres', $call), $score, 'the next call works');
	my ($out, $err) = finish_psql($steady);
	is($out =~ s/^\n//r, '1', 'no session was disturbed');
	@engine = engine_processes();
	system('pg_ctl', '-D', $data, '-m', 'fast', '-w', 'stop');
	$server->finish;
	ok(all_gone(@engine), 'no engine is left after the stop');
}
done_testing();
