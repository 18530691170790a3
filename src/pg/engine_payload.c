/* engine_payload.c: writing requests, reading replies, and what a status means in SQL. */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "pg/compat.h"
#include "pg/engine_client.h"
#include "utils/builtins.h"

int
D2cSqlState(d2c_status status)
{
	switch (status)
	{
		case D2C_OK:
			return ERRCODE_SUCCESSFUL_COMPLETION;
		case D2C_INVALID_ARGUMENT:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case D2C_BAD_DATA:
			return ERRCODE_DATA_EXCEPTION;
		case D2C_BAD_MODEL:
			return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
		case D2C_NOT_FOUND:
			return ERRCODE_UNDEFINED_OBJECT;
		case D2C_TOO_LARGE:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case D2C_NO_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		case D2C_IO:
			return ERRCODE_IO_ERROR;
		case D2C_UNSUPPORTED:
			return ERRCODE_FEATURE_NOT_SUPPORTED;
		case D2C_CANCELLED:
			return ERRCODE_QUERY_CANCELED;
		case D2C_DEVICE:
			return ERRCODE_SYSTEM_ERROR;
		case D2C_NOT_FINITE:
			return ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
		case D2C_INTERNAL:
			break;
	}
	return ERRCODE_INTERNAL_ERROR;
}

/*
 * The engine answers with these four only for what the row brought; trouble with the model has a status of its own.
 */
bool
D2cStatusIsRowError(d2c_status status)
{
	return status == D2C_INVALID_ARGUMENT || status == D2C_BAD_DATA || status == D2C_TOO_LARGE ||
		status == D2C_UNSUPPORTED;
}

void
D2cEngineRaise(const D2cReply *reply)
{
	ereport(ERROR,
			(errcode(D2cSqlState(reply->status)),
			 errmsg_internal("%s", reply->message),
			 reply->detail[0] != '\0' ? errdetail_internal("%s", reply->detail) : 0,
			 reply->hint[0] != '\0' ? errhint("%s", reply->hint) : 0));
}

void
D2cPutU32(StringInfo buf, uint32 value)
{
	appendBinaryStringInfo(buf, (const char *) &value, sizeof(value));
}

void
D2cPutI64(StringInfo buf, int64 value)
{
	appendBinaryStringInfo(buf, (const char *) &value, sizeof(value));
}

void
D2cPutF64(StringInfo buf, double value)
{
	appendBinaryStringInfo(buf, (const char *) &value, sizeof(value));
}

void
D2cPutBytes(StringInfo buf, const void *data, size_t length)
{
	if (length > D2C_FRAME_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("value is too large for the d2c engine"),
				 errdetail("It has %zu bytes, the limit is %u.", length, D2C_FRAME_LIMIT)));
	D2cPutU32(buf, (uint32) length);
	appendBinaryStringInfo(buf, data, (int) length);
}

void
D2cPutBytea(StringInfo buf, Datum value)
{
	bytea	   *bytes = DatumGetByteaPP(value);

	D2cPutBytes(buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

void
D2cPutText(StringInfo buf, const char *text)
{
	char	   *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);

	D2cPutBytes(buf, utf8, strlen(utf8));
}

char *
D2cReadText(d2c_reader *reader)
{
	size_t		length;
	const char *bytes = d2c_read_bytes(reader, &length);
	char	   *utf8 = bytes != NULL ? pnstrdup(bytes, length) : pstrdup("");

	return pg_any_to_server(utf8, strlen(utf8), PG_UTF8);
}

bytea *
D2cReadBytea(d2c_reader *reader)
{
	size_t		length;
	const char *bytes = d2c_read_bytes(reader, &length);

	return (bytea *) cstring_to_text_with_len(bytes != NULL ? bytes : "", length);
}
