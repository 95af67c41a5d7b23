/*
 * vector_distance.h
 *		From the sums of a kernel to the distance that SQL shows.
 */
#ifndef VECTOR_DISTANCE_H
#define VECTOR_DISTANCE_H

#include <math.h>

#include "kernel/distance.h"

/* NaN when a length is zero or its square overflows; never outside [0, 2] for rounding. */
static inline double
vector_cosine_distance(KernelCosine sums)
{
	double		similarity = (double) sums.dot / sqrt((double) sums.norm_a * (double) sums.norm_b);

	if (similarity > 1)
		similarity = 1;
	else if (similarity < -1)
		similarity = -1;
	return 1 - similarity;
}

#endif							/* VECTOR_DISTANCE_H */
