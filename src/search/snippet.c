/*
 * snippet.c
 *		vecsync.snippet and vecsync.similarity.
 *
 * A snippet begins at most 50 characters before the first occurrence of a word
 * of the query, at a word, and ends at one.  Characters are counted, not
 * bytes; words are compared without regard to case.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/formatting.h"

#include "search/embed.h"
#include "search/snippet.h"

#define BEFORE 50				/* characters before the first hit */
#define ELLIPSIS "..."

PG_FUNCTION_INFO_V1(snippet_text);
PG_FUNCTION_INFO_V1(snippet_similarity);

/* A text as characters: where each begins, and one place behind the last. */
typedef struct Characters
{
	const char *text;
	int			count;
	int		   *offset;
} Characters;

static Characters
split_characters(const char *text)
{
	Characters	c = {text};
	int			len = strlen(text);

	c.offset = palloc_extended(sizeof(int) * ((Size) len + 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < len; i += pg_mblen(text + i))
	{
		if ((c.count & 0xFFFF) == 0)
			CHECK_FOR_INTERRUPTS();
		c.offset[c.count++] = i;
	}
	c.offset[c.count] = len;
	return c;
}

static bool
is_space_at(const Characters *c, int i)
{
	const char *p = c->text + c->offset[i];

	return !IS_HIGHBIT_SET(*p) && isspace((unsigned char) *p);
}

/* A character that belongs to no word: ASCII, but neither letter nor digit. */
static bool
is_break(const char *p)
{
	return !IS_HIGHBIT_SET(*p) && !isalnum((unsigned char) *p);
}

/* Where the first word of the query is in the text, as a byte offset; -1 when none is. */
static int
first_hit(const char *text, const char *query)
{
	char	   *low_text = str_tolower(text, strlen(text), DEFAULT_COLLATION_OID);
	char	   *low_query = str_tolower(query, strlen(query), DEFAULT_COLLATION_OID);
	int			best = -1;

	/* a case mapping that changes lengths would shift the offsets */
	if (strlen(low_text) != strlen(text))
		low_text = pstrdup(text);
	for (char *p = low_query; *p;)
	{
		char	   *start;
		char		end;
		const char *hit;

		while (*p && is_break(p))
			p++;
		start = p;
		while (*p && !is_break(p))
			p++;
		if (p == start)
			break;
		end = *p;
		*p = '\0';
		hit = low_text;
		/* one inside of a word is none, nor is any other inside of the same */
		while ((hit = strstr(hit, start)) != NULL && hit > low_text && !is_break(hit - 1) &&
			   !IS_HIGHBIT_SET(*start))
			while (*hit && !is_break(hit))
				hit++;
		CHECK_FOR_INTERRUPTS();
		if (hit != NULL && (best < 0 || hit - low_text < best))
			best = hit - low_text;
		*p = end;
	}
	return best;
}

char *
snippet_make(const char *text, const char *query, int length)
{
	Characters	c = split_characters(text);
	int			hit = query ? first_hit(text, query) : -1;
	int			start = 0;
	int			end;
	int			from;
	StringInfoData out;

	if (length <= 0)
		return pstrdup("");
	if (c.count <= length)
		return pstrdup(text);
	if (hit >= 0)
	{
		int			character = 0;

		while (c.offset[character] < hit)
			character++;
		start = Max(0, character - Min(BEFORE, length / 4));
		start = Min(start, c.count - length);
		/* at the beginning of a word, if there is one before the hit */
		from = start;
		if (start > 0 && !is_space_at(&c, start - 1))
		{
			while (from < character && !is_space_at(&c, from))
				from++;
			if (from < character)
				start = from;
		}
		while (start < character && is_space_at(&c, start))
			start++;
	}
	end = Min(c.count, start + length);
	if (end < c.count && !is_space_at(&c, end))
	{
		from = end;
		while (from > start && !is_space_at(&c, from - 1))
			from--;
		if (from > start)
			end = from;
	}
	while (end > start && is_space_at(&c, end - 1))
		end--;

	initStringInfo(&out);
	if (start > 0)
		appendStringInfoString(&out, ELLIPSIS);
	appendBinaryStringInfo(&out, text + c.offset[start], c.offset[end] - c.offset[start]);
	if (end < c.count)
		appendStringInfoString(&out, ELLIPSIS);
	return out.data;
}

/* vecsync.snippet(text, query, length) -> text */
Datum
snippet_text(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(
		cstring_to_text(snippet_make(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									 text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_INT32(2))));
}

/* vecsync.similarity(a vector, b vector) -> float8: the cosine; NULL when one has no direction */
Datum
snippet_similarity(PG_FUNCTION_ARGS)
{
	VectorType *type = embed_vector_type();
	int			n,
				m;
	float	   *a = vector_value_read(type, PG_GETARG_DATUM(0), &n);
	float	   *b = vector_value_read(type, PG_GETARG_DATUM(1), &m);
	double		dot = 0,
				aa = 0,
				bb = 0;

	if (n != m)
		ereport(ERROR,
				errcode(ERRCODE_DATA_EXCEPTION),
				errmsg("different vector dimensions %d and %d", n, m));
	for (int i = 0; i < n; i++)
	{
		dot += (double) a[i] * b[i];
		aa += (double) a[i] * a[i];
		bb += (double) b[i] * b[i];
	}
	if (aa == 0 || bb == 0)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(Min(1, Max(-1, dot / sqrt(aa * bb))));
}
