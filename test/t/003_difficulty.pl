# Scores: the same bits however they are asked for; models that are missing, damaged, replaced; look-ahead and memory.
use strict;
use warnings;
use File::Copy qw(copy);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $models = PostgreSQL::Test::Utils::tempdir();
copy($_, $models) or die $! for glob(models_folder() . '/*.safetensors');
my $node = new_node('difficulty', "d2c.model_directory = '$models'\nd2c.threads = 3\n");

# Images that differ: those of the goldens that decode, each with every label.
my @files = map { "image/$_" } qw(grey.png rgb.png grey.jpg 420.jpg 444.jpg lossy.webp lossless.webp alpha.webp palette.png);
@files = grep { -e "$ENV{TESTDIR}/test/golden/$_" } @files;
cmp_ok(scalar(@files), '>=', 5, 'there are images to score');
my $rows = join(', ', map { "(decode('" . golden_hex($_) . "', 'hex'))" } @files);
$node->safe_psql('postgres', qq{
	CREATE TABLE img (id int, label bigint, image bytea);
	INSERT INTO img SELECT row_number() OVER (), label, image FROM (VALUES $rows) v (image), generate_series(0, 9) label,
		generate_series(1, 4);
	ALTER TABLE img SET (parallel_workers = 3);
	CREATE TABLE scalar AS SELECT id, d2c_difficulty(image, label, 'tiny-sit') AS s FROM img;
	ANALYZE img});
my $n = $node->safe_psql('postgres', 'SELECT count(*) FROM img');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT s) FROM scalar'), '>=', 40, 'scores differ');

# How many rows of a query (id, s) differ from the scalar scores, and how many there are.
sub against_scalar { return "SELECT count(*) FILTER (WHERE a.s IS DISTINCT FROM b.s), count(*) FROM scalar a JOIN ($_[0]) b USING (id)"; }

my $batched = "SELECT id, d2c_difficulty_batched(image, label, 'tiny-sit') OVER () AS s FROM img";
is($node->safe_psql('postgres', against_scalar($batched)), "0|$n", 'batched scores are the scalar ones to the bit');
is($node->safe_psql('postgres', against_scalar("SELECT id, d2c_difficulty_batched(image, label, 'tiny-sit') OVER (PARTITION BY label ORDER BY id DESC) AS s FROM img")),
	"0|$n", '... in other batches too');
is($node->safe_psql('postgres', against_scalar("SELECT id, (d2c_difficulty_checked(image, label, 'tiny-sit') OVER ()).score AS s FROM img")),
	"0|$n", '... and the checked ones');

my $parallel = "SET max_parallel_workers_per_gather = 3; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;"
	. "SET min_parallel_table_scan_size = 0; SET debug_parallel_query = on;" =~ s/debug_parallel_query/@{[$node->pg_version < 16 ? 'force_parallel_mode' : 'debug_parallel_query']}/r;
my $plain = "SELECT id, d2c_difficulty(image, label, 'tiny-sit') AS s FROM img";
like($node->safe_psql('postgres', "$parallel EXPLAIN (VERBOSE, COSTS OFF) $plain"),
	qr/Workers Planned: [1-3].*Parallel Seq Scan.*d2c_difficulty/s, 'scores are computed in parallel workers');
is($node->safe_psql('postgres', "$parallel CREATE TABLE workers AS $plain; " . against_scalar('SELECT * FROM workers')), "0|$n",
	'parallel workers get the same bits');

my @sessions = map { start_psql($node, against_scalar($_ % 2 ? $batched : $plain) . ';') } 1 .. 4;
is(join(' ', map { my ($out, $err) = finish_psql($_); "$out$err" } @sessions), join(' ', ("0|$n") x 4),
	'sessions at once get the same bits');
$node->append_conf('postgresql.conf', 'd2c.threads = 1');
$node->reload;
is($node->safe_psql('postgres', against_scalar($batched)), "0|$n", 'another number of threads gives the same bits');

