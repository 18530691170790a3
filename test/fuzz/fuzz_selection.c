/*
 * fuzz_selection.c: any bytes as a selection's text and binary form; the first byte says which.  What is accepted is
 * picked from, written and read again, and must then write the same bytes.
 *
 *    make fuzz && build/fuzz/fuzz_selection CORPUS test/golden/selection/seeds
 */
#include "postgres_shim.h"

#include "lib/stringinfo.h"
#include "select.h"

extern Datum d2c_selection_in(PG_FUNCTION_ARGS);
extern Datum d2c_selection_out(PG_FUNCTION_ARGS);
extern Datum d2c_selection_recv(PG_FUNCTION_ARGS);
extern Datum d2c_selection_send(PG_FUNCTION_ARGS);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static bool
read_text(Datum *selection, const char *text)
{
	return shim_call(selection, d2c_selection_in, CStringGetDatum(text), (Datum) 0, (Datum) 0);
}

static bool
read_binary(Datum *selection, char *bytes, int length)
{
	StringInfoData message = {.data = bytes, .len = length};

	return shim_call(selection, d2c_selection_recv, PointerGetDatum(&message), (Datum) 0, (Datum) 0);
}

/* The picks of a final function, as one that shim_call can call. */
static Datum
pick(PG_FUNCTION_ARGS)
{
	D2cSelection *selection = SelectionCheck(PG_GETARG_POINTER(0));
	int count;

	SelectionPick(selection, &count);
	PG_RETURN_INT32(count);
}

static void
check_round_trips(Datum selection)
{
	uint32 held = ((D2cSelection *) DatumGetPointer(selection))->count;
	Datum text, binary, again, count;

	if (shim_call(&count, pick, selection, (Datum) 0, (Datum) 0))
		require(DatumGetInt32(count) >= 0 && (uint32) DatumGetInt32(count) <= held);
	require(shim_call(&text, d2c_selection_out, selection, (Datum) 0, (Datum) 0));
	require(read_text(&again, DatumGetCString(text)));
	require(shim_call(&again, d2c_selection_out, again, (Datum) 0, (Datum) 0));
	require(strcmp(DatumGetCString(text), DatumGetCString(again)) == 0);
	require(shim_call(&binary, d2c_selection_send, selection, (Datum) 0, (Datum) 0));
	require(read_binary(&again, VARDATA(DatumGetPointer(binary)), VARSIZE(DatumGetPointer(binary)) - VARHDRSZ));
	require(shim_call(&again, d2c_selection_out, again, (Datum) 0, (Datum) 0));
	require(strcmp(DatumGetCString(text), DatumGetCString(again)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	Datum selection;
	char *rest;

	if (length < 1)
		return 0;
	rest = palloc(length);
	memcpy(rest, bytes + 1, length - 1);
	rest[length - 1] = '\0';
	if (bytes[0] & 1 ? read_binary(&selection, rest, (int) length - 1) : read_text(&selection, rest))
		check_round_trips(selection);
	shim_reset();
	return 0;
}
