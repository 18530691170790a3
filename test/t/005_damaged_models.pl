# Every file of every kind of model, damaged in several ways: an error that names the model, or a result where the damage
# does not show; never a lost engine.
use strict;
use warnings;
use File::Basename qw(basename);
use File::Copy qw(copy);
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $golden = "$ENV{TESTDIR}/test/golden";
my $models = PostgreSQL::Test::Utils::tempdir();
my $node = new_node('damaged', "d2c.model_directory = '$models'\nd2c.threads = 1\n");
my $grey = golden_hex('image/grey.png');
my $picture = "decode('$grey', 'hex')";

# What is asked of a model; %s is its name.
my %ask = (
	text => "SELECT d2c_text_embedding('a photo of a cat', '%s', 6) IS NOT NULL",
	image => "SELECT d2c_visual_embedding($picture, '%s', 1) IS NOT NULL",
	latent => "SELECT d2c_latent($picture, '%s', 16) IS NOT NULL",
	any => "SELECT (d2c_model_info('%s')).kind IS NOT NULL");
my @known = (
	[ 'models/tiny-bert', 'text' ], [ 'models/tiny-t5', 'text' ], [ 'models/tiny-clip', 'text' ], [ 'models/tiny-dinov2', 'image' ],
	[ 'models/tiny-vae', 'latent' ], [ 'models/tiny-sit', 'image' ], [ 'models/tiny-inception', 'image' ], [ 'kinds/DiT-tiny', 'any' ],
	[ 'kinds/checkpoint', 'any' ]);

# The files of a model: those of its folder, or NAME.* apart from goldens.
sub files_of
{
	my ($path) = @_;
	return sort glob(-d "$golden/$path" ? "$golden/$path/*" : "$golden/$path.{json,safetensors,pt}");
}

sub put
{
	my ($name, $bytes) = @_;
	open(my $file, '>:raw', $name) or die "$name: $!";
	print $file $bytes;
	close $file;
	return;
}

# A copy of the model under another name, with one file changed.
sub copy_model
{
	my ($path, $name, $changed, $bytes) = @_;
	my $folder = -d "$golden/$path" ? "$models/$name" : $models;
	make_path($folder);
	for my $file (grep { -e } files_of($path))
	{
		my $to = -d "$golden/$path" ? basename($file) : $name . (basename($file) =~ s/^[^.]*//r);
		put("$folder/$to", defined $changed && $file eq $changed ? $bytes : slurp_file($file));
	}
	return;
}

# The damages, each the same in every run.
sub damages
{
	my ($bytes) = @_;
	my $half = int(length($bytes) / 2);
	my @flipped = map { my $copy = $bytes; substr($copy, $_ % length($bytes), 1) ^= "\x80"; $copy } 5, 300, $half, length($bytes) - 40;
	return ('', "\0" x 4096, substr($bytes, 0, $half), substr($bytes, 0, length($bytes) - 1), $bytes x 2, ("\xff" x 24) . substr($bytes, 24), @flipped);
}

# The answer of the model, or the error's first line.
sub answer
{
	my ($ask, $name) = @_;
	my ($code, $stdout, $stderr) = $node->psql('postgres', sprintf($ask{$ask}, $name));
	return $code == 0 ? $stdout : (split /\n/, $stderr)[0];
}

my $count = 0;
$node->safe_psql('postgres', "SELECT d2c_image_info($picture)");
my $pid = worker_pid($node);
for my $model (@known)
{
	my ($path, $ask) = @$model;
	my @files = grep { -e } files_of($path);
	my @wrong;
	my ($refused, $tried) = (0, 0);
	my $name = basename($path) . "-$count";
	copy_model($path, $name);
	is(answer($ask, $name), 't', "$path as it is");
	for my $file (@files)
	{
		for my $bytes (damages(slurp_file($file)))
		{
			$name = basename($path) . '-' . ++$count;
			copy_model($path, $name, $file, $bytes);
			my $got = answer($ask, $name);
			$tried++;
			next if $got eq 't';
			$refused++;
			# A message of ours, about the model or what it was asked; the engine is not said to have failed.
			push @wrong, basename($file) . ": $got" if $got !~ /^psql:<stdin>:\d+: ERROR:  / || $got =~ /engine (ended|failed|crashed)|connection/;
		}
	}
	is_deeply(\@wrong, [], "$path: every damage is answered");
	cmp_ok($refused, '>=', $tried / 3, "$path: $refused of $tried damages are refused");
	$count++;
}
is(worker_pid($node), $pid, 'one engine answered all of it');
done_testing();
