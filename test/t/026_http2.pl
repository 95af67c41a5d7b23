# HTTP/2: where a service offers it over TLS, requests of the worker and of sessions share a connection; a connection that
# says GOAWAY is left for another, and nothing is lost.  A proxy is used when, and only when, vecsync.proxy names one.

use strict;
use warnings FATAL => 'all';

use File::Temp;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8, scenario => { delay_ms => 20 });

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A front of its own: its URL, how to read its counters, how to end it.
sub front
{
	my (@options) = @_;
	my $folder = File::Temp->newdir('frontXXXXXX', TMPDIR => 1);
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		$ENV{PYTHONDONTWRITEBYTECODE} = 1;
		open STDOUT, '>>', "$folder/out";
		open STDERR, '>&', \*STDOUT;
		exec($ENV{VECSYNC_PYTHON}, "$ENV{VECSYNC_TREE}/test/server/http2_front.py", '--upstream', $service->port, '--tls', "$folder/tls",
			'--port-file', "$folder/port", '--stats', "$folder/stats", '--parent', getppid(), @options) or exit 1;
	}
	my $until = time + 60;
	until (-s "$folder/port")
	{
		die 'the front did not start: ' . slurp_file("$folder/out") if time > $until;
		sleep 0.05;
	}
	return {
		url => 'https://127.0.0.1:' . slurp_file("$folder/port") . '/v1/embeddings',
		ca => "$folder/tls/ca.pem",
		stats => sub { return decode_json(slurp_file("$folder/stats")) },
		stop => sub { kill 'TERM', $pid; waitpid($pid, 0); return slurp_file("$folder/out") },
		folder => $folder };
}

sub ca
{
	my ($file) = @_;
	sql("ALTER SYSTEM SET vecsync.ca_file = '$file'");
	sql('SELECT pg_reload_conf()');
	ok($node->poll_query_until('postgres', "SELECT current_setting('vecsync.ca_file') = '$file'"), 'its CA is trusted');
	return;
}

sub embed
{
	my ($front, $table, $rows) = @_;
	sql("CREATE TABLE $table (id int PRIMARY KEY, body text); INSERT INTO $table SELECT i, '$table row ' || i || repeat(' word', 200) FROM generate_series(1, $rows) i");
	sql("SELECT vecsync.create_model('$table', url => '$front->{url}', model => 'fake', dimensions => 8, max_batch => 4, max_inflight => 8)");
	sql("SELECT vecsync.create_vectorizer('$table', '$table', 'body')");
	ok(VecsyncNode::settle($node, $table, 120), "$table: worked off");
	VecsyncNode::in_step($node, $table, 'body', "$table: in step");
	return $front->{stats}->();
}

my $front = front();
ca($front->{ca});
my $stats = embed($front, 'one', 600);
cmp_ok($stats->{streams}, '>=', 150, 'every request is a stream');
cmp_ok($stats->{connections}, '<=', 8, 'on a few connections, kept alive');
cmp_ok($stats->{at_a_time}, '>=', 2, 'which several requests share');
is(sql(q{SELECT vector_dims(vecsync.embed('one', 'of a session'))}), '8', 'a session asks by HTTP/2, too');
is(sql(q{SELECT count(*) FROM vecsync.failed}), '0', 'no row failed');
$front->{stop}->();
sql(q{SELECT vecsync.drop_vectorizer('one')});

$front = front('--goaway-after', 10);
ca($front->{ca});
$stats = embed($front, 'two', 400);
cmp_ok($stats->{goaways}, '>=', 5, 'connections that went');
cmp_ok($stats->{connections}, '>=', $stats->{goaways}, 'were followed by others');
is(sql(q{SELECT count(*) FROM vecsync.failed}), '0', 'and no row failed');

# ---- a proxy, when asked for ---------------------------------------------------------------------
sql(q{ALTER SYSTEM SET vecsync.proxy = 'http://127.0.0.1:1'});
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', q{SELECT current_setting('vecsync.proxy') <> ''}), 'a proxy that is not there');
like(($node->psql('postgres', q{SELECT vecsync.embed('two', 'by the proxy')}))[2], qr/gave no vector/, 'is asked');
sql('ALTER SYSTEM RESET vecsync.proxy');
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', q{SELECT current_setting('vecsync.proxy') = ''}), 'no proxy');

# ---- errors over HTTP/2 ------------------------------------------------------------------------
$service->scenario(dims => 8, rules => [ { when => { text => 'poison' }, status => 400, message => 'not this one' }, { when => { times => 2 }, status => 429, retry_after => 1 } ]);
sql(q{UPDATE two SET body = CASE WHEN id = 17 THEN 'poison' ELSE 'again ' || id END WHERE id <= 40});
ok(VecsyncNode::settle($node, 'two', 120), 'errors');
is(sql(q{SELECT key->>'id', error ~ 'not this one' FROM vecsync.failed}), '17|t', 'are told as over HTTP/1.1');
is(sql(q{SELECT count(*) FROM two WHERE embedding IS DISTINCT FROM expected_vector(body, 8)}), '1', 'and the others are embedded');
$front->{stop}->();

$service->stop;
$node->stop;
done_testing();
