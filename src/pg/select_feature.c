/*
 * select_feature.c: picks by features: k-center greedy, herding, moderate; select_gadc.c has gadc.
 *
 * Rows are looked at in the order of their ids and sums are doubles in a fixed order, so the picks depend neither on the
 * order in which rows came nor on how they were divided among workers; ties go to the lowest id.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "select.h"

#define LANES 8

/* Vectors of twice the width where there are: AVX2 alone, as a fused multiply-add would round differently. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE_VECTORS __attribute__((optimize("O3"), target_clones("avx2", "default")))
#else
#define WIDE_VECTORS
#endif

/* The rows of a selection, by id. */
typedef struct Rows
{
	const D2cSelection *selection;
	uint32	   *index;			/* [count] into the entries */
	int64		count;
	int			width;
	bool	   *picked;			/* [count] */
} Rows;

static int
CompareRows(const void *a, const void *b, void *arg)
{
	const D2cSelection *selection = arg;

	return SelectionCompareIds(selection, &selection->entries[*(const uint32 *) a],
							   &selection->entries[*(const uint32 *) b]);
}

static void
OrderRows(Rows *rows, const D2cSelection *selection)
{
	rows->selection = selection;
	rows->count = selection->count;
	rows->width = selection->width;
	rows->index = palloc(sizeof(uint32) * Max(rows->count, 1));
	rows->picked = palloc0(sizeof(bool) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
		rows->index[i] = i;
	qsort_arg(rows->index, rows->count, sizeof(uint32), CompareRows, unconstify(D2cSelection *, selection));
}

static inline const float *
Feature(const Rows *rows, int64 i)
{
	return SELECTION_FEATURE(rows->selection, rows->index[i]);
}

/*
 * Squared distance of two vectors, in lanes that compilers turn into vector code
 */
WIDE_VECTORS double
SelectionSquaredDistance(const float *a, const double *b, int width)
{
	double		lane[LANES] = {0};
	double		sum = 0;
	int			i = 0;

	for (; i + LANES <= width; i += LANES)
	{
		for (int j = 0; j < LANES; j++)
		{
			double		difference = a[i + j] - b[i + j];

			lane[j] += difference * difference;
		}
	}
	for (; i < width; i++)
		sum += (a[i] - b[i]) * (a[i] - b[i]);
	for (int j = 0; j < LANES; j++)
		sum += lane[j];
	return sum;
}

static double *
MeanFeature(const Rows *rows)
{
	double	   *mean = palloc0(sizeof(double) * rows->width);

	for (int64 i = 0; i < rows->count; i++)
	{
		const float *feature = Feature(rows, i);

		for (int j = 0; j < rows->width; j++)
			mean[j] += feature[j];
	}
	for (int j = 0; j < rows->width; j++)
		mean[j] /= rows->count;
	return mean;
}

static void
Widen(double *out, const float *feature, int width)
{
	for (int j = 0; j < width; j++)
		out[j] = feature[j];
}

/*
 * Make nearest[i] the smaller of itself and the squared distance to the center
 */
static void
Approach(double *nearest, const Rows *rows, const double *center)
{
	for (int64 i = 0; i < rows->count; i++)
	{
		nearest[i] = Min(nearest[i], SelectionSquaredDistance(Feature(rows, i), center, rows->width));
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * The row not yet picked with the greatest value, or the least; the first of equal ones
 */
static int64
Extreme(const Rows *rows, const double *value, bool greatest)
{
	int64		best = -1;

	for (int64 i = 0; i < rows->count; i++)
	{
		if (!rows->picked[i] && (best < 0 || (greatest ? value[i] > value[best] : value[i] < value[best])))
			best = i;
	}
	return best;
}

static void
Pick(SelectionEntry *picked, Rows *rows, int64 i)
{
	rows->picked[i] = true;
	*picked = rows->selection->entries[rows->index[i]];
}

/*
 * K-center greedy: first the row farthest from the mean, then always the row farthest from those picked
 */
static void
PickCenters(SelectionEntry *picked, Rows *rows, int64 ranks)
{
	double	   *nearest = palloc(sizeof(double) * rows->count);
	double	   *center = MeanFeature(rows);

	for (int64 rank = 0; rank < ranks; rank++)
	{
		int64		best;

		/* The mean is no center: the first pick takes its place. */
		for (int64 i = 0; rank < 2 && i < rows->count; i++)
			nearest[i] = INFINITY;
		Approach(nearest, rows, center);
		best = Extreme(rows, nearest, true);
		Pick(&picked[rank], rows, best);
		Widen(center, Feature(rows, best), rows->width);
	}
}

/*
 * Herding: always the row that brings the mean of those picked closest to the mean of all
 */
static void
PickHerd(SelectionEntry *picked, Rows *rows, int64 ranks)
{
	double	   *distance = palloc(sizeof(double) * rows->count);
	double	   *mean = MeanFeature(rows);
	double	   *wanted = palloc0(sizeof(double) * rows->width);

	for (int64 rank = 0; rank < ranks; rank++)
	{
		int64		best;

		/* (rank + 1) mean - sum of those picked: what the next row should be */
		for (int j = 0; j < rows->width; j++)
			wanted[j] += mean[j];
		for (int64 i = 0; i < rows->count; i++)
		{
			distance[i] = SelectionSquaredDistance(Feature(rows, i), wanted, rows->width);
			CHECK_FOR_INTERRUPTS();
		}
		best = Extreme(rows, distance, false);
		Pick(&picked[rank], rows, best);
		for (int j = 0; j < rows->width; j++)
			wanted[j] -= Feature(rows, best)[j];
	}
}

static int
CompareFloats(const void *a, const void *b)
{
	float		left = *(const float *) a;
	float		right = *(const float *) b;

	return left < right ? -1 : left > right;
}

/*
 * The median of each element, the mean of the middle two when there is no middle one
 */
static double *
MedianFeature(const Rows *rows)
{
	double	   *median = palloc(sizeof(double) * rows->width);
	float	   *column = palloc(sizeof(float) * rows->count);

	for (int j = 0; j < rows->width; j++)
	{
		for (int64 i = 0; i < rows->count; i++)
			column[i] = Feature(rows, i)[j];
		qsort(column, rows->count, sizeof(float), CompareFloats);
		median[j] = ((double) column[(rows->count - 1) / 2] + column[rows->count / 2]) / 2;
		CHECK_FOR_INTERRUPTS();
	}
	return median;
}

/*
 * Moderate: the ranks around the middle of the order by (distance to the median, id)
 */
static void
PickModerate(SelectionEntry *picked, Rows *rows, int64 ranks)
{
	SelectionEntry *entries = palloc(sizeof(SelectionEntry) * rows->count);
	double	   *median = MedianFeature(rows);
	int64		first = (rows->count - ranks) / 2;

	for (int64 i = 0; i < rows->count; i++)
	{
		entries[i] = rows->selection->entries[rows->index[i]];
		entries[i].score = SelectionSquaredDistance(Feature(rows, i), median, rows->width);
	}
	SelectionOrderRanks(rows->selection, entries, rows->count, first, 1, ranks);
	memcpy(picked, entries + first, sizeof(SelectionEntry) * ranks);
}

/*
 * Gadc: the rows that stand for all of them by transport and moments
 */
static void
PickGadc(SelectionEntry *picked, Rows *rows, int64 ranks)
{
	const float **features = palloc(sizeof(float *) * rows->count);
	int64	   *chosen = palloc(sizeof(int64) * ranks);

	for (int64 i = 0; i < rows->count; i++)
		features[i] = Feature(rows, i);
	SelectionPickGadc(chosen, features, rows->count, rows->width, ranks);
	for (int64 rank = 0; rank < ranks; rank++)
		Pick(&picked[rank], rows, chosen[rank]);
}

int64
SelectionPickByFeature(const D2cSelection *selection, SelectionEntry *picked)
{
	int64		ranks = Min(selection->n, selection->count);
	Rows		rows;

	if (ranks == 0)
		return 0;
	OrderRows(&rows, selection);
	switch ((SelectionMethod) selection->method)
	{
		case SELECTION_KCENTER:
			PickCenters(picked, &rows, ranks);
			break;
		case SELECTION_HERDING:
			PickHerd(picked, &rows, ranks);
			break;
		case SELECTION_GADC:
			PickGadc(picked, &rows, ranks);
			break;
		default:
			PickModerate(picked, &rows, ranks);
			break;
	}
	return ranks;
}
