/*
 * tensor_io.c: the text and binary forms of the type tensor.
 */
#include "postgres.h"

#include <errno.h>
#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "compat.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "pg/input_error.h"
#include "tensor.h"
#include "utils/array.h"
#include "utils/memutils.h"

/* Where the parser of the text form is. */
typedef struct TensorParser
{
	const char *text;			/* the whole input, for messages */
	const char *at;
	int			dtype;
	int			depth;			/* brackets open */
	int			ndim;			/* 0 until the first element is met */
	int32		dims[D2C_TENSOR_MAX_DIMS];	/* known once its first bracket has closed, else 0 */
	int32		counts[D2C_TENSOR_MAX_DIMS];	/* items so far in each open bracket */
	StringInfoData data;
	struct Node *escontext;
} TensorParser;

static bool
SyntaxError(TensorParser *parser, const char *detail)
{
	D2cInputError(parser->escontext, "tensor", parser->text, detail);
	return false;
}

static void
SkipSpace(TensorParser *parser)
{
	while (*parser->at == ' ' || (*parser->at >= '\t' && *parser->at <= '\r'))
		parser->at++;
}

/*
 * Read "f16:"; without a prefix the elements are f32
 */
static bool
ParsePrefix(TensorParser *parser)
{
	const char *colon;

	SkipSpace(parser);
	parser->dtype = D2C_TENSOR_F32;
	if (*parser->at == '[')
		return true;
	colon = strchr(parser->at, ':');
	if (colon == NULL)
		return SyntaxError(parser, "A tensor starts with its element type and a colon, or with \"[\".");
	parser->dtype = D2cTensorTypeByName(parser->at, colon - parser->at);
	if (parser->dtype < 0)
		return SyntaxError(parser, "The element type must be f32, f16, bf16 or u8.");
	parser->at = colon + 1;
	return true;
}

/*
 * Read one number and append it to the data
 */
static bool
ParseElement(TensorParser *parser)
{
	char	   *end;
	float		value;
	char		element[sizeof(float)];

	if (parser->ndim == 0)
		parser->ndim = parser->depth;
	if (parser->depth != parser->ndim)
		return SyntaxError(parser, "All numbers must be at the same depth of brackets.");
	errno = 0;
	value = strtof(parser->at, &end);
	if (end == parser->at)
		return SyntaxError(parser, "A number or \"[\" was expected.");
	if ((errno == ERANGE && (value == 0 || isinf(value))) ||
		!D2cTensorStoreElement(element, parser->dtype, value))
		ereturn(parser->escontext, false,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("\"%.*s\" is out of range for type tensor(%s)", (int) Min(end - parser->at, 64),
						parser->at, D2cTensorTypeName(parser->dtype))));
	if (parser->dtype == D2C_TENSOR_U8 && value != rintf(value))
		return SyntaxError(parser, "Elements of type u8 must be whole numbers.");
	if (parser->data.len > MaxAllocSize - 64)
		ereturn(parser->escontext, false,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor is larger than 1 GB")));
	appendBinaryStringInfo(&parser->data, element, D2cTensorTypeSize(parser->dtype));
	parser->at = end;
	CHECK_FOR_INTERRUPTS();
	return true;
}

/*
 * Take "[": one dimension deeper
 */
