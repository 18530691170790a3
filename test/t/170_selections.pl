# Selections outlive what made them: dump, restore, DROP EXTENSION; two sessions, two users; closing beside inserts.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

# With wal_level = minimal a crash takes back what a sequence gave after the transaction that made it: PostgreSQL's own gap.
my $node = new_node('selections', "restart_after_crash = on\nwal_level = replica\n");
fill_images($node, 60);
my $everything = q{SELECT md5(string_agg(s::text || i::text, chr(10) ORDER BY s.id, i.position, i.id)) FROM lab.d2c_selections s JOIN lab.d2c_selection_items i ON i.selection = s.id};
my $change = q{UPDATE lab.d2c_selection_items SET score = 1 WHERE id = '4'};
sub fails_to_change
{
	my ($database, $what) = @_;
	my ($rc, $out, $err) = $node->psql($database, $change);
	like($err, qr/ERROR:  selection "first" is closed/, $what);
	($rc, $out, $err) = $node->psql($database, 'TRUNCATE lab.d2c_selections, lab.d2c_selection_items');
	like($err, qr/ERROR:  selection "first" is closed/, "$what: nor emptied");
	return;
}

# --- two sessions make the tables, and the same name, at once ---------------------------------------------------------
$node->safe_psql('postgres', 'CREATE SCHEMA lab; ALTER TABLE img ADD PRIMARY KEY (id)');
my $make = q{SELECT d2c_selection_make('%s', 'SELECT id, id / 2.0::float8 AS score FROM public.img WHERE id %% 2 = 0 ORDER BY id', 'public.img', schema => 'lab');};
my $slow = start_psql($node, 'BEGIN; ' . sprintf($make, 'first') . ' SELECT pg_sleep(3); COMMIT;');
ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) eq '1' }), 'one session has made tables and a selection');
my @others = map { start_psql($node, sprintf($make, $_)) } qw(first second);
my ($out, $err) = finish_psql($slow);
is($err, '', 'it commits');
my @ends = map { [ finish_psql($_) ] } @others;
like($ends[0][1], qr/ERROR:  selection "first" already exists/, 'a session that made the same name waited, and is told');
is($ends[1][1], '', 'one that made another name waited, and has it');
is($node->safe_psql('postgres', 'SELECT string_agg(name, \' \' ORDER BY name) FROM lab.d2c_selections'), 'first second', 'both are there');

# --- closing waits for who inserts, and nobody inserts behind it ------------------------------------------------------
$node->safe_psql('postgres', q{SELECT d2c_selection_open('slow', schema => 'lab')});
my $insert = q{INSERT INTO lab.d2c_selection_items (selection, position, id) SELECT id, %d, %d FROM lab.d2c_selections WHERE name = 'slow';};
my $inserter = start_psql($node, 'BEGIN; ' . sprintf($insert, 1, 1) . ' SELECT pg_sleep(3); COMMIT;');
ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) eq '1' }), 'a session inserts');
my $rc;
my $closer = start_psql($node, q{SELECT d2c_selection_close('slow', 'lab');});
finish_psql($inserter);
($out, $err) = finish_psql($closer);
is("$out$err", '1', 'a session that closes counts what the other has inserted');
my $late = start_psql($node, sprintf($insert, 2, 2));
like((finish_psql($late))[1], qr/ERROR:  selection "slow" is closed/, 'nothing comes after that');

$node->safe_psql('postgres', q{SELECT d2c_selection_open('raced', schema => 'lab'); INSERT INTO lab.d2c_selection_items (selection, position, id) SELECT id, 1, 1 FROM lab.d2c_selections WHERE name = 'raced'});
$closer = start_psql($node, q{BEGIN; SELECT d2c_selection_close('raced', 'lab'); SELECT pg_sleep(3); COMMIT;});
ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) eq '1' }), 'a session closes');
$late = start_psql($node, q{INSERT INTO lab.d2c_selection_items (selection, position, id) SELECT id, 2, 2 FROM lab.d2c_selections WHERE name = 'raced';});
finish_psql($closer);
like((finish_psql($late))[1], qr/ERROR:  selection "raced" is closed/, 'a session that inserts meanwhile waits, and is refused');
is($node->safe_psql('postgres', q{SELECT items, (SELECT count(*) FROM lab.d2c_selection_items WHERE selection = s.id) FROM lab.d2c_selections s WHERE name = 'raced'}), '1|1', 'the count is true');

