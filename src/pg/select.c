/*
 * select.c: the aggregates d2c_select, d2c_select_random, _min, _max, _medium, _ccs, _kcenter, _herding, _moderate, _gadc and
 * _product, over bigint, text and uuid ids.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "select.h"
#include "tensor.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

/*
 * The kind of id that the function is declared with; also makes sure that an aggregate calls, whose state is ours to
 * change.  The call's own expression is not asked: there is none where Citus computes a state on a worker.
 */
static SelectionKind
LookUpKind(FunctionCallInfo fcinfo)
{
	Oid		   *types;
	Oid			type;
	int			arguments;
	SelectionKind *kind;

	if (!AggCheckCallContext(fcinfo, NULL))
		elog(ERROR, "selection function called outside an aggregate");
	get_func_signature(fcinfo->flinfo->fn_oid, &types, &arguments);
	type = types[1];
	pfree(types);
	kind = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(SelectionKind));
	if (type == INT8OID)
		*kind = SELECTION_BIGINT;
	else if (type == TEXTOID)
		*kind = SELECTION_TEXT;
	else if (type == UUIDOID)
		*kind = SELECTION_UUID;
	else
		elog(ERROR, "unexpected id type %u", type);
	fcinfo->flinfo->fn_extra = kind;
	return *kind;
}

/*
 * The same for every row: looked up once a query
 */
static inline SelectionKind
ArgumentKind(FunctionCallInfo fcinfo)
{
	SelectionKind *kind = fcinfo->flinfo->fn_extra;

	return likely(kind != NULL) ? *kind : LookUpKind(fcinfo);
}

static void
GetId(SelectionId *id, SelectionKind kind, Datum datum)
{
	struct varlena *bytes;

	switch (kind)
	{
		case SELECTION_BIGINT:
			id->number = DatumGetInt64(datum);
			break;
		case SELECTION_TEXT:
			bytes = PG_DETOAST_DATUM_PACKED(datum);
			id->bytes = VARDATA_ANY(bytes);
			id->length = VARSIZE_ANY_EXHDR(bytes);
			break;
		case SELECTION_UUID:
			id->bytes = (const char *) DatumGetUUIDP(datum)->data;
			id->length = UUID_LEN;
			break;
	}
}

/*
 * The state so far, ours to change in place; the first row makes it, for the executor to copy where states live
 */
static inline D2cSelection *
GetState(FunctionCallInfo fcinfo, const SelectionParameters *parameters)
{
	D2cSelection *selection;

	if (PG_ARGISNULL(0))
		return SelectionMake(parameters, 0);
	selection = (D2cSelection *) PG_GETARG_POINTER(0);
	if (unlikely(!SelectionHasParameters(selection, parameters)))
		SelectionRequireParameters(selection, parameters);
	return selection;
}

/*
 * Take one row: id in argument 1, its place in the order in score
 */
static pg_attribute_always_inline Datum
AddRow(FunctionCallInfo fcinfo, const SelectionParameters *parameters, float8 score)
{
	D2cSelection *selection = GetState(fcinfo, parameters);
	SelectionId id;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id of a scored row must not be null")));
	if (score > selection->cutoff)
		PG_RETURN_POINTER(selection);
	GetId(&id, parameters->kind, PG_GETARG_DATUM(1));
	PG_RETURN_POINTER(SelectionAdd(selection, score, &id));
}

static int32
GetCount(FunctionCallInfo fcinfo, int argument)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("parameters of a selection must not be null")));
	return PG_GETARG_INT32(argument);
}

static float8
GetScore(FunctionCallInfo fcinfo)
{
	float8		score = PG_GETARG_FLOAT8(2);

	if (isnan(score))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("score is NaN"),
				 errdetail("A row without a place in the order can be neither picked nor passed over."),
				 errhint("Score such rows again, or leave them out with FILTER (WHERE score <> 'NaN').")));
	return score;
}

/*
 * Leave the state as it is, for a row without a score
 */
