# Limits of requests and of tokens a minute: kept by us, so that the service need not say no; and Retry-After when it does.

use strict;
use warnings FATAL => 'all';

use Test::More;
use Time::HiRes qw(time);
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 4);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A text of so many words: the fake service counts words + 2 tokens.
sub words { return "(SELECT string_agg('word' || j, ' ') FROM generate_series(1, $_[0]) j)" }

sql(q{CREATE TABLE t (id int PRIMARY KEY, body text)});
VecsyncNode::model($node, $service, 'm', 'token_limit => 60000, max_batch => 16, max_inflight => 4');
VecsyncNode::vectorizer($node, $service, 't', 'body');
is(sql(q{SELECT token_limit FROM vecsync.model}), '60000', 'tokens a minute');

# ---- tokens ---------------------------------------------------------------------------
# A service that takes 60,000 tokens a minute, 1,000 a second, and 60,000 at once.  72,000 tokens: 12 s.
$service->scenario(dims => 4, rate => { tokens => 60000, seconds => 60 });
my $start = time;
sql("INSERT INTO t SELECT i, i || ' ' || " . words(97) . ' FROM generate_series(1, 720) i');
ok(VecsyncNode::settle($node, 't', 300), 'more than a minute\'s tokens');
my $took = time - $start;
VecsyncNode::in_step($node, 't', 'body', 'all are embedded');
my $stats = $service->stats;
cmp_ok($stats->{tokens}, '>=', 72000, 'which the service counted');
cmp_ok($stats->{by_status}{429} || 0, '<=', 2, 'and hardly ever had to say no: the estimate of the first requests is cautious, all others are corrected');
cmp_ok($took, '>=', 10, 'it took the time that the limit demands');
is(sql('SELECT count(*) FROM vecsync.failed'), '0', 'no row failed');

# ---- requests larger than what is left: cut to the limit -----------------------------------
VecsyncNode::model($node, $service, 'small', 'token_limit => 500, max_batch => 128');
sql(q{CREATE TABLE s (id int PRIMARY KEY, body text)});
$service->scenario(dims => 4);
sql("INSERT INTO s SELECT i, i || ' ' || " . words(9) . ' FROM generate_series(1, 80) i');
sql(q{SELECT vecsync.create_vectorizer('s', 'small', 'body')});
ok($service->wait_for(sub { $_[0]->{requests} >= 1 }, 60), 'a small limit');
cmp_ok($_->{inputs}, '<=', 50, 'makes small requests') for ($service->log)[-1];
sql(q{SELECT vecsync.alter_model('small', '{"token_limit": null}'); SELECT vecsync.alter_model('m', '{"token_limit": null}')});
ok(VecsyncNode::settle($node, 's'), 'which ends with the limit');

# ---- the service says no -------------------------------------------------------------------
# 3 requests at once, one a second after that: 9 requests take 6 s.
sql(q{SELECT vecsync.alter_model('m', '{"max_batch": 10}')});
$service->scenario(dims => 4, rate => { requests => 3, seconds => 3 });
$start = time;
sql("TRUNCATE t; INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 90) i");
ok(VecsyncNode::settle($node, 't', 300), 'a service that says 429 with Retry-After');
$took = time - $start;
VecsyncNode::in_step($node, 't', 'body', 'all are embedded');
is(sql('SELECT count(*) FROM vecsync.failed'), '0', 'no row failed');
$stats = $service->stats;
cmp_ok($stats->{by_status}{429}, '>=', 1, 'it did say no');
cmp_ok($stats->{by_status}{429}, '<=', 40, 'and was not asked again before its time');
cmp_ok($took, '>=', 5, 'which takes as long as it says');
cmp_ok($took, '<', 90, 'and not much longer');
is(sql('SELECT max(attempts) FROM vecsync.operation'), '1', 'and charges no attempt');

# ---- the same limit, kept by us -----------------------------------------------------------------
VecsyncNode::model($node, $service, 'slow', 'rate_limit => 60, max_batch => 1, max_inflight => 1');
sql(q{CREATE TABLE r (id int PRIMARY KEY, body text); INSERT INTO r SELECT i, 'again ' || i FROM generate_series(1, 64) i});
$service->scenario(dims => 4, rate => { requests => 61, seconds => 60 });
sql(q{SELECT vecsync.create_vectorizer('r', 'slow', 'body')});
ok(VecsyncNode::settle($node, 'r', 300), 'requests a minute');
is(($service->stats->{by_status}{429} || 0), 0, 'kept by us are never refused');

# ---- a limit that comes later owes nothing for the time before ---------------------------------
VecsyncNode::model($node, $service, 'late', 'max_batch => 2');
sql(q{CREATE TABLE l (id int PRIMARY KEY, body text); INSERT INTO l SELECT i, i || ' late ' || i FROM generate_series(1, 400) i});
$service->scenario(dims => 4);
sql(q{SELECT vecsync.create_vectorizer('l', 'late', 'body')});
ok(VecsyncNode::settle($node, 'l'), 'requests without a limit');
cmp_ok($service->stats->{requests}, '>=', 200, 'many of them');
sql(q{SELECT vecsync.alter_model('late', '{"rate_limit": 10, "token_limit": 100}'); INSERT INTO l VALUES (1000, 'one more')});
ok(VecsyncNode::settle($node, 'l', 60), 'are not counted against one');

$service->stop;
$node->stop;
done_testing();
