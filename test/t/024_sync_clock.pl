# The clock of the machine is set back: no pause lasts longer for it.

use strict;
use warnings FATAL => 'all';

use ShiftedClock;
use Test::More;
use VecsyncNode;

my $clock = ShiftedClock->new or plan skip_all => 'there is no C compiler';

my ($node, $service) = VecsyncNode::start(dims => 8);
$node->stop;
$clock->start($node);
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql('CREATE TABLE t (id int PRIMARY KEY, body text)');
VecsyncNode::vectorizer($node, $service, 't', 'body');
$service->scenario(dims => 8, rules => [ { when => { request => [ 1, 2 ] }, status => 500 } ]);
sql(q{INSERT INTO t VALUES (1, 'after pauses')});
ok(VecsyncNode::settle($node, 't'), 'a service that pauses now and then');
my $before = sql('SELECT now()');
$clock->shift(-36000);
is(sql("SELECT now() < timestamptz '$before' - interval '9 hours'"), 't', 'it is ten hours earlier');
sql(q{INSERT INTO t VALUES (2, 'in the past')});
ok(VecsyncNode::settle($node, 't'), 'changes are embedded nevertheless');
VecsyncNode::in_step($node, 't', 'body', 'in step');

$service->stop;
$node->stop;
done_testing();
