/*
 * attach.c: embeddings of prompts and images, one at a time and as window functions over batches.
 */
#include "postgres.h"

#include "compat.h"
#include "fmgr.h"
#include "pg/engine_client.h"
#include "pg/result_row.h"
#include "pg/window_batch.h"
#include "tensor.h"
#include "utils/builtins.h"

/* Arguments prompt or image, model, tokens. */
#define ATTACH_ARGS 3

static uint32
CheckTokens(int32 tokens, int32 least)
{
	if (tokens < least)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of tokens must be at least %d, not %d", least, tokens)));
	return tokens;
}

static void
EncodeText(StringInfo payload, const Datum *args)
{
	D2cPutText(payload, TextDatumGetCString(args[1]));
	D2cPutText(payload, TextDatumGetCString(args[0]));
	D2cPutU32(payload, CheckTokens(DatumGetInt32(args[2]), 1));
}

static void
EncodeImage(StringInfo payload, const Datum *args)
{
	D2cPutText(payload, TextDatumGetCString(args[1]));
	D2cPutBytea(payload, args[0]);
	D2cPutU32(payload, CheckTokens(DatumGetInt32(args[2]), 0));
}

/*
 * The row (embedding, mask) of a reply
 */
static Datum
TextEmbeddingDatum(FunctionCallInfo fcinfo, d2c_reader *reader)
{
	Datum		values[2];
	bool		nulls[2] = {false, false};

	values[0] = PointerGetDatum(D2cReadTensor(reader));
	values[1] = PointerGetDatum(D2cReadTensor(reader));
	return D2cResultRow(fcinfo, values, nulls);
}

static const D2cWindowKind prompts = {D2C_REQUEST_TEXT_EMBEDDING, ATTACH_ARGS, EncodeText, false};
static const D2cWindowKind images = {D2C_REQUEST_VISUAL_EMBEDDING, ATTACH_ARGS, EncodeImage, false};

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_text_embedding);
Datum
d2c_text_embedding(PG_FUNCTION_ARGS)
{
	d2c_reader	reader = D2cScalarCall(fcinfo, &prompts);

	return TextEmbeddingDatum(fcinfo, &reader);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_text_embedding_batched);
Datum
d2c_text_embedding_batched(PG_FUNCTION_ARGS)
{
	d2c_reader	reader;

	if (!D2cWindowRead(fcinfo, &prompts, &reader))
		PG_RETURN_NULL();
	return TextEmbeddingDatum(fcinfo, &reader);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_visual_embedding);
Datum
d2c_visual_embedding(PG_FUNCTION_ARGS)
{
	d2c_reader	reader = D2cScalarCall(fcinfo, &images);

	PG_RETURN_D2C_TENSOR(D2cReadTensor(&reader));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_visual_embedding_batched);
Datum
d2c_visual_embedding_batched(PG_FUNCTION_ARGS)
{
	d2c_reader	reader;

	if (!D2cWindowRead(fcinfo, &images, &reader))
		PG_RETURN_NULL();
	PG_RETURN_D2C_TENSOR(D2cReadTensor(&reader));
}
