# A server with the extension, a fake service and the check that everything is in step.
#
#   my ($node, $service) = VecsyncNode::start(dims => 8, conf => ["vecsync.backoff_min = '20ms'"], scenario => {...});
#   VecsyncNode::vectorizer($node, $service, 'albums', '{name}');     model 'm' on first use
#   VecsyncNode::settle($node, 'albums');                  waits until the queue is worked off
#   VecsyncNode::in_step($node, 'albums', 'expression', 'what');   every vector is that of its current text
#   VecsyncNode::poll($node, 'SELECT ...', 'value', seconds);   waits until the query answers that; poll_in($node, 'database', ...)
#   VecsyncNode::set($node, 'vecsync.proxy', 'value');     for the whole server; undef resets.  Sessions from now on have it
#   VecsyncNode::fails($node, 'SELECT ...', qr/22023.*/s, 'what');   a test that it is an error, and which; the message is verbose
#   VecsyncNode::attempt($node, 'UPDATE ...');             true if it worked; for a server that may be going down or coming up
#   VecsyncNode::alive($node);                             waits until the server answers again
#   my $session = VecsyncNode::session($node, on_error_stop => 0);   a psql of its own, as background_psql makes it
#
# The seconds of a wait are the least: a slow machine is given as long as PG_TEST_TIMEOUT_DEFAULT says.

package VecsyncNode;

use strict;
use warnings FATAL => 'all';

use FakeService;
use File::Spec;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our $dims;
my $settings = 0;

sub start
{
	my (%options) = @_;
	$dims = $options{dims} || 8;
	my $service = FakeService->new(dims => $dims, %{ $options{scenario} || {} });
	my $node = PostgreSQL::Test::Cluster->new($options{name} || 'main', install_path => $options{install_path});
	$node->init(%{ $options{init} || {} });
	$node->append_conf('postgresql.conf', join("\n",
		"shared_preload_libraries = 'vecsync'", "vecsync.backoff_min = '20ms'", "vecsync.backoff_max = '500ms'",
		'max_prepared_transactions = 5', 'max_worker_processes = 16', @{ $options{conf} || [] }, ''));
	$node->start;
	# a setting that the server did not take would leave a test of something else
	die $1 if slurp_file($node->logfile) =~ /(WARNING: .*(?:valid range|configuration parameter).*)/;
	extension($node, 'postgres');
	return ($node, $service);
}

sub extension
{
	my ($node, $database) = @_;
	$node->safe_psql($database, 'CREATE EXTENSION vecsync CASCADE');
	$node->safe_psql($database, FakeService->sql);
	$node->safe_psql($database, FakeService->sql_vector);
	return;
}

sub model
{
	my ($node, $service, $name, $options) = @_;
	$name ||= 'm';
	$options = $options ? ", $options" : '';
	$node->safe_psql('postgres',
		"SELECT vecsync.create_model('$name', url => '" . $service->url . "', model => 'fake', dimensions => $dims$options)");
	return;
}

sub vectorizer
{
	my ($node, $service, $table, $content, $options) = @_;
	$content =~ s/'/''/g;
	$options = $options ? ", $options" : '';
	model($node, $service) if $node->safe_psql('postgres', 'SELECT count(*) FROM vecsync.model') eq '0';
	$node->safe_psql('postgres', "SELECT vecsync.create_vectorizer('$table', model => 'm', content => '$content'$options)");
	return;
}

# Seconds that something which takes so many on an idle machine may take on any.
sub patience
{
	my ($seconds) = @_;
	my $most = $PostgreSQL::Test::Utils::timeout_default;
	return $seconds && $seconds > $most ? $seconds : $most;
}

sub poll
{
	my ($node, @rest) = @_;
	return poll_in($node, 'postgres', @rest);
}

sub poll_in
{
	my ($node, $database, $query, $wanted, $timeout) = @_;
	my $until = time + patience($timeout);
	my $got;
	while (1)
	{
		$got = $node->safe_psql($database, $query);
		return 1 if $got eq $wanted;
		last if time > $until;
		sleep 0.02;
	}
	diag("$query: got '$got', wanted '$wanted'");
	return 0;
}

