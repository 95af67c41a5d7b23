# Searches where vecsync is not preloaded: no worker, no shared query cache, and still every answer.

use strict;
use warnings FATAL => 'all';

use FakeService;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $service = FakeService->new(dims => 8);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
sub sql { return $node->safe_psql('postgres', join('; ', @_)) }
my $url = $service->url;
sql('CREATE EXTENSION vecsync CASCADE', 'CREATE EXTENSION pg_trgm', FakeService->sql, FakeService->sql_vector,
	qq{SELECT vecsync.create_model('m', url => '$url', model => 'fake')});
is(sql('SELECT dimensions FROM vecsync.model'), 8, 'a model is asked for its dimensions');

# Vectors that are there already are searched.
sql(q{CREATE TABLE items (id int PRIMARY KEY, body text, cat int, embedding vector(8)); INSERT INTO items SELECT i, 'item ' || i, i % 3, expected_vector('item ' || i, 8) FROM generate_series(1, 200) i},
	q{SELECT vecsync.create_vectorizer('items', model => 'm', content => 'body', text_config => 'simple', enqueue_existing => false)});
is(sql(q{SELECT key, score FROM vecsync.search('items', 'item 7', top_k => 1)}), '{"id": 7}|1', 'search by text');
is(sql(q{SELECT count(*), bool_and((metadata->>'cat')::int = 1) FROM vecsync.search('items', 'item 7', top_k => 100, filter => '{"cat": 1}', return_metadata => 'all')}), '67|t', 'with a filter');
is(sql(q{SELECT key FROM vecsync.search('items', 'itm 42', mode => 'hybrid', top_k => 1, vector_weight => 0.1)}) =~ /42/ ? 1 : 0, 1, 'hybrid');
is(sql(q{SELECT key FROM vecsync.similar('items', '7', top_k => 1)}), sql(q{SELECT jsonb_build_object('id', id) FROM items WHERE id <> 7 ORDER BY embedding <=> (SELECT embedding FROM items WHERE id = 7), id LIMIT 1}), 'similar rows');
is(sql(q{SELECT label FROM vecsync.classify('items', '7', '{x,item 7}') LIMIT 1}), 'item 7', 'labels');
is(sql(q{SELECT count(*) FROM vecsync.duplicates('items', 0.9999)}), sql(q{SELECT count(*) FROM items x JOIN items y ON x.id < y.id WHERE 1 - (x.embedding <=> y.embedding) >= 0.9999}), 'duplicates');

# Nobody would tell this session of a change of the model, so it keeps no vectors: each question is a request.
my $before = $service->stats->{requests};
is(sql(q{SELECT vecsync.embed('m', 'a question') = expected_vector('a question', 8)}), 't', 'a vector') for 1, 2;
is(sql(q{SELECT vecsync.embed('m', 'b') = vecsync.embed('m', 'b')}), 't', 'twice in a statement');
is($service->stats->{requests} - $before, 4, 'no cache: a request each time');
is(sql(q{SELECT query_cache_entries, query_cache_hits FROM vecsync.stats}), '0|0', 'and the view says so');

# What needs a worker says what is missing.
sql(q{UPDATE items SET body = 'item 7 changed' WHERE id = 7});
is(sql('SELECT worker, pending FROM vecsync.status'), 'not preloaded|1', 'the status');
my ($status, $out, $err) = $node->psql('postgres', q{SELECT vecsync.wait('items', '1s')});
like($out . $err, qr/^f$|shared_preload_libraries/, 'wait does not wait in vain for long');

# Once it is preloaded, the change that was noted is followed, and questions are kept.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'vecsync'");
$node->restart;
is(sql(q{SELECT vecsync.wait('items', '60s'); SELECT embedding = expected_vector('item 7 changed', 8) FROM items WHERE id = 7}), "t\nt", 'preloaded: what was noted before is done');
$before = $service->stats->{requests};
sql(q{SELECT vecsync.embed('m', 'kept')}) for 1, 2;
is($service->stats->{requests} - $before, 1, 'and a question is asked once');

# A standby answers by text, with a cache of its own, and writes nothing.
$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 5\nwal_keep_size = '64MB'\nlisten_addresses = ''");
$node->append_conf('pg_hba.conf', 'local replication all trust');
$node->restart;
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is($standby->safe_psql('postgres', q{SELECT key, score FROM vecsync.search('items', 'item 9', top_k => 1, filter => '{"cat": 0}')}), '{"id": 9}|1', 'search by text on a standby');

# An unlogged table has no rows there, and no files.
sql(q{CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, body text); INSERT INTO fleeting VALUES (1, 'here')},
	q{SELECT vecsync.create_vectorizer('fleeting', model => 'm', content => 'body')});
is(sql(q{SELECT vecsync.wait('fleeting', '180s')}), 't', 'an unlogged table');
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is($standby->safe_psql('postgres', q{SELECT vectorizer, rows, embedded FROM vecsync.status ORDER BY 1}), "fleeting|0|0\nitems|200|200", 'the status of a standby');
is($standby->safe_psql('postgres', q{SET work_mem = '64kB'; SELECT count(*) FROM vecsync.clusters('items', 0.9)}), '200', 'clusters on a standby');

$standby->stop;
$node->stop;
done_testing();
