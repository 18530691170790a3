/*
 * moments.c: adding to moments, merging them, and the type's text and binary forms.
 *
 * Text: {"n": 2, "mean": [1,2], "comoment": [0.5,0,0.5]}, the comoment's lower triangle by rows; shortest numbers that
 * read back as they were.  Binary, in network order: a version byte, int32 width, int64 n, then the float8 values.
 */
#include "moments.h"

#include <errno.h>
#include <math.h>

#include "common/int.h"
#include "common/shortest_dec.h"
#include "compat.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "pg/input_error.h"

D2cMoments *
MomentsMake(int64 width)
{
	D2cMoments *moments;

	if (width < 1 || width > MOMENTS_MAX_WIDTH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("moments must have between 1 and %d dimensions", MOMENTS_MAX_WIDTH),
				 errdetail("The feature has %lld.", (long long) width)));
	moments = palloc0(MOMENTS_SIZE(width));
	SET_VARSIZE(moments, MOMENTS_SIZE(width));
	moments->version = MOMENTS_VERSION;
	moments->width = width;
	return moments;
}

D2cMoments *
MomentsCheck(void *value)
{
	D2cMoments *moments = value;

	if (VARSIZE(moments) < MOMENTS_SIZE(1) || moments->version != MOMENTS_VERSION ||
		moments->width < 1 || moments->width > MOMENTS_MAX_WIDTH || moments->n < 0 ||
		VARSIZE(moments) != MOMENTS_SIZE(moments->width))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("d2c_moments value is damaged")));
	return moments;
}

/*
 * Add weight * delta delta' to the comoment
 */
static void
AddOuterProduct(D2cMoments *moments, const double *delta, double weight)
{
	double	   *row = MOMENTS_COMOMENT(moments);

	for (int i = 0; i < moments->width; i++)
	{
		double		scaled = weight * delta[i];

		for (int j = 0; j <= i; j++)
			row[j] += scaled * delta[j];
		row += i + 1;
	}
}

/*
 * Count more vectors
 */
static void
AddCount(D2cMoments *moments, int64 more)
{
	if (pg_add_s64_overflow(moments->n, more, &moments->n))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("moments hold too many vectors")));
}

void
MomentsAdd(D2cMoments *moments, const float *vector, double *scratch)
{
	double	   *mean = MOMENTS_MEAN(moments);
	double		n;

	AddCount(moments, 1);
	n = (double) moments->n;
	for (int i = 0; i < moments->width; i++)
	{
		scratch[i] = vector[i] - mean[i];
		mean[i] += scratch[i] / n;
	}
	AddOuterProduct(moments, scratch, (n - 1) / n);
}

/*
 * Vectors of floats cannot leave the range of doubles, but moments may come from anywhere
 */
static void
RequireFinite(const D2cMoments *moments)
{
	for (size_t i = 0; i < moments->width + MOMENTS_TRIANGLE(moments->width); i++)
	{
		if (!isfinite(moments->values[i]))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("merged moments are out of range")));
	}
}

void
MomentsMerge(D2cMoments *moments, const D2cMoments *other)
{
	double	   *mean = MOMENTS_MEAN(moments);
	double	   *comoment = MOMENTS_COMOMENT(moments);
	double	   *delta;
	double		n = (double) moments->n;
	double		m = (double) other->n;

	if (moments->width != other->width)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("moments have different numbers of dimensions"),
				 errdetail("They have %d and %d.", moments->width, other->width)));
	if (other->n == 0)
		return;
	AddCount(moments, other->n);
	delta = palloc(sizeof(double) * moments->width);
	for (int i = 0; i < moments->width; i++)
	{
		delta[i] = MOMENTS_MEAN(other)[i] - mean[i];
		mean[i] += delta[i] * (m / (n + m));
	}
	for (size_t i = 0; i < MOMENTS_TRIANGLE(moments->width); i++)
		comoment[i] += MOMENTS_COMOMENT(other)[i];
	AddOuterProduct(moments, delta, n * (m / (n + m)));
	pfree(delta);
	RequireFinite(moments);
}

/* Where the parser of the text form is. */
typedef struct MomentsParser
{
	const char *text;
	const char *at;
	struct Node *escontext;
	bool		failed;
} MomentsParser;

static void
Fail(MomentsParser *parser, const char *detail)
{
	if (parser->failed)
		return;
	parser->failed = true;
	D2cInputError(parser->escontext, "d2c_moments", parser->text, detail);
}

/*
 * Take these characters, and any space before them
 */
static void
Require(MomentsParser *parser, const char *characters)
{
	while (*parser->at == ' ' || (*parser->at >= '\t' && *parser->at <= '\r'))
		parser->at++;
	if (strncmp(parser->at, characters, strlen(characters)) == 0)
		parser->at += strlen(characters);
	else
		Fail(parser, "It is written as {\"n\": 2, \"mean\": [1,2], \"comoment\": [0.5,0,0.5]}.");
}

static int64
TakeCount(MomentsParser *parser)
{
	char	   *end;
	int64		n;

	Require(parser, "{");
	Require(parser, "\"n\"");
	Require(parser, ":");
	errno = 0;
	n = strtoll(parser->at, &end, 10);
	if (end == parser->at || errno != 0 || n < 0)
		Fail(parser, "\"n\" must be a whole number, at least 0.");
	parser->at = end;
	Require(parser, ",");
	return n;
}

/*
 * Take "name": [numbers]
 */