static bool
OpenBracket(TensorParser *parser)
{
	if (parser->depth == D2C_TENSOR_MAX_DIMS)
		ereturn(parser->escontext, false,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor must have from 1 to %d dimensions", D2C_TENSOR_MAX_DIMS)));
	parser->counts[parser->depth++] = 0;
	parser->at++;
	return true;
}

/*
 * Take "]": the first at each depth fixes the dimension, the others must agree
 */
static bool
CloseBracket(TensorParser *parser)
{
	int32		count = ++parser->counts[--parser->depth];

	if (parser->dims[parser->depth] == 0)
		parser->dims[parser->depth] = count;
	if (parser->dims[parser->depth] != count)
		return SyntaxError(parser, "Brackets of one depth must hold equally many items.");
	parser->at++;
	return true;
}

/*
 * Read nested brackets down to the one that closes the first
 */
static bool
ParseBrackets(TensorParser *parser)
{
	bool		want_item = true;

	do
	{
		SkipSpace(parser);
		if (parser->depth == 0 && *parser->at != '[')
			return SyntaxError(parser, "\"[\" was expected.");
		if (want_item && *parser->at == '[')
		{
			if (!OpenBracket(parser))
				return false;
		}
		else if (want_item && *parser->at == ']')
			return SyntaxError(parser, "Empty brackets are not allowed: a dimension is at least 1.");
		else if (want_item)
		{
			if (!ParseElement(parser))
				return false;
			want_item = false;
		}
		else if (*parser->at == ',')
		{
			parser->counts[parser->depth - 1]++;
			parser->at++;
			want_item = true;
		}
		else if (*parser->at == ']')
		{
			if (!CloseBracket(parser))
				return false;
		}
		else
			return SyntaxError(parser, "\",\" or \"]\" was expected.");
	} while (parser->depth > 0);
	return true;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_in);
Datum
d2c_tensor_in(PG_FUNCTION_ARGS)
{
	TensorParser parser = {.text = PG_GETARG_CSTRING(0)};
	int32		typmod = PG_GETARG_INT32(2);
	D2cTensor  *tensor;

	parser.at = parser.text;
	parser.escontext = fcinfo->context;
	initStringInfo(&parser.data);
	if (!ParsePrefix(&parser) || !ParseBrackets(&parser))
		PG_RETURN_NULL();
	SkipSpace(&parser);
	if (*parser.at != '\0')
	{
		SyntaxError(&parser, "Junk after the closing bracket.");
		PG_RETURN_NULL();
	}
	tensor = D2cTensorMakeSafe(parser.dtype, parser.ndim, parser.dims, parser.escontext);
	if (tensor == NULL)
		PG_RETURN_NULL();
	memcpy(D2C_TENSOR_DATA(tensor), parser.data.data, parser.data.len);
	pfree(parser.data.data);
	if (typmod >= 0)
		tensor = D2cTensorConvert(tensor, typmod, parser.escontext);
	PG_RETURN_D2C_TENSOR(tensor);
}

/*
 * Append the shortest text that reads back as the same float
 */
static void
AppendFloat(StringInfo buf, float value)
{
	enlargeStringInfo(buf, FLOAT_SHORTEST_DECIMAL_LEN);
	buf->len += float_to_shortest_decimal_bufn(value, buf->data + buf->len);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_out);
Datum
d2c_tensor_out(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	int64		count = D2cTensorCount(tensor);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s:", D2cTensorTypeName(tensor->dtype));
	for (int64 i = 0; i < count; i++)
	{
		int64		run = 1;
		int			starts = 0;
		float		value;

		/* Element i opens and, i + 1 permitting, closes every dimension whose run it begins or ends. */
		while (starts < tensor->ndim && i % (run *= tensor->dims[tensor->ndim - 1 - starts]) == 0)
			starts++;
		if (i > 0)
		{
			for (int j = 0; j < starts; j++)
				appendStringInfoChar(&buf, ']');
			appendStringInfoChar(&buf, ',');
		}
		for (int j = 0; j < starts; j++)
			appendStringInfoChar(&buf, '[');
		D2cTensorLoad(&value, tensor, i, 1);
		AppendFloat(&buf, value);
		if ((i & 0xffff) == 0)
			CHECK_FOR_INTERRUPTS();
	}
	for (int j = 0; j < tensor->ndim; j++)
		appendStringInfoChar(&buf, ']');
	PG_RETURN_CSTRING(buf.data);
}

/*
 * Copy elements, swapping bytes where the machine is big-endian
 */
static void
CopyLittleEndian(char *to, const char *from, size_t bytes, size_t element)
{
#ifdef WORDS_BIGENDIAN
	for (size_t i = 0; i < bytes; i += element)
	{
		for (size_t j = 0; j < element; j++)
			to[i + j] = from[i + element - 1 - j];
	}
#else
	memcpy(to, from, bytes);
#endif
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_send);
Datum
d2c_tensor_send(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	size_t		bytes = D2cTensorBytes(tensor);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbyte(&buf, tensor->version);
	pq_sendbyte(&buf, tensor->dtype);
	pq_sendbyte(&buf, tensor->ndim);
	pq_sendbyte(&buf, 0);
	for (int i = 0; i < tensor->ndim; i++)
		pq_sendint32(&buf, tensor->dims[i]);
	enlargeStringInfo(&buf, bytes);
	CopyLittleEndian(buf.data + buf.len, D2C_TENSOR_DATA(tensor), bytes, D2cTensorTypeSize(tensor->dtype));
	buf.len += bytes;
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_recv);
Datum
d2c_tensor_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int32		typmod = PG_GETARG_INT32(2);
	int			version = pq_getmsgbyte(buf);
	int			dtype = pq_getmsgbyte(buf);
	int			ndim = pq_getmsgbyte(buf);
	int			reserved = pq_getmsgbyte(buf);
	int32		dims[D2C_TENSOR_MAX_DIMS];
	D2cTensor  *tensor;
	size_t		bytes = D2cTensorTypeSize(dtype);

	if (version != D2C_TENSOR_VERSION || reserved != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("unsupported version %d of the binary form of type tensor", version)));
	if (bytes == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("unknown element type %d of a tensor", dtype)));
	for (int i = 0; i < Min(ndim, D2C_TENSOR_MAX_DIMS); i++)
	{
		dims[i] = pq_getmsgint(buf, 4);
		/* A short message must not have memory allocated for what it claims to hold. */
		if (dims[i] > 0 && dims[i] > (buf->len - buf->cursor) / bytes)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
					 errmsg("insufficient data left in message"),
					 errdetail("A tensor's dimensions need more bytes than there are.")));
		bytes *= Max(dims[i], 1);
	}
	tensor = D2cTensorMakeSafe(dtype, ndim, dims, NULL);
	CopyLittleEndian(D2C_TENSOR_DATA(tensor), pq_getmsgbytes(buf, bytes), bytes, D2cTensorTypeSize(dtype));
	if (typmod >= 0)
		tensor = D2cTensorConvert(tensor, typmod, NULL);
	PG_RETURN_D2C_TENSOR(tensor);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_typmod_in);
Datum
d2c_tensor_typmod_in(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *elements;
	int			count;
	char	   *name;
	int			dtype;

	deconstruct_array(array, CSTRINGOID, -2, false, TYPALIGN_CHAR, &elements, NULL, &count);
	if (count != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("type tensor takes one modifier, the element type")));
	name = DatumGetCString(elements[0]);
	dtype = D2cTensorTypeByName(name, strlen(name));
	if (dtype < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid element type for type tensor: \"%s\"", name),
				 errhint("The element type must be f32, f16, bf16 or u8.")));
	PG_RETURN_INT32(dtype);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_typmod_out);
Datum
d2c_tensor_typmod_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(psprintf("(%s)", D2cTensorTypeName(PG_GETARG_INT32(0))));
}
