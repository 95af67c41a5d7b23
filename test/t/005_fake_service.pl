# The tools of the other tests: FakeService.pm starts, scripts, kills and restarts the fake service, and
# expected_array() in SQL gives exactly the vector that the service gives.

use strict;
use warnings FATAL => 'all';

use FakeService;
use HTTP::Tiny;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', FakeService->sql);

my $service = FakeService->new(dims => 40, rules => [ { when => { text => 'poison' }, status => 400, message => 'spoilt' } ]);

sub ask
{
	my (@texts) = @_;
	return HTTP::Tiny->new->post($service->url, { content => encode_json({ model => 'm', input => \@texts }) });
}

my @texts = ('one', "two\nlines", "zw\x{f6}lf \x{1f3b5}", "it's \"quoted\" {name} \\", '');
my $answer = ask(@texts);
is($answer->{status}, 200, 'the service answers');
my $data = decode_json($answer->{content})->{data};
for my $i (0 .. $#texts)
{
	my $array = '{' . join(',', @{ $data->[$i]{embedding} }) . '}';
	my $text = $texts[$i];
	utf8::encode($text);
	$text =~ s/'/''/g;
	is($node->safe_psql('postgres', "SELECT expected_array('$text', 40) = '$array'::real[]"), 't', "text $i: the same vector in SQL");
}
is($node->safe_psql('postgres', "SELECT cardinality(expected_array('x', 1536)), expected_array('x', 8) = (expected_array('x', 40))[1:8]"),
	'1536|t', 'any number of dimensions');
is($node->safe_psql('postgres', "SELECT count(DISTINCT expected_array('x', 8, key)) FROM unnest(ARRAY['a', 'b', '']) key"),
	3, 'a key changes the vector');

is(ask('a poison pill')->{status}, 400, 'a rule refuses a text');
is($service->stats->{by_status}{400}, 1, 'stats count it');
is((($service->log)[1])->{texts}[0], 'a poison pill', 'the log has it');

my $port = $service->port;
$service->kill;
is(ask('x')->{status}, 599, 'killed');
$service->start;
is($service->port, $port, 'restarted on its port');
is(ask('x')->{status}, 200, 'and answers');
$service->scenario(dims => 2);
is(scalar @{ decode_json(ask('x')->{content})->{data}[0]{embedding} }, 2, 'a new scenario');
is($service->stats->{requests}, 1, 'counts anew');

$node->stop;
done_testing();
