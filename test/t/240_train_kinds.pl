# d2c train of every kind: learning, exact resume after kill -9, the trained model by name, starting from other weights,
# what is refused.
use strict;
use warnings;
use Digest::SHA;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use D2CTest qw(pump_run);
use Test::More;
use Time::HiRes qw(usleep);

my $dir = PostgreSQL::Test::Utils::tempdir;
my $models = "$dir/models";
mkdir $models or die $!;

my $node = PostgreSQL::Test::Cluster->new('train_kinds');
$node->init;
$node->append_conf('postgresql.conf', "d2c.model_directory = '$models'\nd2c.device = 'cpu'");
$node->start;
my $db = $node->connstr('postgres');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub digest { return Digest::SHA->new(256)->addfile($_[0])->hexdigest; }
sub latest { my @files = sort glob("$dir/$_[0]/checkpoints/*.safetensors"); return $files[-1]; }

my @small = qw(--device cpu --model custom --hidden 32 --depth 2 --heads 2 --patch 4 --threads 1 --mixed-precision no
  --global-batch-size 8 --learning-rate 2e-3 --log-every 10 --seed 5 --max-train-steps 60 --metrics off --tensorboard off);

sub train { return [ 'd2c', 'train', '--dbname', $db, '--table', 'things', '--name', $_[0], '--results-dir', "$dir/$_[0]", @small, @_[ 1 .. $#_ ] ]; }

# Loss lines of a run, which must succeed.
sub lines_of
{
	my ($command, $name) = @_;
	my ($stdout, $stderr);
	ok(IPC::Run::run($command, '>', \$stdout, '2>', \$stderr), $name) or diag($stderr);
	return [ grep { /^step / } split(/\n/, $stdout) ];
}

# Starts the run, kills it behind step 30, and lets it go on from its newest checkpoint.
sub killed
{
	my ($command, $name) = @_;
	my $out = "$dir/$name.out";
	my $run = IPC::Run::start($command, '>', $out, '2>', "$dir/$name.err");
	for (my $i = 0; $i < 6000 && $run->pumpable; $i++)
	{
		pump_run($run);
		last if slurp_file($out) =~ /^step 30 /m;
		usleep(10_000);
	}
	$run->signal('KILL');
	eval { $run->finish; };
	unlike(slurp_file($out), qr/^step 60 /m, "$name was killed");
	return lines_of($command, "$name goes on");
}

# 24 images of 8 x 8 in three classes, with a visual embedding of each.
sql('CREATE EXTENSION d2c');
my $pixels = '';
for my $i (0 .. 23)
{
	my $image = chr(10) x 64;
	substr($image, 16 * ($i % 3) + $_, 1) = chr(150 + 4 * $i + $_ % 8) for 0 .. 15;
	$pixels .= $image;
}
for my $file ([ images => pack('NNNN', 0x803, 24, 8, 8) . $pixels ], [ labels => pack('NN', 0x801, 24) . join('', map { chr($_ % 3) } 0 .. 23) ])
{
	open(my $handle, '>:raw', "$dir/$file->[0]") or die $!;
	print $handle $file->[1];
	close $handle;
}
command_ok([ 'd2c', 'import', '--dbname', $db, '--table', 'things', '--idx-images', "$dir/images", '--idx-labels', "$dir/labels" ], 'images to train on');
sql('ALTER TABLE things ADD visual_embedding tensor');
sql('UPDATE things SET visual_embedding = (SELECT array_agg(v)::tensor FROM (SELECT ARRAY[sin(id + t), cos(id * t), label, 1]::real[] AS v FROM generate_series(1, 4) t) x)');

# ---- every kind learns, resumes exactly, and is a model by name -------------------------------------------------------

my %kinds = (
	sit => [qw(--kind sit --path-type GVP --time-sampling lognormal)],
	dit => [qw(--kind dit --visual off --optimizer adam --weight-decay 0.01)],
	repa => [qw(--kind repa --qk-norm --proj-hidden 16 --path-type cosine --time-sampling lognormal --micro-batch 3)]);
for my $kind (sort keys %kinds)
{
	my @options = @{ $kinds{$kind} };
	my $whole = lines_of(train($kind, @options, qw(--ckpt-every 20 --sample-every 60 --model-directory), $models), "training a $kind");
	is(scalar(@$whole), 6, '... with a line each 10 steps');
	my ($from, $to) = map { /loss (\S+)/ } @$whole[ 0, -1 ];
	cmp_ok($to, '<', $from, '... learns');
	ok(-s "$dir/$kind/samples/0000060.png", '... draws samples');
	killed(train("$kind-killed", @options, qw(--ckpt-every 1 --resume latest)), "$kind-killed");
	is(digest(latest("$kind-killed")), digest(latest($kind)), '... killed and resumed: the same bytes');
	s/ nearest \S+// for @$whole;
	is_deeply(lines_of(train("$kind-saving", @options, qw(--recompute block)), 'blocks computed again'), $whole, '... changes no loss');

	is(sql("SELECT kind, channels, resolution, problem IS NULL FROM d2c_models() WHERE name = '$kind'"), "$kind|1|8x8|t", "the $kind is a model");
	is(sql("SELECT count(*) FROM things WHERE d2c_difficulty(image, label, '$kind') > 0"), '24', '... which scores images');
	my @sampled = (qw(d2c sample --device cpu --threads 1 --mixed-precision no --num-samples 2 --steps 4 --model-directory), $models);
	command_ok([ @sampled, '--model', $kind, '--output-dir', "$dir/$kind-drawn" ], '... and is sampled');
	is(join('x', unpack('x16NN', slurp_file("$dir/$kind-drawn/000001.png"))), '8x8', '... into pictures');
	command_ok([ qw(d2c export --model), latest($kind), '--output', "$models/$kind-export.pt", $kind eq 'repa' ? '--projectors' : () ], '... and exported');
	is(sql("SELECT kind, problem IS NULL FROM d2c_models() WHERE name = '$kind-export'"), "$kind|t", '... as its kind');
	command_ok([ qw(d2c export --model), latest($kind), '--output', "$models/$kind-plain.safetensors" ], '... with its path');
	is(sql("SELECT max(abs(d2c_difficulty(image, label, '$kind') - d2c_difficulty(image, label, other))) FROM things, unnest('{$kind-export,$kind-plain}'::text[]) other"),
		'0', '... and both score alike');
}

# ---- what else a run is made of ------------------------------------------------------------------------------------------

my @repa = @{ $kinds{repa} };
my @other = train('repa', qw(--kind repa --qk-norm --proj-hidden 16 --path-type cosine --micro-batch 3 --resume latest))->@*;
command_fails_like(\@other, qr/belongs to another run\nDETAIL:  time_sampling: now "uniform", in the checkpoint "lognormal"/, 'a resume with other times');
@other = train('dit', qw(--kind dit --visual off --resume latest --weight-decay 0.01 --max-train-steps 61))->@*;
my ($stdout, $stderr);
ok(IPC::Run::run(\@other, '>', \$stdout, '2>', \$stderr), 'a resume with another optimizer');
like($stderr, qr/no longer exact from here on: optimizer: now "adamw", in the checkpoint "adam"/, '... says that it is not exact');
like(slurp_file("$dir/repa/config.json"), qr/"kind":\s*"repa".*"time-sampling":\s*"lognormal".*"qk-norm":\s*(true|"on")/s, 'the options are in config.json');

# ---- weights to start with ------------------------------------------------------------------------------------------------

my $first = lines_of(train('from-zero', @repa, qw(--log-every 1 --max-train-steps 1)), 'a first step')->[0];
my $later = lines_of(train('from-file', @repa, qw(--log-every 1 --max-train-steps 1 --init), latest('repa')), '... from a trained network')->[0];
cmp_ok(($later =~ /loss (\S+)/)[0], '<', ($first =~ /loss (\S+)/)[0], 'has a lower loss');
lines_of(train('from-export', @repa, qw(--log-every 1 --max-train-steps 1 --init), "$models/repa-export.pt"), '... from the file exported of it');
is(digest(latest('from-export')) eq digest(latest('from-file')), '', 'the weights that a run started with are in its checkpoints');
command_fails_like(train('from-file', @repa, qw(--resume latest --max-train-steps 2)), qr/DETAIL:  init: now "", in the checkpoint "[0-9a-f]{64}"/, 'a resume without them');
command_ok(train('from-file', @repa, qw(--resume latest --max-train-steps 2 --init), latest('repa')), '... and with them');
command_fails_like(train('wide', @repa, qw(--hidden 64 --init), latest('repa')), qr/are of another network\nDETAIL:  It has hidden: 32, not 64\.\nHINT:/, 'weights of another size');
command_fails_like(train('kind', qw(--visual off --init), latest('dit')), qr/DETAIL:  It has kind: dit, not sit\./, 'weights of another kind');
command_fails_like(train('bare', @repa, '--init', "$models/repa.safetensors"), qr/has no projector\nHINT:/, 'weights without a projector');
command_fails_like(train('none', '--init', "$dir/none.pt"), qr/none\.pt/, 'weights that are not there');

# ---- text conditions ------------------------------------------------------------------------------------------------------

sql('ALTER TABLE things ADD text_embedding tensor, ADD text_mask tensor');
sql("UPDATE things SET text_embedding = array_fill((label / 3.0)::real, ARRAY[2, 6])::tensor, text_mask = 'f32:[1,1]'");
for my $kind (qw(dit repa))
{
	lines_of(train("$kind-text", @{ $kinds{$kind} }, '--model-directory', $models), "a $kind with texts");
	is(sql("SELECT count(*) FROM things WHERE d2c_difficulty(image, label, '$kind-text') > 0"), '24', '... scores images, its texts folded');
}
lines_of(train('text-on', @repa, qw(--max-train-steps 1 --init), latest('repa-text')), 'a training goes on from one with texts');
command_fails_like(train('text-off', @repa, qw(--text off --init), latest('repa-text')), qr/DETAIL:  It has text_tokens: 2, not 0\./, 'but not without them');
command_fails_like(train('text-new', @repa, '--init', latest('repa')), qr/DETAIL:  It has text_tokens: 0, not 2\./, 'nor with texts from one without');

# ---- what is refused --------------------------------------------------------------------------------------------------------

command_fails_like(train('x', qw(--kind unet)), qr/invalid value for --kind: "unet"/, 'an unknown kind');
command_fails_like(train('x', qw(--kind dit --path-type GVP)), qr/a network of kind "dit" has no path "gvp"/, 'a DiT on a path');
command_fails_like(train('x', qw(--kind repa --path-type VP)), qr/a network of kind "repa" has no path "vp"/, 'a REPA on the VP path');
command_fails_like(train('x', qw(--kind dit --time-sampling lognormal)), qr/times of a network of kind "dit" cannot be drawn "lognormal"\nHINT:/, "a DiT's times");
command_fails_like(train('x', qw(--path-type VP --time-sampling lognormal)), qr/times of the VP path cannot be drawn "lognormal"/, "the VP path's");
command_fails_like(train('x', qw(--time-sampling logit)), qr/invalid value for --time-sampling: "logit"/, 'unknown times');
command_fails_like(train('x', qw(--optimizer sgd)), qr/invalid value for --optimizer: "sgd"/, 'an unknown optimizer');
command_fails_like(train('x', '--qk-norm'), qr/--qk-norm is of networks of kind "repa"\nDETAIL:/, 'a SiT with normalised queries');
command_fails_like(train('x', qw(--kind sit --model DiT-S/2)), qr/unknown model "DiT-S\/2"\nHINT:  Models of kind "sit" are SiT-S/, "another kind's size");

done_testing();
