# The fake service of test/server, started and scripted from a TAP test.
#
#   my $service = FakeService->new(dims => 8, rules => [ { when => { request => 1 }, status => 503 } ]);
#   $service->url                      http://127.0.0.1:PORT/v1/embeddings; ->url('ollama'), 'tei', 'cohere',
#                                      'rerank', 'tei-rerank', 'chat'
#   $service->scenario(dims => 8)      replaces the scenario and counts anew
#   $service->stats->{requests}        what was seen since
#   $service->wait_for(sub { $_[0]->{hanging} == 1 }, 30)    polls the stats; undef after 30 s, or
#                                      PG_TEST_TIMEOUT_DEFAULT if that is more
#   $service->release                  lets hanging requests go on
#   $service->log                      one hash for each finished request
#   $service->kill; $service->start    kill -9, and the same port again; ->stop ends it in good order
#   FakeService->sql, ->sql_vector     expected_array(), expected_vector() for a database
#
# Keys that are no scenario: _tls => 1 (then ->tls_url and ->ca_file), _tls_host => NAME in the certificate.
# The service ends with the test, however the test ends.

package FakeService;

use strict;
use warnings FATAL => 'all';

use Carp qw(croak);
use File::Basename qw(dirname);
use File::Spec;
use File::Temp;
use HTTP::Tiny;
use JSON::PP;
use POSIX qw(WNOHANG _exit);
use Time::HiRes qw(sleep time);

my $server = File::Spec->rel2abs(dirname(__FILE__) . '/../../server');
my $json = JSON::PP->new->utf8->canonical->allow_nonref;

my %path = (
	openai => '/v1/embeddings',
	ollama => '/api/embed',
	tei => '/embed',
	cohere => '/v2/embed',
	rerank => '/v2/rerank',
	'tei-rerank' => '/rerank',
	chat => '/v1/chat/completions');

sub python
{
	return $ENV{VECSYNC_PYTHON} || croak 'VECSYNC_PYTHON is not set';
}

sub new
{
	my ($class, %scenario) = @_;
	my $self = bless { port => 0, owner => $$, folder => File::Temp->newdir('fakeXXXXXX', TMPDIR => 1) }, $class;
	$self->{tls} = delete $scenario{_tls};
	$self->{tls_host} = delete $scenario{_tls_host};
	$self->{spec} = {%scenario};
	$self->start;
	return $self;
}

# On the port it had before, if there was one.
sub start
{
	my ($self) = @_;
	my $folder = $self->{folder}->dirname;
	my @command = (python(), "$server/fake_service.py", '--port', $self->{port}, '--port-file', "$folder/port",
		'--scenario', "$folder/scenario", '--log', "$folder/log", '--parent', $$);
	push @command, '--tls', "$folder/tls" if $self->{tls};
	push @command, '--tls-host', $self->{tls_host} if $self->{tls_host};
	_write("$folder/scenario", $json->encode($self->{spec}));
	unlink "$folder/port";
	my $pid = fork() // croak "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', File::Spec->devnull or _exit(1);
		open STDOUT, '>>', "$folder/out" or _exit(1);
		open STDERR, '>&', \*STDOUT or _exit(1);
		$ENV{PYTHONDONTWRITEBYTECODE} = 1;
		exec { $command[0] } @command or _exit(1);
	}
	$self->{pid} = $pid;
	my $until = time + 60;
	until (-s "$folder/port")
	{
		my $gone = waitpid($pid, WNOHANG) == $pid;
		$self->{pid} = undef if $gone;
		croak "the fake service did not start: " . _read("$folder/out") if $gone || time > $until;
		sleep 0.02;
	}
	($self->{port}, $self->{tls_port}) = split ' ', _read("$folder/port");
	return;
}

sub port { return $_[0]{port} }
sub ca_file { return $_[0]{folder}->dirname . '/tls/ca.pem' }

sub url
{
	my ($self, $dialect) = @_;
	return "http://127.0.0.1:$self->{port}" . ($path{ $dialect || 'openai' } || croak "no dialect $dialect");
}

sub tls_url
{
	my ($self, $dialect) = @_;
	return "https://127.0.0.1:$self->{tls_port}" . ($path{ $dialect || 'openai' } || croak "no dialect $dialect");
}

sub _control
{
	my ($self, $method, $what, $content) = @_;
	my $answer = HTTP::Tiny->new(timeout => 180)->request($method, "http://127.0.0.1:$self->{port}$what",
		defined $content ? { content => $json->encode($content) } : {});
	croak "fake service, $method $what: $answer->{status} $answer->{content}" unless $answer->{success};
	return $json->decode($answer->{content});
}

sub scenario
{
	my ($self, %scenario) = @_;
	$self->{spec} = {%scenario};
	$self->_control('POST', '/scenario', $self->{spec});
	return;
}

sub stats { return $_[0]->_control('GET', '/stats') }
sub release { return $_[0]->_control('POST', '/release', {})->{released} }

# True once the condition holds for the stats; false after the timeout (seconds).
sub wait_for
{
	my ($self, $condition, $timeout) = @_;
	my $most = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;
	my $until = time + ($timeout && $timeout > $most ? $timeout : $most);
	while (1)
	{
		my $stats = $self->stats;
		return $stats if $condition->($stats);
		return if time > $until;
		sleep 0.01;
	}
}

sub log
{
	my ($self) = @_;
	my $file = $self->{folder}->dirname . '/log';
	return -e $file ? map { $json->decode($_) } split /\n/, _read($file) : ();
}

sub kill { return $_[0]->_end('KILL') }
sub stop { return $_[0]->_end('TERM') }

sub _end
{
	my ($self, $signal) = @_;
	my $pid = delete $self->{pid} or return;
	local ($?, $!);
	CORE::kill $signal, $pid;
	my $until = time + 10;
	until (waitpid($pid, WNOHANG))
	{
		CORE::kill 'KILL', $pid if time > $until;
		sleep 0.01;
	}
	return;
}

sub _sql
{
	my ($name) = @_;
	open my $pipe, '-|', python(), '-c', "import sys; sys.path.insert(0, '$server'); import expected; print(expected.$name)"
		or croak "python: $!";
	local $/;
	my $sql = <$pipe>;
	close $pipe or croak 'python failed';
	return $sql;
}

# expected_array(text, dims, key DEFAULT '') RETURNS real[]
sub sql { return _sql('SQL') }

# The same as a vector; needs sql() first and the extension.
sub sql_vector { return _sql('SQL_VECTOR') }

sub _read
{
	open my $f, '<', $_[0] or return '';
	local $/;
	return scalar <$f> // '';
}

sub _write
{
	open my $f, '>', $_[0] or croak "$_[0]: $!";
	print $f $_[1];
	close $f or croak "$_[0]: $!";
	return;
}

sub DESTROY
{
	my ($self) = @_;
	$self->stop if $self->{owner} == $$;    # not in a forked child
	return;
}

1;
