# The clock of the machine is set back: no pause lasts longer for it.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;
use VecsyncNode;

# A library in front of the C library's clock adds what a file says.
my $folder = PostgreSQL::Test::Utils::tempdir();
my ($source, $library, $file) = map { "$folder/$_" } qw(clock.c clock.so offset);

sub write_file
{
	my ($path, $mode, $content) = @_;
	open my $f, $mode, $path or die "$path: $!";
	binmode $f;
	print $f $content;
	close $f or die "$path: $!";
	return;
}

write_file($source, '>', <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
static volatile long long *offset;
static int (*real) (struct timeval *, void *);
__attribute__((constructor)) static void
begin(void)
{
	offset = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, open(getenv("CLOCK_OFFSET"), O_RDONLY), 0);
	real = dlsym(RTLD_NEXT, "gettimeofday");
}
int
gettimeofday(struct timeval *tv, void *tz)
{
	int result = real(tv, tz);
	tv->tv_sec += *offset;
	return result;
}
C
write_file($file, '>', pack('q', 0));
plan skip_all => 'there is no C compiler' if system("cc -shared -fPIC -o $library $source -ldl 2>$source.log") != 0;

my ($node, $service) = VecsyncNode::start(dims => 8);
$node->stop;
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{CLOCK_OFFSET} = $file;
	$node->start;
}
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql('CREATE TABLE t (id int PRIMARY KEY, body text)');
VecsyncNode::vectorizer($node, $service, 't', 'body');
$service->scenario(dims => 8, rules => [ { when => { request => [ 1, 2 ] }, status => 500 } ]);
sql(q{INSERT INTO t VALUES (1, 'after pauses')});
ok(VecsyncNode::settle($node, 't'), 'a service that pauses now and then');
my $before = sql('SELECT now()');
write_file($file, '+<', pack('q', -36000));
is(sql("SELECT now() < timestamptz '$before' - interval '9 hours'"), 't', 'it is ten hours earlier');
sql(q{INSERT INTO t VALUES (2, 'in the past')});
ok(VecsyncNode::settle($node, 't'), 'changes are embedded nevertheless');
VecsyncNode::in_step($node, 't', 'body', 'in step');

$service->stop;
$node->stop;
done_testing();
