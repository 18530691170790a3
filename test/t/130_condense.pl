# d2c_condense goes on where it was stopped: the backend killed, the engine killed, a page cancelled; bad rows never stop it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $node = new_node('condense', "d2c.threads = 2\nrestart_after_crash = on\n");
my @golden = map { golden_hex("image/$_") } qw(grey.png rgb.png palette.png grey.jpg);
my $values = join ',', map { "(decode('$_', 'hex'))" } @golden;
$node->safe_psql('postgres', qq{
	CREATE TABLE picture AS SELECT i AS n, image FROM (VALUES $values) v (image), generate_series(4, 23) i;
	CREATE TABLE images AS SELECT row_number() OVER () AS id, n % 4 AS label, d2c_thumbnail(image, n) AS image FROM picture;
	INSERT INTO images SELECT 80 + i, i % 4, CASE WHEN i % 50 = 0 THEN 'bad' ELSE (SELECT image FROM images WHERE id = 1 + i % 80) END
		FROM generate_series(1, 720) i;
	ALTER TABLE images ADD PRIMARY KEY (id)});

my $call = "CALL d2c_condense('images', '%s', 'tiny-sit', 10, text_model => 'tiny-bert', visual_model => 'tiny-sit', timesteps => 250, page_rows => 40)";
my $digest = "SELECT md5(string_agg(t::text, ' ' ORDER BY id)) FROM %s t";
sub scored { my ($target) = @_; return $node->safe_psql('postgres', "SELECT to_regclass('${target}_scores') IS NOT NULL") eq 't' ? $node->safe_psql('postgres', "SELECT count(*) FROM ${target}_scores") : 0; }

# --- undisturbed -----------------------------------------------------------------------------------------------------
my ($rc, $out, $err) = $node->psql('postgres', sprintf $call, 'whole');
is($rc, 0, 'a run with bad rows ends well');
like($err, qr/NOTICE:  scored: 800 of 800 rows, [\d.]+ rows\/s/, 'it tells its progress');
like($err, qr/NOTICE:  40 of 40 rows selected into public\.whole, 14 rows failed: see column error/, 'and how it ended');
is($node->safe_psql('postgres', "SELECT count(*), min(sqlstate), min(error) FROM whole_scores WHERE score IS NULL"), '14|22000|image has only 3 bytes',
	'the error of each bad row is in the table');
my @expected = map { $node->safe_psql('postgres', sprintf $digest, $_) } qw(whole whole_scores);

sub complete
{
	my ($target, $how) = @_;
	my $done = scored($target);
	cmp_ok($done, '>', 0, "$how: pages before it are kept");
	cmp_ok($done, '<', 800, "$how: the run had not ended");
	is($done % 40, 0, "$how: pages are whole");
	$node->safe_psql('postgres', sprintf $call, $target);
	is($node->safe_psql('postgres', sprintf $digest, "${target}_scores"), $expected[1], "$how: called again, the scores are those of an undisturbed run");
	is($node->safe_psql('postgres', sprintf $digest, $target), $expected[0], "$how: and so is the selection");
	return;
}

# Starts a run and waits until some pages are committed.
sub start_run
{
	my ($target) = @_;
	my $psql = start_psql($node, sprintf("$call;\n", $target));
	ok(wait_until(sub { scored($target) >= 80 }), "run $target is under way");
	return $psql;
}

# --- stopped ---------------------------------------------------------------------------------------------------------
my $psql = start_run('cancelled');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL d2c_condense%'");
($out, $err) = finish_psql($psql);
like($err, qr/canceling statement due to user request/, 'a run can be cancelled');
complete('cancelled', 'cancel');

$psql = start_run('terminated');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL d2c_condense%'");
finish_psql($psql);
complete('terminated', 'terminated backend');

$psql = start_run('crashed');
kill 'KILL', $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL d2c_condense%'");
finish_psql($psql);
ok(server_answers($node), 'the server is back after a backend was killed');
complete('crashed', 'killed backend');

$psql = start_run('engineless');
kill 'KILL', worker_pid($node);
($out, $err) = finish_psql($psql);
is(scored('engineless'), 800, 'killed engine: the run goes on with a new one');
is($node->safe_psql('postgres', sprintf $digest, 'engineless'), $expected[0], 'killed engine: the result is that of an undisturbed run');

# --- two at once -----------------------------------------------------------------------------------------------------
my @runs = map { start_psql($node, sprintf("$call;\n", 'shared')) } 1 .. 2;
my @errors = map { (finish_psql($_))[1] } @runs;
unlike("@errors", qr/ERROR/, 'two runs at once into one table both end well');
is($node->safe_psql('postgres', sprintf $digest, 'shared'), $expected[0], 'and the selection is that of one');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT backend), sum(scored) FROM shared_scores_pages'), '2|800', 'they shared the pages');

# --- inside a transaction --------------------------------------------------------------------------------------------
($rc, $out, $err) = $node->psql('postgres', 'BEGIN; ' . sprintf($call, 'undone') . '; ROLLBACK;');
like($err, qr/NOTICE:  d2c_condense runs inside a transaction: nothing is committed before it ends/, 'a run inside a transaction says so');
is(scored('undone'), 0, 'and leaves nothing after a rollback');
($rc, $out, $err) = $node->psql('postgres', q{DO $$ BEGIN CALL d2c_score('images', 'in_do', 'tiny-sit', 1); EXCEPTION WHEN division_by_zero THEN NULL; END $$});
is($rc, 0, 'a run inside a block with an exception handler works');

# --- the extension in another schema, the caller without rights there ------------------------------------------------
$node->safe_psql('postgres', q{CREATE SCHEMA elsewhere; ALTER EXTENSION d2c SET SCHEMA elsewhere;
	CREATE ROLE plain LOGIN; CREATE SCHEMA mine AUTHORIZATION plain; GRANT USAGE ON SCHEMA elsewhere TO plain; GRANT SELECT ON images TO plain});
($rc, $out, $err) = $node->psql('postgres', q{SET ROLE plain; SET search_path = mine;
	CALL elsewhere.d2c_condense('public.images', 'small', 'tiny-sit', 2, timesteps => 1)});
is($rc, 0, 'the extension works in any schema, for anyone who may read the source');
is($node->safe_psql('postgres', "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relowner = 'plain'::regrole AND relkind = 'r'"),
	'small,small_scores,small_scores_pages', 'result tables belong to the caller');

$node->stop;
done_testing();
