# What hangs on a vectorizer's column when a new generation takes its place: indexes, options, views, partitions,
# commands on the table, dumps, standbys.

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

my ($node, $service) = VecsyncNode::start(dims => 8, scenario => { dims => 8, key => '$model' },
	init => { allows_streaming => 1 }, conf => [ 'max_wal_senders = 4', 'wal_keep_size = 256' ]);

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub fails { return VecsyncNode::fails($node, @_) }

# Begin a change of the table's vectorizer to that model, and wait until it serves.
sub change
{
	my ($table, $model, $what) = @_;
	my $next = 1 + sql("SELECT generation FROM vecsync.vectorizer WHERE name = '$table'");
	sql("SELECT vecsync.alter_vectorizer('$table', '{\"model\": \"$model\"}')");
	my $ok = ok(VecsyncNode::poll($node, "SELECT generation FROM vecsync.vectorizer WHERE name = '$table'", $next, 120), $what);
	VecsyncNode::report($node) unless $ok;
	return;
}

sub all_of
{
	my ($model, $table, $text, $what) = @_;
	VecsyncNode::settle($node, $table);
	is(sql("SELECT count(*) FILTER (WHERE embedding IS DISTINCT FROM expected_vector($text, 8, '$model')) || ' of ' || count(*) FROM $table"),
		'0 of ' . sql("SELECT count(*) FROM $table"), $what);
	return;
}

sub no_retired { return ok(VecsyncNode::poll($node, 'SELECT count(*) FROM vecsync.vectorizer WHERE retired IS NOT NULL', '0', 60), $_[0]) }

sql("SELECT vecsync.create_model('$_', url => '" . $service->url . "', model => '$_', dimensions => 8)") for qw(one two three);

# ---- indexes and options of the column --------------------------------------------------------
sql(q{CREATE TABLE docs (id int PRIMARY KEY, title text);
	INSERT INTO docs SELECT i, 'title ' || i FROM generate_series(1, 40) i;
	SELECT vecsync.create_vectorizer('docs', model => 'one', content => 'title', index => '{"method": "none"}');
	CREATE INDEX docs_near ON docs USING hnsw (embedding vector_cosine_ops) WITH (m = 10) WHERE embedding IS NOT NULL AND id > 0;
	CREATE INDEX docs_far ON docs USING ivfflat (embedding vector_l2_ops) WITH (lists = 3);
	CREATE INDEX docs_some ON docs USING ivfflat (embedding vector_cosine_ops) WITH (lists = 2) WHERE id < 10;
	ALTER TABLE docs ALTER embedding SET STORAGE PLAIN, ALTER embedding SET STATISTICS 77, ALTER embedding SET (n_distinct = -0.5);
	COMMENT ON COLUMN docs.embedding IS 'what it means'});