# --- d2c_condense records what it selects ----------------------------------------------------------------------------
my $condense = q{CALL d2c_condense('img', '%s', 'tiny-sit', 2, timesteps => 1, selection => '%s', selection_schema => 'lab');};
my @runs = map { start_psql($node, sprintf($condense, 'pair', 'of both')) } 1 .. 2;
my $errors = join '', map { (finish_psql($_))[1] } @runs;
unlike($errors, qr/ERROR/, 'two sessions condense into one table');
is($node->safe_psql('postgres', q{SELECT s.items, count(*), count(t.id) FROM lab.d2c_selections s JOIN lab.d2c_selection_items i ON i.selection = s.id
	LEFT JOIN pair t ON t.id::text = i.id AND t.rank = i.rank WHERE s.name = 'of both' GROUP BY s.items}), '20|20|20', 'and record one selection, which is what they selected');
@runs = map { start_psql($node, q{SET default_transaction_isolation = 'repeatable read'; } . sprintf($condense, 'stable', 'of stable')) } 1 .. 2;
$errors = join '', map { (finish_psql($_))[1] } @runs;
unlike($errors, qr/ERROR/, 'also where transactions are repeatable read');
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM stable), items FROM lab.d2c_selections WHERE name = 'of stable'}), '20|20', 'once');
@runs = map { start_psql($node, sprintf($condense, $_, 'of one')) } qw(this that);
$errors = join '', map { (finish_psql($_))[1] } @runs;
is(() = $errors =~ /ERROR:  selection "of one" already exists/g, 1, 'of two that record the same name one is told');
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT FROM this UNION ALL SELECT FROM that) t}), '20', 'and has selected nothing');
$node->safe_psql('postgres', q{SELECT d2c_selection_drop('of both', 'lab'), d2c_selection_drop('of stable', 'lab'), d2c_selection_drop('of one', 'lab')});
($rc, $out, $err) = $node->psql('postgres', 'BEGIN; ' . sprintf($condense, 'undone', 'undone') . ' ROLLBACK;');
is($node->safe_psql('postgres', q{SELECT count(*) FROM lab.d2c_selections WHERE name = 'undone'}), '0', 'one that is rolled back records nothing');

# --- killed at work --------------------------------------------------------------------------------------------------
my $killed = start_psql($node, q{SELECT d2c_selection_make('killed', 'SELECT id FROM public.img WHERE id < 9 AND pg_sleep(1) IS NOT NULL', 'public.img', schema => 'lab');});
ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) eq '1' }), 'a session makes a selection');
kill 'KILL', $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
finish_psql($killed);
ok(wait_until(sub { slurp_file($node->logfile) =~ /all server processes terminated; reinitializing/ }) && server_answers($node), 'and is killed');
is($node->safe_psql('postgres', q{SELECT count(*), (SELECT count(*) FROM lab.d2c_selection_items i WHERE NOT EXISTS (SELECT FROM lab.d2c_selections s WHERE s.id = i.selection)) FROM lab.d2c_selections WHERE name = 'killed'}), '0|0', 'nothing is left of it');
is($node->safe_psql('postgres', q{SELECT d2c_selection_make('killed', 'SELECT 1 AS id', schema => 'lab') IS NOT NULL; SELECT d2c_selection_drop('killed', 'lab')}), "t\n", 'and its name is free');

# --- another user ----------------------------------------------------------------------------------------------------
$node->safe_psql('postgres', q{CREATE ROLE ann LOGIN; CREATE ROLE ben LOGIN; CREATE SCHEMA ann AUTHORIZATION ann; GRANT SELECT ON img TO ann, ben});
my $as = sub { my ($user, $sql) = @_; return $node->psql('postgres', "SET ROLE $user; SET search_path = ann, public; $sql"); };
($rc, $out, $err) = $as->('ann', q{SELECT d2c_selection_make('hers', 'SELECT id FROM img WHERE id < 9', 'img') IS NOT NULL});
is("$out$err", 't', 'a user without rights makes a selection in a schema of hers');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT o, ' ') FROM (SELECT relowner::regrole::text AS o FROM pg_class WHERE relnamespace = 'ann'::regnamespace
	UNION ALL SELECT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'ann'::regnamespace) x}), 'ann', 'tables and guard are hers');
