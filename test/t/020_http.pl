# The http room against the fake service: every way a service can answer ends in the right outcome, the right
# vectors and no leak.  The functions are those of src/http/http_debug.c (builds with DEBUG_POINTS=1 only).

use strict;
use warnings FATAL => 'all';

use FakeService;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $json = JSON::PP->new->utf8->canonical;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

my %functions = (
	'http_embed(model json, inputs text[], query bool DEFAULT false) RETURNS json' => 'http_debug_embed',
	'http_embed_many(model json, inputs text[], ncalls int, drop_after_ms int) RETURNS json' => 'http_debug_embed_many',
	'http_rerank(model json, query text, documents text[], top_n int) RETURNS json' => 'http_debug_rerank',
	'http_chat(model json, prompt text, schema text, field text) RETURNS json' => 'http_debug_chat',
	'http_url(url text, allowed text, privileged bool) RETURNS text' => 'http_debug_url',
	'http_memory() RETURNS bigint' => 'http_debug_memory');
my $declare = join '', map { "CREATE FUNCTION $_ LANGUAGE c STRICT AS 'vecsync', '$functions{$_}';\n" } sort keys %functions;
my ($ret, $out, $err) = $node->psql('postgres', $declare, on_error_stop => 1);
if ($ret != 0)
{
	plan skip_all => 'vecsync.so was built without DEBUG_POINTS' if $err =~ /could not find function|missing magic block/;
	die $err;
}
$node->safe_psql('postgres', FakeService->sql);

my $secret = 'sk-very-secret-0123456789';
my $service = FakeService->new(dims => 8, _tls => 1);

