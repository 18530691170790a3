/*
 * moments.h: number, mean and spread of feature vectors, SQL type "d2c_moments": what Fréchet distances are made of.
 *
 * The spread is kept as the comoment, the sum of outer products of differences from the mean, lower triangle by rows;
 * the covariance is comoment / (n - 1).  Two moments merge exactly but for rounding (Chan, Golub and LeVeque 1979).  What
 * a mean's rounding leaves out is kept beside it: where means are large against the spread, differences from them would
 * be wrong by it.  It is part of the value, but not of the text and binary forms.
 */
#ifndef D2C_PG_MOMENTS_H
#define D2C_PG_MOMENTS_H

#include "postgres.h"
#include "fmgr.h"

/* Values of 0.1.0 have version 1: the same without remainders, which are zero then. */
#define MOMENTS_VERSION 2
#define MOMENTS_OLD_VERSION 1
#define MOMENTS_BINARY_VERSION 1
/* Two full covariances still fit one request to the engine. */
#define MOMENTS_MAX_WIDTH 8000

typedef struct D2cMoments
{
	int32		vl_len_;		/* varlena header (do not touch directly) */
	uint8		version;
	uint8		reserved[3];
	int32		width;
	int32		unused;
	int64		n;
	float8		values[FLEXIBLE_ARRAY_MEMBER];	/* mean[width], comoment[MOMENTS_TRIANGLE(width)], remainder[width] */
} D2cMoments;

#define MOMENTS_TRIANGLE(width) ((size_t) (width) * ((width) + 1) / 2)
#define MOMENTS_OLD_SIZE(width) \
	(offsetof(D2cMoments, values) + sizeof(float8) * ((width) + MOMENTS_TRIANGLE(width)))
#define MOMENTS_SIZE(width) (MOMENTS_OLD_SIZE(width) + sizeof(float8) * (width))
#define MOMENTS_MEAN(moments) ((moments)->values)
#define MOMENTS_COMOMENT(moments) ((moments)->values + (moments)->width)
#define MOMENTS_REMAINDER(moments) (MOMENTS_COMOMENT(moments) + MOMENTS_TRIANGLE((moments)->width))

#define DatumGetD2cMoments(datum) MomentsCheck(PG_DETOAST_DATUM(datum))
#define PG_GETARG_D2C_MOMENTS(n) DatumGetD2cMoments(PG_GETARG_DATUM(n))

/* Moments of no vectors; raises on a width below 1 or over the limit. */
extern D2cMoments *MomentsMake(int64 width);

/* The value, or what it is in the present version; raises "data corrupted" unless the header and the length agree. */
extern D2cMoments *MomentsCheck(void *value);

/* Adds one vector; scratch [width] doubles. */
extern void MomentsAdd(D2cMoments *moments, const float *vector, double *scratch);

/* Adds another's vectors. */
extern void MomentsMerge(D2cMoments *moments, const D2cMoments *other);

#endif