sub fails
{
	my ($node, $query, $pattern, $what) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$query", on_error_stop => 1);
	return ok($status != 0 && $err =~ $pattern, "error: $what") || diag("$status $err");
}

# Not on standard input, as psql() and poll_query_until() of a node send it: when psql has found no server and is gone
# before it is written, they end the test with a broken pipe.
sub attempt
{
	my ($node, $query) = @_;
	my @command = ($node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-c', $query);
	return IPC::Run::run(\@command, '<', File::Spec->devnull, '>', \my $out, '2>', \my $err);
}

sub alive
{
	my ($node) = @_;
	my $until = time + patience();
	until (attempt($node, 'SELECT true'))
	{
		die 'the server does not answer' if time > $until;
		sleep 0.1;
	}
	return;
}

# A session has what the postmaster has, which tells its processes of a change before it starts another one.
sub set
{
	my ($node, $name, $value) = @_;
	my $mark = 'vecsync_test.set_' . ++$settings;
	$node->safe_psql('postgres', defined $value ? "ALTER SYSTEM SET $name = '$value'" : "ALTER SYSTEM RESET $name");
	$node->append_conf('postgresql.conf', "$mark = 'known'");
	$node->reload;
	return poll($node, "SELECT current_setting('$mark', true)", 'known');
}

# The whole status, for a failed test.
sub report
{
	my ($node) = @_;
	diag($node->safe_psql('postgres', 'SELECT * FROM vecsync.status'));
	diag($node->safe_psql('postgres', 'SELECT * FROM vecsync.failed LIMIT 5'));
	return;
}

sub settle
{
	my ($node, $name, $timeout) = @_;
	$timeout = patience($timeout);
	my $done = $node->safe_psql('postgres', "SELECT vecsync.wait('$name', '$timeout s')") eq 't';
	report($node) unless $done;
	return $done;
}

# Every row has the vector of its current text, and rows without text have none.
sub in_step
{
	my ($node, $table, $expression, $what, %options) = @_;
	my $column = $options{column} || 'embedding';
	my $wrong = $node->safe_psql('postgres', <<SQL);
SELECT count(*) FILTER (WHERE content ~ '\\S' AND vector IS NULL) || ' missing, '
	|| count(*) FILTER (WHERE content ~ '\\S' AND vector <> expected_vector(content, $dims)) || ' wrong, '
	|| count(*) FILTER (WHERE vector IS NOT NULL AND (content ~ '\\S') IS NOT TRUE) || ' without text, queue '
	|| (SELECT count(*) FROM vecsync.queue)
FROM (SELECT $column AS vector, ($expression)::text AS content FROM $table) s
SQL
	my $ok = is($wrong, '0 missing, 0 wrong, 0 without text, queue 0', $what);
	report($node) unless $ok;
	return $ok;
}

sub session
{
	my ($node, %options) = @_;
	my $database = delete $options{database} || 'postgres';
	return bless $node->background_psql($database, %options), 'VecsyncNode::Session';
}

# The minor releases' own query() differ in what they leave at the end of an answer, in whether the errors of a
# statement are there when it returns, and in whether their time runs for the statement or for the whole session.
package VecsyncNode::Session;

use parent -norequire, 'PostgreSQL::Test::BackgroundPsql';
use PostgreSQL::Test::Utils;

sub query
{
	my ($self, $query) = @_;
	my $mark = 'end of answer ' . ++$self->{answers};
	$self->{timeout}->start;
	$self->{stdin} .= "$query\n;\n\\echo '$mark'\n\\warn '$mark'\n";
	for my $stream (qw(stdout stderr))
	{
		pump_until($self->{run}, $self->{timeout}, \$self->{$stream}, qr/^$mark\n/m) or die "no answer to: $query\n$self->{stderr}";
		$self->{$stream} =~ s/\n?$mark\n//;
	}
	my $answer = $self->{stdout};
	$self->{stdout} = '';
	return $answer;
}

1;
