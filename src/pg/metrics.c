/*
 * metrics.c: the aggregates d2c_moments and d2c_moments_merge, what is in moments, and the Fréchet distance.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "moments.h"
#include "pg/engine_client.h"
#include "tensor.h"
#include "utils/array.h"

/*
 * The state, ours to change in place; the first vector, which tells its width, makes it, for the executor to copy where
 * states live
 */
static D2cMoments *
GetState(FunctionCallInfo fcinfo, int64 width)
{
	D2cMoments *moments;

	if (!AggCheckCallContext(fcinfo, NULL))
		elog(ERROR, "moments function called outside an aggregate");
	if (PG_ARGISNULL(0))
		return MomentsMake(width);
	moments = (D2cMoments *) PG_GETARG_POINTER(0);
	if (moments->width != width)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("features have different numbers of dimensions"),
				 errdetail("One has %d, another %lld.", moments->width, (long long) width)));
	return moments;
}

static Datum
AddVector(FunctionCallInfo fcinfo, const float *vector, int64 width)
{
	D2cMoments *moments = GetState(fcinfo, width);

	for (int64 i = 0; i < width; i++)
	{
		if (!isfinite(vector[i]))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("feature must hold finite numbers, not %g", vector[i]),
					 errhint("Leave such rows out with FILTER.")));
	}
	MomentsAdd(moments, vector, palloc(sizeof(double) * width));
	CHECK_FOR_INTERRUPTS();
	PG_RETURN_POINTER(moments);
}

static Datum
SkipRow(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

static void
RequireVector(int ndim)
{
	if (ndim != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("feature must have one dimension, not %d", ndim),
				 errhint("d2c_mean(feature, 0) gives the mean over tokens.")));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_accum_tensor);
Datum
d2c_moments_accum_tensor(PG_FUNCTION_ARGS)
{
	D2cTensor  *tensor;
	float	   *vector;

	if (PG_ARGISNULL(1))
		return SkipRow(fcinfo);
	tensor = PG_GETARG_D2C_TENSOR(1);
	RequireVector(tensor->ndim);
	vector = palloc_extended(sizeof(float) * tensor->dims[0], MCXT_ALLOC_HUGE);
	D2cTensorLoad(vector, tensor, 0, tensor->dims[0]);
	return AddVector(fcinfo, vector, tensor->dims[0]);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_accum_array);
Datum
d2c_moments_accum_array(PG_FUNCTION_ARGS)
{
	ArrayType  *array;

	if (PG_ARGISNULL(1))
		return SkipRow(fcinfo);
	array = PG_GETARG_ARRAYTYPE_P(1);
	RequireVector(ARR_NDIM(array));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("array must not contain nulls")));
	return AddVector(fcinfo, (const float *) ARR_DATA_PTR(array), ARR_DIMS(array)[0]);
}

/* The combine function of d2c_moments, and the transition of d2c_moments_merge. */
PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_combine);
Datum
d2c_moments_combine(PG_FUNCTION_ARGS)
{
	D2cMoments *moments;

	if (!AggCheckCallContext(fcinfo, NULL))
		elog(ERROR, "moments function called outside an aggregate");
	if (PG_ARGISNULL(1))
		return SkipRow(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_POINTER(PG_GETARG_D2C_MOMENTS(1));
	moments = (D2cMoments *) PG_GETARG_POINTER(0);
	MomentsMerge(moments, PG_GETARG_D2C_MOMENTS(1));
	PG_RETURN_POINTER(moments);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_count);
Datum
d2c_moments_count(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(PG_GETARG_D2C_MOMENTS(0)->n);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_mean);
Datum
d2c_moments_mean(PG_FUNCTION_ARGS)
{
	D2cMoments *moments = PG_GETARG_D2C_MOMENTS(0);
	Datum	   *mean = palloc(sizeof(Datum) * moments->width);

	for (int i = 0; i < moments->width; i++)
		mean[i] = Float8GetDatum(MOMENTS_MEAN(moments)[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(mean, moments->width, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}

/*
 * Element (i, j) of the covariance, by n - 1 as numpy.cov has it
 */
static double
Covariance(const D2cMoments *moments, size_t i, size_t j)
{
	size_t		at = i >= j ? MOMENTS_TRIANGLE(i) + j : MOMENTS_TRIANGLE(j) + i;

	return MOMENTS_COMOMENT(moments)[at] / (double) (moments->n - 1);
}

static void
RequireTwo(const D2cMoments *moments)
{
	if (moments->n < 2)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("covariance needs at least two vectors, not %lld", (long long) moments->n)));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_moments_covariance);
Datum
d2c_moments_covariance(PG_FUNCTION_ARGS)
{
	D2cMoments *moments = PG_GETARG_D2C_MOMENTS(0);
	int			width = moments->width;
	int			dims[2] = {width, width};
	int			bounds[2] = {1, 1};
	Datum	   *values;

	RequireTwo(moments);
	values = palloc(sizeof(Datum) * width * width);
	for (int i = 0; i < width; i++)
	{
		for (int j = 0; j < width; j++)
			values[i * width + j] = Float8GetDatum(Covariance(moments, i, j));
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_ARRAYTYPE_P(construct_md_array(values, NULL, 2, dims, bounds, FLOAT8OID, sizeof(float8),
											 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
PutMoments(StringInfo payload, const D2cMoments *moments)
{
	size_t		width = moments->width;

	RequireTwo(moments);
	D2cPutU32(payload, moments->width);
	D2cPutI64(payload, moments->n);
	appendBinaryStringInfo(payload, (const char *) MOMENTS_MEAN(moments), sizeof(float8) * width);
	enlargeStringInfo(payload, sizeof(float8) * width * width);
	for (size_t i = 0; i < width; i++)
	{
		for (size_t j = 0; j < width; j++)
			D2cPutF64(payload, Covariance(moments, i, j));
		CHECK_FOR_INTERRUPTS();
	}
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_frechet);
Datum
d2c_frechet(PG_FUNCTION_ARGS)
{
	D2cMoments *a = PG_GETARG_D2C_MOMENTS(0);
	D2cMoments *b = PG_GETARG_D2C_MOMENTS(1);
	StringInfoData payload;
	d2c_reader	reader;

	if (a->width != b->width)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("moments have different numbers of dimensions"),
				 errdetail("They have %d and %d.", a->width, b->width)));
	initStringInfo(&payload);
	PutMoments(&payload, a);
	PutMoments(&payload, b);
	reader = D2cEngineCall(D2C_REQUEST_FRECHET, &payload);
	PG_RETURN_FLOAT8(d2c_read_f64(&reader));
}
