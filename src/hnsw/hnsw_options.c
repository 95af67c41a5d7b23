/*
 * hnsw_options.c
 *		Settings and storage parameters.
 */
#include "postgres.h"

#include <limits.h>

#include "access/reloptions.h"
#include "hnsw/hnsw.h"
#include "kernel/code.h"
#include "utils/guc.h"

typedef struct HnswOptions
{
	int32		vl_len_;
	int			m;
	int			ef_construction;
} HnswOptions;

int			hnsw_ef_search = 40;
int			hnsw_iterative_scan = HNSW_ITERATIVE_STRICT;
int			hnsw_max_scan_tuples = INT_MAX;
double		hnsw_scan_mem_multiplier = 1;

static relopt_kind option_kind;

static const struct config_enum_entry iterative_scan_names[] = {
	{"off", HNSW_ITERATIVE_OFF, false},
	{"relaxed_order", HNSW_ITERATIVE_RELAXED, false},
	{"strict_order", HNSW_ITERATIVE_STRICT, false},
	{NULL, 0, false}
};

void
hnsw_init(void)
{
	kernel_code_init();

	option_kind = add_reloption_kind();
	add_int_reloption(option_kind, "m", "Neighbors each row is linked to; twice as many are kept.",
					  HNSW_DEFAULT_M, 2, HNSW_MAX_M, AccessExclusiveLock);
	add_int_reloption(option_kind, "ef_construction", "Candidates from which a row's neighbors are chosen.",
					  HNSW_DEFAULT_EF_CONSTRUCTION, 4, 1000, AccessExclusiveLock);

	DefineCustomIntVariable("hnsw.ef_search", "Candidates a search keeps: more find better neighbors.",
							"A query that wants more rows goes on beyond this number.",
							&hnsw_ef_search, 40, 1, 1000, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("hnsw.iterative_scan",
							 "What a scan does when ef_search candidates were not enough.",
							 "\"off\" ends it; \"strict_order\" goes on in exact order; "
							 "\"relaxed_order\" also returns what it finds out of order.",
							 &hnsw_iterative_scan, HNSW_ITERATIVE_STRICT, iterative_scan_names,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("hnsw.max_scan_tuples", "Rows after which a scan no longer goes on.",
							"The default is no limit.",
							&hnsw_max_scan_tuples, INT_MAX, 1, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("hnsw.scan_mem_multiplier",
							 "Memory of one scan's graph search, as a multiple of work_mem.",
							 "Beyond it the scan goes on over the whole index, in little memory.",
							 &hnsw_scan_mem_multiplier, 1, 1, 1000, PGC_USERSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("hnsw");
}

bytea *
hnsw_options(Datum reloptions, bool validate)
{
	static const relopt_parse_elt table[] = {
		{"m", RELOPT_TYPE_INT, offsetof(HnswOptions, m)},
		{"ef_construction", RELOPT_TYPE_INT, offsetof(HnswOptions, ef_construction)},
	};

	return (bytea *) build_reloptions(reloptions, validate, option_kind, sizeof(HnswOptions),
									  table, lengthof(table));
}

int
hnsw_option_m(Relation index)
{
	HnswOptions *options = (HnswOptions *) index->rd_options;

	return options != NULL ? options->m : HNSW_DEFAULT_M;
}

int
hnsw_option_ef_construction(Relation index)
{
	HnswOptions *options = (HnswOptions *) index->rd_options;

	return options != NULL ? options->ef_construction : HNSW_DEFAULT_EF_CONSTRUCTION;
}