static Datum
SkipRow(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_accum);
Datum
d2c_select_accum(PG_FUNCTION_ARGS)
{
	SelectionParameters parameters = {.method = SELECTION_INTERVAL};

	if (PG_ARGISNULL(2))
		return SkipRow(fcinfo);
	parameters.kind = ArgumentKind(fcinfo);
	parameters.k = GetCount(fcinfo, 3);
	parameters.n = GetCount(fcinfo, 4);
	return AddRow(fcinfo, &parameters, GetScore(fcinfo));
}

/*
 * The transition of min, max and medium: (state, id, score, n)
 */
static Datum
AddScored(FunctionCallInfo fcinfo, SelectionMethod method)
{
	SelectionParameters parameters = {.method = method, .k = 1};
	float8		score;

	if (PG_ARGISNULL(2))
		return SkipRow(fcinfo);
	parameters.kind = ArgumentKind(fcinfo);
	parameters.n = GetCount(fcinfo, 3);
	score = GetScore(fcinfo);
	return AddRow(fcinfo, &parameters, method == SELECTION_MAX ? -score : score);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_min_accum);
Datum
d2c_select_min_accum(PG_FUNCTION_ARGS)
{
	return AddScored(fcinfo, SELECTION_MIN);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_max_accum);
Datum
d2c_select_max_accum(PG_FUNCTION_ARGS)
{
	return AddScored(fcinfo, SELECTION_MAX);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_medium_accum);
Datum
d2c_select_medium_accum(PG_FUNCTION_ARGS)
{
	return AddScored(fcinfo, SELECTION_MEDIUM);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_random_accum);
Datum
d2c_select_random_accum(PG_FUNCTION_ARGS)
{
	SelectionParameters parameters = {.method = SELECTION_RANDOM, .k = 1};
	SelectionId id;

	if (PG_ARGISNULL(1))
		return SkipRow(fcinfo);
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("parameters of a selection must not be null")));
	parameters.kind = ArgumentKind(fcinfo);
	parameters.seed = PG_GETARG_INT64(2);
	parameters.n = GetCount(fcinfo, 3);
	GetId(&id, parameters.kind, PG_GETARG_DATUM(1));
	return AddRow(fcinfo, &parameters, SelectionRandomKey(&id, parameters.kind, parameters.seed));
}

/*
 * The transition of ccs: (state, id, score, n, cut, seed)
 */
PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_ccs_accum);
Datum
d2c_select_ccs_accum(PG_FUNCTION_ARGS)
{
	SelectionParameters parameters = {.method = SELECTION_CCS, .k = 1};

	if (PG_ARGISNULL(2))
		return SkipRow(fcinfo);
	parameters.kind = ArgumentKind(fcinfo);
	parameters.n = GetCount(fcinfo, 3);
	if (PG_ARGISNULL(4) || PG_ARGISNULL(5))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("parameters of a selection must not be null")));
	parameters.cut = PG_GETARG_FLOAT8(4);
	parameters.seed = PG_GETARG_INT64(5);
	return AddRow(fcinfo, &parameters, GetScore(fcinfo));
}

/*
 * The elements of a one-dimensional array of float8, of which NULLs are told in nulls
 */
static float8 *
GetNumbers(Datum datum, bool **nulls, int *count)
{
	ArrayType  *array = DatumGetArrayTypeP(datum);
	Datum	   *elements;
	float8	   *numbers;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("objectives and strengths must be one-dimensional arrays")));
	deconstruct_array(array, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, nulls, count);
	numbers = palloc(sizeof(float8) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		numbers[i] = (*nulls)[i] ? 0 : DatumGetFloat8(elements[i]);
	return numbers;
}

/*
 * A number that tells strengths apart, for states to be compared by
 */
static int64
StrengthsKey(const float8 *strengths, const bool *nulls, int count)
{
	uint64		key = SelectionMix(count);

	for (int i = 0; i < count; i++)
	{
		float8		strength = strengths[i] + 0.0;	/* no negative zero */
		uint64		bits;

		if (nulls[i] || !isfinite(strength))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("strengths must be finite numbers")));
		memcpy(&bits, &strength, sizeof(bits));
		key = SelectionMix(key ^ bits);
	}
	return (int64) key;
}

