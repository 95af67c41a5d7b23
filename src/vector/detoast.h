/*
 * detoast.h
 *		Arguments of functions that are called once per row.  Private to this room.
 */
#ifndef VECTOR_DETOAST_H
#define VECTOR_DETOAST_H

#include "postgres.h"

#include "base/compat.h"
#include "fmgr.h"

/* Where the last argument lay that was in a row: only compared with, never followed. */
extern uintptr_t vector_last_argument[2];

/* What lies between the values of two neighbouring rows: headers and other columns. */
#define VECTOR_REST_OF_ROW 256

extern struct varlena *vector_detoast_argument(FunctionCallInfo fcinfo, int n);

/* In the row itself, neither compressed nor out of line, though perhaps with a one-byte header. */
static inline bool
vector_is_plain(const struct varlena *value)
{
	/* A pointer to a value out of line starts like a one-byte header. */
	return VARATT_IS_4B_U(value) || (VARATT_IS_SHORT(value) && !VARATT_IS_EXTERNAL(value));
}

/*
 * A page is filled from its end, so a scan finds each value in front of the
 * one before.  Where this one lies so, the next will most likely, too, and
 * is brought near while the executor is busy between the two.  (Prefetching
 * an address that does not exist is no error.)
 */
static inline void
vector_prefetch_next(const struct varlena *value, int n)
{
	uintptr_t	start = (uintptr_t) value;
	uintptr_t	distance = vector_last_argument[n] - start;

	vector_last_argument[n] = start;
	/* Where the last one lies in front, the distance has wrapped around and is larger than a page. */
	if (distance > BLCKSZ || distance - VARSIZE_4B(value) > VECTOR_REST_OF_ROW)
		return;
	for (uintptr_t line = start - distance; line < start; line += PG_CACHE_LINE_SIZE / 2)
		__builtin_prefetch((const void *) line);
}

/* Argument n (0 or 1) with a four-byte header. */
static inline struct varlena *
vector_get_argument(FunctionCallInfo fcinfo, int n)
{
	struct varlena *value = (struct varlena *) PG_GETARG_POINTER(n);

	if (unlikely(!VARATT_IS_4B_U(value)))
		return vector_detoast_argument(fcinfo, n);
	vector_prefetch_next(value, n);
	return value;
}

#endif							/* VECTOR_DETOAST_H */
