/*
 * ivfflat.h
 *		The inverted-file access method: page format and what its files share.
 *
 * README.md explains the algorithms, the order of locks and what a crash
 * leaves behind.
 */
#ifndef IVFFLAT_H
#define IVFFLAT_H

#include "postgres.h"

#include "access/amapi.h"
#include "access/genam.h"
#include "base/compat.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/rel.h"

/* ---- page format (values on disk: never renumber) ---- */

#define IVFFLAT_META_BLOCK		0
#define IVFFLAT_FIRST_CENTER	1
#define IVFFLAT_MAGIC			0x56534956	/* another program's index shows another number here */
#define IVFFLAT_VERSION			1
#define IVFFLAT_PAGE_ID			0xFA58	/* last bytes of every page */

typedef enum IvfflatPageKind
{
	IVFFLAT_PAGE_META = 1,
	IVFFLAT_PAGE_CENTERS,
	IVFFLAT_PAGE_DIRECTORY,
	IVFFLAT_PAGE_ENTRIES
} IvfflatPageKind;

typedef struct IvfflatPageSpecial
{
	uint32		list;			/* pages of entries: whose */
	uint32		number;			/* and the how-manieth of that list, from 0 */
	uint16		reserved;
	uint16		reserved2;
	uint16		kind;			/* IvfflatPageKind */
	uint16		page_id;		/* IVFFLAT_PAGE_ID */
} IvfflatPageSpecial;

#define IVFFLAT_PAGE_START	MAXALIGN(SizeOfPageHeaderData)
#define IVFFLAT_PAGE_END	(BLCKSZ - MAXALIGN(sizeof(IvfflatPageSpecial)))

typedef enum IvfflatType
{
	IVFFLAT_VECTOR = 1,
	IVFFLAT_HALFVEC,
	IVFFLAT_BIT
} IvfflatType;

typedef enum IvfflatMetric
{
	IVFFLAT_L2 = 1,
	IVFFLAT_IP,
	IVFFLAT_COSINE,
	IVFFLAT_HAMMING
} IvfflatMetric;

/* Everything about an index that never changes; all sizes follow from it. */
typedef struct IvfflatMetaPage
{
	uint32		magic;
	uint32		version;
	uint16		type;			/* IvfflatType */
	uint16		metric;			/* IvfflatMetric */
	uint32		dims;
	uint32		lists;
} IvfflatMetaPage;

/* A run of pages that belong to one list. */
typedef struct IvfflatExtent
{
	BlockNumber start;
	uint32		pages;
} IvfflatExtent;

#define IVFFLAT_MAX_EXTENTS 30

/* A list's slot in the directory: where its pages are. */
typedef struct IvfflatList
{
	uint32		pages;			/* in all extents */
	uint32		insert_page;	/* hint: pages before this one are full */
	uint32		extent_count;
	uint32		reserved;
	IvfflatExtent extents[IVFFLAT_MAX_EXTENTS];
} IvfflatList;

/*
 * A row in its list: this header, and the value's elements as the type stores
 * them.  Only cosine has the length, after "reserved".
 */
typedef struct IvfflatEntry
{
	ItemPointerData tid;
	uint16		reserved;
	float		norm;			/* squared length, as the cosine kernel sums it */
	uint32		reserved2;
} IvfflatEntry;

#define IVFFLAT_ENTRY_HEADER		offsetof(IvfflatEntry, norm)
#define IVFFLAT_COSINE_ENTRY_HEADER	sizeof(IvfflatEntry)

/* ---- operator classes and values ---- */

typedef struct IvfflatOpclass
{
	IvfflatType type;
	IvfflatMetric metric;
} IvfflatOpclass;

/* A value, taken out of its varlena; NULL data is the SQL null. */
typedef struct IvfflatValue
{
	const void *data;
	float		norm;			/* as in IvfflatEntry */
} IvfflatValue;

/* An open index. */
typedef struct IvfflatIndex
{
	Relation	rel;
	IvfflatOpclass opclass;
	int			dims;
	int			lists;
	Size		value_size;		/* bytes of elements */
	Size		center_size;
	Size		entry_header;
	Size		entry_size;
	int			centers_per_page;
	int			lists_per_page;
	int			entries_per_page;
	BlockNumber first_directory;
	BlockNumber first_entries;
} IvfflatIndex;