/*
 * What one objective takes from the logarithm of the product
 */
static float8
ObjectiveCost(float8 objective, float8 strength)
{
	if (!(objective >= 0) || isinf(objective) || (objective == 0 && strength < 0))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("objective %g has no power %g", objective, strength),
				 errdetail("Objectives are finite and at least 0, and above 0 where the strength is negative."),
				 errhint("Shift or rank them first, as with percent_rank().")));
	return -strength * log(objective);
}

/*
 * The transition of product: (state, id, objectives, strengths, n)
 */
PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_product_accum);
Datum
d2c_select_product_accum(PG_FUNCTION_ARGS)
{
	SelectionParameters parameters = {.method = SELECTION_PRODUCT, .k = 1};
	float8		cost = 0;
	float8	   *objectives;
	float8	   *strengths;
	bool	   *nulls;
	bool	   *no_strength;
	int			count;
	int			strength_count;

	if (PG_ARGISNULL(2))
		return SkipRow(fcinfo);
	parameters.kind = ArgumentKind(fcinfo);
	parameters.n = GetCount(fcinfo, 4);
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("parameters of a selection must not be null")));
	objectives = GetNumbers(PG_GETARG_DATUM(2), &nulls, &count);
	strengths = GetNumbers(PG_GETARG_DATUM(3), &no_strength, &strength_count);
	if (count != strength_count)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("a row has %d objectives, but there are %d strengths", count, strength_count)));
	parameters.seed = StrengthsKey(strengths, no_strength, strength_count);
	for (int i = 0; i < count; i++)
	{
		if (strengths[i] == 0)
			continue;
		if (nulls[i])
			return SkipRow(fcinfo);
		cost += ObjectiveCost(objectives[i], strengths[i]);
	}
	if (isnan(cost))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("product of powers of objectives is undefined"),
				 errdetail("One power overflows where another is zero.")));
	return AddRow(fcinfo, &parameters, cost);
}

/*
 * The elements of a feature as floats, which must be finite
 */
static float *
GetFeature(const D2cTensor *tensor, int64 width)
{
	float	   *feature = palloc(sizeof(float) * width);

	D2cTensorLoad(feature, tensor, 0, width);
	for (int64 i = 0; i < width; i++)
	{
		if (!isfinite(feature[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("feature contains NaN or infinity"),
					 errhint("Embed such rows again, or leave them out with FILTER.")));
	}
	return feature;
}

/*
 * The transition of selections by features: (state, id, feature, n)
 */
static Datum
AddFeatured(FunctionCallInfo fcinfo, SelectionMethod method)
{
	SelectionParameters parameters = {.method = method, .k = 1};
	D2cSelection *selection;
	D2cTensor  *tensor;
	SelectionId id = {0};
	float	   *feature;
	int64		width;

	if (PG_ARGISNULL(2))
		return SkipRow(fcinfo);
	parameters.kind = ArgumentKind(fcinfo);
	parameters.n = GetCount(fcinfo, 3);
	selection = GetState(fcinfo, &parameters);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("id of a row with a feature must not be null")));
	GetId(&id, parameters.kind, PG_GETARG_DATUM(1));
	tensor = PG_GETARG_D2C_TENSOR(2);
	width = D2cTensorCount(tensor);
	SelectionRequireRoom(1, 0, width);
	feature = GetFeature(tensor, width);
	selection = SelectionAddFeature(selection, &id, feature, width);
	pfree(feature);
	PG_FREE_IF_COPY(tensor, 2);
	PG_RETURN_POINTER(selection);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_kcenter_accum);
Datum
d2c_select_kcenter_accum(PG_FUNCTION_ARGS)
{
	return AddFeatured(fcinfo, SELECTION_KCENTER);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_herding_accum);
Datum
d2c_select_herding_accum(PG_FUNCTION_ARGS)
{
	return AddFeatured(fcinfo, SELECTION_HERDING);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_moderate_accum);
Datum
d2c_select_moderate_accum(PG_FUNCTION_ARGS)
{
	return AddFeatured(fcinfo, SELECTION_MODERATE);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_select_gadc_accum);
