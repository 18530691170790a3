# The types cross servers and dumps unchanged, and damaged binary input is an error, never a crash.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $node = new_node('types');
my $folder = $node->basedir;
$node->safe_psql('postgres', q{
	CREATE AGGREGATE keep(id bigint, score float8, k int, n int) (SFUNC = d2c_select_accum, STYPE = d2c_selection);
	CREATE AGGREGATE keep(id text, score float8, k int, n int) (SFUNC = d2c_select_accum, STYPE = d2c_selection);
	CREATE AGGREGATE keep(id uuid, score float8, k int, n int) (SFUNC = d2c_select_accum, STYPE = d2c_selection);
	CREATE TABLE kept (id int PRIMARY KEY, any_type tensor, half tensor(f16), selection d2c_selection, moments d2c_moments);
	INSERT INTO kept
		SELECT g, array_agg(sin(i * g))::real[]::tensor, array_agg(1 / i::real)::tensor(f16),
			CASE g % 3 WHEN 0 THEN keep(i::bigint, sin(i), 3, 9) WHEN 1 THEN keep('id' || i, sin(i), 3, 9)
				ELSE keep(md5(i::text)::uuid, sin(i), 3, 9) END,
			d2c_moments(ARRAY[i, sin(i), cos(i)]::real[])
		FROM generate_series(1, 12) g, LATERAL generate_series(1, g * g * g) i GROUP BY g;
	INSERT INTO kept VALUES (0, NULL, NULL, NULL, NULL), (100, 'bf16:[[[NaN,-0]]]', 'u8:[1]', 'max text k=1 n=1 seed=0 {1:"ä\"\\\\"}', NULL);
});
my $digest = 'SELECT md5(string_agg(k::text, chr(10) ORDER BY id)) FROM kept k';
my $before = $node->safe_psql('postgres', $digest);

# --- COPY BINARY -----------------------------------------------------------------------------------------------------
$node->safe_psql('postgres', qq{
	COPY kept TO '$folder/kept.bin' (FORMAT binary);
	TRUNCATE kept;
	COPY kept FROM '$folder/kept.bin' (FORMAT binary)});
is($node->safe_psql('postgres', $digest), $before, 'COPY BINARY there and back changes nothing');

# --- dump and restore ------------------------------------------------------------------------------------------------
$node->command_ok([ 'pg_dump', '--file', "$folder/dump.sql", $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$folder/dump.sql", $node->connstr('restored') ], 'restore');
is($node->safe_psql('restored', $digest), $before, 'a dump restores the same values');
is($node->safe_psql('restored', "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'kept'::regclass AND attname = 'half'"),
	'tensor(f16)', 'and the same types');

# --- damage ----------------------------------------------------------------------------------------------------------
$node->safe_psql('postgres', qq{
	CREATE TABLE target (LIKE kept);
	COPY (SELECT * FROM kept WHERE id IN (1, 2, 3, 100)) TO '$folder/few.bin' (FORMAT binary)});
my $good = slurp_file("$folder/few.bin");
my $script = '';
srand(1);
for my $round (1 .. 400)
{
	my $bad = $good;
	# The header of 19 bytes is PostgreSQL's own.
	substr($bad, 19 + int(rand(length($bad) - 19)), 1) = chr(int(rand(256))) for 1 .. 1 + int(rand(3));
	$bad = substr($bad, 0, 19 + int(rand(length($bad) - 19))) if $round % 5 == 0;
	append_to_file("$folder/bad$round.bin", $bad);
	$script .= "COPY target FROM '$folder/bad$round.bin' (FORMAT binary);\n";
}
$script .= "SELECT count(target::text) > 0 FROM target;\n";
my ($rc, $out, $err) = $node->psql('postgres', $script, on_error_stop => 0);
is($out, 't', 'values that damaged input gave can be read');

my $one_dimension = sub { pack('C N q> d>*', 1, 1, @_) };
for my $case ([ 'negative spread', 2, 5, -1 ], [ 'a mean of nothing', 0, 5, 0 ], [ 'the spread of one vector', 1, 5, 3 ])
{
	my ($name, @numbers) = @$case;
	append_to_file("$folder/contradiction$numbers[0].bin", "PGCOPY\n\xff\r\n\0" . pack('N N n N/a n', 0, 0, 1, $one_dimension->(@numbers), 0xffff));
	$node->command_fails_like([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', "COPY target (moments) FROM '$folder/contradiction$numbers[0].bin' (FORMAT binary)" ],
		qr/invalid binary form of type d2c_moments/, "moments with $name");
}
cmp_ok(scalar(() = $err =~ /^.*ERROR/mg), '>', 100, 'damaged headers and counts are refused');
unlike($err, qr/server closed the connection|invalid memory alloc|XX000/, 'and never by accident');
unlike(slurp_file($node->logfile), qr/was terminated by signal|PANIC/, 'no process crashed');

# --- memory ----------------------------------------------------------------------------------------------------------
# What is out of line is read, and given back, row by row: 100 MB of tensors never lie in memory together.
$node->safe_psql('postgres', 'CREATE TABLE long AS SELECT g AS id, array_fill(g::real, ARRAY[65536])::tensor AS x FROM generate_series(1, 400) g');
my $peak = q{SELECT substring(pg_read_file('/proc/self/status') FROM 'VmPeak:\s+(\d+)')};
my @peaks = split(/\n/, $node->safe_psql('postgres', "$peak; CREATE INDEX ON long USING hash (x); $peak"));
cmp_ok($peaks[1] - $peaks[0], '<', 50 * 1024, 'a hash index of long tensors keeps none of them in memory');
is($node->safe_psql('postgres', q{SET enable_seqscan = off; SELECT id FROM long WHERE x = array_fill(7::real, ARRAY[65536])::tensor}), '7', 'and finds one');

# --- soft errors -----------------------------------------------------------------------------------------------------
SKIP:
{
	skip 'soft errors came with PostgreSQL 16', 1 if $node->safe_psql('postgres', 'SHOW server_version_num') < 160000;
	is($node->safe_psql('postgres', q{SELECT string_agg(pg_input_is_valid(v, t)::text, ',') FROM (VALUES
		('[1,2]', 'tensor'), ('[1,', 'tensor'), ('f64:[1]', 'tensor'), ('[1e99]', 'tensor'), ('[70000]', 'tensor(f16)'), ('[[[[[[[[[1]]]]]]]]]', 'tensor'),
		('interval bigint k=1 n=1 seed=0 {1:x}', 'd2c_selection'), ('{"n": 1}', 'd2c_moments')) v (v, t)}),
		'true,false,false,false,false,false,false,false', 'bad text is a soft error');
}

$node->stop;
done_testing();
