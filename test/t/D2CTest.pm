# D2CTest.pm: what the TAP tests share: clusters with d2c, processes, queries in the background.
package D2CTest;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

our @EXPORT = qw(models_folder golden_hex new_node fill_images alive wait_until server_answers worker_pid
  engine_value start_psql finish_psql pump_run);

# Where the tiny models are.
sub models_folder { return "$ENV{TESTDIR}/test/golden/models"; }

# A file of test/golden as hex.
sub golden_hex
{
	my ($name) = @_;
	return unpack('H*', slurp_file("$ENV{TESTDIR}/test/golden/$name"));
}

# A running cluster with the extension; conf: further lines of postgresql.conf.
sub new_node
{
	my ($name, $conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf',
		"d2c.model_directory = '" . models_folder() . "'\nd2c.device = 'cpu'\nautovacuum = off\n" . ($conf // ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION d2c');
	return $node;
}

# The table img (id, label, image) with n rows.
sub fill_images
{
	my ($node, $n) = @_;
	my $grey = golden_hex('image/grey.png');
	$node->safe_psql('postgres', qq{
		CREATE TABLE img AS SELECT i AS id, (i % 10)::bigint AS label, decode('$grey', 'hex') AS image
		FROM generate_series(1, $n) i});
	return;
}

# Whether the process exists; one that nobody has reaped yet does not count.
sub alive
{
	my ($pid) = @_;
	open(my $stat, '<', "/proc/$pid/stat") or return 0;
	my $line = <$stat>;
	close $stat;
	return defined $line && $line !~ /\) [ZX] /;
}

# Takes what a run has printed until now; one that ends meanwhile is no error.
sub pump_run
{
	my ($run) = @_;
	eval { $run->pump_nb; };
	return;
}

# Waits until the condition holds; false after the usual timeout.
sub wait_until
{
	my ($condition) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		usleep(100_000);
	}
	return 0;
}

# Waits until a server that is starting accepts sessions.  Not with psql: it may end before it has read its query, and
# writing to it then ends the test.
sub server_answers
{
	my ($node) = @_;
	return wait_until(sub { system('pg_isready', '-q', '-h', $node->host, '-p', $node->port) == 0 });
}

# A line of d2c_engine_status(); '' when there is none.
sub engine_value
{
	my ($node, $name) = @_;
	return $node->safe_psql('postgres', "SELECT value FROM d2c_engine_status() WHERE name = '$name'");
}

sub worker_pid { return engine_value($_[0], 'pid'); }

# A psql that runs by itself.  It reads and writes files, so that nobody needs to pump.
sub start_psql
{
	my ($node, $sql) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $psql = { out => "$folder/out", err => "$folder/err" };
	append_to_file("$folder/in.sql", $sql);
	$psql->{run} = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-f', "$folder/in.sql" ],
		'<', \undef, '>', $psql->{out}, '2>', $psql->{err},
		IPC::Run::timeout(2 * $PostgreSQL::Test::Utils::timeout_default));
	return $psql;
}

# Waits for its end and returns what it wrote to stdout and stderr.
sub finish_psql
{
	my ($psql) = @_;
	$psql->{run}->finish;
	my ($out, $err) = map { slurp_file($_) } $psql->{out}, $psql->{err};
	chomp $out;
	return ($out, $err);
}

1;
