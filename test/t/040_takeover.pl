# Databases made with pgvector: a dump restores, index files that it wrote are refused until rebuilt, a whole data
# directory is taken over and given back.  The last needs a server with pgvector in it (VECSYNC_PEER, test/run.sh).
use strict;
use warnings FATAL => 'all';

use IO::Uncompress::Gunzip qw(gunzip);
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $compat = "$ENV{VECSYNC_TREE}/test/compat";
my %conf = (autovacuum => 'off', fsync => 'off');

sub configure
{
	my ($node) = @_;
	$node->append_conf('postgresql.conf', join '', map { "$_ = $conf{$_}\n" } sort keys %conf);
}

# The answers as sequential scans give them; those about a table that has no rows here are left out.
sub same_answers
{
	my ($node, $name) = @_;
	my $where = $node->safe_psql('postgres', 'SELECT EXISTS (SELECT FROM app.large)') eq 't' ? '' : "WHERE name NOT LIKE 'large%'";
	is($node->safe_psql('postgres', qq{
		SET enable_indexscan = off; SET search_path = app, public;
		CREATE TEMPORARY TABLE now AS TABLE answers;
		SELECT string_agg(name, ', ') FROM (
			(TABLE expected EXCEPT TABLE now) UNION (TABLE now EXCEPT TABLE expected)) x $where}), '', "$name: every answer is the same");
	is($node->safe_psql('postgres', "SELECT count(*) FROM app.expected"), '14', "$name: answers to compare with");
}

# Each index in turn is the only one there is, and finds the nearest row.
my %search = (
	items_l2 => 'embedding <->', items_ip => 'embedding <#>', items_cosine => 'embedding <=>', items_l1 => 'embedding <+>',
	items_half => 'half <->', items_sparse => 'sparse <=>', items_hamming => 'bits <~>', items_jaccard => 'bits <%>',
	items_lists => 'embedding <->', items_half_lists => 'half <=>', items_bit_lists => 'bits <~>',
	items_quantized => 'binary_quantize(embedding)::bit(24) <~>', items_halved => 'embedding::halfvec(24) <#>',
	items_front => 'subvector(embedding, 1, 8)::vector(8) <->');

sub indexes_serve
{
	my ($node, $name) = @_;
	my @wrong;
	for my $index (sort keys %search)
	{
		my ($expression, $operator) = $search{$index} =~ /^(.*) (\S+)$/;
		my $where = $index eq 'items_front' ? 'WHERE id < 100' : '';
		my $query = "SELECT round(($expression $operator q)::numeric, 3) FROM app.items $where ORDER BY $expression $operator q LIMIT 3";
		my $value = $node->safe_psql('postgres', "SELECT $expression FROM app.items WHERE id = 7");
		my $type = $node->safe_psql('postgres', "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'app.$index'::regclass");
		$query =~ s/\bq\b/'$value'::$type/g;
		my $exact = $node->safe_psql('postgres', "SET enable_indexscan = off; $query");
		my $others = join ', ', map { "app.$_" } grep { $_ ne $index } sort keys %search;
		my $found = $node->safe_psql('postgres', qq{
			SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off; SET ivfflat.probes = 10; BEGIN; DROP INDEX $others;
			EXPLAIN (COSTS OFF) $query; $query; ROLLBACK});
		push @wrong, "$index: $found, not $exact" if $found !~ /Index Scan using $index .*\n\Q$exact\E$/s;
	}
	is(join("\n", @wrong), '', "$name: each index serves its operator");
	is($node->safe_psql('postgres', q{SET enable_seqscan = off; SELECT id FROM app.items WHERE embedding = (SELECT embedding FROM app.items WHERE id = 9)}),
		'9', "$name: the B-tree finds");
}

# Every way to touch an index that pgvector wrote, and the tables that stay usable beside it.
sub refused
{
	my ($node, $table, $index) = @_;
	my $column = $table eq 'parted_a' ? 'vector(8)' : 'vector(3)';
	my ($n) = $column =~ /(\d)/;
	my $operator = $table eq 'parted_a' ? '<=>' : '<->';
	my $some = '[' . join(',', (1) x $n) . ']';
	my %statement = (
		scan => "SET enable_seqscan = off; SELECT id FROM app.$table ORDER BY embedding $operator '$some' LIMIT 1",
		insert => "INSERT INTO app.$table (id, embedding" . ($n == 8 ? ', kind' : '') . ") VALUES (1000, '$some'" . ($n == 8 ? ", 'a'" : '') . ')',
		update => "UPDATE app.$table SET embedding = '$some' WHERE id = (SELECT min(id) FROM app.$table)",
		vacuum => "VACUUM app.$table");
	$node->safe_psql('postgres', "DELETE FROM app.$table WHERE id = 3");
	my $rows = $node->safe_psql('postgres', "SELECT count(*) FROM app.$table");
	for my $kind (sort keys %statement)
	{
		my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement{$kind}");
		like($err, qr/ERROR:  55000: index "$index" was built by pgvector.*HINT:  Rebuild it with REINDEX INDEX\./s, "$index: $kind is refused");
	}
	is($node->safe_psql('postgres', "SET enable_indexscan = off; SELECT count(*) FROM app.$table"), $rows, "$index: nothing is lost");
	is($node->safe_psql('postgres', "ANALYZE app.$table; VACUUM (INDEX_CLEANUP off) app.$table; SELECT 1"), '1', "$index: what needs no index works");
}

