# Whatever d2c has made survives dump and restore, and work goes on in the restored database where it stood.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $node = new_node('restore');
my $folder = PostgreSQL::Test::Utils::tempdir;
my ($grey, $rgb) = map { golden_hex("image/$_.png") } qw(grey rgb);
my @train = (qw(d2c train --table condensed --model custom --hidden 24 --depth 2 --heads 2 --patch 4 --image-size 8 --channels 1 --device cpu --threads 1
	  --mixed-precision no --global-batch-size 4 --log-every 5 --sample-every 5 --name kept --resume latest), '--results-dir', "$folder/kept");

# --- one of everything -----------------------------------------------------------------------------------------------
my $condense = q{CALL d2c_condense('images', 'condensed', 'tiny-sit', 4, timesteps => 2, page_rows => 10, text_model => 'tiny-bert', tokens => 4,
	visual_model => 'tiny-sit', latent_model => 'tiny-vae', latent_size => 16, selection => 'four a class')};
my $attach = q{CALL d2c_attach('images', 'attached', text_model => 'tiny-bert', visual_model => 'tiny-dinov2', visual_tokens => 2)};
my $score = q{CALL d2c_score('images', 'scored', 'tiny-sit', timesteps => 1, page_rows => 16%s)};
$node->safe_psql('postgres', qq{
	CREATE TABLE images AS SELECT i AS id, i % 3 AS label, CASE WHEN i = 20 THEN '\\x0bad'::bytea ELSE d2c_thumbnail(decode('$grey', 'hex'), 4 + i % 9) END AS image
		FROM generate_series(1, 60) i;
	ALTER TABLE images ADD PRIMARY KEY (id)});
$node->safe_psql('postgres', $_) for $condense, $attach, sprintf $score, ', max_pages => 2';
command_ok([ @train, '--dbname', $node->connstr('postgres'), qw(--latents off --max-train-steps 10) ], 'a training');
is($node->safe_psql('postgres', 'SELECT count(*) FROM scored'), '32', 'a scoring that has not ended');

my @tables = split /\n/, $node->safe_psql('postgres', q{SELECT format('%I', relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1});
is("@tables", 'attached condensed condensed_scores condensed_scores_pages d2c_run_metrics d2c_runs d2c_samples d2c_selection_items d2c_selections images scored scored_pages',
	'the tables that there are');
sub digests { my ($database) = @_; return map { $node->safe_psql($database, "SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM $_ t") } @tables; }
my $about = q{SELECT string_agg(concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attstorage, col_description(c.oid, a.attnum),
	obj_description(c.oid, 'pg_class')), chr(10) ORDER BY c.relname, a.attname)
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped};
my @before = digests('postgres');
my $known = $node->safe_psql('postgres', $about);

# --- there and back --------------------------------------------------------------------------------------------------
$node->command_ok([ 'pg_dump', '--format', 'custom', '--file', "$folder/dump", $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--jobs', 2, '--dbname', $node->connstr('restored'), "$folder/dump" ], 'pg_restore');
is_deeply([ digests('restored') ], \@before, 'every table has the same rows');
is($node->safe_psql('restored', $about), $known, 'and the same columns, storage and comments');

# --- work goes on ----------------------------------------------------------------------------------------------------
my ($rc, $out, $err) = $node->psql('restored', sprintf $score, '');
is($rc, 0, 'd2c_score goes on') or diag($err);
is($node->safe_psql('restored', 'SELECT count(*), count(score) FROM scored'), '60|59', '... where it stood');
($rc, $out, $err) = $node->psql('restored', $condense);
is($rc, 0, 'd2c_condense has nothing to do') or diag($err);
($rc, $out, $err) = $node->psql('restored', $attach);
is($rc, 0, 'nor has d2c_attach') or diag($err);
my @after = digests('restored');
is_deeply([ @after[ grep { $tables[$_] !~ /^scored/ } 0 .. $#tables ] ], [ @before[ grep { $tables[$_] !~ /^scored/ } 0 .. $#tables ] ], 'and both left the tables as they were');
$node->safe_psql('restored', qq{UPDATE images SET image = d2c_thumbnail(decode('$rgb', 'hex'), 9) WHERE id = 7});
$node->safe_psql('restored', sprintf $score, ', changed => true');
is($node->safe_psql('restored', q{SELECT score = d2c_difficulty(image, label, 'tiny-sit', 1) FROM scored JOIN images USING (id, label) WHERE id = 7}), 't', 'a changed row is noticed');
my ($stdout, $stderr);
ok(IPC::Run::run([ @train, '--dbname', $node->connstr('restored'), qw(--latents off --max-train-steps 15) ], '>', \$stdout, '2>', \$stderr), 'the training is resumed') or diag($stderr);
unlike($stderr, qr/no metrics in the database/, 'its metrics find their tables');
is($node->safe_psql('restored', q{SELECT string_agg(step::text, ' ' ORDER BY step) FROM d2c_run_metrics JOIN d2c_runs ON d2c_runs.id = run_id WHERE name = 'kept'}), '5 10 15',
	'... and the run that they are of');

$node->stop;
done_testing();
