/*
 * select_io.c: the text and binary forms of d2c_selection, by which states travel between servers.
 *
 * Text: interval bigint k=96 n=10 seed=0 {0.25:17,0.5:4}; text ids are quoted, with \ before " and \.  Ccs has its cut
 * behind the seed (cut=0.1); methods that choose by features have the feature's width (width=3), and each row's feature
 * in the place of its score: {[1,0,2]:17}.
 * Binary, in network order: version, kind, method (a byte each), int32 k and n, int64 seed, float8 cut, int32 width and
 * count, then per entry the float8 score, or the float4s of the feature, and the id as its own type sends it, preceded
 * for text by its int32 length.
 */
#include "postgres.h"

#include <errno.h>
#include <math.h>

#include "common/shortest_dec.h"
#include "compat.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "pg/input_error.h"
#include "select.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/uuid.h"

/* The fewest bytes that an entry takes in the binary form. */
#define ENTRY_BYTES 12
#define MAX_WIDTH (1 << 26)

typedef struct SelectionParser
{
	const char *text;
	const char *at;
	struct Node *escontext;
	bool		failed;
} SelectionParser;

static void
FailBecause(SelectionParser *parser, const char *detail)
{
	if (parser->failed)
		return;
	parser->failed = true;
	D2cInputError(parser->escontext, "d2c_selection", parser->text, detail);
}

static void
Fail(SelectionParser *parser)
{
	FailBecause(parser, NULL);
}

/*
 * Take these characters if they come next
 */
static bool
Take(SelectionParser *parser, const char *characters)
{
	size_t		length = strlen(characters);

	if (strncmp(parser->at, characters, length) != 0)
		return false;
	parser->at += length;
	return true;
}

static void
Require(SelectionParser *parser, const char *characters)
{
	if (!parser->failed && !Take(parser, characters))
		Fail(parser);
}

static int64
TakeInteger(SelectionParser *parser, int64 low, int64 high)
{
	char	   *end;
	int64		value;

	if (parser->failed)
		return low;
	errno = 0;
	value = strtoll(parser->at, &end, 10);
	if (end == parser->at || errno != 0 || value < low || value > high)
		Fail(parser);
	parser->at = end;
	return value;
}

static float8
TakeScore(SelectionParser *parser)
{
	char	   *end;
	float8		value;

	if (parser->failed)
		return 0;
	value = strtod(parser->at, &end);
	if (end == parser->at || isnan(value))
		Fail(parser);
	parser->at = end;
	return value;
}

/*
 * Take "[1,0,2]"
 */
static void
TakeFeature(SelectionParser *parser, float *feature, int width)
{
	Require(parser, "[");
	for (int i = 0; i < width && !parser->failed; i++)
	{
		char	   *end;

		if (i > 0)
			Require(parser, ",");
		feature[i] = strtof(parser->at, &end);
		if (end == parser->at || !isfinite(feature[i]))
			Fail(parser);
		parser->at = end;
	}
	Require(parser, "]");
}

/*
 * Take the name of a method and the name of a kind
 */
static void
TakeNames(SelectionParser *parser, SelectionParameters *parameters)
{
	parameters->method = 0;
	for (int i = SELECTION_INTERVAL; i <= SELECTION_LAST_METHOD && parameters->method == 0; i++)
	{
		if (Take(parser, SelectionMethodName(i)))
			parameters->method = i;
	}
	Require(parser, " ");
	parameters->kind = 0;
	for (int i = SELECTION_BIGINT; i <= SELECTION_UUID && parameters->kind == 0; i++)
	{
		if (Take(parser, SelectionKindName(i)))
			parameters->kind = i;
	}
	if (parameters->method == 0 || parameters->kind == 0)
		Fail(parser);
}

/*
 * Take a quoted text
 */
