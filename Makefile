# vecsync: two extensions, "vector" and "vecsync", from one tree.
#
#   make                 build vector.so, vecsync.so and both install scripts
#   make install         into the PostgreSQL of PG_CONFIG
#   make demo            from nothing to an answer, in a private cluster
#   make test            every test, in a private cluster
#   make test-clients    the client libraries alone, with the tools of their languages installed (root)
#   make test-matrix     every test on PostgreSQL 16, 17 and 18, in chroots (root)
#   make soak DURATION=seconds SEED=n     random work, faults and kills; then everything has to be in step
#   make bench-sync      figures of the sync, one line each
#   make bench-search    searches under filters against exact search
#   make check-style     formatting rules and the order of the rooms
#
# COPT='-Werror' turns warnings into errors; DEBUG_POINTS=1 compiles in the
# points where a test can stop or crash a process (never in a release).

EXTENSION  = vector vecsync
VECTOR_VERSION  := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" vector.control)
VECSYNC_VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" vecsync.control)

# A room is a folder of src/; src/README.md has their order.
VECTOR_ROOMS  = base kernel vector quant distance_am hnsw ivfflat library
VECSYNC_ROOMS = base http queue worker search
sources = $(sort $(foreach room,$(1),$(wildcard src/$(room)/*.c)))

MODULE_big   = vector
OBJS         = $(patsubst %.c,%.o,$(call sources,$(VECTOR_ROOMS)))
VECSYNC_OBJS = $(patsubst %.c,%.o,$(call sources,$(VECSYNC_ROOMS)))
HEADERS_vector = $(wildcard src/vector/vector.h src/vector/halfvec.h src/vector/sparsevec.h)

# The install scripts are joined from pieces, in the order of their names.
VECTOR_SQL  = vector--$(VECTOR_VERSION).sql
VECSYNC_SQL = vecsync--$(VECSYNC_VERSION).sql
DATA        = $(wildcard sql/updates/*--*--*.sql)
DATA_built  = $(VECTOR_SQL) $(VECSYNC_SQL)

PG_CPPFLAGS = -I$(srcdir)/src
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare
ifdef DEBUG_POINTS
PG_CPPFLAGS += -DDEBUG_POINTS
endif
# The two libraries share rooms and live in one process: each calls its own functions.
SHLIB_LINK = -Wl,-Bsymbolic
EXTRA_CLEAN = vecsync.so $(VECSYNC_OBJS) tmp/unit

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# The commands below need no server headers: they install what is missing.
.PHONY: demo test test-clients test-matrix bench bench-sync check-style soak
ifeq ($(PGXS),)
all install:
	@echo "pg_config not found: install the PostgreSQL server headers (Debian: postgresql-server-dev-all) or pass PG_CONFIG=/path/to/pg_config" >&2; exit 1
else
# Bitcode is of no use here: nothing in these libraries is small enough for JIT to inline.
override with_llvm := no
include $(PGXS)
endif

# ---- libraries -------------------------------------------------------------
all: vecsync.so

vecsync.so: $(VECSYNC_OBJS)
	$(LINK.shared) -o $@ $(VECSYNC_OBJS) $(LDFLAGS) $(LDFLAGS_SL) $(SHLIB_LINK) -lcurl

# Kernels come once per CPU level; kernel/choose.c picks at run time.
ifneq (,$(filter x86_64%,$(shell $(CC) -dumpmachine)))
src/kernel/%_avx2.o: CFLAGS += -mavx2 -mfma -mf16c -mpopcnt
src/kernel/%_avx512.o: CFLAGS += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vpopcntdq -mfma -mf16c -mpopcnt
endif
src/kernel/%.o: CFLAGS += -O3

# Every object is rebuilt when any header changes: the tree is small.
$(OBJS) $(VECSYNC_OBJS): $(wildcard src/*/*.h) src/.flags

# ... or when it would be compiled differently, as after "make test" with its debug points.
compile_flags := $(CC) $(CPPFLAGS) $(CFLAGS) $(COPT)
src/.flags: force
	@echo '$(compile_flags)' | cmp -s - $@ || echo '$(compile_flags)' > $@
.PHONY: force

# ---- install scripts ---------------------------------------------------------
$(VECTOR_SQL): $(sort $(wildcard sql/install/vector/*.sql)) vector.control
	cat $(filter %.sql,$^) > $@

$(VECSYNC_SQL): $(sort $(wildcard sql/install/vecsync/*.sql)) vecsync.control
	cat $(filter %.sql,$^) > $@

# ---- install -----------------------------------------------------------------
install: install-vecsync
.PHONY: install-vecsync uninstall-vecsync refuse-foreign-vector
install installdirs install-vecsync: | refuse-foreign-vector

install-vecsync: vecsync.so
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	$(INSTALL_SHLIB) vecsync.so '$(DESTDIR)$(pkglibdir)/vecsync.so'

uninstall: uninstall-vecsync
uninstall-vecsync:
	rm -f '$(DESTDIR)$(pkglibdir)/vecsync.so'

refuse-foreign-vector:
	@f='$(DESTDIR)$(datadir)/extension/vector.control'; \
	if [ -z '$(REPLACE_PGVECTOR)' ] && [ -e "$$f" ] && ! grep -q '^# vecsync:' "$$f"; then \
	  echo "make install: $$f belongs to another vector extension (pgvector?); run 'make install REPLACE_PGVECTOR=1' to replace it" >&2; exit 1; fi

# ---- the two README commands and their relatives -------------------------------
demo:
	@demo/run.sh

test:
	@test/run.sh

test-clients:
	@CLIENTS=all ONLY=clients test/run.sh

test-matrix:
	@tools/matrix.sh

bench:
	@test/bench/run.sh

soak:
	@DURATION='$(DURATION)' SEED='$(SEED)' test/soak/run.sh

bench-sync:
	@test/bench/sync.sh

bench-search:
	@test/bench/search.sh

check-style:
	@tools/check_style.py