sub quote { my ($s) = @_; $s =~ s/'/''/g; return "'$s'"; }
sub model { return quote($json->encode({ url => $service->url, secret => $secret, @_ })); }
sub texts { return 'ARRAY[' . join(',', map { quote($_) } @_) . ']::text[]'; }

# One call in a backend of its own.
sub embed
{
	my ($model, @texts) = @_;
	return decode_json($node->safe_psql('postgres', "SELECT http_embed(" . model(%$model) . ', ' . texts(@texts) . ')'));
}

# Are these exactly the vectors of the texts, in their order?
sub exact
{
	my ($answer, @texts) = @_;
	return 0 unless $answer->{outcome} eq 'ok' && @{ $answer->{vectors} } == @texts;
	my $dims = $answer->{dimensions};
	my $wrong = join ' + ', map {
		'(expected_array(' . quote($texts[$_]) . ", $dims) <> '{" . join(',', @{ $answer->{vectors}[$_] }) . "}'::real[])::int"
	} 0 .. $#texts;
	return $node->safe_psql('postgres', "SELECT $wrong") eq '0';
}

my @texts = ('one', 'two "quoted" \\ {braces}', "tab\tand\nline", 'Motörhead 🎵', 'five');

# ---- right answers -----------------------------------------------------------

for my $provider (qw(openai ollama tei cohere))
{
	my $answer = embed({ url => $service->url($provider), provider => $provider, model => 'm1' }, @texts);
	ok(exact($answer, @texts), "$provider: the vectors of the texts, in their order");
	is(($service->log)[-1]{authorization}, "Bearer $secret", "$provider: the secret goes as a bearer token");
	my ($base) = $service->url($provider) =~ m{^(http://[^/]+)};
	ok(exact(embed({ url => $base, provider => $provider }, 'x'), 'x'), "$provider: the path is completed");
}
$service->scenario(dims => 1536, base64 => 'forced');
ok(exact(embed({}, @texts), @texts), 'base64 when not asked to');
is(embed({ dimensions => 1536 }, 'x')->{dimensions}, 1536, 'the dimensions demanded');
like(embed({ dimensions => 8 }, 'x')->{error}, qr/1536 dimensions, not 8/, 'other dimensions than demanded');
$service->scenario(dims => 1536, base64 => 'never');
ok(exact(embed({}, @texts), @texts), 'numbers although base64 was asked for');

$service->scenario(dims => 8, base64 => 'refused');
my $twice = $node->safe_psql('postgres', join ';', ('SELECT http_embed(' . model() . ', ' . texts('a') . ", false)->>'requests'") x 3);
is($twice, "2\n1\n1", 'a service that knows no encoding_format is asked once, then without');

$service->scenario(dims => 8);
embed({ parameters => { user => 'u', truncate => JSON::PP::true }, document_parameters => { prefix => 'passage: ', user => 'd' } }, 'x');
is_deeply([ ($service->log)[-1]{texts}[0], @{ ($service->log)[-1]{parameters} }{qw(user truncate encoding_format)} ],
	[ 'passage: x', 'd', JSON::PP::true, 'base64' ], 'parameters, prefix');

for my $order (qw(reversed shuffled))
{
	$service->scenario(dims => 8, rules => [ { answer => $order } ]);
	ok(exact(embed({}, @texts), @texts), "$order answer: assigned by index");
}
for my $wire (qw(chunked padded early_close))
{
	$service->scenario(dims => 8, rules => [ { wire => $wire, bytes => 100_000 } ]);
	my $n = $node->safe_psql('postgres', join ';', ('SELECT http_embed(' . model() . ', ' . texts('a') . ")->>'outcome'") x 3);
	is($n, "ok\nok\nok", "wire $wire, three times over one client");
}

# ---- wrong answers -------------------------------------------------------------

my @wrong_items = qw(index_out_of_range index_negative index_huge index_duplicate index_string index_fraction index_null
  index_missing few many none dimensions_less dimensions_more null nan infinity overflow string true nested vector_null
  vector_empty vector_object vector_text);
for my $base64 (qw(never forced))
{
	for my $fault (@wrong_items)
	{
		# "true" and the like have no place in base64; the service breaks the encoding then.
		$service->scenario(dims => 8, base64 => $base64, rules => [ { answer => $fault } ]);
		my $answer = embed({}, @texts);
		is("$answer->{outcome} $answer->{dimensions}", 'garbage 0', "$fault, base64 $base64");
		like($answer->{error}, qr/^unusable answer from 127\.0\.0\.1:\d+: \S/, '... with a reason');
	}
}
for my $provider (qw(ollama tei cohere))
{
	for my $fault (qw(few many none dimensions_less dimensions_more null nan overflow string nested vector_null vector_empty))
	{
		$service->scenario(dims => 8, rules => [ { answer => $fault } ]);
		is(embed({ url => $service->url($provider), provider => $provider }, @texts)->{outcome}, 'garbage', "$provider: $fault");
	}
}
for my $body (qw(empty garbage html truncated trailing deep deep_inside null other twice))
{
	for my $provider (qw(openai tei))
	{
		$service->scenario(dims => 8, rules => [ { body => $body } ]);
		is(embed({ url => $service->url($provider), provider => $provider }, @texts)->{outcome}, 'garbage', "$provider: body $body");
	}
}
$service->scenario(dims => 8, rules => [ { literal => '{"error": {"message": "out of credit"}}' } ]);
like(embed({}, 'x')->{error}, qr/0 vectors for 1 inputs: out of credit/, 'an error under status 200 is quoted');

# ---- wires -----------------------------------------------------------------------

my %wires = (
	close => 'retry', reset => 'retry', reset_body => 'retry', short_body => 'retry', bad_chunk => 'retry',
	hang_body => 'retry', slow_headers => 'retry', slow_body => 'retry', not_http => 'garbage', gzip => 'garbage');
for my $wire (sort keys %wires)
{
	$service->scenario(dims => 8, rules => [ { wire => $wire, interval_ms => 50 } ]);
	my $started = time;
	is(embed($wire =~ /hang|slow/ ? { timeout_ms => 700 } : {}, @texts)->{outcome}, $wires{$wire}, "wire $wire");
	cmp_ok(time - $started, '<', 20, '... in time');
}
# More than libcurl takes in a line, which it calls a lack of memory.
$service->scenario(dims => 8, rules => [ { wire => 'huge_header', bytes => 1_000_000 } ]);
my $huge = embed({}, 'x');
is($huge->{outcome}, 'garbage', 'a header of a megabyte');
like($huge->{error}, qr/headers are too long/, '... and says so');
for my $wire (qw(padded gzip_bomb))
{
	$service->scenario(dims => 8, rules => [ { wire => $wire, bytes => 1_000_000_000 } ]);
	my $answer = embed({ max_response_bytes => 100_000 }, 'x');
	is($answer->{outcome}, 'garbage', "$wire of a gigabyte: stopped at the limit");
	like($answer->{error}, qr/larger than the limit/, '... and says so');
}

# ---- statuses ----------------------------------------------------------------------

my %statuses = (
	400 => 'rejected', 413 => 'rejected', 422 => 'rejected', 401 => 'refused', 403 => 'refused', 404 => 'refused',
	405 => 'refused', 418 => 'refused', 408 => 'retry', 424 => 'retry', 425 => 'retry', 500 => 'retry', 502 => 'retry',
	504 => 'retry', 429 => 'throttled', 503 => 'throttled', 529 => 'throttled', 302 => 'refused', 307 => 'refused');
for my $status (sort keys %statuses)
{
	$service->scenario(dims => 8, rules => [ { status => 0 + $status, message => "no: key $secret, or " . substr($secret, 0, 12) . '...',
				headers => { Location => 'http://127.0.0.1:{port}/elsewhere' } } ]);
	my $answer = embed({}, 'x');
	is("$answer->{outcome} $answer->{status}", "$statuses{$status} $status", "status $status");
	unlike($json->encode($answer), qr/very-secret/, '... and no secret in the error');
	like($answer->{error}, $status < 400 ? qr/redirects are not followed/ : qr/no: key \*\*\*, or \*\*\*/, '... but the reason');
}
is($service->stats->{requests}, 1, 'nothing was sent elsewhere');
$service->scenario(dims => 8, rules => [ { status => 400, message => "ü" x 1000 } ]);
my $long = embed({}, 'x')->{error};
ok(length($long) < 300 && $long =~ /ü\.\.\.$/, 'a long reason is cut between characters');

for my $case ([ 7, 7000, 7000 ], [ '0.25', 250, 250 ], [ { date => 100 }, 20000, 101000 ], [ { date => -60 }, 0, 0 ], [ 'soon', -1, -1 ],
	[ 1e9, 86400000, 86400000 ])
{
	my ($after, $low, $high) = @$case;
	$service->scenario(dims => 8, rules => [ { status => 429, retry_after => $after } ]);
	my $ms = embed({}, 'x')->{retry_after_ms};
	ok($ms >= $low && $ms <= $high, 'Retry-After ' . (ref $after ? "a date in $after->{date} s" : $after) . ": $ms ms");
}

# ---- connections -----------------------------------------------------------------------

$service->scenario(dims => 8, delay_ms => 20);
my $many = 'SELECT http_embed_many(' . model() . ', ' . texts(@texts);
is($node->safe_psql('postgres', "$many, 200, -1)"), '{"ok":200,"inflight":0}', '200 calls');
my $stats = $service->stats;
is($stats->{max_in_flight}, 8, 'no more at once than allowed');
cmp_ok($stats->{connections}, '<=', 8, 'connections are used again');

$service->scenario(dims => 8, close_each => JSON::PP::true);
is($node->safe_psql('postgres', "$many, 50, -1)"), '{"ok":50,"inflight":0}', 'a service that closes each connection');

$service->scenario(dims => 8, rules => [ { hang => JSON::PP::true } ]);
is($node->safe_psql('postgres', "$many, 50, 300)"), '{"pending":50,"inflight":0}', 'calls freed in flight');

# One session: cancelled, timed out, freed in flight, answered; memory stays where it was.
my $churn = join ";\n", 'SET client_min_messages = fatal', "SET statement_timeout = '30ms'",
  ('SELECT http_embed(' . model() . ', ' . texts(@texts) . ')') x 20, 'RESET statement_timeout', "$many, 20, 20)";
$service->scenario(dims => 8, rules => [ { hang => JSON::PP::true } ]);
(undef, $out, $err) = $node->psql('postgres', "SELECT http_memory();\n$churn;\nSELECT http_memory();\n$churn;\nSELECT http_memory();\n",
	on_error_stop => 0);
my @memory = $out =~ /^(\d+)$/mg;
is(scalar(@memory), 3, 'cancelled calls leave the session alive');
cmp_ok($memory[2] - $memory[1], '<=', 16384, "no memory is lost ($memory[1], then $memory[2] bytes)");

# Interrupts in the middle of a call
for my $how (qw(pg_cancel_backend pg_terminate_backend))
{
	$service->scenario(dims => 8, rules => [ { hang => JSON::PP::true } ]);
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT http_embed(' . model() . ', ' . texts('x') . ')' ],
		'>', \my $psql_out, '2>', \my $psql_err);
	ok($service->wait_for(sub { $_[0]->{hanging} == 1 }), 'a call hangs');
	my $started = time;
	$node->safe_psql('postgres', "SELECT $how(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT http_embed%' AND pid <> pg_backend_pid()");
	$psql->finish;
	cmp_ok(time - $started, '<', 20, "$how ends it at once");
	ok($service->wait_for(sub { $_[0]->{in_flight} == 0 }), '... and its connection');
}

# A name server that does not answer, a port where nobody listens, an address that swallows packets
$service->scenario(dims => 8);
my $port = PostgreSQL::Test::Cluster::get_free_port();
like(embed({ url => "http://127.0.0.1:$port/v1/embeddings" }, 'x')->{error}, qr/refused|connect/i, 'nobody listens');
is(embed({ url => "http://no-such-host.invalid/v1/embeddings", connect_timeout_ms => 3000 }, 'x')->{outcome}, 'retry', 'an unknown host');
{
	local $ENV{http_proxy} = "http://127.0.0.1:$port";
	local $ENV{no_proxy} = 'localhost';
	$node->restart;
	ok(exact(embed({}, 'x'), 'x'), 'a proxy in the environment is not used');
}
is(embed({ proxy => "http://127.0.0.1:$port", url => $service->url =~ s/127\.0\.0\.1/localhost/r }, 'x')->{outcome}, 'retry', 'a proxy asked for is used, whatever the environment excepts');

# ---- TLS ------------------------------------------------------------------------------------

my $tls = embed({ url => $service->tls_url }, 'x');
is($tls->{outcome}, 'refused', 'an unknown certificate is refused');
like($tls->{error}, qr/certificate/, '... and the error says so');
ok(exact(embed({ url => $service->tls_url, ca_file => $service->ca_file }, 'x'), 'x'), 'accepted with its CA file');
(my $other_name = $service->tls_url) =~ s/127\.0\.0\.1/localhost/;
is(embed({ url => $other_name, ca_file => $service->ca_file }, 'x')->{outcome}, 'refused', 'the name must fit');

# ---- addresses and URLs -----------------------------------------------------------------------

my $before = $service->stats->{requests};
for my $host ('127.0.0.1', 'localhost', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', '0.0.0.0')
{
	(my $url = $service->url) =~ s/127\.0\.0\.1/$host/;
	my $answer = embed({ url => $url, public_only => 1 }, 'x');
	is($answer->{outcome}, 'refused', "$host is refused where only public addresses are allowed");
}
is($service->stats->{requests}, $before, 'and nothing was sent');
# A connection opened for a call that may, is not used by one that may not
is($node->safe_psql('postgres', 'SELECT http_embed(' . model() . ', ' . texts('x') . ")->>'outcome';"
		. 'SELECT http_embed(' . model(public_only => 1) . ', ' . texts('x') . ")->>'outcome'"), "ok\nrefused", 'nor over an open connection');

my @urls = (
	[ 'https://API.example.com:443/v1/../v2#x', '', 0, qr{^https://api\.example\.com/v2 \(public only\)$} ],
	[ 'http://10.1.2.3/', '', 0, qr/^refused/ ], [ 'http://10.1.2.3/', '', 1, qr{^http://10\.1\.2\.3/$} ],
	[ 'http://10.1.2.3/x', 'http://10.1.2.3/', 0, qr{^http://10\.1\.2\.3/x$} ],
	[ 'http://169.254.169.254/latest', '', 0, qr/^refused/ ], [ 'http://[::1]:80/', '', 0, qr/^refused/ ],
	[ 'http://[fe80::1]/', '', 0, qr/^refused/ ], [ 'http://foo.localhost./', '', 0, qr/^refused/ ],
	[ 'http://192.168.0.1/', '', 0, qr/^refused/ ], [ 'http://172.31.0.1/', '', 0, qr/^refused/ ], [ 'http://172.32.0.1/', '', 0, qr/^http/ ],
	[ 'https://user:pw@host/', '', 1, qr/^refused: A URL must not carry credentials/ ], [ 'ftp://host/', '', 1, qr/^refused/ ],
	[ 'file:///etc/passwd', '', 1, qr/^refused/ ], [ 'gopher://host/', '', 1, qr/^refused/ ], [ '', '', 1, qr/^refused/ ],
	[ "http://host/a b", '', 1, qr/^refused/ ], [ 'not a url', '', 1, qr/^refused/ ],
	[ 'https://api.x.com/v1/e', 'https://api.x.com/v1', 0, qr/^https/ ], [ 'https://api.x.com/v1e', 'https://api.x.com/v1', 0, qr/^refused/ ],
	[ 'https://api.x.com.evil.com/v1', 'https://api.x.com', 0, qr/^refused/ ], [ 'http://api.x.com/v1', 'https://api.x.com', 0, qr/^refused/ ],
	[ 'https://api.x.com/v1/%2E%2e/admin', 'https://api.x.com/v1', 0, qr/^refused/ ],
	[ 'https://api.x.com:444/v1', 'https://api.x.com', 0, qr/^refused/ ], [ 'https://api.x.com/v1', 'http://a/, https://API.x.com', 0, qr/^https/ ]);
for my $case (@urls)
{
	my ($url, $allowed, $privileged, $expected) = @$case;
	like($node->safe_psql('postgres', 'SELECT http_url(' . quote($url) . ', ' . quote($allowed) . ", CAST($privileged AS bool))"),
		$expected, "URL '$url', allowed '$allowed', privileged $privileged");
}

# ---- what is wrong before anything is sent -------------------------------------------------------

for my $case ([ { provider => 'gopher' }, qr/unknown provider/ ], [ { headers => { Host => 'x' } }, qr/invalid HTTP header/ ],
	[ { headers => { 'X-A' => "a\r\nB: c" } }, qr/invalid HTTP header/ ], [ { headers => [1] }, qr/must be a JSON object/ ],
	[ { secret => "a\nb" }, qr/control characters/ ], [ { parameters => [1] }, qr/parameters must be a JSON object/ ],
	[ { document_parameters => { prefix => 1 } }, qr/must be a string/ ], [ { url => undef }, qr/no URL|refused|null/ ])
{
	my ($model, $expected) = @$case;
	$model->{url} = '' if exists $model->{url};
	$expected = qr/no URL/ if exists $model->{url};
	(undef, undef, $err) = $node->psql('postgres', 'SELECT http_embed(' . model(%$model) . ', ' . texts('x') . ')');
	like($err, $expected, "an error for " . $json->encode($model));
}
embed({ headers => { 'X-Key' => 'key {secret}' } }, 'x');
is(($service->log)[-1]{authorization}, undef, 'a header that takes the secret replaces the bearer token');

embed({ parameters => { headers => { 'Authorization' => 'Key {secret}' }, a => 1 } }, 'x');
is_deeply([ @{ ($service->log)[-1] }{qw(authorization)}, ($service->log)[-1]{parameters}{headers} ], [ "Key $secret", undef ],
	'headers among the parameters');

# ---- another encoding --------------------------------------------------------------------------------

$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$node->safe_psql('latin', $declare);
$service->scenario(dims => 8, rules => [ { status => 400, message => "f\x{fc}r \x{20ac}" } ]);
like($node->safe_psql('latin', 'SELECT http_embed(' . model() . q{, '{x}')->>'error'}), qr/f\?+r \?+$/,
	'an error text in a database of another encoding');

# ---- rerank and chat --------------------------------------------------------------------------------

sub rerank
{
	my ($model, $query, $documents, $top_n) = @_;
	return decode_json($node->safe_psql('postgres',
		"SELECT http_rerank(" . model(%$model) . ', ' . quote($query) . ', ' . texts(@$documents) . ", $top_n)"));
}
my @documents = ('apples', 'red apples and pears', 'red apples', 'nothing');
for my $case ([ 'rerank', 'cohere' ], [ 'tei-rerank', 'tei' ])
{
	my ($kind, $provider) = @$case;
	my %model = (url => $service->url($kind), provider => $provider);
	$service->scenario();
	is($json->encode(rerank(\%model, 'red apples', \@documents, 0)->{scores}), '[[1,1],[2,1],[0,0.5],[3,0]]', "$provider rerank");
	is($json->encode(rerank(\%model, 'red apples', \@documents, 2)->{scores}), '[[1,1],[2,1]]', "$provider rerank, the two best");
	for my $fault (qw(index_out_of_range index_negative index_huge index_duplicate index_missing few many none))
	{
		$service->scenario(rules => [ { answer => $fault } ]);
		is(rerank(\%model, 'red apples', \@documents, 0)->{outcome}, 'garbage', "$provider rerank: $fault");
	}
	for my $body (qw(empty garbage html truncated deep null))
	{
		$service->scenario(rules => [ { body => $body } ]);
		is(rerank(\%model, 'red apples', \@documents, 0)->{outcome}, 'garbage', "$provider rerank: body $body");
	}
}

sub chat
{
	return decode_json($node->safe_psql('postgres',
		'SELECT http_chat(' . model(url => $service->url('chat')) . q{, 'Which?', '{"type": "object"}', 'drop')}));
}
my %contents = (
	'{"drop": [2, 5, 99999999999]}' => 'ok [2,5]', '{"drop": []}' => 'ok []', '{"keep": [1]}' => 'ok none', '{"drop": ["1"]}' => 'ok none',
	"```json\n{\"drop\": [7]}\n```" => 'ok [7]', 'I would drop 2.' => 'garbage', '[2]' => 'garbage', '{"drop": [2]' => 'garbage', '' => 'garbage');
for my $content (sort keys %contents)
{
	$service->scenario(chat => $content);
	my $answer = chat();
	my $got = $answer->{outcome} eq 'ok' ? 'ok ' . ($answer->{values} ? $json->encode($answer->{values}) : 'none') : $answer->{outcome};
	is($got, $contents{$content}, "chat: $content");
}
is(($service->log)[-1]{parameters}{temperature}, 0, 'chat: temperature 0');
is(($service->log)[-1]{parameters}{response_format}{type}, 'json_schema', 'chat: with the schema');

$node->stop;
done_testing();