($rc, $out, $err) = $as->('ann', q{DELETE FROM d2c_selections});
like($err, qr/ERROR:  selection "hers" is closed/, 'which she cannot change either');
($rc, $out, $err) = $as->('ben', q{SELECT count(*) FROM d2c_selections});
like($err, qr/ERROR:  (permission denied for schema ann|relation "d2c_selections" does not exist)/, 'another user does not see it');
($rc, $out, $err) = $as->('ben', q{SELECT d2c_selection_make('his', 'SELECT 1 AS id', schema => 'ann')});
like($err, qr/ERROR:  permission denied for schema ann/, 'and cannot make one there');
$node->safe_psql('postgres', q{GRANT USAGE ON SCHEMA ann TO ben; GRANT SELECT ON ALL TABLES IN SCHEMA ann TO ben});
($rc, $out, $err) = $as->('ben', q{SELECT count(*) FROM d2c_selection_check('hers')});
is("$out$err", '0', 'who may read it, checks it');
($rc, $out, $err) = $as->('ben', q{SELECT d2c_selection_drop('hers')});
like($err, qr/ERROR:  permission denied for table/, 'but does not drop it');
$node->safe_psql('postgres', q{GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA ann TO ben});
($rc, $out, $err) = $as->('ben', q{SELECT d2c_selection_make('his', 'SELECT 1 AS id') IS NOT NULL; SELECT creator FROM d2c_selections WHERE name = 'his'});
is("$out$err", "t\nben", 'who may write, makes his own there');
($rc, $out, $err) = $as->('ben', q{SELECT d2c_selection_drop('his')});
like($err, qr/ERROR:  permission denied for table/, 'and does not drop it');
$node->safe_psql('postgres', q{GRANT DELETE ON ALL TABLES IN SCHEMA ann TO ben});
($rc, $out, $err) = $as->('ben', q{SELECT d2c_selection_drop('his')});
is("$out$err", '', 'but where he may delete');
$node->safe_psql('postgres', q{ALTER TABLE ann.d2c_selections ENABLE ROW LEVEL SECURITY});
for my $policy ('', q{CREATE POLICY read ON ann.d2c_selections FOR SELECT USING (true)})
{
	$node->safe_psql('postgres', $policy);
	($rc, $out, $err) = $as->('ben', q{INSERT INTO d2c_selection_items (selection, position, id) VALUES (1, 99, 'his')});
	like($err, qr/ERROR:  items of selection 1 cannot be changed\nDETAIL:  Its row in table ann\.d2c_selections is missing, or a policy hides it/, 'whom a policy keeps from the selection does not add to it');
	($rc, $out, $err) = $as->('ben', q{SET d2c_selection.dropped = 1; DELETE FROM d2c_selection_items WHERE selection = 1 AND id > '3'});
	like($err, qr/ERROR:  items of selection 1 cannot be changed/, 'nor takes from it');
}
$node->safe_psql('postgres', q{CREATE POLICY write ON ann.d2c_selections FOR UPDATE USING (true)});
($rc, $out, $err) = $as->('ben', q{SET d2c_selection.dropped = 1; DELETE FROM d2c_selection_items WHERE selection = 1});
like($err, qr/ERROR:  selection "hers" is closed/, 'nor who may not delete the selection all that it has');
$node->safe_psql('postgres', q{ALTER TABLE ann.d2c_selections DISABLE ROW LEVEL SECURITY; DROP POLICY read ON ann.d2c_selections; DROP POLICY write ON ann.d2c_selections});
($rc, $out, $err) = $as->('ben', q{BEGIN; SELECT d2c_selection_drop('hers'); SELECT count(*) FROM d2c_selections; ROLLBACK});
is("$out$err", "\n0", 'who may delete, drops hers whole');

