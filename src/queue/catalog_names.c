/*
 * catalog_names.c
 *		Have the names that our SQL over a table is written with changed?
 *
 * Such SQL calls schemas, types and operators by their names, and is kept: by
 * the worker for each vectorizer, by sessions for their searches.  A command
 * that renames one of them, or moves it to another schema, locks neither the
 * table nor what else tells of its changes.
 *
 * Schemas and operators change seldom, so any change of one counts.  Types come
 * and go with every temporary table: only those that were named count, by the
 * hash values under which the server tells of their changes.
 */
#include "postgres.h"

#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "queue/catalog.h"

/* The worker, in whose transactions a table's trigger may search. */
#define WATCHERS	2

static void (*watchers[WATCHERS]) (void);

static uint32 *named_types = NULL;	/* hash values of those named in this process */
static int	nnamed_types = 0;
static int	named_types_room = 0;

static void
name_changed(Datum arg, int cacheid, uint32 hash)
{
	bool		known = cacheid != TYPEOID || hash == 0;

	for (int i = 0; i < nnamed_types && !known; i++)
		known = named_types[i] == hash;
	for (int i = 0; i < WATCHERS && known; i++)
		if (watchers[i] != NULL)
			watchers[i]();
}

void
catalog_watch_names(void (*changed) (void))
{
	int			n = 0;

	while (n < WATCHERS && watchers[n] != NULL)
		n++;
	if (n == WATCHERS)
		elog(ERROR, "too many who watch names");
	watchers[n] = changed;
	if (n > 0)
		return;
	CacheRegisterSyscacheCallback(NAMESPACEOID, name_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, name_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, name_changed, (Datum) 0);
}

static void
note_type(Oid type)
{
	uint32		hash = GetSysCacheHashValue1(TYPEOID, ObjectIdGetDatum(type));

	for (int i = 0; i < nnamed_types; i++)
		if (named_types[i] == hash)
			return;
	if (nnamed_types == named_types_room)
	{
		int			room = Max(16, named_types_room * 2);

		if (named_types == NULL)
			named_types = MemoryContextAlloc(TopMemoryContext, sizeof(uint32) * room);
		else
			named_types = repalloc(named_types, sizeof(uint32) * room);
		named_types_room = room;
	}
	named_types[nnamed_types++] = hash;
}

/* An array is called by its elements' name. */
void
catalog_note_type_named(Oid type)
{
	Oid			element = get_element_type(type);

	note_type(type);
	if (OidIsValid(element))
		note_type(element);
}
