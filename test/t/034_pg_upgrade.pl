# pg_upgrade: a cluster with everything that the two extensions can have goes on in another one, as it was.
# VECSYNC_OLD=folder: the old server's installation, with bin/ and the extensions, to upgrade from another major version.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my $key = 'a-key-of-the-service';
my %conf = (fsync => 'off', autovacuum => 'off');
my @conf = map { "$_ = $conf{$_}" } sort keys %conf;
my ($old, $service) = VecsyncNode::start(dims => 8, name => 'old', install_path => $ENV{VECSYNC_OLD}, init => { no_data_checksums => !$ENV{VECSYNC_OLD} }, conf => \@conf, scenario => { api_key => $key });
my $node = $old;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# ---- what there is ---------------------------------------------------------------------------
sql("CREATE ROLE app; CREATE ROLE other; GRANT ALL ON SCHEMA public TO PUBLIC;
	SELECT vecsync.set_secret('key', '$key'); SELECT vecsync.set_secret('unused', 'x', ARRAY['https://example.com/'])");
sql("SELECT vecsync.create_model('$_', url => '" . $service->url . "', model => '$_', dimensions => 8, secret => 'key')") for qw(m next);
sql(q{SELECT vecsync.revoke_model('m'); SELECT vecsync.grant_model('m', 'app')});
sql(q{CREATE TABLE gone (a int, b text); DROP TABLE gone;
	CREATE TABLE docs (id int PRIMARY KEY, dropped int, title text, body text, lang text DEFAULT 'en', CHECK (id <> 13 OR embedding IS NULL), embedding vector(8));
	ALTER TABLE docs DROP COLUMN dropped; ALTER TABLE docs OWNER TO app;
	INSERT INTO docs SELECT i, 'title ' || i, 'body of document ' || i || ' with some more words' FROM generate_series(1, 300) i;
	CREATE TABLE parts (id int, body text, part int, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE parts_2 (body text, part int NOT NULL, id int NOT NULL);
	ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
	INSERT INTO parts SELECT i, 'part ' || i, 1 + i % 2 FROM generate_series(1, 100) i});
VecsyncNode::vectorizer($node, $service, 'docs', '{title}', q{namespace => 'lang', text_config => 'english'});
VecsyncNode::vectorizer($node, $service, 'docs', 'body', q{name => 'pieces', chunking => '{"method": "words", "size": 3}', index => '{"method": "ivfflat", "lists": 5}'});
VecsyncNode::vectorizer($node, $service, 'docs', 'body', q{name => 'resting', destination => 'column:resting', index => '{"method": "none"}'});
VecsyncNode::vectorizer($node, $service, 'parts', 'body');
sql(q{CREATE TABLE plain AS SELECT id, embedding AS v, embedding::halfvec(8) AS h, embedding::vector(8)::sparsevec AS s, binary_quantize(embedding) AS b,
		ARRAY[embedding, embedding] AS a FROM docs LIMIT 0;
	ALTER TABLE plain ALTER s TYPE sparsevec(8), ALTER b TYPE bit(8);
	INSERT INTO plain SELECT i, v, v, v::sparsevec, binary_quantize(v), ARRAY[v, v] FROM (SELECT i, expected_vector('plain ' || i, 8) AS v FROM generate_series(1, 400) i) x;
	CREATE INDEX plain_v ON plain USING hnsw (v vector_l2_ops); CREATE INDEX plain_h ON plain USING hnsw (h halfvec_cosine_ops);
	CREATE INDEX plain_s ON plain USING hnsw (s sparsevec_ip_ops); CREATE INDEX plain_b ON plain USING hnsw (b bit_hamming_ops);
	CREATE INDEX plain_iv ON plain USING ivfflat (v vector_ip_ops) WITH (lists = 8); CREATE INDEX plain_ih ON plain USING ivfflat (h halfvec_l2_ops) WITH (lists = 8);
	CREATE INDEX plain_order ON plain (v); DELETE FROM plain WHERE id % 10 = 0; VACUUM plain; INSERT INTO plain SELECT id + 1000, v, h, s, b, a FROM plain WHERE id < 20});
for my $name (qw(docs pieces resting parts))
{
	ok(VecsyncNode::settle($node, $name), "$name is embedded");
}
# one that is being changed, one that rests, changes that wait since the service is gone, and rows that failed
sql(q{SELECT vecsync.alter_vectorizer('resting', '{"model": "next"}', cutover => 'manual'); SELECT vecsync.wait('generation 2 of resting'); SELECT vecsync.pause('resting')});
$service->stop;
sql(q{UPDATE docs SET title = 'changed ' || id, body = 'another body ' || id WHERE id BETWEEN 21 AND 40; DELETE FROM docs WHERE id = 41; UPDATE docs SET id = 1042 WHERE id = 42;
	INSERT INTO parts VALUES (500, 'new part', 2); UPDATE parts SET part = 2 WHERE id = 2});
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM vecsync.status WHERE state = 'waiting for the service'}, 4, 60), 'the service is away');

