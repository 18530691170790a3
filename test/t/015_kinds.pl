# d2c sample of the public kinds: what decodes their latents, what can be chosen, what is refused.  No server.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;

my $models = "$ENV{TESTDIR}/test/golden/models";
my $dir = PostgreSQL::Test::Utils::tempdir;

sub sample
{
	my ($model, @more) = @_;
	return [ qw(d2c sample --device cpu --threads 1 --mixed-precision no --num-samples 2 --model-directory), $models, '--model', $model, @more ];
}

sub drawn
{
	my ($name, $model, @more) = @_;
	command_ok(sample($model, qw(--steps 6), @more, '--output-dir', "$dir/$name"), "sampled: $name");
	return slurp_file("$dir/$name/000001.png");
}

sub size_of { return join('x', unpack('x16NN', $_[0])); }

my $dit = drawn('dit', 'tiny-dit');
my $repa = drawn('repa', 'tiny-repa');
is(size_of($dit), '64x64', 'the latents of a DiT are decoded') or diag(size_of($dit));
is(size_of($repa), size_of($dit), 'and those of a REPA');
is(drawn('dit-again', 'tiny-dit', qw(--sampler ancestral --vae tiny-vae --guided-channels first3)), $dit, 'the defaults, said');
isnt(drawn('dit-guided', 'tiny-dit', qw(--cfg-scale 3)), $dit, 'guidance counts');
isnt(drawn('dit-all', 'tiny-dit', qw(--cfg-scale 3 --guided-channels all)), slurp_file("$dir/dit-guided/000001.png"), 'and so do its channels');
is(drawn('repa-all', 'tiny-repa', qw(--cfg-scale 3 --guided-channels all)), drawn('repa-guided', 'tiny-repa', qw(--cfg-scale 3)),
	'of a REPA all channels are guided');
is(drawn('repa-outside', 'tiny-repa', qw(--cfg-scale 3 --guidance-low 0.9 --guidance-high 0.95)), $repa, 'outside its interval nothing is');
isnt(drawn('repa-sde', 'tiny-repa', qw(--sampler sde)), $repa, 'the SDE is another sampler');

command_fails_like(sample('tiny-dit', '--sampler', 'euler', '--output-dir', $dir), qr/a model of kind "dit" is sampled by the ancestral sampler alone/, 'no ODE for a DiT');
command_fails_like(sample('tiny-repa', '--sampler', 'ancestral', '--output-dir', $dir), qr/a model of kind "repa" is sampled by euler, heun, dopri5 or sde/, 'no ancestral sampling for a REPA');
command_fails_like(sample('tiny-dit', '--steps', '1001', '--output-dir', $dir), qr/steps must be between 2 and 1000, not 1001/, 'no more steps than there are');
command_fails_like(sample('tiny-dit', '--guided-channels', 'two', '--output-dir', $dir), qr/invalid value for --guided-channels: "two"/, 'unknown channels');
command_fails_like(sample('tiny-dit', '--vae', 'tiny-sit', '--output-dir', $dir), qr/model "tiny-sit" is no autoencoder/, 'an autoencoder that is none');
command_fails_like(sample('orphan-sit', '--vae', 'tiny-vae', '--output-dir', $dir), qr/autoencoder "tiny-vae" does not fit model "orphan-sit"/, 'one that does not fit');
command_fails_like(sample('orphan-sit', '--output-dir', $dir), qr/model "orphan-sit" needs an autoencoder/, 'none at all');
command_fails_like(sample('untold-sit', '--output-dir', $dir), qr/what the network predicts cannot be told from the file\n.*\nHINT:  .*\{"kind": "dit"\}/, 'a kind that is not told');

done_testing();
