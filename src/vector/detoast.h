/*
 * detoast.h
 *		Arguments of functions that are called once per row.  Private to this room.
 */
#ifndef VECTOR_DETOAST_H
#define VECTOR_DETOAST_H

#include "postgres.h"

#include "base/compat.h"
#include "fmgr.h"

extern struct varlena *vector_detoast_argument(FunctionCallInfo fcinfo, int n);

/* In the row itself, neither compressed nor out of line, though perhaps with a one-byte header. */
static inline bool
vector_is_plain(const struct varlena *value)
{
	/* A pointer to a value out of line starts like a one-byte header. */
	return VARATT_IS_4B_U(value) || (VARATT_IS_SHORT(value) && !VARATT_IS_EXTERNAL(value));
}

/* Argument n (0 or 1) with a four-byte header; plain values cost one comparison. */
static inline struct varlena *
vector_get_argument(FunctionCallInfo fcinfo, int n)
{
	struct varlena *value = (struct varlena *) PG_GETARG_POINTER(n);

	return likely(VARATT_IS_4B_U(value)) ? value : vector_detoast_argument(fcinfo, n);
}

#endif							/* VECTOR_DETOAST_H */
