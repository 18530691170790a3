# d2c_score shares its pages among sessions; whoever is killed gives its page back, nothing is scored twice, and the result
# is that of one undisturbed session; a recheck scores what changed.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $node = new_node('bulk', "d2c.threads = 2\nrestart_after_crash = on\n");
my @golden = map { golden_hex("image/$_") } qw(grey.png rgb.png palette.png grey.jpg);
my $values = join ',', map { "(decode('$_', 'hex'))" } @golden;
$node->safe_psql('postgres', qq{
	CREATE TABLE picture AS SELECT row_number() OVER () AS n, d2c_thumbnail(image, i) AS image FROM (VALUES $values) v (image), generate_series(4, 23) i;
	CREATE TABLE images AS SELECT i AS id, i % 4 AS label, CASE WHEN i % 50 = 0 THEN 'bad' ELSE image END AS image
		FROM generate_series(1, 800) i JOIN picture ON n = 1 + i % 80;
	ALTER TABLE images ADD PRIMARY KEY (id)});

# --- what the tests ask ----------------------------------------------------------------------------------------------
sub query { return $node->safe_psql('postgres', $_[0]); }
sub call { my ($target, $more) = @_; return "CALL d2c_score('images', '$target', 'tiny-sit', timesteps => 250, page_rows => 20" . ($more // '') . ");\n"; }
sub scores { my ($target) = @_; return query("SELECT md5(string_agg(t::text, ' ' ORDER BY id)) FROM $target t"); }
sub done { my ($target) = @_; return query("SELECT to_regclass('${target}_pages') IS NOT NULL") eq 't' ? query("SELECT count(scored) FROM ${target}_pages") : 0; }
sub sessions { return map { start_psql($node, $_[0]) } 1 .. $_[1]; }
sub pids { return split /\n/, query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL d2c_score%' ORDER BY pid"); }
sub under_way { my ($target) = @_; return wait_until(sub { done($target) >= 3 }); }

my $finished = engine_value($node, 'finished');
sub finished_since { my $before = $finished; $finished = engine_value($node, 'finished'); return $finished - $before; }

# --- one session -----------------------------------------------------------------------------------------------------
query('SELECT d2c_difficulty((SELECT image FROM images WHERE id = 1), 1, $$tiny-sit$$)');
$finished = engine_value($node, 'finished');
query(call('alone'));
my $alone = finished_since();
query(call('alone'));
my $nothing = finished_since();
cmp_ok($nothing, '<', 10, 'a call with nothing to do asks the engine for a few things');
is($alone, 800 + $nothing, 'a run asks it for each row once more');
my $expected = scores('alone');
my $summary = 'SELECT count(*), count(scored_at), sum(rows), sum(scored), sum(errors), count(DISTINCT first_key) FROM %s_pages';
is(query(sprintf $summary, 'alone'), '40|40|800|800|16|40', 'its pages say what was done');

# --- several at once -------------------------------------------------------------------------------------------------
my @runs = sessions(call('shared'), 3);
ok(under_way('shared'), 'three sessions are under way');
my ($seen, $sight) = ('', qr/^[123]\|t\|800\|40\|t\|t$/);
wait_until(sub {
	$seen = query(q{SELECT sessions, done > 0 AND done <= total, total, pages, rows_per_second > 0, time_left >= interval '0' FROM d2c_score_progress('shared')});
	return $seen =~ $sight || done('shared') == 40 });
like($seen, $sight, 'another session sees how far they are');
my @errors = map { (finish_psql($_))[1] } @runs;
unlike("@errors", qr/ERROR/, 'all three end well');
is(scores('shared'), $expected, 'the scores are those of one session');
is(finished_since(), 800 + 3 * $nothing, 'the engine scored each row once');
is(query(sprintf $summary, 'shared'), '40|40|800|800|16|40', 'each page was done once');
is(query('SELECT count(DISTINCT backend) FROM shared_pages'), 3, 'by three sessions');
is(query(q{SELECT sessions, done, total, errors, rows_per_second IS NULL, time_left FROM d2c_score_progress('shared')}), '0|800|800|16|t|00:00:00', 'progress of a run that is over');

# --- one of three ends in the middle ---------------------------------------------------------------------------------
@runs = sessions(call('thinned'), 3);
ok(under_way('thinned'), 'three sessions are under way again');
query('SELECT pg_terminate_backend(' . (pids())[0] . ')');
@errors = map { (finish_psql($_))[1] } @runs;
is(scalar(grep { /terminating connection/ } @errors), 1, 'one session was terminated');
is(scalar(grep { /ERROR|FATAL/ } @errors), 1, 'the others end well');
is(scores('thinned'), $expected, 'terminated session: the others have done its page');
is(query(sprintf $summary, 'thinned'), '40|40|800|800|16|40', 'terminated session: each page was done once');
cmp_ok(finished_since(), '<=', 820 + 3 * $nothing, 'terminated session: no more than its page was begun twice');

# --- all end: after a crash the pages that were committed stay as they are --------------------------------------------
sub crash
{
	my ($target, $how, $strike) = @_;
	my @run = sessions(call($target), 3);
	ok(under_way($target), "$how: under way");
	$strike->();
	finish_psql($_) for @run;
	ok(server_answers($node), "$how: the server is back");
	my $kept = done($target);
	cmp_ok($kept, '<', 40, "$how: the run had not ended");
	is(query("SELECT count(*) FROM $target"), $kept * 20, "$how: whole pages are kept");
	query("CREATE TABLE ${target}_before AS SELECT id, t.xmin AS x, p.scored_at, p.backend FROM $target t JOIN ${target}_pages p ON id BETWEEN first_key AND last_key");
	@run = sessions(call($target), 2);
	my @said = map { (finish_psql($_))[1] } @run;
	unlike("@said", qr/ERROR/, "$how: called again by two sessions");
	is(scores($target), $expected, "$how: the scores are those of one undisturbed session");
	is(query("SELECT count(*) FROM ${target}_before b JOIN $target t USING (id) JOIN ${target}_pages p ON id BETWEEN first_key AND last_key
		WHERE t.xmin = x AND p.scored_at = b.scored_at AND p.backend = b.backend"), $kept * 20, "$how: what was scored is not scored again");
	return;
}
crash('killed', 'backend killed', sub { kill 'KILL', (pids())[1] });
crash('stopped', 'server stopped at once', sub { $node->stop('immediate'); $node->start });

@runs = sessions(call('engineless'), 3);
ok(under_way('engineless'), 'engine killed: under way');
kill 'KILL', worker_pid($node);
@errors = map { (finish_psql($_))[1] } @runs;
unlike("@errors", qr/ERROR/, 'engine killed: all sessions go on with a new one');
is(scores('engineless'), $expected, 'engine killed: the scores are those of one undisturbed session');
is(query(sprintf $summary, 'engineless'), '40|40|800|800|16|40', 'engine killed: each page was done once');

# --- waiting for a page that another session holds --------------------------------------------------------------------
query(call('held', ', max_pages => 1'));
my $holder = start_psql($node, "BEGIN; SELECT FROM held_pages WHERE page = 7 FOR UPDATE; SELECT pg_sleep(600);\n");
ok(wait_until(sub { query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND wait_event = 'PgSleep'") eq '1' }), 'a session holds a page');
my $waiter = start_psql($node, call('held'));
ok(wait_until(sub { done('held') == 39 && query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL d2c_score%' AND wait_event_type = 'Lock'") eq '1' }),
	'a run does the other pages and waits for that one');
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND wait_event = 'PgSleep'");
finish_psql($holder);
my ($out, $err) = finish_psql($waiter);
like($err, qr/NOTICE:  d2c_score waits for 1 pages of public\.held that other sessions hold/, 'it says so');
is(scores('held'), $expected, 'and does the page itself when the other session has ended');

# --- sessions that see one snapshot all along by default ---------------------------------------------------------------
@runs = sessions("SET default_transaction_isolation = 'serializable';\n" . call('isolated'), 3);
@errors = map { (finish_psql($_))[1] } @runs;
unlike("@errors", qr/ERROR/, 'default_transaction_isolation does not matter');
is(scores('isolated'), $expected, 'nor for the scores');

# --- rows that come during the run ------------------------------------------------------------------------------------
@runs = sessions(call('growing'), 2);
ok(under_way('growing'), 'a run to which rows are added is under way');
query('INSERT INTO images SELECT id + delta, label, image FROM images, (VALUES (-1000), (1000)) v (delta) WHERE id BETWEEN 1 AND 30');
finish_psql($_) for @runs;
is(query('SELECT count(*), count(*) FILTER (WHERE g.score IS NOT DISTINCT FROM a.score) FROM growing g JOIN alone a ON a.id = (g.id + 2000) % 1000 OR a.id = g.id'), '860|860',
	'it scores them, too, in front and behind');
query('DELETE FROM images WHERE id NOT BETWEEN 1 AND 800');

# --- rows that change --------------------------------------------------------------------------------------------------
query(q{
	CREATE TABLE changed AS TABLE images;
	ALTER TABLE changed ADD PRIMARY KEY (id)});
my $check = "CALL d2c_score('changed', 'kept', 'tiny-sit', timesteps => 250, page_rows => 20%s);\n";
query(sprintf $check, '');
query(q{
	CREATE TABLE kept_before AS SELECT id, t.xmin AS x FROM kept t;
	UPDATE changed c SET image = o.image FROM changed o WHERE c.id % 10 = 3 AND o.id = c.id + 1;
	UPDATE changed SET label = 3 - label WHERE id % 10 = 5;
	UPDATE changed SET image = image WHERE id % 10 = 7;
	DELETE FROM changed WHERE id % 10 = 9 OR id <= 20;
	INSERT INTO changed SELECT id + 10000, label, image FROM images WHERE id <= 15;
	CREATE TABLE to_score AS SELECT c.id FROM changed c LEFT JOIN images i USING (id) WHERE (c.label, c.image) IS DISTINCT FROM (i.label, i.image)});
@runs = sessions(sprintf($check, ', changed => true'), 3);
ok(wait_until(sub { query('SELECT count(*) > 3 AND bool_and(recheck) FROM kept_pages WHERE scored_at IS NOT NULL') eq 't' }), 'a recheck is under way');
kill 'KILL', (pids())[0];
finish_psql($_) for @runs;
ok(server_answers($node), 'the server is back after a backend was killed in a recheck');
@runs = sessions(sprintf($check, ''), 2);
@errors = map { (finish_psql($_))[1] } @runs;
unlike("@errors", qr/ERROR/, 'a recheck that was killed goes on with the next call');
query(q{CALL d2c_score('changed', 'anew', 'tiny-sit', timesteps => 250)});
is(scores('kept'), scores('anew'), 'the scores are those of a run from nothing');
is(query('SELECT count(*) FROM kept t JOIN kept_before b USING (id) WHERE t.xmin = b.x'),
	query('SELECT count(*) FROM changed WHERE id NOT IN (SELECT id FROM to_score)'), 'rows that did not change were not scored again');
is(query('SELECT sum(scored) FROM kept_pages'), query('SELECT count(*) FROM to_score'), 'the pages say how many were');

query('DELETE FROM changed WHERE id BETWEEN 101 AND 108');
my ($rc, $o, $e) = $node->psql('postgres', sprintf $check, ', changed => true');
like($e, qr/NOTICE:  removed the scores of \d+ rows that are no longer in public\.changed\n.*NOTICE:  checked: (\d+) of \1 rows/s, 'a recheck says what it does');

# --- a result of 0.1.0 -------------------------------------------------------------------------------------------------
$node->safe_psql('postgres', 'CREATE DATABASE old');
$node->safe_psql('old', q{CREATE EXTENSION d2c VERSION '0.1.0'});
system_or_bail('sh', '-c', join ' ', $node->installed_command('pg_dump'), '-t', 'images', "-d '" . $node->connstr('postgres') . "'", '|', $node->installed_command('psql'), '-qX', "-d '" . $node->connstr('old') . "'");
$node->safe_psql('old', q{CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 250, page_rows => 30, max_pages => 10); ALTER EXTENSION d2c UPDATE});
is($node->safe_psql('old', 'SELECT count(*) FROM scores'), 300, 'a result of 0.1.0 has some rows');
($rc, $o, $e) = $node->psql('old', q{SELECT * FROM d2c_score_progress('scores')});
like($e, qr/ERROR:  table scores has no pages/, 'but no progress');
($rc, $o, $e) = $node->psql('old', q{CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 250, page_rows => 30)});
like($e, qr/NOTICE:  table public\.scores was made by an earlier release of d2c/, 'it is told from one of today');
is($node->safe_psql('old', 'SELECT count(*), count(digest) FROM scores'), '800|500', 'and goes on');
($rc, $o, $e) = $node->psql('old', q{CALL d2c_score('images', 'scores', 'tiny-sit', timesteps => 250, changed => true)});
is($e =~ /ERROR|earlier release/, '', 'a recheck of it ends well');
is($node->safe_psql('old', 'SELECT md5(string_agg((id, label, score, error, digest)::text, $$ $$ ORDER BY id)), (SELECT sum(scored) FROM scores_pages) FROM scores'),
	query('SELECT md5(string_agg((id, label, score, error, digest)::text, $$ $$ ORDER BY id)), 300 FROM alone'), 'and scores the rows without a digest once more');

# --- the extension in a schema of an awkward name, the caller without rights there, one session inside a transaction -----
query(q{CREATE SCHEMA "Some where"; ALTER EXTENSION d2c SET SCHEMA "Some where";
	CREATE ROLE plain LOGIN; CREATE SCHEMA "Mine" AUTHORIZATION plain; GRANT USAGE ON SCHEMA "Some where" TO plain; GRANT SELECT ON images TO plain});
my $plain = q{SET ROLE plain; SET search_path = "Mine"; };
my $theirs = q{CALL "Some where".d2c_score('public.images', '"Their scores"', 'tiny-sit', timesteps => 250, page_rows => 20%s);};
my $hold = q{DO $$ BEGIN
	WHILE EXISTS (SELECT FROM "Their scores_pages" WHERE scored_at IS NULL) OR NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)
	LOOP PERFORM pg_sleep(0.1); END LOOP; END $$; COMMIT;};
my $inside = start_psql($node, $plain . sprintf($theirs, ', max_pages => 1') . "BEGIN;\n" . sprintf($theirs, ', max_pages => 2') . $hold);
ok(wait_until(sub { query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %' AND wait_event = 'PgSleep'") eq '1' }), 'a session holds its pages in a transaction');
@runs = sessions($plain . sprintf($theirs, ''), 2);
@errors = map { (finish_psql($_))[1] } @runs, $inside;
is(scalar(grep { /ERROR/ } @errors), 0, 'sessions beside one in a transaction end well') or diag("@errors");
like("@errors", qr/d2c_score waits for 2 pages of "Mine"\."Their scores"/, 'and wait for its pages alone');
is(query('SELECT count(*), count(*) FILTER (WHERE t.score IS NOT DISTINCT FROM a.score) FROM "Mine"."Their scores" t JOIN alone a USING (id)'), '800|800', 'with all scores');
is(query($plain . q{SELECT done, total, errors, relation FROM "Some where".d2c_score_progress('"Their scores"'),
	"Some where".d2c_prepare_table('"Their scores"', 'digest')}), "800|800|16|\"Their scores\"\n800|800|16|\"Their scores\"", 'the functions work in any schema, too');

$node->stop;
done_testing();
