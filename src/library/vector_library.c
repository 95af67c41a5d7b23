/*
 * vector_library.c
 *		What happens when vector.so is loaded.
 */
#include "postgres.h"

#include "base/debug_point.h"
#include "fmgr.h"
#include "hnsw/hnsw.h"
#include "ivfflat/ivfflat.h"
#include "kernel/distance.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	debug_point_init("vector");
	kernel_distance_init();
	hnsw_init();
	ivfflat_init();
}
