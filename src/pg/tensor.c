/*
 * tensor.c: making, checking and converting tensors (tensor.h has the layout).
 */
#include "postgres.h"

#include <math.h>

#include "compat.h"
#include "engine/protocol.h"
#include "engine_client.h"
#include "miscadmin.h"
#include "tensor.h"
#include "utils/memutils.h"

static const struct
{
	const char *name;
	D2cTensorType dtype;
	size_t		size;
}			types[] = {
	{"f32", D2C_TENSOR_F32, 4},
	{"f16", D2C_TENSOR_F16, 2},
	{"bf16", D2C_TENSOR_BF16, 2},
	{"u8", D2C_TENSOR_U8, 1},
};

size_t
D2cTensorTypeSize(int dtype)
{
	for (int i = 0; i < lengthof(types); i++)
	{
		if (types[i].dtype == dtype)
			return types[i].size;
	}
	return 0;
}

const char *
D2cTensorTypeName(int dtype)
{
	for (int i = 0; i < lengthof(types); i++)
	{
		if (types[i].dtype == dtype)
			return types[i].name;
	}
	return "unknown";
}

int
D2cTensorTypeByName(const char *name, size_t length)
{
	for (int i = 0; i < lengthof(types); i++)
	{
		if (strlen(types[i].name) == length && pg_strncasecmp(types[i].name, name, length) == 0)
			return types[i].dtype;
	}
	return -1;
}

int64
D2cTensorCount(const D2cTensor *tensor)
{
	int64		count = 1;

	for (int i = 0; i < tensor->ndim; i++)
		count *= tensor->dims[i];
	return count;
}

size_t
D2cTensorBytes(const D2cTensor *tensor)
{
	return VARSIZE(tensor) - D2C_TENSOR_DATA_OFFSET(tensor->ndim);
}

/*
 * Bytes of a whole value, or 0 when the dimensions are no tensor's or the value would be too large
 */
static size_t
ValueSize(int dtype, int ndim, const int32 *dims)
{
	size_t		element = D2cTensorTypeSize(dtype);
	size_t		bytes = element;

	if (element == 0 || ndim < 1 || ndim > D2C_TENSOR_MAX_DIMS)
		return 0;
	for (int i = 0; i < ndim; i++)
	{
		if (dims[i] < 1 || bytes > MaxAllocSize / dims[i])
			return 0;
		bytes *= dims[i];
	}
	if (bytes > MaxAllocSize - D2C_TENSOR_DATA_OFFSET(ndim))
		return 0;
	return D2C_TENSOR_DATA_OFFSET(ndim) + bytes;
}

D2cTensor *
D2cTensorMakeSafe(int dtype, int ndim, const int32 *dims, struct Node *escontext)
{
	size_t		size;
	D2cTensor  *tensor;

	if (D2cTensorTypeSize(dtype) == 0)
		ereturn(escontext, NULL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown element type %d of a tensor", dtype)));
	if (ndim < 1 || ndim > D2C_TENSOR_MAX_DIMS)
		ereturn(escontext, NULL,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor must have from 1 to %d dimensions, not %d", D2C_TENSOR_MAX_DIMS, ndim)));
	for (int i = 0; i < ndim; i++)
	{
		if (dims[i] < 1)
			ereturn(escontext, NULL,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("tensor dimension must be at least 1"),
					 errdetail("Dimension %d is %d.", i, dims[i])));
	}
	size = ValueSize(dtype, ndim, dims);
	if (size == 0)
		ereturn(escontext, NULL,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor is larger than 1 GB"),
				 errhint("Store it in parts.")));

	tensor = palloc0(size);
	SET_VARSIZE(tensor, size);
	tensor->version = D2C_TENSOR_VERSION;
	tensor->dtype = dtype;
	tensor->ndim = ndim;
	memcpy(tensor->dims, dims, sizeof(int32) * ndim);
	return tensor;
}

D2cTensor *
D2cTensorMake(D2cTensorType dtype, int ndim, const int32 *dims)
{
	return D2cTensorMakeSafe(dtype, ndim, dims, NULL);
}

D2cTensor *
D2cTensorCheck(void *value)
{
	D2cTensor  *tensor = value;
	size_t		size = VARSIZE(tensor);

	if (size < D2C_TENSOR_DATA_OFFSET(1) ||
		tensor->version != D2C_TENSOR_VERSION || tensor->reserved != 0 ||
		tensor->ndim < 1 || tensor->ndim > D2C_TENSOR_MAX_DIMS ||
		size <= D2C_TENSOR_DATA_OFFSET(tensor->ndim) ||
		size != ValueSize(tensor->dtype, tensor->ndim, tensor->dims))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("tensor value is damaged"),
				 errdetail("Its header and its length of %zu bytes do not agree.", size)));
	return tensor;
}

/*
 * Round a float to half precision, to nearest even; infinite when too large
 */
static uint16
FloatToHalf(float value)
{
	uint32		bits;
	uint32		sign;
	uint32		shift;
	uint32		mantissa;

	memcpy(&bits, &value, sizeof(bits));
	sign = (bits >> 16) & 0x8000;
	bits &= 0x7fffffff;
	if (bits > 0x7f800000)
		return sign | 0x7e00;
	if (bits >= 0x477ff000)
		return sign | 0x7c00;
	if (bits >= 0x38800000)
	{
		/* The exponent's bias falls from 127 to 15; 13 bits of mantissa are rounded away. */
		bits += 0xc8000fff + ((bits >> 13) & 1);
		return sign | (bits >> 13);
	}
	if (bits < 0x33000000)
		return sign;
	/* A subnormal half: the mantissa with its hidden bit, shifted so that one unit is 2^-24. */
	shift = 126 - (bits >> 23);
	mantissa = (bits & 0x7fffff) | 0x800000;
	bits = mantissa >> shift;
	mantissa &= (1U << shift) - 1;
	if (mantissa > (1U << (shift - 1)) || (mantissa == (1U << (shift - 1)) && (bits & 1)))
		bits++;
	return sign | bits;
}

