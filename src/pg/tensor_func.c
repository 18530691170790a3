/*
 * tensor_func.c: what SQL asks of tensors: equality, order, shape, parts, means, cosine, a readable line.
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "compat.h"
#include "miscadmin.h"
#include "tensor.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* Elements converted at a time. */
#define CHUNK 1024

/*
 * Whether arguments 0 and 1 are equal; values of different lengths are not even fetched.  Indexes call this and the
 * hashes for many rows in one memory context, so copies are given back.
 */
static bool
ArgumentsAreEqual(FunctionCallInfo fcinfo)
{
	bool		equal = false;

	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) == toast_raw_datum_size(PG_GETARG_DATUM(1)))
	{
		D2cTensor  *a = PG_GETARG_D2C_TENSOR(0);
		D2cTensor  *b = PG_GETARG_D2C_TENSOR(1);

		equal = memcmp(VARDATA(a), VARDATA(b), VARSIZE(a) - VARHDRSZ) == 0;
		PG_FREE_IF_COPY(a, 0);
		PG_FREE_IF_COPY(b, 1);
	}
	return equal;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_eq);
Datum
d2c_tensor_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(ArgumentsAreEqual(fcinfo));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_ne);
Datum
d2c_tensor_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!ArgumentsAreEqual(fcinfo));
}

/*
 * Argument 0 against argument 1 by their bytes, the shorter of two that begin alike first.
 */
static int
CompareArguments(FunctionCallInfo fcinfo)
{
	D2cTensor  *a = PG_GETARG_D2C_TENSOR(0);
	D2cTensor  *b = PG_GETARG_D2C_TENSOR(1);
	int			order = memcmp(VARDATA(a), VARDATA(b), Min(VARSIZE(a), VARSIZE(b)) - VARHDRSZ);

	if (order == 0)
		order = (VARSIZE(a) > VARSIZE(b)) - (VARSIZE(a) < VARSIZE(b));
	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return order;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_cmp);
Datum
d2c_tensor_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(CompareArguments(fcinfo));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_lt);
Datum
d2c_tensor_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(CompareArguments(fcinfo) < 0);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_le);
Datum
d2c_tensor_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(CompareArguments(fcinfo) <= 0);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_gt);
Datum
d2c_tensor_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(CompareArguments(fcinfo) > 0);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_ge);
Datum
d2c_tensor_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(CompareArguments(fcinfo) >= 0);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_hash);
Datum
d2c_tensor_hash(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	Datum		hash = hash_any((unsigned char *) VARDATA(tensor), VARSIZE(tensor) - VARHDRSZ);

	PG_FREE_IF_COPY(tensor, 0);
	PG_RETURN_DATUM(hash);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_hash_extended);
Datum
d2c_tensor_hash_extended(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	Datum		hash = hash_any_extended((unsigned char *) VARDATA(tensor), VARSIZE(tensor) - VARHDRSZ,
										 PG_GETARG_INT64(1));

	PG_FREE_IF_COPY(tensor, 0);
	PG_RETURN_DATUM(hash);
}

/*
 * Fetch no more of a stored value than its header
 */
static D2cTensor *
TensorHeader(Datum datum)
{
	D2cTensor  *header = (D2cTensor *)
		PG_DETOAST_DATUM_SLICE(datum, 0, D2C_TENSOR_DATA_OFFSET(D2C_TENSOR_MAX_DIMS) - VARHDRSZ);

	if (VARSIZE(header) < D2C_TENSOR_DATA_OFFSET(1) || header->version != D2C_TENSOR_VERSION ||
		header->ndim < 1 || header->ndim > D2C_TENSOR_MAX_DIMS ||
		VARSIZE(header) < D2C_TENSOR_DATA_OFFSET(header->ndim))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("tensor value is damaged")));
	return header;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_shape);
