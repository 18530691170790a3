/*
 * tensor_cast.c: tensors from and to arrays and bytea, and from one element type to another.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "compat.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "tensor.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

extern Datum d2c_tensor_recv(PG_FUNCTION_ARGS);

/*
 * Return an array's element as a float; a finite double must stay finite
 */
static float
ElementToFloat(Oid type, Datum datum)
{
	double		value;

	switch (type)
	{
		case FLOAT4OID:
			return DatumGetFloat4(datum);
		case INT4OID:
			return (float) DatumGetInt32(datum);
		default:
			value = DatumGetFloat8(datum);
			if (isinf((float) value) && !isinf(value))
				ereport(ERROR,
						(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						 errmsg("value %g is out of range for type tensor", value)));
			return (float) value;
	}
}

/* integer[], real[] or double precision[], of any number of dimensions; the typmod picks the element type. */
PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_from_array);
Datum
d2c_tensor_from_array(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	int32		typmod = PG_GETARG_INT32(1);
	Oid			type = ARR_ELEMTYPE(array);
	int			dtype = typmod >= 0 ? typmod : D2C_TENSOR_F32;
	D2cTensor  *tensor;
	Datum	   *elements;
	int			count;
	int16		length;
	bool		by_value;
	char		align;

	if (ARR_NDIM(array) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("cannot convert an empty array to type tensor"),
				 errdetail("Each dimension of a tensor is at least 1.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("array must not contain nulls")));
	tensor = D2cTensorMake(dtype, ARR_NDIM(array), ARR_DIMS(array));
	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(array, type, length, by_value, align, &elements, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		float		value = ElementToFloat(type, elements[i]);

		if (!D2cTensorStore(tensor, i, &value, 1))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("value %g is out of range for type tensor(%s)", value, D2cTensorTypeName(dtype))));
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_D2C_TENSOR(tensor);
}

/*
 * Build an array of a fixed-length element type with a tensor's dimensions
 */
static ArrayType *
ArrayOfTensor(const D2cTensor *tensor, Oid type, size_t element)
{
	int64		count = D2cTensorCount(tensor);
	ArrayType  *array;
	size_t		size;

	if (tensor->ndim > MAXDIM)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor has %d dimensions, an array at most %d", tensor->ndim, MAXDIM)));
	size = ARR_OVERHEAD_NONULLS(tensor->ndim) + count * element;
	if (count > MaxArraySize || !AllocSizeIsValid(size))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tensor has too many elements for an array"),
				 errhint("Use d2c_slice() to take a part of it.")));
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = tensor->ndim;
	array->dataoffset = 0;
	array->elemtype = type;
	memcpy(ARR_DIMS(array), tensor->dims, sizeof(int32) * tensor->ndim);
	for (int i = 0; i < tensor->ndim; i++)
		ARR_LBOUND(array)[i] = 1;
	return array;
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_to_float4);
Datum
d2c_tensor_to_float4(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	ArrayType  *array = ArrayOfTensor(tensor, FLOAT4OID, sizeof(float4));

	D2cTensorLoad((float *) ARR_DATA_PTR(array), tensor, 0, D2cTensorCount(tensor));
	PG_RETURN_ARRAYTYPE_P(array);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_to_float8);
Datum
d2c_tensor_to_float8(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	int64		count = D2cTensorCount(tensor);
	ArrayType  *array = ArrayOfTensor(tensor, FLOAT8OID, sizeof(float8));
	float8	   *out = (float8 *) ARR_DATA_PTR(array);

	for (int64 i = 0; i < count; i++)
	{
		float		value;

		D2cTensorLoad(&value, tensor, i, 1);
		out[i] = value;
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_ARRAYTYPE_P(array);
}

/* The cast to bytea gives the binary form of d2c_tensor_send; this is the way back. */
PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_from_bytea);
Datum
d2c_tensor_from_bytea(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	int32		typmod = PG_GETARG_INT32(1);
	StringInfoData buf;
	Datum		tensor;

	buf.data = VARDATA_ANY(bytes);
	buf.len = VARSIZE_ANY_EXHDR(bytes);
	buf.maxlen = buf.len;
	buf.cursor = 0;
	tensor = DirectFunctionCall3(d2c_tensor_recv, PointerGetDatum(&buf), ObjectIdGetDatum(InvalidOid),
								 Int32GetDatum(typmod));
	pq_getmsgend(&buf);
	PG_RETURN_DATUM(tensor);
}

/* tensor to tensor(dtype): the length coercion that assignment to a column applies. */
PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_tensor_coerce);
Datum
d2c_tensor_coerce(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor = PG_GETARG_D2C_TENSOR(0);
	int32		typmod = PG_GETARG_INT32(1);

	if (typmod >= 0)
		tensor = D2cTensorConvert(tensor, typmod, NULL);
	PG_RETURN_D2C_TENSOR(tensor);
}
