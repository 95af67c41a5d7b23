/*
 * compat.h
 *		Differences between the supported server versions (15 to 18).
 *
 * The only file that tests PG_VERSION_NUM.  Each entry gives the newest server's spelling to the older ones.
 */
#ifndef BASE_COMPAT_H
#define BASE_COMPAT_H

#ifndef FRONTEND
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#else
#include "postgres_fe.h"

/* What runs in a program of its own as well, for tests, is not interrupted there. */
#define CHECK_FOR_INTERRUPTS() ((void) 0)
#endif

#if PG_VERSION_NUM < 150000
#error "PostgreSQL 15 or newer is required"
#endif

/* 16 moved the varlena macros out of postgres.h. */
#if PG_VERSION_NUM >= 160000 && !defined(FRONTEND)
#include "varatt.h"
#endif

/* 18 writes this in front of a declaration, and has no pg_attribute_noreturn() any more. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 17 ties a wait event set to a resource owner, 15 and 16 to a memory context. */
#if PG_VERSION_NUM >= 170000
#define compat_create_wait_event_set(nevents) CreateWaitEventSet(NULL, (nevents))
#else
#define compat_create_wait_event_set(nevents) CreateWaitEventSet(TopMemoryContext, (nevents))
#endif

/* From 16 on an input function can hand its error to the caller; before, every error is thrown. */
#if PG_VERSION_NUM >= 160000 && !defined(FRONTEND)
#include "nodes/miscnodes.h"
#define compat_errsave(escontext, ...) errsave(escontext, __VA_ARGS__)
#else
#define compat_errsave(escontext, ...) \
	do { \
		(void) (escontext); \
		ereport(ERROR, __VA_ARGS__); \
	} while (0)
#endif

/*
 * A lexer (common/jsonapi.h) over UTF-8 text, without de-escaping; the text is
 * not written to.  17 added an argument and a way to free it.
 */
#if PG_VERSION_NUM >= 170000
#define compat_json_lexer(json, len) makeJsonLexContextCstringLen(NULL, (json), (len), PG_UTF8, false)
#define compat_json_lexer_free(lex) freeJsonLexContext(lex)
#else
#define compat_json_lexer(json, len) makeJsonLexContextCstringLen((json), (int) (len), PG_UTF8, false)
#define compat_json_lexer_free(lex) pfree(lex)
#endif

/* 16 replaced the pg_*_ownercheck functions by one for all kinds of objects. */
#if PG_VERSION_NUM >= 160000
#define compat_relation_owned(relid, roleid) object_ownercheck(RelationRelationId, (relid), (roleid))
#else
#define compat_relation_owned(relid, roleid) pg_class_ownercheck((relid), (roleid))
#endif

#if PG_VERSION_NUM >= 160000
#define compat_database_owned(dbid, roleid) object_ownercheck(DatabaseRelationId, (dbid), (roleid))
#else
#define compat_database_owned(dbid, roleid) pg_database_ownercheck((dbid), (roleid))
#endif

/* 18 asks whether a deferrable key will do. */
#if PG_VERSION_NUM >= 180000
#define compat_primary_key_index(rel) RelationGetPrimaryKeyIndex((rel), false)
#else
#define compat_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* A database whose DROP was interrupted; 15 has the mark from 15.4 on, its name only later. */
#define compat_database_is_invalid(form) ((form)->datconnlimit == -2)

#ifndef FRONTEND
/* What names a relation's files, as a key without padding; whether a buffer's tag names a block of them. */
#if PG_VERSION_NUM >= 160000
#include "storage/relfilelocator.h"
typedef RelFileLocator CompatRelFile;
#define compat_rel_file(rel) ((rel)->rd_locator)
#define compat_tag_is(tag, file, fork, block) \
	(BufTagMatchesRelFileLocator((tag), (file)) && BufTagGetForkNum(tag) == (fork) && \
	 (tag)->blockNum == (block))
#else
#include "storage/relfilenode.h"
typedef RelFileNode CompatRelFile;
#define compat_rel_file(rel) ((rel)->rd_node)
#define compat_tag_is(tag, file, fork, block) \
	(RelFileNodeEquals((tag)->rnode, *(file)) && (tag)->forkNum == (fork) && (tag)->blockNum == (block))
#endif

/* From 17 on an access method declares that it can build with workers; before, it just does. */
#if PG_VERSION_NUM >= 170000
#define compat_am_can_build_parallel(am) ((am)->amcanbuildparallel = true)
#else
#define compat_am_can_build_parallel(am) ((void) (am))
#endif

/* Workers for a build: from 17 on the server plans them for every access method that asks. */
#if PG_VERSION_NUM >= 170000
#define compat_index_build_workers(heap, index, info) ((info)->ii_ParallelWorkers)
#else
#define compat_index_build_workers(heap, index, info) \
	plan_create_index_workers(RelationGetRelid(heap), RelationGetRelid(index))
#endif

/* 17 can give a generated column another expression; before, no command is of this kind. */
#if PG_VERSION_NUM >= 170000
#define COMPAT_AT_SET_EXPRESSION AT_SetExpression
#else
#define COMPAT_AT_SET_EXPRESSION ((AlterTableType) -1)
#endif

/* 18 keeps refused plans apart from dear ones. */
#if PG_VERSION_NUM >= 180000
#define compat_disable_index_path(index_path) ((index_path)->path.disabled_nodes = 2)
#else
#define compat_disable_index_path(index_path) ((void) (index_path))
#endif

/* 18 shows the number of index searches in EXPLAIN. */
#if PG_VERSION_NUM >= 180000
#define compat_count_index_search(scan) \
	do { \
		if ((scan)->instrument != NULL) \
			(scan)->instrument->nsearches++; \
	} while (0)
#define compat_vacuum_delay_point() vacuum_delay_point(false)
#else
#define compat_count_index_search(scan) ((void) (scan))
#define compat_vacuum_delay_point() vacuum_delay_point()
#endif

/*
 * 15 and 16 may be told to remove rows under snapshots of some age that still
 * see them.  A page that has changed since such a snapshot was taken is then
 * an error to its reader, who holds the page's lock.  17 has given that up.
 */
#if PG_VERSION_NUM < 170000
#include "storage/bufmgr.h"
#include "utils/snapmgr.h"
#define compat_snapshots_age() (old_snapshot_threshold >= 0)
#define compat_test_old_snapshot(snapshot, rel, page) TestForOldSnapshot((snapshot), (rel), (page))
#else
#define compat_snapshots_age() false
#define compat_test_old_snapshot(snapshot, rel, page) ((void) (snapshot))
#endif
#endif							/* !FRONTEND */

#endif							/* BASE_COMPAT_H */
