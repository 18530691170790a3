# The engine in daily life: automatic start, sharing, cancel, crashes, settings, idle exit.
use strict;
use warnings;
use Compress::Zlib qw(compress crc32);
use IO::Socket::UNIX;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

$ENV{CUDA_DEVICE_ORDER} = 'PCI_BUS_ID';
my $node = new_node('engine', "d2c.threads = 2\n");
my $data = $node->data_dir;
my $score = "d2c_difficulty(image, label, 'tiny-sit')";
my $long = "SELECT count(s) FROM (SELECT d2c_difficulty_batched(image, label, 'tiny-sit', 1000) OVER () s FROM img) x;";
fill_images($node, 2000);

# --- start -----------------------------------------------------------------------------------------------------------
is(engine_value($node, 'running'), 'false', 'looking at the engine does not start it');
my $first = $node->safe_psql('postgres', "SELECT $score FROM img WHERE id = 1");
like($first, qr/^0\.\d+$/, 'the first call starts the engine and scores');
my $worker = worker_pid($node);
ok(alive($worker), 'the engine is a process');

my ($out, $err) = finish_psql(start_psql($node,
	"SELECT $score FROM img WHERE id = 1;\nSELECT value FROM d2c_engine_status() WHERE name = 'pid';"));
is($out, "$first\n$worker", 'another session shares it');

my $parent = (split / /, slurp_file("/proc/$worker/stat"))[3];
my $postmaster = (split /\n/, slurp_file("$data/postmaster.pid"))[0];
for my $pid ($worker, $parent)
{
	my @files = map { readlink($_) // () } glob("/proc/$pid/fd/*");
	is(scalar(grep { m{/(base|global|pg_wal)/|postmaster|PGSQL|server|\.log$} } @files), 0,
		'the engine holds no file of the server');
}
isnt($parent, $postmaster, 'the engine is not a child of the postmaster');
is(slurp_file("/proc/$worker/comm"), "d2c-engine\n", 'ps and top say what it is');
my %environment = map { split /=/, $_, 2 } split /\0/, slurp_file("/proc/$worker/environ");
is($environment{CUDA_DEVICE_ORDER}, 'PCI_BUS_ID', q(what CUDA looks for in the server's environment reaches the engine));
is(join(' ', grep { !/^(CUDA_.*|HOME|LD_LIBRARY_PATH|PATH|LC_ALL|GOMP_SPINCOUNT|NVIDIA_TF32_OVERRIDE)$/ } sort keys %environment),
	'', 'and nothing else does');

# --- privileges ------------------------------------------------------------------------------------------------------
$node->safe_psql('postgres', 'CREATE ROLE plain LOGIN');
is($node->safe_psql('postgres', "SET ROLE plain; SELECT string_agg(name, ',' ORDER BY name) FROM d2c_engine_status()"),
	'build,device,precision,running', 'details of the engine need pg_monitor');
my ($rc, $stdout, $stderr) = $node->psql('postgres', 'SET ROLE plain; SELECT d2c_engine_stop()');
like($stderr, qr/permission denied for function d2c_engine_stop/, 'not everyone may stop the engine');

# --- cancel and termination ------------------------------------------------------------------------------------------
($rc, $stdout, $stderr) = $node->psql('postgres', "SET statement_timeout = '300ms'; $long");
like($stderr, qr/canceling statement due to statement timeout/, 'statement_timeout ends a waiting query');
my $psql = start_psql($node, $long);
ok(wait_until(sub { engine_value($node, 'computing') > 0 }), 'a long query keeps the engine busy');
my $event = $node->safe_psql('postgres', 'SHOW server_version_num') < 170000 ? 'Extension' : 'D2cEngine';
ok(wait_until(sub { $node->safe_psql('postgres', "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'SELECT count(s)%'") eq $event }),
	'the session shows what it waits for');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT count(s)%'");
($out, $err) = finish_psql($psql);
like($err, qr/canceling statement due to user request/, 'pg_cancel_backend ends a waiting query');
ok(wait_until(sub { engine_value($node, 'queued') + engine_value($node, 'computing') == 0 }),
	'the work of cancelled queries is dropped');

$psql = start_psql($node, $long);
ok(wait_until(sub { engine_value($node, 'computing') > 0 }), 'another long query runs');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT count(s)%'");
($out, $err) = finish_psql($psql);
like($err, qr/terminating connection due to administrator command/, 'pg_terminate_backend ends a waiting session');
is(worker_pid($node), $worker, 'the engine lives on');

# An error in the middle of a query must not leave replies that the next query could take for its own.
($out, $err) = finish_psql(start_psql($node, qq{
	SELECT sum(s) FROM (SELECT d2c_difficulty_batched(CASE WHEN id = 20 THEN 'bad' ELSE image END, label, 'tiny-sit') OVER () s FROM img) x;
	SELECT d2c_difficulty_batched(image, label, 'tiny-sit') OVER () = $score FROM img WHERE id <= 2;
}));
like($err, qr/ERROR:.*image/, 'a bad image ends a query');
is($out, "t\nt", 'the next query of the session gets its own results');

# --- the worker killed in mid-query ------------------------------------------------------------------------------------
my $other = start_psql($node, "CREATE TEMP TABLE mine AS SELECT $score AS s FROM img WHERE id = 1;\n"
	. "SELECT pg_sleep(3);\nSELECT s = $score FROM mine, img WHERE id = 1;");
ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) > 0 }),
	'a session has used the engine');
