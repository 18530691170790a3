# d2c train on latents: what is trained on, exact resume, the trained model in SQL and in d2c sample, what is refused.
use strict;
use warnings;
use Digest::SHA;
use File::Copy;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use D2CTest qw(pump_run);
use Test::More;
use Time::HiRes qw(usleep);

my $golden = "$ENV{TESTDIR}/test/golden";
my $dir = PostgreSQL::Test::Utils::tempdir;
my $models = "$dir/models";
mkdir $models and mkdir "$models/tiny-vae" or die $!;
copy("$golden/models/tiny-vae/$_", "$models/tiny-vae/$_") or die $! for qw(config.json diffusion_pytorch_model.safetensors);

my $node = PostgreSQL::Test::Cluster->new('latents');
$node->init;
$node->append_conf('postgresql.conf', "d2c.model_directory = '$models'\nd2c.device = 'cpu'");
$node->start;
my $db = $node->connstr('postgres');

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub digest { return Digest::SHA->new(256)->addfile($_[0])->hexdigest; }
sub latest { my @files = sort glob("$dir/$_[0]/checkpoints/*.safetensors"); return $files[-1]; }

my @small = qw(--device cpu --model custom --hidden 32 --depth 2 --heads 2 --patch 2 --threads 1 --mixed-precision no
  --global-batch-size 8 --learning-rate 2e-3 --log-every 10 --seed 5 --max-train-steps 60 --metrics off);

