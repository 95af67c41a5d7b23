# A database of another encoding than UTF-8: texts reach the service as UTF-8, from the worker and from a session.
# Whatever becomes of a request, its error is text of the database's encoding.

use strict;
use warnings FATAL => 'all';

use FakeService;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $service = FakeService->new(dims => 8);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'vecsync'");
$node->start;
$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});

my $url = $service->url;
$node->safe_psql('latin', qq{
	SET client_encoding = 'UTF8';
	SET client_min_messages = warning;
	CREATE EXTENSION vecsync CASCADE;
	SELECT vecsync.create_model('m', url => '$url', model => 'x');
	CREATE TABLE t (id int PRIMARY KEY, a text);
	INSERT INTO t VALUES (1, E'f\\u00FCr'), (2, 'plain');
	SELECT vecsync.create_vectorizer('t', model => 'm', content => 'a');
});
is($node->safe_psql('latin', q{SELECT vecsync.wait('t', '30s')}), 't', 'the worker embeds');
is($node->safe_psql('latin', q{SELECT count(*) FROM t WHERE embedding = vecsync.embed('m', a)}), '2', 'the vectors are those of the texts');
my @texts = map { @{ $_->{texts} // [] } } $service->log;
cmp_ok(scalar(grep { $_ eq "f\x{fc}r" } @texts), '>=', 2, 'the service saw the characters');

# A host's name too long for a message is cut inside a character.
$node->safe_psql('postgres', q{
	CREATE EXTENSION vecsync CASCADE;
	SELECT vecsync.create_model('m', url => 'http://' || repeat(E'\u00E9', 200) || '.invalid/', model => 'x', dimensions => 8);
	CREATE FUNCTION reason() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE reason text;
	BEGIN
		PERFORM vecsync.embed('m', 'a');
	EXCEPTION WHEN connection_exception THEN
		GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
		RETURN reason;
	END $$});
is($node->safe_psql('postgres', q{SELECT length(convert_from(convert_to(r, 'UTF8'), 'UTF8')) > 100 FROM reason() r}), 't', 'an error about a long name is valid text');

$node->stop;
done_testing();
