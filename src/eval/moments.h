/* moments.h: mean and unbiased covariance of vectors that come one block after the other. */
#ifndef D2C_EVAL_MOMENTS_H
#define D2C_EVAL_MOMENTS_H

#include <stdint.h>

#include "base/status.h"

typedef struct d2c_running_moments {
    int width;
    int64_t count;
    double *shift;  /* [width]: the first vector; sums are of what differs from it, so that little cancels */
    double *sum;    /* [width] */
    double *square; /* [width, width], the lower triangle: sums of products */
    double *block;  /* [some rows, width] */
} d2c_running_moments;

/* Memory for vectors of that width: 8 * width^2 bytes. */
d2c_status d2c_running_moments_start(d2c_running_moments *m, int width, d2c_error *err);
void d2c_running_moments_free(d2c_running_moments *m);

/* vector [count, width].  The result is the same for every number of threads. */
void d2c_running_moments_add(d2c_running_moments *m, const double *vector, int64_t count);

/* Turns the sums into sum [width] = mean and square [width, width] = covariance over count - 1; at least two vectors. */
void d2c_running_moments_finish(d2c_running_moments *m);

#endif
