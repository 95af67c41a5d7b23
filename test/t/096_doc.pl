# Every block of SQL in the manual runs, and gives the answers that stand below it.

use strict;
use warnings FATAL => 'all';

use FakeService;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'vecsync'\nmax_worker_processes = 32");
$node->start;
my $service = FakeService->new(dims => 16);
my %url = ('http://127.0.0.1:8089/v1/embeddings' => $service->url, 'http://127.0.0.1:8089/rerank' => $service->url('rerank'),
	'http://127.0.0.1:8089/v1/chat/completions' => $service->url('chat'));

for my $page (sort glob "$ENV{VECSYNC_TREE}/doc/*.md")
{
	my ($name) = $page =~ m{(\w+)\.md$};
	my @blocks = slurp_file($page) =~ /^```sql\n(.*?)^```/msg;
	next unless @blocks;
	$node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE template0");
	for my $i (0 .. $#blocks)
	{
		my $block = $blocks[$i];
		my @wanted = $block =~ /^-- => ?(.*)$/mg;
		$block =~ s/\Q$_\E/$url{$_}/g for keys %url;
		my ($status, $out, $err) = $node->psql($name, $block, on_error_stop => 1);
		is($status, 0, "$name: block " . ($i + 1) . ' runs') or diag($err);
		is($out, join("\n", @wanted), "$name: block " . ($i + 1) . ' answers') if @wanted;
	}
}

$node->stop;
done_testing();
