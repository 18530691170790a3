# The engine's device: "auto" takes a GPU where there is one and says why it did not; a device that is demanded and not
# there is an error that says why.  Holds on machines with and without a GPU, and with and without the CUDA backend.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use D2CTest;

my $node = new_node('device');
my $log = $node->data_dir . '/pg_stat_tmp/d2c.log';
my $call = "SELECT d2c_difficulty(image, label, 'tiny-sit') > 0 FROM img WHERE id = 1";
my $models = "SELECT loaded, device, precision FROM d2c_models() WHERE name = 'tiny-sit'";
fill_images($node, 2);
$node->safe_psql('postgres', 'ALTER TABLE img ADD PRIMARY KEY (id)');

sub set_device
{
	my ($device) = @_;
	$node->append_conf('postgresql.conf', "d2c.device = '$device'");
	$node->reload;
	return;
}

# What psql writes to stderr for a query, with SQLSTATEs.
sub errors_of
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $err;
}

# --- cpu ---------------------------------------------------------------------------------------------------------------
is($node->safe_psql('postgres', $call), 't', 'the CPU scores');
is($node->safe_psql('postgres', $models), 't|cpu|f32', 'd2c_models() says where');
unlike(slurp_file($log), qr/computing on the CPU/, 'the CPU as wanted needs no reason');
is(engine_value($node, 'fallback'), '', '... and has none');
isnt(engine_value($node, 'arithmetic'), '', 'd2c_engine_status() says what computes');

# --- auto --------------------------------------------------------------------------------------------------------------
set_device('auto');
my ($rc, $out, $err) = $node->psql('postgres', "$call;\n$models;");
my $device = engine_value($node, 'device');
my $gpu = $device ne 'cpu';
is($rc, 0, 'auto works');
is($out, $gpu ? "t\nt|cuda:0|bf16" : "t\nt|cpu|f32", 'd2c_models() says what auto came to');
like(slurp_file($log), qr/computes on \Q$device\E: ./, '... and the log');
my $lines = () = slurp_file($log) =~ /computing on the CPU: device "cuda(?::0)?" is not available: ./g;
is($lines, $gpu ? 0 : 1, 'the log says once why it is not a GPU');
like(engine_value($node, 'fallback'), $gpu ? qr/^$/ : qr/^computing on the CPU: device "cuda/, '... and d2c_engine_status()');
my $surprise = !$gpu && (-e '/proc/driver/nvidia/version' || -e '/dev/nvidiactl');
like($err, $surprise ? qr/NOTICE:  the d2c engine is computing on the CPU/ : qr/^$/,
	'a session hears of it only where the machine has an NVIDIA driver');

# --- a device that is not there ----------------------------------------------------------------------------------------
set_device('cuda:999');
like(errors_of($call), qr/ERROR:  58000: could not start the d2c engine: device "cuda(?::999)?" is not available\nDETAIL:  .+\nHINT:  ./,
	'a device that is not there is an error with SQLSTATE, reason and hint');
like(errors_of("SELECT d2c_difficulty_checked(image, label, 'tiny-sit') OVER () FROM img"),
	qr/ERROR:  58000: could not start the d2c engine/, '... not a row');
like(errors_of("CALL d2c_attach('img', 'attached', visual_model => 'rgb-sit')"),
	qr/ERROR:  58000: could not start the d2c engine/, '... not for a procedure either');
like(slurp_file($log), qr/could not start: device "cuda/, '... and the log has it');

# --- cuda --------------------------------------------------------------------------------------------------------------
set_device('cuda');
if ($gpu)
{
	is($node->safe_psql('postgres', $call), 't', 'the GPU scores');
	is($node->safe_psql('postgres', $models), 't|cuda:0|bf16', '... under the name of the first device');
}
else
{
	like(errors_of($call), qr/ERROR:  58000: could not start the d2c engine: device "cuda(?::0)?" is not available/,
		'cuda on a machine without a GPU is an error');
	is(engine_value($node, 'running'), 'false', '... and no engine is left');
}
set_device('cpu');
is($node->safe_psql('postgres', $models), 'f||', 'after that the CPU works again');

$node->stop;
done_testing();
