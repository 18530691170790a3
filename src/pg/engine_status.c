/* engine_status.c: looking at the engine from SQL, and stopping it. */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pg/engine_client.h"
#include "utils/acl.h"
#include "utils/builtins.h"

static void
PutStatusRow(ReturnSetInfo *result, const char *name, const char *value)
{
	Datum		values[2] = {CStringGetTextDatum(name), CStringGetTextDatum(value)};
	bool		nulls[2] = {false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * What everyone may know: whose work the engine does, and where, is for pg_monitor.
 */
static bool
IsPublicLine(const char *name)
{
	return strcmp(name, "device") == 0 || strcmp(name, "precision") == 0 || strcmp(name, "build") == 0;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_engine_status);
Datum
d2c_engine_status(PG_FUNCTION_ARGS)
{
	bool		all = has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	D2cReply	reply;
	d2c_reader	reader;
	uint32		lines;

	InitMaterializedSRF(fcinfo, 0);
	if (!D2cEngineAsk(D2C_REQUEST_STATUS, &reply))
	{
		PutStatusRow(result, "running", "false");
		return (Datum) 0;
	}
	if (reply.status != D2C_OK)
		D2cEngineRaise(&reply);
	PutStatusRow(result, "running", "true");
	reader = (d2c_reader) {reply.payload, reply.payload + reply.length, 0};
	lines = d2c_read_u32(&reader);
	while (lines-- > 0 && !reader.bad)
	{
		char	   *name = D2cReadText(&reader);
		char	   *value = D2cReadText(&reader);

		if (all || IsPublicLine(name))
			PutStatusRow(result, name, value);
	}
	return (Datum) 0;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_engine_stop);
Datum
d2c_engine_stop(PG_FUNCTION_ARGS)
{
	D2cReply	reply;

	PG_RETURN_BOOL(D2cEngineAsk(D2C_REQUEST_STOP, &reply));
}

enum ModelColumn
{
	MODEL_NAME,
	MODEL_KIND,
	MODEL_PARAMETERS,
	MODEL_RESOLUTION,
	MODEL_CHANNELS,
	MODEL_CLASSES,
	MODEL_EMBEDDING,
	MODEL_SHA256,
	MODEL_LOADED,
	MODEL_DEVICE,
	MODEL_PRECISION,
	MODEL_PROBLEM,
	MODEL_COLUMNS
};

/*
 * "" and 0 stand for what a model does not have.
 */
static void
SetText(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text[0] == '\0';
	values[column] = CStringGetTextDatum(text);
}

static void
SetCount(Datum *values, bool *nulls, int column, uint32 count)
{
	nulls[column] = count == 0;
	values[column] = Int32GetDatum((int32) count);
}

static void
PutModelRow(ReturnSetInfo *result, d2c_reader *reader, const D2cEngineInfo *engine)
{
	Datum		values[MODEL_COLUMNS];
	bool		nulls[MODEL_COLUMNS] = {0};
	uint32		width,
				height,
				loaded;

	SetText(values, nulls, MODEL_NAME, D2cReadText(reader));
	SetText(values, nulls, MODEL_KIND, D2cReadText(reader));
	values[MODEL_PARAMETERS] = Int64GetDatum(d2c_read_i64(reader));
	nulls[MODEL_PARAMETERS] = DatumGetInt64(values[MODEL_PARAMETERS]) == 0;
	width = d2c_read_u32(reader);
	height = d2c_read_u32(reader);
	SetText(values, nulls, MODEL_RESOLUTION, width > 0 ? psprintf("%ux%u", width, height) : "");
	SetCount(values, nulls, MODEL_CHANNELS, d2c_read_u32(reader));
	SetCount(values, nulls, MODEL_CLASSES, d2c_read_u32(reader));
	SetCount(values, nulls, MODEL_EMBEDDING, d2c_read_u32(reader));
	SetText(values, nulls, MODEL_SHA256, D2cReadText(reader));
	loaded = d2c_read_u32(reader);
	values[MODEL_LOADED] = BoolGetDatum(loaded != 0);
	SetText(values, nulls, MODEL_DEVICE, loaded ? engine->device : "");
	SetText(values, nulls, MODEL_PRECISION, loaded ? engine->precision : "");
	SetText(values, nulls, MODEL_PROBLEM, D2cReadText(reader));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_models);
Datum
d2c_models(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	StringInfoData payload;
	d2c_reader	reader;
	uint32		count;

	InitMaterializedSRF(fcinfo, 0);
	initStringInfo(&payload);
	reader = D2cEngineCall(D2C_REQUEST_MODELS, &payload);
	count = d2c_read_u32(&reader);
	while (count-- > 0 && !reader.bad)
		PutModelRow(result, &reader, D2cEngineConnect());
	return (Datum) 0;
}
