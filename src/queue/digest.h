/*
 * digest.h
 *		What text each vector was made from.
 */
#ifndef QUEUE_DIGEST_H
#define QUEUE_DIGEST_H

#include "utils/uuid.h"

/* vecsync.digest */
#define DIGEST_ATT_VECTORIZER	1
#define DIGEST_ATT_KEY			2
#define DIGEST_ATT_DIGEST		3

/* vectorizer, keys uuid[], digests bigint[] */
#define DIGEST_WRITE_SQL \
	"INSERT INTO vecsync.digest AS d (vectorizer, key, digest)" \
	" SELECT $1, u.key, u.digest FROM unnest($2, $3) u(key, digest)" \
	" ON CONFLICT (vectorizer, key) DO UPDATE SET digest = excluded.digest WHERE d.digest <> excluded.digest"

/* vectorizer, keys uuid[] */
#define DIGEST_DELETE_SQL \
	"DELETE FROM vecsync.digest WHERE vectorizer = $1 AND key = ANY ($2)"

/* The same on every machine, so that a dump keeps its meaning. */
extern void digest_key(Datum *texts, int n, pg_uuid_t *result);
extern int64 digest_text(const char *data, size_t len);

#endif							/* QUEUE_DIGEST_H */
