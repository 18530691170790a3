/*
 * select_gadc.c: picks that stand for their class by transport and moments, in the manner of GADC (arXiv 2606.05883).
 *
 * The objective of a set S of picks among N rows is, all of it in squared units of the features,
 *
 *   1/N sum_x min_{s in S} |x - s|^2  +  1.25 |mean_S - mean|^2  +  sum_j (deviation_S,j - deviation_j)^2.
 *
 * The first term is the squared 2-Wasserstein distance of the class to the nearest distribution on S: every row's mass goes
 * to its nearest pick, so no entropy and no plan is needed.  GADC itself uses an entropic partial transport with capacities
 * and adds a classifier's cross-entropy, which is left out here.  Greedy picks are improved by exchanges, pick by pick,
 * until none helps or SWEEPS are done; this from the best first pick and from FAR_STARTS rows far apart, of which the best
 * set wins.  Candidates go by id, and only a smaller objective replaces one.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "select.h"
#include "utils/memutils.h"

#define MEAN_WEIGHT 1.25
#define SWEEPS 10
#define FAR_STARTS 3
#define LEAST_GAIN 1e-12		/* of the objective; less is rounding */

typedef struct Search
{
	const float **features;		/* [count] */
	int64		count;
	int			width;
	double	   *distance;		/* [count][count], squared */
	double	   *mean;			/* [width], of all rows */
	double	   *deviation;		/* [width], of all rows */
	double	   *sum;			/* [width], of the other picks, about the mean */
	double	   *squares;		/* [width] */
	double	   *nearest;		/* [count], squared distance to the nearest of the other picks */
	bool	   *picked;			/* [count] */
} Search;

/*
 * Squared distances of all pairs; one half is computed and mirrored
 */
static void
MeasurePairs(Search *search)
{
	double	   *wide = palloc(sizeof(double) * search->width);

	for (int64 i = 0; i < search->count; i++)
	{
		for (int j = 0; j < search->width; j++)
			wide[j] = search->features[i][j];
		for (int64 other = 0; other <= i; other++)
		{
			double		distance = SelectionSquaredDistance(search->features[other], wide, search->width);

			search->distance[i * search->count + other] = distance;
			search->distance[other * search->count + i] = distance;
		}
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Mean and standard deviation of each element over all rows
 */
static void
MeasureMoments(Search *search)
{
	for (int64 i = 0; i < search->count; i++)
	{
		for (int j = 0; j < search->width; j++)
			search->mean[j] += (double) search->features[i][j] / search->count;
	}
	for (int64 i = 0; i < search->count; i++)
	{
		for (int j = 0; j < search->width; j++)
		{
			double		difference = search->features[i][j] - search->mean[j];

			search->deviation[j] += difference * difference / search->count;
		}
	}
	for (int j = 0; j < search->width; j++)
		search->deviation[j] = sqrt(search->deviation[j]);
}

static void
PrepareSearch(Search *search, const float **features, int64 count, int width)
{
	if (count > MaxAllocSize / sizeof(double) / count)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many rows for selection \"gadc\""),
				 errdetail("The distances of all pairs of %lld rows take more than 1 GB.", (long long) count),
				 errhint("Select within smaller groups, or choose candidates first, by d2c_select_random for example.")));
	search->features = features;
	search->count = count;
	search->width = width;
	search->distance = palloc(sizeof(double) * count * count);
	search->mean = palloc0(sizeof(double) * width);
	search->deviation = palloc0(sizeof(double) * width);
	search->sum = palloc(sizeof(double) * width);
	search->squares = palloc(sizeof(double) * width);
	search->nearest = palloc(sizeof(double) * count);
	search->picked = palloc0(sizeof(bool) * count);
	MeasurePairs(search);
	MeasureMoments(search);
}

/*
 * What the candidate adds to: sums and nearest distances of the picks but the one at the slot
 */