my ($bin, $new_bin);

# ---- the answers ---------------------------------------------------------------------------------
my %question = (v => '<->', h => '<=>', s => '<#>', b => '<~>', iv => '<#>', ih => '<->');

# Of each index in turn: it is the only one there is, and it is used.
sub answers
{
	my @answers;
	for my $index (sort keys %question)
	{
		my ($column) = $index =~ /(.)$/;
		my $others = join ', ', map { "plain_$_" } 'order', grep { $_ ne $index } sort keys %question;
		push @answers, "$index: " . sql("SET enable_seqscan = off; SET ivfflat.probes = 3; SELECT $column AS q FROM plain WHERE id = 77 \\gset
			BEGIN; DROP INDEX $others; EXPLAIN (COSTS OFF) SELECT id FROM plain ORDER BY $column $question{$index} :'q' LIMIT 20;
			SELECT id FROM plain ORDER BY $column $question{$index} :'q' LIMIT 20; ROLLBACK");
	}
	push @answers, sql(q{SELECT md5(string_agg(d::text, '' ORDER BY id)) FROM docs d}), sql(q{SELECT md5(string_agg(p::text, '' ORDER BY id)) FROM plain p}),
		sql(q{SELECT md5(string_agg(p::text, '' ORDER BY id)) FROM pieces_chunks p}),
		sql(q{SELECT vectorizer, generation, key, operation, error FROM vecsync.failed, vecsync.vectorizer WHERE name = vectorizer ORDER BY 1, key::text}),
		sql(q{SELECT name, owner, users, secret FROM vecsync.model ORDER BY name}), sql('SELECT name, value, owner, urls FROM vecsync.secret ORDER BY name'),
		sql('SELECT * FROM vecsync.queue ORDER BY seq'), sql('SELECT md5(string_agg(d::text, chr(10) ORDER BY vectorizer, key)) FROM vecsync.digest d'),
		sql(q{SELECT name, source, content_view, chunk_table, search_view, successor_of, paused FROM vecsync.vectorizer ORDER BY id});
	return join "\n", @answers;
}

sub same
{
	my ($got, $expected, $what) = @_;
	my %expected = map { $_ => 1 } split /\n/, $expected;
	my %got = map { $_ => 1 } split /\n/, $got;
	my $ok = ok($got eq $expected, $what) or diag(join "\n", (map { "got:    $_" } grep { !$expected{$_} } split /\n/, $got),
		map { "wanted: $_" } grep { !$got{$_} } split /\n/, $expected);
	return $ok;
}

sub dump_of
{
	my ($file) = @_;
	command_ok([ $new_bin . '/pg_dumpall', '--no-sync', '-h', $node->host, '-p', $node->port, '-f', $file ], 'pg_dumpall');
	my $dump = slurp_file($file);
	$dump =~ s/^\\(un)?restrict .*\n//mg;
	return $dump;
}

sub sound
{
	return is(sql(q{SELECT string_agg(c.relname || ': ' || p, ', ') FROM pg_class c JOIN pg_am a ON a.oid = c.relam, vector_index_check(c.oid) p
		WHERE a.amname = 'hnsw' AND c.relkind = 'i'}), '', 'every hnsw index is sound');
}

# ---- pg_upgrade --------------------------------------------------------------------------------------
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(no_data_checksums => 1);
$new->append_conf('postgresql.conf', join("\n", "shared_preload_libraries = 'vecsync'", 'max_prepared_transactions = 5', "vecsync.backoff_min = '20ms'",
	"vecsync.backoff_max = '500ms'", @conf, ''));
($bin, $new_bin) = map { $_->config_data('--bindir') } $old, $new;
my $before = answers();
like($before, qr/Index Scan using plain_$_ /, "an answer of $_") for sort keys %question;
my $dump = dump_of($old->basedir . '/before.sql');
sound();

my @upgrade = ('pg_upgrade', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bin, '-B', $new_bin, '-s', $old->host, '-p', $old->port, '-P', $new->port);
chdir PostgreSQL::Test::Utils::tempdir() or die;
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check of a running server');
$old->stop;
# The service is back, but nobody may ask it: not the old server, whose schema is dumped, nor the new one, which has no rows yet.
$service->start;
command_ok([ @upgrade, '--link' ], 'pg_upgrade');
is($service->stats->{requests}, 0, 'no worker is at work in either server meanwhile');

# ---- afterwards ------------------------------------------------------------------------------------------
$node = $new;
$new->append_conf('postgresql.conf', 'vecsync.enabled = off');
$new->start;
same(answers(), $before, 'every answer is the same');
# servers of different versions print views differently
same(dump_of($new->basedir . '/after.sql'), $dump, 'so is the dump') unless $ENV{VECSYNC_OLD};
sound();
is(sql(q{SELECT count(*) FROM vecsync.verify('pieces')}), '0', 'verify finds nothing');
VecsyncNode::set($node, 'vecsync.enabled', 'on');
ok(VecsyncNode::settle($node, $_), "$_ goes on") for qw(docs pieces parts), 'generation 2 of resting';
is($service->stats->{inputs}, 21 + 23 + 2 + 21, 'nothing is asked but what was pending');
sql(q{UPDATE docs SET title = 'after ' || id, body = 'the body after it ' || id WHERE id BETWEEN 51 AND 60; INSERT INTO docs VALUES (2001, 'inserted', 'a new body');
	INSERT INTO parts VALUES (501, 'another part', 1); TRUNCATE parts_2; INSERT INTO plain SELECT id + 2000, v, h, s, b, a FROM plain WHERE id < 50; VACUUM plain;
	ALTER TABLE docs DROP CONSTRAINT docs_check; SELECT vecsync.resync('docs', failed_only => true), vecsync.resume('resting'), vecsync.cutover('resting')});
ok(VecsyncNode::settle($node, $_), "$_ follows") for qw(docs pieces resting parts);
VecsyncNode::in_step($node, 'docs', 'title', 'docs is in step');
VecsyncNode::in_step($node, 'docs', 'body', 'so is the next generation', column => 'resting');
VecsyncNode::in_step($node, 'parts', 'body', 'and the partitions');
VecsyncNode::in_step($node, 'pieces_chunks', 'chunk', 'and the chunks');
is(sql(q{SELECT string_agg(problem, ', ') FROM vecsync.vectorizer v, vecsync.verify(v.name) WHERE v.retired IS NULL}), '', 'verify finds nothing');
is(sql(q{SELECT key->>'id' FROM vecsync.search('docs', 'after 55', top_k => 1, namespace => 'en')}), '55', 'searches find');
is(sql(q{SELECT vecsync.create_vectorizer('parts', 'next', 'body', name => 'more', destination => 'column:more'); SELECT vecsync.wait('more'); SELECT count(more) FROM parts}),
	"more\nt\n" . sql('SELECT count(*) FROM parts'), 'a new vectorizer');
sound();
$service->stop;
$node->stop;
done_testing();