/*
 * A half's value, which is always a float's
 */
static float
HalfToFloat(uint16 half)
{
	uint32		exponent = (half >> 10) & 0x1f;
	uint32		mantissa = half & 0x3ff;
	uint32		bits;
	float		value;

	if (exponent == 0)
	{
		value = ldexpf((float) mantissa, -24);
		return half & 0x8000 ? -value : value;
	}
	bits = (uint32) (half & 0x8000) << 16 | mantissa << 13;
	bits |= exponent == 31 ? 0x7f800000 : (exponent + 112) << 23;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/*
 * Round a float to bfloat16, to nearest even; infinite when too large
 */
static uint16
FloatToBfloat(float value)
{
	uint32		bits;

	memcpy(&bits, &value, sizeof(bits));
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (bits >> 16) | 0x40;
	return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

static float
BfloatToFloat(uint16 bfloat)
{
	uint32		bits = (uint32) bfloat << 16;
	float		value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

bool
D2cTensorStoreElement(void *element, int dtype, float value)
{
	uint16		narrow;

	switch ((D2cTensorType) dtype)
	{
		case D2C_TENSOR_F32:
			memcpy(element, &value, sizeof(value));
			return true;
		case D2C_TENSOR_F16:
			narrow = FloatToHalf(value);
			memcpy(element, &narrow, sizeof(narrow));
			return isinf(value) || (narrow & 0x7fff) != 0x7c00;
		case D2C_TENSOR_BF16:
			narrow = FloatToBfloat(value);
			memcpy(element, &narrow, sizeof(narrow));
			return isinf(value) || (narrow & 0x7fff) != 0x7f80;
		case D2C_TENSOR_U8:
			value = rintf(value);
			if (!(value >= 0 && value <= 255))
				return false;
			*(uint8 *) element = (uint8) value;
			return true;
	}
	return false;
}

bool
D2cTensorStore(D2cTensor *tensor, int64 start, const float *in, int64 count)
{
	size_t		size = D2cTensorTypeSize(tensor->dtype);
	char	   *at = D2C_TENSOR_DATA(tensor) + start * size;

	for (int64 i = 0; i < count; i++, at += size)
	{
		if (!D2cTensorStoreElement(at, tensor->dtype, in[i]))
			return false;
	}
	return true;
}

void
D2cTensorLoad(float *out, const D2cTensor *tensor, int64 start, int64 count)
{
	const char *data = D2C_TENSOR_DATA(tensor);

	switch ((D2cTensorType) tensor->dtype)
	{
		case D2C_TENSOR_F32:
			memcpy(out, (const float *) data + start, count * sizeof(float));
			return;
		case D2C_TENSOR_F16:
			for (int64 i = 0; i < count; i++)
				out[i] = HalfToFloat(((const uint16 *) data)[start + i]);
			return;
		case D2C_TENSOR_BF16:
			for (int64 i = 0; i < count; i++)
				out[i] = BfloatToFloat(((const uint16 *) data)[start + i]);
			return;
		case D2C_TENSOR_U8:
			for (int64 i = 0; i < count; i++)
				out[i] = ((const uint8 *) data)[start + i];
			return;
	}
}

D2cTensor *
D2cTensorConvert(D2cTensor *tensor, D2cTensorType dtype, struct Node *escontext)
{
	D2cTensor  *result;
	int64		count = D2cTensorCount(tensor);

	if (tensor->dtype == dtype)
		return tensor;
	result = D2cTensorMakeSafe(dtype, tensor->ndim, tensor->dims, escontext);
	if (result == NULL)
		return NULL;
	for (int64 i = 0; i < count; i++)
	{
		float		value;

		D2cTensorLoad(&value, tensor, i, 1);
		if (!D2cTensorStore(result, i, &value, 1))
			ereturn(escontext, NULL,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("value %g is out of range for type tensor(%s)", value, D2cTensorTypeName(dtype))));
		CHECK_FOR_INTERRUPTS();
	}
	return result;
}

void
D2cPutTensor(StringInfo buf, const D2cTensor *tensor)
{
	D2cPutU32(buf, tensor->dtype);
	D2cPutU32(buf, tensor->ndim);
	for (int i = 0; i < tensor->ndim; i++)
		D2cPutI64(buf, tensor->dims[i]);
	D2cPutBytes(buf, D2C_TENSOR_DATA(tensor), D2cTensorBytes(tensor));
}

D2cTensor *
D2cReadTensor(struct d2c_reader *reader)
{
	uint32		dtype = d2c_read_u32(reader);
	uint32		ndim = d2c_read_u32(reader);
	int32		dims[D2C_TENSOR_MAX_DIMS];
	bool		fits = ndim >= 1 && ndim <= D2C_TENSOR_MAX_DIMS && D2cTensorTypeSize(dtype) > 0;

	for (uint32 i = 0; fits && i < ndim; i++)
	{
		int64		dim = d2c_read_i64(reader);

		fits = dim >= 1 && dim <= PG_INT32_MAX;
		dims[i] = (int32) dim;
	}
	if (fits && !reader->bad)
	{
		size_t		length;
		const char *data = d2c_read_bytes(reader, &length);
		D2cTensor  *tensor = D2cTensorMake(dtype, ndim, dims);

		if (D2cTensorBytes(tensor) == length)
		{
			memcpy(D2C_TENSOR_DATA(tensor), data, length);
			return tensor;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("d2c engine sent a malformed tensor")));
}
