/*
 * vector_init.c
 *		What happens when the library is loaded.
 */
#include "postgres.h"

#include "base/debug_point.h"
#include "fmgr.h"
#include "kernel/distance.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	debug_point_init("vector");
	kernel_distance_init();
}