/* ivfflat_type.c */
extern IvfflatOpclass ivfflat_opclass(Relation index);
extern int	ivfflat_column_dims(Relation index, const IvfflatOpclass *opclass);
extern bool ivfflat_form_value(const IvfflatIndex *ix, Datum datum, IvfflatValue *value);
extern void ivfflat_center_distances(const IvfflatIndex *ix, const IvfflatValue *query,
									 const char *centers, int count, double *distances);
extern void ivfflat_entry_distances(const IvfflatIndex *ix, const IvfflatValue *query,
									const char *entries, int count, double *distances);

static inline bool
ivfflat_is_spherical(const IvfflatOpclass *opclass)
{
	return opclass->metric == IVFFLAT_IP || opclass->metric == IVFFLAT_COSINE;
}

/* ivfflat_page.c */
extern void ivfflat_set_layout(IvfflatIndex *ix);
extern void ivfflat_open(IvfflatIndex *ix, Relation index);
extern int	ivfflat_read_lists(Relation index);
extern void ivfflat_init_page(Page page, IvfflatPageKind kind);
extern void ivfflat_init_entries_page(Page page, uint32 list, uint32 number);
extern void ivfflat_use_page(Page page, Size end);
extern void ivfflat_check_page(Relation index, Buffer buffer, IvfflatPageKind kind);
extern void ivfflat_check_entries_page(const IvfflatIndex *ix, Buffer buffer);
extern Buffer ivfflat_read_page(Relation index, BlockNumber block, IvfflatPageKind kind);
extern void ivfflat_read_list(const IvfflatIndex *ix, uint32 list, IvfflatList *result);
extern IvfflatList *ivfflat_page_list(const IvfflatIndex *ix, Page page, uint32 list);
pg_noreturn extern void ivfflat_corrupted(Relation index, BlockNumber block, const char *what);

static inline IvfflatPageSpecial *
ivfflat_page_special(Page page)
{
	return (IvfflatPageSpecial *) ((char *) page + IVFFLAT_PAGE_END);
}

static inline char *
ivfflat_page_slots(Page page)
{
	return (char *) page + IVFFLAT_PAGE_START;
}

/* The page must have been checked. */
static inline int
ivfflat_page_entries(const IvfflatIndex *ix, Page page)
{
	return (int) ((((PageHeader) page)->pd_lower - IVFFLAT_PAGE_START) / ix->entry_size);
}

static inline BlockNumber
ivfflat_center_block(const IvfflatIndex *ix, uint32 list)
{
	return IVFFLAT_FIRST_CENTER + list / ix->centers_per_page;
}

static inline BlockNumber
ivfflat_directory_block(const IvfflatIndex *ix, uint32 list)
{
	return ix->first_directory + list / ix->lists_per_page;
}

/* ---- clustering ---- */

/* Values in memory: floats for vector and halfvec, bytes for bit. */
typedef struct IvfflatPoints
{
	IvfflatOpclass opclass;
	int			dims;
	Size		stride;			/* bytes from one to the next */
	int			count;
	char	   *values;
} IvfflatPoints;

/* ivfflat_points.c */
extern void ivfflat_points_init(IvfflatPoints *points, const IvfflatIndex *ix);
extern Size ivfflat_points_stride(const IvfflatIndex *ix);
extern void ivfflat_set_point(const IvfflatIndex *ix, const void *data, char *point);
extern bool ivfflat_scale_to_one(float *x, int dims);
extern void ivfflat_nearest(const IvfflatPoints *centers, const char *points, int count,
							int *nearest, float *distances);

/* ivfflat_kmeans.c */
extern Size ivfflat_kmeans_memory(const IvfflatIndex *ix, int samples, int lists);
extern void ivfflat_kmeans(const IvfflatPoints *samples, int lists, IvfflatPoints *centers);

/* ---- building ---- */

#define IVFFLAT_PHASE_KMEANS	2	/* progress of a build */
#define IVFFLAT_PHASE_ASSIGN	3
#define IVFFLAT_PHASE_LOAD		4

