# A short soak, with changes of models: test/soak/README.md.  SOAK_SEED chooses another; "make soak SEED=n" runs one longer.

use strict;
use warnings FATAL => 'all';

use File::Temp;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = File::Temp->newdir('soakXXXXXX', TMPDIR => 1);
$ENV{GENERATIONS} = 1;
my ($bindir) = run_command([ 'pg_config', '--bindir' ]);
my ($out, $err) = run_command([
	$ENV{VECSYNC_PYTHON}, '-B', "$ENV{VECSYNC_TREE}/test/soak/soak.py", '--bindir', $bindir, '--folder', "$folder/run",
	'--duration', '12', '--pause', '1.5', '--sessions', '3', '--seed', $ENV{SOAK_SEED} // 1 ]);
note($out);
like($out, qr/^lost 0 duplicate 0 wrong 0 orphan 0 stale 0 \(rows [1-9]\d*, changes [1-9]\d*, faults \d+, kills \d+\)$/m, 'everything is in step')
	or diag("$out\n$err");
unlike($out, qr/moved for|terminated by signal|the audit|verify of|no table had/, 'all of it came to rest, nothing crashed, and the audit sees what is wrong');
done_testing();
