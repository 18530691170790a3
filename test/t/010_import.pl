# d2c import, eval and sheet against a server: what is loaded, what is refused, and that a failure leaves nothing behind.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('import');
$node->init;
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir;
my $db = $node->connstr('postgres');
my $golden = "$ENV{TESTDIR}/test/golden/image";

sub write_file
{
	my ($name, $bytes) = @_;
	open(my $file, '>:raw', "$dir/$name") or die "$dir/$name: $!";
	print $file $bytes;
	close $file;
	return "$dir/$name";
}

sub sql { return $node->safe_psql('postgres', $_[0]); }

# What an import says on stdout; progress goes to stderr.
sub import_like
{
	my ($command, $expected, $name) = @_;
	my ($stdout, $stderr) = run_command($command);
	like($stdout, $expected, $name);
	return;
}

# Sixty images of 4 x 3 pixels in three classes; image i is filled with 4 * i, its first pixel with 255.
my $pixels = join('', map { chr(255) . chr(4 * $_) x 11 } 0 .. 59);
my $images = write_file('images', pack('NNNN', 0x803, 60, 3, 4) . $pixels);
my $labels = write_file('labels', pack('NN', 0x801, 60) . join('', map { chr($_ % 3) } 0 .. 59));
my @idx = ('--idx-images', $images, '--idx-labels', $labels);

import_like(
	[ 'd2c', 'import', '--dbname', $db, '--table', 'public.Things', '--class-names', "cat,dog,it's", @idx ],
	qr/^60 images imported into public\.Things in /, 'IDX files are imported');
is(sql(q{SELECT count(*), min(id), max(id), count(DISTINCT image) FROM "Things"}), '60|1|60|60', 'every image, ids from 1');
is(sql(q{SELECT label, class FROM "Things" WHERE id = 6}), "2|it's", 'labels and class names');
is(sql(q{SELECT encode(substr(image, 2, 3), 'escape') FROM "Things" WHERE id = 1}), 'PNG', 'the rows hold PNG files');
is( sql(q{SELECT attstorage FROM pg_attribute WHERE attrelid = '"Things"'::regclass AND attname = 'image'}),
	'e', 'images are stored as they are');

import_like([ 'd2c', 'import', '--dbname', $db, '--table', 'Things', @idx ],
	qr/^60 images/, 'a second import is added');
is(sql(q{SELECT count(*), max(id) FROM "Things"}), '120|120', 'and its ids go on');
import_like([ 'd2c', 'import', '--dbname', $db, '--table', 'split', '--split', 'test', @idx ],
	qr/^60 images/, 'a split is recorded');
is(sql('SELECT DISTINCT split FROM split'), 'test', 'in every row');

command_fails_like([ 'd2c', 'import', '--dbname', $db, '--table', 'Things', '--split', 'x', @idx ],
	qr/column "split" of relation "Things" does not exist \(SQLSTATE 42703\)/, 'a table without split');
command_fails_like([ 'd2c', 'import', '--dbname', $db, '--table', 'other', '--create=off', @idx ],
	qr/relation "other" does not exist \(SQLSTATE 42P01\)/, 'a missing table is not made when it must not be');
command_fails_like([ 'd2c', 'import', '--dbname', "$db dbname=nowhere", '--table', 'x', @idx ],
	qr/database "nowhere" does not exist/, 'a missing database');
command_fails_like([ 'd2c', 'import', '--dbname', $db, '--table', 'x', '--class-names', 'cat,dog', @idx ],
	qr/fewer class names than classes\nDETAIL:  The labels go up to 2; 2 names are given\./, 'too few names');
my $cut = write_file('cut', substr(slurp_file($images), 0, 400));
command_fails_like([ 'd2c', 'import', '--dbname', $db, '--table', 'x', '--idx-images', $cut, '--idx-labels', $labels ],
	qr/IDX file ".*cut" is truncated/, 'a truncated file');
command_fails_like([ 'd2c', 'import', '--dbname', $db, '--table', 'x', '--folder', $dir, @idx ],
	qr/images come either from --folder or from/, 'two sources');

# A folder with one bad image: nothing is left by default, the rest is loaded when asked for.
mkdir "$dir/set";
mkdir "$dir/set/$_" for qw(b a);
write_file("set/b/1.png", slurp_file("$golden/rgb.png"));
write_file("set/b/2.jpg", slurp_file("$golden/420.jpg"));
write_file("set/a/1.webp", slurp_file("$golden/lossless.webp"));
write_file("set/a/2.png", substr(slurp_file("$golden/rgb.png"), 0, 500));
my @folder = ('d2c', 'import', '--dbname', $db, '--table', 'folder', '--folder', "$dir/set");
command_fails_like(\@folder, qr{file ".*/set/a/2\.png": invalid PNG image\nDETAIL:  The file is truncated\.}, 'a bad image');
is(sql("SELECT to_regclass('folder') IS NULL"), 't', 'a failed import leaves nothing');
import_like([ @folder, '--on-error', 'skip' ], qr{left out: 1, the first for this reason: file ".*/a/2\.png"},
	'a bad image is left out when asked for');