static void
GatherOthers(Search *search, const int64 *chosen, int64 ranks, int64 slot)
{
	memset(search->sum, 0, sizeof(double) * search->width);
	memset(search->squares, 0, sizeof(double) * search->width);
	for (int64 x = 0; x < search->count; x++)
		search->nearest[x] = INFINITY;
	for (int64 rank = 0; rank < ranks; rank++)
	{
		const float *feature = search->features[chosen[rank]];
		const double *distance = search->distance + chosen[rank] * search->count;

		if (rank == slot)
			continue;
		for (int j = 0; j < search->width; j++)
		{
			double		difference = feature[j] - search->mean[j];

			search->sum[j] += difference;
			search->squares[j] += difference * difference;
		}
		for (int64 x = 0; x < search->count; x++)
			search->nearest[x] = Min(search->nearest[x], distance[x]);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * The objective of the other picks and the candidate, which are so many together
 */
static double
Objective(const Search *search, int64 candidate, int64 picks)
{
	const float *feature = search->features[candidate];
	const double *distance = search->distance + candidate * search->count;
	double		transport = 0;
	double		moments = 0;

	for (int64 x = 0; x < search->count; x++)
		transport += Min(search->nearest[x], distance[x]);
	for (int j = 0; j < search->width; j++)
	{
		double		difference = feature[j] - search->mean[j];
		double		mean = (search->sum[j] + difference) / picks;
		double		variance = (search->squares[j] + difference * difference) / picks - mean * mean;
		double		spread = sqrt(Max(variance, 0)) - search->deviation[j];

		moments += MEAN_WEIGHT * mean * mean + spread * spread;
	}
	return transport / search->count + moments;
}

/*
 * The candidate with the least objective, the first of equal ones; -1 when none is below the limit
 */
static int64
BestCandidate(const Search *search, int64 picks, double limit)
{
	int64		best = -1;

	for (int64 i = 0; i < search->count; i++)
	{
		double		objective;

		if (search->picked[i])
			continue;
		objective = Objective(search, i, picks);
		if (objective < limit)
		{
			best = i;
			limit = objective;
		}
		CHECK_FOR_INTERRUPTS();
	}
	return best;
}

/*
 * Exchange each pick for the row that serves best in its place; false when none does
 */
static bool
Sweep(Search *search, int64 *chosen, int64 ranks)
{
	bool		improved = false;

	for (int64 slot = 0; slot < ranks; slot++)
	{
		double		objective;
		int64		better;

		GatherOthers(search, chosen, ranks, slot);
		objective = Objective(search, chosen[slot], ranks);
		better = BestCandidate(search, ranks, objective - LEAST_GAIN * objective);
		if (better < 0)
			continue;
		search->picked[chosen[slot]] = false;
		search->picked[better] = true;
		chosen[slot] = better;
		improved = true;
	}
	return improved;
}

/*
 * Picks from this first row on, or from the best one for -1: greedily, then by exchanges; returns their objective
 */
static double
PickFrom(int64 *chosen, Search *search, int64 ranks, int64 start)
{
	memset(search->picked, 0, sizeof(bool) * search->count);
	for (int64 rank = 0; rank < ranks; rank++)
	{
		GatherOthers(search, chosen, rank, -1);
		chosen[rank] = rank == 0 && start >= 0 ? start : BestCandidate(search, rank + 1, INFINITY);
		search->picked[chosen[rank]] = true;
	}
	for (int sweep = 0; sweep < SWEEPS && Sweep(search, chosen, ranks); sweep++)
		;
	GatherOthers(search, chosen, ranks, ranks - 1);
	return Objective(search, chosen[ranks - 1], ranks);
}

/*
 * The first rows of k-center greedy, far from each other, as other places to start from
 */
static void
FindStarts(int64 *starts, const Search *search, int count)
{
	double	   *away = palloc(sizeof(double) * search->count);

	for (int64 i = 0; i < search->count; i++)
		away[i] = SelectionSquaredDistance(search->features[i], search->mean, search->width);
	for (int start = 0; start < count; start++)
	{
		starts[start] = 0;
		for (int64 i = 1; i < search->count; i++)
		{
			if (away[i] > away[starts[start]])
				starts[start] = i;
		}
		for (int64 i = 0; i < search->count; i++)
		{
			double		distance = search->distance[starts[start] * search->count + i];

			away[i] = start == 0 ? distance : Min(away[i], distance);
		}
	}
}

void
SelectionPickGadc(int64 *chosen, const float **features, int64 count, int width, int64 ranks)
{
	int64	   *picks = palloc(sizeof(int64) * ranks);
	int64		starts[FAR_STARTS];
	Search		search;
	double		least;

	PrepareSearch(&search, features, count, width);
	FindStarts(starts, &search, FAR_STARTS);
	least = PickFrom(chosen, &search, ranks, -1);
	for (int i = 0; i < FAR_STARTS; i++)
	{
		double		objective = PickFrom(picks, &search, ranks, starts[i]);

		if (objective >= least - LEAST_GAIN * least)
			continue;
		least = objective;
		memcpy(chosen, picks, sizeof(int64) * ranks);
	}
}
