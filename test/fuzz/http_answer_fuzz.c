/*
 * http_answer_fuzz.c
 *		libFuzzer target for everything in src/http that reads what a service sent.
 *
 * From the top of the tree (the corpus and what is found go to tmp/fuzz):
 *
 *	test/fuzz/run.sh http_answer 300
 *
 * fuzz-frontend: http_json http_message embedding_answer rerank_answer chat_answer dialect_openai
 * fuzz-frontend: dialect_ollama dialect_tei dialect_cohere
 *
 * The first byte of an input chooses the parser and its parameters.  Allocation is
 * replaced so that each input's memory is freed after it, and each piece has bounds
 * the sanitizer can check.
 */
#include "postgres_fe.h"

#include <math.h>

#include "http/chat_answer.h"
#include "http/embedding_dialect.h"
#include "http/http_message.h"
#include "http/rerank_answer.h"

/* ---- memory: one list, freed after each input ---- */

typedef struct Piece
{
	struct Piece *next;
	struct Piece *previous;
	size_t		size;
	size_t		unused;			/* keeps the data aligned */
} Piece;

static Piece pieces = {&pieces, &pieces, 0, 0};

void *
palloc(Size size)
{
	Piece	   *piece = malloc(sizeof(Piece) + size);

	if (piece == NULL)
		abort();
	piece->size = size;
	piece->next = &pieces;
	piece->previous = pieces.previous;
	piece->previous->next = piece;
	pieces.previous = piece;
	return piece + 1;
}

void
pfree(void *pointer)
{
	Piece	   *piece = (Piece *) pointer - 1;

	piece->previous->next = piece->next;
	piece->next->previous = piece->previous;
	free(piece);
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void *
repalloc(void *pointer, Size size)
{
	void	   *larger = palloc(size);

	memcpy(larger, pointer, Min(size, ((Piece *) pointer - 1)->size));
	pfree(pointer);
	return larger;
}

char *
pnstrdup(const char *text, Size size)
{
	size_t		len = strnlen(text, size);
	char	   *copy = palloc(len + 1);

	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

char *
pstrdup(const char *text)
{
	return pnstrdup(text, strlen(text));
}

void *
palloc_extended(Size size, int flags)
{
	return (flags & MCXT_ALLOC_ZERO) ? palloc0(size) : palloc(size);
}

void *
pg_malloc(Size size)
{
	return palloc(size);
}

void *
pg_malloc0(Size size)
{
	return palloc0(size);
}

void *
pg_malloc_extended(Size size, int flags)
{
	return palloc_extended(size, flags);
}

void *
pg_realloc(void *pointer, Size size)
{
	return pointer ? repalloc(pointer, size) : palloc(size);
}

char *
pg_strdup(const char *text)
{
	return pstrdup(text);
}

void
pg_free(void *pointer)
{
	if (pointer != NULL)
		pfree(pointer);
}

/* ---- the parsers ---- */

static void
demand(bool condition)
{
	if (!condition)
		abort();
}

/* Whatever is accepted must be complete and finite. */
static void
fuzz_embedding(const char *provider, const char *body, size_t len, int ninputs, int dimensions)
{
	EmbeddingAnswer answer = {.ninputs = ninputs, .dimensions = dimensions};

	if (!embedding_parse(embedding_dialect(provider), body, len, &answer))
	{
		demand(answer.problem != NULL && answer.values == NULL);
		return;
	}
	demand(answer.problem == NULL && answer.nvectors == ninputs);
	demand(answer.dimensions > 0 && answer.dimensions <= EMBEDDING_MAX_DIMENSIONS);
	demand(dimensions == 0 || answer.dimensions == dimensions);
	for (int i = 0; i < ninputs * answer.dimensions; i++)
		demand(isfinite(answer.values[i]));
}

static void
fuzz_rerank(const char *body, size_t len, int ndocuments)
{
	RerankScore *scores;
	char	   *problem;
	int			n;

	scores = rerank_parse(body, len, ndocuments, &n, &problem);
	demand((scores == NULL) == (problem != NULL));
	demand(n <= ndocuments);
	for (int i = 0; scores != NULL && i < n; i++)
	{
		demand(scores[i].index >= 0 && scores[i].index < ndocuments && isfinite(scores[i].score));
		demand(i == 0 || scores[i - 1].score >= scores[i].score);
	}
}

static void
fuzz_chat(const char *body, size_t len)
{
	int64		tokens;
	char	   *problem;
	char	   *content = chat_parse(body, len, &tokens, &problem);
	int		   *values;
	int			n;

	demand((content == NULL) == (problem != NULL));
	if (content != NULL)
		chat_integers(content, "drop", &values, &n);
}

static void
fuzz_message(const char *body, size_t len)
{
	char	   *message = http_service_message(body, len);
	char	   *redacted = http_redact(message, "secret-0123456789");

	demand(strstr(redacted, "secret-0") == NULL);
	http_clip(redacted, 50);
	demand(strlen(redacted) <= 50);
	http_parse_delay(redacted, 1000);
}

static void
fuzz_number(const char *text, size_t len)
{
	float		value;
	char	   *end;

	if (http_json_parse_float(text, text + len, &value))
	{
		float		other = strtof(text, &end);

		demand(end == text + len && memcmp(&value, &other, sizeof(value)) == 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const providers[] = {"openai", "ollama", "tei", "cohere"};
	unsigned char choice;
	char	   *body;
	size_t		len;

	if (size == 0)
		return 0;
	choice = data[0];
	len = size - 1;
	body = palloc(len + 1);
	memcpy(body, data + 1, len);
	body[len] = '\0';

	switch (choice & 7)
	{
		case 4:
			fuzz_rerank(body, len, 1 + (choice >> 3) % 4);
			break;
		case 5:
			fuzz_chat(body, len);
			break;
		case 6:
			fuzz_message(body, len);
			break;
		case 7:
			fuzz_number(body, len);
			break;
		default:
			fuzz_embedding(providers[choice & 3], body, len, 1 + ((choice >> 3) & 3), choice >> 5);
			break;
	}

	while (pieces.next != &pieces)
		pfree(pieces.next + 1);
	return 0;
}