is(sql("SELECT string_agg(id || class || label, ' ' ORDER BY id) FROM folder"), '1a0 2b1 3b1', 'and the others are loaded');
is( sql("SELECT image = decode('" . unpack('H*', slurp_file("$golden/420.jpg")) . "', 'hex') FROM folder WHERE id = 3"),
	't', 'files go in as they are');
unlink "$dir/set/a/2.png";
write_file('set/stray.png', slurp_file("$golden/rgb.png"));
command_fails_like([ @folder, '--on-error', 'error' ], qr/stray\.png" has no class/, 'a file without a class');

# Classes keep their labels, whichever of them another folder has.
sql("CREATE TABLE pets (LIKE folder INCLUDING ALL); INSERT INTO pets SELECT * FROM folder");
mkdir "$dir/more";
mkdir "$dir/more/$_" for qw(aa b);
write_file("more/$_", slurp_file("$golden/rgb.png")) for qw(aa/1.png b/1.png);
import_like([ 'd2c', 'import', '--dbname', $db, '--table', 'pets', '--folder', "$dir/more" ], qr/^2 images/, 'a folder with one class more and one less');
is(sql("SELECT string_agg(DISTINCT class || label, ' ') FROM pets"), 'a0 aa2 b1', 'classes keep their labels, new ones follow');
command_fails_like([ 'd2c', 'import', '--dbname', $db, '--table', 'pets', '--class-names', 'b,c,d', @idx ],
	qr/class "b" has more than one label\nDETAIL:  In the table it has label 1, in the files 0\.\nHINT:/, 'labels of files that contradict');
sql("UPDATE pets SET label = 7 WHERE id = 3");
command_fails_like([ 'd2c', 'import', '--dbname', $db, '--table', 'pets', '--folder', "$dir/more" ],
	qr/class "b" has more than one label\nDETAIL:  In the table it has label 1, and label 7\./, 'a class with two labels');

# What the first training image is does not decide silently for all.
mkdir "$dir/mixed" or die $!;
write_file("mixed/$_->[0].png", slurp_file("$golden/$_->[1].png")) for ([ 1, 'grey' ], [ 2, 'rgb' ], [ 3, 'rgb' ]);
my @mixed = ('d2c', 'eval', map { ("--$_", "$dir/mixed") } qw(train real samples));
command_fails_like([ @mixed, qw(--edge 8 --components 1) ], qr/a colour image follows grey ones\nHINT:  Say --channels 3, or 1/, 'grey and colour in one set');
command_like([ @mixed, qw(--edge 8 --components 1 --channels), $_ ], qr/Frechet distance 0\.0000/, "are compared with $_ channels") foreach 1, 3;
command_fails_like([ @mixed, qw(--channels 2) ], qr/--channels must be 1 or 3/, 'two channels there are not');

# A folder may have a blank in its name.
mkdir "$dir/my set" or die $!;
write_file('my set/1.png', slurp_file("$golden/rgb.png"));
command_ok([ qw(d2c sheet --query), "$dir/my set", '--output', "$dir/blank.png" ], 'a folder with a blank in its name');
SKIP: {
	skip 'there is no /dev/full', 2 unless -c '/dev/full';
	command_fails_like([ 'sh', '-c', 'd2c models --model-directory "$0" >/dev/full', "$ENV{TESTDIR}/test/golden/models" ], qr/could not write to the standard output/, 'output on a full disk');
	symlink('/dev/full', "$dir/full.png") or die $!;
	command_fails_like([ qw(d2c sheet --query), "$dir/my set", '--output', "$dir/full.png" ], qr/could not write ".*full": it is not a regular file/, 'a device in place of a file');
}
symlink('target.png', "$dir/link.png") or die $!;
write_file('target.png', '');
command_ok([ qw(d2c sheet --query), "$dir/my set", '--output', "$dir/link.png" ], 'a link in place of a file');
ok(-l "$dir/link.png" && -s "$dir/target.png", '... stays one, and what it names is written');

# Measuring: odd images against even ones, and images against themselves.
my @eval = ('d2c', 'eval', '--dbname', $db, '--components', '2', '--train', 'SELECT image FROM split WHERE id % 2 = 0 ORDER BY id');
command_like(
	[ @eval, '--real', 'split', '--samples', 'split', '--json' ],
	qr/^\{"count":60,"components":2,"explained":(?:1|0\.999999\d+),"frechet":[0-9.e-]+,"nearest_median":0\.00\d+,/, 'an evaluation');
command_like([ @eval, '--real', 'SELECT image FROM split', '--samples', 'SELECT image FROM split WHERE id % 2 = 0', '--count', '10' ],
	qr/^10 samples against as many real images: Frechet distance .* nearest training image median 0\.0000 mean 0\.0000$/,
	'an evaluation in words');
command_like(
	[ @eval, '--train', 'SELECT image, label FROM split', '--real', 'SELECT image, label FROM split', '--samples', 'split', '--classifier', '--json' ],
	qr/"frechet_classifier":(0|[0-9.]+e-1[0-9]),"classifier_accuracy":[01]/, 'an evaluation by a classifier');
command_fails_like([ @eval, '--real', 'split', '--samples', 'split', '--classifier' ],
	qr/training image 1 has no label from 0 to 999\nHINT:  The label is the second column/, 'a classifier without labels');
command_fails_like([ @eval, '--real', 'split', '--samples', 'folder' ],
	qr/--samples: row 1 of the query: images differ in size\nDETAIL:  One has 37 x 29 pixels, the first 4 x 3\.\nHINT:/,
	'images of another size');
command_fails_like([ @eval, '--real', 'SELECT id FROM split', '--samples', 'split' ],
	qr/--real: the query's first column is not a bytea/, 'a query without images');
command_fails_like([ @eval, '--real', 'split', '--samples', 'SELECT image FROM split WHERE id / (id - 9) > 0' ],
	qr/--samples: division by zero \(SQLSTATE 22012\)/, 'a query that fails');

my @fid = ('d2c', 'eval', '--dbname', $db, '--model-directory', "$ENV{TESTDIR}/test/golden/models", '--device', 'cpu', '--real', 'split');
command_like([ @fid, '--model', 'tiny-inception', '--samples', 'SELECT image FROM split WHERE id % 2 = 0', '--neighbours', '20' ],
	qr/^30 samples against 60 real images: FID \d+\.\d{4}, sFID \d+\.\d{4}, Inception Score \d+\.\d{4} \(mean of 1 parts\), precision [01]\.\d{4}, recall [01]\.\d{4} \(3 neighbours among 20 samples and 20 real images\)$/,
	'FID and its companions');
command_like([ @fid, '--model', 'tiny-inception', '--samples', 'split', '--json' ],
	qr/^\{"samples":60,"real":60,"fid":\S+,"sfid":\S+,"inception_score":\S+,"inception_score_parts":1,"precision":1,"recall":1,"precision_samples":60,"precision_real":60\}$/,
	'a set against itself');
command_fails_like([ @fid, '--model', 'tiny-sit', '--samples', 'split' ],
	qr/model "tiny-sit" is of the wrong kind\nDETAIL:  It is of kind "sit"/, 'a model that is no Inception');
command_fails_like([ @fid, '--model', 'tiny-inception', '--samples', 'SELECT image FROM split WHERE id < 4' ],
	qr/--samples: a set of 3 images is too small/, 'too few samples');
command_fails_like([ @fid, '--model', 'tiny-inception', '--samples', q{SELECT CASE WHEN id = 7 THEN 'bad'::bytea ELSE image END FROM split ORDER BY id} ],
	qr/--samples: row 7 of the query: /, 'a damaged sample');
command_fails_like([ @fid, '--samples', 'split' ], qr/--model, --model-directory, --real and --samples are all needed/, 'a directory without a model');
command_fails_like([ @fid, '--model', 'tiny-inception', '--samples', 'split', '--count', '5' ],
	qr/--components, --channels, --count, --edge and --classifier do not go with --model/, 'what a network does not take');

command_like(
	[ 'd2c', 'sheet', '--dbname', $db, '--query', 'SELECT image, class FROM folder ORDER BY id', '--edge', '16', '--columns', '2', '--output', "$dir/sheet.png" ],
	qr/^3 images, 52 x 66 pixels: /, 'a contact sheet');
is(substr(slurp_file("$dir/sheet.png"), 1, 3), 'PNG', 'is a PNG file');
command_fails_like([ 'd2c', 'sheet', '--dbname', $db, '--query', 'SELECT NULL::bytea', '--output', "$dir/none.png" ],
	qr/row 1 of the query: image is null/, 'a null image');
ok(!-e "$dir/none.png", 'leaves no file');

$node->stop;
done_testing();
