/*
 * ivfflat_options.c
 *		Settings and storage parameters.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "ivfflat/ivfflat.h"
#include "utils/guc.h"

typedef struct IvfflatOptions
{
	int32		vl_len_;
	int			lists;
} IvfflatOptions;

int			ivfflat_probes = 1;
int			ivfflat_iterative_scan = IVFFLAT_ITERATIVE_OFF;
int			ivfflat_max_probes = IVFFLAT_MAX_LISTS;

static relopt_kind option_kind;

static const struct config_enum_entry iterative_scan_names[] = {
	{"off", IVFFLAT_ITERATIVE_OFF, false},
	{"relaxed_order", IVFFLAT_ITERATIVE_RELAXED, false},
	{NULL, 0, false}
};

void
ivfflat_init(void)
{
	option_kind = add_reloption_kind();
	add_int_reloption(option_kind, "lists", "Number of lists the rows are divided into.",
					  IVFFLAT_DEFAULT_LISTS, 1, IVFFLAT_MAX_LISTS, AccessExclusiveLock);

	DefineCustomIntVariable("ivfflat.probes", "Number of lists a scan looks at: more find better neighbors.",
							NULL, &ivfflat_probes, 1, 1, IVFFLAT_MAX_LISTS, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("ivfflat.iterative_scan", "What a scan does when its lists were not enough.",
							 "\"off\" ends it; \"relaxed_order\" goes on with the next nearest lists, whose "
							 "rows may be nearer than those already returned.",
							 &ivfflat_iterative_scan, IVFFLAT_ITERATIVE_OFF, iterative_scan_names,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ivfflat.max_probes", "Number of lists after which an iterative scan ends.",
							NULL, &ivfflat_max_probes, IVFFLAT_MAX_LISTS, 1, IVFFLAT_MAX_LISTS,
							PGC_USERSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("ivfflat");
}

bytea *
ivfflat_options(Datum reloptions, bool validate)
{
	static const relopt_parse_elt table[] = {
		{"lists", RELOPT_TYPE_INT, offsetof(IvfflatOptions, lists)},
	};

	return (bytea *) build_reloptions(reloptions, validate, option_kind, sizeof(IvfflatOptions),
									  table, lengthof(table));
}

int
ivfflat_option_lists(Relation index)
{
	IvfflatOptions *options = (IvfflatOptions *) index->rd_options;

	return options != NULL ? options->lists : IVFFLAT_DEFAULT_LISTS;
}