VecsyncNode::settle($node, 'docs');
my $described = q{SELECT (SELECT string_agg(pg_get_indexdef(indexrelid), '; ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = 'docs'::regclass), a.attstorage, a.attstattarget, (SELECT o FROM unnest(a.attoptions) o WHERE o ~ 'n_distinct'), col_description(a.attrelid, a.attnum)
	FROM pg_attribute a WHERE attrelid = 'docs'::regclass AND attname = 'embedding'};
# what is retired meanwhile keeps its own, under names of ours, until it is dropped
my $serving = $described =~ s/(WHERE indrelid = 'docs'::regclass)/$1 AND indexrelid::regclass::text !~ '^vecsync_'/r;
my $before = sql($described);
like($before, qr/embedding IS NOT NULL.*\|p\|77\|.*what it means/s, 'before the change');
change('docs', 'two', 'indexes on the vectors are no obstacle, partial ones neither');
is(sql($serving), $before, 'indexes keep names, methods and conditions, the column its options');
no_retired('the old column goes');
is(sql($described), $before, 'and takes nothing with it');
all_of('two', 'docs', 'title', 'the vectors are the new ones');

# ---- refused ------------------------------------------------------------------------------------
fails(q{SELECT vecsync.alter_vectorizer('docs', NULL)}, qr/22004/, 'no options');
fails(q{SELECT vecsync.alter_vectorizer('docs', '{"model": {"name": "one"}}')}, qr/22023.*invalid option "model"/s, 'an option of another type');
is(sql('SELECT count(*) FROM vecsync.vectorizer'), '1', 'nothing began');

# ---- a transaction with an old view of the catalog -----------------------------------------------
my $old = VecsyncNode::session($node, on_error_stop => 0);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
change('docs', 'three', 'changed meanwhile');
$old->query(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "one"}')});
like($old->{stderr}, qr/could not serialize/, 'a change of what is not the serving generation any more');
$old->{stderr} = '';
$old->query_safe('ROLLBACK');
no_retired('gone with the snapshot');
sql(q{CREATE TABLE brief (id int PRIMARY KEY, title text); INSERT INTO brief VALUES (1, 'brief');
	SELECT vecsync.create_vectorizer('brief', model => 'one', content => 'title', name => 'column');
	SELECT vecsync.create_vectorizer('brief', model => 'one', content => 'title', name => 'chunks', chunking => '{"method": "words", "size": 3}')});
VecsyncNode::settle($node, $_) for qw(column chunks);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{SELECT vecsync.drop_vectorizer(name, keep_data => false) FROM unnest('{column,chunks}'::text[]) name});
is($old->query_safe(q{SELECT string_agg(vectorizer || ' ' || rows || ' ' || embedded, ', ' ORDER BY vectorizer) FROM vecsync.status WHERE source = 'brief'::regclass}),
	'chunks 1 0, column 1 0', 'the status of vectorizers that were dropped since');
$old->query_safe('ROLLBACK; DROP TABLE brief');
$old->quit;

# ---- new types while a change is under way, and while the old generation is still seen ---------------
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "one"}', cutover => 'manual')});
VecsyncNode::settle($node, $_) for 'docs', 'generation 4 of docs';
sql(q{ALTER TABLE docs ALTER title TYPE varchar(100), ALTER id TYPE bigint});
sql(q{UPDATE docs SET title = title || '!' WHERE id < 10});
VecsyncNode::settle($node, $_) for 'docs', 'generation 4 of docs';
my $reader = VecsyncNode::session($node);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{SELECT vecsync.cutover('docs')});
sql(q{ALTER TABLE docs ALTER title TYPE text});
sql(q{UPDATE docs SET title = title || '?' WHERE id < 5});
all_of('one', 'docs', 'title', 'new types in the middle of a change');
is(sql(q{SELECT count(*) FROM vecsync.queue}), '0', 'nothing is queued for the retired generation');
$reader->query_safe('COMMIT');
$reader->quit;
no_retired('it goes');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass AND NOT tgisinternal}), '3', 'with its triggers');

# ---- who waits for a row at the cut-over waits until it has the new vector ----------------------------
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "two"}', cutover => 'manual')});
VecsyncNode::settle($node, $_) for 'docs', 'generation 5 of docs';
$service->scenario(dims => 8, key => '$model', rules => [ { when => { text => 'late' }, hang => JSON::PP::true } ]);
sql(q{INSERT INTO docs VALUES (1000, 'late')});
my ($waited, $complaints) = ('', '');
my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', q{SELECT vecsync.wait('docs', '120 s')},
	'-c', q{SELECT embedding = expected_vector('late', 8, 'two') FROM docs WHERE id = 1000}, 'postgres' ], '<', \undef, '>', \$waited, '2>', \$complaints);