Datum
d2c_select_gadc_accum(PG_FUNCTION_ARGS)
{
	return AddFeatured(fcinfo, SELECTION_GADC);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_selection_combine);
Datum
d2c_selection_combine(PG_FUNCTION_ARGS)
{
	D2cSelection *selection;
	D2cSelection *other;
	SelectionParameters parameters;

	if (!AggCheckCallContext(fcinfo, NULL))
		elog(ERROR, "selection function called outside an aggregate");
	if (PG_ARGISNULL(1))
		return SkipRow(fcinfo);
	other = SelectionCheck(PG_DETOAST_DATUM(PG_GETARG_DATUM(1)));
	if (PG_ARGISNULL(0))
		PG_RETURN_POINTER(other);

	selection = (D2cSelection *) PG_GETARG_POINTER(0);
	SelectionGetParameters(&parameters, other);
	SelectionRequireParameters(selection, &parameters);
	for (uint32 i = 0; i < other->count; i++)
	{
		SelectionId id;

		SelectionGetId(&id, other, &other->entries[i]);
		if (SELECTION_BY_FEATURES(other->method))
			selection = SelectionAddFeature(selection, &id, SELECTION_FEATURE(other, i), other->width);
		else
			selection = SelectionAdd(selection, other->entries[i].score, &id);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_POINTER(selection);
}

/*
 * An id as a value of its type
 */
static Datum
IdDatum(const D2cSelection *selection, const SelectionEntry *entry)
{
	SelectionId id;
	pg_uuid_t  *uuid;

	SelectionGetId(&id, selection, entry);
	switch ((SelectionKind) selection->kind)
	{
		case SELECTION_BIGINT:
			return Int64GetDatum(id.number);
		case SELECTION_TEXT:
			return PointerGetDatum(cstring_to_text_with_len(id.bytes, id.length));
		case SELECTION_UUID:
			uuid = palloc(sizeof(pg_uuid_t));
			memcpy(uuid->data, id.bytes, UUID_LEN);
			return UUIDPGetDatum(uuid);
	}
	return (Datum) 0;
}

/*
 * The array of picked ids, for the final function of one kind
 */
static Datum
FinalArray(FunctionCallInfo fcinfo, SelectionKind kind, Oid type, int length, bool by_value, char align)
{
	D2cSelection *selection = SelectionCheck(PG_DETOAST_DATUM(PG_GETARG_DATUM(0)));
	SelectionEntry *picked;
	Datum	   *ids;
	int			count;

	if (selection->kind != kind)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("selection holds %s ids, not %s", SelectionKindName(selection->kind),
						SelectionKindName(kind))));
	picked = SelectionPick(selection, &count);
	ids = palloc(sizeof(Datum) * Max(count, 1));
	for (int i = 0; i < count; i++)
		ids[i] = IdDatum(selection, &picked[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(ids, count, type, length, by_value, align));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_selection_bigint);
Datum
d2c_selection_bigint(PG_FUNCTION_ARGS)
{
	return FinalArray(fcinfo, SELECTION_BIGINT, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_selection_text);
Datum
d2c_selection_text(PG_FUNCTION_ARGS)
{
	return FinalArray(fcinfo, SELECTION_TEXT, TEXTOID, -1, false, TYPALIGN_INT);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_selection_uuid);
Datum
d2c_selection_uuid(PG_FUNCTION_ARGS)
{
	return FinalArray(fcinfo, SELECTION_UUID, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/*
 * The interval with which n picks span the easiest 67.5 % of a class, as the paper's k = 96 for 10 of 1281 does
 */
PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_interval);
Datum
d2c_interval(PG_FUNCTION_ARGS)
{
	int64		size = PG_GETARG_INT64(0);
	int32		n = PG_GETARG_INT32(1);
	double		interval;

	if (size < 1 || n < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("class size and number of picks must be at least 1")));
	if (n == 1)
		PG_RETURN_INT32(1);
	interval = floor((double) (size - 1) * 27 / ((double) (n - 1) * 40));
	PG_RETURN_INT32((int32) Min(Max(interval, 1), PG_INT32_MAX));
}
