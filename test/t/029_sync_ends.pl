# Whatever a request is waiting for, worker and session end at once: when they are terminated, when their database
# is dropped, when the server stops.  The services here keep everybody waiting for ten minutes or more; the promise is one
# second.  Ten are allowed, and on a slow machine as long as forty sessions take there.

use strict;
use warnings FATAL => 'all';

use IO::Socket::INET;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8,
	conf => [ "vecsync.connect_timeout = '10min'", "vecsync.query_timeout = '1h'", "vecsync.backoff_max = '1h'" ],
	scenario => { rules => [
		{ when => { text => '^silence' }, hang => JSON::PP::true },
		{ when => { text => '^head' }, wire => 'slow_headers', interval_ms => 1000 },
		{ when => { text => '^body' }, wire => 'slow_body', interval_ms => 1000 },
		{ when => { text => '^pause' }, status => 503, retry_after => 3600 } ] });

# Nobody accepts what comes to this one: the second connection already is left without an answer.
my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1, Proto => 'tcp') or die $!;
my @waiting = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $full->sockport, Blocking => 0) } 1 .. 4;
# This one accepts, and never says a word of TLS.
my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 100, Proto => 'tcp') or die $!;

my %url = (map({ $_ => $service->url } qw(silence head body pause)),
	connect => 'http://127.0.0.1:' . $full->sockport . '/v1/embeddings',
	tls => 'https://127.0.0.1:' . $mute->sockport . '/v1/embeddings');

sub sql { return $node->safe_psql($_[1] || 'postgres', $_[0]) }

sub follow
{
	my ($database) = @_;
	sql(join('', map { "SELECT vecsync.create_model('$_', url => '$url{$_}', model => 'fake', dimensions => 8, timeout => '1h');
		CREATE TABLE $_ (id int PRIMARY KEY, body text); INSERT INTO $_ VALUES (1, '$_');
		SELECT vecsync.create_vectorizer('$_', model => '$_', content => 'body');" } sort keys %url), $database);
	return;
}

# Each request has come to where it stays.
sub stuck
{
	my ($database, $what) = @_;
	return ok(VecsyncNode::poll_in($node, $database, q{SELECT string_agg(vectorizer, ' ' ORDER BY vectorizer) FROM vecsync.status WHERE in_flight > 0 OR paused_until > now() + interval '10 minutes'},
		join(' ', sort keys %url), 120), "$what: requests wait in every way");
}

# Sessions that wait themselves.
sub ask
{
	my ($database) = @_;
	my @sessions;
	for my $model (qw(silence head body connect tls))
	{
		push @sessions, VecsyncNode::session($node, database => $database, on_error_stop => 0);
		$sessions[-1]->query_until(qr/asking/, "\\echo asking\nSELECT vecsync.embed('$model', '$model');\n");
	}
	ok(VecsyncNode::poll($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = '$database' AND query LIKE 'SELECT vecsync.embed%' AND wait_event_type = 'Extension'", '5', 60),
		'sessions wait, too');
	return @sessions;
}

sub at_once
{
	my ($what, $end) = @_;
	my $start = time;
	sql('SELECT 1') for 1 .. 4;
	my $allowed = 10 * (time - $start);
	$allowed = 10 if $allowed < 10;
	$start = time;
	$end->();
	my $took = time - $start;
	note(sprintf '%s: %.0f ms, %.0f s allowed', $what, $took * 1000, $allowed);
	cmp_ok($took, '<', $allowed, "$what takes effect at once");
	return;
}

follow('postgres');
stuck('postgres', 'a worker');
at_once('pg_terminate_backend',
	sub { is(sql(q{SELECT bool_and(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE backend_type = 'vecsync worker'}), 't', 'terminated') });

sql('CREATE DATABASE gone');
VecsyncNode::extension($node, 'gone');
follow('gone');
stuck('gone', 'a database');
my @sessions = ask('gone');
at_once('DROP DATABASE WITH (FORCE)', sub { sql('DROP DATABASE gone WITH (FORCE)') });
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'gone'}), '0', 'nobody is left');

stuck('postgres', 'the next worker');
push @sessions, ask('postgres');
at_once('a fast shutdown', sub { $node->stop('fast') });
is(scalar(grep { /terminated by signal|PANIC|TRAP/ } split /\n/, slurp_file($node->logfile)), 0, 'in good order');

eval { $_->quit } for @sessions;
$service->stop;
done_testing();
