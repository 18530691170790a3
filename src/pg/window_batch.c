/*
 * window_batch.c: window functions that send many rows to the engine at once.
 *
 * A window function may read the rows after the current one; PostgreSQL spools them up to the position asked for, and
 * no further as long as the spool fits work_mem.  Stored images are spooled as pointers; images computed below the window
 * are spooled whole, so their sum counts against work_mem too.  Each row is evaluated once, in a context of its own.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pg/compat.h"
#include "pg/settings.h"
#include "pg/window_batch.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "windowapi.h"

#define FIRST_BATCH 32
#define LARGEST_BATCH 1024

/* One partition's batch. */
typedef struct WindowBatch
{
	int64		base;			/* position of its first row */
	int			rows;			/* 0 before the first batch */
	int			wanted;			/* rows of the next batch */
	int		   *reply_of;		/* [rows] index into replies, -1 for a row with a NULL */
	D2cReply   *replies;
	MemoryContext rows_context; /* requests and replies; reset for each batch */
	MemoryContext row_context;	/* one row's arguments */
	bool		by_length[D2C_WINDOW_MAX_ARGS]; /* the argument is a varlena */
} WindowBatch;

/* What the rows read so far hold. */
typedef struct BatchBytes
{
	int64		payload;
	int64		spooled;		/* values that are not kept out of line */
} BatchBytes;

d2c_reader
D2cScalarCall(FunctionCallInfo fcinfo, const D2cWindowKind *kind)
{
	StringInfoData payload;
	Datum		args[D2C_WINDOW_MAX_ARGS];

	for (int i = 0; i < kind->nargs; i++)
		args[i] = PG_GETARG_DATUM(i);
	initStringInfo(&payload);
	kind->encode(&payload, args);
	return D2cEngineCall(kind->request, &payload);
}

static void
InitBatch(WindowBatch *batch, FunctionCallInfo fcinfo, int nargs)
{
	MemoryContext partition = GetMemoryChunkContext(batch);

	batch->wanted = FIRST_BATCH;
	batch->rows_context = AllocSetContextCreate(partition, "d2c window batch", ALLOCSET_DEFAULT_SIZES);
	batch->row_context = AllocSetContextCreate(partition, "d2c window row", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < nargs; i++)
		batch->by_length[i] = get_typlen(get_fn_expr_argtype(fcinfo->flinfo, i)) == -1;
}

/*
 * Read the row `ahead` of the current one.  False past the partition's end; *isnull when an argument is NULL.  Reading
 * an argument frees the tuple that the one before points into, so each is copied: of an image out of line, the pointer.
 */
static bool
ReadRow(WindowObject window, WindowBatch *batch, const D2cWindowKind *kind, int ahead, Datum *args, bool *isnull,
		BatchBytes *bytes)
{
	*isnull = false;
	for (int i = 0; i < kind->nargs; i++)
	{
		bool		null,
					outside;

		args[i] = WinGetFuncArgInPartition(window, i, ahead, WINDOW_SEEK_CURRENT, false, &null, &outside);
		if (outside)
			return false;
		if (null)
			*isnull = true;
		else if (batch->by_length[i])
		{
			args[i] = datumCopy(args[i], false, -1);
			if (!VARATT_IS_EXTERNAL(DatumGetPointer(args[i])))
				bytes->spooled += VARSIZE_ANY(DatumGetPointer(args[i]));
		}
	}
	return true;
}

static bool
BatchIsFull(const BatchBytes *bytes)
{
	return bytes->payload >= d2c_batch_memory * INT64CONST(1024) || bytes->spooled >= work_mem * INT64CONST(512);
}

/*
 * Read and encode rows from the current one on; returns the number of requests.
 */