static float8 *
TakeNumbers(MomentsParser *parser, const char *name, size_t *count)
{
	size_t		capacity = 64;
	float8	   *numbers = palloc(sizeof(float8) * capacity);

	*count = 0;
	Require(parser, name);
	Require(parser, ":");
	Require(parser, "[");
	while (!parser->failed)
	{
		char	   *end;
		float8		number = strtod(parser->at, &end);

		if (end == parser->at || !isfinite(number))
		{
			Fail(parser, "A finite number was expected.");
			break;
		}
		if (*count == capacity)
			numbers = repalloc_huge(numbers, sizeof(float8) * (capacity *= 2));
		numbers[(*count)++] = number;
		CHECK_FOR_INTERRUPTS();
		parser->at = end;
		if (*parser->at != ',')
			break;
		parser->at++;
	}
	Require(parser, "]");
	return numbers;
}

/*
 * Whether there can be vectors with these moments: one has no spread, none have nothing
 */
static bool
IsPossible(const D2cMoments *moments)
{
	const double *comoment = MOMENTS_COMOMENT(moments);
	bool		possible = true;

	for (int i = 0; i < moments->width; i++)
	{
		possible &= moments->n > 0 || MOMENTS_MEAN(moments)[i] == 0;
		possible &= comoment[MOMENTS_TRIANGLE(i) + i] >= 0;
	}
	for (size_t i = 0; moments->n <= 1 && i < MOMENTS_TRIANGLE(moments->width); i++)
		possible &= comoment[i] == 0;
	return possible;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_in);
Datum
d2c_moments_in(PG_FUNCTION_ARGS)
{
	MomentsParser parser = {.text = PG_GETARG_CSTRING(0)};
	D2cMoments *moments;
	int64		n;
	float8	   *mean;
	float8	   *comoment;
	size_t		width;
	size_t		triangle;

	parser.at = parser.text;
	parser.escontext = fcinfo->context;
	n = TakeCount(&parser);
	mean = TakeNumbers(&parser, "\"mean\"", &width);
	Require(&parser, ",");
	comoment = TakeNumbers(&parser, "\"comoment\"", &triangle);
	Require(&parser, "}");
	while (*parser.at == ' ')
		parser.at++;
	if (*parser.at != '\0')
		Fail(&parser, "Junk after the closing brace.");
	if (!parser.failed && (width > MOMENTS_MAX_WIDTH || triangle != MOMENTS_TRIANGLE(width)))
		Fail(&parser, "For a mean of d numbers the comoment has d * (d + 1) / 2.");
	if (parser.failed)
		PG_RETURN_NULL();
	moments = MomentsMake(width);
	moments->n = n;
	memcpy(MOMENTS_MEAN(moments), mean, sizeof(float8) * width);
	memcpy(MOMENTS_COMOMENT(moments), comoment, sizeof(float8) * triangle);
	if (!IsPossible(moments))
		Fail(&parser, "One vector has no comoment, none have no mean, and no variance is negative.");
	if (parser.failed)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(moments);
}

static void
AppendNumbers(StringInfo buf, const float8 *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (i > 0)
			appendStringInfoChar(buf, ',');
		enlargeStringInfo(buf, DOUBLE_SHORTEST_DECIMAL_LEN);
		buf->len += double_to_shortest_decimal_bufn(numbers[i], buf->data + buf->len);
		CHECK_FOR_INTERRUPTS();
	}
	buf->data[buf->len] = '\0';
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_out);
Datum
d2c_moments_out(PG_FUNCTION_ARGS)
{
	D2cMoments *moments = PG_GETARG_D2C_MOMENTS(0);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"n\": " INT64_FORMAT ", \"mean\": [", moments->n);
	AppendNumbers(&buf, MOMENTS_MEAN(moments), moments->width);
	appendStringInfoString(&buf, "], \"comoment\": [");
	AppendNumbers(&buf, MOMENTS_COMOMENT(moments), MOMENTS_TRIANGLE(moments->width));
	appendStringInfoString(&buf, "]}");
	PG_RETURN_CSTRING(buf.data);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_send);
Datum
d2c_moments_send(PG_FUNCTION_ARGS)
{
	D2cMoments *moments = PG_GETARG_D2C_MOMENTS(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbyte(&buf, MOMENTS_VERSION);
	pq_sendint32(&buf, moments->width);
	pq_sendint64(&buf, moments->n);
	for (size_t i = 0; i < moments->width + MOMENTS_TRIANGLE(moments->width); i++)
		pq_sendfloat8(&buf, moments->values[i]);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_recv);
Datum
d2c_moments_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			version = pq_getmsgbyte(buf);
	int32		width = pq_getmsgint(buf, 4);
	int64		n = pq_getmsgint64(buf);
	D2cMoments *moments;

	if (version != MOMENTS_VERSION || n < 0 || width < 1 || width > MOMENTS_MAX_WIDTH ||
		(width + MOMENTS_TRIANGLE(width)) * sizeof(float8) != buf->len - buf->cursor)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid binary form of type %s", "d2c_moments")));
	moments = MomentsMake(width);
	moments->n = n;
	for (size_t i = 0; i < width + MOMENTS_TRIANGLE(width); i++)
	{
		moments->values[i] = pq_getmsgfloat8(buf);
		if (!isfinite(moments->values[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
					 errmsg("invalid binary form of type %s", "d2c_moments"),
					 errdetail("A number is not finite.")));
	}
	if (!IsPossible(moments))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid binary form of type %s", "d2c_moments"),
				 errdetail("There are no vectors with these moments.")));
	PG_RETURN_POINTER(moments);
}