Datum
d2c_shape(PG_FUNCTION_ARGS)
{
	D2cTensor  *header = TensorHeader(PG_GETARG_DATUM(0));
	Datum		dims[D2C_TENSOR_MAX_DIMS];

	for (int i = 0; i < header->ndim; i++)
		dims[i] = Int32GetDatum(header->dims[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(dims, header->ndim, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_dtype);
Datum
d2c_dtype(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(D2cTensorTypeName(TensorHeader(PG_GETARG_DATUM(0))->dtype)));
}

/*
 * Resolve an axis, negative from the end, into elements before, along and after it
 */
static int
ResolveAxis(const D2cTensor *tensor, int32 axis, int64 *outer, int64 *inner)
{
	int			resolved = axis < 0 ? axis + tensor->ndim : axis;

	if (resolved < 0 || resolved >= tensor->ndim)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("axis %d is out of range for a tensor of %d dimensions", axis, tensor->ndim),
				 errhint("Axes count from 0, or from -1 backwards from the last.")));
	*outer = *inner = 1;
	for (int i = 0; i < tensor->ndim; i++)
	{
		if (i < resolved)
			*outer *= tensor->dims[i];
		else if (i > resolved)
			*inner *= tensor->dims[i];
	}
	return resolved;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_slice);
Datum
d2c_slice(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	int32		start = PG_GETARG_INT32(2);
	int32		count = PG_GETARG_INT32(3);
	int64		outer;
	int64		inner;
	int			axis = ResolveAxis(tensor, PG_GETARG_INT32(1), &outer, &inner);
	int32		along = tensor->dims[axis];
	int32		dims[D2C_TENSOR_MAX_DIMS];
	size_t		row = inner * D2cTensorTypeSize(tensor->dtype);
	D2cTensor  *result;

	if (start < 0 || count < 1 || (int64) start + count > along)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("slice of %d from %d is out of range for a dimension of %d", count, start, along),
				 errhint("Positions count from 0, and a slice holds at least one.")));
	memcpy(dims, tensor->dims, sizeof(int32) * tensor->ndim);
	dims[axis] = count;
	result = D2cTensorMake(tensor->dtype, tensor->ndim, dims);
	for (int64 i = 0; i < outer; i++)
		memcpy(D2C_TENSOR_DATA(result) + i * count * row,
			   D2C_TENSOR_DATA(tensor) + (i * along + start) * row, count * row);
	PG_RETURN_D2C_TENSOR(result);
}

/*
 * Make the f32 tensor that a mean over one axis fills: that axis removed, or [1] when there is no other
 */
static D2cTensor *
MakeWithoutAxis(const D2cTensor *tensor, int axis)
{
	int32		dims[D2C_TENSOR_MAX_DIMS] = {1};
	int			ndim = 0;

	for (int i = 0; i < tensor->ndim; i++)
	{
		if (i != axis)
			dims[ndim++] = tensor->dims[i];
	}
	return D2cTensorMake(D2C_TENSOR_F32, Max(ndim, 1), dims);
}

/*
 * Which positions of an axis a mask marks, and how many they are
 */
static bool *
ReadMask(const D2cTensor *mask, int32 along, int32 *count)
{
	bool	   *marked;

	if (mask->ndim != 1 || mask->dims[0] != along)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("mask must have one dimension, as long as the axis"),
				 errdetail("It has %d dimensions, the first of %d; the axis has %d.", mask->ndim, mask->dims[0], along)));
	marked = palloc(sizeof(bool) * along);
	*count = 0;
	for (int32 j = 0; j < along; j++)
	{
		float		value;

		D2cTensorLoad(&value, mask, j, 1);
		if (value != 0 && value != 1)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("mask must hold zeroes and ones, not %g", value)));
		marked[j] = value != 0;
		*count += marked[j];
	}
	return marked;
}

/*
 * The mean over one axis, of all positions or of those that a mask marks; NULL when it marks none
 */
static D2cTensor *
MeanOver(const D2cTensor *tensor, int32 axis, const D2cTensor *mask)
{
	int64		outer;
	int64		inner;
	int			resolved = ResolveAxis(tensor, axis, &outer, &inner);
	int32		along = tensor->dims[resolved];
	int32		count = along;
	bool	   *marked = mask != NULL ? ReadMask(mask, along, &count) : NULL;
	D2cTensor  *result;
	double	   *sums;
	float	   *row;

	if (count == 0)
		return NULL;
	result = MakeWithoutAxis(tensor, resolved);
	sums = palloc_extended(sizeof(double) * inner, MCXT_ALLOC_HUGE);
	row = palloc_extended(sizeof(float) * inner, MCXT_ALLOC_HUGE);
	for (int64 i = 0; i < outer; i++)
	{
		memset(sums, 0, sizeof(double) * inner);
		for (int32 j = 0; j < along; j++)
		{
			if (marked != NULL && !marked[j])
				continue;
			D2cTensorLoad(row, tensor, (i * along + j) * inner, inner);
			for (int64 k = 0; k < inner; k++)
				sums[k] += row[k];
			CHECK_FOR_INTERRUPTS();
		}
		for (int64 k = 0; k < inner; k++)
			row[k] = (float) (sums[k] / count);
		D2cTensorStore(result, i * inner, row, inner);
	}
	return result;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_mean);
