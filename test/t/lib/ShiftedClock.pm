# A clock that a test sets forward and back: a library in front of the C library's clock adds what a file says.
#
#   my $clock = ShiftedClock->new or plan skip_all => 'there is no C compiler';
#   $clock->start($node);              the server's processes go by it
#   $clock->shift(-36000);             so many seconds from the true time

package ShiftedClock;

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;

sub write_file
{
	my ($path, $mode, $content) = @_;
	open my $f, $mode, $path or die "$path: $!";
	binmode $f;
	print $f $content;
	close $f or die "$path: $!";
	return;
}

sub new
{
	my ($class) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $self = bless { library => "$folder/clock.so", offset => "$folder/offset" }, $class;
	write_file("$folder/clock.c", '>', <<'C');
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
	write_file($self->{offset}, '>', pack('q', 0));
	return if system("cc -shared -fPIC -o $self->{library} $folder/clock.c -ldl 2>$folder/clock.log") != 0;
	return $self;
}

sub start
{
	my ($self, $node) = @_;
	local $ENV{LD_PRELOAD} = $self->{library};
	local $ENV{CLOCK_OFFSET} = $self->{offset};
	$node->start;
	return;
}

sub shift
{
	my ($self, $seconds) = @_;
	write_file($self->{offset}, '+<', pack('q', $seconds));
	return;
}

1;