# --- look-ahead, NULLs, memory -----------------------------------------------------------------------------------------
sub rows_read
{
	my ($query) = @_;
	my ($rows) = $node->safe_psql('postgres', "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF) $query") =~
		/Seq Scan on (?:public\.)?img \(actual rows=([\d.]+)/;
	return int($rows);
}
is(rows_read("$batched LIMIT 1"), 32, 'LIMIT 1 reads one batch');
is(rows_read("$batched LIMIT 33"), 96, 'the next batch is twice as long');
is($node->safe_psql('postgres', "SET d2c.batch_memory = '64kB'; " . against_scalar($batched)), "0|$n",
	'a small d2c.batch_memory gives the same values');
{
	local $ENV{PGOPTIONS} = '-c d2c.batch_memory=64kB';
	my $tokens = "d2c_visual_embedding_batched(decode('" . golden_hex('image/one-pixel.png') . "', 'hex'), 'rgb-sit', 16)";
	is(rows_read("SELECT $tokens OVER () FROM img LIMIT 97"), 32 + 64 + 82, 'a batch ends where replies like those before fill d2c.batch_memory');
}
is(rows_read("SELECT d2c_difficulty_batched(image || repeat(' ', 1000000)::bytea, label, 'tiny-sit') OVER () FROM img LIMIT 1"),
	3, 'computed images count against work_mem');
is($node->safe_psql('postgres', q{
	SELECT count(*) FILTER (WHERE (b.s IS NULL) <> (id % 7 = 0)), count(*) FILTER (WHERE b.s <> a.s) FROM scalar a JOIN
	(SELECT id, d2c_difficulty_batched(CASE WHEN id % 7 > 0 THEN image END, label, 'tiny-sit') OVER () AS s FROM img) b USING (id)}),
	'0|0', 'rows with a NULL give NULL and shift nothing');

# --- models ------------------------------------------------------------------------------------------------------------
sub error_of
{
	my ($model, $function) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT d2c_difficulty(image, label, '$model') FROM img WHERE id = 1");
	return $err;
}
like(error_of('missing'), qr/ERROR:  model "missing" does not exist\nDETAIL:.*\nHINT:/, 'a missing model');
like(error_of('../tiny-sit'), qr/ERROR:  invalid model name/, 'a name that would leave the directory');
like(error_of('damaged-sit'), qr/ERROR:  .*damaged-sit.*not a valid safetensors file/, 'a damaged model');
like(error_of('other'), qr/ERROR:  .*no known kind|ERROR:  .*other/, 'a file that is no model');
like(error_of('orphan-sit'), qr/ERROR:  model "orphan-sit" needs an autoencoder/, 'a model of latents without an autoencoder');
like(error_of('nan-sit'), qr/ERROR:  .*not a finite number.*\nHINT:.*weights.*d2c\.precision/, 'NaN weights: the error names the remedy');
my ($rc, $out, $err) = $node->psql('postgres', "SELECT d2c_difficulty_checked(image, label, 'nan-sit') OVER () FROM img");
like($err, qr/ERROR:  .*not a finite number/, "a model's fault is no row's error");
is($node->safe_psql('postgres', "SELECT string_agg(name, ' ') FROM d2c_models() WHERE problem IS NOT NULL"), 'damaged-sit other tiny-dit tiny-repa untold-sit',
	'd2c_models() lists what cannot be used: here without the descriptions that some need');
is($node->safe_psql('postgres', "SELECT kind, parameters, resolution, channels, classes, embedding, length(sha256), loaded, device, precision FROM d2c_models() WHERE name = 'tiny-sit'"),
	'sit|30592|8x8|1|10|24|64|t|cpu|f32', '... and describes the others');

copy("$models/rgb-sit.safetensors", "$models/tiny-sit.new") or die $!;
rename("$models/tiny-sit.new", "$models/tiny-sit.safetensors") or die $!;
like(error_of('tiny-sit'), qr/ERROR:  a file of model "tiny-sit" was replaced\nDETAIL:.*sha256.*\nHINT:.*d2c_engine_stop/,
	'a file replaced under the same name is refused');
copy(models_folder() . '/tiny-sit.safetensors', "$models/tiny-sit.safetensors") or die $!;
is($node->safe_psql('postgres', against_scalar($batched)), "0|$n", '... until the old one is back');
append_to_file("$models/tiny-sit.json", '{"kind": "sit", "heads": 1}');
like(error_of('tiny-sit'), qr/ERROR:  a file of model "tiny-sit" was replaced/, '... and so is a description that comes later');
unlink("$models/tiny-sit.json");
is($node->safe_psql('postgres', against_scalar($batched)), "0|$n", '... until it is gone');

# Eleven more models than one megabyte holds: they take turns.
copy("$models/tiny-sit.safetensors", "$models/copy-$_.safetensors") or die $! for 1 .. 11;
$node->append_conf('postgresql.conf', "d2c.engine_memory = '1MB'");
$node->reload;
is($node->safe_psql('postgres', "SELECT count(DISTINCT d2c_difficulty(image, label, 'copy-' || i)) FROM img, generate_series(1, 11) i WHERE id = 1"),
	'1', 'more models than the memory holds give the right scores');
my $held = engine_value($node, 'models_loaded');
cmp_ok($held, '>=', 2, 'several are kept');
cmp_ok($held, '<', 11, '... the others let go');
cmp_ok(engine_value($node, 'model_memory_mb'), '<=', 1, '... within the limit');

$node->stop;
done_testing();
