# Whatever the service does, nothing is lost, doubled, swapped or stale: every fault that the fake service knows.

use strict;
use warnings FATAL => 'all';

use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8, conf => [ 'vecsync.max_response_bytes = 2MB', 'vecsync.connect_timeout = 1s' ]);

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub names
{
	my ($what) = @_;
	my $path = "$ENV{VECSYNC_TREE}/test/server";
	my ($out) = run_command([ $ENV{VECSYNC_PYTHON}, '-B', '-c', "import sys; sys.path.insert(0, '$path'); import faults; print(*sorted(faults.$what))" ]);
	return split ' ', $out;
}

sql(q{CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 40) i});
VecsyncNode::model($node, $service, 'm', q{timeout => '1s', max_batch => 16});
VecsyncNode::vectorizer($node, $service, 't', 'body');
ok(VecsyncNode::settle($node, 't'), 'embedded');

my @faults;
push @faults, [ "answer $_", { answer => $_ } ] for names('ITEMS');
push @faults, [ "body $_", { body => $_ } ] for names('BODIES');
push @faults, [ "wire $_", { wire => $_ } ] for names('WIRES');
push @faults, [ "status $_", { status => $_ } ] for (400, 401, 403, 404, 408, 413, 418, 422, 429, 500, 502, 503, 504);
push @faults, [ 'a redirect', { status => 302, headers => { Location => 'http://127.0.0.1:{port}/v1/embeddings' } } ];
push @faults, [ 'Retry-After', { status => 429, retry_after => 1 } ];
push @faults, [ 'a hang', { hang => JSON::PP::true } ];
push @faults, [ 'other dimensions', { dims => 9 } ];

for my $fault (@faults)
{
	my ($name, $rule) = @$fault;
	# A whole megabyte and more of answer only where the fault is about size.
	$service->scenario(dims => 8, base64 => 'never', rules => [ { when => { path => 'embeddings', times => 2 }, %$rule } ]);
	sql(qq{UPDATE t SET body = 'fault $name ' || id});
	sql(q{DELETE FROM t WHERE id = 7; INSERT INTO t VALUES (7, 'inserted')});
	# A row that the service rejects alone is put aside: that is no loss either.
	ok(VecsyncNode::settle($node, 't', 30), "$name: worked off");
	sql(q{SELECT vecsync.resync('t', failed_only => true)});
	VecsyncNode::settle($node, 't', 30);
	VecsyncNode::in_step($node, 't', 'body', "$name: in step");
}

$service->stop;
$node->stop;
done_testing();
