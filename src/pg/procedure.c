/*
 * procedure.c: what the procedures in sql/d2c/ cannot ask in SQL: whether they may commit, and who scores.
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "pg/engine_client.h"
#include "pg/result_row.h"
#include "utils/builtins.h"

/*
 * Whether COMMIT would fail where this procedure is called: in a transaction block, a function or an EXCEPTION block
 */
PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_is_atomic);
Datum
d2c_is_atomic(PG_FUNCTION_ARGS)
{
	bool		nulls[1] = {false};
	bool		atomic = IsSubTransaction();
	Datum		values[1];

	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext))
		elog(ERROR, "d2c_is_atomic must be called as a procedure");
	values[0] = BoolGetDatum(atomic || castNode(CallContext, fcinfo->context)->atomic);
	return D2cResultRow(fcinfo, values, nulls);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_model_info);
Datum
d2c_model_info(PG_FUNCTION_ARGS)
{
	StringInfoData payload;
	d2c_reader	reader;
	Datum		values[11];
	bool		nulls[11] = {false};
	char	   *vae;
	int			at = 0;

	initStringInfo(&payload);
	D2cPutText(&payload, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	reader = D2cEngineCall(D2C_REQUEST_PROVENANCE, &payload);
	for (int i = 0; i < 2; i++)
		values[at++] = CStringGetTextDatum(D2cReadText(&reader));
	for (int i = 0; i < 5; i++)
		values[at++] = Int32GetDatum((int32) d2c_read_u32(&reader));
	for (int i = 0; i < 3; i++)
		values[at++] = CStringGetTextDatum(D2cReadText(&reader));
	vae = D2cReadText(&reader);
	nulls[at] = vae[0] == '\0';
	values[at] = CStringGetTextDatum(vae);
	return D2cResultRow(fcinfo, values, nulls);
}
