/*
 * fuzz_selection.c: any bytes as a selection's text and binary form; the first byte says which.  What is accepted is
 * written and read again, and the same ids must then be picked: what cannot be picked may be dropped at other moments.
 *
 *    make fuzz && build/fuzz/fuzz_selection CORPUS test/golden/selection/seeds
 */
#include "postgres_shim.h"

#include <limits.h>

#include "lib/stringinfo.h"
#include "pg/compat.h"
#include "pg/settings.h"
#include "select.h"

/* Everything is picked here: there is no engine. */
int			d2c_select_memory = INT_MAX;

void
SelectionAskEngine(int64 *chosen, const float **features, int64 count, int64 width, SelectionMethod method, int64 ranks)
{
	abort();
}

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

static uint64
mix(uint64 hash, const void *data, size_t length)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * UINT64CONST(0x100000001b3);
	return hash;
}

/* A hash of the picked ids, in their order; a function that shim_call can call. */
static Datum
pick(PG_FUNCTION_ARGS)
{
	D2cSelection *selection = SelectionCheck(PG_GETARG_POINTER(0));
	uint64 hash = UINT64CONST(0xcbf29ce484222325);
	SelectionEntry *picked;
	int count;

	picked = SelectionPick(selection, &count);
	require(count >= 0 && (uint32) count <= selection->count);
	for (int i = 0; i < count; i++)
	{
		SelectionId id;

		SelectionGetId(&id, selection, &picked[i]);
		hash = selection->kind == SELECTION_BIGINT ? mix(hash, &id.number, sizeof id.number) :
			mix(hash, id.bytes, id.length);
	}
	PG_RETURN_UINT64(hash);
}

/* The picks of a selection, or of what it is read as again; an error in picking is a result like another. */
static uint64
picks(Datum selection)
{
	Datum hash;

	return shim_call(&hash, pick, selection, (Datum) 0, (Datum) 0) ? DatumGetUInt64(hash) : 0;
}

static void
check_round_trips(Datum selection)
{
	Datum text, binary, again;

	require(shim_call(&text, d2c_selection_out, selection, (Datum) 0, (Datum) 0));
	require(read_text(&again, DatumGetCString(text)));
	require(picks(again) == picks(selection));
	require(shim_call(&binary, d2c_selection_send, selection, (Datum) 0, (Datum) 0));
	require(read_binary(&again, VARDATA(DatumGetPointer(binary)), VARSIZE(DatumGetPointer(binary)) - VARHDRSZ));
	require(picks(again) == picks(selection));
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