# --- a dump, and index files --------------------------------------------------------------------------------------

my $node = PostgreSQL::Test::Cluster->new('ours');
# pages are overwritten below
$node->init(no_data_checksums => 1);
configure($node);
$node->start;
$node->command_ok(['psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$compat/pgvector_0.8.6_dump.sql"],
	'a dump from pgvector restores');
same_answers($node, 'dump');
indexes_serve($node, 'dump');
is($node->safe_psql('postgres', "SELECT reloptions FROM pg_class WHERE relname = 'items_ip'"), '{m=8}', 'with the options of indexes');

my %file = map { $_ => $node->data_dir . '/' . $node->safe_psql('postgres', "SELECT pg_relation_filepath('app.$_')") } qw(small_hnsw few_ivfflat);
$node->stop;
my %bytes = slurp_file("$compat/pgvector_0.8.6_index.txt") =~ /^(small_hnsw|few_ivfflat)\n((?:[\w+\/=]+\n)+?)(?=few_|\z)/mg;
for my $index (sort keys %file)
{
	my $packed = decode_base64($bytes{$index});
	gunzip(\$packed => \my $pages) or die;
	open my $handle, '>:raw', $file{$index} or die;
	print $handle $pages;
	close $handle;
}
$node->start;
refused($node, 'small', 'small_hnsw');
refused($node, 'few', 'few_ivfflat');
$node->safe_psql('postgres', 'REINDEX INDEX app.small_hnsw; REINDEX INDEX CONCURRENTLY app.few_ivfflat');
is($node->safe_psql('postgres', q{SELECT count(*) FROM vector_index_check('app.small_hnsw')}), '0', 'REINDEX makes it ours');
for my $table (qw(small few))
{
	is($node->safe_psql('postgres', qq{SET enable_seqscan = off; SELECT id FROM app.$table ORDER BY embedding <-> app.list(5, 3)::vector LIMIT 1}),
		'5', "and $table is searched");
	$node->safe_psql('postgres', "VACUUM app.$table");
}

# --- a catalog of pgvector, and back ------------------------------------------------------------------------------

my (undef, undef, $warning) = $node->psql('postgres', q{ALTER EXTENSION vector UPDATE TO '0.8.6'; ALTER EXTENSION vector UPDATE});
like($warning, qr/WARNING:  indexes built by pgvector must be rebuilt.*app\.items_l2, app\.items_lists,.*REINDEX INDEX/s, 'the update names the indexes');
same_answers($node, 'updated twice');
$node->safe_psql('postgres', 'CREATE INDEX by_hash ON app.small USING hash (embedding)');
(undef, undef, my $hindered) = $node->psql('postgres', q{ALTER EXTENSION vector UPDATE TO '0.8.6'});
like($hindered, qr/cannot drop operator family.*index app\.by_hash depends/s, 'the way back names what is in the way');
(undef, undef, my $unknown) = $node->psql('postgres', q{UPDATE pg_extension SET extversion = '0.6.2' WHERE extname = 'vector'; ALTER EXTENSION vector UPDATE});
like($unknown, qr/extension "vector" has no update path from version "0\.6\.2" to version "1\.0\.0"/, 'a version without a path');
$node->stop;

# --- headers ------------------------------------------------------------------------------------------------------

my $config = sub { chomp(my $line = `pg_config --$_[0]`); return $line };
my $object = PostgreSQL::Test::Utils::tempdir() . '/header_user.so';
$node->start;
command_ok([qw(gcc -shared -fPIC -O1 -Wall -Wextra -Wno-unused-parameter -Werror), '-I' . $config->('includedir-server'),
	'-I' . $config->('includedir-server') . '/extension/vector', '-o', $object, "$compat/header_user.c"], 'an extension compiles against the headers');
is($node->safe_psql('postgres', qq{
	CREATE FUNCTION user_reverse(vector) RETURNS vector LANGUAGE c STRICT AS '$object';
	CREATE FUNCTION user_halves(halfvec) RETURNS halfvec LANGUAGE c STRICT AS '$object';
	CREATE FUNCTION user_every_other(sparsevec) RETURNS sparsevec LANGUAGE c STRICT AS '$object';
	SELECT user_reverse('[1,2,3.5]'), user_halves('[1,2,3,4]'), user_every_other('{1:5,4:6,7:8}/10')}), '[3.5,2,1]|[3,4]|{1:5,7:8}/20', 'and works');
is($node->safe_psql('postgres', 'SELECT user_reverse(user_reverse(w)) = w FROM (SELECT array_agg(i)::vector AS w FROM generate_series(1, 16000) i) x'), 't',
	'with long values');
$node->stop;

# --- a data directory ---------------------------------------------------------------------------------------------

SKIP:
{
	my $install = $ENV{VECSYNC_PEER};
	skip "no server with pgvector: PGVECTOR=archive, or the package postgresql-NN-pgvector", 1 unless $install;
	my $peer = PostgreSQL::Test::Cluster->new('peer', install_path => $install);
	my ($share, $library) = map { chomp(my $line = `$install/bin/pg_config --$_`); $line } qw(sharedir pkglibdir);
	my ($our_share, $our_library) = map { $config->($_) } qw(sharedir pkglibdir);
	# put our files, or pgvector's, where that server looks
	my $saved = PostgreSQL::Test::Utils::tempdir();
	system_or_bail("cp $library/vector.so $share/extension/vector.control $share/extension/vector--*.sql $saved/");
	my $ours_in = sub { system_or_bail("rm -f $share/extension/vector* $library/vector.so && cp $our_share/extension/vector* $share/extension/ && cp $our_library/vector.so $library/") };
	my $theirs_in = sub { system_or_bail("rm -f $share/extension/vector* $library/vector.so && cp $saved/vector.control $saved/vector--*.sql $share/extension/ && cp $saved/vector.so $library/") };

	$peer->init;
	configure($peer);
	$peer->start;
	my $version = $peer->safe_psql('postgres', q{SELECT default_version FROM pg_available_extensions WHERE name = 'vector'});
	$peer->command_ok(['psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $peer->connstr('postgres'), '-f', "$compat/pgvector_database.sql"],
		"a database made with pgvector $version");
	$peer->stop;
	$ours_in->();
	$peer->start;
	# before the update already: the same names of functions
	same_answers($peer, 'library replaced');
	refused($peer, 'small', 'small_hnsw');
	refused($peer, 'few', 'few_ivfflat');
	refused($peer, 'parted_a', 'parted_a_embedding_idx');
	refused($peer, 'fleeting', 'fleeting_hnsw');
	(undef, undef, $warning) = $peer->psql('postgres', 'ALTER EXTENSION vector UPDATE');
	like($warning, qr/WARNING:  indexes built by pgvector must be rebuilt.*app\.items_l2/s, 'the update names the indexes');
	is($peer->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'vector'}), '1.0.0', 'updated');
	same_answers($peer, 'updated');
	$peer->safe_psql('postgres', 'REINDEX SCHEMA app; VACUUM');
	indexes_serve($peer, 'rebuilt');
	is($peer->safe_psql('postgres', q{SELECT string_agg(p, ', ') FROM pg_class c JOIN pg_am a ON a.oid = relam, vector_index_check(c.oid) p
		WHERE amname = 'hnsw' AND relkind = 'i'}), '', 'every index is sound');
	$peer->safe_psql('postgres', q{INSERT INTO app.items (id, half, sparse, bits) SELECT 1001, half, sparse, bits FROM app.items WHERE id = 1
		ON CONFLICT DO NOTHING; UPDATE app.items SET half = half WHERE id = 5; DELETE FROM app.items WHERE id = 6; VACUUM app.items});
	is($peer->safe_psql('postgres', 'SELECT any_vector = subvector(embedding, 1, 4) FROM app.items WHERE id = 5'), 't', 'triggers and functions go on');

	# and back: what we wrote, pgvector reads
	$peer->safe_psql('postgres', q{CREATE TABLE app.written AS SELECT id, embedding + embedding AS v, half, sparse, vector_send(embedding + embedding) AS vb,
		halfvec_send(half) AS hb, sparsevec_send(sparse) AS sb FROM app.items; CREATE TABLE app.again AS TABLE app.large;
		DROP TABLE app.expected; SET enable_indexscan = off; CREATE TABLE app.expected AS TABLE app.answers;
		ALTER EXTENSION vector UPDATE TO '0.8.6'});
	$peer->stop;
	$theirs_in->();
	$peer->start;
	for my $table (qw(small few))
	{
		my (undef, undef, $err) = $peer->psql('postgres', "SET enable_seqscan = off; SELECT id FROM app.$table ORDER BY embedding <-> '[1,1,1]' LIMIT 1");
		like($err, qr/ERROR:.*index is not valid/, "$table: pgvector refuses our index");
	}
	$peer->safe_psql('postgres', 'REINDEX SCHEMA app; VACUUM ANALYZE');
	same_answers($peer, 'back with pgvector');
	indexes_serve($peer, 'back with pgvector');
	is($peer->safe_psql('postgres', q{SELECT count(*) FROM app.written WHERE vector_send(v) <> vb OR halfvec_send(half) <> hb OR sparsevec_send(sparse) <> sb}), '0',
		'values written here are read there');
	is($peer->safe_psql('postgres', q{SELECT count(*) FROM app.again JOIN app.large USING (id) WHERE again.w = large.w AND again.h = large.h AND again.s = large.s}), '3',
		'long ones, too');
	$peer->stop;
}
done_testing();