static int
CollectRows(WindowObject window, WindowBatch *batch, const D2cWindowKind *kind, StringInfo payloads)
{
	BatchBytes	bytes = {0};
	int			requests = 0;

	for (batch->rows = 0; batch->rows < batch->wanted && !BatchIsFull(&bytes); batch->rows++)
	{
		MemoryContext old = MemoryContextSwitchTo(batch->row_context);
		Datum		args[D2C_WINDOW_MAX_ARGS];
		bool		isnull;
		bool		found = ReadRow(window, batch, kind, batch->rows, args, &isnull, &bytes);

		if (found && !isnull)
		{
			MemoryContextSwitchTo(batch->rows_context);
			initStringInfo(&payloads[requests]);
			MemoryContextSwitchTo(batch->row_context);
			kind->encode(&payloads[requests], args);
			bytes.payload += payloads[requests].len;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch->row_context);
		if (!found)
			break;
		batch->reply_of[batch->rows] = isnull ? -1 : requests++;
		CHECK_FOR_INTERRUPTS();
	}
	return requests;
}

/*
 * Rows of the batch after this one: twice as many, as long as replies like these fit d2c.batch_memory
 */
static int
RowsOfNextBatch(const WindowBatch *batch, int requests)
{
	int64		wanted = Min(batch->wanted * 2, LARGEST_BATCH);
	int64		bytes = 0;

	for (int i = 0; i < requests; i++)
		bytes += batch->replies[i].length;
	if (bytes > 0)
		wanted = Min(wanted, d2c_batch_memory * INT64CONST(1024) * batch->rows / bytes);
	return Max(wanted, 1);
}

/*
 * Read the rows of the next batch and have the engine answer them.
 */
static void
RunBatch(WindowObject window, WindowBatch *batch, const D2cWindowKind *kind, int64 position)
{
	MemoryContext old;
	StringInfo	payloads;
	int			requests;

	MemoryContextReset(batch->rows_context);
	old = MemoryContextSwitchTo(batch->rows_context);
	batch->reply_of = palloc(sizeof(int) * batch->wanted);
	batch->replies = palloc(sizeof(D2cReply) * batch->wanted);
	payloads = palloc(sizeof(StringInfoData) * batch->wanted);
	batch->base = position;
	requests = CollectRows(window, batch, kind, payloads);
	if (kind->isolate)
		D2cEngineBatchIsolating(kind->request, payloads, requests, batch->replies);
	else
		D2cEngineBatch(kind->request, payloads, requests, batch->replies);
	for (int i = 0; i < requests; i++)
		pfree(payloads[i].data);
	MemoryContextSwitchTo(old);
	WinSetMarkPosition(window, position + batch->rows - 1);
	batch->wanted = RowsOfNextBatch(batch, requests);
}

const D2cReply *
D2cWindowReply(FunctionCallInfo fcinfo, const D2cWindowKind *kind)
{
	WindowObject window = PG_WINDOW_OBJECT();
	WindowBatch *batch;
	int64		position;
	int			reply;

#if PG_VERSION_NUM >= 190000
	WinCheckAndInitializeNullTreatment(window, false, fcinfo);
#endif
	batch = WinGetPartitionLocalMemory(window, sizeof(WindowBatch));
	position = WinGetCurrentPosition(window);
	if (batch->rows_context == NULL)
		InitBatch(batch, fcinfo, kind->nargs);
	if (batch->rows == 0 || position >= batch->base + batch->rows)
		RunBatch(window, batch, kind, position);
	reply = batch->reply_of[position - batch->base];
	return reply < 0 ? NULL : &batch->replies[reply];
}

bool
D2cWindowRead(FunctionCallInfo fcinfo, const D2cWindowKind *kind, d2c_reader *reader)
{
	const D2cReply *reply = D2cWindowReply(fcinfo, kind);

	if (reply == NULL)
		return false;
	if (reply->status != D2C_OK)
		D2cEngineRaise(reply);
	*reader = (d2c_reader) {reply->payload, reply->payload + reply->length, 0};
	return true;
}