# --- dump and restore; DROP EXTENSION --------------------------------------------------------------------------------
my $before = $node->safe_psql('postgres', $everything);
my $folder = PostgreSQL::Test::Utils::tempdir();
my @dump = ($node->installed_command('pg_dump'), '-d', $node->connstr('postgres'), '--no-owner', '-n', 'lab');
command_ok([ @dump, '-f', "$folder/plain.sql" ], 'pg_dump as text');
command_ok([ @dump, '--no-comments', '-f', "$folder/silent.sql" ], 'pg_dump without comments');
command_ok([ @dump, '-Fc', '-f', "$folder/custom" ], 'pg_dump as an archive');
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(plain silent custom data);
$node->safe_psql('plain', slurp_file("$folder/plain.sql"));
is($node->safe_psql('plain', $everything), $before, 'restored by psql where the extension is not: the same rows');
fails_to_change('plain', 'restored by psql: cannot be changed');
command_ok([ $node->installed_command('pg_restore'), '-j', '2', '--no-owner', '-d', $node->connstr('custom'), "$folder/custom" ], 'pg_restore in parallel');
is($node->safe_psql('custom', $everything), $before, 'restored by pg_restore: the same rows');
fails_to_change('custom', 'restored by pg_restore: cannot be changed');
command_ok([ $node->installed_command('pg_restore'), '--schema-only', '--no-owner', '-d', $node->connstr('data'), "$folder/custom" ], 'the tables alone');
command_fails_like([ $node->installed_command('pg_restore'), '--data-only', '--no-owner', '-d', $node->connstr('data'), "$folder/custom" ],
	qr/selection "first" cannot be closed before it has items/, 'rows alone are refused by the guard');
command_ok([ $node->installed_command('pg_restore'), '--data-only', '--disable-triggers', '--no-owner', '-d', $node->connstr('data'), "$folder/custom" ], 'then the rows, without triggers');
is($node->safe_psql('data', $everything), $before, 'restored in two steps: the same rows');
fails_to_change('data', 'restored in two steps: cannot be changed');

$node->safe_psql('custom', 'CREATE EXTENSION d2c');
is($node->safe_psql('custom', q{SELECT count(*), count(*) FILTER (WHERE side = 'both') FROM d2c_selection_diff('first', 'second', 'lab')}), '30|30', 'a restored selection is compared');
is($node->safe_psql('custom', q{SELECT d2c_selection_make('more', 'SELECT 1 AS id', schema => 'lab') IS NOT NULL}), 't', 'and others are made beside it');
$node->safe_psql('silent', slurp_file("$folder/silent.sql") . 'CREATE EXTENSION d2c SCHEMA public');
($rc, $out, $err) = $node->psql('silent', q{SELECT count(*) FROM d2c_selection_diff('first', 'second', 'lab'); SELECT d2c_selection_make('more', 'SELECT 1 AS id', schema => 'lab') IS NOT NULL});
is("$out$err", "30\nt", 'without their comments selections are what they are');

$node->safe_psql('postgres', 'DROP TABLE pair, stable, this, that; DROP EXTENSION d2c');
is($node->safe_psql('postgres', $everything), $before, 'DROP EXTENSION keeps selections');
fails_to_change('postgres', 'after DROP EXTENSION: cannot be changed');
$node->safe_psql('postgres', 'CREATE EXTENSION d2c');
$node->safe_psql('postgres', q{SELECT d2c_selection_drop('second', 'lab')});
is($node->safe_psql('postgres', q{SELECT string_agg(name, ' ' ORDER BY name) FROM lab.d2c_selections}), 'first raced slow', 'made again, the extension drops one');
$node->safe_psql('postgres', 'CREATE SCHEMA tools; GRANT USAGE ON SCHEMA tools TO ann; ALTER EXTENSION d2c SET SCHEMA tools');
($rc, $out, $err) = $as->('ann', q{SELECT tools.d2c_selection_make('elsewhere', 'SELECT id FROM img WHERE id IN (1, 2)', 'img') IS NOT NULL; SELECT count(*) FROM tools.d2c_selection_diff('hers', 'elsewhere');
	SELECT count(*) FROM tools.d2c_selection_check('elsewhere'); SELECT tools.d2c_selection_drop('elsewhere')});
is("$out$err", "t\n8\n0\n", 'the extension works in any schema');
$node->safe_psql('postgres', 'ALTER SCHEMA lab RENAME TO attic');
$change =~ s/lab/attic/;
($rc, $out, $err) = $node->psql('postgres', $change);
like($err, qr/ERROR:  selection "first" is closed/, 'a schema that is renamed is guarded');

$node->stop;
done_testing();