static void
TakeQuoted(SelectionParser *parser, SelectionId *id)
{
	StringInfoData buf;

	initStringInfo(&buf);
	Require(parser, "\"");
	while (!parser->failed && *parser->at != '"')
	{
		if (*parser->at == '\\')
			parser->at++;
		if (*parser->at == '\0')
			Fail(parser);
		else
			appendStringInfoChar(&buf, *parser->at++);
	}
	Require(parser, "\"");
	id->bytes = buf.data;
	id->length = buf.len;
}

static int
HexDigit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/*
 * Take a uuid's 32 hexadecimal digits
 */
static void
TakeUuid(SelectionParser *parser, SelectionId *id)
{
	char	   *bytes = palloc(UUID_LEN);

	for (int i = 0; i < UUID_LEN && !parser->failed; i++)
	{
		int			high = HexDigit(parser->at[0]);
		int			low = high < 0 ? -1 : HexDigit(parser->at[1]);

		if (low < 0)
			Fail(parser);
		else
			bytes[i] = (char) (high << 4 | low);
		parser->at += low < 0 ? 0 : 2;
	}
	id->bytes = bytes;
	id->length = UUID_LEN;
}

static void
TakeId(SelectionParser *parser, SelectionId *id, SelectionKind kind)
{
	if (kind == SELECTION_BIGINT)
		id->number = TakeInteger(parser, PG_INT64_MIN, PG_INT64_MAX);
	else if (kind == SELECTION_TEXT)
		TakeQuoted(parser, id);
	else
		TakeUuid(parser, id);
}

/*
 * Take one row, its score or its feature first
 */
static D2cSelection *
TakeEntry(SelectionParser *parser, D2cSelection *selection, float *feature, int width)
{
	SelectionId id = {0};
	float8		score = 0;

	if (width > 0)
		TakeFeature(parser, feature, width);
	else
		score = TakeScore(parser);
	Require(parser, ":");
	TakeId(parser, &id, selection->kind);
	if (*parser->at != '}')
		Require(parser, ",");
	if (parser->failed)
		return selection;
	selection = width > 0 ? SelectionAddFeature(selection, &id, feature, width) : SelectionAdd(selection, score, &id);
	if (selection->kind != SELECTION_BIGINT)
		pfree((char *) id.bytes);
	return selection;
}

/*
 * Take what stands before the rows; returns the width of the features
 */
static int
TakeParameters(SelectionParser *parser, SelectionParameters *parameters)
{
	int			width = 0;

	TakeNames(parser, parameters);
	Require(parser, " k=");
	parameters->k = TakeInteger(parser, 1, PG_INT32_MAX);
	if (parameters->k > 1 && parameters->method != SELECTION_INTERVAL)
		FailBecause(parser, "Only method interval takes k above 1.");
	Require(parser, " n=");
	parameters->n = TakeInteger(parser, 1, PG_INT32_MAX);
	Require(parser, " seed=");
	parameters->seed = TakeInteger(parser, PG_INT64_MIN, PG_INT64_MAX);
	parameters->cut = 0;
	if (parameters->method == SELECTION_CCS)
	{
		Require(parser, " cut=");
		parameters->cut = TakeScore(parser);
		if (!(parameters->cut >= 0 && parameters->cut < 1))
			FailBecause(parser, "The share of rows to leave out must be at least 0 and less than 1.");
	}
	if (SELECTION_BY_FEATURES(parameters->method))
	{
		Require(parser, " width=");
		/* Each element takes two characters at least. */
		width = TakeInteger(parser, 0, Min(strlen(parser->at), MAX_WIDTH));
	}
	Require(parser, " {");
	return width;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_selection_in);
Datum
d2c_selection_in(PG_FUNCTION_ARGS)
{
	SelectionParser parser = {.text = PG_GETARG_CSTRING(0)};
	SelectionParameters parameters;
	D2cSelection *selection = NULL;
	float	   *feature = NULL;
	int			width;

	parser.at = parser.text;
	parser.escontext = fcinfo->context;
	width = TakeParameters(&parser, &parameters);
	if (!parser.failed)
	{
		selection = SelectionMake(&parameters, 0);
		feature = palloc(sizeof(float) * Max(width, 1));
		if (SELECTION_BY_FEATURES(parameters.method) && width == 0 && *parser.at != '}')
			Fail(&parser);
	}
	while (!parser.failed && *parser.at != '}')
	{
		selection = TakeEntry(&parser, selection, feature, width);
		CHECK_FOR_INTERRUPTS();
	}
	Require(&parser, "}");
	if (*parser.at != '\0')
		Fail(&parser);
	if (parser.failed)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(selection);
}