VecsyncNode::poll($node, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT vecsync.wait' AND wait_event_type = 'Extension'}, '1');
sql(q{SELECT vecsync.cutover('docs')});
$service->scenario(dims => 8, key => '$model');
$service->release;
$waiting->finish;
is("$waited$complaints", "t\nt\n", 'a wait goes on over the cut-over');
sql(q{DELETE FROM docs WHERE id = 1000});
no_retired('the generation that was waited for goes');

# ---- partitions -------------------------------------------------------------------------------------
sql(q{CREATE TABLE parts (id int PRIMARY KEY, title text) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
	INSERT INTO parts SELECT i, 'title ' || i FROM generate_series(50, 149) i;
	SELECT vecsync.create_vectorizer('parts', model => 'one', content => 'title');
	CREATE INDEX parts_2_own ON parts_2 USING hnsw (embedding vector_l2_ops);
	CREATE ROLE reader; GRANT SELECT (embedding) ON parts_1 TO reader;
	CREATE VIEW near_1 AS SELECT id, embedding FROM parts_1});
VecsyncNode::settle($node, 'parts');
fails(q{SELECT vecsync.alter_vectorizer('parts', '{"model": "two"}')}, qr/2BP01.*view public.near_1/s, 'a view of a partition would go on with the old vectors');
sql('DROP VIEW near_1');
my $indexes = q{SELECT string_agg(pg_get_indexdef(indexrelid), '; ' ORDER BY indexrelid::regclass::text) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
	WHERE indrelid IN ('parts'::regclass, 'parts_1'::regclass, 'parts_2'::regclass) AND NOT c.relispartition};
$before = sql($indexes);
change('parts', 'two', 'a partitioned table');
is(sql($indexes), $before, 'its indexes, and those of one partition');
is(sql(q{SET ROLE reader; SELECT count(embedding) FROM parts_1}), '50', 'grants on the column of one partition');
no_retired('partitions: the old column goes');
all_of('two', 'parts', 'title', 'partitions: the vectors are the new ones');

# ---- content that is the whole row -----------------------------------------------------------------
sql(q{CREATE TABLE papers (id int PRIMARY KEY, title text, body text);
	INSERT INTO papers SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i;
	SELECT vecsync.create_vectorizer('papers', model => 'one', content => '=to_jsonb(papers)', destination => 'table')});
VecsyncNode::settle($node, 'papers');
change('papers', 'two', 'content of the whole row');
sql(q{UPDATE papers SET body = 'changed' WHERE id = 3});
VecsyncNode::settle($node, 'papers');
is(sql(q{SELECT chunk LIKE '%changed%' AND embedding = expected_vector(chunk, 8, 'two') FROM papers_chunks WHERE id = 3}), 't', 'is followed as before');
no_retired('whole row: the old chunks go');

# ---- dropped in the middle ----------------------------------------------------------------------------
sql(q{SELECT vecsync.alter_vectorizer('papers', '{"model": "one"}', cutover => 'manual');
	SELECT vecsync.alter_vectorizer('parts', '{"model": "one"}', cutover => 'manual');
	SELECT vecsync.drop_vectorizer('papers', keep_data => false);
	SELECT vecsync.drop_vectorizer('parts')});
is(sql(q{SELECT (SELECT count(*) FROM pg_class WHERE relname ~ 'vecsync_.*papers|papers_chunks'), (SELECT count(*) FROM pg_trigger WHERE tgname ~ 'vecsync' AND tgrelid::regclass::text ~ 'pa'),
	(SELECT count(*) FROM pg_attribute WHERE attrelid = 'parts'::regclass AND attname ~ 'vecsync' AND NOT attisdropped)}), '0|0|0', 'dropped in the middle of a change: nothing is left');

sql(q{CREATE TABLE cut (id int PRIMARY KEY, title text, body text) PARTITION BY RANGE (id); CREATE TABLE cut_1 PARTITION OF cut FOR VALUES FROM (0) TO (100);
	INSERT INTO cut SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i;
	SELECT vecsync.create_vectorizer('cut', model => 'one', content => '{title} {body}');
	SELECT vecsync.create_vectorizer('cut', model => 'one', content => 'title', name => 'cut_pieces', destination => 'table')});
VecsyncNode::settle($node, $_) for 'cut', 'cut_pieces';
my $left = sub { return sql(qq{SELECT (SELECT count(*) FROM vecsync.vectorizer WHERE name ~ 'cut'), (SELECT count(*) FROM pg_trigger WHERE tgname ~ 'vecsync' AND tgrelid::regclass::text ~ 'cut'),
	(SELECT count(*) FROM pg_class WHERE relname ~ 'vecsync_.*cut|cut_pieces'), (SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'cut'::regclass AND attnum > 0 AND NOT attisdropped)}) };
$old = VecsyncNode::session($node);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
change('cut', 'two', 'a change whose old generation stays, since somebody sees it');
sql(q{SELECT vecsync.alter_vectorizer('cut', '{"model": "three"}', cutover => 'manual'), vecsync.alter_vectorizer('cut_pieces', '{"model": "two"}', cutover => 'manual')});
sql(q{ALTER TABLE cut DROP COLUMN title CASCADE});
is($left->(), '0|0|0|id body embedding', 'a used column dropped in the middle of a change takes all generations along');
$old->query_safe('COMMIT');
$old->quit;
sql(q{SELECT vecsync.create_vectorizer('cut', model => 'one', content => 'body')});
VecsyncNode::settle($node, 'cut');
sql(q{SELECT vecsync.alter_vectorizer('cut', '{"model": "two"}', cutover => 'manual'); ALTER TABLE cut DROP COLUMN embedding CASCADE});
is($left->(), '0|0|0|id body', 'and so does the column of vectors');

sql(q{CREATE TABLE pairs (id int PRIMARY KEY, title text); SELECT vecsync.create_vectorizer('pairs', model => 'one', content => 'title')});
my $changing = VecsyncNode::session($node);
$changing->query_safe(q{BEGIN; SELECT vecsync.alter_vectorizer('pairs', '{"model": "two"}', cutover => 'manual')});
$complaints = '';
my $dropping = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', q{SELECT vecsync.drop_vectorizer('pairs')}, 'postgres' ],
	'<', \undef, '>', \$waited, '2>', \$complaints);
