/* select_engine.c: asks the engine to pick by features, for groups above d2c.select_memory. */
#include "postgres.h"

#include "pg/engine_client.h"
#include "select.h"

void
SelectionAskEngine(int64 *chosen, const float **features, int64 count, int64 width, SelectionMethod method, int64 ranks)
{
	StringInfoData payload;
	d2c_reader	reader;
	bool		fits;

	initStringInfo(&payload);
	enlargeStringInfo(&payload, 4 * sizeof(uint32) + sizeof(float) * count * width);
	D2cPutU32(&payload, method);
	D2cPutU32(&payload, ranks);
	D2cPutU32(&payload, count);
	D2cPutU32(&payload, width);
	for (int64 i = 0; i < count; i++)
		appendBinaryStringInfo(&payload, (const char *) features[i], sizeof(float) * width);
	reader = D2cEngineCall(D2C_REQUEST_SELECT, &payload);
	pfree(payload.data);
	fits = d2c_read_u32(&reader) == ranks;
	for (int64 i = 0; i < ranks && fits; i++)
	{
		chosen[i] = d2c_read_u32(&reader);
		fits = chosen[i] < count && !reader.bad;
	}
	if (!fits)
		elog(ERROR, "the engine's selection does not fit the rows");
}