static void
AppendId(StringInfo buf, SelectionKind kind, const SelectionId *id)
{
	switch (kind)
	{
		case SELECTION_BIGINT:
			appendStringInfo(buf, INT64_FORMAT, id->number);
			break;
		case SELECTION_TEXT:
			appendStringInfoChar(buf, '"');
			for (uint32 i = 0; i < id->length; i++)
			{
				if (id->bytes[i] == '"' || id->bytes[i] == '\\')
					appendStringInfoChar(buf, '\\');
				appendStringInfoChar(buf, id->bytes[i]);
			}
			appendStringInfoChar(buf, '"');
			break;
		case SELECTION_UUID:
			for (uint32 i = 0; i < id->length; i++)
				appendStringInfo(buf, "%02x", (unsigned char) id->bytes[i]);
			break;
	}
}

static void
AppendFeature(StringInfo buf, const float *feature, int width)
{
	char		number[FLOAT_SHORTEST_DECIMAL_LEN];

	for (int i = 0; i < width; i++)
	{
		float_to_shortest_decimal_buf(feature[i], number);
		appendStringInfo(buf, "%c%s", i > 0 ? ',' : '[', number);
	}
	appendStringInfoChar(buf, ']');
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_selection_out);
Datum
d2c_selection_out(PG_FUNCTION_ARGS)
{
	D2cSelection *selection = SelectionCheck(PG_DETOAST_DATUM(PG_GETARG_DATUM(0)));
	char		number[DOUBLE_SHORTEST_DECIMAL_LEN];
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s %s k=%d n=%d seed=" INT64_FORMAT, SelectionMethodName(selection->method),
					 SelectionKindName(selection->kind), selection->k, selection->n, selection->seed);
	double_to_shortest_decimal_buf(selection->cut, number);
	if (selection->method == SELECTION_CCS)
		appendStringInfo(&buf, " cut=%s", number);
	if (SELECTION_BY_FEATURES(selection->method))
		appendStringInfo(&buf, " width=%u", selection->width);
	appendStringInfoString(&buf, " {");
	for (uint32 i = 0; i < selection->count; i++)
	{
		SelectionId id;

		if (i > 0)
			appendStringInfoChar(&buf, ',');
		double_to_shortest_decimal_buf(selection->entries[i].score, number);
		if (selection->width > 0)
			AppendFeature(&buf, SELECTION_FEATURE(selection, i), selection->width);
		else
			appendStringInfoString(&buf, number);
		appendStringInfoChar(&buf, ':');
		SelectionGetId(&id, selection, &selection->entries[i]);
		AppendId(&buf, selection->kind, &id);
		CHECK_FOR_INTERRUPTS();
	}
	appendStringInfoChar(&buf, '}');
	PG_RETURN_CSTRING(buf.data);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_selection_send);
