/*
 * hnsw_queue.h
 *		The queues of a graph search, inlined into its loops.
 */
#ifndef HNSW_QUEUE_H
#define HNSW_QUEUE_H

#include "hnsw/hnsw.h"

#define QUEUE_ARITY 4

/* Min-heap of candidates with four children a node: shallow, and the children share a cache line. */
static inline void
candidate_push(HnswCandidate *heap, int *count, HnswCandidate candidate)
{
	int			i = (*count)++;

	while (i > 0)
	{
		int			parent = (i - 1) / QUEUE_ARITY;

		if (heap[parent].distance <= candidate.distance)
			break;
		heap[i] = heap[parent];
		i = parent;
	}
	heap[i] = candidate;
}

/*
 * Which of four is the nearest.  Nobody can foresee it, the processor included:
 * there is no branch in here.
 */
static inline int
nearest_of_four(const HnswCandidate *four)
{
	int			a = four[1].distance < four[0].distance;
	int			b = 2 + (four[3].distance < four[2].distance);

	return a + (b - a) * (four[b].distance < four[a].distance);
}

static inline HnswCandidate
candidate_pop(HnswCandidate *heap, int *count)
{
	HnswCandidate top = heap[0];
	HnswCandidate last = heap[--(*count)];
	int			n = *count;
	int			i = 0;

	for (;;)
	{
		int			child = i * QUEUE_ARITY + 1;

		if (likely(child + QUEUE_ARITY <= n))
			child += nearest_of_four(&heap[child]);
		else if (child < n)
		{
			for (int c = child + 1; c < n; c++)
				if (heap[c].distance < heap[child].distance)
					child = c;
		}
		else
			break;
		if (heap[child].distance >= last.distance)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return top;
}

/* Where the second nearest is; the nearest when there is no other. */
static inline int
candidate_second(const HnswCandidate *heap, int count)
{
	int			end = Min(QUEUE_ARITY + 1, count);
	int			least = end > 1 ? 1 : 0;

	for (int c = 2; c < end; c++)
		if (heap[c].distance < heap[least].distance)
			least = c;
	return least;
}

/* Max-heap of at most size distances: keeps the least. */
static inline void
window_add(float *heap, int *count, int size, float distance)
{
	int			i;

	if (*count < size)
	{
		i = (*count)++;
		while (i > 0 && heap[(i - 1) / 2] < distance)
		{
			heap[i] = heap[(i - 1) / 2];
			i = (i - 1) / 2;
		}
		heap[i] = distance;
		return;
	}
	if (distance >= heap[0])
		return;
	for (i = 0;;)
	{
		int			child = 2 * i + 1;

		if (child >= size)
			break;
		if (child + 1 < size && heap[child + 1] > heap[child])
			child++;
		if (heap[child] <= distance)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = distance;
}

/* A number's first place in an open-addressed table of 2^n places. */
static inline uint32
visited_place(uint32 node, uint32 mask)
{
	return (node * 0x9E3779B1u >> 7) & mask;
}

#endif							/* HNSW_QUEUE_H */