VecsyncNode::poll($node, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT vecsync.drop' AND wait_event_type = 'Lock'}, '1');
$changing->query_safe('COMMIT');
$changing->quit;
$dropping->finish;
is($complaints . sql(q{SELECT (SELECT count(*) FROM vecsync.vectorizer WHERE name ~ 'pairs'), (SELECT count(*) FROM pg_trigger WHERE tgname ~ 'vecsync' AND tgrelid = 'pairs'::regclass),
	(SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'pairs'::regclass AND attnum > 0 AND NOT attisdropped)}),
	'0|0|id title embedding', 'dropped while somebody begins to change it: nothing is left either');

# ---- a change that commits while the drop waits for its lock ---------------------------------------
sql(q{CREATE TABLE late (id int PRIMARY KEY, title text); SELECT vecsync.create_vectorizer('late', model => 'one', content => 'title')});
my $writing = VecsyncNode::session($node);
$writing->query_safe(q{BEGIN; INSERT INTO late VALUES (1, 'late')});
$dropping = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', q{SELECT vecsync.drop_vectorizer('late')}, 'postgres' ],
	'<', \undef, '>', \$waited, '2>', \$complaints);
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT vecsync.drop' AND wait_event_type = 'Lock'}, '1', 60), 'a drop waits for a writer');
$writing->query_safe('COMMIT');
$writing->quit;
$dropping->finish;
ok(VecsyncNode::poll($node, q{SELECT count(*) FROM vecsync.queue q WHERE q.vectorizer NOT IN (SELECT id FROM vecsync.vectorizer)}, '0', 60), 'whose entry does not stay behind');