$psql = start_psql($node, $long);
ok(wait_until(sub { engine_value($node, 'queued') > 0 }), 'a long query has work queued');
kill 'KILL', $worker;
($out, $err) = finish_psql($psql);
like($err, qr/ERROR:  the d2c engine ended while it worked for this query/, 'a killed engine fails the query');
like($err, qr/HINT:  The next call starts it again/, '... with a hint');
ok(!alive($worker), 'the old engine is gone');
is($node->safe_psql('postgres', "SELECT $score FROM img WHERE id = 1"), $first, 'the next call works');
isnt(worker_pid($node), $worker, '... with a new engine');
($out, $err) = finish_psql($other);
is($out =~ s/^\n//r, 't', 'a session that had used the dead engine goes on');
is($err, '', '... without an error');
like(slurp_file("$data/pg_stat_tmp/d2c.log"), qr/ended by signal 9/, 'the log tells how the engine ended');

# Row-by-row results survive crashes: the rest is sent again, and after two each session tries its rows alone, while the
# other waits; so neither session's rows are blamed for a crash that has another reason.  Batches double: of 480 rows the last
# one has 256.  When more are queued both sessions are at work on it, and it takes them long to try its rows alone.
my @checked = map { start_psql($node, "SELECT count((s).score), count((s).error) FROM
	(SELECT d2c_difficulty_checked(image, label, 'tiny-sit', 1000) OVER () s FROM (SELECT * FROM img LIMIT 480) i) x;") } 1 .. 2;
for my $crash (1 .. 3)
{
	my $pid;
	my $queued = $crash < 3 ? 300 : -1;
	ok(wait_until(sub { $pid = $node->safe_psql('postgres', "SELECT max(value) FILTER (WHERE name = 'pid') FROM d2c_engine_status()
		HAVING max(value) FILTER (WHERE name = 'computing') > '0' AND max(value::int) FILTER (WHERE name = 'queued') > $queued"); }),
		"crash $crash: both sessions are at work");
	ok($crash < 3 || $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'object' AND NOT granted"),
		'... in turns');
	kill 'KILL', $pid;
}
for (@checked)
{
	($out, $err) = finish_psql($_);
	is($out, '480|0', 'd2c_difficulty_checked gets over three crashes');
	is($err, '', '... without an error');
}

# A row that crashes the engine each time is answered as bad: a picture so large that the engine is killed over it.
sub chunk { my ($type, $bytes) = @_; return pack('N', length $bytes) . $type . $bytes . pack('N', crc32("$type$bytes")); }
my $edge = 12000;
my $large = "\x89PNG\r\n\x1a\n" . chunk('IHDR', pack('NNCCCCC', $edge, $edge, 8, 0, 0, 0, 0))
	. chunk('IDAT', compress("\0" x (($edge + 1) * $edge), 1)) . chunk('IEND', '');
$node->append_conf('postgresql.conf', 'd2c.max_image_pixels = 150000000');
$node->reload;
$node->safe_psql('postgres', "CREATE TABLE large AS SELECT 1 AS label, decode('" . unpack('H*', $large) . "', 'hex') AS image");
$psql = start_psql($node, "SELECT (s).sqlstate, (s).error FROM (SELECT d2c_difficulty_checked(image, label, 'tiny-sit') OVER () s FROM large) x;");
for my $crash (1 .. 4)
{
	my $pid;
	ok(wait_until(sub { $pid = $node->safe_psql('postgres', "SELECT max(value) FILTER (WHERE name = 'pid') FROM d2c_engine_status()
		HAVING max(value) FILTER (WHERE name = 'computing') > '0'"); }), "crash $crash: the engine works on the large picture");
	kill 'KILL', $pid;
}
($out, $err) = finish_psql($psql);
is("$out$err", '22000|the d2c engine crashed each time it worked on this row (It was tried alone twice, after two crashes among others.)',
	'after two crashes and two alone the row is answered as bad');

# A caught cancel in the middle of an expression leaves nothing behind.
($out, $err) = finish_psql(start_psql($node, qq{
	CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS \$\$
	DECLARE x float8; picture bytea; says text = 'not cancelled';
	BEGIN
		SELECT image INTO picture FROM large;
		BEGIN
			x := d2c_difficulty(picture, 1, 'tiny-sit');
		EXCEPTION WHEN query_canceled THEN
			says := 'cancelled';
		END;
		SELECT image INTO picture FROM img WHERE id = 1;
		x := d2c_difficulty(picture, 1, 'tiny-sit');
		RETURN says || ' ' || x;
	END \$\$;
	SELECT $score > 0 FROM img WHERE id = 1;
	SET statement_timeout = '100ms';
	SELECT caught();
	RESET statement_timeout;
	SELECT $score FROM img WHERE id = 1;
}));
like($out, qr/^cancelled \Q$first\E\n\Q$first\E\z/m, 'a cancel that is caught leaves no stray reply');

# --- stop, stale socket ------------------------------------------------------------------------------------------------
$worker = worker_pid($node);
is($node->safe_psql('postgres', 'SELECT d2c_engine_stop()'), 't', 'the engine can be stopped');
ok(wait_until(sub { !alive($worker) }), '... and ends');
is($node->safe_psql('postgres', 'SELECT d2c_engine_stop()'), 'f', 'there is none to stop any more');
{
	chdir $data or die $!;
	my $socket = IO::Socket::UNIX->new(Local => 'pg_stat_tmp/d2c.sock', Listen => 1) or die $!;
	close $socket;
	chdir $ENV{TESTDIR};
}
ok(-S "$data/pg_stat_tmp/d2c.sock", 'a socket lies about that nobody listens at');
is($node->safe_psql('postgres', "SELECT $score FROM img WHERE id = 1"), $first, 'a stale socket is replaced');

# --- many at once start one --------------------------------------------------------------------------------------------
$node->safe_psql('postgres', 'SELECT d2c_engine_stop()');
my @sessions = map { start_psql($node, "SELECT $score FROM img WHERE id = 1;\nSELECT value FROM d2c_engine_status() WHERE name = 'pid';") } 1 .. 6;
my %answers = map { my ($o) = finish_psql($_); ($o => 1) } @sessions;
is(join(' ', keys %answers), "$first\n" . worker_pid($node), 'six sessions that start at once share one engine');

# --- settings ----------------------------------------------------------------------------------------------------------
$worker = worker_pid($node);
my $steady = start_psql($node, "SELECT count(s) FROM (SELECT d2c_difficulty_batched(image, label, 'tiny-sit', 200) OVER () s FROM img LIMIT 600) x;");
ok(wait_until(sub { engine_value($node, 'computing') > 0 }), 'a query runs with the old settings');
$node->append_conf('postgresql.conf', 'd2c.threads = 1');
$node->reload;
is($node->safe_psql('postgres', "SELECT $score FROM img WHERE id = 1"), $first, 'a call after a reload works');
is(engine_value($node, 'threads'), '1', 'an engine with the new settings has taken the place');
isnt(worker_pid($node), $worker, '... a new process');
($out, $err) = finish_psql($steady);
is("$out$err", '600', 'the query that ran is finished by the old engine');
ok(wait_until(sub { !alive($worker) }), 'the old engine leaves when its clients are quiet');

# --- idle exit ---------------------------------------------------------------------------------------------------------
$node->append_conf('postgresql.conf', 'd2c.idle_timeout = 1');
$node->reload;
$psql = start_psql($node, "SELECT $score FROM img WHERE id = 1;\nSELECT pg_sleep(4);\nSELECT $score FROM img WHERE id = 1;");
ok(wait_until(sub { engine_value($node, 'running') eq 'true' }), 'an engine runs');
ok(wait_until(sub { engine_value($node, 'running') eq 'false' }), 'it leaves when it has nothing to do');
($out, $err) = finish_psql($psql);
is($out, "$first\n\n$first", 'a session whose engine left starts another');
is($err, '', '... without an error');

# --- no start ----------------------------------------------------------------------------------------------------------
$node->append_conf('postgresql.conf', "d2c.idle_timeout = 600\nd2c.device = 'cuda:7'");
$node->reload;
($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT $score FROM img WHERE id = 1");
like($stderr, qr/ERROR:  could not start the d2c engine: .*cuda/, 'the error of a failed start states the reason');
($out, $err) = finish_psql(start_psql($node, "LOAD 'd2c';\nALTER SYSTEM SET d2c.device = 'tpu';"));
like($err, qr/invalid value for parameter "d2c.device"/, 'unknown devices are refused');
$node->append_conf('postgresql.conf', "d2c.device = 'cpu'");
$node->reload;
is($node->safe_psql('postgres', "SELECT $score FROM img WHERE id = 1"), $first, 'and works again');

$node->stop;
done_testing();