/* ivfflat_sample.c */
struct IndexInfo;
extern void ivfflat_sample(const IvfflatIndex *ix, Relation heap, struct IndexInfo *info, int wanted,
						   IvfflatPoints *samples);

/*
 * Rows on their way into their lists: each is put into a sort by list and
 * row.  Workers of a parallel build have one each.
 */
typedef struct IvfflatAssigner IvfflatAssigner;
struct Tuplesortstate;
struct SortCoordinateData;
struct TableScanDescData;
extern IvfflatAssigner *ivfflat_assigner_create(const IvfflatIndex *ix, const IvfflatPoints *centers,
												int sort_memory, struct SortCoordinateData *coordinate);
extern void ivfflat_assigner_scan(IvfflatAssigner *assigner, Relation heap, struct IndexInfo *info,
								  struct TableScanDescData *scan, bool progress);
extern double ivfflat_assigner_heap_rows(const IvfflatAssigner *assigner);
extern double ivfflat_assigner_rows(const IvfflatAssigner *assigner);
extern struct Tuplesortstate *ivfflat_assigner_sort(IvfflatAssigner *assigner);
extern struct Tuplesortstate *ivfflat_begin_sort(int memory, struct SortCoordinateData *coordinate);
extern struct TupleTableSlot *ivfflat_sort_slot(void);

/* What a scan of the table found: rows there, and rows in the sort. */
typedef struct IvfflatAssigned
{
	double		heap_rows;
	double		rows;
	struct Tuplesortstate *sort;	/* sorted, to be read */
} IvfflatAssigned;

/* ivfflat_parallel.c */
typedef struct IvfflatParallel IvfflatParallel;
extern IvfflatParallel *ivfflat_parallel_assign(const IvfflatIndex *ix, Relation heap, struct IndexInfo *info,
												const IvfflatPoints *centers, IvfflatAssigned *result);
extern void ivfflat_parallel_end(IvfflatParallel *parallel);

/* ivfflat_build.c */
extern IndexBuildResult *ivfflat_build(Relation heap, Relation index, struct IndexInfo *info);
extern void ivfflat_buildempty(Relation index);

/* ---- the other callbacks ---- */

/* ivfflat_insert.c */
extern bool ivfflat_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
						   IndexUniqueCheck check, bool unchanged, struct IndexInfo *info);

/* ivfflat_scan.c */
extern IndexScanDesc ivfflat_beginscan(Relation index, int nkeys, int norderbys);
extern void ivfflat_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys);
extern bool ivfflat_gettuple(IndexScanDesc scan, ScanDirection direction);
extern void ivfflat_endscan(IndexScanDesc scan);

/* ivfflat_vacuum.c */
extern IndexBulkDeleteResult *ivfflat_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
												 IndexBulkDeleteCallback callback, void *state);
extern IndexBulkDeleteResult *ivfflat_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats);

/* ivfflat_cost.c */
struct PlannerInfo;
struct IndexPath;
extern void ivfflat_costestimate(struct PlannerInfo *root, struct IndexPath *path, double loop_count,
								 Cost *startup, Cost *total, Selectivity *selectivity,
								 double *correlation, double *pages);

/* ivfflat_options.c */
typedef enum IvfflatIterativeScan
{
	IVFFLAT_ITERATIVE_OFF,
	IVFFLAT_ITERATIVE_RELAXED
} IvfflatIterativeScan;

extern int	ivfflat_probes;
extern int	ivfflat_iterative_scan;
extern int	ivfflat_max_probes;

#define IVFFLAT_DEFAULT_LISTS	100
#define IVFFLAT_MAX_LISTS		32768

extern void ivfflat_init(void);
extern bytea *ivfflat_options(Datum reloptions, bool validate);
extern int	ivfflat_option_lists(Relation index);

/* Numbers of the support functions of an operator class. */
#define IVFFLAT_DISTANCE_PROC			1
#define IVFFLAT_NORM_PROC				2	/* present: cosine */
#define IVFFLAT_KMEANS_DISTANCE_PROC	3
#define IVFFLAT_KMEANS_NORM_PROC		4
#define IVFFLAT_TYPE_PROC				5

#endif							/* IVFFLAT_H */
