/*
 * hnsw_edit.c
 *		Changes of several pages at once, logged or not.
 */
#include "postgres.h"

#include "hnsw/hnsw.h"
#include "miscadmin.h"

void
hnsw_edit_start(HnswEdit *edit, Relation index, bool logged)
{
	edit->state = logged ? GenericXLogStart(index) : NULL;
	edit->count = 0;
	if (!logged)
		START_CRIT_SECTION();
}

/*
 * The page to change, which must be locked exclusively.  A page never used
 * before is formatted; its record then carries the whole image, since the
 * block may not exist yet where the record is replayed.
 */
Page
hnsw_edit_page(HnswEdit *edit, Buffer buffer, HnswPageKind kind)
{
	bool		is_new = PageIsNew(BufferGetPage(buffer));
	Page		page;

	Assert(edit->count < MAX_GENERIC_XLOG_PAGES);
	edit->buffers[edit->count++] = buffer;
	if (edit->state == NULL)
		page = BufferGetPage(buffer);
	else
		page = GenericXLogRegisterBuffer(edit->state, buffer, is_new ? GENERIC_XLOG_FULL_IMAGE : 0);
	if (is_new)
		hnsw_init_page(page, kind);
	return page;
}

void
hnsw_edit_finish(HnswEdit *edit)
{
	if (edit->state != NULL)
	{
		GenericXLogFinish(edit->state);
		return;
	}
	for (int i = 0; i < edit->count; i++)
		MarkBufferDirty(edit->buffers[i]);
	END_CRIT_SECTION();
}
