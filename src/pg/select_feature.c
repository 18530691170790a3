/*
 * select_feature.c: picks by features: k-center greedy, herding, moderate, gadc (src/select/features.h has the rules).
 *
 * Rows are looked at in the order of their ids and features, so the picks depend neither on the order in which rows came nor on how
 * they were divided among workers.  Small groups are picked from here, large ones in the engine, by the same code.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pg/settings.h"
#include "select.h"
#include "select/features.h"

StaticAssertDecl((int) SELECTION_KCENTER == (int) D2C_FEATURE_KCENTER &&
				 (int) SELECTION_GADC == (int) D2C_FEATURE_GADC, "numbers of methods differ");

/*
 * By their elements, zeroes of either sign alike
 */
static int
CompareFeatures(const float *a, const float *b, uint32 width)
{
	for (uint32 i = 0; i < width; i++)
	{
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	}
	return 0;
}

/*
 * By ids, and rows of one id, as a join may make them, by their features
 */
static int
CompareRows(const void *a, const void *b, void *arg)
{
	const D2cSelection *selection = arg;
	uint32		i = *(const uint32 *) a;
	uint32		j = *(const uint32 *) b;
	int			order = SelectionCompareIds(selection, &selection->entries[i], &selection->entries[j]);

	if (order != 0)
		return order;
	return CompareFeatures(SELECTION_FEATURE(selection, i), SELECTION_FEATURE(selection, j), selection->width);
}

/*
 * The entries' indexes in the order of their ids
 */
static uint32 *
OrderRows(const D2cSelection *selection)
{
	uint32	   *index = palloc(sizeof(uint32) * selection->count);

	for (uint32 i = 0; i < selection->count; i++)
		index[i] = i;
	qsort_arg(index, selection->count, sizeof(uint32), CompareRows, unconstify(D2cSelection *, selection));
	return index;
}

static void
Poll(void *closure)
{
	CHECK_FOR_INTERRUPTS();
}

static void
PickHere(int64 *chosen, const D2cSelection *selection, const float **features, int64 ranks)
{
	d2c_feature_rows rows = {features, selection->count, selection->width, Poll, NULL};
	size_t		size = d2c_select_features_space(selection->method, rows.count, rows.width, ranks);
	void	   *space = palloc_extended(size, MCXT_ALLOC_HUGE);

	d2c_select_features(chosen, &rows, selection->method, ranks, space);
	pfree(space);
}

int64
SelectionPickByFeature(const D2cSelection *selection, SelectionEntry *picked)
{
	int64		ranks = Min(selection->n, selection->count);
	uint32	   *index;
	const float **features;
	int64	   *chosen;

	if (ranks == 0)
		return 0;
	if (selection->method == SELECTION_GADC && selection->count > D2C_GADC_ROWS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many rows for selection \"gadc\""),
				 errdetail("The distances of all pairs of %u rows take more than 1 GB.", selection->count),
				 errhint("Select within smaller groups, or choose candidates first, by d2c_select_random for example.")));
	index = OrderRows(selection);
	features = palloc(sizeof(float *) * selection->count);
	chosen = palloc(sizeof(int64) * ranks);
	for (uint32 i = 0; i < selection->count; i++)
		features[i] = SELECTION_FEATURE(selection, index[i]);
	if (sizeof(float) * (size_t) selection->width * selection->count > (size_t) d2c_select_memory * 1024)
		SelectionAskEngine(chosen, features, selection->count, selection->width, selection->method, ranks);
	else
		PickHere(chosen, selection, features, ranks);
	for (int64 rank = 0; rank < ranks; rank++)
		picked[rank] = selection->entries[index[chosen[rank]]];
	return ranks;
}
