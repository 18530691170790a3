/*
 * moments.h: number, mean and spread of feature vectors, SQL type "d2c_moments": what Fréchet distances are made of.
 *
 * The spread is kept as the comoment, the sum of outer products of differences from the mean, lower triangle by rows;
 * the covariance is comoment / (n - 1).  Two moments merge exactly but for rounding (Chan, Golub and LeVeque 1979).
 */
#ifndef D2C_PG_MOMENTS_H
#define D2C_PG_MOMENTS_H

#include "postgres.h"
#include "fmgr.h"

#define MOMENTS_VERSION 1
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
	float8		values[FLEXIBLE_ARRAY_MEMBER];	/* mean[width], then comoment[MOMENTS_TRIANGLE(width)] */
} D2cMoments;

#define MOMENTS_TRIANGLE(width) ((size_t) (width) * ((width) + 1) / 2)
#define MOMENTS_SIZE(width) \
	(offsetof(D2cMoments, values) + sizeof(float8) * ((width) + MOMENTS_TRIANGLE(width)))
#define MOMENTS_MEAN(moments) ((moments)->values)
#define MOMENTS_COMOMENT(moments) ((moments)->values + (moments)->width)

#define DatumGetD2cMoments(datum) MomentsCheck(PG_DETOAST_DATUM(datum))
#define PG_GETARG_D2C_MOMENTS(n) DatumGetD2cMoments(PG_GETARG_DATUM(n))

/* Moments of no vectors; raises on a width below 1 or over the limit. */
extern D2cMoments *MomentsMake(int64 width);

/* Raises "data corrupted" unless the header and the length agree. */
extern D2cMoments *MomentsCheck(void *value);

/* Adds one vector; scratch [width] doubles. */
extern void MomentsAdd(D2cMoments *moments, const float *vector, double *scratch);

/* Adds another's vectors. */
extern void MomentsMerge(D2cMoments *moments, const D2cMoments *other);

#endif
