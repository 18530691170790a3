/*
 * latent.c: images to latents and back, one at a time and as window functions over batches.
 */
#include "postgres.h"

#include "compat.h"
#include "fmgr.h"
#include "pg/engine_client.h"
#include "pg/window_batch.h"
#include "tensor.h"
#include "utils/builtins.h"

/* Arguments image, model, size; and latent, model. */
#define LATENT_ARGS 3
#define DECODE_ARGS 2

static void
EncodeLatent(StringInfo payload, const Datum *args)
{
	int32		size = DatumGetInt32(args[2]);

	if (size < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("size must be at least 1 pixel, not %d", size)));
	D2cPutText(payload, TextDatumGetCString(args[1]));
	D2cPutBytea(payload, args[0]);
	D2cPutU32(payload, size);
}

static void
EncodeDecode(StringInfo payload, const Datum *args)
{
	D2cPutText(payload, TextDatumGetCString(args[1]));
	D2cPutTensor(payload, D2cTensorConvert(DatumGetD2cTensor(args[0]), D2C_TENSOR_F32, NULL));
}

static const D2cWindowKind latent = {D2C_REQUEST_LATENT, LATENT_ARGS, EncodeLatent, false};
static const D2cWindowKind decode = {D2C_REQUEST_DECODE_LATENT, DECODE_ARGS, EncodeDecode, false};

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_latent);
Datum
d2c_latent(PG_FUNCTION_ARGS)
{
	d2c_reader	reader = D2cScalarCall(fcinfo, &latent);

	PG_RETURN_D2C_TENSOR(D2cReadTensor(&reader));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_latent_batched);
Datum
d2c_latent_batched(PG_FUNCTION_ARGS)
{
	d2c_reader	reader;

	if (!D2cWindowRead(fcinfo, &latent, &reader))
		PG_RETURN_NULL();
	PG_RETURN_D2C_TENSOR(D2cReadTensor(&reader));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_decode_latent);
Datum
d2c_decode_latent(PG_FUNCTION_ARGS)
{
	d2c_reader	reader = D2cScalarCall(fcinfo, &decode);

	PG_RETURN_BYTEA_P(D2cReadBytea(&reader));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_decode_latent_batched);
Datum
d2c_decode_latent_batched(PG_FUNCTION_ARGS)
{
	d2c_reader	reader;

	if (!D2cWindowRead(fcinfo, &decode, &reader))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(D2cReadBytea(&reader));
}