sub train { return [ 'd2c', 'train', '--dbname', $db, '--table', 'lat', '--name', $_[0], '--results-dir', "$dir/$_[0]", @small, @_[ 1 .. $#_ ] ]; }

# Loss lines and news of a run, which must succeed.
sub lines_of
{
	my ($command, $name) = @_;
	my ($stdout, $stderr);
	ok(IPC::Run::run($command, '>', \$stdout, '2>', \$stderr), $name) or diag($stderr);
	return ([ grep { /^step / } split(/\n/, $stdout) ], $stderr);
}

# 24 latents of 4 x 8 x 8: means that a class has, of varying height, and deviations; and pictures to be scored.
sql('CREATE EXTENSION d2c');
sql(q{CREATE FUNCTION latent_of(id int, deviation real = 0.5) RETURNS tensor LANGUAGE sql AS $$
	SELECT ('f32:' || json_agg(plane ORDER BY c))::tensor FROM (
		SELECT c, json_agg(line ORDER BY y) AS plane FROM (
			SELECT c, y, json_agg(CASE WHEN c < 4 THEN ((4 + id / 24.0) * sin(y * (id % 3 + 1) + c))::real ELSE deviation END ORDER BY x) AS line
			FROM generate_series(0, 7) c, generate_series(0, 7) y, generate_series(0, 7) x GROUP BY c, y) l GROUP BY c) p $$});
sql("CREATE TABLE lat AS SELECT id, id % 3 AS label, latent_of(id) AS latent, pg_read_binary_file('$golden/image/rgb.png') AS image FROM generate_series(1, 24) id");
is(sql('SELECT DISTINCT d2c_shape(latent)::text FROM lat'), '{8,8,8}', 'latents to train on');

my ($whole, $news) = lines_of(train('whole', qw(--vae tiny-vae --ckpt-every 20), '--model-directory', $models), 'training on latents');
is(scalar(@$whole), 6, 'with a line each 10 steps');
my ($from, $to) = map { /loss (\S+)/ } @$whole[ 0, -1 ];
cmp_ok($to, '<', $from, 'learns');

# What is trained on is a draw from the posterior, scaled.
isnt((lines_of(train('unscaled', qw(--latent-scale 1)), 'another scale'))[0]->[0], $whole->[0], '... is another training');
is_deeply((lines_of(train('scaled', qw(--latent-scale 0.25)), "the autoencoder's scale, said"))[0], $whole, '... is the same training');
sql('CREATE TABLE kept AS SELECT * FROM lat');
sql('UPDATE lat SET latent = latent_of(id, 0)');
isnt((lines_of(train('sure', qw(--latent-scale 0.25)), 'no deviations'))[0]->[0], $whole->[0], '... are another training');
sql('UPDATE lat SET latent = (SELECT latent FROM kept WHERE kept.id = lat.id)');

# From the stream, and killed.
my @stream = @{ train('stream', qw(--cache-memory 0 --ckpt-every 1 --vae tiny-vae --resume latest), '--model-directory', "$dir/other") };
mkdir "$dir/other" and mkdir "$dir/other/tiny-vae" or die $!;
copy("$golden/models/tiny-vae/$_", "$dir/other/tiny-vae/$_") or die $! for qw(config.json diffusion_pytorch_model.safetensors);
my $run = IPC::Run::start(\@stream, '>', "$dir/killed.out", '2>', "$dir/killed.err");
for (my $i = 0; $i < 3000 && $run->pumpable; $i++)
{
	pump_run($run);
	last if (slurp_file("$dir/killed.out") =~ /^step 30 /m);
	usleep(10_000);
}
$run->signal('KILL');
eval { $run->finish; };
lines_of(\@stream, 'a killed run goes on');
is(digest(latest('stream')), digest(latest('whole')), 'from the stream, killed and resumed: the same bytes');

# The trained model.
is(slurp_file("$models/whole.json"), '{"vae":"tiny-vae"}', 'the model says which autoencoder its latents are of');
is(sql("SELECT kind, channels, resolution, problem IS NULL FROM d2c_models() WHERE name = 'whole'"), 'sit|4|8x8|t', 'it is a model by name');
is(sql("SELECT count(*) FROM lat WHERE d2c_difficulty(image, label, 'whole') > 0"), '24', '... which scores images');
command_ok([ qw(d2c sample --device cpu --threads 1 --mixed-precision no --num-samples 1 --steps 4 --model whole --model-directory), $models, '--output-dir', "$dir/drawn" ],
	'... and is sampled');
is(join('x', unpack('x16NN', slurp_file("$dir/drawn/000000.png"))), '64x64', 'into pictures');

# Sample grids are decoded by the autoencoder, where there is one.
(undef, $news) = lines_of(train('shown', qw(--max-train-steps 20 --sample-every 20 --vae tiny-vae --model-directory), $models), 'with sample grids');
my ($width, $height) = unpack('x16NN', slurp_file("$dir/shown/samples/0000020.png"));
ok($width >= 640 && $height >= 320, 'of pictures') or diag("$width x $height");
unlike($news, qr/no sample grids/, 'without a word');
(undef, $news) = lines_of(train('blind', qw(--max-train-steps 20 --sample-every 20)), 'without an autoencoder');
like($news, qr/no sample grids: --vae names no autoencoder/, 'the log says why there are none');
ok(!-e "$dir/blind/samples", 'and there are none');

# A checkpoint names the autoencoder to whoever exports it.
command_ok([ qw(d2c export --model), latest('whole'), '--output', "$dir/exported.safetensors" ], 'a checkpoint is exported');
is(slurp_file("$dir/exported.json"), '{"vae":"tiny-vae"}', 'with the name of its autoencoder');

# A latent that changes is called one.
sql('UPDATE lat SET latent = latent_of(id, 0) WHERE id = 7');
command_fails_like([ @{ train('whole', qw(--vae tiny-vae --resume latest --max-train-steps 70), '--model-directory', $models) } ],
	qr/What differs: latent\. The first row, in order of the ids, is 7\./, 'a latent that has changed');
sql('UPDATE lat SET latent = (SELECT latent FROM kept WHERE kept.id = lat.id)');

# A model that takes another one's name does not take its autoencoder.
copy("$models/whole.safetensors", "$models/taken.safetensors") and copy("$models/whole.json", "$models/taken.json") or die $!;
my @taken = (qw(--latents off --image-size 8 --replace on --model-directory), $models);
mkdir "$models/taken.safetensors.tmp" or die $!;
command_fails_like(train('full', qw(--max-train-steps 10 --name taken), @taken), qr/could not create file/, 'a model that cannot be written');
ok(-e "$models/taken.json", '... leaves the description of the old one');
rmdir "$models/taken.safetensors.tmp" or die $!;
(undef, $news) = lines_of(train('taken', qw(--max-train-steps 10), @taken), 'training on images under the same name');
like($news, qr/removed ".*taken\.json", the description of the model that is replaced/, 'says what of the old model goes');
ok(!-e "$models/taken.json", '... which had an autoencoder');
is(sql("SELECT kind, channels, resolution, problem IS NULL FROM d2c_models() WHERE name = 'taken'"), 'sit|3|8x8|t', '... as the new one has none');

command_ok([ qw(d2c export --replace --model), latest('taken'), '--output', "$dir/exported.safetensors" ], 'nor does an export that replaces');
ok(!-e "$dir/exported.json", '... leave what described the old file');

# The other kinds.
for my $kind (qw(dit repa))
{
	lines_of(train($kind, '--kind', $kind, qw(--vae tiny-vae --model-directory), $models), "a $kind on latents");
	is(sql("SELECT kind, channels, problem IS NULL FROM d2c_models() WHERE name = '$kind'"), "$kind|4|t", '... is a model of its kind');
	is(sql("SELECT count(*) FROM lat WHERE d2c_difficulty(image, label, '$kind') > 0"), '24', '... which scores images');
	command_ok([ qw(d2c sample --device cpu --threads 1 --mixed-precision no --num-samples 1 --steps 4 --model), $kind, '--model-directory', $models, '--output-dir', "$dir/drawn-$kind" ],
		'... and is sampled');
	is(join('x', unpack('x16NN', slurp_file("$dir/drawn-$kind/000000.png"))), '64x64', '... into pictures');
}

# A DiT in diffusers' layout, and back.
command_ok([ qw(d2c export --layout diffusers --model), latest('dit'), '--output', "$models/dit-diffusers" ], "a DiT is exported in diffusers' layout");
is(slurp_file("$models/dit-diffusers/d2c.json"), '{"vae":"tiny-vae"}', 'with the name of its autoencoder');
my ($names) = slurp_file("$models/dit-diffusers/diffusion_pytorch_model.safetensors") =~ /^.{8}(\{.*?\}\}) *[^ {}]/s;
like($names, qr/"transformer_blocks\.1\.norm1\.emb\.class_embedder\.embedding_table\.weight"/, 'every block has its embedders');
like($names, qr/"transformer_blocks\.0\.attn1\.to_k\.weight":\{"dtype":"F32","shape":\[32,32\]/, 'queries, keys and values lie apart');
is(sql("SELECT kind, parameters = (SELECT parameters FROM d2c_models() WHERE name = 'dit') FROM d2c_models() WHERE name = 'dit-diffusers'"), 'dit|t', 'it is a model by name');
is(sql("SELECT count(*) FROM lat WHERE d2c_difficulty(image, label, 'dit') = d2c_difficulty(image, label, 'dit-diffusers')"), '24', '... with the same scores');
command_fails_like([ qw(d2c export --layout diffusers --model), latest('dit'), '--output', "$models/dit-diffusers" ], qr/exists already\nHINT:/, 'an export replaces nothing');

# The class had another name, which it shared; what computes something else is refused.
my $config = slurp_file("$models/dit-diffusers/config.json");
sub listed
{
	my ($name, $json) = @_;
	open(my $file, '>', "$models/$name/config.json") or die $!;
	print $file $json;
	close $file;
	return (grep { /^\Q$name\E / } split(/\n/, `d2c models --model-directory $models`))[0];
}
my $shared = $config =~ s/DiTTransformer2DModel/Transformer2DModel/r;
unlike(listed('dit-diffusers', $shared), qr/config\.json/, 'the name of the class in the published folders');
like(listed('dit-diffusers', $shared =~ s/"norm_type"/"other"/r), qr/unsupported "_class_name"/, 'another network of that name');
like(listed('dit-diffusers', $config =~ s/^\{/{"norm_eps":0.01,/r), qr/"norm_eps" above 1e-5 is not supported/, 'another eps');
unlike(listed('dit-diffusers', $config), qr/config\.json/, 'the file as it was');

# A tensor without dimensions where four are expected.
my ($header, $offset) = ('', 0);
for (['transformer_blocks.0.norm1.linear.weight', '1'], ['transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight', '1,1'],
	['pos_embed.proj.weight', ''], ['proj_out_2.weight', '1,1'])
{
	my ($name, $shape) = @$_;
	$header .= ($header ? ',' : '') . sprintf('"%s":{"dtype":"F32","shape":[%s],"data_offsets":[%d,%d]}', $name, $shape, $offset, $offset + 4);
	$offset += 4;
}
mkdir "$models/no-dimensions" or die $!;
append_to_file("$models/no-dimensions/diffusion_pytorch_model.safetensors", pack('Q<a*x16', length("{$header}"), "{$header}"));
like(listed('no-dimensions', '{"num_attention_heads":1,"sample_size":1}'), qr/tensor "pos_embed.proj.weight" has an unexpected shape/, 'a tensor without dimensions');
command_fails_like([ qw(d2c export --layout diffusers --model), latest('whole'), '--output', "$dir/sit-diffusers" ],
	qr/diffusers has no network for a model of kind "sit"\nDETAIL:/, 'a SiT has no such layout');
command_fails_like([ qw(d2c export --layout diffusers --model), "$golden/models/tiny-dit.safetensors", '--output', "$dir/other-positions" ],
	qr/positions are not those that diffusers computes\nDETAIL:/, 'nor has a DiT with positions of its own');
command_fails_like([ qw(d2c export --layout diffusers --model), latest('dit'), '--output', "$dir/dit.pt" ], qr/is a folder\nDETAIL:/, 'the layout is a folder');
command_fails_like([ qw(d2c export --layout flat --model), latest('dit'), '--output', "$dir/dit.pt" ], qr/invalid value for --layout: "flat"/, 'another layout');
ok(!-e "$dir/other-positions/config.json", 'what is refused leaves no model');

# What is refused.
command_fails_like(train('flip', '--horizontal-flip'), qr/latents cannot be mirrored\nDETAIL:/, 'mirrored latents');
command_fails_like(train('size', '--image-size', '16'), qr/the latents have 4 channels of 8 x 8\nHINT:/, 'another size');
command_fails_like(train('vae', '--vae', 'none', '--model-directory', $models), qr/model "none" does not exist/, 'an autoencoder that is not there');
command_fails_like(train('nowhere', '--vae', 'tiny-vae'), qr/there is no --model-directory/, 'no directory to find it in');
command_fails_like(train('off', '--latents', 'off', '--vae', 'tiny-vae'), qr/the table has no latents in use/, 'an autoencoder of nothing');
sql(q{UPDATE lat SET latent = array_fill(1::real, ARRAY[8,4,4])::tensor WHERE id = 7});
command_fails_like(train('shape'), qr/row 7: the latent does not have the shape of the other rows'/, 'a latent of another shape');
sql(q{UPDATE lat SET latent = array_fill(-1::real, ARRAY[8,8,8])::tensor WHERE id = 7});
command_fails_like(train('negative'), qr/row 7: the latent has a standard deviation below zero\n(.*\n)*HINT:/, 'a logarithm in place of the deviation');
sql(q{UPDATE lat SET latent = NULL WHERE id = 7});
command_fails_like(train('null'), qr/row 7: the image is null|row 7: the latent is null/, 'no latent');
sql(q{UPDATE lat SET latent = (SELECT latent FROM lat WHERE id = 8) WHERE id = 7});
my @changed = @{ train('whole', qw(--vae tiny-vae --resume latest), '--model-directory', $models) };
command_fails_like([ @changed, '--max-train-steps', '80' ], qr/changed/, 'changed latents are noticed');

done_testing();