Datum
d2c_mean(PG_FUNCTION_ARGS)
{
	PG_RETURN_D2C_TENSOR(MeanOver(PG_GETARG_D2C_TENSOR(0), PG_GETARG_INT32(1), NULL));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_mean_masked);
Datum
d2c_mean_masked(PG_FUNCTION_ARGS)
{
	D2cTensor  *mean = MeanOver(PG_GETARG_D2C_TENSOR(0), PG_GETARG_INT32(1), PG_GETARG_D2C_TENSOR(2));

	if (mean == NULL)
		PG_RETURN_NULL();
	PG_RETURN_D2C_TENSOR(mean);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_cosine);
Datum
d2c_cosine(PG_FUNCTION_ARGS)
{
	D2cTensor  *a = PG_GETARG_D2C_TENSOR(0);
	D2cTensor  *b = PG_GETARG_D2C_TENSOR(1);
	int64		count = D2cTensorCount(a);
	double		dot = 0;
	double		norm_a = 0;
	double		norm_b = 0;
	float		left[CHUNK];
	float		right[CHUNK];

	if (a->ndim != b->ndim || memcmp(a->dims, b->dims, sizeof(int32) * a->ndim) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("tensors must have one shape"),
				 errdetail("The first holds %lld elements in %d dimensions, the second %lld in %d.",
						   (long long) count, a->ndim, (long long) D2cTensorCount(b), b->ndim)));
	for (int64 start = 0; start < count; start += CHUNK)
	{
		int			n = Min(CHUNK, count - start);

		D2cTensorLoad(left, a, start, n);
		D2cTensorLoad(right, b, start, n);
		for (int i = 0; i < n; i++)
		{
			dot += (double) left[i] * right[i];
			norm_a += (double) left[i] * left[i];
			norm_b += (double) right[i] * right[i];
		}
		CHECK_FOR_INTERRUPTS();
	}
	if (norm_a == 0 || norm_b == 0)
		PG_RETURN_NULL();
	/* Rounding must not carry a copy of a tensor past 1. */
	PG_RETURN_FLOAT8(Max(-1, Min(1, dot / (sqrt(norm_a) * sqrt(norm_b)))));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_summary);
Datum
d2c_summary(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	int64		count = D2cTensorCount(tensor);
	int64		finite = 0;
	double		low = 0;
	double		high = 0;
	double		first = 0;
	double		sum = 0;		/* this and the next of differences from the first: the spread may be small beside it */
	double		squares = 0;
	float		values[CHUNK];
	StringInfoData buf;

	for (int64 start = 0; start < count; start += CHUNK)
	{
		int			n = Min(CHUNK, count - start);

		D2cTensorLoad(values, tensor, start, n);
		for (int i = 0; i < n; i++)
		{
			double		difference;

			if (!isfinite(values[i]))
				continue;
			if (finite == 0)
				first = values[i];
			difference = values[i] - first;
			low = finite == 0 ? values[i] : Min(low, values[i]);
			high = finite == 0 ? values[i] : Max(high, values[i]);
			sum += difference;
			squares += difference * difference;
			finite++;
		}
		CHECK_FOR_INTERRUPTS();
	}
	initStringInfo(&buf);
	appendStringInfo(&buf, "%s[", D2cTensorTypeName(tensor->dtype));
	for (int i = 0; i < tensor->ndim; i++)
		appendStringInfo(&buf, "%s%d", i > 0 ? "," : "", tensor->dims[i]);
	appendStringInfoChar(&buf, ']');
	if (finite > 0)
	{
		double		mean = sum / finite;

		appendStringInfo(&buf, " min %.4g mean %.4g max %.4g std %.4g", low, first + mean, high,
						 sqrt(Max(squares / finite - mean * mean, 0)));
	}
	if (finite < count)
		appendStringInfo(&buf, ", %lld not finite", (long long) (count - finite));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}
