/*
 * image.c: what SQL asks of images in bytea; the engine decodes them, this process never looks inside.
 */
#include "postgres.h"

#include "compat.h"
#include "fmgr.h"
#include "pg/engine_client.h"
#include "pg/result_row.h"
#include "utils/builtins.h"

#define DEFAULT_EDGE 96

static int32
CheckEdge(int32 edge)
{
	if (edge < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("edge must be at least 1 pixel, not %d", edge)));
	return edge;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_image_info);
Datum
d2c_image_info(PG_FUNCTION_ARGS)
{
	StringInfoData payload;
	d2c_reader	reader;
	Datum		values[4];
	bool		nulls[4] = {0};

	initStringInfo(&payload);
	D2cPutBytea(&payload, PG_GETARG_DATUM(0));
	reader = D2cEngineCall(D2C_REQUEST_IMAGE_INFO, &payload);
	values[0] = CStringGetTextDatum(D2cReadText(&reader));
	for (int i = 1; i < 4; i++)
		values[i] = Int32GetDatum((int32) d2c_read_u32(&reader));
	return D2cResultRow(fcinfo, values, nulls);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_thumbnail);
Datum
d2c_thumbnail(PG_FUNCTION_ARGS)
{
	StringInfoData payload;
	d2c_reader	reader;

	initStringInfo(&payload);
	D2cPutBytea(&payload, PG_GETARG_DATUM(0));
	D2cPutU32(&payload, CheckEdge(PG_GETARG_INT32(1)));
	reader = D2cEngineCall(D2C_REQUEST_THUMBNAIL, &payload);
	PG_RETURN_BYTEA_P(D2cReadBytea(&reader));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_phash);
Datum
d2c_phash(PG_FUNCTION_ARGS)
{
	StringInfoData payload;
	d2c_reader	reader;

	initStringInfo(&payload);
	D2cPutBytea(&payload, PG_GETARG_DATUM(0));
	reader = D2cEngineCall(D2C_REQUEST_PHASH, &payload);
	PG_RETURN_INT64(d2c_read_i64(&reader));
}

/* A contact sheet's cells so far, as the engine will read them. */
typedef struct SheetState
{
	int32		edge;
	uint32		count;
	StringInfoData cells;
} SheetState;

/*
 * The state, made on the first row; edge is argument 3 where the call has it, and equal for all rows
 */
static SheetState *
GetSheet(FunctionCallInfo fcinfo)
{
	MemoryContext context;
	SheetState *sheet;
	int32		edge = PG_NARGS() > 3 && !PG_ARGISNULL(3) ? CheckEdge(PG_GETARG_INT32(3)) : DEFAULT_EDGE;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "contact sheet function called outside an aggregate");
	if (!PG_ARGISNULL(0))
	{
		sheet = (SheetState *) PG_GETARG_POINTER(0);
		if (sheet->edge != edge)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("edge must be equal for all images of a contact sheet")));
		return sheet;
	}
	context = MemoryContextSwitchTo(context);
	sheet = palloc0(sizeof(SheetState));
	sheet->edge = edge;
	initStringInfo(&sheet->cells);
	MemoryContextSwitchTo(context);
	return sheet;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_contact_sheet_accum);
Datum
d2c_contact_sheet_accum(PG_FUNCTION_ARGS)
{
	SheetState *sheet = GetSheet(fcinfo);
	bytea	   *image;
	char	   *caption;

	if (PG_ARGISNULL(1))
		PG_RETURN_POINTER(sheet);
	image = PG_GETARG_BYTEA_PP(1);
	caption = PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	/* A caption may grow fourfold on its way to UTF-8. */
	if (sheet->cells.len + (uint64) VARSIZE_ANY_EXHDR(image) + 4 * strlen(caption) > D2C_FRAME_LIMIT - 64)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("images of a contact sheet are larger than 1 GB together"),
				 errdetail("It holds %u images so far.", sheet->count),
				 errhint("Shrink them with d2c_thumbnail() first, or make several sheets.")));
	D2cPutBytes(&sheet->cells, VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image));
	D2cPutText(&sheet->cells, caption);
	sheet->count++;
	PG_RETURN_POINTER(sheet);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_contact_sheet_final);
Datum
d2c_contact_sheet_final(PG_FUNCTION_ARGS)
{
	SheetState *sheet = PG_ARGISNULL(0) ? NULL : (SheetState *) PG_GETARG_POINTER(0);
	StringInfoData payload;
	d2c_reader	reader;

	if (sheet == NULL || sheet->count == 0)
		PG_RETURN_NULL();
	initStringInfo(&payload);
	D2cPutU32(&payload, sheet->edge);
	D2cPutU32(&payload, 0);
	D2cPutU32(&payload, sheet->count);
	appendBinaryStringInfo(&payload, sheet->cells.data, sheet->cells.len);
	reader = D2cEngineCall(D2C_REQUEST_CONTACT_SHEET, &payload);
	PG_RETURN_BYTEA_P(D2cReadBytea(&reader));
}
