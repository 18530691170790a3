/*
 * window_batch.h: window functions that send many rows to the engine at once.
 *
 * The function looks ahead as many rows as a batch holds, sends them together, and answers each row from what came
 * back.  Batches grow from 32 rows, so that LIMIT 1 reads 32, and are bounded by d2c.batch_memory.
 */
#ifndef D2C_PG_WINDOW_BATCH_H
#define D2C_PG_WINDOW_BATCH_H

#include "postgres.h"
#include "fmgr.h"

#include "pg/engine_client.h"

#define D2C_WINDOW_MAX_ARGS 8

/*
 * Writes one row's request; no argument is NULL.  Runs in a context that is reset after the row.
 */
typedef void (*D2cEncodeRow) (StringInfo payload, const Datum *args);

typedef struct D2cWindowKind
{
	d2c_request request;
	int			nargs;			/* at most D2C_WINDOW_MAX_ARGS */
	D2cEncodeRow encode;
	bool		isolate;		/* rows that crash the engine are answered D2C_BAD_DATA */
} D2cWindowKind;

/* The same function's scalar form: its arguments, of which none is NULL, as one request; raises unless it is done. */
extern d2c_reader D2cScalarCall(FunctionCallInfo fcinfo, const D2cWindowKind *kind);

/*
 * The reply for the window's current row, valid until the function's next call; NULL when one of its arguments is NULL.
 * kind must have static storage.
 */
extern const D2cReply *D2cWindowReply(FunctionCallInfo fcinfo, const D2cWindowKind *kind);

/* The same for functions that end the query when the engine could not do the row; false when an argument is NULL. */
extern bool D2cWindowRead(FunctionCallInfo fcinfo, const D2cWindowKind *kind, d2c_reader *reader);

#endif