Datum
d2c_selection_send(PG_FUNCTION_ARGS)
{
	D2cSelection *selection = SelectionCheck(PG_DETOAST_DATUM(PG_GETARG_DATUM(0)));
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbyte(&buf, SELECTION_VERSION);
	pq_sendbyte(&buf, selection->kind);
	pq_sendbyte(&buf, selection->method);
	pq_sendint32(&buf, selection->k);
	pq_sendint32(&buf, selection->n);
	pq_sendint64(&buf, selection->seed);
	pq_sendfloat8(&buf, selection->cut);
	pq_sendint32(&buf, selection->width);
	pq_sendint32(&buf, selection->count);
	for (uint32 i = 0; i < selection->count; i++)
	{
		SelectionId id;

		SelectionGetId(&id, selection, &selection->entries[i]);
		if (selection->width == 0)
			pq_sendfloat8(&buf, selection->entries[i].score);
		for (uint32 j = 0; j < selection->width; j++)
			pq_sendfloat4(&buf, SELECTION_FEATURE(selection, i)[j]);
		if (selection->kind == SELECTION_BIGINT)
			pq_sendint64(&buf, id.number);
		else if (selection->kind == SELECTION_TEXT)
			pq_sendcountedtext(&buf, id.bytes, id.length);
		else
			pq_sendbytes(&buf, id.bytes, id.length);
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

static void
BadBinary(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("invalid binary form of type %s", "d2c_selection"),
			 errdetail("%s", what)));
}

/*
 * Read one id; a text is converted from the client's encoding and verified
 */
static void
ReceiveId(StringInfo buf, SelectionKind kind, SelectionId *id)
{
	int			length;

	if (kind == SELECTION_BIGINT)
	{
		id->number = pq_getmsgint64(buf);
		return;
	}
	if (kind == SELECTION_UUID)
	{
		id->bytes = pq_getmsgbytes(buf, UUID_LEN);
		id->length = UUID_LEN;
		return;
	}
	length = pq_getmsgint(buf, 4);
	if (length < 0 || length > buf->len - buf->cursor)
		BadBinary("An id is longer than the message.");
	id->bytes = pq_getmsgtext(buf, length, &length);
	id->length = length;
}

/*
 * Read one row, its score or its feature first
 */
static D2cSelection *
ReceiveEntry(StringInfo buf, D2cSelection *selection, float *feature, int width)
{
	float8		score = width > 0 ? 0 : pq_getmsgfloat8(buf);
	SelectionId id = {0};

	if (isnan(score))
		BadBinary("A score is NaN.");
	for (int i = 0; i < width; i++)
	{
		feature[i] = pq_getmsgfloat4(buf);
		if (!isfinite(feature[i]))
			BadBinary("A feature is not finite.");
	}
	ReceiveId(buf, selection->kind, &id);
	return width > 0 ? SelectionAddFeature(selection, &id, feature, width) : SelectionAdd(selection, score, &id);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_selection_recv);
Datum
d2c_selection_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	SelectionParameters parameters;
	D2cSelection *selection;
	float	   *feature;
	int			width;
	int			count;

	if (pq_getmsgbyte(buf) != SELECTION_VERSION)
		BadBinary("The version is not supported.");
	parameters.kind = pq_getmsgbyte(buf);
	parameters.method = pq_getmsgbyte(buf);
	if (parameters.kind < SELECTION_BIGINT || parameters.kind > SELECTION_UUID ||
		parameters.method < SELECTION_INTERVAL || parameters.method > SELECTION_LAST_METHOD)
		BadBinary("There is no such method or kind of id.");
	parameters.k = pq_getmsgint(buf, 4);
	parameters.n = pq_getmsgint(buf, 4);
	parameters.seed = pq_getmsgint64(buf);
	parameters.cut = pq_getmsgfloat8(buf);
	width = pq_getmsgint(buf, 4);
	count = pq_getmsgint(buf, 4);
	if (width < 0 || width > MAX_WIDTH || (width > 0 && !SELECTION_BY_FEATURES(parameters.method)) ||
		(width == 0 && count > 0 && SELECTION_BY_FEATURES(parameters.method)))
		BadBinary("The width of the features does not fit the method.");
	if (count < 0 ||
		count > (buf->len - buf->cursor) / (width > 0 ? (int64) sizeof(float) * width + 4 : ENTRY_BYTES))
		BadBinary("The number of entries does not fit the message.");
	selection = SelectionMake(&parameters, 0);
	feature = palloc(sizeof(float) * Max(count > 0 ? width : 0, 1));
	for (int i = 0; i < count; i++)
		selection = ReceiveEntry(buf, selection, feature, width);
	PG_RETURN_POINTER(selection);
}
