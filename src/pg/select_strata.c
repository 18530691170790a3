/*
 * select_strata.c: coverage-centric selection (Zheng et al., ICLR 2023): the hardest share is left out, the range of the
 * other scores is cut into strata of equal width, and the budget is divided among them as evenly as their sizes allow.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "select.h"

#define STRATA 50				/* as the paper's code */

/* A stratum's rows lie back to back. */
typedef struct Stratum
{
	int64		first;
	int64		size;
} Stratum;

/*
 * The stratum of a score within the range; of one that a float8 does not hold, halves are compared
 */
static int
StratumOf(float8 score, float8 low, float8 high)
{
	float8		half = isinf(high - low) ? 0.5 : 1;

	if (high <= low)
		return 0;
	return Min((int) ((half * score - half * low) / (half * high - half * low) * STRATA), STRATA - 1);
}

static int
CompareSizes(const void *a, const void *b)
{
	const Stratum *left = a;
	const Stratum *right = b;

	if (left->size != right->size)
		return left->size < right->size ? -1 : 1;
	return left->first < right->first ? -1 : left->first > right->first;
}

/*
 * Find the strata of entries that are ordered by score; those without rows stay empty
 */
static void
FindStrata(Stratum *strata, const SelectionEntry *entries, int64 count)
{
	float8		low = entries[0].score;
	float8		high = entries[count - 1].score;

	if (isinf(low) || isinf(high))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("score is infinite"),
				 errdetail("The range of the scores cannot be cut into strata of equal width."),
				 errhint("Leave such rows out with FILTER (WHERE score < 'Infinity').")));
	for (int64 i = 0; i < count; i++)
	{
		Stratum    *stratum = &strata[StratumOf(entries[i].score, low, high)];

		if (stratum->size++ == 0)
			stratum->first = i;
	}
}

/*
 * Bring the stratum's rows into the order that the seed gives them, and take the first
 */
static void
TakeRandom(SelectionEntry *picked, const D2cSelection *selection, SelectionEntry *entries, int64 size, int64 ranks)
{
	for (int64 i = 0; i < size; i++)
	{
		SelectionId id = {0};

		SelectionGetId(&id, selection, &entries[i]);
		entries[i].score = SelectionRandomKey(&id, selection->kind, selection->seed);
	}
	SelectionOrderRanks(selection, entries, size, 0, 1, ranks);
	memcpy(picked, entries, sizeof(SelectionEntry) * ranks);
}

/*
 * How many rows the share cut leaves out.  A share such as 0.29 is a little less than it says, of 100 rows it is meant to be 29.
 */
static int64
CountCut(const D2cSelection *selection)
{
	return (int64) (selection->cut * selection->count * (1 + 4 * DBL_EPSILON));
}

int64
SelectionPickStrata(const D2cSelection *selection, SelectionEntry *picked)
{
	int64		count = selection->count - CountCut(selection);
	int64		budget = Min(selection->n, count);
	SelectionEntry *entries;
	Stratum		strata[STRATA] = {{0}};
	int64		taken = 0;

	if (budget == 0)
		return 0;
	entries = palloc_extended(sizeof(SelectionEntry) * selection->count, MCXT_ALLOC_HUGE);
	memcpy(entries, selection->entries, sizeof(SelectionEntry) * selection->count);
	SelectionOrderRanks(selection, entries, selection->count, 0, 1, selection->count);
	FindStrata(strata, entries, count);
	/* The smallest first: what it cannot give, the others do.  Empty ones give nothing. */
	qsort(strata, STRATA, sizeof(Stratum), CompareSizes);
	for (int i = 0; i < STRATA; i++)
	{
		int64		share = Min(strata[i].size, (budget - taken) / (STRATA - i));

		if (strata[i].size == 0)
			continue;
		TakeRandom(picked + taken, selection, entries + strata[i].first, strata[i].size, share);
		taken += share;
	}
	return taken;
}