# ---- a dump is restored, which brings the queue before its vectorizers ------------------------------
my ($worker) = sql(q{SELECT pid FROM vecsync.workers WHERE database = 'postgres'});
sql(q{INSERT INTO vecsync.queue VALUES (nextval('vecsync.queue_seq'), 1000000, 'k', 1, '{1}', now())});
sql("SELECT pg_terminate_backend($worker)");
ok(VecsyncNode::poll($node, "SELECT count(*) FROM vecsync.workers WHERE database = 'postgres' AND state = 'running' AND pid <> $worker", '1', 60), 'a worker begins in between');
sql(q{CREATE TABLE meanwhile (id int PRIMARY KEY, title text); SELECT vecsync.create_vectorizer('meanwhile', model => 'one', content => 'title'); INSERT INTO meanwhile VALUES (1, 'meanwhile')});
VecsyncNode::settle($node, 'meanwhile');
is(sql(q{SELECT vecsync.drop_vectorizer('meanwhile'); DELETE FROM vecsync.queue WHERE vectorizer = 1000000 RETURNING vectorizer}), "\n1000000", 'and leaves the entries alone');

# ---- dumped in the middle --------------------------------------------------------------------------
sql(q{SELECT vecsync.alter_vectorizer('docs', '{"model": "three"}', cutover => 'manual')});
VecsyncNode::settle($node, $_) for 'docs', 'generation 6 of docs';
my $dump = $node->basedir . '/dump.sql';
my ($out, $errors) = run_command([ 'pg_dump', '-f', $dump, '-h', $node->host, '-p', $node->port, 'postgres' ]);
is($errors, '', 'pg_dump in the middle of a change has nothing to complain of');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-h', $node->host, '-p', $node->port, 'restored' ], 'the dump is restored');
$service->scenario(dims => 8, key => '$model');
$node->safe_psql('restored', q{SELECT vecsync.wait('docs', '60 s'), vecsync.wait('generation 6 of docs', '60 s')});
$node->safe_psql('restored', q{SELECT vecsync.cutover('docs')});
is($node->safe_psql('restored', q{SELECT count(*) FROM docs WHERE embedding IS DISTINCT FROM expected_vector(title, 8, 'three')}), '0', 'the change goes on in the copy');
is($service->stats->{requests}, 0, 'without embedding anything again');
$node->safe_psql('postgres', 'DROP DATABASE restored WITH (FORCE)');

# ---- a standby -----------------------------------------------------------------------------------------
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
my $session = VecsyncNode::session($standby);
my $nearest = q{SELECT bool_and(embedding = expected_vector(title, 8, '%1$s') AND vecsync.embed_for('docs', 'q') = expected_vector('q', 8, '%1$s')), count(*)
	FROM (SELECT * FROM docs ORDER BY embedding <=> vecsync.embed_for('docs', 'q') LIMIT 5) s};
my $search = q{SELECT bool_and(abs(score - (1 - ("values" <=> expected_vector('q', 8, '%1$s')))) < 1e-5), count(*) FROM vecsync.search('docs', 'q', top_k => 5, return_values => true)};
is($session->query_safe(sprintf($nearest, 'two')), 't|5', 'standby: a query of one\'s own');
is($session->query_safe(sprintf($search, 'two')), 't|5', 'standby: search');
sql(q{SELECT vecsync.cutover('docs')});
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is($session->query_safe(sprintf($nearest, 'three')), 't|5', 'standby: the question is asked of the new model, too');
is($session->query_safe(sprintf($search, 'three')), 't|5', 'standby: search has the new generation');
sql(q{CREATE TABLE other (id int)});
sql("SELECT vecsync.create_model('asked', url => '" . $service->url . "', model => 'one', dimensions => 8)");
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
my $asked = q{SELECT vecsync.embed('asked', 'q') = expected_vector('q', 8, '%s')};
is($session->query_safe(sprintf($asked, 'one')), 't', 'standby: a model');
sql(q{SELECT vecsync.alter_model('asked', '{"model": "three"}')});
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is($session->query_safe(sprintf($asked, 'three')), 't', 'standby: that is changed');
is($standby->safe_psql('postgres', sprintf($asked, 'three')), 't', 'standby: for those who come later, too');
$session->quit;
$standby->stop;
$node->stop;
done_testing();
