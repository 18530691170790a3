/* result_row.h: results of a row type. */
#ifndef D2C_PG_RESULT_ROW_H
#define D2C_PG_RESULT_ROW_H

#include "postgres.h"
#include "fmgr.h"

/* A row of the call's result type.  The type is looked up once a query, and kept in the call's fn_extra. */
extern Datum D2cResultRow(FunctionCallInfo fcinfo, Datum *values, bool *nulls);

#endif
