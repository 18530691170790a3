/*
 * postgres_shim.h: as much of a PostgreSQL backend as input functions need, so that they run under a fuzzer.
 *
 * Memory is freed as a whole after a call; an error ends the call and is counted, as a transaction's abort would be.
 */
#ifndef D2C_FUZZ_POSTGRES_SHIM_H
#define D2C_FUZZ_POSTGRES_SHIM_H

#include "postgres.h"
#include "fmgr.h"

/* Calls a function of SQL with up to three arguments; false when it raised an error. */
extern bool shim_call(Datum *result, PGFunction function, Datum a, Datum b, Datum c);

/* Frees what calls allocated. */
extern void shim_reset(void);

#endif
