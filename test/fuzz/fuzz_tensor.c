/*
 * fuzz_tensor.c: any bytes as a tensor's text and binary form.  The first byte says which, and the type's modifier.
 * What is accepted is written and read again, and must be the same value.
 *
 *    make fuzz && build/fuzz/fuzz_tensor CORPUS test/golden/tensor/seeds
 */
#include "postgres_shim.h"

#include "lib/stringinfo.h"
#include "pg/compat.h"
#include "pg/tensor.h"

extern Datum d2c_tensor_in(PG_FUNCTION_ARGS);
extern Datum d2c_tensor_out(PG_FUNCTION_ARGS);
extern Datum d2c_tensor_recv(PG_FUNCTION_ARGS);
extern Datum d2c_tensor_send(PG_FUNCTION_ARGS);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
require_equal(Datum a, Datum b)
{
	require(VARSIZE(DatumGetPointer(a)) == VARSIZE(DatumGetPointer(b)));
	require(memcmp(DatumGetPointer(a), DatumGetPointer(b), VARSIZE(DatumGetPointer(a))) == 0);
}

static bool
read_text(Datum *tensor, const char *text, int typmod)
{
	return shim_call(tensor, d2c_tensor_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
					 Int32GetDatum(typmod));
}

static bool
read_binary(Datum *tensor, char *bytes, int length, int typmod)
{
	StringInfoData message = {.data = bytes, .len = length};

	return shim_call(tensor, d2c_tensor_recv, PointerGetDatum(&message), ObjectIdGetDatum(InvalidOid),
					 Int32GetDatum(typmod));
}

/* Both forms give the value back; the text form knows one NaN only, so it is texts that are compared. */
static void
check_round_trips(Datum tensor)
{
	Datum written, again, text;
	bytea *binary;

	D2cTensorCheck(DatumGetPointer(tensor));
	require(shim_call(&written, d2c_tensor_out, tensor, (Datum) 0, (Datum) 0));
	require(read_text(&again, DatumGetCString(written), -1));
	require(shim_call(&text, d2c_tensor_out, again, (Datum) 0, (Datum) 0));
	require(strcmp(DatumGetCString(written), DatumGetCString(text)) == 0);
	require(shim_call(&written, d2c_tensor_send, tensor, (Datum) 0, (Datum) 0));
	binary = (bytea *) DatumGetPointer(written);
	require(read_binary(&again, VARDATA(binary), (int) VARSIZE(binary) - VARHDRSZ, -1));
	require_equal(tensor, again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	int typmod;
	char *rest;
	Datum tensor;
	bool accepted;

	if (length < 1)
		return 0;
	typmod = (bytes[0] >> 1) % 6 - 1;
	if (typmod == 2 || typmod > 4)
		typmod = -1;
	rest = palloc(length);
	memcpy(rest, bytes + 1, length - 1);
	rest[length - 1] = '\0';
	accepted = bytes[0] & 1 ? read_binary(&tensor, rest, (int) length - 1, typmod) : read_text(&tensor, rest, typmod);
	if (accepted)
		check_round_trips(tensor);
	shim_reset();
	return 0;
}
